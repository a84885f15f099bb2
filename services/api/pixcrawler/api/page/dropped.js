// What was dropped: why, and where it came from. Page by page.

import * as api from "./api.js";
import { TERMINAL, count, failure, h, inUse, moreButton, nothing, outside, plural, table, waiting } from "./dom.js";
import { OUTCOMES } from "./overview.js";

const PAGE = 50;
const LOOK_MS = 5000;

/** The tab with what was not kept. */
export function showDropped(body, { jobId, progress, signal }) {
  const filter = h("select", { id: "outcome", on: { change: () => begin() } }, h("option", { value: "" }, "everything dropped"));
  const place = h("div", {}, waiting());
  const more = moreButton(() => load());
  const number = h("p", { class: "dim" });
  body.replaceChildren(h("h2", {}, "Dropped"), h("div", { class: "tools" }, h("label", { for: "outcome" }, "Why"), filter, number), place, more.element);

  let rows = null;
  let next = null;
  let run = 0;
  let looked = 0;
  let pages = 0;

  function options(dropped) {
    for (const name of Object.keys(dropped)) {
      if (!filter.querySelector(`[value="${CSS.escape(name)}"]`)) filter.append(h("option", { value: name }, `${name}: ${OUTCOMES[name] ?? ""}`));
    }
  }

  function begin() {
    run += 1;
    next = null;
    pages = 0;
    rows = null;
    load();
  }

  /** The next page, or (`quiet`) all anew that is shown so far, unless somebody is at work in it. */
  async function load({ quiet = false } = {}) {
    const mine = run;
    looked = Date.now();
    try {
      const found = [];
      let cursor = quiet ? null : next;
      do { // a page may be short, or all kept
        const page = await api.get(`/v1/jobs/${jobId}/outcomes`, { outcome: filter.value, cursor, limit: filter.value ? PAGE : 2 * PAGE }, signal);
        found.push(...page.items.filter((row) => row.outcome !== "kept"));
        cursor = page.next_cursor;
      } while (cursor && found.length < PAGE);
      if (mine !== run || signal.aborted) return;
      if (quiet && inUse(place)) return;
      next = cursor;
      if (!quiet) pages += 1;
      if (rows && !quiet) rows.append(...found.map(outcomeRow));
      else draw(found);
      const shown = rows?.children.length ?? 0;
      number.textContent = shown ? `${plural(shown, "URL")} shown` : "";
      more.show(Boolean(next));
    } catch (error) {
      if (!signal.aborted && mine === run && !quiet) place.replaceChildren(failure(error, begin));
    }
  }

  function draw(found) {
    rows = null;
    if (!found.length) {
      place.replaceChildren(nothing(TERMINAL.has(progress().status) ? "Nothing was dropped" : "Nothing was dropped so far"));
      return;
    }
    const element = table("What was dropped", ["URL", "Why", "From"], found.map(outcomeRow), { class: "cards dropped" });
    place.replaceChildren(element);
    rows = element.querySelector("tbody");
  }

  function update(now) {
    options(now.images.dropped);
    const all = pages === 1 && !next;
    if (all && (TERMINAL.has(now.status) || Date.now() - looked > LOOK_MS)) load({ quiet: true });
  }

  options(progress().images.dropped);
  load();
  return { update };
}

function outcomeRow(row) {
  const why = [row.http_status && row.outcome === "http_error" ? `HTTP ${row.http_status}` : "", row.detail].filter(Boolean).join(": ");
  return h(
    "tr",
    {},
    h("td", { class: "url" }, outside(row.url)),
    h(
      "td",
      { "data-label": "Why" },
      h("b", { title: OUTCOMES[row.outcome] ?? "" }, row.outcome),
      why ? h("div", { class: "hint" }, why) : h("div", { class: "hint" }, OUTCOMES[row.outcome] ?? ""),
      row.duplicate_of ? h("div", { class: "hint" }, "kept instead: ", outside(row.duplicate_of)) : null,
      row.final_url && row.final_url !== row.url ? h("div", { class: "hint" }, "redirected to ", outside(row.final_url)) : null,
    ),
    h("td", { "data-label": "From" }, row.source, row.keyword ? h("div", { class: "hint" }, row.keyword) : null, h("div", { class: "hint" }, `chunk ${count(Number(row.chunk_id.slice(37)))}`)),
  );
}
