//! What passes between sender and receiver, and how many bytes it takes on the wire.

use lenscast_congestion::PacketKind;
use lenscast_media::Ssrc;

use crate::controllers::str0m::Datagram;

/// IPv4 and UDP.
const NETWORK_HEADERS: u32 = 20 + 8;
/// The RTP header, a header extension with a transport-wide number (3 bytes) and a time of sending (4 bytes), and the tag of
/// AEAD_AES_128_GCM (RFC 7714).
const RTP_OVERHEAD: u32 = 12 + 4 + 8 + 16;
/// The original number of what is sent again (RFC 4588, section 4).
const RTX_HEADER: u32 = 2;
/// An RTCP feedback message's header and two SSRCs, and SRTCP's index and tag.
const RTCP_OVERHEAD: u32 = 12 + 4 + 16;

/// What a packet of media takes on the wire beside its payload.
pub(crate) const MEDIA_OVERHEAD: u32 = NETWORK_HEADERS + RTP_OVERHEAD;

/// The most that a packet carries of a frame: as lenscast's packetizers, within 1,200 bytes of UDP payload.
pub(crate) const MAX_PAYLOAD: u32 = 1_134;

/// What travels between sender and receiver.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Rtp(Rtp),
    /// A message's FCI.
    Feedback(Vec<u8>),
    /// Packets that did not come: track and number.
    Nack(Vec<(u8, u64)>),
    /// Whatever str0m's peers say to each other.
    Datagram(Datagram),
}

/// What comes with a message that matters to the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Whose record it is written down in.
    pub(crate) track: u8,
    /// The number of the video's packet there.
    pub(crate) number: Option<u64>,
    /// Not sent before.
    pub(crate) first: bool,
}

impl Message {
    /// What comes with it if it is from a sender.
    pub(crate) fn arrived(&self) -> Arrived {
        match self {
            Self::Rtp(rtp) => {
                Arrived { track: rtp.track, number: rtp.video.map(|(_, number)| number), first: rtp.first }
            }
            Self::Datagram(datagram) => Arrived {
                track: datagram.media.map_or(0, |part| part.track),
                number: datagram.media.map(|part| part.number),
                first: datagram.kind == Some(PacketKind::Video),
            },
            Self::Feedback(_) | Self::Nack(_) => Arrived { track: 0, number: None, first: false },
        }
    }
}

/// How receivers tell what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedbackFormat {
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportWide,
    /// RFC 8888, which tells of marks as well.
    Rfc8888,
}

/// A packet of audio or video.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rtp {
    pub(crate) transport_sequence: u16,
    pub(crate) ssrc: Ssrc,
    /// RTP's, within the stream.
    pub(crate) sequence: u16,
    /// Which video it is of, and its number there. `None` of audio.
    pub(crate) video: Option<(u8, u64)>,
    /// Whose record it is written down in.
    pub(crate) track: u8,
    /// Not sent before.
    pub(crate) first: bool,
}

/// A message with all that the network wants to know.
#[derive(Debug)]
pub(crate) struct Addressed {
    pub(crate) size: u32,
    pub(crate) message: Message,
}

/// Bytes on the wire of a packet with so much payload.
pub(crate) fn media_size(payload: u32, first: bool) -> u32 {
    payload + MEDIA_OVERHEAD + if first { 0 } else { RTX_HEADER }
}

impl Addressed {
    pub(crate) fn feedback(fci: Vec<u8>) -> Self {
        let size = NETWORK_HEADERS + RTCP_OVERHEAD + fci.len() as u32;
        Self { size, message: Message::Feedback(fci) }
    }

    /// As many entries as there are take 4 bytes for each 17 numbers (RFC 4585, section 6.2.1).
    pub(crate) fn nack(numbers: Vec<(u8, u64)>) -> Self {
        let mut entries = 0;
        let mut begun: Option<(u8, u64)> = None;
        for (track, number) in &numbers {
            if begun.is_none_or(|(of, first)| of != *track || *number < first || number - first > 16) {
                entries += 1;
                begun = Some((*track, *number));
            }
        }
        Self { size: NETWORK_HEADERS + RTCP_OVERHEAD + 4 * entries, message: Message::Nack(numbers) }
    }
}

/// The sizes of the packets that a frame is cut into: as equal as whole bytes can be.
pub(crate) fn cut(frame: u32) -> impl Iterator<Item = u32> {
    let count = frame.div_ceil(MAX_PAYLOAD).max(1);
    let (each, longer) = (frame / count, frame % count);
    (0..count).map(move |index| each + u32::from(index < longer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_into_equal_packets() {
        assert_eq!(cut(2_269).collect::<Vec<_>>(), [757, 756, 756]);
        assert_eq!(cut(MAX_PAYLOAD).collect::<Vec<_>>(), [MAX_PAYLOAD]);
        assert_eq!(cut(0).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_nack_entry_holds_seventeen_numbers() {
        let nack = |numbers: &[u64]| Addressed::nack(numbers.iter().map(|number| (0, *number)).collect()).size;
        assert_eq!(nack(&[1, 17]), nack(&[1]));
        assert_eq!(nack(&[1, 18]), nack(&[1]) + 4);
    }
}
