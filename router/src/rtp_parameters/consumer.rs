use lenscast_media::Ssrc;
use thiserror::Error;

use super::matching::{decodes, matches_exactly};
use super::{
    Direction, ExtensionUri, FormatParameters, MimeType, RtcpFeedback, RtpCapabilities, RtpCodecCapability,
    RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionParameters, RtpParameters, ScalabilityMode,
    ValidationError,
};
use crate::{MediaKind, PayloadType};

/// Whose payload types and extension identifiers a consumer's packets carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// The router's, as in mediasoup: the receiver is told them.
    Router,
    /// The receiver's own: it has offered, and an answer must keep to its numbers (RFC 3264 §6.1).
    Remote,
}

/// What is chosen for a consumer besides what both sides can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// The source of its media packets: random, unique within its transport.
    pub ssrc: Ssrc,
    /// The same for its retransmissions; `None` for no RTX, and then no NACK.
    pub rtx_ssrc: Option<Ssrc>,
    /// Whose numbers it uses.
    pub numbering: Numbering,
}

/// Why a stream cannot be consumed by a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The receiver's capabilities are not sound in themselves.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// The receiver can decode none of the stream's codecs.
    #[error("the receiver cannot decode {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NoCompatibleCodec(Vec<MimeType>),
}

/// True if `remote` can decode at least one codec of a stream.
///
/// # Errors
///
/// If `remote` is not sound in itself.
pub fn can_consume(consumable: &RtpParameters, remote: &RtpCapabilities) -> Result<bool, ConsumeError> {
    remote.validate()?;
    Ok(media_codecs(consumable).any(|codec| decoder_of(codec, remote).is_some()))
}

/// What one consumer is sent: one encoding, whatever the stream has; the codecs, feedback and extensions that `remote`
/// understands; RTX beside each codec if both want it. Of the two ways to report arrival only one is left: per transport
/// if possible, REMB otherwise.
///
/// # Errors
///
/// If `remote` is not sound in itself or can decode none of the codecs.
pub fn consumer_parameters(
    consumable: &RtpParameters,
    remote: &RtpCapabilities,
    options: &ConsumerOptions,
) -> Result<RtpParameters, ConsumeError> {
    remote.validate()?;
    let mut codecs = Vec::new();
    let mut has_rtx = false;
    for codec in media_codecs(consumable) {
        let Some(decoder) = decoder_of(codec, remote) else { continue };
        let Some(payload_type) = number(codec.payload_type, decoder, options) else { continue };
        let rtx = options.rtx_ssrc.and_then(|_| consumer_rtx(consumable, codec, remote, decoder, options));
        let mut feedback: Vec<RtcpFeedback> =
            codec.feedback.iter().copied().filter(|known| decoder.feedback.contains(known)).collect();
        // Without a stream to send packets again on, a NACK would not be answered.
        feedback.retain(|feedback| *feedback != RtcpFeedback::Nack || rtx.is_some());
        codecs.push(RtpCodecParameters { payload_type, feedback, ..codec.clone() });
        has_rtx |= rtx.is_some();
        codecs.extend(rtx.map(|rtx_payload_type| rtx_codec(codec, rtx_payload_type, payload_type)));
    }
    if codecs.is_empty() {
        let names = media_codecs(consumable).map(|codec| codec.mime_type.clone());
        return Err(ConsumeError::NoCompatibleCodec(names.collect()));
    }
    let kind = codecs[0].mime_type.kind();
    let header_extensions = consumer_extensions(consumable, remote, kind, options.numbering);
    reduce_arrival_reports(&mut codecs, &header_extensions);
    Ok(RtpParameters {
        mid: None,
        codecs,
        header_extensions,
        encodings: vec![one_encoding(consumable, options, has_rtx)],
        rtcp: consumable.rtcp.clone(),
    })
}

/// What a pipe is sent: all encodings, and nothing that is between two hops only. `first_ssrc` and, for RTX, `first_rtx_ssrc`
/// are random; the encodings get them and those that follow. Without RTX there is no NACK either.
#[must_use]
pub fn pipe_consumer_parameters(
    consumable: &RtpParameters,
    first_ssrc: Ssrc,
    first_rtx_ssrc: Option<Ssrc>,
) -> RtpParameters {
    let mut piped = consumable.clone();
    piped.mid = None;
    piped.codecs.retain(|codec| first_rtx_ssrc.is_some() || !codec.mime_type.is_rtx());
    for codec in &mut piped.codecs {
        codec.feedback.retain(|feedback| match feedback {
            RtcpFeedback::NackPli | RtcpFeedback::CcmFir => true,
            RtcpFeedback::Nack => first_rtx_ssrc.is_some(),
            RtcpFeedback::GoogRemb | RtcpFeedback::TransportCc => false,
        });
    }
    piped.header_extensions.retain(|extension| !extension.uri.is_hop_by_hop());
    for (encoding, offset) in piped.encodings.iter_mut().zip(0..) {
        encoding.ssrc = Some(Ssrc(first_ssrc.0.wrapping_add(offset)));
        encoding.rtx_ssrc = first_rtx_ssrc.map(|first| Ssrc(first.0.wrapping_add(offset)));
    }
    piped
}

fn media_codecs(parameters: &RtpParameters) -> impl Iterator<Item = &RtpCodecParameters> {
    parameters.codecs.iter().filter(|codec| !codec.mime_type.is_rtx())
}

/// The receiver's codec for a stream's: the same one rather than one that merely contains it.
fn decoder_of<'a>(codec: &RtpCodecParameters, remote: &'a RtpCapabilities) -> Option<&'a RtpCodecCapability> {
    let same = remote.codecs.iter().find(|decoder| matches_exactly(*decoder, codec));
    same.or_else(|| remote.codecs.iter().find(|decoder| decodes(*decoder, codec)))
}

fn number(ours: PayloadType, theirs: &RtpCodecCapability, options: &ConsumerOptions) -> Option<PayloadType> {
    match options.numbering {
        Numbering::Router => Some(ours),
        Numbering::Remote => theirs.preferred_payload_type,
    }
}

/// The payload type to send `codec` again under, if both sides know RTX for it.
fn consumer_rtx(
    consumable: &RtpParameters,
    codec: &RtpCodecParameters,
    remote: &RtpCapabilities,
    decoder: &RtpCodecCapability,
    options: &ConsumerOptions,
) -> Option<PayloadType> {
    let ours = consumable.rtx_of(codec.payload_type)?;
    let theirs = match decoder.preferred_payload_type {
        Some(payload_type) => remote.rtx_of(payload_type)?,
        None => remote.codecs.iter().find(|codec| codec.mime_type.is_rtx())?,
    };
    number(ours, theirs, options)
}

fn rtx_codec(codec: &RtpCodecParameters, payload_type: PayloadType, of: PayloadType) -> RtpCodecParameters {
    RtpCodecParameters {
        mime_type: MimeType::new(codec.mime_type.kind(), "rtx").expect("rtx is a token"),
        payload_type,
        clock_rate: codec.clock_rate,
        channels: None,
        parameters: FormatParameters::new().with("apt", &of.to_string()),
        feedback: Vec::new(),
    }
}

/// With the router's numbers only those that the receiver has under the same identifier, for it will not be asked again.
fn consumer_extensions(
    consumable: &RtpParameters,
    remote: &RtpCapabilities,
    kind: MediaKind,
    numbering: Numbering,
) -> Vec<RtpHeaderExtensionParameters> {
    let known = |uri: ExtensionUri| {
        let mut of_kind = remote.header_extensions.iter().filter(move |known| known.kind == kind);
        of_kind.find(|known| known.uri == uri && Direction::receives(known.direction))
    };
    let extensions = consumable.header_extensions.iter().filter_map(|extension| {
        let theirs = known(extension.uri)?.preferred_id;
        match numbering {
            Numbering::Router => (theirs == extension.id).then_some(*extension),
            Numbering::Remote => Some(RtpHeaderExtensionParameters { id: theirs, ..*extension }),
        }
    });
    extensions.collect()
}

fn reduce_arrival_reports(codecs: &mut [RtpCodecParameters], extensions: &[RtpHeaderExtensionParameters]) {
    let has = |uri| extensions.iter().any(|extension| extension.uri == uri);
    let per_transport = has(ExtensionUri::TransportWideSequence);
    let estimated = !per_transport && has(ExtensionUri::AbsoluteSendTime);
    for codec in codecs {
        codec.feedback.retain(|feedback| match feedback {
            RtcpFeedback::TransportCc => per_transport,
            RtcpFeedback::GoogRemb => estimated,
            RtcpFeedback::Nack | RtcpFeedback::NackPli | RtcpFeedback::CcmFir => true,
        });
    }
}

/// The layers of all encodings as layers of one, and the most that any of them may take.
fn one_encoding(consumable: &RtpParameters, options: &ConsumerOptions, has_rtx: bool) -> RtpEncodingParameters {
    let encodings = &consumable.encodings;
    let said = encodings.iter().find_map(|encoding| encoding.scalability_mode);
    let scalability_mode = match encodings.len() {
        0 | 1 => said,
        layers => Some(ScalabilityMode { spatial: layers as u8, ..said.unwrap_or(ScalabilityMode::NONE) }),
    };
    RtpEncodingParameters {
        ssrc: Some(options.ssrc),
        rid: None,
        rtx_ssrc: options.rtx_ssrc.filter(|_| has_rtx),
        max_bitrate: encodings.iter().filter_map(|encoding| encoding.max_bitrate).max(),
        scalability_mode,
    }
}
