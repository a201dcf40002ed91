// A WHEP client (draft-ietf-wish-whep, with the HTTP rules of RFC 9725): one viewer of one camera, or of several.
//
//   const session = await WhepSession.open("/whep/front", { token, signal });
//   video.srcObject = session.stream;
//   const why = await session.ended;   // a Problem: connection lost; null: closed by us
//   session.close();
//
// Of several, `session.transceivers` has one for each, in the order of the names: "/whep/front,rear" with `cameras: 2`.

import { Problem } from "./problem.js";
import { Session } from "./session.js";

const LAYER = "urn:ietf:params:whep:ext:core:layer";
const TIMEOUT_MS = 5_000;

export class WhepSession extends Session {
  // Offers to receive video of so many `cameras` from `endpoint`. `token` is sent as a bearer token, `signal` abandons the
  // attempt. Rejects with a Problem, or with the signal's reason.
  static open(endpoint, { token = null, signal = null, cameras = 1 } = {}) {
    return new WhepSession(token, cameras).begin(endpoint, signal);
  }

  constructor(token, cameras = 1) {
    super(token);
    this.transceivers = Array.from({ length: cameras }, () => this.connection.addTransceiver("video", { direction: "recvonly" }));
    this.receiver = this.transceivers[0].receiver;
    this.stream = new MediaStream([this.receiver.track]);
  }

  // The name of the first camera's section.
  get mediaId() {
    return this.transceivers[0].mid;
  }

  // The end of the connection that media go through.
  get end() {
    return this.receiver;
  }

  // True if another layer can be had without another session.
  get canChooseLayer() {
    return this.#layerAddress !== null;
  }

  // Has the server send that spatial layer at most, 0 the smallest; null: the largest. Of several cameras, `mediaId` says of
  // which. Rejects with a Problem.
  chooseLayer(layer, mediaId = null) {
    const medium = mediaId === null ? {} : { mediaId };
    return this.#askForLayer(layer === null ? medium : { ...medium, encodingId: String(layer) });
  }

  // Has the server send nothing of a camera for now, or go on. Rejects with a Problem.
  setPaused(paused, mediaId = null) {
    return this.#askForLayer(mediaId === null ? { paused } : { mediaId, paused });
  }

  async #askForLayer(wanted) {
    const headers = { "Content-Type": "application/json", ...this.authorization };
    const request = { method: "POST", headers, body: JSON.stringify(wanted), signal: AbortSignal.timeout(TIMEOUT_MS) };
    const response = await fetch(this.#layerAddress, request).catch((error) => {
      throw Problem.unreachable(error);
    });
    if (!response.ok) throw await Problem.of(response);
  }

  get #layerAddress() {
    return this.links.find(({ parameters }) => (parameters.rel ?? "").split(/\s+/).includes(LAYER))?.target ?? null;
  }
}
