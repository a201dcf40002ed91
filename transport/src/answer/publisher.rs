//! The answer to a publisher: recvonly, of each kind of media one codec.

use std::fmt::{self, Write as _};

use lenscast_media::{Bitrate, Codec, MediaCodec};
use lenscast_router::PayloadType;
use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};

use super::{LocalDescription, SectionHead, write_candidates, write_extension, write_refusal, write_session};
use crate::PublisherOffer;
use crate::offer::{OfferedCodec, PublishedSection};

/// What was agreed on of one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AgreedTrack {
    pub(crate) codec: MediaCodec,
    pub(crate) payload_type: PayloadType,
    /// `None` without retransmission.
    pub(crate) rtx: Option<PayloadType>,
}

/// What was agreed on, beside what the offer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublisherAgreement {
    pub(crate) video: AgreedTrack,
    pub(crate) audio: Option<AgreedTrack>,
}

/// Answers `offer` with the first of its video codecs that `allowed` has; `None` if it has none.
pub(crate) fn answer(
    offer: &PublisherOffer,
    allowed: &[Codec],
    max_bitrate: Option<Bitrate>,
    local: &LocalDescription<'_>,
) -> Option<(PublisherAgreement, String)> {
    let is_allowed =
        |offered: &&OfferedCodec| matches!(offered.codec, MediaCodec::Video(codec) if allowed.contains(&codec));
    let video = offer.video.codecs.iter().find(is_allowed)?;
    let audio = offer.audio.as_ref().and_then(|audio| Some((audio, audio.codecs.first()?)));
    let mut sdp = String::with_capacity(3_072);
    write(&mut sdp, offer, video, audio, max_bitrate, local).expect("a String takes everything");
    let agreed = |codec: &OfferedCodec| AgreedTrack {
        codec: codec.codec,
        payload_type: codec.payload_type,
        rtx: codec.rtx.filter(|_| answers_nack(codec)),
    };
    Some((PublisherAgreement { video: agreed(video), audio: audio.map(|(_, codec)| agreed(codec)) }, sdp))
}

fn write(
    sdp: &mut String,
    offer: &PublisherOffer,
    video: &OfferedCodec,
    audio: Option<(&PublishedSection, &OfferedCodec)>,
    max_bitrate: Option<Bitrate>,
    local: &LocalDescription<'_>,
) -> fmt::Result {
    let taken = |position| match audio {
        _ if position == offer.video.position => Some((&offer.video, video, max_bitrate)),
        Some((section, codec)) if position == section.position => Some((section, codec, None)),
        _ => None,
    };
    let places = 0..offer.sections.len();
    let mids = places.clone().filter_map(taken).map(|(section, ..)| section.mid.as_str());
    write_session(sdp, mids, local)?;
    for (position, section) in offer.sections.iter().enumerate() {
        match taken(position) {
            Some((section, codec, max_bitrate)) => write_section(sdp, section, codec, max_bitrate, local)?,
            // Only one that the publisher itself has disabled: all others are an error of the offer.
            None => write_refusal(sdp, section)?,
        }
    }
    Ok(())
}

fn write_section(
    sdp: &mut String,
    section: &PublishedSection,
    codec: &OfferedCodec,
    max_bitrate: Option<Bitrate>,
    local: &LocalDescription<'_>,
) -> fmt::Result {
    let head = SectionHead {
        mid: &section.mid,
        direction: "recvonly",
        codec,
        has_rtx: answers_nack(codec),
        max_bps: max_bitrate.map(Bitrate::as_bps),
        reduced_size_rtcp: section.reduced_size_rtcp,
    };
    head.write(sdp, local)?;
    let extensions = &section.extensions;
    let numbers_packets = extensions.id(ExtensionUri::TransportWideSequence).is_some();
    let kept = |feedback: &RtcpFeedback| match feedback {
        // Audio is not worth waiting for, and has no pictures.
        RtcpFeedback::Nack | RtcpFeedback::NackPli | RtcpFeedback::CcmFir => codec.codec != MediaCodec::Opus,
        RtcpFeedback::TransportCc => numbers_packets,
        RtcpFeedback::GoogRemb => false,
    };
    head.write_codec(sdp, codec.feedback.iter().copied().filter(kept))?;
    for uri in ExtensionUri::ALL {
        write_extension(sdp, extensions.id(uri), uri, "recvonly")?;
    }
    for rid in &section.simulcast {
        write!(sdp, "a=rid:{rid} recv\r\n")?;
    }
    for (position, rid) in section.simulcast.iter().enumerate() {
        write!(sdp, "{}{rid}", if position == 0 { "a=simulcast:recv " } else { ";" })?;
    }
    if !section.simulcast.is_empty() {
        sdp.push_str("\r\n");
    }
    write_candidates(sdp, local)
}

/// True if the publisher sends again what we say is lost.
fn answers_nack(codec: &OfferedCodec) -> bool {
    codec.feedback.contains(&RtcpFeedback::Nack)
}
