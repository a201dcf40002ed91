// What a WHIP and a WHEP client have in common (RFC 9725): an offer is posted to an endpoint, and the session that comes of it
// lives at an address of its own until it is deleted.
//
// A session is for one connection. It does not come back by itself; `player.js` and `publisher.js` do that.

import { iceServers, parseLinks } from "./link_header.js";
import { Problem } from "./problem.js";

const SDP = "application/sdp";

// The answer to the offer, and ICE with DTLS after it, may take this long.
const ANSWER_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 10_000;

// ICE calls a connection disconnected after some seconds without an answer, and often finds back. Longer than this is
// too long for somebody who watches: a new session takes less than a second.
const DISCONNECTED_TIMEOUT_MS = 3_000;

export class Session {
  #token;
  #resolveEnded;
  #left = false;
  #timer;

  // Offers what `connection` has been given to send or receive, and resolves when the answer is applied, before media flow.
  // `signal` abandons the attempt. Rejects with a Problem, or with the signal's reason; it is closed then.
  async begin(endpoint, signal = null) {
    // Browsers before 2024 lack AbortSignal.any.
    const abort = new AbortController();
    const giveUp = () => abort.abort(signal?.aborted ? signal.reason : new DOMException("no answer in time", "TimeoutError"));
    const timer = setTimeout(giveUp, ANSWER_TIMEOUT_MS);
    signal?.addEventListener("abort", giveUp);
    try {
      signal?.throwIfAborted();
      await this.#negotiate(endpoint, abort.signal);
      signal?.throwIfAborted();
      return this;
    } catch (error) {
      this.close();
      if (signal?.aborted) throw signal.reason;
      throw error instanceof Problem ? error : new Problem(0, error.message, { cause: error });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
    }
  }

  constructor(token) {
    this.#token = token;
    this.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    // The session's own address, from the answer: whoever has it can end the session.
    this.location = null;
    // What else the server offers, from the header Link.
    this.links = [];
    // When the offer was sent, on performance.now()'s clock.
    this.offeredAt = null;
    // True once media could have come.
    this.wasConnected = false;
    // Resolves when the session is over: with a Problem if it was lost, with null after `close`.
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.connection.addEventListener("connectionstatechange", () => this.#followConnection());
  }

  // The secret part of its address, under which the API tells of it.
  get secret() {
    return this.location?.pathname.split("/").pop() ?? null;
  }

  // Ends the session here and on the server. Safe while the page goes away.
  close() {
    clearTimeout(this.#timer);
    this.connection.close();
    this.#leave();
    this.#resolveEnded(null);
  }

  // The server is known to have ended it: there is nothing to leave any more.
  endedByServer() {
    this.#left = true;
    this.#lose("The server ended the session.");
  }

  // The offer is sent before it is applied: candidates are only gathered once the answer has told of STUN and TURN
  // servers (RFC 9725 §4.6), and the server learns our addresses from our checks.
  async #negotiate(endpoint, signal) {
    const offer = await this.connection.createOffer();
    const headers = { "Content-Type": SDP, Accept: SDP, ...this.authorization };
    this.offeredAt = performance.now();
    const request = { method: "POST", headers, body: offer.sdp, signal, cache: "no-store" };
    const response = await fetch(endpoint, request).catch((error) => {
      throw Problem.unreachable(error);
    });
    if (response.status !== 201) throw await Problem.of(response);
    const location = response.headers.get("location");
    this.location = location && new URL(location, response.url);
    const sdp = await response.text();
    signal.throwIfAborted();
    this.links = parseLinks(response.headers.get("link")).map((link) => ({ ...link, target: link.target && absolute(link.target, response.url) }));
    const servers = iceServers(this.links);
    if (servers.length > 0) this.connection.setConfiguration({ ...this.connection.getConfiguration(), iceServers: servers });
    await this.connection.setLocalDescription(offer);
    await this.connection.setRemoteDescription({ type: "answer", sdp });
    // The server's goodbye: the connection itself notices only that nothing comes any more, and much later.
    const { transport } = this.end;
    transport?.addEventListener("statechange", () => {
      if (transport.state === "closed") this.endedByServer();
    });
    this.#endUnless("connected", CONNECT_TIMEOUT_MS, "No media connection: is the server's UDP port reachable?");
  }

  #followConnection() {
    switch (this.connection.connectionState) {
      case "connected":
        this.wasConnected = true;
        clearTimeout(this.#timer);
        break;
      case "disconnected":
        this.#endUnless("connected", DISCONNECTED_TIMEOUT_MS, "The media connection is interrupted.");
        break;
      case "failed":
        this.#lose("The media connection failed.");
        break;
      case "closed":
        this.endedByServer();
        break;
    }
  }

  #endUnless(state, timeoutMs, reason) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.connection.connectionState !== state) this.#lose(reason);
    }, timeoutMs);
  }

  #lose(reason) {
    clearTimeout(this.#timer);
    this.#resolveEnded(new Problem(0, reason));
  }

  // `keepalive`, so that it goes out even when the page is being left. Whether it arrives changes nothing here: the server
  // notices a silent peer by itself.
  #leave() {
    if (this.#left || !this.location) return;
    this.#left = true;
    fetch(this.location, { method: "DELETE", headers: this.authorization, keepalive: true }).catch(() => {});
  }

  // The headers that a request about it needs.
  get authorization() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }
}

// STUN and TURN servers stay as they are; addresses of the server's own may be relative.
function absolute(target, base) {
  return /^(stun|turn)s?:/i.test(target) ? target : new URL(target, base).href;
}
