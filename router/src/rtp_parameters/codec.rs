use super::{FormatParameters, MimeType, RtcpFeedback};
use crate::{MediaKind, PayloadType};

/// A codec that an endpoint could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpCodecCapability {
    /// Its name.
    pub mime_type: MimeType,
    /// The payload type the endpoint would give it.
    pub preferred_payload_type: Option<PayloadType>,
    /// Ticks of its RTP clock per second.
    pub clock_rate: u32,
    /// Number of channels of audio: 1 if nothing is said (RFC 8866 §6.6). `None` for video.
    pub channels: Option<u8>,
    /// Its own parameters.
    pub parameters: FormatParameters,
    /// The feedback that the endpoint would send or obey.
    pub feedback: Vec<RtcpFeedback>,
}

/// A codec as one stream uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpCodecParameters {
    /// Its name.
    pub mime_type: MimeType,
    /// Its payload type in the stream's packets.
    pub payload_type: PayloadType,
    /// Ticks of its RTP clock per second.
    pub clock_rate: u32,
    /// As [`RtpCodecCapability::channels`].
    pub channels: Option<u8>,
    /// Its own parameters.
    pub parameters: FormatParameters,
    /// The feedback that the receiver of the stream may send.
    pub feedback: Vec<RtcpFeedback>,
}

impl RtpCodecCapability {
    /// A video codec on the 90 kHz clock (RFC 3551 §5) without parameters or feedback.
    ///
    /// # Panics
    ///
    /// If `encoding_name` is no token: it is for names written in the source.
    #[must_use]
    pub fn video(encoding_name: &str) -> Self {
        Self::new(MediaKind::Video, encoding_name, 90_000, None)
    }

    /// Opus, which always says 48,000 Hz and two channels (RFC 7587 §7).
    #[must_use]
    pub fn opus() -> Self {
        Self::new(MediaKind::Audio, "opus", 48_000, Some(2))
    }

    fn new(kind: MediaKind, encoding_name: &str, clock_rate: u32, channels: Option<u8>) -> Self {
        Self {
            mime_type: MimeType::new(kind, encoding_name).expect("a name in the source is a token"),
            preferred_payload_type: None,
            clock_rate,
            channels,
            parameters: FormatParameters::new(),
            feedback: Vec::new(),
        }
    }

    /// As a stream would use it under this payload type.
    #[must_use]
    pub fn with_payload_type(&self, payload_type: PayloadType) -> RtpCodecParameters {
        RtpCodecParameters {
            mime_type: self.mime_type.clone(),
            payload_type,
            clock_rate: self.clock_rate,
            channels: self.channels,
            parameters: self.parameters.clone(),
            feedback: self.feedback.clone(),
        }
    }
}

/// What capabilities and parameters have in common: what decides whether two mean the same codec.
#[derive(Debug, Clone, Copy)]
pub struct CodecIdentity<'a> {
    pub(super) mime_type: &'a MimeType,
    pub(super) clock_rate: u32,
    pub(super) channels: Option<u8>,
    pub(super) parameters: &'a FormatParameters,
}

impl<'a> From<&'a RtpCodecCapability> for CodecIdentity<'a> {
    fn from(codec: &'a RtpCodecCapability) -> Self {
        Self {
            mime_type: &codec.mime_type,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: &codec.parameters,
        }
    }
}

impl<'a> From<&'a RtpCodecParameters> for CodecIdentity<'a> {
    fn from(codec: &'a RtpCodecParameters) -> Self {
        Self {
            mime_type: &codec.mime_type,
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: &codec.parameters,
        }
    }
}
