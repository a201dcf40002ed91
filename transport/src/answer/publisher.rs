//! The answer to a publisher: recvonly, of each kind of media one codec.

use std::fmt::{self, Write as _};

use lenscast_media::{Bitrate, Codec, MediaCodec};
use lenscast_router::PayloadType;
use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};

use super::{
    LocalDescription, RECEIVER_ROUND_TRIP, SectionHead, write_candidates, write_extension, write_refusal, write_session,
};
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

/// Answers `offer` with the first codec of `allowed` that it has, or its own first one if `allowed` is empty; `None` if it has
/// none of them.
pub(crate) fn answer(
    offer: &PublisherOffer,
    allowed: &[Codec],
    max_bitrate: Option<Bitrate>,
    local: &LocalDescription<'_>,
) -> Option<(PublisherAgreement, String)> {
    let find = |wanted: MediaCodec| offer.video.codecs.iter().find(|offered| offered.codec == wanted);
    let video = match allowed {
        [] => offer.video.codecs.iter().find(|offered| offered.codec != MediaCodec::Opus)?,
        _ => allowed.iter().find_map(|codec| find(MediaCodec::Video(*codec)))?,
    };
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
    if section.returns_reference_times {
        sdp.push_str(RECEIVER_ROUND_TRIP);
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::publisher_offers::{ALL, GSTREAMER, OBS, SIMULCAST};
    use crate::{Fingerprint, IceCredentials};

    pub(crate) fn answered(offer: &PublisherOffer, allowed: &[Codec]) -> Option<(PublisherAgreement, String)> {
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let candidates = crate::candidate::candidates(&["127.0.0.1:8189".parse().unwrap()], &[], true).unwrap();
        let local = LocalDescription {
            session: 1 << 62,
            credentials: &credentials,
            fingerprint: &Fingerprint::sha256_of(b"certificate"),
            candidates: &candidates,
            streams: &["robot"],
        };
        answer(offer, allowed, Some(Bitrate::from_kbps(2_500)), &local)
    }

    fn answer_to(sdp: &str, allowed: &[Codec]) -> (PublisherAgreement, String) {
        answered(&PublisherOffer::parse(sdp).unwrap(), allowed).unwrap()
    }

    fn assert_has(sdp: &str, lines: &[&str]) {
        for line in lines {
            assert!(sdp.lines().any(|found| found == *line), "{line} is missing in\n{sdp}");
        }
    }

    #[test]
    fn round_trips_are_measured_with_publishers_that_agree_to_it() {
        const LINE: &str = "a=rtcp-xr:rcvr-rtt=all";
        let silent = SIMULCAST.replace("a=rtcp-xr", "a=x-nothing");
        for (offer, agrees) in [(SIMULCAST, true), (&silent, false)] {
            let parsed = PublisherOffer::parse(offer).unwrap();
            let (agreement, sdp) = answered(&parsed, &Codec::ALL).unwrap();
            assert_eq!(sdp.lines().filter(|line| *line == LINE).count(), if agrees { 2 } else { 0 });
            let parameters = crate::publishing::parameters(&parsed.video, &agreement.video);
            assert_eq!(parameters.returns_reference_times, agrees);
        }
    }

    #[test]
    fn answers_chromiums_simulcast_with_all_its_layers() {
        let (agreement, sdp) = answer_to(SIMULCAST, &Codec::ALL);
        assert_eq!(agreement.video.codec, MediaCodec::Video(Codec::Vp8));
        assert_eq!((agreement.video.payload_type.value(), agreement.video.rtx.map(|rtx| rtx.value())), (96, Some(97)));
        let video = &sdp[sdp.find("m=video").unwrap()..];
        assert_has(
            video,
            &[
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
                "b=AS:2500",
                "b=TIAS:2500000",
                "a=recvonly",
                "a=rtcp-mux",
                "a=rtcp-rsize",
                "a=setup:passive",
                "a=rtpmap:96 VP8/90000",
                "a=rtcp-fb:96 nack",
                "a=rtcp-fb:96 nack pli",
                "a=rtcp-fb:96 ccm fir",
                "a=rtcp-fb:96 transport-cc",
                "a=fmtp:97 apt=96",
                "a=extmap:10/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
                "a=extmap:11/recvonly urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
                "a=extmap:3/recvonly http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "a=rid:q recv",
                "a=rid:h recv",
                "a=rid:f recv",
                "a=simulcast:recv q;h;f",
                "a=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host",
            ],
        );
        assert!(!sdp.contains("goog-remb") && !sdp.contains("a=msid:") && !sdp.contains("a=ssrc"));
        let audio = &sdp[..sdp.find("m=video").unwrap()];
        assert_has(
            audio,
            &["a=ice-lite", "a=group:BUNDLE 0 1", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2"],
        );
        assert!(!audio.contains("b=") && !audio.contains("nack"));
    }

    #[test]
    fn the_first_codec_that_is_allowed_is_taken() {
        let codec = |allowed: &[Codec]| answer_to(SIMULCAST, allowed).0.video.codec;
        assert_eq!(codec(&[Codec::Vp9, Codec::Vp8]), MediaCodec::Video(Codec::Vp9), "not the offer's first");
        assert_eq!(codec(&[]), MediaCodec::Video(Codec::Vp8), "the offer's first");
        let (agreement, sdp) = answer_to(SIMULCAST, &[Codec::Vp9]);
        assert_eq!((agreement.video.codec, agreement.video.payload_type.value()), (MediaCodec::Video(Codec::Vp9), 98));
        assert_has(&sdp, &["a=rtpmap:98 VP9/90000", "a=fmtp:98 profile-id=0"]);
        assert!(answered(&PublisherOffer::parse(OBS).unwrap(), &[Codec::Vp8, Codec::Vp9]).is_none());
    }

    #[test]
    fn the_audio_of_obs_and_gstreamer_is_taken_whole() {
        let (agreement, sdp) = answer_to(OBS, &Codec::ALL);
        assert_eq!((agreement.video.codec, agreement.video.rtx), (MediaCodec::Video(Codec::H264), None));
        assert_has(&sdp, &["a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1"]);
        let (agreement, sdp) = answer_to(GSTREAMER, &Codec::ALL);
        assert_eq!(agreement.audio.map(|audio| audio.payload_type.value()), Some(98));
        assert_has(
            &sdp,
            &["m=audio 9 UDP/TLS/RTP/SAVPF 98", "a=group:BUNDLE video0 audio1", "a=rtcp-fb:98 transport-cc"],
        );
    }

    #[test]
    fn every_answer_can_be_read_and_has_the_offers_sections() {
        for offer in ALL {
            let (_, sdp) = answer_to(offer, &Codec::ALL);
            let read = |sdp: &str| SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes())).unwrap();
            let kinds = |sdp: &str| {
                let sections = read(sdp).media_descriptions;
                sections.into_iter().map(|media| media.media_name.media).collect::<Vec<_>>()
            };
            assert_eq!(kinds(&sdp), kinds(offer));
        }
    }
}
