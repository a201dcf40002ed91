//! RTP headers (RFC 3550 §5.1) and their one-byte extensions (RFC 8285 §4.2), written once a burst and patched per
//! packet.

use std::fmt;
use std::num::NonZeroU8;
use std::ops::Range;

use lenscast_congestion::PacketKind;
use lenscast_media::{Burst, MediaCodec, NtpTime, PassedExtensions, RtpTime, Ssrc};

use crate::rewrite::Rewrite;

/// The fixed header of RFC 3550 §5.1 without CSRCs.
const FIXED_HEADER: usize = 12;
/// Bytes before the payload of a packet that is sent again (RFC 4588 §4).
const ORIGINAL_SEQUENCE: usize = 2;
/// Bytes of the longest header: the fixed one, and all extensions that a viewer can have.
pub const MAX_HEADER: usize = FIXED_HEADER + 4 + MAX_EXTENSIONS;
/// MID 1 + 16, abs-capture-time 1 + 8, playout-delay 1 + 3, video orientation and audio level 1 + 1 each, abs-send-time
/// 1 + 3, transport-wide sequence 1 + 2, rounded up to whole words.
const MAX_EXTENSIONS: usize = 44;

/// An RTP payload type: 7 bits (RFC 3550 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadType(u8);

impl PayloadType {
    /// `None` above 127, and for 64 to 95, which collide with RTCP on a multiplexed port (RFC 5761 §4).
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value > 127 || matches!(value, 64..=95) { None } else { Some(Self(value)) }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The local identifier of a header extension in its one-byte form: 1 to 14 (RFC 8285 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtensionId(u8);

impl ExtensionId {
    /// `None` outside 1 to 14.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if matches!(value, 1..=14) { Some(Self(value)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// The media identification of an m-section (RFC 9143 §15.2), 1 to 16 bytes so that a one-byte extension holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mid {
    bytes: [u8; 16],
    len: u8,
}

impl Mid {
    /// `None` if `text` is empty or longer than 16 bytes.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let len = text.len();
        if !(1..=16).contains(&len) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: len as u8 })
    }

    /// From the bytes of a header extension; `None` if they are none, too many, or no UTF-8.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().and_then(Self::new)
    }

    /// What a header extension carries.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("it was made of text")
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an encoding (RFC 8851 §3, RFC 8852 §3), 1 to 16 bytes so that a one-byte extension holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rid(Mid);

impl Rid {
    /// `None` unless `text` is 1 to 16 letters and digits of ASCII, hyphens and underscores.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if legal { Mid::new(text).map(Self) } else { None }
    }

    /// From the bytes of a header extension.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().and_then(Self::new)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The header extensions a viewer has negotiated, each with its identifier in that session.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeaderExtensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143 §15).
    pub mid: Option<(ExtensionId, Mid)>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`, the form without a clock offset: the capture
    /// clock is ours, or the source's own, passed on.
    pub absolute_capture_time: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`: the source's, or minimum 0 and maximum 0: show at
    /// once.
    pub playout_delay: Option<ExtensionId>,
    /// `urn:3gpp:video-orientation`, passed on.
    pub video_orientation: Option<ExtensionId>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`, passed on.
    pub audio_level: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`, written by the sending transport.
    pub absolute_send_time: Option<ExtensionId>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`, written by the sending transport.
    pub transport_sequence: Option<ExtensionId>,
}

impl HeaderExtensions {
    /// True if every packet has something to be written when it leaves.
    pub(crate) const fn are_stamped(&self) -> bool {
        self.absolute_send_time.is_some() || self.transport_sequence.is_some()
    }
}

/// Packets of one burst as one viewer is to get them.
///
/// All of them carry the same extensions, so that packets of equal payload are equal on the wire.
#[derive(Debug)]
pub struct RtpPackets<'a> {
    pub(crate) burst: &'a Burst,
    pub(crate) packets: Range<usize>,
    pub(crate) header: Header,
    /// The stream of media; that of `header` is another one for a retransmission.
    pub(crate) media: Ssrc,
    pub(crate) first_index: u64,
    /// Set for a retransmission (RFC 4588 §4): the sequence number the packet was first sent with.
    pub(crate) original_sequence: Option<u16>,
    /// For what payloads say of their place in the stream.
    pub(crate) rewrite: Rewrite,
    /// They go out without payload, as padding does, only to be no longer missing.
    pub(crate) blank: bool,
    /// They are there to be measured, or to carry bytes that are.
    pub(crate) padding: Option<Padding>,
}

/// What is in a packet that is sent for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// A packet that was sent before.
    Payload,
    /// So many bytes of padding (RFC 3550 §5.1), the last of which says how many; at least one.
    Bytes(u8),
}

/// What must be known of a written packet to protect it (RFC 3711 §3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketLayout {
    /// Bytes that stay readable, at the packet's start.
    pub header_len: usize,
    /// The packet's source.
    pub ssrc: Ssrc,
    /// The packet index: rollover counter and sequence number, 48 bits.
    pub index: u64,
    /// What is still to be written before it is protected.
    pub stamps: Stamps,
}

/// Places in a packet's header for what is known once it leaves only, in bytes from its start. Zeros stand there till then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamps {
    absolute_send_time: Option<NonZeroU8>,
    transport_sequence: Option<NonZeroU8>,
}

impl Stamps {
    /// True if there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.absolute_send_time.is_none() && self.transport_sequence.is_none()
    }

    /// True if the packet has a number among all of its transport's.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.transport_sequence.is_some()
    }

    /// Writes into `packet` when it leaves, and its number among all of its transport's packets, as far as it has places for
    /// them.
    ///
    /// # Panics
    ///
    /// If `packet` is not one that these places are of.
    pub fn write(&self, packet: &mut [u8], sent: NtpTime, sequence: u16) {
        if let Some(at) = self.absolute_send_time {
            // 6 bits of seconds and 18 of fraction.
            let [.., high, middle, low] = ((sent.0 >> 14) as u32).to_be_bytes();
            packet[usize::from(at.get())..][..3].copy_from_slice(&[high, middle, low]);
        }
        if let Some(at) = self.transport_sequence {
            packet[usize::from(at.get())..][..2].copy_from_slice(&sequence.to_be_bytes());
        }
    }
}

impl RtpPackets<'_> {
    /// Number of packets; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// The stream that they are of, a retransmission's too.
    #[must_use]
    pub fn ssrc(&self) -> Ssrc {
        self.header.ssrc()
    }

    /// The stream of media that they are of, or that they repeat.
    #[must_use]
    pub const fn media_ssrc(&self) -> Ssrc {
        self.media
    }

    /// They are of a key frame.
    #[must_use]
    pub fn is_key_frame(&self) -> bool {
        self.burst.meta().key_frame
    }

    /// What they are for.
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        match self.burst.meta().codec {
            _ if self.padding.is_some() => PacketKind::Padding,
            MediaCodec::Opus => PacketKind::Audio,
            MediaCodec::Video(_) if self.original_sequence.is_some() => PacketKind::Retransmission,
            MediaCodec::Video(_) => PacketKind::Video,
        }
    }

    /// Bytes of all of them, headers and payloads.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        let original = if self.original_sequence.is_some() { ORIGINAL_SEQUENCE } else { 0 };
        let payload = match self.padding {
            Some(Padding::Bytes(bytes)) => usize::from(bytes),
            _ if self.blank => 0,
            _ if self.packets == (0..self.burst.len()) => self.burst.payload_bytes(),
            _ => self.packets.clone().map(|packet| self.burst.payload(packet).len()).sum(),
        };
        self.packets.len() * (self.header.len + original) + payload
    }

    /// Writes the header of packet `position` to the start of `out`, of which all of [`MAX_HEADER`] bytes may change.
    ///
    /// # Panics
    ///
    /// If `position` is not below [`RtpPackets::len`], or `out` is shorter than [`MAX_HEADER`].
    pub fn write_header(&self, position: usize, out: &mut [u8]) -> PacketLayout {
        let packet = self.packets.start + position;
        let index = self.first_index + position as u64;
        let marker = self.is_marked(packet);
        out[..MAX_HEADER].copy_from_slice(&self.header.bytes);
        Header::number(index as u16, marker, out);
        self.layout(index)
    }

    /// The payload of packet `position` if it goes out as it came; `None` if it takes [`RtpPackets::write`] to make it.
    #[must_use]
    pub fn payload(&self, position: usize) -> Option<&[u8]> {
        let kept = self.original_sequence.is_none() && self.padding.is_none() && self.rewrite.keeps_payload();
        let payload = || if self.blank { &[] } else { self.burst.payload(self.packets.start + position) };
        kept.then(payload)
    }

    /// Appends packet `position` (0 to [`RtpPackets::len`]) to `out`, header and payload in the clear.
    ///
    /// # Panics
    ///
    /// If `position` is not below [`RtpPackets::len`].
    pub fn write(&self, position: usize, out: &mut Vec<u8>) -> PacketLayout {
        let packet = self.packets.start + position;
        let index = self.first_index + position as u64;
        let marker = self.is_marked(packet);
        self.header.write(index as u16, marker, out);
        if let Some(original) = self.original_sequence {
            out.extend_from_slice(&original.to_be_bytes());
        }
        if let Some(Padding::Bytes(bytes)) = self.padding {
            out.resize(out.len() + usize::from(bytes) - 1, 0);
            out.push(bytes);
        } else if !self.blank {
            let payload = out.len();
            out.extend_from_slice(self.burst.payload(packet));
            if !self.rewrite.keeps_payload() {
                self.rewrite.apply(self.burst.meta().codec, &mut out[payload..]);
            }
        }
        self.layout(index)
    }

    const fn layout(&self, index: u64) -> PacketLayout {
        PacketLayout { header_len: self.header.len, ssrc: self.header.ssrc(), index, stamps: self.header.stamps }
    }

    fn is_marked(&self, packet: usize) -> bool {
        let is_padding = matches!(self.padding, Some(Padding::Bytes(_)));
        !self.blank && !is_padding && packet + 1 == self.burst.len() && self.burst.meta().ends_frame
    }
}

/// An RTP header complete but for its sequence numbers and marker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
    stamps: Stamps,
}

/// What a burst's headers carry besides what every packet has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    /// What a receiver keeps until told otherwise is due: MID, capture time, playout delay.
    pub(crate) periodic: bool,
    pub(crate) captured: NtpTime,
    /// Of a local source, which says nothing itself.
    pub(crate) local: bool,
    pub(crate) passed: PassedExtensions,
}

impl Header {
    pub(crate) fn new(payload_type: PayloadType, ssrc: Ssrc, timestamp: RtpTime) -> Self {
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = 0x80;
        bytes[1] = payload_type.0;
        bytes[4..8].copy_from_slice(&timestamp.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
        Self { bytes, len: FIXED_HEADER, stamps: Stamps::default() }
    }

    /// What it stands before ends with padding.
    pub(crate) const fn with_padding(mut self) -> Self {
        self.bytes[0] |= 0x20;
        self
    }

    #[inline]
    pub(crate) fn with_extensions(mut self, extensions: &HeaderExtensions, carried: &Carried) -> Self {
        let Carried { passed, .. } = carried;
        if carried.periodic {
            if let Some((id, mid)) = &extensions.mid {
                self.push_extension(*id, mid.as_bytes());
            }
            if let Some(id) = extensions.playout_delay
                && carried.local
                && passed.playout_delay.is_none()
            {
                self.push_extension(id, &[0; 3]);
            }
        }
        if let Some(id) = extensions.absolute_capture_time {
            let captured = if carried.local && carried.periodic { Some(carried.captured) } else { None };
            if let Some(time) = passed.absolute_capture_time.or(captured) {
                self.push_extension(id, &time.0.to_be_bytes());
            }
        }
        if let (Some(id), Some(delay)) = (extensions.playout_delay, passed.playout_delay) {
            self.push_extension(id, &delay);
        }
        if let (Some(id), Some(orientation)) = (extensions.video_orientation, passed.video_orientation) {
            self.push_extension(id, &[orientation]);
        }
        if let (Some(id), Some(level)) = (extensions.audio_level, passed.audio_level) {
            self.push_extension(id, &[level]);
        }
        if let Some(id) = extensions.absolute_send_time {
            self.push_extension(id, &[0; 3]);
            self.stamps.absolute_send_time = NonZeroU8::new(self.len as u8 - 3);
        }
        if let Some(id) = extensions.transport_sequence {
            self.push_extension(id, &[0; 2]);
            self.stamps.transport_sequence = NonZeroU8::new(self.len as u8 - 2);
        }
        self.close_extensions();
        self
    }

    fn push_extension(&mut self, id: ExtensionId, data: &[u8]) {
        if self.len == FIXED_HEADER {
            self.bytes[0] |= 0x10;
            self.bytes[FIXED_HEADER..FIXED_HEADER + 2].copy_from_slice(&[0xBE, 0xDE]);
            self.len += 4;
        }
        self.bytes[self.len] = id.0 << 4 | (data.len() - 1) as u8;
        self.bytes[self.len + 1..=self.len + data.len()].copy_from_slice(data);
        self.len += 1 + data.len();
    }

    fn close_extensions(&mut self) {
        if self.len > FIXED_HEADER {
            self.len = self.len.next_multiple_of(4);
            let words = ((self.len - FIXED_HEADER) / 4 - 1) as u16;
            self.bytes[FIXED_HEADER + 2..FIXED_HEADER + 4].copy_from_slice(&words.to_be_bytes());
        }
    }

    const fn ssrc(&self) -> Ssrc {
        Ssrc(u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]]))
    }

    fn write(&self, sequence: u16, marker: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes[..self.len]);
        Self::number(sequence, marker, &mut out[start..]);
    }

    /// Completes a copy of one, which `packet` begins with.
    fn number(sequence: u16, marker: bool, packet: &mut [u8]) {
        packet[1] |= u8::from(marker) << 7;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use rtc_rtp::header::Header as Oracle;
    use rtc_shared::marshal::Unmarshal;

    use super::*;

    fn carried() -> Carried {
        Carried {
            periodic: true,
            captured: NtpTime(0x0102_0304_0506_0708),
            local: true,
            passed: PassedExtensions::default(),
        }
    }

    fn written(extensions: &HeaderExtensions, sequence: u16, marker: bool) -> (Oracle, usize, usize) {
        let header = Header::new(PayloadType::new(96).unwrap(), Ssrc(0xDEAD_BEEF), RtpTime(7))
            .with_extensions(extensions, &carried());
        let mut packet = Vec::new();
        header.write(sequence, marker, &mut packet);
        let mut rest = packet.as_slice();
        let oracle = Oracle::unmarshal(&mut rest).unwrap();
        (oracle, rest.len(), packet.len())
    }

    #[test]
    fn another_stack_reads_the_header_and_its_extensions() {
        let id = |value| ExtensionId::new(value).unwrap();
        let extensions = HeaderExtensions {
            mid: Some((id(4), Mid::new("video-0").unwrap())),
            absolute_capture_time: Some(id(9)),
            playout_delay: Some(id(14)),
            ..HeaderExtensions::default()
        };
        let (header, rest, len) = written(&extensions, 65_535, true);
        assert_eq!((header.ssrc, header.sequence_number, header.timestamp), (0xDEAD_BEEF, 65_535, 7));
        assert_eq!((header.payload_type, header.marker, rest), (96, true, 0));
        assert_eq!(header.get_extension(4).unwrap(), &b"video-0"[..]);
        assert_eq!(header.get_extension(9).unwrap(), &[1, 2, 3, 4, 5, 6, 7, 8][..]);
        assert_eq!(header.get_extension(14).unwrap(), &[0, 0, 0][..]);
        assert_eq!(len % 4, 0);
    }

    #[test]
    fn a_header_without_extensions_is_twelve_bytes() {
        let (header, rest, len) = written(&HeaderExtensions::default(), 1, false);
        assert_eq!((header.marker, header.extension, rest, len), (false, false, 0, 12));
    }

    #[test]
    fn the_longest_extensions_fit() {
        let id = |value| ExtensionId::new(value).unwrap();
        let extensions = HeaderExtensions {
            mid: Some((id(1), Mid::new("0123456789abcdef").unwrap())),
            absolute_capture_time: Some(id(2)),
            playout_delay: Some(id(3)),
            video_orientation: Some(id(4)),
            audio_level: Some(id(5)),
            absolute_send_time: Some(id(6)),
            transport_sequence: Some(id(7)),
        };
        let passed = PassedExtensions {
            absolute_capture_time: Some(NtpTime(7)),
            video_orientation: Some(1),
            audio_level: Some(0x85),
            playout_delay: Some([1, 2, 3]),
        };
        let header = Header::new(PayloadType::new(96).unwrap(), Ssrc(1), RtpTime(7))
            .with_extensions(&extensions, &Carried { passed, local: false, ..carried() });
        let mut packet = Vec::new();
        header.write(0, false, &mut packet);
        header.stamps.write(&mut packet, NtpTime(0x0000_0001_8000_0000), 0x0102);
        let header = Oracle::unmarshal(&mut packet.as_slice()).unwrap();
        assert_eq!(header.get_extension(1).unwrap(), &b"0123456789abcdef"[..]);
        assert_eq!(header.get_extension(2).unwrap(), &[0, 0, 0, 0, 0, 0, 0, 7][..]);
        assert_eq!(header.get_extension(3).unwrap(), &[1, 2, 3][..]);
        assert_eq!(
            (&header.get_extension(4).unwrap()[..], &header.get_extension(5).unwrap()[..]),
            (&[1][..], &[0x85][..])
        );
        assert_eq!(header.get_extension(6).unwrap(), &[0x06, 0, 0][..], "1.5 s, as 6.18 bits");
        assert_eq!(header.get_extension(7).unwrap(), &[1, 2][..]);
        assert!(Mid::new("").is_none() && Mid::new("0123456789abcdefg").is_none());
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_refused() {
        assert!(PayloadType::new(96).is_some() && PayloadType::new(63).is_some());
        for value in [64, 72, 95, 128, 255] {
            assert!(PayloadType::new(value).is_none(), "{value}");
        }
    }
}
