// Making elements. What comes from others goes in as text, never as markup.

/** An element. `on` maps events to listeners; null and false leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A link to somewhere else, if it is one that may be followed; otherwise only its text. */
export function outside(url, text = url, attributes = {}) {
  const safe = webAddress(url);
  if (!safe) return h("span", attributes, text);
  return h("a", { ...attributes, href: safe, rel: "noopener noreferrer", target: "_blank", title: safe }, text);
}

/** The address if it is http or https, null for everything else. */
export function webAddress(url) {
  try {
    const parsed = new URL(String(url));
    return parsed.protocol === "http:" || parsed.protocol === "https:" ? parsed.href : null;
  } catch {
    return null;
  }
}

/** Sets text only where it changes, so that what is shown again is not announced again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells those who cannot see the page, politely. */
export function announce(text) {
  say(document.getElementById("spoken"), text);
}

// ---- numbers and times

const NUMBER = new Intl.NumberFormat("en");
const SHARE = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });

export const count = (value) => NUMBER.format(value ?? 0);
export const percent = (value) => `${SHARE.format(value ?? 0)}\u00a0%`; // never apart
export const share = (part, whole) => percent(whole ? (100 * part) / whole : 0);
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A size in bytes, for people. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [size, unit] = [value ?? 0, 0];
  while (size >= 1000 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** A length of time in seconds, for people. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.round((seconds % 3600) / 60)} min` : `${Math.round(hours / 24)} days`;
}

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment, in the reader's own time zone. */
export function moment(text) {
  if (!text) return h("span", { class: "dim" }, "–");
  return h("time", { datetime: text, title: text }, MOMENT.format(new Date(text)));
}

// ---- pieces that several views use

const STATUS = {
  pending: "waiting",
  running: "running",
  processing: "in progress",
  completed: "completed",
  incomplete: "incomplete",
  failed: "failed",
  cancelled: "cancelled",
};

export const TERMINAL = new Set(["completed", "incomplete", "failed", "cancelled"]);

/** A job's or a chunk's status. */
export function badge(status) {
  return h("span", { class: `badge ${status in STATUS ? status : ""}` }, STATUS[status] ?? status);
}

/** A bar with its name and its numbers; `set(done, total, text)` moves it. */
export function bar(name, { kind = "", hint = "" } = {}) {
  const fill = h("span", { class: "fill" });
  const text = h("span", { class: "numbers" });
  const track = h("span", { class: "track", role: "progressbar", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const element = h("div", { class: `bar ${kind}` }, h("span", { class: "name", title: hint || null }, name), track, text);
  const set = (done, total, shown) => {
    const value = total ? Math.min(Math.max((100 * done) / total, 0), 100) : 0;
    fill.style.setProperty("width", `${value}%`);
    track.setAttribute("aria-valuenow", value.toFixed(1));
    track.setAttribute("aria-valuetext", shown);
    say(text, shown);
  };
  return { element, set };
}

/** A table that scrolls sideways where there is no room, and can be reached by keyboard for that. */
export function table(caption, columns, rows, attributes = {}) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      attributes,
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: (!(column instanceof Node) && column.class) || null }, (!(column instanceof Node) && column.name) || column)))),
      h("tbody", {}, rows),
    ),
  );
}

/**
 * Children by name. One that is wanted again stays the same element, so that what somebody does with
 * it just then is not lost: a press, the focus, a selection. The order of names never changes.
 */
export function lasting(parent) {
  const here = new Map();
  return (names, make) => {
    for (const [name, element] of here) {
      if (names.includes(name)) continue;
      element.remove();
      here.delete(name);
    }
    names.forEach((name, at) => {
      if (here.has(name)) return;
      here.set(name, make(name));
      parent.insertBefore(here.get(name), parent.children[at] ?? null);
    });
    return here;
  };
}

/** Whether somebody is at work in it: it has the focus, is pressed, or was opened. */
export const inUse = (element) => element.contains(document.activeElement) || element.querySelector("details[open], :active") !== null;

/** A button that brings more. It stays the same one, so that it can be pressed again without looking for it. */
export function moreButton(act, text = "Show more") {
  let underWay = false;
  const press = async () => {
    if (underWay) return;
    underWay = true;
    working(button, true);
    try {
      await act();
    } finally {
      underWay = false;
      working(button, false);
    }
  };
  const button = h("button", { type: "button", on: { click: press } }, text);
  const element = h("p", { class: "more", hidden: true }, button);
  const show = (there, now = text) => {
    if (!there && button === document.activeElement) element.parentElement.querySelector(".scroll")?.focus({ preventScroll: true });
    element.hidden = !there;
    say(button, now);
  };
  return { element, show };
}

/** Marks a button that does nothing now, or whose work is under way. Disabling it would lose the focus for good. */
export function working(button, now) {
  if (now) button.setAttribute("aria-disabled", "true");
  else button.removeAttribute("aria-disabled");
}

/** Text that stands where nothing is. */
export function nothing(title, text, ...more) {
  return h("div", { class: "nothing" }, h("p", { class: "large" }, title), text ? h("p", {}, text) : null, more);
}

/** What went wrong, and a way to try again. */
export function failure(error, again) {
  return h(
    "div",
    { class: "banner trouble", role: "alert" },
    h("p", {}, error.message),
    again ? h("button", { type: "button", on: { click: again } }, "Try again") : null,
  );
}

export const waiting = (text = "Loading …") => h("p", { class: "dim", role: "status" }, text);

/** Asks before something that cannot be taken back; the answer, or null. */
export function ask({ title, text, confirm, danger = false, field = null }) {
  return new Promise((resolve) => {
    const close = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const input = field && h("input", { id: "asked", type: "number", min: 1, step: 1, required: true, value: field.value, inputmode: "numeric" });
    const form = h(
      "form",
      { on: { submit: (event) => { event.preventDefault(); close(input ? Number(input.value) : true); } } },
      h("h2", { id: "asking" }, title),
      h("p", {}, text),
      field ? h("p", { class: "field" }, h("label", { for: "asked" }, field.label), input) : null,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "submit", class: danger ? "danger" : "main" }, confirm),
        h("button", { type: "button", autofocus: !field, on: { click: () => close(null) } }, "Back"),
      ),
    );
    const dialog = h("dialog", { "aria-labelledby": "asking", on: { cancel: (event) => { event.preventDefault(); close(null); } } }, form);
    document.body.append(dialog);
    dialog.showModal();
    if (input) input.select();
  });
}
