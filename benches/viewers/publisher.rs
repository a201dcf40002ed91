//! What makes a viewer a publisher: an offer to send, and VP8 with nothing behind its headers.

use lenscast_media::{Codec, Ssrc};
use lenscast_router::{PacketLayout, Stamps};

use crate::viewers::{Audience, Viewer};

/// Its source, and its packets so far.
pub(crate) struct Publisher {
    sent: u64,
    frames: u32,
    begun: bool,
    packet: Vec<u8>,
}

const SOURCE: Ssrc = Ssrc(4_711);
/// As the audience's offer calls VP8.
const PAYLOAD_TYPE: u8 = 96;
/// Of the RTP clock between two frames, as if there were 30 a second.
const TICKS: u32 = 3_000;
const HEADER_LEN: usize = 12;
/// Behind the RTP header of a frame's first packet: a descriptor (RFC 7741 §4.2) that says that a frame begins, and the head
/// of a key frame of 320x240 (RFC 6386 §9.1).
const KEY_FRAME: [u8; 11] = [0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0];
/// The same of a frame that builds on the one before.
const DELTA_FRAME: [u8; 4] = [0x10, 0x11, 2, 0];
/// The descriptor of a packet in the middle of a frame.
const CONTINUED: [u8; 1] = [0];

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { sent: 0, frames: 0, begun: false, packet: Vec::new() }
    }

    /// What it offers: the viewer that is made of the answer sends for it.
    pub(crate) fn offer(audience: &Audience) -> String {
        let ours = "a=sendonly\r\na=msid:stream track\r\na=ssrc:4711 cname:robot";
        audience.offer_of(Codec::Vp8).replace("a=recvonly", ours)
    }

    /// Sends the next packet, with `payload` bytes behind its RTP header. The first packet of a frame says whether it is a
    /// key frame; `ends` says that it is the frame's last.
    pub(crate) fn send(&mut self, viewer: &Viewer, key_frame: bool, ends: bool, payload: usize) {
        let head: &[u8] = match (self.begun, key_frame) {
            (true, _) => &CONTINUED,
            (false, true) => &KEY_FRAME,
            (false, false) => &DELTA_FRAME,
        };
        let packet = &mut self.packet;
        packet.clear();
        packet.extend_from_slice(&[0x80, u8::from(ends) << 7 | PAYLOAD_TYPE]);
        packet.extend_from_slice(&(self.sent as u16).to_be_bytes());
        packet.extend_from_slice(&(self.frames.wrapping_mul(TICKS)).to_be_bytes());
        packet.extend_from_slice(&SOURCE.0.to_be_bytes());
        packet.extend_from_slice(head);
        packet.resize(HEADER_LEN + payload, 0);
        let layout = PacketLayout { header_len: HEADER_LEN, ssrc: SOURCE, index: self.sent, stamps: Stamps::default() };
        viewer.srtp.as_ref().expect("it is connected").seal_rtp(packet, 0, &layout);
        viewer.send(packet);
        self.sent += 1;
        self.begun = !ends;
        self.frames = self.frames.wrapping_add(u32::from(ends));
    }
}
