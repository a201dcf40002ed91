// The server's API, and the token it may ask for.

import { Problem } from "./problem.js";

const TOKEN_KEY = "lenscast.token";
const TIMEOUT_MS = 5_000;

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

  async #get(path) {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    const request = { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
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
