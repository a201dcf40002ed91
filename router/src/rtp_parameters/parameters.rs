use super::{ExtensionUri, RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionParameters};
use crate::{ExtensionId, Mid, PayloadType};

/// How one stream is sent: by a producer to the router, or by the router to a consumer or a pipe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RtpParameters {
    /// Its section, if its packets carry that.
    pub mid: Option<Mid>,
    /// Its codecs, the one it is sent in first, RTX among them.
    pub codecs: Vec<RtpCodecParameters>,
    /// The header extensions its packets carry.
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// Its encodings, the smallest first.
    pub encodings: Vec<RtpEncodingParameters>,
    /// Its RTCP.
    pub rtcp: RtcpParameters,
}

/// What a stream's RTCP is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtcpParameters {
    /// The canonical name of its sender (RFC 7022), if it is known.
    pub cname: Option<String>,
    /// Packets need not be compound (RFC 5506).
    pub reduced_size: bool,
}

impl Default for RtcpParameters {
    /// As mediasoup has it if nothing is said.
    fn default() -> Self {
        Self { cname: None, reduced_size: true }
    }
}

impl RtpParameters {
    /// The codec that the stream is sent in: the first that is none of RTX.
    #[must_use]
    pub fn codec(&self) -> Option<&RtpCodecParameters> {
        self.codecs.iter().find(|codec| !codec.mime_type.is_rtx())
    }

    /// The payload type under which packets of `payload_type` are sent again.
    #[must_use]
    pub fn rtx_of(&self, payload_type: PayloadType) -> Option<PayloadType> {
        let mut rtx = self.codecs.iter().filter(|codec| codec.mime_type.is_rtx());
        rtx.find(|codec| codec.parameters.apt() == Some(payload_type)).map(|codec| codec.payload_type)
    }

    /// The identifier of an extension in the stream's packets.
    #[must_use]
    pub fn extension(&self, uri: ExtensionUri) -> Option<ExtensionId> {
        self.header_extensions.iter().find(|extension| extension.uri == uri).map(|extension| extension.id)
    }
}
