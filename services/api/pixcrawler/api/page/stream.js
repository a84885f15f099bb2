// Server-Sent Events over `fetch`, since `EventSource` cannot send a key. A stream that breaks off,
// or says nothing for longer than its heartbeats allow, is opened again where it was.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

import { send } from "./api.js";

const SILENCE_MS = 40_000; // the server says something every 15 s
const LONGEST_MS = 15_000;

/** Splits a stream into events; `feed` takes text in pieces of any size. */
export class EventParser {
  constructor(onEvent) {
    this.onEvent = onEvent;
    this.rest = "";
    this.lastId = "";
    this.retryMs = null;
    this.clear();
  }

  clear() {
    this.name = "";
    this.data = [];
  }

  feed(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent({ name: this.name || "message", data: this.data.join("\n"), id: this.lastId });
      this.clear();
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
  }
}

/**
 * Follows a job until its round is over, it is gone, or `signal` says stop.
 * `onProgress(progress)` at every change; `onState` is told "live", "lost", "over" or "gone".
 */
export async function follow(jobId, { onProgress, onState, signal }) {
  let ended = null;
  const parser = new EventParser(({ name, data }) => {
    if (name === "deleted") ended = "gone";
    if (name === "finished") ended = "over";
    if (name === "progress" || name === "finished") onProgress(JSON.parse(data));
  });
  for (let failures = 0; !signal.aborted && !ended; ) {
    const silence = new Silence(signal);
    try {
      const headers = { Accept: "text/event-stream", ...(parser.lastId ? { "Last-Event-ID": parser.lastId } : {}) };
      const response = await send(`/v1/jobs/${jobId}/events`, { headers, signal: silence.signal });
      if (response.status === 204) return onState("over");
      onState("live");
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || ended) break;
        silence.broken();
        failures = 0;
        parser.feed(decoder.decode(value, { stream: true }));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404) return onState("gone");
      if (error.status === 401 || error.status === 403) return;
    } finally {
      silence.end();
    }
    parser.rest = "";
    parser.clear();
    if (ended || signal.aborted) break;
    onState("lost");
    const base = parser.retryMs ?? 2000;
    await pause(Math.min(base * 2 ** failures, LONGEST_MS) * (0.75 + Math.random() / 2), signal);
    failures += 1;
  }
  if (ended) onState(ended);
}

/** Ends a request that says nothing, or whose reader has left. */
class Silence {
  constructor(outer) {
    this.outer = outer;
    this.controller = new AbortController();
    this.abort = () => this.controller.abort();
    this.signal = this.controller.signal;
    outer.addEventListener("abort", this.abort);
    this.broken();
  }

  broken() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.abort, SILENCE_MS);
  }

  end() {
    clearTimeout(this.timer);
    this.outer.removeEventListener("abort", this.abort);
    this.abort();
  }
}

/** Waits; not when the network is back, or the reader has left. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    addEventListener("online", over);
    signal.addEventListener("abort", over);
  });
}
