// One camera, played: connects, measures, notices when pictures cease, and comes back by itself.
//
// | state | means |
// |---|---|
// | `paused` | nobody looks |
// | `starting`, `degraded`, `stalled`, `failed`, `stopped` | what the server says of the camera; `reason` says why |
// | `offline`, `silent`, `paused` | what the server says of a stream that comes in |
// | `connecting` | no picture yet, or none yet of what was just switched on |
// | `live` | pictures come; `reason` says so where they are smaller than what was chosen |
// | `off` | the camera's weight is 0: it sends nothing |
// | `squeezed` | it sends nothing, since its minimum does not fit into the bandwidth |
// | `reconnecting` | they came, and ceased |
// | `failed` | this browser cannot play it; `reason` says why |
//
// A picture that stands still is never called live: who steers by it must know. Fires `change` when the state may have
// changed or there are new figures. Whoever owns a player calls `tick` a few times a second.

import { Backoff } from "./backoff.js";
import { CaptureClock } from "./clock.js";
import { LatencyMeter } from "./latency.js";
import { Problem } from "./problem.js";
import { Reception } from "./reception.js";
import { delay, event } from "./wait.js";

// Without a new picture for this long, or for some frames of a slow camera, the last one is called stale.
const STALE_MS = 1_000;
const STALE_FRAMES = 3;

// The same for one that is known to send nothing.
const WITHHELD_STALE_MS = 250;

// Stale for this long although the camera is live: something is stuck, and a new session is the cure.
const STUCK_MS = 4_000;

const SAMPLE_MS = 1_000;

// How often the server is asked for its clocks: some times at first, since the quickest answer of several counts, and
// now and then later, since clocks drift. While no pictures come: whether it still knows us.
const FIRST_QUESTIONS = 4;
const FIRST_QUESTION_MS = 300;
const QUESTION_MS = 10_000;
const STALE_QUESTION_MS = 1_000;

export class Player extends EventTarget {
  #api;
  #serverClock;
  // Whom it asks for sessions, which it may share with other players.
  #sharing;
  #camera;
  #video;
  // The API's newest word on what the camera may send; null if it said none.
  #allocation = null;
  // The server's newest word on the session: what the connection carries does not suffice for this camera.
  #isHeld = false;
  // When it was last allowed to send again, or another layer was chosen: pictures are about to come.
  #releasedAt = -Infinity;
  // The spatial layer to play, 0 the smallest; null: the largest.
  #layer = null;
  // Present while it is to play; aborting it is how it is paused.
  #playing = null;
  #session = null;
  // Ends the session with a Problem.
  #lose = null;
  // Why there is no session; null if there is one, or never was.
  #problem = null;
  // What the browser says against playing without a tap.
  #blocked = false;
  #reception = new Reception();
  #figures = null;
  #latency = new LatencyMeter();
  #captureClock = null;
  #sampledAt = -Infinity;
  #askedAt = -Infinity;
  #questions = 0;
  #decoded = 0;
  // When the last picture came, or it was last right to start waiting for one.
  #progressAt = 0;
  // When the session was opened.
  #begunAt = 0;
  #pictureAt = -Infinity;
  #firstPictureMs = null;
  #sessions = 0;
  #pictures = 0;
  // The state when its owner was last told that it may have changed.
  #toldState = null;

  // `camera` is the API's description of it, `sharing` what opens sessions for all players of a page.
  constructor({ api, serverClock, sharing, camera, video }) {
    super();
    this.#sharing = sharing;
    this.#api = api;
    this.#serverClock = serverClock;
    this.#camera = camera;
    this.#video = video;
    if (video.requestVideoFrameCallback) this.#watchPictures();
  }

  get camera() {
    return this.#camera;
  }

  // The state and its reason, as a person is to be told; `canRetry` if `retry` may help.
  get state() {
    const now = performance.now();
    if (this.#isFresh(now)) return { state: "live", reason: this.#isSmaller ? "A smaller picture than chosen: that size does not fit into the bandwidth now." : null };
    if (this.#camera.state !== "live") return { state: this.#camera.state, reason: this.#camera.reason ?? null };
    if (!this.#playing) return { state: "paused", reason: null };
    if (this.#problem?.isPermanent) return { state: "failed", reason: this.#problem.message, canRetry: true };
    if (this.#isWithheld) return this.#withheld();
    if (this.#pictures === 0 || now - this.#releasedAt < STALE_MS) return { state: "connecting", reason: this.#problem?.message ?? null };
    return { state: "reconnecting", reason: this.#problem?.message ?? `No picture for ${this.#staleSeconds(now)} s.` };
  }

  // All there is to know, to show and for tests.
  get view() {
    const now = performance.now();
    return Object.freeze({
      name: this.#camera.name,
      ...this.state,
      blocked: this.#blocked,
      figures: this.#session ? this.#figures : null,
      latencyMs: { p50: this.#latency.quantile(0.5, now), p95: this.#latency.quantile(0.95, now) },
      clockErrorMs: this.#serverClock.errorAt(now),
      firstPictureMs: this.#firstPictureMs,
      pictures: this.#pictures,
      sessions: this.#sessions,
      sessionSecret: this.#session?.secret ?? null,
      layer: this.#layer,
    });
  }

  // The API's newest description of the camera.
  describe(camera) {
    const changed = camera.state !== this.#camera.state || camera.reason !== this.#camera.reason;
    const another = camera.codec !== null && camera.codec !== this.#camera.codec;
    this.#camera = camera;
    if (another) this.retry();
    if (changed) this.#changed("camera");
  }

  // What the camera may send, as the API describes it.
  allocate(allocation) {
    const wasWithheld = this.#isWithheld;
    this.#allocation = allocation;
    if (wasWithheld && !this.#isWithheld) this.#releasedAt = performance.now();
    this.#changed();
  }

  // Plays that spatial layer, 0 the smallest; null: the largest.
  set layer(layer) {
    if (this.#layer === layer) return;
    this.#layer = layer;
    this.#releasedAt = performance.now();
    if (this.#session?.canChooseLayer) this.#choose(this.#session, layer);
    else if (this.#session) this.#lose(null);
    this.retry();
  }

  // Has the session go over to another layer; if it cannot, a new one does.
  async #choose(session, layer) {
    await session.chooseLayer(layer).catch(() => {
      if (session === this.#session && layer === this.#layer) this.#lose(null);
    });
  }

  play() {
    if (this.#playing) return;
    this.#playing = new AbortController();
    this.#run(this.#playing.signal);
    this.#changed();
  }

  pause() {
    this.#playing?.abort();
    this.#playing = null;
    // At once, not when `#run` gets to it: the page may be gone by then, or be playing again.
    if (this.#session) this.#end(this.#session);
    this.#changed();
  }

  // Tries again after what was called permanent, and starts a picture that the browser wants a tap for.
  retry() {
    this.#startVideo();
    this.dispatchEvent(new Event("retry"));
  }

  // Looks whether pictures come, and takes a reading when one is due.
  tick(now) {
    // Some states begin with time alone.
    if (this.state.state !== this.#toldState) this.#changed();
    const session = this.#session;
    if (!session) return;
    const stale = !this.#isFresh(now);
    // The camera's own fault is no reason for a new session, nor is its having to be silent: this one goes on when the camera
    // does.
    const isSilent = this.#camera.state !== "live" || this.#isWithheld;
    if (!stale || isSilent || this.#blocked) this.#progressAt = Math.max(this.#progressAt, now - STALE_MS);
    else if (now - this.#progressAt > STUCK_MS) this.#lose(new Problem(0, "No pictures come, although the camera is live."));
    if (now - this.#sampledAt >= SAMPLE_MS) {
      this.#sampledAt = now;
      this.#sample(session);
    }
    const pause = this.#questions < FIRST_QUESTIONS ? FIRST_QUESTION_MS : stale ? STALE_QUESTION_MS : QUESTION_MS;
    if (now - this.#askedAt >= pause) {
      this.#askedAt = now;
      this.#ask(session);
    }
  }

  async #run(signal) {
    const backoff = new Backoff();
    while (!signal.aborted) {
      while (this.#camera.state !== "live" && !signal.aborted) await event(this, "camera", signal);
      if (signal.aborted) return;
      const problem = await this.#playOnce(signal, backoff);
      if (signal.aborted) return;
      this.#problem = problem;
      this.#changed();
      if (problem === null) continue;
      if (problem.isPermanent) await event(this, "retry", signal);
      // Who was lost together comes again together.
      else await delay(problem.againMs ?? backoff.next(problem.retryAfterMs), signal);
    }
  }

  // Plays for as long as it goes well; resolves with what went wrong, or null if another layer is wanted.
  async #playOnce(signal, backoff) {
    const lost = new Promise((resolve) => {
      this.#lose = resolve;
    });
    const layer = this.#layer;
    let session;
    try {
      session = await this.#sharing.open(this.#camera, { layer, token: this.#api.token, signal });
    } catch (problem) {
      return problem;
    }
    this.#begin(session);
    if (layer !== this.#layer) this.#choose(session, this.#layer);
    const problem = await Promise.race([session.ended, lost]);
    if (session !== this.#session) return null;
    if (this.#firstPictureMs !== null) backoff.reset();
    this.#end(session, { isOver: true });
    return problem;
  }

  #begin(session) {
    this.#session = session;
    this.#sessions += 1;
    this.#problem = null;
    this.#reception = new Reception();
    this.#figures = null;
    this.#latency.clear();
    this.#firstPictureMs = null;
    this.#progressAt = this.#begunAt = performance.now();
    this.#sampledAt = this.#askedAt = -Infinity;
    this.#questions = 0;
    this.#isHeld = false;
    this.#decoded = session.isResumed ? null : 0;
    this.#video.srcObject = session.stream;
    this.#startVideo();
    this.#changed();
  }

  // The last picture stays where it is: better than none, and the state says what it is worth.
  #end(session, why) {
    this.#session = null;
    this.#lose = null;
    this.#captureClock = null;
    this.#pictureAt = -Infinity;
    session.close(why);
  }

  // Muted video may play by itself, except where the system saves power: then somebody has to tap.
  async #startVideo() {
    let blocked = false;
    try {
      if (this.#video.srcObject) await this.#video.play();
    } catch (error) {
      // Anything else is a play() that another stream has overtaken.
      blocked = error.name === "NotAllowedError";
    }
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    this.#changed();
  }

  #watchPictures() {
    const shown = (now, { rtpTimestamp, expectedDisplayTime }) => {
      this.#video.requestVideoFrameCallback(shown);
      if (!this.#session) return;
      this.#picture(now);
      const displayed = this.#serverClock.unixAt(expectedDisplayTime);
      if (rtpTimestamp === undefined || displayed === null || !this.#captureClock) return;
      this.#latency.add(now, displayed - this.#captureClock.unixMsOf(rtpTimestamp));
    };
    this.#video.requestVideoFrameCallback(shown);
  }

  // A new picture; it counts as fresh for `holdsMs` longer than others.
  #picture(now, holdsMs = 0) {
    const fresh = this.#isFresh(now);
    this.#pictures += 1;
    this.#pictureAt = this.#progressAt = now + holdsMs;
    this.#firstPictureMs ??= now - this.#session.offeredAt;
    if (!fresh) this.#changed();
  }

  async #sample(session) {
    const report = await session.receiver.getStats();
    if (session !== this.#session) return;
    this.#figures = this.#reception.read(report) ?? this.#figures;
    const decoded = this.#figures?.framesDecoded ?? 0;
    // In a hidden tab, and in browsers that do not know how, pictures do not tell of themselves.
    const silent = document.hidden || !this.#video.requestVideoFrameCallback;
    if (silent && this.#decoded !== null && decoded > this.#decoded) this.#picture(performance.now(), SAMPLE_MS);
    this.#decoded = decoded;
    this.#changed();
  }

  async #ask(session) {
    this.#questions += 1;
    try {
      const { body, sentAt, receivedAt } = await this.#api.session(session.secret);
      this.#serverClock.add(sentAt, receivedAt, body.nowUnixMs);
      if (session !== this.#session) return;
      const isHeld = body.connection?.cameras.some(({ name, held }) => name === this.#camera.name && held) ?? false;
      if (this.#isHeld && !isHeld) this.#releasedAt = performance.now();
      this.#isHeld = isHeld;
      const medium = body.media.find(({ mediaId }) => mediaId === session.mediaId);
      if (medium?.captureClock) this.#captureClock = new CaptureClock(medium.captureClock);
      if (medium?.ended) this.#lose(new Problem(0, "The server ended the session."));
    } catch (problem) {
      // The camera list tells of a server that does not answer. One that does not know us has been started anew.
      if (problem.status !== 404 || session !== this.#session) return;
      this.#serverClock.forget();
      session.endedByServer();
    }
  }

  #isFresh(now) {
    const fps = this.#camera.stats.framesPerSecond;
    const framesMs = fps > 0 ? (STALE_FRAMES * 1000) / fps : 0;
    const staleMs = this.#isWithheld ? Math.min(STALE_MS, Math.max(WITHHELD_STALE_MS, framesMs)) : Math.max(STALE_MS, framesMs);
    return this.#session !== null && now - this.#pictureAt <= staleMs;
  }

  // True if the camera sends nothing because it is not to.
  get #isWithheld() {
    return this.#isHeld || this.#allocation?.weight === 0 || this.#allocation?.state === "paused";
  }

  // True if the chosen layer is given no bits while a smaller one is: the server sends that one. Before a session has asked for
  // the chosen one, nobody has.
  get #isSmaller() {
    const { state, layers = [] } = this.#allocation ?? {};
    const chosen = this.#layer ?? layers.length - 1;
    const asked = this.#session !== null && performance.now() - Math.max(this.#begunAt, this.#releasedAt) > STALE_MS;
    return asked && state === "allocated" && layers[chosen]?.targetKbps === 0 && layers.slice(0, chosen).some(({ targetKbps }) => targetKbps > 0);
  }

  #withheld() {
    const { weight, minKbps } = this.#allocation ?? {};
    if (weight === 0) return { state: "off", reason: "Its share of the bandwidth is 0: it sends nothing." };
    if (this.#isHeld) return { state: "squeezed", reason: "The connection carries too little for it too." };
    return { state: "squeezed", reason: `Its minimum of ${minKbps} kb/s, with headers on top, does not fit into the bandwidth.` };
  }

  #staleSeconds(now) {
    return Math.max(1, Math.round((now - this.#progressAt) / 1000));
  }

  #changed(also) {
    this.#toldState = this.state.state;
    if (also) this.dispatchEvent(new Event(also));
    this.dispatchEvent(new Event("change"));
  }
}
