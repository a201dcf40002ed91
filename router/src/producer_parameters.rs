use lenscast_media::{MediaCodec, Ssrc};

use crate::{ExtensionId, Mid, PayloadType, Rid};

/// What kind of media a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// Sound: no layers, no key frames.
    Audio,
    /// Pictures.
    Video,
}

/// How a stream enters the router.
#[derive(Debug, Clone)]
pub struct ProducerParameters {
    /// What it is encoded in.
    pub codec: MediaCodec,
    /// Ticks a second of its RTP timestamps.
    pub clock_rate: u32,
    /// Its spatial layers, the smallest first: 1 to [`ProducerParameters::MAX_ENCODINGS`].
    pub encodings: Vec<EncodingParameters>,
    /// Temporal layers of each encoding, 1 if it has none or nobody has said: of received VP8 and VP9 all that the codec
    /// allows are expected then. 0 counts as 1.
    pub temporal_layers: u8,
    /// The payload type of its packets. `None` for a source in this process, whose bursts come without RTP headers.
    pub payload_type: Option<PayloadType>,
    /// The payload type of its retransmissions (RFC 4588).
    pub rtx_payload_type: Option<PayloadType>,
    /// The media identification of its m-section: names its packets that carry no SSRC known yet.
    pub mid: Option<Mid>,
    /// Its sender returns a receiver's reference time (`rcvr-rtt`, RFC 3611 §5), so that the round trip to it can be measured.
    pub returns_reference_times: bool,
    /// The header extensions its sender may use.
    pub extensions: ReceivedExtensions,
}

/// How one spatial layer is told from the others. All are optional: one encoding may have none of them, and of several,
/// those without an SSRC are found by their RID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodingParameters {
    /// Its source.
    pub ssrc: Option<Ssrc>,
    /// The source of its retransmissions.
    pub rtx_ssrc: Option<Ssrc>,
    /// Its name among the encodings (RFC 8851).
    pub rid: Option<Rid>,
}

/// The header extensions of a sender's packets, each with its identifier in that session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceivedExtensions {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143 §15).
    pub mid: Option<ExtensionId>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852 §3.1).
    pub rid: Option<ExtensionId>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852 §3.2).
    pub repaired_rid: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub absolute_send_time: Option<ExtensionId>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_sequence: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`.
    pub absolute_capture_time: Option<ExtensionId>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    pub playout_delay: Option<ExtensionId>,
    /// `urn:3gpp:video-orientation`.
    pub video_orientation: Option<ExtensionId>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub audio_level: Option<ExtensionId>,
}

impl ProducerParameters {
    /// The most encodings a producer can have.
    pub const MAX_ENCODINGS: usize = 4;

    /// Those of a source in this process, with `layers` spatial layers.
    #[must_use]
    pub fn local(codec: MediaCodec, layers: usize, temporal_layers: u8) -> Self {
        Self {
            codec,
            clock_rate: codec.clock_rate(),
            encodings: vec![EncodingParameters::default(); layers],
            temporal_layers,
            payload_type: None,
            rtx_payload_type: None,
            mid: None,
            returns_reference_times: false,
            extensions: ReceivedExtensions::default(),
        }
    }

    /// Sound or pictures.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        match self.codec {
            MediaCodec::Video(_) => MediaKind::Video,
            MediaCodec::Opus => MediaKind::Audio,
        }
    }

    /// True if its bursts are made in this process: whole frames, and what is missing never comes. Of a stream that was
    /// received, what is missing may come late.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.payload_type.is_none()
    }
}
