"""Publishes a test picture over WHIP with GStreamer's webrtcbin, and plays it over WHEP with a second one.

Prints one JSON object: how many pictures were decoded, their size, and how many different ones were seen. Exits with 1 and a
reason if it cannot be published or played. Takes the system's Python, which has GStreamer's bindings.
"""

import argparse
import json
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

WIDTH, HEIGHT, RATE = 320, 240, 15
PAYLOAD_TYPE = 96
BOUND_S = 20

# Of each codec, what encodes and packetizes it, and what undoes that.
CODECS = {
    "vp8": ("vp8enc deadline=1 keyframe-max-dist=3000 ! rtpvp8pay", "rtpvp8depay ! vp8dec"),
    "h264": (
        "openh264enc gop-size=3000 ! h264parse ! rtph264pay aggregate-mode=zero-latency config-interval=-1",
        "rtph264depay ! h264parse ! openh264dec",
    ),
}

AGENTS = []


class Failure(Exception):
    pass


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=BOUND_S) as response:
        return response.status, response.headers, response.read().decode()


def within_bound(what, look):
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise Failure(f"not within {BOUND_S} s: {what}")


class Peer:
    """A pipeline with one webrtcbin in it, and its session with the server."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        self.location = None
        self.error = None
        bus = pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self._on_error)
        self.webrtc = pipeline.get_by_name("webrtc")
        # By itself libnice leaves out the loopback, which is all that the test's server listens on. The agent is kept: Python
        # takes over the reference that webrtcbin of GStreamer 1.22 has of it, and would free it under its hands.
        AGENTS.append(self.webrtc.get_property("ice-agent"))
        AGENTS[-1].emit("add-local-ip-address", "127.0.0.1")

    def _on_error(self, _bus, message):
        self.error = str(message.parse_error())

    def negotiate(self, url):
        """Offers, once all candidates are known, and takes the answer. An HTTP error is the caller's."""
        offered = Gst.Promise.new()
        self.webrtc.emit("create-offer", None, offered)
        offered.wait()
        # Neither the promise nor its reply may go before what is in it is used.
        reply = offered.get_reply()
        offer = reply.get_value("offer")
        done = Gst.Promise.new()
        self.webrtc.emit("set-local-description", offer, done)
        done.wait()
        gathered = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        within_bound("the candidates", lambda: self.webrtc.get_property("ice-gathering-state") == gathered)
        text = self.webrtc.get_property("local-description").sdp.as_text()
        status, headers, answer = request("POST", url, text)
        if status != 201:
            raise Failure(f"{url}: {status}")
        self.location = urllib.parse.urljoin(url, headers["Location"])
        parsed, message = GstSdp.SDPMessage.new_from_text(answer)
        if parsed != GstSdp.SDPResult.OK:
            raise Failure(f"not an SDP answer: {answer}")
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        done = Gst.Promise.new()
        self.webrtc.emit("set-remote-description", answer, done)
        done.wait()

    def close(self):
        if self.location:
            request("DELETE", self.location)
        self.pipeline.set_state(Gst.State.NULL)


class Publisher(Peer):
    def __init__(self, codec):
        encode, _ = CODECS[codec]
        super().__init__(
            Gst.parse_launch(
                f"videotestsrc is-live=true pattern=ball ! video/x-raw,width={WIDTH},height={HEIGHT},framerate={RATE}/1 "
                f"! videoconvert ! queue ! {encode} pt={PAYLOAD_TYPE} name=pay "
                f"! application/x-rtp,media=video,encoding-name={codec.upper()},payload={PAYLOAD_TYPE} "
                "! webrtcbin name=webrtc bundle-policy=max-bundle"
            )
        )
        self.pipeline.set_state(Gst.State.PLAYING)
        # What it can offer the payloader's caps say, which follow from the first picture.
        pad = self.pipeline.get_by_name("pay").get_static_pad("src")
        within_bound("the first packet", pad.get_current_caps)
        transceiver = self.webrtc.emit("get-transceiver", 0)
        transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        transceiver.set_property("do-nack", True)


class Viewer(Peer):
    def __init__(self, codec):
        pipeline = Gst.Pipeline.new()
        pipeline.add(Gst.parse_launch("webrtcbin name=webrtc bundle-policy=max-bundle"))
        self.codec = codec
        self.size = None
        self.pictures = []
        super().__init__(pipeline)
        self.webrtc.connect("pad-added", self._on_pad)
        more = ",packetization-mode=(string)1,profile-level-id=(string)42e01f" if codec == "h264" else ""
        caps = f"application/x-rtp,media=video,encoding-name={codec.upper()},clock-rate=90000,payload={PAYLOAD_TYPE}{more}"
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
        pipeline.set_state(Gst.State.PLAYING)

    def _on_pad(self, _webrtc, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        _, decode = CODECS[self.codec]
        tail = Gst.parse_bin_from_description(
            f"queue ! {decode} ! videoconvert ! video/x-raw,format=I420 ! fakesink name=sink sync=false signal-handoffs=true",
            True,
        )
        tail.get_by_name("sink").connect("handoff", self._on_picture)
        self.pipeline.add(tail)
        tail.sync_state_with_parent()
        pad.link(tail.get_static_pad("sink"))

    def _on_picture(self, _sink, buffer, pad):
        caps = pad.get_current_caps().get_structure(0)
        self.size = [caps.get_value("width"), caps.get_value("height")]
        self.pictures.append(zlib.crc32(buffer.extract_dup(0, buffer.get_size())))


def run(base, stream, codec, wanted):
    publisher = Publisher(codec)
    publisher.negotiate(f"{base}/whip/{stream}")
    viewer = None

    def play():
        candidate = Viewer(codec)
        try:
            candidate.negotiate(f"{base}/whep/{stream}")
        except urllib.error.HTTPError as error:
            candidate.close()
            # Not live yet.
            if error.code != 409:
                raise
            time.sleep(0.2)
            return None
        return candidate

    viewer = within_bound("the stream to be live", play)

    def enough():
        for peer in (publisher, viewer):
            if peer.error:
                raise Failure(peer.error)
        return len(viewer.pictures) >= wanted

    within_bound(f"{wanted} pictures", enough)
    pictures = viewer.pictures[:wanted]
    viewer.close()
    publisher.close()
    return {"frames": len(pictures), "size": viewer.size, "different": len(set(pictures))}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="the server")
    parser.add_argument("stream", help="the stream's name")
    parser.add_argument("--codec", default="vp8", choices=CODECS)
    parser.add_argument("--frames", type=int, default=60, help="how many to read")
    arguments = parser.parse_args()
    Gst.init(None)
    loop = GLib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    try:
        print(json.dumps(run(arguments.base, arguments.stream, arguments.codec, arguments.frames)))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")
    except Failure as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
