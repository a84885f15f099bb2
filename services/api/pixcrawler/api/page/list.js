// A file of URLs for a new job: chosen or dropped, sent at once, and what was taken of it.

import * as api from "./api.js";
import { announce, bytes, count, h, plural, say } from "./dom.js";

const PATH = "/v1/url-lists";
const PAGE = 100;
const TAKES = ".txt,.csv,.tsv,.jsonl,.ndjson,.parquet,.gz";
const FIELDS = { url: "URLs", title: "captions", creator: "creators", license: "licences", license_url: "addresses of licences", landing_url: "pages" };

/**
 * The part of the form that takes a file. `begun()` is called when one was chosen or dropped,
 * `taken(list)` when it is there, with null when there is none any more. What is not used in the end
 * is deleted.
 */
export function urlList(signal, { begun, taken }) {
  let list = null; // as the API answered
  let file = null; // the last that was chosen, so that it can be read again
  let sending = null; // stops the upload
  let used = false;

  const input = h("input", { id: "list", type: "file", accept: TAKES, "aria-describedby": "list-hint list-error", on: { change: () => input.files.length && take(input.files[0]) } });
  const error = h("span", { class: "error", id: "list-error", role: "alert" });
  const state = h("p", { class: "dim", hidden: true });
  const meter = h("progress", { max: 100, "aria-label": "Upload of the list" });
  const stop = h("button", { type: "button", on: { click: () => clear(true) } }, "Stop");
  const moving = h("div", { class: "buttons", hidden: true }, meter, state, stop);
  const result = h("div", {});
  const urlColumn = h("input", { id: "url_column", type: "text", autocomplete: "off", spellcheck: "false" });
  const captionColumn = h("input", { id: "caption_column", type: "text", autocomplete: "off", spellcheck: "false" });
  const again = h("button", { type: "button", on: { click: () => take(file) } }, "Read the file again");
  const columns = h(
    "details",
    { hidden: true },
    h("summary", {}, "Name the columns"),
    h(
      "div",
      { class: "grid" },
      h("p", { class: "field" }, h("label", { for: "url_column" }, "Column of URLs"), urlColumn),
      h("p", { class: "field" }, h("label", { for: "caption_column" }, "Column of captions"), captionColumn),
    ),
    again,
  );
  const element = h(
    "div",
    { class: "drop" },
    h(
      "p",
      { class: "field" },
      h("label", { for: "list" }, "A file of URLs"),
      input,
      h("span", { class: "hint", id: "list-hint" }, "Choose it or drop it here: txt (one URL a line), csv, tsv, jsonl or parquet, each also with .gz, up to 10 million rows. Captions, creators and licences in it come along."),
      error,
    ),
    moving,
    result,
    columns,
  );

  function wrong(message) {
    say(error, message);
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  /** Forgets the list; `emptied`: the field too. */
  function clear(emptied) {
    sending?.abort();
    sending = null;
    if (list && !used) api.remove(`${PATH}/${list.id}`).catch(() => {}); // it may stay: it is only unused
    list = null;
    moving.hidden = true;
    state.hidden = true;
    result.replaceChildren();
    wrong("");
    if (emptied) {
      file = null;
      input.value = "";
      columns.hidden = true;
      input.focus();
    }
    taken(null);
  }

  async function take(chosen) {
    clear(false);
    begun();
    file = chosen;
    const mine = new AbortController();
    sending = mine;
    moving.hidden = false;
    state.hidden = false;
    meter.value = 0;
    state.textContent = `Sending ${chosen.name} …`;
    announce(`Sending ${chosen.name}.`);
    const onProgress = (sent) => {
      if (sent < chosen.size) meter.value = (100 * sent) / chosen.size;
      else meter.removeAttribute("value"); // how long reading takes is not known
      state.textContent = sent < chosen.size ? `Sending ${chosen.name}: ${bytes(sent)} of ${bytes(chosen.size)}` : `Reading ${chosen.name} …`;
    };
    try {
      const query = { name: chosen.name, url_column: urlColumn.value.trim(), caption_column: captionColumn.value.trim() };
      const answer = await api.upload(PATH, chosen, { query, onProgress, signal: mine.signal });
      if (mine.signal.aborted) return;
      list = answer;
      columns.hidden = answer.format === "txt";
      result.replaceChildren(...shown(answer));
      taken(answer);
      announce(summary(answer));
    } catch (failed) {
      if (mine.signal.aborted) return;
      // A table whose columns nobody knows is the one refusal that a name for them mends.
      columns.hidden = false;
      columns.open = failed.message.includes("url_column") || Boolean(urlColumn.value || captionColumn.value);
      wrong(failed.status ? failed.message : `${chosen.name} could not be sent: ${failed.message}`);
      input.focus();
    } finally {
      if (sending === mine) {
        sending = null;
        moving.hidden = true;
      }
    }
  }

  function shown(answer) {
    const remove = h("button", { type: "button", on: { click: () => clear(true) } }, "Remove the file");
    const found = Object.entries(answer.columns).map(([name, column]) => `${FIELDS[name] ?? name} from “${column}”`).join(", ");
    return [
      h("p", {}, h("strong", {}, summary(answer))),
      found ? h("p", { class: "hint" }, `Columns: ${found}.`) : null,
      answer.rejected ? leftOut(answer) : null,
      h("div", { class: "buttons" }, remove),
    ].filter(Boolean);
  }

  function leftOut(answer) {
    const rows = h("ul", { class: "rows" }, answer.rejected_rows.map(rowLeftOut));
    const more = h("p", { class: "more" });
    let cursor = null;
    let all = false; // whether what is shown begins with what the API has, not with the answer's
    const load = async () => {
      try {
        const page = await api.get(`${PATH}/${answer.id}/rejected`, { limit: PAGE, cursor }, signal);
        if (!all) rows.replaceChildren();
        all = true;
        const before = rows.children.length;
        rows.append(...page.items.map(rowLeftOut));
        cursor = page.next_cursor;
        if (!cursor) more.remove();
        rows.children[before]?.scrollIntoView({ block: "nearest" });
      } catch (failed) {
        if (!signal.aborted) more.replaceChildren(h("span", { class: "error", role: "alert" }, failed.message), " ", button());
      }
    };
    const button = () => h("button", { type: "button", on: { click: load } }, "Show more of them");
    if (answer.rejected > answer.rejected_rows.length) more.append(button());
    return h(
      "details",
      { class: "left-out" },
      h("summary", {}, `${plural(answer.rejected, "row was", "rows were")} left out`),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rows that were left out" }, rows),
      more,
    );
  }

  signal.addEventListener("abort", () => clear(false));
  takesDrops(element, signal, (dropped) => {
    input.files = dropped; // so that the field shows its name
    take(dropped[0]);
  });

  return {
    element,
    input,
    error,
    get id() { return list?.id ?? null; },
    get busy() { return sending !== null; },
    /** A job has it: it is not deleted any more. */
    keep() { used = true; },
  };
}

/** “9,998 URLs in laion.parquet, 12 of them twice; 2 rows left out.” */
function summary(list) {
  const repeated = list.repeated ? `, ${count(list.repeated)} of them listed before` : "";
  const rejected = list.rejected ? `; ${plural(list.rejected, "row")} left out` : "";
  return `${plural(list.rows, "URL")} in ${list.name || "the file"}${repeated}${rejected}.`;
}

const rowLeftOut = (row) => h("li", {}, h("span", { class: "number" }, `Line ${count(row.line)}`), ` ${row.reason}`, row.text ? [": ", h("code", {}, row.text)] : null);

/** Files that are dropped anywhere in this view go here, instead of being opened by the browser. */
function takesDrops(place, signal, take) {
  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => place.classList.toggle("over", depth > 0);
  const on = (name, listener) => addEventListener(name, (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    listener(event);
    mark();
  }, { signal });
  on("dragenter", () => { depth += 1; });
  on("dragleave", () => { depth -= 1; });
  on("dragover", (event) => { event.dataTransfer.dropEffect = "copy"; });
  on("drop", (event) => {
    depth = 0;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}
