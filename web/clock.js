// Clocks: the server's, as seen from here, and a stream's RTP timestamps, as the server's.
//
// Milliseconds since 1970 by the server's clock are called unixMs. "Here" is performance.now(), which never jumps.

// How far two quartz clocks may drift apart: 100 ppm, the tolerance of cheap ones.
const DRIFT = 100e-6;
const SAMPLES = 16;

// Ticks of a video RTP clock a millisecond (RFC 7741 §4.1, RFC 9628 §4.1, RFC 6184 §5.1).
const RTP_TICKS_PER_MS = 90;

// What the server's clock shows, learned as NTP does: an answer's time is taken to be read half way between request and
// answer, which is wrong by half the round trip at most. Of several answers the one that is surest now counts.
export class ServerClock {
  #samples = [];

  // The server read `unixMs` some time between `sentAt` and `receivedAt` here.
  add(sentAt, receivedAt, unixMs) {
    const at = (sentAt + receivedAt) / 2;
    this.#samples.push({ at, offset: unixMs - at, error: (receivedAt - sentAt) / 2 });
    if (this.#samples.length > SAMPLES) this.#samples.splice(this.#samples.indexOf(this.#worst(receivedAt)), 1);
  }

  // What the server's clock shows at `at` here; null before the first answer.
  unixAt(at) {
    const best = this.#best(at);
    return best ? at + best.offset : null;
  }

  // By how much `unixAt(at)` may be wrong; null before the first answer.
  errorAt(at) {
    const best = this.#best(at);
    return best ? errorOf(best, at) : null;
  }

  // Another server, or the same one started anew, has another clock.
  forget() {
    this.#samples = [];
  }

  #best(at) {
    return this.#samples.reduce((best, sample) => (best && errorOf(best, at) <= errorOf(sample, at) ? best : sample), null);
  }

  #worst(at) {
    return this.#samples.reduce((worst, sample) => (errorOf(worst, at) >= errorOf(sample, at) ? worst : sample));
  }
}

function errorOf(sample, at) {
  return sample.error + Math.abs(at - sample.at) * DRIFT;
}

// When a frame of a stream was captured, by its RTP timestamp. Right within 6.6 hours of the reading it is made of: the
// timestamp wraps every 13.25 hours.
export class CaptureClock {
  #rtpTimestamp;
  #unixMs;

  // The stream's timestamp was `rtpTimestamp` when the server's clock showed `unixMs`.
  constructor({ rtpTimestamp, unixMs }) {
    this.#rtpTimestamp = rtpTimestamp;
    this.#unixMs = unixMs;
  }

  unixMsOf(rtpTimestamp) {
    return this.#unixMs + ((rtpTimestamp - this.#rtpTimestamp) | 0) / RTP_TICKS_PER_MS;
  }
}
