// Publishes a camera of this browser's, and comes back by itself when the connection is lost.
//
// | state | means |
// |---|---|
// | `stopped` | nothing is sent; `reason` says why if nobody asked for that |
// | `connecting` | the server is being asked; `reason` says why it takes long |
// | `live` | pictures are sent |
//
// Fires `change` when the state has changed or there are new figures.

import { Backoff } from "./backoff.js";
import { Problem } from "./problem.js";
import { delay } from "./wait.js";
import { WhipSession } from "./whip.js";

const SAMPLE_MS = 1_000;

export class Publisher extends EventTarget {
  #running = null;
  #session = null;
  #bytes = null;

  constructor() {
    super();
    this.state = { state: "stopped", reason: null };
    // What is sent: bits a second, and of each layer its size and rate. Null while nothing is.
    this.figures = null;
    setInterval(() => this.#sample(), SAMPLE_MS);
  }

  // Sends `media` to the endpoint until `stop`. `options` are WhipSession.open's.
  start(endpoint, options) {
    this.stop();
    this.#running = new AbortController();
    this.#run(endpoint, options, this.#running.signal);
  }

  stop(reason = null) {
    this.#running?.abort();
    this.#running = null;
    // At once: the page may be gone before `#run` gets to it.
    this.#session?.close();
    this.#session = null;
    this.#tell("stopped", reason);
  }

  async #run(endpoint, options, signal) {
    const backoff = new Backoff();
    this.#tell("connecting", null);
    while (!signal.aborted) {
      const problem = await this.#publishOnce(endpoint, options, signal, backoff);
      if (signal.aborted) return;
      if (problem?.isPermanent || problem?.status === 401 || problem?.status === 404) return this.stop(problem.message);
      this.#tell("connecting", problem?.message ?? null);
      await delay(backoff.next(problem?.retryAfterMs), signal);
    }
  }

  // Publishes for as long as it goes well; resolves with what went wrong.
  async #publishOnce(endpoint, options, signal, backoff) {
    let session;
    try {
      session = await WhipSession.open(endpoint, { ...options, signal });
    } catch (problem) {
      return problem instanceof Problem ? problem : null;
    }
    this.#session = session;
    this.#bytes = null;
    session.connection.addEventListener("connectionstatechange", () => {
      if (session !== this.#session || session.connection.connectionState !== "connected") return;
      backoff.reset();
      this.#tell("live", null);
    });
    const problem = await session.ended;
    if (session === this.#session) {
      this.#session = null;
      this.figures = null;
      session.close();
    }
    return problem;
  }

  async #sample() {
    const session = this.#session;
    if (!session || this.state.state !== "live") return;
    const report = [...(await session.sender.getStats()).values()];
    if (session !== this.#session) return;
    const sent = report.filter(({ type }) => type === "outbound-rtp");
    const bytes = sent.reduce((sum, { bytesSent = 0 }) => sum + bytesSent, 0);
    const now = performance.now();
    const before = this.#bytes;
    this.#bytes = { bytes, now };
    const codecs = new Map(report.filter(({ type }) => type === "codec").map((codec) => [codec.id, codec.mimeType]));
    this.figures = {
      bitsPerSecond: before ? ((bytes - before.bytes) * 8000) / (now - before.now) : null,
      codec: codecs.get(sent[0]?.codecId) ?? null,
      layers: sent
        .map(({ rid = "", frameWidth = 0, frameHeight = 0, framesPerSecond = 0 }) => ({ rid, frameWidth, frameHeight, framesPerSecond }))
        .filter(({ framesPerSecond }) => framesPerSecond > 0)
        .sort((a, b) => a.frameWidth - b.frameWidth),
    };
    this.dispatchEvent(new Event("change"));
  }

  #tell(state, reason) {
    if (state !== "live") this.figures = null;
    this.state = { state, reason };
    this.dispatchEvent(new Event("change"));
  }
}
