"""Grafana's dashboard from `panels.py`, with Grafana's own SDK.

`python -m deploy generate` writes `grafana/dashboards/pixcrawler.json`, which docker compose
mounts, and the ConfigMap of the cluster.
"""

import json
from typing import Any

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from deploy import panels
from deploy.panels import Panel

UID = "pixcrawler"
WIDTH = 24
"""Columns of Grafana's grid."""
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


def made() -> str:
    """The dashboard's JSON, the same every time."""
    board = (
        dashboard.Dashboard("PixCrawler")
        .uid(UID)
        .description("What an operator looks at; made by deploy/dashboard.py.")
        .tags(["pixcrawler"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for row in panels.ROWS:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(_panel(panel, WIDTH // len(row.panels)))
    built = board.build()
    for number, each in enumerate(built.panels or (), 1):
        each.id_val = number  # rows' builders know no ids, and Grafana wants each to have its own
    told: dict[str, Any] = json.loads(JSONEncoder().encode(built))
    return json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _panel(panel: Panel, width: int) -> stat.Panel | timeseries.Panel:
    shown = _number(panel) if panel.kind == "number" else _lines(panel)
    shown = (
        shown.title(panel.title)
        .description(panel.about)
        .unit(panel.unit)
        .datasource(_SOURCE)
        .span(width)
    )
    for index, query in enumerate(panel.queries):
        shown = shown.with_target(
            prometheus.Dataquery()
            .expr(query.expr)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + index))
            .datasource(_SOURCE)
        )
    return shown


def _number(panel: Panel) -> stat.Panel:
    steps = [Threshold(value=None, color="green")]
    if panel.bad_above is not None:
        steps.append(Threshold(value=panel.bad_above, color="red"))
    return (
        stat.Panel()
        .height(4)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common.BigValueGraphMode.AREA)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    )


def _lines(panel: Panel) -> timeseries.Panel:
    shown = (
        timeseries.Panel()
        .height(8)
        .min(0)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )
    return shown.max(1) if panel.unit == "percentunit" else shown
