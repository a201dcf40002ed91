use std::fmt;

use crate::{ExtensionId, MediaKind};

/// The header extensions that are understood here, by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtensionUri {
    /// Which m-section a packet belongs to (RFC 9143 §15).
    Mid,
    /// Which encoding a packet belongs to (RFC 8852 §4.1).
    RtpStreamId,
    /// Which encoding a retransmission belongs to (RFC 8852 §4.2).
    RepairedRtpStreamId,
    /// When a packet was sent.
    AbsoluteSendTime,
    /// A sequence over all packets of a transport.
    TransportWideSequence,
    /// How loud a packet is (RFC 6464).
    AudioLevel,
    /// How the picture is to be turned (3GPP TS 26.114 §7.4.5).
    VideoOrientation,
    /// When the content was captured.
    AbsoluteCaptureTime,
    /// How long a receiver may hold the content back.
    PlayoutDelay,
}

impl ExtensionUri {
    /// All of them, in the order of the router's identifiers.
    pub const ALL: [Self; 9] = [
        Self::Mid,
        Self::RtpStreamId,
        Self::RepairedRtpStreamId,
        Self::AbsoluteSendTime,
        Self::TransportWideSequence,
        Self::AudioLevel,
        Self::VideoOrientation,
        Self::AbsoluteCaptureTime,
        Self::PlayoutDelay,
    ];

    /// `None` for what is not understood here.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == uri)
    }

    /// As SDP's `a=extmap` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::RtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRtpStreamId => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Self::AbsoluteSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Self::TransportWideSequence => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Self::VideoOrientation => "urn:3gpp:video-orientation",
            Self::AbsoluteCaptureTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
            Self::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        }
    }

    /// The router's identifier (those of mediasoup's `supportedRtpCapabilities.ts`).
    pub(super) const fn router_id(self) -> ExtensionId {
        let id = match self {
            Self::Mid => 1,
            Self::RtpStreamId => 2,
            Self::RepairedRtpStreamId => 3,
            Self::AbsoluteSendTime => 4,
            Self::TransportWideSequence => 5,
            Self::AudioLevel => 10,
            Self::VideoOrientation => 11,
            Self::AbsoluteCaptureTime => 13,
            Self::PlayoutDelay => 14,
        };
        ExtensionId::new(id).expect("all of them are in 1..=14")
    }

    /// What the router does with it for this kind of media; `None` if it has no meaning there (same source).
    pub(super) const fn router_direction(self, kind: MediaKind) -> Option<Direction> {
        match (self, kind) {
            (Self::RtpStreamId | Self::RepairedRtpStreamId | Self::VideoOrientation, MediaKind::Audio)
            | (Self::AudioLevel, MediaKind::Video) => None,
            // To consumers there is one encoding, and audio is never what congestion is controlled by.
            (Self::RtpStreamId | Self::RepairedRtpStreamId, MediaKind::Video)
            | (Self::TransportWideSequence, MediaKind::Audio) => Some(Direction::RecvOnly),
            _ => Some(Direction::SendRecv),
        }
    }

    /// True for what the transport that sends a packet writes for itself: it has no meaning on the next hop.
    #[must_use]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(self, Self::Mid | Self::AbsoluteSendTime | Self::TransportWideSequence)
    }
}

impl fmt::Display for ExtensionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who sends what is spoken of, seen from whom the capabilities or the section belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both.
    #[default]
    SendRecv,
    /// Only the owner.
    SendOnly,
    /// Only the other side.
    RecvOnly,
    /// Nobody.
    Inactive,
}

impl Direction {
    /// True if the owner sends.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// True if the owner receives.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// A header extension that an endpoint could use with one kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeaderExtensionCapability {
    /// The kind of media.
    pub kind: MediaKind,
    /// What it means.
    pub uri: ExtensionUri,
    /// The identifier the endpoint would give it.
    pub preferred_id: ExtensionId,
    /// What the endpoint would do with it.
    pub direction: Direction,
}

/// A header extension as one stream uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeaderExtensionParameters {
    /// What it means.
    pub uri: ExtensionUri,
    /// Its identifier in the stream's packets.
    pub id: ExtensionId,
}
