// What became of the URLs, as charts; the licences; the latest images.

import * as api from "./api.js";
import { TERMINAL, bytes, count, h, outside, plural, say, share } from "./dom.js";
import { thumbnails } from "./gallery.js";

/** Groups of outcomes in the order of the chart: what it is called, what is in it. */
const GROUPS = [
  ["kept", "Kept", ["kept"]],
  ["twins", "Duplicates", ["duplicate", "near_duplicate"]],
  ["unusable", "Not usable", ["corrupt", "not_image", "unsupported", "too_small", "bomb", "too_large"]],
  ["unreachable", "Not fetched", ["http_error", "timeout", "network_error", "redirect", "blocked", "opted_out"]],
  ["unneeded", "Not needed", ["surplus", "cancelled"]],
  ["lost", "Given up", ["failed"]],
];

export const OUTCOMES = {
  kept: "in an archive",
  duplicate: "the same bytes as a kept image",
  near_duplicate: "looks like a kept image",
  corrupt: "a damaged image",
  not_image: "no image",
  unsupported: "a format that is not taken",
  too_small: "a side is too short",
  bomb: "too many pixels",
  too_large: "too many bytes",
  http_error: "the server answered with an error",
  timeout: "no answer in time",
  network_error: "no connection",
  redirect: "redirected without an end",
  blocked: "an address that must not be asked",
  opted_out: "its owner does not want it used",
  surplus: "the number was reached",
  cancelled: "the job was cancelled first",
  failed: "its chunk was given up",
};

const ERRORS = ["http_error", "timeout", "network_error", "redirect", "blocked", "opted_out", "corrupt", "not_image", "unsupported", "too_small", "bomb", "too_large", "failed"];
const SAMPLE = 500;
const LATEST = 12;
const LOOK_MS = 3000;
const TROUBLE_MS = 5000;
const TROUBLES = 20; // chunks looked at for that: what troubles one mostly troubles all

/** The first tab of a job. */
export function showOverview(body, { jobId, progress, signal }) {
  const chart = h("div", {});
  const rows = h("tbody", {});
  const total = h("p", { class: "dim" });
  const mix = h("div", {});
  const licences = h("div", {});
  const latest = h("div", {});
  const trouble = h("div", { role: "status" });
  body.replaceChildren(
    trouble,
    h(
      "div",
      { class: "columns" },
      h(
        "section",
        { class: "card", "aria-labelledby": "outcomes" },
        h("h2", { id: "outcomes" }, "What became of the URLs"),
        total,
        chart,
        h("div", { class: "scroll" }, h("table", { class: "outcomes" },
          h("caption", { class: "unseen" }, "Outcomes"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Outcome"), h("th", { scope: "col", class: "number" }, "URLs"), h("th", { scope: "col", class: "number" }, "Share"))),
          rows)),
      ),
      h(
        "div",
        {},
        h("section", { class: "card", "aria-labelledby": "mix" }, h("h2", { id: "mix" }, "Errors"), mix),
        h("section", { class: "card", "aria-labelledby": "licences" }, h("h2", { id: "licences" }, "Licences"), licences),
      ),
    ),
    h("section", { class: "card", "aria-labelledby": "latest" }, h("h2", { id: "latest" }, "Kept"), latest),
  );
  const gallery = thumbnails(latest, signal);
  let looked = 0;
  let wasOver = TERMINAL.has(progress().status);
  let counted = "";

  function update(now) {
    const counts = { kept: now.images.valid, ...now.images.dropped };
    const whole = Object.values(counts).reduce((sum, one) => sum + one, 0);
    say(total, whole ? `${plural(whole, "URL")} decided; ${bytes(now.images.bytes)} kept.` : "Nothing is decided yet.");
    if (JSON.stringify(counts) !== counted) {
      counted = JSON.stringify(counts);
      chart.replaceChildren(whole ? stack(counts, whole) : "");
      rows.replaceChildren(...tableRows(counts, whole));
      rows.closest(".scroll").hidden = !whole;
      mix.replaceChildren(...errorMix(counts));
    }
    const over = TERMINAL.has(now.status);
    if (over && !wasOver) again();
    wasOver = over;
    if (over || Date.now() - looked > LOOK_MS) {
      looked = Date.now();
      look(now, over).catch(() => {});
    }
  }

  async function look(now, over) {
    if (!over) licences.replaceChildren(h("p", { class: "dim" }, "Counted when the dataset is there."));
    if (!gallery.size) latest.replaceChildren(h("p", { class: "dim" }, over && !now.images.valid ? "No image was kept." : "Images appear here when the first chunk is packed."));
    if (now.images.valid && gallery.size < LATEST) {
      gallery.show((await api.get(`/v1/jobs/${jobId}/images`, { limit: LATEST }, signal)).items);
    }
    if (!over) return;
    licences.replaceChildren(licenceTable((await api.get(`/v1/jobs/${jobId}/licenses`, {}, signal)).items));
    if (now.images.dropped.http_error) await codes();
  }

  async function codes() {
    const page = await api.get(`/v1/jobs/${jobId}/outcomes`, { outcome: "http_error", limit: SAMPLE }, signal);
    const found = new Map();
    for (const row of page.items) found.set(row.http_status, (found.get(row.http_status) ?? 0) + 1);
    const parts = [...found].sort((a, b) => b[1] - a[1]).map(([status, number]) => `${status} × ${count(number)}`);
    mix.querySelector(".codes")?.remove();
    if (parts.length) mix.append(h("p", { class: "dim codes" }, `HTTP: ${parts.join(", ")}${page.next_cursor ? ` (of the first ${SAMPLE})` : ""}`));
  }

  /** Why chunks are tried again or have failed: a job that stands still says why. */
  async function lookForTrouble() {
    const pages = await Promise.all(["processing", "failed"].map((status) => api.get(`/v1/jobs/${jobId}/chunks`, { status, limit: TROUBLES }, signal)));
    const reasons = new Map();
    for (const chunk of pages.flatMap((page) => page.items)) {
      if (!chunk.error_message || chunk.error_message === "cancelled" || reasons.has(chunk.error_message)) continue;
      reasons.set(chunk.error_message, `Chunk ${count(chunk.index)} ${chunk.status === "failed" ? "failed" : "is tried again"}: ${chunk.error_message}`);
    }
    const texts = progress().status === "completed" ? [] : [...reasons.values()]; // then it did no harm
    if (texts.join("\n") === troubled) return;
    troubled = texts.join("\n");
    trouble.replaceChildren(...(texts.length
      ? [h("div", { class: "banner trouble" }, texts.map((text) => h("p", {}, text)), h("p", {}, h("a", { href: `#/jobs/${jobId}/chunks` }, "See what was tried")))]
      : []));
  }

  let troubled = "";
  const again = () => lookForTrouble().catch(() => {});
  const timer = setInterval(() => { if (!document.hidden && !TERMINAL.has(progress().status)) again(); }, TROUBLE_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  again();
  update(progress());
  return { update };
}

/** One bar of all outcomes, in groups. */
function stack(counts, whole) {
  const groups = GROUPS.map(([id, name, outcomes]) => [id, name, outcomes.reduce((sum, one) => sum + (counts[one] ?? 0), 0)]).filter(([, , number]) => number);
  const text = groups.map(([, name, number]) => `${name} ${share(number, whole)}`).join(", ");
  const track = h("div", { class: "stack", role: "img", "aria-label": text });
  for (const [id, , number] of groups) {
    const part = h("span", { class: `part ${id}` });
    part.style.setProperty("flex-grow", number);
    track.append(part);
  }
  return h(
    "div",
    {},
    track,
    h("ul", { class: "legend" }, groups.map(([id, name, number]) => h("li", {}, h("span", { class: `dot ${id}` }), ` ${name} `, h("b", {}, share(number, whole))))),
  );
}

function tableRows(counts, whole) {
  return GROUPS.flatMap(([id, , outcomes]) =>
    outcomes.filter((name) => counts[name]).map((name) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("span", { class: `dot ${id}` }), " ", h("span", {}, name), h("div", { class: "hint" }, OUTCOMES[name] ?? "")),
        h("td", { class: "number" }, count(counts[name])),
        h("td", { class: "number" }, share(counts[name], whole)),
      )));
}

/** What went wrong, the most common first, each as a bar. */
function errorMix(counts) {
  const found = ERRORS.filter((name) => counts[name]).map((name) => [name, counts[name]]).sort((a, b) => b[1] - a[1]);
  if (!found.length) return [h("p", { class: "dim" }, "None so far.")];
  const all = found.reduce((sum, [, number]) => sum + number, 0);
  const most = found[0][1];
  return [
    h("p", { class: "dim" }, plural(all, "URL gave an error", "URLs gave an error"), "."),
    h(
      "ul",
      { class: "mix" },
      found.map(([name, number]) => {
        const fill = h("span", { class: `fill ${GROUPS.find(([, , names]) => names.includes(name))[0]}` });
        fill.style.setProperty("width", `${(100 * number) / most}%`);
        return h("li", {}, h("span", { class: "name" }, name), h("span", { class: "track", "aria-hidden": "true" }, fill), h("span", { class: "numbers" }, `${count(number)} · ${share(number, all)}`));
      }),
    ),
  ];
}

function licenceTable(found) {
  if (!found.length) return h("p", { class: "dim" }, "No image was kept.");
  const all = found.reduce((sum, one) => sum + one.images, 0);
  return h(
    "table",
    {},
    h("caption", { class: "unseen" }, "Licences of the kept images"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Licence"), h("th", { scope: "col", class: "number" }, "Images"), h("th", { scope: "col", class: "number" }, "Share"))),
    h("tbody", {}, found.map((one) => h(
      "tr",
      {},
      h("th", { scope: "row" }, one.license_url ? outside(one.license_url, one.license || one.license_url) : one.license || "not stated"),
      h("td", { class: "number" }, count(one.images)),
      h("td", { class: "number" }, share(one.images, all)),
    ))),
  );
}
