// What the job leaves behind, to download.

import * as api from "./api.js";
import { TERMINAL, bytes, failure, h, moment, moreButton, nothing, plural, table, waiting, webAddress } from "./dom.js";

const PAGE = 100;
const ABOUT = {
  "dataset.json": "totals, and every file with its sha256",
  "README.md": "the dataset card",
  "croissant.json": "Croissant metadata",
  "images.parquet": "one row per image",
  "outcomes.parquet": "one row per URL",
  "LICENSES.csv": "licence and creator of every image",
};

/** The tab with the files of the dataset. */
export function showFiles(body, { jobId, progress, signal }) {
  const place = h("div", {}, waiting());
  body.replaceChildren(h("h2", {}, "Files"), place);
  let loaded = false;

  async function load() {
    try {
      draw(await api.get(`/v1/jobs/${jobId}/dataset`, {}, signal));
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(error.status === 404 ? missing() : failure(error, load));
    }
  }

  const missing = () => nothing("No dataset yet", "Its files are here when the job is over.");

  function draw(dataset) {
    const size = dataset.files.reduce((sum, file) => sum + file.size, 0);
    const rest = [...dataset.files];
    const element = table("Files of the dataset", ["File", { name: "Size", class: "number" }, "sha256"], [], { class: "cards" });
    const tbody = element.querySelector("tbody");
    const add = () => {
      tbody.append(...rest.splice(0, PAGE).map(fileRow));
      more.show(rest.length, `More (${rest.length})`);
    };
    const more = moreButton(add);
    add();
    place.replaceChildren(
      h("p", {}, `${plural(dataset.files.length, "file")}, ${bytes(size)}. The links work until `, moment(dataset.files[0]?.expires_at), "."),
      element,
      more.element,
      h("p", { class: "dim" }, "All of them, checked, and going on where it broke off:"),
      h("pre", { tabindex: 0 }, `pixcrawler jobs download ${jobId} -o dataset`),
    );
  }

  function update(now) {
    if (!loaded && TERMINAL.has(now.status)) {
      loaded = true;
      load();
    } else if (!TERMINAL.has(now.status)) {
      loaded = false;
      if (!place.querySelector("table")) place.replaceChildren(missing());
    }
  }

  update(progress());
  return { update };
}

function fileRow(file) {
  const address = webAddress(file.url);
  const name = file.path;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, address ? h("a", { href: address, download: name, rel: "noopener noreferrer" }, name) : name, ABOUT[name] ? h("div", { class: "hint" }, ABOUT[name]) : null),
    h("td", { "data-label": "Size", class: "number" }, bytes(file.size)),
    h("td", { "data-label": "sha256" }, h("code", { class: "hash", title: file.sha256 }, file.sha256)),
  );
}
