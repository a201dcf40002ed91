// The page /publish: sends a camera of this browser's to a stream of the server's. `/publish#robot` names the stream.

import { Api } from "./api.js";
import { partsOf, write } from "./dom.js";
import * as format from "./format.js";
import { Publisher } from "./publisher.js";
import { codecs } from "./whip.js";

const TOKEN_KEY = "lenscast.publish-token";

const parts = partsOf(document.body);
const api = new Api();
const publisher = new Publisher();
let media = null;

parts.host.textContent = location.host;
parts.stream.value = nameInAddress();
parts.token.value = keptToken() ?? "";
if (!navigator.mediaDevices?.getUserMedia || !("RTCPeerConnection" in globalThis)) {
  parts.banner.hidden = false;
  parts.banner.textContent = isSecureContext
    ? "This browser has no camera to publish, or WebRTC is switched off."
    : "Browsers give a page their camera over HTTPS only, and on localhost: put a reverse proxy with TLS before this server.";
  parts.start.disabled = true;
} else {
  parts.codec.append(...codecs().map((codec) => new Option(codec.replace("video/", ""), codec)));
  await listCameras();
}
listStreams();

parts.form.addEventListener("submit", async (event) => {
  event.preventDefault();
  parts.start.disabled = true;
  try {
    await openCamera();
    await listCameras();
  } catch (error) {
    return say(reasonOf(error));
  } finally {
    parts.start.disabled = false;
  }
  say("");
  const name = parts.stream.value.trim();
  const token = parts.token.value.trim() || null;
  keepToken(token);
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  parts.watch.href = `./#${encodeURIComponent(name)}`;
  publisher.start(`/whip/${encodeURIComponent(name)}`, {
    media,
    token,
    codec: parts.codec.value || null,
    simulcast: parts.simulcast.checked,
  });
});

parts.stop.addEventListener("click", () => {
  publisher.stop();
  closeCamera();
});
// What is left behind is taken leave of.
window.addEventListener("pagehide", () => publisher.stop());
publisher.addEventListener("change", show);
publisher.addEventListener("change", () => {
  // For good, and by nobody's wish: a camera's light is not to stay on for nothing.
  if (publisher.state.state === "stopped" && publisher.state.reason) closeCamera();
});
show();

// For tests: what the publisher knows, to read only.
Object.defineProperty(window, "lenscast", {
  value: Object.freeze({ publisher: () => ({ ...publisher.state, figures: publisher.figures }) }),
});

function show() {
  const { state, reason } = publisher.state;
  const runs = state !== "stopped";
  document.body.dataset.state = state;
  parts.start.hidden = runs;
  parts.stop.hidden = !runs;
  parts.watch.hidden = state !== "live";
  for (const name of ["stream", "token", "camera", "size", "codec", "simulcast", "audio"]) parts[name].disabled = runs;
  write(parts.state, state);
  if (state === "live") say("");
  else if (reason) say(reason);
  write(parts.figures, figures());
}

function figures() {
  if (!publisher.figures) return "";
  const { bitsPerSecond, codec, layers } = publisher.figures;
  const sizes = layers.map(({ frameWidth, frameHeight, framesPerSecond }) =>
    `${format.resolution(frameWidth, frameHeight)} at ${format.rate(framesPerSecond)}`);
  return [codec?.replace("video/", ""), format.bitrate(bitsPerSecond), ...sizes].filter(Boolean).join(" · ");
}

async function openCamera() {
  closeCamera();
  const [width, height] = parts.size.value.split("x").map(Number);
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  if (parts.camera.value) video.deviceId = { exact: parts.camera.value };
  media = await navigator.mediaDevices.getUserMedia({ video, audio: parts.audio.checked });
  media.getVideoTracks()[0].addEventListener("ended", () => publisher.stop("The camera is gone."));
  parts.preview.srcObject = media;
}

function closeCamera() {
  media?.getTracks().forEach((track) => track.stop());
  media = null;
  parts.preview.srcObject = null;
}

// Before a camera was allowed once, browsers tell no names.
async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const cameras = devices.filter(({ kind }) => kind === "videoinput");
  const chosen = parts.camera.value;
  const options = cameras.filter(({ deviceId }) => deviceId).map(({ label, deviceId }, index) => new Option(label || `camera ${index + 1}`, deviceId));
  parts.camera.replaceChildren(...(options.length > 0 ? options : [new Option("the default one", "")]));
  if (cameras.some(({ deviceId }) => deviceId === chosen)) parts.camera.value = chosen;
}

// For whoever may read the list; others type a name.
async function listStreams() {
  const cameras = await api.cameras().catch(() => []);
  const names = cameras.filter(({ kind }) => kind === "whip").map(({ name }) => name);
  parts.streams.replaceChildren(...names.map((name) => new Option(name)));
  if (parts.stream.value === "" && names.length > 0) [parts.stream.value] = names;
}

function say(text) {
  write(parts.message, text);
}

function reasonOf(error) {
  const reasons = {
    NotAllowedError: "The browser does not allow this page to use the camera.",
    NotFoundError: "There is no camera.",
    NotReadableError: "The camera is in use by something else.",
    OverconstrainedError: "The camera that was chosen is not there any more.",
  };
  return reasons[error.name] ?? error.message;
}

// Of this tab, and not the one that its other pages watch with. Browsers may forbid to keep anything.
function keptToken() {
  try {
    return sessionStorage.getItem(TOKEN_KEY);
  } catch {
    return null;
  }
}

function keepToken(token) {
  try {
    if (token === null) sessionStorage.removeItem(TOKEN_KEY);
    else sessionStorage.setItem(TOKEN_KEY, token);
  } catch {
    // It is typed again then.
  }
}

function nameInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}
