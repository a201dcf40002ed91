"""Plays a pattern camera over WHEP with aiortc, decodes it, and reads the frame numbers that are burnt into its pictures.

Prints one JSON object: how many frames came, whether their numbers rise, how many were skipped, and how old they were.
Exits with 1 and a reason if the camera cannot be played. docs/burn-in.md is the layout of the numbers.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import aioice.ice
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

BLACK_OR_WHITE = 126
MARGIN = 24
COLUMNS, ROWS = 16, 6


def read_burn_in(luma, stride, width, height):
    """Frame number and capture time in milliseconds since 1970, or None if there is no whole code."""
    wanted = max(8, 4 * (width // 320))
    side = 4 * (min(wanted, width // COLUMNS, height // ROWS) // 4)
    if side < 4:
        return None
    edge = side // 4
    inner = side - 2 * edge
    bits = 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            total = 0
            for y in range(row * side + edge, (row + 1) * side - edge):
                start = y * stride + column * side + edge
                total += sum(luma[start : start + inner])
            mean = total // (inner * inner)
            if abs(mean - BLACK_OR_WHITE) < MARGIN:
                return None
            bits = bits << 1 | (mean > BLACK_OR_WHITE)
    payload, checksum = bits >> 16, bits & 0xFFFF
    crc = 0xFFFF
    for byte in payload.to_bytes(10, "big"):
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return (payload >> 48, payload & (1 << 48) - 1) if crc == checksum else None


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=20) as response:
        return response.status, response.headers, response.read().decode()


async def play(url, wanted):
    # By itself aiortc leaves out the loopback, which is all that the test's server listens on.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    peer = RTCPeerConnection()
    tracks = asyncio.Queue()
    peer.on("track", tracks.put_nowait)
    peer.addTransceiver("video", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())

    status, headers, answer = await asyncio.to_thread(request, "POST", url, peer.localDescription.sdp)
    assert status == 201, status
    location = urllib.parse.urljoin(url, headers["Location"])
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    track = await asyncio.wait_for(tracks.get(), 20)

    seen, unreadable, ages = [], 0, []
    while len(seen) < wanted:
        frame = await asyncio.wait_for(track.recv(), 20)
        plane = frame.planes[0]
        found = read_burn_in(bytes(plane), plane.line_size, frame.width, frame.height)
        if found is None:
            unreadable += 1
            assert unreadable <= wanted, "no picture has a number in it"
            continue
        seen.append(found[0])
        ages.append(time.time() * 1000 - found[1])
    size = [frame.width, frame.height]
    await asyncio.to_thread(request, "DELETE", location)
    await peer.close()

    ages.sort()
    return {
        "frames": len(seen),
        "unreadable": unreadable,
        "size": size,
        "inOrder": all(later > earlier for earlier, later in zip(seen, seen[1:])),
        "skipped": seen[-1] - seen[0] + 1 - len(seen),
        "latencyMs": {"p50": ages[len(ages) // 2], "p95": ages[len(ages) * 95 // 100]},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="the camera's WHEP endpoint")
    parser.add_argument("--frames", type=int, default=60, help="how many to read")
    arguments = parser.parse_args()
    try:
        print(json.dumps(asyncio.run(play(arguments.url, arguments.frames))))
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")
    except (TimeoutError, MediaStreamError) as error:
        sys.exit(f"no more frames: {error!r}")


if __name__ == "__main__":
    main()
