// A WHEP client (draft-ietf-wish-whep, with the HTTP rules of RFC 9725): one viewer of one camera.
//
//   const session = await WhepSession.open("/whep/front", { token, signal });
//   video.srcObject = session.stream;
//   const why = await session.ended;   // a Problem: connection lost; null: closed by us
//   session.close();

import { Problem } from "./problem.js";
import { Session } from "./session.js";

const LAYER = "urn:ietf:params:whep:ext:core:layer";
const TIMEOUT_MS = 5_000;

export class WhepSession extends Session {
  // Offers to receive video from `endpoint`. `token` is sent as a bearer token, `signal` abandons the attempt. Rejects with a
  // Problem, or with the signal's reason.
  static open(endpoint, { token = null, signal = null } = {}) {
    return new WhepSession(token).begin(endpoint, signal);
  }

  constructor(token) {
    super(token);
    this.receiver = this.connection.addTransceiver("video", { direction: "recvonly" }).receiver;
    this.stream = new MediaStream([this.receiver.track]);
  }

  // The end of the connection that media go through.
  get end() {
    return this.receiver;
  }

  // True if another layer can be had without another session.
  get canChooseLayer() {
    return this.#layerAddress !== null;
  }

  // Has the server send that spatial layer at most, 0 the smallest; null: the largest. Rejects with a Problem.
  async chooseLayer(layer) {
    const request = layer === null
      ? { method: "DELETE", headers: this.authorization }
      : { method: "POST", headers: { "Content-Type": "application/json", ...this.authorization }, body: JSON.stringify({ encodingId: String(layer) }) };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(this.#layerAddress, { ...request, signal }).catch((error) => {
      throw Problem.unreachable(error);
    });
    if (!response.ok) throw await Problem.of(response);
  }

  get #layerAddress() {
    return this.links.find(({ parameters }) => (parameters.rel ?? "").split(/\s+/).includes(LAYER))?.target ?? null;
  }
}
