use lenscast_media::{RtpTime, Ssrc};
use thiserror::Error;

use super::extensions::HeaderExtensionBytes;
use crate::PayloadType;

/// An RTP packet as it came (RFC 3550 §5.1), in the clear. Borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The last packet of a frame (video), or the first of a talk spurt (audio).
    pub marker: bool,
    /// How the payload is coded.
    pub payload_type: PayloadType,
    /// Counts the source's packets modulo 65,536.
    pub sequence: u16,
    /// When it was sampled, on the stream's clock.
    pub timestamp: RtpTime,
    /// Its source.
    pub ssrc: Ssrc,
    /// What stands in the header extension, still unread.
    pub extensions: HeaderExtensionBytes<'a>,
    /// What it carries, without padding. Empty in a packet that is nothing but padding.
    pub payload: &'a [u8],
}

/// Why bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadRtpError {
    /// Shorter than the fixed header, or than what the header says it has.
    #[error("RTP packet of {0} bytes is shorter than its header")]
    TooShort(usize),
    /// The version bits are not 2.
    #[error("RTP version is {0}, must be 2")]
    Version(u8),
    /// 64 to 95: RTCP on a multiplexed port (RFC 5761 §4).
    #[error("RTP payload type {0} is set aside for RTCP")]
    PayloadType(u8),
    /// The padding is none, or longer than what it pads.
    #[error("RTP packet says it has {0} bytes of padding")]
    Padding(u8),
}

/// The fixed header without contributing sources.
const FIXED_HEADER: usize = 12;
const PADDED: u8 = 0x20;
const EXTENDED: u8 = 0x10;
const CONTRIBUTORS: u8 = 0x0F;
const MARKER: u8 = 0x80;

impl<'a> RtpPacket<'a> {
    /// Reads the header; what stands in its extension is left to [`super::ExtensionReader`].
    ///
    /// # Errors
    ///
    /// If the bytes are no RTP packet.
    #[inline]
    pub fn read(packet: &'a [u8]) -> Result<Self, ReadRtpError> {
        let too_short = ReadRtpError::TooShort(packet.len());
        let (fixed, rest) = packet.split_first_chunk::<FIXED_HEADER>().ok_or(too_short)?;
        if fixed[0] >> 6 != 2 {
            return Err(ReadRtpError::Version(fixed[0] >> 6));
        }
        let number = fixed[1] & !MARKER;
        let payload_type = PayloadType::new(number).ok_or(ReadRtpError::PayloadType(number))?;
        let contributors = usize::from(fixed[0] & CONTRIBUTORS) * 4;
        let mut rest = rest.get(contributors..).ok_or(too_short)?;
        let mut extensions = HeaderExtensionBytes::default();
        if fixed[0] & EXTENDED != 0 {
            let (head, behind) = rest.split_first_chunk::<4>().ok_or(too_short)?;
            let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            let (data, behind) = behind.split_at_checked(len).ok_or(too_short)?;
            extensions = HeaderExtensionBytes { profile: u16::from_be_bytes([head[0], head[1]]), data };
            rest = behind;
        }
        if fixed[0] & PADDED != 0 {
            let padding = rest.last().copied().unwrap_or(0);
            let end = rest.len().checked_sub(usize::from(padding)).filter(|_| padding > 0);
            rest = &rest[..end.ok_or(ReadRtpError::Padding(padding))?];
        }
        Ok(Self {
            marker: fixed[1] & MARKER != 0,
            payload_type,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: RtpTime(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            extensions,
            payload: rest,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::header::Header;
    use rtc_rtp::packet::Packet;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;

    proptest! {
        #[test]
        fn what_another_stack_writes_is_read(
            marker: bool, number in prop::sample::select(vec![0_u8, 63, 96, 127]), sequence: u16, timestamp: u32, ssrc: u32,
            csrc in prop::collection::vec(any::<u32>(), 0..15), payload in prop::collection::vec(any::<u8>(), 0..50),
            extension in prop::option::of(prop::collection::vec(any::<u8>(), 1..16)), padding in 0_usize..8
        ) {
            let mut header = Header {
                version: 2, marker, payload_type: number, sequence_number: sequence, timestamp, ssrc, csrc, ..Header::default()
            };
            if let Some(data) = &extension {
                header.set_extension(3, Bytes::copy_from_slice(data)).unwrap();
            }
            let mut written = Packet { header, payload: Bytes::copy_from_slice(&payload) }.marshal().unwrap().to_vec();
            if padding > 0 {
                written[0] |= PADDED;
                written.resize(written.len() + padding, 0);
                *written.last_mut().unwrap() = padding as u8;
            }
            let read = RtpPacket::read(&written).unwrap();
            prop_assert_eq!((read.marker, read.payload_type.value(), read.sequence), (marker, number, sequence));
            prop_assert_eq!((read.timestamp, read.ssrc, read.payload), (RtpTime(timestamp), Ssrc(ssrc), &payload[..]));
            let elements: Vec<_> = read.extensions.elements().map(|(id, data)| (id, data.to_vec())).collect();
            prop_assert_eq!(elements, extension.map(|data| (3, data)).into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_survived_and_read_as_by_another_stack(mut bytes in prop::collection::vec(any::<u8>(), 12..80)) {
            let _ = RtpPacket::read(&bytes).is_ok_and(|packet| packet.extensions.elements().count() > 0);
            // Nearly a packet, of which the other stack reads only the header, and never an extension of ours it refuses.
            bytes[0] = 0x80 | bytes[0] & 0x0F;
            bytes[1] |= 0x60;
            let theirs = Header::unmarshal(&mut &bytes[..]);
            match RtpPacket::read(&bytes) {
                Ok(ours) => {
                    let theirs = theirs.unwrap();
                    prop_assert_eq!((ours.sequence, ours.ssrc.0), (theirs.sequence_number, theirs.ssrc));
                    prop_assert_eq!(ours.payload.len(), bytes.len() - 12 - theirs.csrc.len() * 4);
                }
                Err(error) => prop_assert!(theirs.is_err(), "{error}"),
            }
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let mut packet = [0_u8; 16];
        packet[0] = 0x80;
        for (at, value, text) in [
            (0, 0x40, "RTP version is 1, must be 2"),
            (0, 0x8F, "RTP packet of 16 bytes is shorter than its header"),
            (0, 0x82, "RTP packet of 16 bytes is shorter than its header"),
            (0, 0xA0, "RTP packet says it has 0 bytes of padding"),
            (1, 200, "RTP payload type 72 is set aside for RTCP"),
        ] {
            let mut packet = packet;
            packet[at] = value;
            assert_eq!(RtpPacket::read(&packet).unwrap_err().to_string(), text);
        }
        packet[0] = 0xB0;
        packet[15] = 200;
        assert_eq!(RtpPacket::read(&packet), Err(ReadRtpError::TooShort(16)), "an extension longer than the packet");
        packet[0] = 0xA0;
        assert_eq!(RtpPacket::read(&packet), Err(ReadRtpError::Padding(200)));
        packet[15] = 4;
        assert_eq!(RtpPacket::read(&packet).unwrap().payload, &[0_u8; 0][..], "nothing but padding");
    }
}
