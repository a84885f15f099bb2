// Where the page begins: who is there, and which view is shown.

import * as api from "./api.js";
import { announce, h, say } from "./dom.js";
import { showJob } from "./job.js";
import { showJobs } from "./jobs.js";
import { showNew } from "./new.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const trouble = document.getElementById("trouble");

let view = new AbortController();
let shown = null; // nothing so far

/** A link such as `/#key=pxc_…` signs in; the key leaves the address before anything else happens. */
function takeKey() {
  const found = /^#key=([\w-]+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", `${location.pathname}#/`);
  api.useKey(found[1]);
}

async function route() {
  takeKey();
  const hash = location.hash || "#/";
  if (!hash.startsWith("#/")) return; // a place on the page
  nav.hidden = !api.key();
  if (!api.key()) return showSignIn();
  const [, name = "", id = "", tab = ""] = hash.split("/");
  const place = name === "jobs" && id ? `job ${id}` : name;
  if (place === shown && name === "jobs" && id) {
    view.signal.dispatchEvent(new CustomEvent("tab", { detail: tab }));
    return;
  }
  const before = shown !== null;
  leave();
  shown = place;
  for (const link of nav.querySelectorAll("a[data-route]")) {
    const here = link.dataset.route === (name === "new" ? "new" : "jobs");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "new") await showNew(main, view.signal);
  else if (name === "jobs" && /^[0-9a-f-]{36}$/.test(id)) await showJob(main, view.signal, id, tab);
  else await showJobs(main, view.signal);
  // Whoever comes from another view begins at the top of this one, unless the view knows better.
  if (before && !main.contains(document.activeElement)) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function leave() {
  view.abort();
  view = new AbortController();
  shown = "";
  main.replaceChildren();
}

function showSignIn(message = "") {
  leave();
  nav.hidden = true;
  document.title = "Sign in · PixCrawler";
  const input = h("input", { id: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false", "aria-describedby": "key-hint key-error", "aria-invalid": message ? "true" : null });
  const keep = h("input", { id: "keep", type: "checkbox" });
  const error = h("p", { id: "key-error", class: "error", role: "alert" }, message);
  const button = h("button", { type: "submit", class: "main" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    api.useKey(input.value.trim(), { keep: keep.checked });
    try {
      await api.get("/v1/sources");
      location.hash = "#/";
      await route();
    } catch (failed) {
      if (failed.status === 401) return; // the form is shown again, and says so
      api.forgetKey();
      error.textContent = failed.message;
      button.disabled = false;
    }
  };
  main.append(
    h(
      "section",
      { class: "card narrow", "aria-labelledby": "sign-in" },
      h("h1", { id: "sign-in" }, "Sign in"),
      h("p", {}, "Keywords in, a clean dataset out: valid, unique, attributed images."),
      h(
        "form",
        { on: { submit } },
        h("p", { class: "field" }, h("label", { for: "key" }, "API key"), input, error),
        h("p", { class: "check" }, keep, h("label", { for: "keep" }, "Keep me signed in on this device")),
        button,
      ),
      h(
        "p",
        { class: "dim", id: "key-hint" },
        "On your own machine ", h("code", {}, "pixcrawler status"), " prints a link that signs you in. Elsewhere whoever runs PixCrawler makes a key with ",
        h("code", {}, "pixcrawler keys create"), ".",
      ),
    ),
  );
  input.focus();
}

api.listen({
  signedOut: () => {
    const before = api.key();
    api.forgetKey();
    showSignIn(before ? "The API key is not valid (any more)." : "");
  },
  reached: (there) => {
    if (there === trouble.hidden) return;
    trouble.hidden = there;
    say(trouble, there ? "" : "The connection to PixCrawler is lost. What you see may be old; trying again …");
    if (there) announce("The connection is back.");
  },
});

document.getElementById("sign-out").addEventListener("click", () => {
  api.forgetKey();
  showSignIn();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", route);
route();
