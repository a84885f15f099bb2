// The form for a new job.

import * as api from "./api.js";
import { count, failure, h, outside, waiting } from "./dom.js";
import { urlList } from "./list.js";
import { transforming } from "./transforming.js";

const URLS = "urls";
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** Shows the form; sends it once, however often the button is pressed. */
export async function showNew(main, signal) {
  document.title = "New job · PixCrawler";
  main.replaceChildren(h("h1", {}, "New job"), waiting());
  let sources;
  try {
    sources = (await api.get("/v1/sources", {}, signal)).items;
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(h("h1", {}, "New job"), failure(error, () => showNew(main, signal)));
    return;
  }
  const idempotency = api.unique();
  const transform = transforming();
  const fields = {
    ...transform.inputs,
    keywords: h("textarea", { id: "keywords", rows: 3, "aria-describedby": "keywords-hint", placeholder: "red panda" }),
    max_images: h("input", { id: "max_images", type: "number", min: 1, step: 1, value: 200, inputmode: "numeric", required: true, "aria-describedby": "max_images-hint" }),
    urls: h("textarea", { id: "urls", rows: 5, spellcheck: "false", "aria-describedby": "urls-hint", placeholder: "https://…" }),
    name: h("input", { id: "name", type: "text", maxlength: 200, autocomplete: "off" }),
    min_size: h("input", { id: "min_size", type: "number", min: 1, max: 65535, value: 64, inputmode: "numeric" }),
    near_duplicates: h(
      "select",
      { id: "near_duplicates", "aria-describedby": "near_duplicates-hint" },
      [["off", "keep them"], ["2", "drop only the closest (2 bits)"], ["6", "drop (6 bits)"], ["10", "drop also similar ones (10 bits)"]].map(([value, text]) =>
        h("option", { value, selected: value === "6" }, text)),
    ),
    format: h("select", { id: "format" }, h("option", { value: "zip" }, "ZIP (imagefolder)"), h("option", { value: "webdataset" }, "WebDataset (tar)")),
    priority: h("input", { id: "priority", type: "number", min: 0, max: 10, value: 5, inputmode: "numeric", "aria-describedby": "priority-hint" }),
    refill_factor: h("input", { id: "refill_factor", type: "number", min: 1, max: 100, step: "any", value: 5, inputmode: "decimal", "aria-describedby": "refill_factor-hint" }),
  };
  const boxes = sources.map((source) => h("input", { type: "checkbox", id: `source-${source.name}`, value: source.name, checked: source.default }));
  const own = boxes.find((box) => box.value === URLS);
  const pasted = field("urls", "Or the URLs themselves", fields.urls, "One a line. They are looked at in this order.");
  let ownNumber = false; // whether somebody has said how many
  fields.max_images.addEventListener("input", () => { ownNumber = true; });
  const list = urlList(signal, {
    begun: () => {
      choose(true);
      // As the command has it: a list without keywords is all there is to look at.
      if (!lines(fields.keywords.value).length) for (const box of boxes) box.checked = box === own;
    },
    taken: (answer) => {
      pasted.hidden = answer !== null;
      if (answer && !ownNumber) fields.max_images.value = answer.rows - answer.repeated;
    },
  });
  fields.list = list.input;
  const urls = h("fieldset", {}, h("legend", {}, "My own list of URLs"), list.element, pasted);
  function choose(wanted) {
    if (own) own.checked = wanted;
    urls.hidden = !wanted;
  }
  choose(false);
  own?.addEventListener("change", () => choose(own.checked));
  const wrong = h("div", { class: "banner trouble", role: "alert", tabindex: -1, hidden: true });
  const button = h("button", { type: "submit", class: "main" }, "Start the job");

  function asked() {
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    const near = fields.near_duplicates.value;
    return {
      keywords: lines(fields.keywords.value),
      max_images: Number(fields.max_images.value),
      sources: chosen,
      ...(own?.checked ? { urls: list.id ?? lines(fields.urls.value) } : {}),
      ...(fields.name.value.trim() ? { name: fields.name.value.trim() } : {}),
      priority: Number(fields.priority.value),
      options: {
        min_size: Number(fields.min_size.value),
        near_duplicates: near === "off" ? null : Number(near),
        refill_factor: Number(fields.refill_factor.value),
        format: fields.format.value,
        ...transform.asked(),
      },
    };
  }

  function problems(body) {
    const found = [];
    if (!body.sources.length) found.push({ field: "sources", message: "Choose at least one source." });
    if (!body.keywords.length && body.sources.some((name) => name !== URLS)) found.push({ field: "keywords", message: own?.checked ? "Say what to look for, or choose no source but your own list." : "Say what to look for." });
    if (list.busy && own?.checked) found.push({ field: "list", message: "The file is still being read: start the job when it is." });
    else if (body.sources.includes(URLS) && !body.urls?.length) found.push({ field: "urls", message: "Choose a file or give at least one URL, or do not choose your own list." });
    if (!(body.max_images > 0)) found.push({ field: "max_images", message: "Say how many images you need." });
    return found;
  }

  /** Says what is wrong above the form and at each field, and goes there. */
  function complain(message, errors) {
    for (const place of main.querySelectorAll(".error")) place.textContent = "";
    for (const place of main.querySelectorAll("[aria-invalid]")) place.removeAttribute("aria-invalid");
    wrong.hidden = !message;
    wrong.replaceChildren(h("p", {}, message));
    let first = null;
    for (const error of errors) {
      let name = Object.keys(fields).find((one) => error.field === one || error.field.split(".").includes(one));
      if (name === URLS && list.id) name = "list"; // what was uploaded is what is wrong
      const place = main.querySelector(`#${name ?? error.field.split(".")[0]}-error`);
      if (!place) continue;
      place.textContent = error.message;
      place.closest("details")?.setAttribute("open", "");
      const input = name ? fields[name] : boxes[0];
      input.setAttribute("aria-invalid", "true");
      first ??= input;
    }
    if (message) (first ?? wrong).focus();
  }

  async function submit(event) {
    event.preventDefault();
    const body = asked();
    const found = problems(body);
    complain(found.length ? "The job cannot be started like this:" : "", found);
    if (found.length) return;
    button.disabled = true;
    try {
      // The same key for the same body, so that pressing again after a lost answer makes one job.
      const digest = JSON.stringify(body);
      submit.keys ??= new Map([[digest, idempotency]]);
      if (!submit.keys.has(digest)) submit.keys.set(digest, api.unique());
      const job = await api.post("/v1/jobs", body, { headers: { "Idempotency-Key": submit.keys.get(digest) } });
      list.keep();
      location.hash = `#/jobs/${job.job_id}`;
    } catch (error) {
      complain(error.message, error.problem?.errors ?? []);
    } finally {
      button.disabled = false;
    }
  }

  main.replaceChildren(
    h("h1", {}, "New job"),
    h(
      "form",
      { class: "card", novalidate: true, on: { submit } },
      wrong,
      field("keywords", "Keywords", fields.keywords, "What to look for: one search a line. The images are spread over them."),
      field("max_images", "Images", fields.max_images, "How many you get, over all keywords and sources, if there are as many."),
      h(
        "fieldset",
        {},
        h("legend", {}, "Sources"),
        sources.map((source, index) => sourceChoice(source, boxes[index])),
        h("p", { class: "error", id: "sources-error" }),
      ),
      urls,
      h(
        "details",
        {},
        h("summary", {}, "Options"),
        h(
          "div",
          { class: "grid" },
          field("name", "Name", fields.name, "For you; the keywords if it is empty."),
          field("min_size", "Shortest side, in pixels", fields.min_size, "Smaller images are dropped."),
          field("near_duplicates", "Near-duplicates", fields.near_duplicates, "Equal files are always dropped; these are images that look the same."),
          ...transform.elements(field),
          field("format", "Archives", fields.format, ""),
          field("priority", "Priority", fields.priority, "0 to 10; higher goes first where jobs wait for each other."),
          field("refill_factor", "Patience", fields.refill_factor, "How many URLs are looked at, at most, for each image that is asked for."),
        ),
      ),
      h("div", { class: "buttons" }, button, h("a", { class: "button", href: "#/" }, "Back")),
    ),
  );
  fields.keywords.focus();
}

function field(name, label, input, hint) {
  return h(
    "p",
    { class: "field" },
    h("label", { for: name }, label),
    input,
    hint ? h("span", { class: "hint", id: `${name}-hint` }, hint) : null,
    h("span", { class: "error", id: `${name}-error` }),
  );
}

function sourceChoice(source, box) {
  const limits = source.results_per_search ? `up to ${count(source.results_per_search)} results a search` : "";
  const facts = [limits, source.name === URLS ? "" : source.licenses ? "says the licence of each image" : "does not say licences"].filter(Boolean).join(" · ");
  return h(
    "div",
    { class: "choice" },
    box,
    h(
      "div",
      {},
      h("label", { for: box.id }, source.name === URLS ? "My own list of URLs" : source.title),
      source.homepage ? [" ", outside(source.homepage, new URL(source.homepage).host, { class: "dim" })] : null,
      h("div", { class: "hint" }, facts),
    ),
  );
}
