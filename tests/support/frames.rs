//! Frames made of RTP packets again, by the depacketizers of the webrtc project.

use std::collections::BTreeMap;

use lenscast_media::Codec;
use rtc::rtp::Packet;
use rtc::rtp::codec::h264::H264Packet;
use rtc::rtp::codec::vp8::Vp8Packet;
use rtc::rtp::codec::vp9::Vp9Packet;
use rtc::rtp::packetizer::Depacketizer;

use super::answer::Streams;

/// Puts one viewer's packets in order and cuts them into frames. From the first key frame on every frame comes out, in
/// order, or none behind it does.
pub(crate) struct Frames {
    codec: Codec,
    streams: Streams,
    /// By the sequence number continued without wrapping; what waits for the packets before it.
    waiting: BTreeMap<u64, (Packet, bool)>,
    next: Option<u64>,
    highest: u64,
    frame: Vec<(Packet, bool)>,
    first: u64,
    /// Whether a key frame has begun.
    begun: bool,
    /// Packets before the first key frame. There are some if the webrtc crate has dropped that frame's first packets: what
    /// comes in the moment between the end of DTLS and its own SRTP keys is lost to it.
    pub(crate) skipped: u64,
    /// Media packets that came.
    pub(crate) media: u64,
    /// Packets that came as retransmissions and were missing.
    pub(crate) repaired: u64,
    /// Packets that came though they were not missing any more: also those that measure the path.
    pub(crate) superfluous: u64,
    /// Packets of padding alone, which measure the path too.
    pub(crate) padding: u64,
}

/// One frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Position of its first packet in the stream, without wrapping.
    pub(crate) first: u64,
    pub(crate) packets: Vec<Packet>,
    /// How many of them were retransmissions.
    pub(crate) repaired: usize,
    pub(crate) timestamp: u32,
    pub(crate) key_frame: bool,
    /// The bitstream, as a decoder takes it.
    pub(crate) data: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(codec: Codec, streams: Streams) -> Self {
        Self {
            codec,
            streams,
            waiting: BTreeMap::new(),
            next: None,
            highest: 0,
            frame: Vec::new(),
            first: 0,
            begun: false,
            skipped: 0,
            media: 0,
            repaired: 0,
            superfluous: 0,
            padding: 0,
        }
    }

    /// True once a key frame has begun.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// Packets that have come and wait for one before them.
    pub(crate) fn held_back(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a packet as it came from the wire, and returns the frames that are complete now.
    pub(crate) fn push(&mut self, packet: Packet) -> Vec<Frame> {
        let (packet, is_repair) = if packet.header.ssrc == self.streams.media {
            assert_eq!(packet.header.payload_type, self.streams.media_type, "{:?}", packet.header);
            self.media += 1;
            (packet, false)
        } else {
            let Some(original) = self.original(packet) else {
                self.padding += 1;
                return Vec::new();
            };
            (original, true)
        };
        let index = self.index(packet.header.sequence_number);
        self.highest = self.highest.max(index);
        let next = *self.next.get_or_insert(index);
        if index < next || self.waiting.contains_key(&index) {
            self.superfluous += 1;
            return Vec::new();
        }
        self.repaired += u64::from(is_repair);
        self.waiting.insert(index, (packet, is_repair));
        self.complete()
    }

    /// The packet that a retransmission carries (RFC 4588 §4); `None` if it is padding.
    fn original(&self, mut packet: Packet) -> Option<Packet> {
        let (source, payload_type) = self.streams.rtx.expect("nobody sends retransmissions that were not agreed on");
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (source, payload_type), "{:?}", packet.header);
        let sequence = packet.payload.first_chunk()?;
        packet.header.sequence_number = u16::from_be_bytes(*sequence);
        packet.payload = packet.payload.slice(2..);
        Some(packet)
    }

    fn index(&self, sequence: u16) -> u64 {
        if self.next.is_none() {
            return 1 << 16 | u64::from(sequence);
        }
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        self.highest.checked_add_signed(i64::from(ahead)).expect("the first is at least 2¹⁶")
    }

    fn complete(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some((packet, is_repair)) = self.next.and_then(|next| self.waiting.remove(&next)) {
            let index = self.next.expect("a packet was there");
            self.next = Some(index + 1);
            self.begun = self.begun || begins_key_frame(self.codec, &packet);
            if !self.begun {
                self.skipped += 1;
                continue;
            }
            match self.frame.first() {
                None => self.first = index,
                Some((first, _)) => {
                    assert_eq!(first.header.timestamp, packet.header.timestamp, "a frame has no marker")
                }
            }
            let last = packet.header.marker;
            self.frame.push((packet, is_repair));
            if last {
                frames.push(self.cut());
            }
        }
        frames
    }

    fn cut(&mut self) -> Frame {
        let packets = std::mem::take(&mut self.frame);
        let repaired = packets.iter().filter(|(_, is_repair)| *is_repair).count();
        let packets: Vec<Packet> = packets.into_iter().map(|(packet, _)| packet).collect();
        let (data, key_frame) = match self.codec {
            Codec::Vp8 => vp8(&packets),
            Codec::Vp9 => vp9(&packets),
            Codec::H264 => h264(&packets),
        };
        Frame { first: self.first, repaired, timestamp: packets[0].header.timestamp, packets, key_frame, data }
    }
}

fn begins_key_frame(codec: Codec, packet: &Packet) -> bool {
    match codec {
        Codec::Vp8 => {
            let mut descriptor = Vp8Packet::default();
            descriptor.depacketize(&packet.payload).is_ok_and(|data| descriptor.s == 1 && data[0] & 1 == 0)
        }
        Codec::Vp9 => {
            let mut descriptor = Vp9Packet::default();
            descriptor.depacketize(&packet.payload).is_ok_and(|_| descriptor.b && !descriptor.p)
        }
        // RFC 6184 §5.4: a key frame begins with its parameter sets, alone (7) or together (24).
        Codec::H264 => matches!(packet.payload[0] & 0x1F, 7 | 24),
    }
}

fn vp8(packets: &[Packet]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    for (position, packet) in packets.iter().enumerate() {
        let mut descriptor = Vp8Packet::default();
        data.extend(descriptor.depacketize(&packet.payload).expect("a VP8 payload descriptor"));
        assert_eq!(descriptor.s == 1, position == 0, "only the first packet starts a partition");
    }
    // RFC 6386 §9.1: the frame tag's lowest bit is 0 for a key frame.
    let key_frame = data[0] & 1 == 0;
    (data, key_frame)
}

fn vp9(packets: &[Packet]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    let mut key_frame = false;
    for (position, packet) in packets.iter().enumerate() {
        let mut descriptor = Vp9Packet::default();
        data.extend(descriptor.depacketize(&packet.payload).expect("a VP9 payload descriptor"));
        let (first, last) = (position == 0, position + 1 == packets.len());
        assert_eq!((descriptor.b, descriptor.e), (first, last), "the frame's begin and end are marked");
        key_frame |= first && !descriptor.p;
    }
    (data, key_frame)
}

fn h264(packets: &[Packet]) -> (Vec<u8>, bool) {
    let mut depacketizer = H264Packet::default();
    let mut data = Vec::new();
    for packet in packets {
        data.extend(depacketizer.depacketize(&packet.payload).expect("an H.264 payload"));
    }
    // ITU-T H.264 table 7-1: type 5 is a coded slice of an IDR picture.
    let key_frame = data.windows(4).any(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 0x1F == 5);
    (data, key_frame)
}
