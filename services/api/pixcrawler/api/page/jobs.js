// The list of jobs.

import * as api from "./api.js";
import { TERMINAL, badge, bar, count, failure, h, moment, moreButton, nothing, percent, table, waiting } from "./dom.js";

const PAGE = 25;
const LOOK_MS = 3000;
const AT_ONCE = 4;

export const titleOf = (job) => job.name || job.keywords.join(", ") || "A list of URLs";

/** Shows the jobs, and keeps those that are not over up to date. */
export async function showJobs(main, signal) {
  document.title = "Jobs · PixCrawler";
  const filter = h(
    "select",
    { id: "status", on: { change: () => load() } },
    ["", "pending", "running", "completed", "incomplete", "failed", "cancelled"].map((value) => h("option", { value }, value || "all")),
  );
  const list = h("div", { "aria-busy": "true" }, waiting());
  const slots = h("p", { class: "dim" });
  const more = moreButton(() => load(next), "More jobs");
  main.replaceChildren(
    h("div", { class: "heading" }, h("h1", {}, "Jobs"), h("a", { class: "button main", href: "#/new" }, "New job")),
    h("div", { class: "tools" }, h("label", { for: "status" }, "Status"), filter, slots),
    list,
    more.element,
  );

  let rows = [];
  let next = null;
  let run = 0;

  async function load(cursor = null) {
    const mine = ++run;
    const body = cursor ? list.querySelector("tbody") : null;
    try {
      const page = await api.get("/v1/jobs", { limit: PAGE, status: filter.value, cursor }, signal);
      if (mine !== run) return;
      const added = page.items.map(row);
      rows = cursor ? [...rows, ...added] : added;
      if (body) body.append(...added.map((one) => one.element));
      else list.replaceChildren(rows.length ? jobsTable(rows) : empty());
      next = page.next_cursor;
      more.show(Boolean(next));
      list.setAttribute("aria-busy", "false");
      await look(added);
    } catch (error) {
      if (signal.aborted || mine !== run) return;
      list.replaceChildren(failure(error, () => load()));
      more.show(false);
    }
  }

  function empty() {
    if (filter.value) return nothing("No job has this status.");
    return nothing(
      "No jobs yet",
      "Say what you want to train on and how many images you need. PixCrawler searches, downloads, checks and packs them.",
      h("p", {}, h("a", { class: "button main", href: "#/new" }, "Start the first job")),
    );
  }

  async function look(some) {
    const queue = [...some];
    const worker = async () => {
      for (let one = queue.shift(); one && !signal.aborted; one = queue.shift()) {
        one.show(await api.get(`/v1/jobs/${one.id}/progress`, {}, signal));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    const now = await api.get("/v1/capacity", {}, signal);
    slots.textContent = `${now.active_chunks} of ${now.max_chunks} slots for chunks in use`;
  }

  await load();
  const timer = setInterval(() => {
    if (document.hidden) return;
    if (!list.querySelector("table")) return void (list.querySelector(".trouble") || filter.value ? null : load());
    look(rows.filter((one) => !one.over && one.element.isConnected)).catch((error) => {
      if (!signal.aborted && error.status === 404) load();
    });
  }, LOOK_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function jobsTable(rows) {
  const columns = ["Job", "Status", "Kept", { name: "Asked for", class: "number" }, "Made"];
  return table("Jobs, the latest first", columns, rows.map((one) => one.element), { class: "cards" });
}

function row(job) {
  const status = h("td", { "data-label": "Status" }, badge(job.status));
  const kept = bar(`Kept of ${titleOf(job)}`, { kind: "short" });
  kept.set(0, 1, "…");
  const one = {
    id: job.job_id,
    over: false,
    element: h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: `#/jobs/${job.job_id}` }, titleOf(job)), job.name ? h("div", { class: "dim" }, job.keywords.join(", ")) : null),
      status,
      h("td", { "data-label": "Kept" }, kept.element),
      h("td", { "data-label": "Asked for", class: "number" }, count(job.max_images)),
      h("td", { "data-label": "Made" }, moment(job.created_at)),
    ),
    show(progress) {
      one.over = TERMINAL.has(progress.status);
      status.replaceChildren(badge(progress.status));
      const { valid, requested } = progress.images;
      kept.set(valid, requested, `${count(valid)} (${percent(progress.progress)})`);
    },
  };
  return one;
}
