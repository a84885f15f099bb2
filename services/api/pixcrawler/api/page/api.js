// The API as the page uses it: with the key, and every failure as an error with a sentence.

export class ApiError extends Error {
  /** `status` is 0 where there was no answer; `problem` is the body (RFC 9457), if there is one. */
  constructor(status, message, problem = {}) {
    super(message);
    this.status = status;
    this.problem = problem;
  }

  get away() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

const KEY = "pixcrawler.key";
const listeners = { signedOut: () => {}, reached: () => {} };
let current = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";

/** What is called when the key does not do, and after every answer or its absence. */
export function listen(handlers) {
  Object.assign(listeners, handlers);
}

export const key = () => current;

/** From now on with this key; `keep` beyond the end of this tab. */
export function useKey(text, { keep = false } = {}) {
  current = text;
  (keep ? localStorage : sessionStorage).setItem(KEY, text);
}

export function forgetKey() {
  current = "";
  localStorage.removeItem(KEY);
  sessionStorage.removeItem(KEY);
}

/** The answer to a request. */
export async function send(path, { method = "GET", body, headers = {}, query = {}, signal } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const used = current;
  const all = { Authorization: `Bearer ${used}`, ...headers };
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url, {
      method, headers: all, signal, credentials: "omit", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    listeners.reached(false);
    throw new ApiError(0, "PixCrawler cannot be reached.");
  }
  listeners.reached(true);
  if (response.ok || response.status === 304) return response;
  const problem = await response.json().catch(() => ({}));
  const error = new ApiError(response.status, problem.detail || problem.title || `Answer ${response.status}`, problem);
  if (response.status === 401 && used === current) listeners.signedOut();
  throw error;
}

const json = async (path, options) => {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
};

export const get = (path, query = {}, signal) => json(path, { query, signal });
export const post = (path, body, { query, headers } = {}) => json(path, { method: "POST", body, query, headers });
export const remove = (path) => json(path, { method: "DELETE" });

const unanswered = new Map(); // what was asked for and not answered so far, and the key of each

/** Does `ask(headers)` with a key for `what`: asked for again because no answer came, it has the same. */
async function once(what, ask) {
  if (!unanswered.has(what)) unanswered.set(what, unique());
  try {
    const answer = await ask({ "Idempotency-Key": unanswered.get(what) });
    unanswered.delete(what);
    return answer;
  } catch (error) {
    if (error.status > 0 && error.status < 500) unanswered.delete(what); // it was refused: nothing was done
    throw error;
  }
}

/** A POST without a body that is done once, however often it has to be pressed until it is answered. */
export const postOnce = (path, query = {}) =>
  once(`${path} ${JSON.stringify(query)}`, (headers) => post(path, undefined, { query, headers }));

/** Sends a file as the body, to be taken once; `onProgress` is told the bytes that have gone. */
export const upload = (path, file, { query = {}, onProgress = () => {}, signal } = {}) =>
  once(`${path} ${JSON.stringify([query, file.name, file.size, file.lastModified])}`, (headers) => sendFile(path, file, { query, headers, onProgress, signal }));

// `fetch` does not tell how much has gone.
function sendFile(path, file, { query, headers, onProgress, signal }) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  const used = current;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("Authorization", `Bearer ${used}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    request.addEventListener("abort", () => reject(new ApiError(0, "It was stopped.")));
    // A file that was changed or removed since it was chosen ends here, too.
    request.addEventListener("error", () => reject(new ApiError(0, "PixCrawler cannot be reached, or the file cannot be read.")));
    request.addEventListener("load", () => {
      const answer = request.response ?? {};
      if (request.status < 300) return resolve(answer);
      if (request.status === 401 && used === current) listeners.signedOut();
      reject(new ApiError(request.status, answer.detail || answer.title || `Answer ${request.status}`, answer));
    });
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** An image as an address that only this page knows; let go of it with `URL.revokeObjectURL`. */
export async function picture(path, signal) {
  const response = await send(path, { signal });
  return URL.createObjectURL(await response.blob());
}

/** Random enough to be nobody else's. `crypto.randomUUID` is missing where there is no TLS. */
export function unique() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
