// One job: its progress as it happens, what can be done to it, and a tab for each kind of detail.

import * as api from "./api.js";
import { showChunks } from "./chunks.js";
import { TERMINAL, announce, ask, badge, bar, count, duration, failure, h, lasting, moment, nothing, percent, plural, say, waiting, working } from "./dom.js";
import { showDropped } from "./dropped.js";
import { showFiles } from "./files.js";
import { showImages } from "./gallery.js";
import { titleOf } from "./jobs.js";
import { showOverview } from "./overview.js";
import { follow } from "./stream.js";

const TABS = [
  ["", "Overview", showOverview],
  ["images", "Images", showImages],
  ["dropped", "Dropped", showDropped],
  ["chunks", "Chunks", showChunks],
  ["files", "Files", showFiles],
];

/** Outcomes that are decided before there are bytes to check. */
const NOT_FETCHED = ["too_large", "http_error", "timeout", "network_error", "redirect", "blocked", "opted_out"];

const STATES = {
  connecting: "connecting …",
  live: "live",
  lost: "connection lost, trying again …",
  over: "",
  gone: "deleted",
};

/** Shows a job until `signal` says that something else is shown. */
export async function showJob(main, signal, jobId, firstTab) {
  document.title = "Job · PixCrawler";
  main.replaceChildren(waiting());
  let job;
  let progress;
  try {
    [job, progress] = await Promise.all([api.get(`/v1/jobs/${jobId}`, {}, signal), api.get(`/v1/jobs/${jobId}/progress`, {}, signal)]);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 404) {
      main.replaceChildren(nothing("There is no such job", "It was deleted, or it is somebody else's.", h("p", {}, h("a", { class: "button", href: "#/" }, "All jobs"))));
    } else {
      main.replaceChildren(failure(error, () => showJob(main, signal, jobId, firstTab)));
    }
    return;
  }
  document.title = `${titleOf(job)} · PixCrawler`;

  const status = h("span", {}, badge(progress.status));
  const state = h("span", { class: "dim state" });
  const actions = h("div", { class: "buttons" });
  const said = h("p", { class: "banner trouble", role: "alert", hidden: true });
  const bars = makeBars();
  const facts = h("dl", { class: "facts" });
  const heading = h("h1", { tabindex: -1 }, titleOf(job), " ", status);
  const tabs = h("nav", { class: "tabs", "aria-label": "About this job" });
  const body = h("section", { class: "tab" });
  main.replaceChildren(
    h("p", { class: "back" }, h("a", { href: "#/" }, "All jobs")),
    h("div", { class: "heading" }, heading, actions),
    said,
    h("section", { class: "card", "aria-label": "Progress" }, bars.element, state),
    facts,
    tabs,
    body,
  );

  // ---- what changes

  let following = null;
  let tab = null;
  let spoken = "";
  const someFacts = lasting(facts);
  const someActions = lasting(actions);
  const underWay = new Set(); // actions

  function show(now) {
    progress = now;
    status.replaceChildren(badge(now.status));
    bars.show(now);
    showFacts();
    showActions();
    speak();
    tab?.update?.(now);
  }

  function showFacts() {
    const rest = progress.eta_s !== null && !TERMINAL.has(progress.status) ? duration(progress.eta_s) : null;
    const rows = [
      ["Asked for", plural(progress.images.requested || job.max_images, "image")],
      ["From", job.sources.map((name) => (name === "urls" ? "a list of URLs" : name)).join(", ")],
      ["Made", moment(job.created_at)],
      rest ? ["Left", `about ${rest}`] : null,
      progress.finished_at && progress.started_at ? ["Took", duration((Date.parse(progress.finished_at) - Date.parse(progress.started_at)) / 1000)] : null,
      job.round > 1 ? ["Round", count(job.round)] : null,
      ["Id", h("code", {}, jobId)],
    ];
    const wanted = new Map(rows.filter(Boolean));
    const here = someFacts([...wanted.keys()], (name) => h("div", {}, h("dt", {}, name), h("dd", {}, wanted.get(name))));
    for (const [name, value] of wanted) if (typeof value === "string") say(here.get(name).lastChild, value);
  }

  function showActions() {
    // What moves from under a pointer is not pressed any more.
    if (actions.querySelector(":active")) return;
    const over = TERMINAL.has(progress.status);
    const wanted = [
      job.round === 0 && progress.status === "pending" ? ["start", "Start"] : null,
      over && progress.failed_chunks && progress.status !== "cancelled" ? ["retry", `Retry ${plural(progress.failed_chunks, "failed chunk")}`] : null,
      progress.status === "cancelled" ? null : ["extend", "More images"],
      over ? null : ["cancel", "Cancel"],
      ["delete", "Delete"],
    ].filter(Boolean);
    const focused = actions.contains(document.activeElement);
    const buttons = someActions(wanted.map(([name]) => name), (name) =>
      h("button", { type: "button", "data-action": name, class: name === "delete" ? "quiet" : null, on: { click: () => press(name) } }));
    for (const [name, text] of wanted) {
      say(buttons.get(name), text);
      working(buttons.get(name), underWay.has(name));
    }
    if (focused && !actions.contains(document.activeElement)) heading.focus(); // its button is gone
  }

  function speak() {
    const tens = Math.floor(progress.progress / 10) * 10;
    const now = TERMINAL.has(progress.status)
      ? `The job is ${progress.status}: ${plural(progress.images.valid, "image")} kept.`
      : progress.status === "running" ? `${tens} percent, ${plural(progress.images.valid, "image")} kept.` : "The job waits.";
    if (now !== spoken) announce(now);
    spoken = now;
  }

  function onState(now) {
    say(state, STATES[now] ?? "");
    state.className = `dim state ${now}`;
    if (now === "gone") location.hash = "#/";
    if (now === "over") refresh();
  }

  async function refresh() {
    try {
      [job, progress] = await Promise.all([api.get(`/v1/jobs/${jobId}`, {}, signal), api.get(`/v1/jobs/${jobId}/progress`, {}, signal)]);
      show(progress);
    } catch { /* what was shown stands; the banner says that nothing answers */ }
  }

  function watch() {
    if (signal.aborted) return; // something else is shown since
    following?.abort();
    following = new AbortController();
    const mine = following;
    signal.addEventListener("abort", () => mine.abort());
    onState("connecting");
    follow(jobId, { onProgress: show, onState: (now) => { if (!mine.signal.aborted) onState(now); }, signal: mine.signal });
  }

  // ---- what can be done

  /** How to ask whether it is meant, where that has to be asked, and how to do it. */
  const ACTIONS = {
    start: { send: () => api.post(`/v1/jobs/${jobId}/start`, {}) },
    retry: { send: () => api.postOnce(`/v1/jobs/${jobId}/retry`) },
    extend: {
      sure: () => ask({ title: "More images", text: "The job goes on until it has so many more.", confirm: "Go on", field: { label: "More images", value: 100 } }),
      send: (number) => api.postOnce(`/v1/jobs/${jobId}/chunks`, { max_images: number }),
    },
    cancel: {
      sure: () => ask({ title: "Cancel this job?", text: "It stops. What was packed stays and can be downloaded; it cannot go on later.", confirm: "Cancel the job", danger: true }),
      send: () => api.postOnce(`/v1/jobs/${jobId}/cancel`),
    },
    delete: {
      sure: () => ask({ title: "Delete this job?", text: "The job and all of its images are gone for good.", confirm: "Delete", danger: true }),
      send: () => api.remove(`/v1/jobs/${jobId}`),
    },
  };

  /** A press is passed over only while the same is being done; what else is pressed is done as well. */
  async function press(name) {
    if (underWay.has(name)) return;
    const { sure, send } = ACTIONS[name];
    const answer = sure ? await sure() : true;
    if (document.activeElement === document.body) heading.focus(); // what opened the dialog is gone
    if (!answer || signal.aborted) return;
    underWay.add(name);
    showActions();
    said.hidden = true;
    try {
      await send(answer);
      if (name === "delete") location.hash = "#/";
      else await renew();
    } catch (error) {
      said.textContent = error.message;
      said.hidden = false;
    } finally {
      underWay.delete(name);
      showActions();
    }
  }

  /** After something was done: how it is now, and from now on. */
  async function renew() {
    await refresh();
    if (!TERMINAL.has(progress.status)) watch();
  }

  // A redraw that waited for the end of a press.
  for (const end of ["pointerup", "pointercancel", "keyup"]) addEventListener(end, () => setTimeout(showActions), { signal });

  // ---- tabs

  let tabSignal = new AbortController();

  function open(name) {
    const [id, title, showTab] = TABS.find(([one]) => one === name) ?? TABS[0];
    tabSignal.abort();
    tabSignal = new AbortController();
    const mine = tabSignal;
    signal.addEventListener("abort", () => mine.abort());
    tabs.replaceChildren(...TABS.map(([one, text]) => h("a", { href: `#/jobs/${jobId}${one ? `/${one}` : ""}`, "aria-current": one === id ? "page" : null }, text)));
    tabs.querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" });
    body.setAttribute("aria-label", `${title} of this job`);
    body.replaceChildren();
    tab = showTab(body, { jobId, job: () => job, progress: () => progress, signal: mine.signal, again: renew });
  }

  signal.addEventListener("tab", (event) => {
    open(event.detail);
    tabs.querySelector("[aria-current]")?.focus({ preventScroll: true });
  });
  open(firstTab);
  show(progress);
  if (TERMINAL.has(progress.status)) onState("over-already");
  else watch();
}

function makeBars() {
  const kept = bar("Kept", { kind: "large", hint: "In an archive, of the number asked for" });
  const stages = {
    download: bar("Download", { hint: "Of the URLs that were found" }),
    check: bar("Check", { hint: "Decoded, compared, decided" }),
    pack: bar("Chunks packed", { hint: "Chunks that have ended" }),
  };
  const element = h("div", { class: "bars" }, kept.element, Object.values(stages).map((one) => one.element));
  const show = (now) => {
    const { candidates, downloaded, dropped, valid, requested, bytes } = now.images;
    const refused = NOT_FETCHED.reduce((sum, name) => sum + (dropped[name] ?? 0), 0);
    const fetched = Math.min(downloaded + refused, candidates);
    const decided = Math.min(Object.values(dropped).reduce((sum, one) => sum + one, 0) + valid, candidates);
    const ended = now.completed_chunks + now.failed_chunks;
    kept.set(now.progress, 100, `${count(valid)} of ${count(requested)} (${percent(now.progress)})`);
    stages.download.set(fetched, candidates, `${count(fetched)} of ${count(candidates)} URLs`);
    stages.check.set(decided, candidates, `${count(decided)} of ${count(candidates)}`);
    stages.pack.set(ended, now.total_chunks, `${count(ended)} of ${count(now.total_chunks)}${now.failed_chunks ? `, ${count(now.failed_chunks)} failed` : ""}`);
    element.dataset.bytes = bytes;
  };
  return { element, show };
}
