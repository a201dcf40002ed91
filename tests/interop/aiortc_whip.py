"""Publishes a moving picture over WHIP with aiortc, plays it over WHEP with a second connection, and reads it back.

The picture is grey, of a brightness that changes with time. Prints one JSON object: how many frames came, their size, and how many
brightnesses were seen. Exits with 1 and a reason if it cannot be published or played.
"""

import argparse
import asyncio
import json
import sys
import urllib.error
import urllib.parse

import aioice.ice
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from aiortc_whep import request

WIDTH, HEIGHT = 320, 240


class Grey(VideoStreamTrack):
    """One frame after the other, brighter and brighter."""

    count = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        self.count += 1
        frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, value in zip(frame.planes, [32 + 8 * (self.count // 5 % 24), 128, 128]):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        return frame


async def negotiate(peer, url):
    await peer.setLocalDescription(await peer.createOffer())
    status, headers, answer = await asyncio.to_thread(request, "POST", url, peer.localDescription.sdp)
    assert status == 201, status
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    return urllib.parse.urljoin(url, headers["Location"])


async def run(base, stream, codec, wanted):
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    publisher = RTCPeerConnection()
    transceiver = publisher.addTransceiver(Grey(), direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([known for known in codecs if known.mimeType.lower() == f"video/{codec}"])
    published = await negotiate(publisher, f"{base}/whip/{stream}")

    viewer = RTCPeerConnection()
    tracks = asyncio.Queue()
    viewer.on("track", tracks.put_nowait)
    viewer.addTransceiver("video", direction="recvonly")
    for attempt in range(50):
        try:
            played = await negotiate(viewer, f"{base}/whep/{stream}")
            break
        except urllib.error.HTTPError as error:
            # Not live yet.
            if error.code != 409 or attempt == 49:
                raise
            await viewer.close()
            viewer = RTCPeerConnection()
            viewer.on("track", tracks.put_nowait)
            viewer.addTransceiver("video", direction="recvonly")
            await asyncio.sleep(0.2)
    track = await asyncio.wait_for(tracks.get(), 20)
    while not tracks.empty():
        track = tracks.get_nowait()
    seen = set()
    for _ in range(wanted):
        frame = await asyncio.wait_for(track.recv(), 20)
        seen.add(bytes(frame.planes[0])[WIDTH * HEIGHT // 2] // 8)
    for location in (played, published):
        await asyncio.to_thread(request, "DELETE", location)
    await viewer.close()
    await publisher.close()
    return {"frames": wanted, "size": [frame.width, frame.height], "brightnesses": len(seen)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="the server")
    parser.add_argument("stream", help="the stream's name")
    parser.add_argument("--codec", default="vp8", help="vp8 or h264")
    parser.add_argument("--frames", type=int, default=60, help="how many to read")
    arguments = parser.parse_args()
    try:
        print(json.dumps(asyncio.run(run(arguments.base, arguments.stream, arguments.codec, arguments.frames))))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")
    except (TimeoutError, MediaStreamError) as error:
        sys.exit(f"no more frames: {error!r}")


if __name__ == "__main__":
    main()
