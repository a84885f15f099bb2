// What was kept, as pictures. Each is fetched when it comes into sight, with the key.

import * as api from "./api.js";
import { TERMINAL, bytes, count, failure, h, moreButton, nothing, outside, plural, waiting } from "./dom.js";

const PAGE = 48;
const AT_ONCE = 4;
const LOOK_MS = 4000;
const UNSHOWN = new Set(["tiff"]); // no browser but one shows them

/** A wall of pictures; `show` adds those that are not there yet. */
export function thumbnails(place, signal) {
  const wall = h("ul", { class: "wall" });
  const known = new Set();
  const queue = [];
  const addresses = [];
  let busy = 0;

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      queue.push(entry.target);
    }
    pump();
  }, { rootMargin: "300px" });

  async function pump() {
    while (busy < AT_ONCE && queue.length && !signal.aborted) {
      busy += 1;
      load(queue.shift()).finally(() => {
        busy -= 1;
        pump();
      });
    }
  }

  async function load(frame) {
    try {
      const address = await api.picture(frame.dataset.path, signal);
      addresses.push(address);
      const image = frame.querySelector("img");
      image.addEventListener("error", () => frame.replaceChildren(h("span", { class: "dim" }, frame.dataset.format)));
      image.src = address;
    } catch {
      frame.replaceChildren(h("span", { class: "dim" }, "not there"));
    }
  }

  signal.addEventListener("abort", () => {
    seen.disconnect();
    addresses.forEach((address) => URL.revokeObjectURL(address));
  });

  return {
    get size() {
      return known.size;
    },
    show(images) {
      for (const image of images) {
        if (known.has(image.path)) continue;
        known.add(image.path);
        wall.append(picture(image, seen));
      }
      if (known.size && !wall.isConnected) place.replaceChildren(wall);
    },
  };
}

function picture(image, seen) {
  const title = image.title || image.keyword || "an image";
  const shown = UNSHOWN.has(image.format)
    ? h("div", { class: "frame" }, h("span", { class: "dim" }, image.format))
    : h("div", { class: "frame", "data-path": image.path, "data-format": image.format }, h("img", { alt: title, decoding: "async" }));
  if (shown.dataset.path) seen.observe(shown);
  return h(
    "li",
    {},
    shown,
    h("div", { class: "title" }, outside(image.landing_url || image.url, title)),
    h("div", { class: "hint" }, [image.creator, image.license || "licence not stated"].filter(Boolean).join(" · ")),
    h("div", { class: "hint" }, `${count(image.width)} × ${count(image.height)} · ${bytes(image.bytes)}`),
  );
}

/** The tab with all of them. */
export function showImages(body, { jobId, progress, signal }) {
  const place = h("div", {}, waiting());
  const number = h("p", { class: "dim" });
  const more = moreButton(() => load());
  const gallery = thumbnails(place, signal);
  let next = null;
  let looked = 0;
  let loading = false;
  body.replaceChildren(h("h2", {}, "Kept images"), number, place, more.element);

  async function load() {
    if (loading) return;
    loading = true;
    looked = Date.now();
    try {
      const before = gallery.size;
      do {
        const page = await api.get(`/v1/jobs/${jobId}/images`, { limit: PAGE, cursor: next }, signal);
        gallery.show(page.items);
        const whole = page.next_cursor !== null;
        if (whole) next = page.next_cursor;
        more.show(whole);
        if (!whole) break;
      } while (gallery.size - before < PAGE / 2);
      if (!gallery.size) place.replaceChildren(empty());
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(failure(error, load));
    } finally {
      loading = false;
    }
  }

  const empty = () => (TERMINAL.has(progress().status) ? nothing("No image was kept") : nothing("Nothing is packed yet", "Images appear here chunk by chunk."));

  function update(now) {
    number.textContent = `${plural(now.images.valid, "image")}, ${bytes(now.images.bytes)}`;
    const waits = gallery.size < now.images.valid && more.element.hidden;
    const over = TERMINAL.has(now.status);
    if (over && waits) next = null; // chunks do not end in order: some may stand before what was seen
    if (waits && (over || Date.now() - looked > LOOK_MS)) load();
  }

  load();
  number.textContent = plural(progress().images.valid, "image");
  return { update };
}
