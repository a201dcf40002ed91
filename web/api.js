// The server's API, and the token it may ask for.

import { EventStream } from "./event_stream.js";
import { Problem } from "./problem.js";

const TOKEN_KEY = "lenscast.token";
const TIMEOUT_MS = 5_000;

// On a stream of events something comes every 15 s, if only a comment.
const SILENCE_MS = 40_000;

export class Api {
  #token = restoreToken();

  // The bearer token, or null. Kept for as long as this tab is open, and for no other.
  get token() {
    return this.#token;
  }

  set token(token) {
    this.#token = token;
    keepToken(token);
  }

  // All cameras with their states. Rejects with a Problem.
  async cameras() {
    // Without the list of each camera's viewers: with many of them, all asking, that would be the most of what is sent.
    const { body } = await this.#get("/api/v1/cameras?viewers=count");
    return body.cameras;
  }

  // What the server knows of a viewer's session, and when it was asked. Rejects with a Problem, 404 if it is gone.
  session(secret) {
    return this.#get(`/api/v1/sessions/${encodeURIComponent(secret)}`);
  }

  // Who gets how much of the bandwidth. Rejects with a Problem.
  async allocation() {
    const { body } = await this.#get("/api/v1/allocation");
    return body;
  }

  // What viewers' connections carry: of the `thinnest` that carry least. Rejects with a Problem.
  async viewers(thinnest) {
    const { body } = await this.#get(`/api/v1/viewers?thinnest=${thinnest}`);
    return body;
  }

  // Changes that; resolves with what it is then. Rejects with a Problem: 422 if it cannot be.
  async changeAllocation(changes) {
    const headers = { "Content-Type": "application/json" };
    const { body } = await this.#ask("/api/v1/allocation", { method: "PUT", headers, body: JSON.stringify(changes) });
    return body;
  }

  // Holds a camera up at its source, or lets it go on; resolves with what it is then. Rejects with a Problem.
  async hold(name, paused) {
    const headers = { "Content-Type": "application/json" };
    const { body } = await this.#ask(`/api/v1/streams/${encodeURIComponent(name)}`, { method: "PUT", headers, body: JSON.stringify({ paused }) });
    return body;
  }

  // The events that tell of it, { type, data }, until the server ends them or `signal` aborts. Throws a Problem.
  async *allocationEvents(signal) {
    // Browsers before 2024 lack AbortSignal.any.
    const abort = new AbortController();
    const giveUp = () => abort.abort();
    signal.addEventListener("abort", giveUp);
    let timer = setTimeout(giveUp, TIMEOUT_MS);
    try {
      signal.throwIfAborted();
      const headers = { Accept: "text/event-stream", ...this.#authorization() };
      const response = await fetch("/api/v1/allocation/events", { headers, cache: "no-store", signal: abort.signal });
      if (!response.ok) throw await Problem.of(response);
      const [reader, text, events] = [response.body.getReader(), new TextDecoder(), new EventStream()];
      for (;;) {
        clearTimeout(timer);
        timer = setTimeout(giveUp, SILENCE_MS);
        const { done, value } = await reader.read();
        if (done) return;
        yield* events.push(text.decode(value, { stream: true }));
      }
    } catch (error) {
      throw error instanceof Problem ? error : Problem.unreachable(error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      abort.abort();
    }
  }

  #get(path) {
    return this.#ask(path, {});
  }

  async #ask(path, { headers = {}, ...options }) {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const request = { ...options, headers: { ...headers, ...this.#authorization() }, cache: "no-store", signal };
    const sentAt = performance.now();
    try {
      const response = await fetch(path, request);
      const receivedAt = performance.now();
      if (!response.ok) throw await Problem.of(response);
      const body = await response.json();
      return { body, ...onTheWire(response.url, { sentAt, receivedAt }) };
    } catch (error) {
      throw error instanceof Problem ? error : Problem.unreachable(error);
    }
  }

  #authorization() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }
}

// When the last request to `url` went out and its answer began to come in. The browser's network process knows to a tenth of
// what a page sees, which waits for its own thread besides.
function onTheWire(url, { sentAt, receivedAt }) {
  const entry = performance.getEntriesByName(url, "resource").at(-1);
  // The browser keeps a limited number and then no more.
  performance.clearResourceTimings();
  const known = entry && entry.requestStart >= sentAt && entry.responseStart > entry.requestStart;
  return known ? { sentAt: entry.requestStart, receivedAt: entry.responseStart } : { sentAt, receivedAt };
}

// A browser may refuse storage; the token then lasts until the page is loaded again.
function restoreToken() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

function keepToken(token) {
  try {
    if (token) sessionStorage.setItem(TOKEN_KEY, token);
    else sessionStorage.removeItem(TOKEN_KEY);
  } catch {
    // See above.
  }
}
