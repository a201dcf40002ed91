// One camera on the page: its picture, its state, its figures.

import { partsOf, set, write } from "./dom.js";
import * as format from "./format.js";
import { Player } from "./player.js";

const STATES = {
  paused: { label: "paused", title: "Paused" },
  starting: { label: "starting", title: "The camera is starting" },
  connecting: { label: "connecting", title: "Connecting" },
  live: { label: "live", title: "" },
  off: { label: "off", title: "Off" },
  squeezed: { label: "no bandwidth", title: "No bandwidth" },
  reconnecting: { label: "reconnecting", title: "Reconnecting" },
  degraded: { label: "degraded", title: "No pictures from the camera" },
  stalled: { label: "stalled", title: "No pictures from the encoder" },
  stopped: { label: "stopped", title: "The camera is stopped" },
  offline: { label: "offline", title: "Nobody sends this stream" },
  silent: { label: "silent", title: "No pictures from the sender" },
  failed: { label: "failed", title: "Cannot play" },
};

export class Tile extends EventTarget {
  #parts;
  #shownState = null;

  // Fires `open` when it is to be enlarged or made small again, `state` when its state has changed.
  constructor({ api, serverClock, sharing, camera, template }) {
    super();
    this.element = template.content.firstElementChild.cloneNode(true);
    this.#parts = partsOf(this.element);
    const { name, video, open, retry, fullscreen, layer, hold } = this.#parts;
    name.textContent = camera.name;
    this.element.dataset.camera = camera.name;
    // The attribute only says how it starts; browsers go by the property when they decide about playing by itself.
    video.muted = true;
    this.player = new Player({ api, serverClock, sharing, camera, video });
    this.player.addEventListener("change", () => this.#show());
    open.addEventListener("click", () => this.dispatchEvent(new Event("open")));
    retry.addEventListener("click", () => this.player.retry());
    fullscreen.addEventListener("click", () => this.toggleFullscreen());
    layer.setAttribute("aria-label", `Quality of ${camera.name}`);
    layer.addEventListener("change", () => {
      this.player.layer = layer.value === "" ? null : Number(layer.value);
    });
    hold.addEventListener("click", () => this.#hold(api));
    fullscreen.hidden = !this.#parts.stage.requestFullscreen && !video.webkitEnterFullscreen;
    video.addEventListener("resize", () => this.#learnShape());
    this.large = false;
    this.describe(camera);
  }

  get name() {
    return this.player.camera.name;
  }

  describe(camera) {
    this.player.describe(camera);
    this.#offerLayers(camera.layers);
    this.#offerHold(camera);
    this.#show();
  }

  // What the camera may send, as the API describes it.
  allocate(allocation) {
    this.player.allocate(allocation);
  }

  set large(large) {
    this.element.classList.toggle("large", large);
    this.#parts.fullscreen.classList.toggle("offered", large);
    this.#offerHold(this.player.camera);
    const label = large ? "Back to all cameras" : `Enlarge ${this.name}`;
    this.#parts.open.setAttribute("aria-label", label);
    this.#parts.open.title = label;
  }

  focus() {
    this.#parts.open.focus({ preventScroll: true });
  }

  async toggleFullscreen() {
    const { stage, video } = this.#parts;
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (stage.requestFullscreen) await stage.requestFullscreen();
      else video.webkitEnterFullscreen?.();
    } catch {
      // The browser refuses what nobody has clicked for; the picture stays as large as it is.
    }
  }

  remove() {
    this.player.pause();
    this.element.remove();
  }

  // Holds the camera up for everybody, or lets it go on.
  async #hold(api) {
    const { hold } = this.#parts;
    hold.disabled = true;
    try {
      const { state, reason, paused } = await api.hold(this.name, !this.player.camera.paused);
      this.describe({ ...this.player.camera, state, reason, paused });
    } catch (problem) {
      hold.title = problem.message;
    } finally {
      hold.disabled = false;
    }
  }

  // What another server sends only that one can hold up.
  #offerHold({ kind, paused }) {
    const { hold } = this.#parts;
    hold.hidden = !this.element.classList.contains("large") || kind === "pull";
    write(hold, paused ? "Go on" : "Hold");
    hold.setAttribute("aria-label", `${paused ? "Let go on" : "Hold up for everybody"}: ${this.name}`);
  }

  // The style fits the large picture's frame to it.
  #learnShape() {
    const { videoWidth, videoHeight } = this.#parts.video;
    if (videoHeight > 0) this.element.style.setProperty("--ratio", videoWidth / videoHeight);
  }

  // Of several sizes to choose from, the largest is played unless another is chosen.
  #offerLayers(layers) {
    const { layer: chooser } = this.#parts;
    chooser.hidden = layers.length < 2;
    // Nobody sends it for now: whoever comes back has the same sizes, and the choice holds.
    if (layers.length === 0) return;
    const labels = layers.map(({ frameWidth, frameHeight }, layer) => {
      if (frameWidth) return format.resolution(frameWidth, frameHeight);
      return layer === 0 ? "smallest" : layer === layers.length - 1 ? "largest" : `size ${layer + 1}`;
    });
    if (chooser.length !== layers.length) {
      // A configuration with other layers: what was chosen means nothing any more.
      this.player.layer = null;
      chooser.replaceChildren(...layers.map((_, layer) => new Option("", layer === layers.length - 1 ? "" : layer)).reverse());
    }
    [...chooser.options].reverse().forEach((option, layer) => write(option, labels[layer]));
  }

  #show() {
    const view = this.player.view;
    this.#showState(view);
    this.#showFigures(view);
    if (view.state === this.#shownState) return;
    this.#shownState = view.state;
    this.dispatchEvent(new Event("state"));
  }

  #showState({ state, reason, blocked, canRetry = false }) {
    const { title, label } = STATES[state] ?? { label: state, title: state };
    const tap = blocked && (state === "connecting" || state === "reconnecting");
    const since = state === "degraded" ? this.player.camera.sinceSeconds : undefined;
    set(this.element.dataset, "state", state);
    const isSmaller = state === "live" && Boolean(reason);
    write(this.#parts.state, isSmaller ? "live, smaller" : label);
    set(this.#parts.state, "title", isSmaller ? reason : "");
    this.#parts.notice.hidden = state === "live";
    write(this.#parts["notice-title"], tap ? "The browser waits for a tap" : title);
    write(this.#parts["notice-reason"], tap ? "" : reason ?? "");
    write(this.#parts["notice-since"], since === undefined ? "" : `for ${format.seconds(since)}`);
    write(this.#parts.retry, tap ? "Play" : "Try again");
    this.#parts.retry.hidden = !tap && !canRetry;
  }

  #showFigures({ state, clockErrorMs, firstPictureMs, ...measured }) {
    // What was measured of pictures that come no more says nothing of now.
    const { figures, latencyMs } = state === "live" ? measured : { figures: null, latencyMs: { p50: null, p95: null } };
    // A stream that comes in is encoded elsewhere.
    const { stats, recentLatencyMs: stages = {}, encoder = {}, codec, viewerCount } = this.player.camera;
    const { capture_to_sent: sent = {}, encode = {} } = stages;
    const width = figures?.width ?? stats.frameWidth;
    const height = figures?.height ?? stats.frameHeight;
    const fps = figures?.framesPerSecond ?? null;
    const values = {
      latency: format.milliseconds(latencyMs.p50),
      "latency-p95": format.milliseconds(latencyMs.p95),
      "latency-brief": latencyMs.p50 === null ? "" : format.milliseconds(latencyMs.p50),
      sent: format.millisecondsPair(sent.p50, sent.p95),
      encode: format.millisecondsPair(encode.p50, encode.p95),
      size: width ? format.resolution(width, height) : stats.sourceResolution?.replace("x", "×") ?? "–",
      fps: format.rate(fps),
      "camera-fps": format.rate(stats.framesPerSecond),
      bitrate: format.bitrate(figures?.bitsPerSecond),
      target: format.bitrate(encoder.targetBitrate ?? stats.bitrate),
      rtt: format.roundTrip(figures?.roundTripMs),
      loss: format.percent(figures?.lossRatio),
      codec: figures?.codec?.replace("video/", "") ?? codec ?? "–",
      backend: encoder.backend ?? "–",
      "jitter-buffer": format.milliseconds(figures?.jitterBufferMs),
      decode: format.milliseconds(figures?.decodeMs),
      "clock-error": clockErrorMs === null ? "–" : `± ${format.milliseconds(clockErrorMs)}`,
      "first-picture": format.milliseconds(firstPictureMs),
      decoded: format.count(figures?.framesDecoded),
      dropped: format.count(figures?.framesDropped),
      freezes: format.count(figures?.freezeCount),
      lost: format.count(figures?.packetsLost),
      nacks: format.count(figures?.nackCount),
      plis: format.count(figures?.pliCount),
      missed: format.count(stats.framesMissed + stats.framesEvicted + stats.framesCorrupt),
      viewers: format.count(viewerCount),
    };
    for (const [name, value] of Object.entries(values)) write(this.#parts[name], value);
  }
}
