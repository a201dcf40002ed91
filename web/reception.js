// What a viewer's browser receives, from two readings of RTCPeerConnection.getStats (names: W3C webrtc-stats).

// Loss is rare: a second is too short to say how much of it there is.
const LOSS_WINDOW_MS = 5_000;

export class Reception {
  // Readings of the last LOSS_WINDOW_MS, oldest first.
  #readings = [];

  // Takes a reading. Returns the counters as they are and the rates since the last reading, null where unknown.
  read(report) {
    const { inbound, pair, codec } = find(report);
    if (!inbound) return null;
    const last = this.#readings.at(-1);
    const first = this.#readings[0];
    this.#readings.push(inbound);
    while (this.#readings[1]?.timestamp <= inbound.timestamp - LOSS_WINDOW_MS) this.#readings.shift();
    const since = (name, from = last) => (from && name in inbound && name in from ? inbound[name] - from[name] : null);
    const seconds = last ? (inbound.timestamp - last.timestamp) / 1000 : 0;
    const mean = (sum, count) => (since(count) > 0 ? (since(sum) * 1000) / since(count) : null);
    const [received, lost] = [since("packetsReceived", first), since("packetsLost", first)];
    return {
      codec: codec?.mimeType ?? null,
      width: inbound.frameWidth ?? null,
      height: inbound.frameHeight ?? null,
      framesPerSecond: seconds > 0 ? (since("framesDecoded") ?? 0) / seconds : null,
      bitsPerSecond: seconds > 0 ? ((since("bytesReceived") ?? 0) * 8) / seconds : null,
      // A retransmission that arrives takes its loss back, so the difference may be negative.
      lossRatio: received + lost > 0 ? Math.max(0, lost) / (received + lost) : null,
      roundTripMs: pair?.currentRoundTripTime === undefined ? null : pair.currentRoundTripTime * 1000,
      jitterBufferMs: mean("jitterBufferDelay", "jitterBufferEmittedCount"),
      decodeMs: mean("totalDecodeTime", "framesDecoded"),
      framesReceived: inbound.framesReceived ?? 0,
      framesDecoded: inbound.framesDecoded ?? 0,
      framesDropped: inbound.framesDropped ?? 0,
      freezeCount: inbound.freezeCount ?? 0,
      packetsReceived: inbound.packetsReceived ?? 0,
      packetsLost: inbound.packetsLost ?? 0,
      nackCount: inbound.nackCount ?? 0,
      pliCount: inbound.pliCount ?? 0,
    };
  }
}

function find(report) {
  let inbound, transport;
  const pairs = [];
  for (const stats of report.values()) {
    if (stats.type === "inbound-rtp" && stats.kind === "video") inbound = stats;
    else if (stats.type === "transport") transport = stats;
    else if (stats.type === "candidate-pair") pairs.push(stats);
  }
  // Firefox has no `transport` and says `selected`; Chromium's `nominated` may be true of several.
  const chosen = transport?.selectedCandidatePairId;
  const pair = chosen ? report.get(chosen) : pairs.find(({ selected, nominated }) => selected ?? nominated);
  return { inbound, pair, codec: inbound?.codecId && report.get(inbound.codecId) };
}
