use lenscast_media::Ssrc;
use thiserror::Error;

use super::h264::ProfileLevelId;
use super::matching::{Special, matches_exactly};
use super::{
    MimeType, RtpCapabilities, RtpCodecCapability, RtpCodecParameters, RtpEncodingParameters,
    RtpHeaderExtensionParameters, RtpParameters, ValidationError,
};
use crate::{PayloadType, Rid};

/// How a producer's numbers become the router's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerMapping {
    /// One for each of the producer's codecs, RTX among them, in the producer's order but RTX last.
    pub codecs: Vec<MappedCodec>,
    /// One for each of the producer's encodings, in its order.
    pub encodings: Vec<MappedEncoding>,
    /// The producer's parameters as both sides agree on them, in the producer's numbers: what an answer says. H.264's level,
    /// feedback and extensions are reduced to what the router understands.
    pub agreed: RtpParameters,
}

/// A payload type and the router's for the same codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedCodec {
    /// In the producer's packets.
    pub payload_type: PayloadType,
    /// In the router.
    pub mapped_payload_type: PayloadType,
}

/// What tells an encoding apart, and the source under which the router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedEncoding {
    /// Its source, if it is known beforehand.
    pub ssrc: Option<Ssrc>,
    /// Its name, if it has one.
    pub rid: Option<Rid>,
    /// Its source in the router; unlike that of every other encoding of the producer.
    pub mapped_ssrc: Ssrc,
}

/// Why a producer's stream cannot enter the router.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Its parameters are not sound in themselves.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// The router does not speak one of its codecs.
    #[error("codecs[{index}] is {mime_type} with payload type {payload_type}, which this router does not speak")]
    UnsupportedCodec {
        /// The codec's position.
        index: usize,
        /// Its name.
        mime_type: MimeType,
        /// Its payload type.
        payload_type: PayloadType,
    },
    /// The router has no RTX for the codec that this one sends again.
    #[error("codecs[{index}] is RTX with payload type {payload_type} of a codec that this router has no RTX for")]
    UnsupportedRtx {
        /// The codec's position.
        index: usize,
        /// Its payload type.
        payload_type: PayloadType,
    },
}

impl RtpParameters {
    /// The same without codecs that the router does not speak, and without RTX of those: what of an offer can be answered.
    #[must_use]
    pub fn reduced_to(mut self, router: &RtpCapabilities) -> Self {
        self.codecs.retain(|codec| codec.mime_type.is_rtx() || media_codec(codec, router).is_some());
        let media: Vec<_> =
            self.codecs.iter().filter(|codec| !codec.mime_type.is_rtx()).map(|codec| codec.payload_type).collect();
        self.codecs.retain(|codec| {
            !codec.mime_type.is_rtx()
                || codec.parameters.apt().is_some_and(|payload_type| media.contains(&payload_type))
        });
        self
    }
}

/// Maps a producer's parameters to the router's. `first_ssrc` is random; the encodings get it and those that follow.
///
/// # Errors
///
/// If the parameters are not sound, or the router does not speak one of the codecs.
pub fn map_producer(
    parameters: &RtpParameters,
    router: &RtpCapabilities,
    first_ssrc: Ssrc,
) -> Result<ProducerMapping, MappingError> {
    parameters.validate()?;
    let mut agreed = parameters.clone();
    let mut codecs = Vec::with_capacity(parameters.codecs.len());
    let media = |codec: &RtpCodecParameters| !codec.mime_type.is_rtx();
    for (index, codec) in parameters.codecs.iter().enumerate().filter(|(_, codec)| media(codec)) {
        let unsupported = || MappingError::UnsupportedCodec {
            index,
            mime_type: codec.mime_type.clone(),
            payload_type: codec.payload_type,
        };
        let (known, mapped_payload_type) = media_codec(codec, router).ok_or_else(unsupported)?;
        codecs.push(MappedCodec { payload_type: codec.payload_type, mapped_payload_type });
        agree(&mut agreed.codecs[index], known);
    }
    for (index, codec) in parameters.codecs.iter().enumerate().filter(|(_, codec)| !media(codec)) {
        let payload_type = codec.payload_type;
        let apt = codec.parameters.apt();
        let of = codecs.iter().find(|mapped| Some(mapped.payload_type) == apt);
        let rtx = of.and_then(|of| router.rtx_of(of.mapped_payload_type)?.preferred_payload_type);
        let mapped_payload_type = rtx.ok_or(MappingError::UnsupportedRtx { index, payload_type })?;
        codecs.push(MappedCodec { payload_type, mapped_payload_type });
    }
    agreed.header_extensions.retain(|extension| {
        let kind = parameters.codec().map(|codec| codec.mime_type.kind());
        let mut known = router.header_extensions.iter().filter(|known| Some(known.kind) == kind);
        known.any(|known| known.uri == extension.uri && known.direction.receives())
    });
    let encodings = parameters.encodings.iter().zip(0..).map(|(encoding, offset)| MappedEncoding {
        ssrc: encoding.ssrc,
        rid: encoding.rid,
        mapped_ssrc: Ssrc(first_ssrc.0.wrapping_add(offset)),
    });
    Ok(ProducerMapping { codecs, encodings: encodings.collect(), agreed })
}

/// The producer's stream in the router's numbers: what consumers and pipes are made from.
///
/// Codec parameters are the producer's, feedback and extensions the router's.
#[must_use]
pub fn consumable_parameters(
    parameters: &RtpParameters,
    router: &RtpCapabilities,
    mapping: &ProducerMapping,
) -> RtpParameters {
    let mut consumable = RtpParameters { rtcp: parameters.rtcp.clone(), ..RtpParameters::default() };
    for codec in mapping.agreed.codecs.iter().filter(|codec| !codec.mime_type.is_rtx()) {
        let mapped = mapping.codecs.iter().find(|mapped| mapped.payload_type == codec.payload_type);
        let Some(payload_type) = mapped.map(|mapped| mapped.mapped_payload_type) else { continue };
        let mut known = router.codecs.iter().filter(|known| known.preferred_payload_type == Some(payload_type));
        let Some(known) = known.next() else { continue };
        consumable
            .codecs
            .push(RtpCodecParameters { parameters: codec.parameters.clone(), ..known.with_payload_type(payload_type) });
        let rtx = router.rtx_of(payload_type);
        consumable.codecs.extend(rtx.and_then(|rtx| Some(rtx.with_payload_type(rtx.preferred_payload_type?))));
    }
    let kind = parameters.codec().map(|codec| codec.mime_type.kind());
    let extensions =
        router.header_extensions.iter().filter(|known| Some(known.kind) == kind && known.direction.sends());
    consumable.header_extensions =
        extensions.map(|known| RtpHeaderExtensionParameters { uri: known.uri, id: known.preferred_id }).collect();
    consumable.encodings = parameters
        .encodings
        .iter()
        .zip(&mapping.encodings)
        .map(|(encoding, mapped)| RtpEncodingParameters {
            ssrc: Some(mapped.mapped_ssrc),
            rid: None,
            rtx_ssrc: None,
            ..*encoding
        })
        .collect();
    consumable
}

/// What the router knows of a media codec, and its payload type there.
fn media_codec<'a>(
    codec: &RtpCodecParameters,
    router: &'a RtpCapabilities,
) -> Option<(&'a RtpCodecCapability, PayloadType)> {
    let known = router.codecs.iter().find(|known| matches_exactly(*known, codec))?;
    Some((known, known.preferred_payload_type?))
}

fn agree(codec: &mut RtpCodecParameters, known: &RtpCodecCapability) {
    codec.feedback.retain(|feedback| known.feedback.contains(feedback));
    if matches!(Special::of((&*codec).into()), Special::H264)
        && let Some(answer) = ProfileLevelId::answer(&codec.parameters, &known.parameters)
    {
        codec.parameters = std::mem::take(&mut codec.parameters).with("profile-level-id", &answer.to_string());
    }
}
