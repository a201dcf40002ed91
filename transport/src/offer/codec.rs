//! The codecs and header extensions of a section, as far as we know them.

use lenscast_media::{Codec, MediaCodec};
use lenscast_router::rtp_parameters::{Direction, ExtensionUri, FormatParameters, RtcpFeedback};
use lenscast_router::{ExtensionId, PayloadType};
use rtc_sdp::description::media::MediaDescription;

use super::description::values;

/// A codec of ours under the other side's payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedCodec {
    pub(crate) codec: MediaCodec,
    pub(crate) payload_type: PayloadType,
    /// The value of its `a=fmtp`, empty if it has none.
    pub(crate) parameters: String,
    pub(crate) feedback: Vec<RtcpFeedback>,
    pub(crate) rtx: Option<PayloadType>,
}

/// One entry per codec of ours that `takes` its parameters, the one the other side likes best, in the order of the `m=`
/// line.
pub(super) fn offered_codecs(
    media: &MediaDescription,
    takes: impl Fn(MediaCodec, &FormatParameters) -> bool,
) -> Vec<OfferedCodec> {
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    for format in &media.media_name.formats {
        let Some(payload_type) = format.parse().ok().and_then(PayloadType::new) else { continue };
        let mapping = values(media, "rtpmap").filter_map(about).find(|(of, _)| *of == payload_type);
        let Some(codec) = mapping.and_then(|(_, mapping)| codec_of(mapping)) else { continue };
        let parameters = parameters_of(media, payload_type);
        let known = codecs.iter().any(|known| known.codec == codec);
        if known || !takes(codec, &FormatParameters::parse(parameters)) {
            continue;
        }
        codecs.push(OfferedCodec {
            codec,
            payload_type,
            parameters: parameters.to_owned(),
            feedback: feedback_of(media, payload_type),
            rtx: rtx_of(media, payload_type),
        });
    }
    codecs
}

/// Splits `<payload type> <rest>`, the form of `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`.
fn about(line: &str) -> Option<(PayloadType, &str)> {
    let (payload_type, rest) = line.split_once(' ')?;
    Some((PayloadType::new(payload_type.parse().ok()?)?, rest.trim()))
}

fn codec_of(mapping: &str) -> Option<MediaCodec> {
    // RFC 7587 §7: always 48,000 Hz and two channels.
    if mapping.eq_ignore_ascii_case("opus/48000/2") {
        return Some(MediaCodec::Opus);
    }
    let (name, clock) = mapping.split_once('/')?;
    let codec = Codec::ALL.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(name))?;
    (clock == "90000").then_some(MediaCodec::Video(codec))
}

fn parameters_of(media: &MediaDescription, payload_type: PayloadType) -> &str {
    values(media, "fmtp").filter_map(about).find(|(of, _)| *of == payload_type).map_or("", |(_, parameters)| parameters)
}

fn feedback_of(media: &MediaDescription, payload_type: PayloadType) -> Vec<RtcpFeedback> {
    let lines = values(media, "rtcp-fb").filter_map(|line| {
        let (of, feedback) = line.split_once(' ')?;
        (of == "*" || of.parse() == Ok(payload_type.value())).then_some(feedback.trim())
    });
    let mut feedback: Vec<RtcpFeedback> = Vec::new();
    lines.filter_map(RtcpFeedback::parse).for_each(|known| {
        if !feedback.contains(&known) {
            feedback.push(known);
        }
    });
    feedback
}

fn rtx_of(media: &MediaDescription, payload_type: PayloadType) -> Option<PayloadType> {
    let mut mappings = values(media, "rtpmap").filter_map(about);
    let rtx = mappings.find(|(of, mapping)| {
        mapping.eq_ignore_ascii_case("rtx/90000")
            && FormatParameters::parse(parameters_of(media, *of)).apt() == Some(payload_type)
    })?;
    Some(rtx.0)
}

/// Header extensions that can be used in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OfferedExtensions(Vec<(ExtensionUri, ExtensionId)>);

impl OfferedExtensions {
    /// Those that the offer's `media` lets through in `usable` directions, seen from the offerer.
    pub(super) fn of(media: &MediaDescription, usable: impl Fn(Direction) -> bool) -> Self {
        let mut offered: Vec<(ExtensionUri, ExtensionId)> = Vec::new();
        for line in values(media, "extmap") {
            let mut words = line.split(' ');
            let (Some(id), Some(uri)) = (words.next(), words.next()) else { continue };
            let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
            let id = id.parse().ok().and_then(ExtensionId::new);
            let (Some(id), Some(uri), Some(direction)) = (id, ExtensionUri::parse(uri), direction_of(direction)) else {
                continue;
            };
            // Of two with one name or one number the first counts.
            if usable(direction) && offered.iter().all(|(known, number)| *known != uri && *number != id) {
                offered.push((uri, id));
            }
        }
        Self(offered)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ExtensionUri, ExtensionId)> {
        self.0.iter().copied()
    }

    pub(crate) fn id(&self, uri: ExtensionUri) -> Option<ExtensionId> {
        self.0.iter().find(|(known, _)| *known == uri).map(|(_, id)| *id)
    }
}

/// Of an identifier with a direction (RFC 8285 §8).
fn direction_of(text: &str) -> Option<Direction> {
    match text {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    }
}
