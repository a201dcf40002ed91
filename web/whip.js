// A WHIP client (RFC 9725): publishes a camera as one stream.
//
//   const session = await WhipSession.open("/whip/robot", { media, token, simulcast: true });
//   const why = await session.ended;   // a Problem: connection lost; null: closed by us
//   session.close();

import { Session } from "./session.js";

// Bits a second for each pixel of 1280x720 at full size; smaller pictures need more for each of theirs.
const FULL_BPS = 2_500_000;
const FULL_PIXELS = 1280 * 720;
const SMALL_EXPONENT = 0.75;

// The layers of simulcast, the smallest first: its name (RFC 8851), and how often its sides go into the full picture's.
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4 },
  { rid: "h", scaleResolutionDownBy: 2 },
  { rid: "f", scaleResolutionDownBy: 1 },
];

// What each codec's encoder is told, so that layers are simulcast's, each a stream of its own, and not SVC's.
const SCALABILITY = { "video/VP8": "L1T2", "video/VP9": "L1T1" };

export class WhipSession extends Session {
  // Offers to send the tracks of `media`, a MediaStream with one video track. `codec`: a MIME type to prefer, such as
  // "video/H264". `simulcast`: three sizes instead of one. `token` is sent as a bearer token, `signal` abandons the attempt.
  // Rejects with a Problem, or with the signal's reason.
  static open(endpoint, { media, codec = null, simulcast = false, token = null, signal = null }) {
    return new WhipSession(token, { media, codec, simulcast }).begin(endpoint, signal);
  }

  constructor(token, { media, codec, simulcast }) {
    super(token);
    const [video] = media.getVideoTracks();
    const [audio] = media.getAudioTracks();
    const scalabilityMode = SCALABILITY[codec ?? "video/VP8"];
    const layers = simulcast ? LAYERS : [{}];
    const sendEncodings = layers.map((layer) => ({
      ...layer,
      ...(scalabilityMode && simulcast ? { scalabilityMode } : {}),
      maxBitrate: bitrate(video, layer.scaleResolutionDownBy ?? 1),
    }));
    const transceiver = this.connection.addTransceiver(video, { direction: "sendonly", streams: [media], sendEncodings });
    this.sender = transceiver.sender;
    if (codec) transceiver.setCodecPreferences(preferring(codec));
    if (audio) this.connection.addTransceiver(audio, { direction: "sendonly", streams: [media] });
  }

  // The end of the connection that media go through.
  get end() {
    return this.sender;
  }
}

// What this browser can send of the codecs that a lenscast takes.
export function codecs() {
  const known = ["video/VP8", "video/VP9", "video/H264"];
  const own = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  return known.filter((known) => own.some(({ mimeType }) => mimeType.toLowerCase() === known.toLowerCase()));
}

// All that the browser can send, what is wanted first.
function preferring(codec) {
  const all = RTCRtpSender.getCapabilities("video").codecs;
  const isWanted = ({ mimeType, sdpFmtpLine = "" }) =>
    mimeType.toLowerCase() === codec.toLowerCase() && !/packetization-mode=0|profile-id=[1-3]/.test(sdpFmtpLine);
  // The server speaks constrained baseline.
  const rank = ({ sdpFmtpLine = "" }) => (/profile-level-id=42e0/i.test(sdpFmtpLine) ? 0 : 1);
  const wanted = all.filter(isWanted).sort((a, b) => rank(a) - rank(b));
  return [...wanted, ...all.filter((codec) => !isWanted(codec))];
}

function bitrate(track, scale) {
  const { width = 1280, height = 720 } = track.getSettings();
  const pixels = (width * height) / scale ** 2;
  return Math.round(FULL_BPS * (pixels / FULL_PIXELS) ** SMALL_EXPONENT);
}
