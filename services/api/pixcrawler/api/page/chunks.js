// The chunks of a job, page by page, with every attempt: a job may have thousands.

import * as api from "./api.js";
import { TERMINAL, badge, count, failure, h, inUse, moment, nothing, plural, say, table, waiting, working } from "./dom.js";

const PAGE = 50;
const LOOK_MS = 3000;

/** The tab with the chunks. */
export function showChunks(body, { jobId, progress, signal, again }) {
  const filter = h("select", { id: "chunk-status", on: { change: () => first() } },
    ["", "pending", "processing", "completed", "failed"].map((value) => h("option", { value }, value || "all")));
  const place = h("div", {}, waiting());
  const summary = h("p", { class: "dim" });
  const previous = h("button", { type: "button", on: { click: () => turn(cursors.length > 1, () => cursors.pop()) } }, "Previous");
  const following = h("button", { type: "button", on: { click: () => turn(next, () => cursors.push(next)) } }, "Next");
  const shown = h("span", { role: "status" });
  const pager = h("nav", { class: "buttons", "aria-label": "Pages of chunks", hidden: true }, previous, shown, following);
  const stack = h("div", { class: "stack", role: "img" });
  body.replaceChildren(
    h("h2", {}, "Chunks"), summary, stack,
    h("div", { class: "tools" }, h("label", { for: "chunk-status" }, "Status"), filter), place, pager,
  );
  let cursors = [null]; // where each page so far begins; the last one is shown
  let next = null;
  let looked = 0;
  let run = 0;
  let asked = 0; // what somebody has asked for and not got yet: no look goes before it
  let rows = new Map(); // by the chunk's id: what is shown of it, and the row

  function first() {
    cursors = [null];
    load();
  }

  async function load({ quiet = false } = {}) {
    if (quiet && asked) return;
    if (!quiet) asked += 1;
    const mine = ++run;
    looked = Date.now();
    try {
      const page = await api.get(`/v1/jobs/${jobId}/chunks`, { limit: PAGE, status: filter.value, cursor: cursors.at(-1) }, signal);
      if (mine !== run) return;
      next = page.next_cursor;
      pager.hidden = cursors.length === 1 && !next;
      working(previous, cursors.length === 1);
      working(following, !next);
      if (!quiet || !refreshed(page.items)) draw(page.items, quiet);
    } catch (error) {
      if (!signal.aborted && mine === run && !quiet) place.replaceChildren(failure(error, () => load()));
    } finally {
      if (!quiet) asked -= 1;
    }
  }

  /** The same chunks, each row as it is now unless somebody is at work in it; false: they are others. */
  function refreshed(chunks) {
    if (chunks.length !== rows.size || !chunks.every((chunk) => rows.has(chunk.chunk_id))) return false;
    for (const chunk of chunks) {
      const [text, row] = rows.get(chunk.chunk_id);
      if (text !== JSON.stringify(chunk) && !inUse(row)) row.replaceWith(made(chunk));
    }
    return rows.size > 0;
  }

  function made(chunk) {
    const row = chunkRow(chunk, retry);
    rows.set(chunk.chunk_id, [JSON.stringify(chunk), row]);
    return row;
  }

  function draw(chunks, quiet) {
    const before = place.querySelector("table");
    if (quiet && before && inUse(before)) return;
    const focused = place.contains(document.activeElement);
    rows = new Map();
    const columns = ["Chunk", "Status", "Stage", { name: "URLs", class: "number" }, { name: "Kept", class: "number" }, "Attempts", "Changed", h("span", { class: "unseen" }, "What can be done")];
    place.replaceChildren(
      chunks.length
        ? table("Chunks", columns, chunks.map(made), { class: "cards chunks" })
        : nothing(filter.value ? "No chunk has this status." : "No chunks yet", filter.value ? "" : "The planner makes them when the job starts."),
    );
    say(shown, chunks.length ? `Chunks ${count(chunks[0].index)} to ${count(chunks.at(-1).index)}` : "");
    if (focused) place.querySelector(".scroll")?.focus({ preventScroll: true });
  }

  function turn(there, move) {
    if (!there) return;
    move();
    load().then(() => body.scrollIntoView({ block: "start" }));
  }

  const underWay = new Set();

  async function retry(chunk, button) {
    if (underWay.has(chunk.index)) return;
    underWay.add(chunk.index);
    working(button, true);
    try {
      await api.postOnce(`/v1/jobs/${jobId}/chunks/${chunk.index}/retry`);
      await again();
      await load();
    } catch (error) {
      working(button, false);
      button.parentElement.querySelector(".error")?.remove();
      button.after(h("div", { class: "error", role: "alert" }, error.message));
    } finally {
      underWay.delete(chunk.index);
    }
  }

  function summarize(now) {
    const parts = [["completed", now.completed_chunks], ["processing", now.active_chunks], ["pending", now.pending_chunks], ["failed", now.failed_chunks]].filter(([, number]) => number);
    const words = { processing: "in progress", pending: "waiting" };
    const text = parts.map(([name, number]) => `${count(number)} ${words[name] ?? name}`).join(", ");
    summary.textContent = now.total_chunks ? `${plural(now.total_chunks, "chunk")}: ${text}` : "";
    stack.hidden = !now.total_chunks;
    stack.setAttribute("aria-label", text);
    stack.replaceChildren(...parts.map(([name, number]) => {
      const part = h("span", { class: `part ${name}` });
      part.style.setProperty("flex-grow", number);
      return part;
    }));
  }

  function update(now) {
    summarize(now);
    if (TERMINAL.has(now.status) || Date.now() - looked > LOOK_MS) load({ quiet: true });
  }

  summarize(progress());
  load();
  return { update };
}

function chunkRow(chunk, retry) {
  const { candidates, valid } = chunk.images;
  const note = chunk.superseded ? "retried as another" : chunk.retry_of ? `retries ${Number(chunk.retry_of.slice(37))}` : "";
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, `${count(chunk.index)}`, note ? h("div", { class: "hint" }, note) : null),
    h("td", { "data-label": "Status" }, badge(chunk.status), chunk.error_message ? h("div", { class: "error" }, chunk.error_message) : null,
      chunk.unanswered.map((one) => h("div", { class: "hint" }, `${one.source}: ${one.reason || "did not answer"}`))),
    h("td", { "data-label": "Stage" }, chunk.stage || "–"),
    h("td", { "data-label": "URLs", class: "number" }, count(candidates)),
    h("td", { "data-label": "Kept", class: "number" }, count(valid)),
    h("td", { "data-label": "Attempts" }, attempts(chunk)),
    h("td", { "data-label": "Changed" }, moment(chunk.updated_at)),
    h("td", {}, chunk.status === "failed" && !chunk.superseded && chunk.error_message !== "cancelled"
      ? h("button", { type: "button", "aria-label": `Retry chunk ${chunk.index}`, on: { click: (event) => retry(chunk, event.currentTarget) } }, "Retry")
      : null),
  );
}

/** Which record carried it; its place is unknown until a stage has told. */
function recordOf(one) {
  return one.topic && one.partition !== null ? `${one.topic}[${one.partition}] @ ${one.offset}` : one.topic;
}

function attempts(chunk) {
  if (!chunk.attempts.length) return count(chunk.attempt);
  return h(
    "details",
    {},
    h("summary", {}, `${count(chunk.attempt)}`, h("span", { class: "unseen" }, ` attempts at chunk ${chunk.index}`)),
    h(
      "ol",
      { class: "attempts" },
      chunk.attempts.map((one) =>
        h(
          "li",
          {},
          `${one.attempt} · ${[one.stage, one.state].filter(Boolean).join(": ")}`,
          one.error ? h("div", { class: "error" }, [one.error, one.message].filter(Boolean).join(": ")) : null,
          h("div", { class: "hint" }, [one.worker, recordOf(one)].filter(Boolean).join(" · ")),
          one.started_at ? h("div", { class: "hint" }, moment(one.started_at)) : null,
        )),
    ),
  );
}
