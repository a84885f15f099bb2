"""The dashboard: every panel is in Grafana's JSON and in the picture, and asks what there is."""

import json
import re
from xml.etree import ElementTree as ET

from deploy import dashboard, drawing, generate
from deploy.panels import ROWS, Query
from pixcrawler.common import metrics
from pixcrawler.common.outcomes import Outcome

PANELS = [panel for row in ROWS for panel in row.panels]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_generated_file_is_the_code_s() -> None:
    """`python -m deploy generate` has been run; the cluster's is the same."""
    path = generate.ROOT / "grafana" / "dashboards" / "pixcrawler.json"
    assert path.read_text("utf-8") == dashboard.made()
    assert json.loads(generate.files()[path]) == json.loads(dashboard.made())


def test_grafana_asks_what_the_panels_say() -> None:
    """Each query, once, of the data source that is chosen; ids and places are each panel's own."""
    made = json.loads(dashboard.made())["panels"]
    shown = [each for each in made if each["type"] != "row"]
    assert [each["title"] for each in shown] == [panel.title for panel in PANELS]
    for panel, each in zip(PANELS, shown, strict=True):
        asked = [(target["expr"], target["legendFormat"]) for target in each["targets"]]
        assert asked == [(query.expr, query.legend) for query in panel.queries]
        assert {target["datasource"]["uid"] for target in each["targets"]} == {"${datasource}"}
        assert each["description"] == panel.about
    assert len({each["id"] for each in made}) == len(made)
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in made]
    assert len(set(places)) == len(places)
    assert max(each["gridPos"]["x"] + each["gridPos"]["w"] for each in shown) <= dashboard.WIDTH


def test_the_panels_ask_for_metrics_that_there_are() -> None:
    """And every metric is in some panel."""
    asked = " ".join(query.expr for panel in PANELS for query in panel.queries)
    used = {
        re.sub(r"_(bucket|count|sum)$", "", each) for each in re.findall(r"\bpixcrawler_\w+", asked)
    }
    known = {
        metric._name + ("_total" if metric._type == "counter" else "") for metric in metrics.ALL
    }
    assert used == known


def test_the_picture_has_every_panel() -> None:
    """Numbers are said, lines are drawn within their panel, and a panel without any says so."""

    def ask(query: Query) -> drawing.Answer:
        if "outcome" not in query.legend:
            return []
        samples = [(float(at), float(at % 7)) for at in range(100)] + [(100.0, float("nan"))]
        return [({"outcome": outcome.value}, samples) for outcome in Outcome]

    root = ET.fromstring(drawing.drawn(ask, 0.0, 100.0))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for panel in PANELS:
        assert panel.title in texts
    lines = list(root.iter(f"{SVG}polyline"))
    assert len(lines) == drawing.SHOWN
    assert {len(str(line.get("points")).split()) for line in lines} == {100}
    without = [p for p in PANELS if p.kind == "lines" and "outcome" not in p.queries[0].legend]
    assert texts.count("nothing") == len(without)


def test_values_for_people() -> None:
    """With their units, and no more digits than one reads."""
    said = [
        drawing.said(value, unit)
        for value, unit in (
            (0.256, "percentunit"),
            (1234567, "Bps"),
            (0.0421, "s"),
            (1234, "short"),
        )
    ]
    assert said == ["26%", "1.23 MB/s", "0.042 s", "1,234"]
