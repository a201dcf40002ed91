//! The answer to a viewer: sendonly.

use std::fmt::{self, Write as _};

use lenscast_media::{Codec, Ssrc};
use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};
use lenscast_router::{HeaderExtensions, PayloadType, RtxParameters};

use super::{
    LocalDescription, RECEIVER_ROUND_TRIP, SectionHead, write_candidates, write_extension, write_refusal, write_session,
};
use crate::ViewerOffer;
use crate::offer::{AudioSection, OfferedCodec};

/// The names that a viewer's packets are to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) cname: &'a str,
    pub(crate) video: Ssrc,
    pub(crate) rtx: Ssrc,
    /// `None` if the stream has no audio.
    pub(crate) audio: Option<Ssrc>,
}

/// What was agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub(crate) payload_type: PayloadType,
    pub(crate) rtx: Option<RtxParameters>,
    pub(crate) extensions: HeaderExtensions,
    pub(crate) audio: Option<AudioAgreement>,
}

/// What was agreed on of the audio.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AudioAgreement {
    pub(crate) ssrc: Ssrc,
    pub(crate) payload_type: PayloadType,
    pub(crate) extensions: HeaderExtensions,
}

/// Answers `offer` with one video track in `codec`, and with one of audio if there is any and the viewer has a place for
/// it; `None` if the viewer cannot decode that.
pub(crate) fn answer(
    offer: &ViewerOffer,
    codec: Codec,
    local: &LocalDescription<'_>,
    sources: &Sources<'_>,
) -> Option<(Agreement, String)> {
    let offered = offer.codec(codec)?;
    let agreement = agree(offer, offered, sources);
    let mut sdp = String::with_capacity(2_048);
    write(&mut sdp, offer, offered, &agreement, local, sources).expect("a String takes everything");
    Some((agreement, sdp))
}

fn agree(offer: &ViewerOffer, offered: &OfferedCodec, sources: &Sources<'_>) -> Agreement {
    let video = &offer.video;
    let answers_nack = offered.feedback.contains(&RtcpFeedback::Nack);
    let rtx = offered.rtx.filter(|_| answers_nack);
    Agreement {
        payload_type: offered.payload_type,
        rtx: rtx.map(|payload_type| RtxParameters { ssrc: sources.rtx, payload_type }),
        extensions: HeaderExtensions {
            mid: video.mid_extension(),
            absolute_capture_time: video.extensions.id(ExtensionUri::AbsoluteCaptureTime),
            playout_delay: video.extensions.id(ExtensionUri::PlayoutDelay),
            video_orientation: video.extensions.id(ExtensionUri::VideoOrientation),
            ..HeaderExtensions::default()
        },
        audio: offer.audio.as_ref().zip(sources.audio).map(|(audio, ssrc)| AudioAgreement {
            ssrc,
            payload_type: audio.codec.payload_type,
            extensions: HeaderExtensions {
                mid: audio.mid_extension(),
                absolute_capture_time: audio.extensions.id(ExtensionUri::AbsoluteCaptureTime),
                audio_level: audio.extensions.id(ExtensionUri::AudioLevel),
                ..HeaderExtensions::default()
            },
        }),
    }
}

fn write(
    sdp: &mut String,
    offer: &ViewerOffer,
    offered: &OfferedCodec,
    agreement: &Agreement,
    local: &LocalDescription<'_>,
    sources: &Sources<'_>,
) -> fmt::Result {
    let audio = offer.audio.as_ref().zip(agreement.audio);
    let mids = offer.sections.iter().enumerate().filter_map(|(position, _)| match &audio {
        _ if position == offer.video.position => Some(offer.video.mid.as_str()),
        Some((audio, _)) if position == audio.position => Some(audio.mid.as_str()),
        _ => None,
    });
    write_session(sdp, mids, local)?;
    for (position, section) in offer.sections.iter().enumerate() {
        match &audio {
            _ if position == offer.video.position => write_video(sdp, offer, offered, agreement, local, sources)?,
            Some((audio, agreed)) if position == audio.position => {
                write_audio(sdp, audio, agreed, local, sources.cname)?;
            }
            _ => write_refusal(sdp, section)?,
        }
    }
    Ok(())
}

fn write_video(
    sdp: &mut String,
    offer: &ViewerOffer,
    offered: &OfferedCodec,
    agreement: &Agreement,
    local: &LocalDescription<'_>,
    sources: &Sources<'_>,
) -> fmt::Result {
    let video = &offer.video;
    let head = SectionHead {
        mid: &video.mid,
        direction: "sendonly",
        codec: offered,
        has_rtx: agreement.rtx.is_some(),
        max_bps: None,
        reduced_size_rtcp: video.reduced_size_rtcp,
    };
    head.write(sdp, local)?;
    if video.receiver_reference_time {
        sdp.push_str(RECEIVER_ROUND_TRIP);
    }
    let kept = |feedback: &RtcpFeedback| match feedback {
        // Without a stream to send packets again on, a NACK would not be answered.
        RtcpFeedback::Nack => agreement.rtx.is_some(),
        RtcpFeedback::NackPli | RtcpFeedback::CcmFir => true,
        RtcpFeedback::GoogRemb | RtcpFeedback::TransportCc => false,
    };
    head.write_codec(sdp, offered.feedback.iter().copied().filter(kept))?;
    write_extensions(sdp, &agreement.extensions)?;
    write!(sdp, "a=msid:{0} {0}\r\n", local.stream)?;
    // Media first: viewers take the first source for it, whatever the group says.
    if agreement.rtx.is_some() {
        write!(sdp, "a=ssrc-group:FID {} {}\r\n", sources.video, sources.rtx)?;
    }
    write!(sdp, "a=ssrc:{} cname:{}\r\n", sources.video, sources.cname)?;
    if agreement.rtx.is_some() {
        write!(sdp, "a=ssrc:{} cname:{}\r\n", sources.rtx, sources.cname)?;
    }
    write_candidates(sdp, local)
}

fn write_audio(
    sdp: &mut String,
    audio: &AudioSection,
    agreed: &AudioAgreement,
    local: &LocalDescription<'_>,
    cname: &str,
) -> fmt::Result {
    let head = SectionHead {
        mid: &audio.mid,
        direction: "sendonly",
        codec: &audio.codec,
        has_rtx: false,
        max_bps: None,
        reduced_size_rtcp: audio.reduced_size_rtcp,
    };
    head.write(sdp, local)?;
    head.write_codec(sdp, std::iter::empty())?;
    write_extensions(sdp, &agreed.extensions)?;
    write!(sdp, "a=msid:{0} {0}-audio\r\na=ssrc:{1} cname:{cname}\r\n", local.stream, agreed.ssrc)?;
    write_candidates(sdp, local)
}

/// Only we send on these sections.
fn write_extensions(sdp: &mut String, extensions: &HeaderExtensions) -> fmt::Result {
    write_extension(sdp, extensions.mid.map(|(id, _)| id), ExtensionUri::Mid, "sendonly")?;
    write_extension(sdp, extensions.absolute_capture_time, ExtensionUri::AbsoluteCaptureTime, "sendonly")?;
    write_extension(sdp, extensions.playout_delay, ExtensionUri::PlayoutDelay, "sendonly")?;
    write_extension(sdp, extensions.video_orientation, ExtensionUri::VideoOrientation, "sendonly")?;
    write_extension(sdp, extensions.audio_level, ExtensionUri::AudioLevel, "sendonly")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::tests::{AIORTC, CHROMIUM};
    use crate::{Fingerprint, IceCredentials};

    pub(crate) fn answered(offer: &ViewerOffer, codec: Codec) -> (Agreement, String) {
        try_answer(offer, codec).unwrap()
    }

    fn try_answer(offer: &ViewerOffer, codec: Codec) -> Option<(Agreement, String)> {
        answer_with(offer, codec, None)
    }

    fn answer_with(offer: &ViewerOffer, codec: Codec, audio: Option<Ssrc>) -> Option<(Agreement, String)> {
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let candidates = crate::candidate::candidates(&["127.0.0.1:8189".parse().unwrap()], &[], true).unwrap();
        let local = LocalDescription {
            session: 1 << 62,
            credentials: &credentials,
            fingerprint: &Fingerprint::sha256_of(b"certificate"),
            candidates: &candidates,
            stream: "front",
        };
        answer(offer, codec, &local, &Sources { cname: "0123456789abcdef", video: Ssrc(1), rtx: Ssrc(2), audio })
    }

    fn read_back(sdp: &str) -> SessionDescription {
        SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes())).unwrap()
    }

    #[test]
    fn answers_chromium() {
        let offer = ViewerOffer::parse(CHROMIUM).unwrap();
        let (agreement, sdp) = answered(&offer, Codec::Vp9);
        assert_eq!(agreement.payload_type.value(), 98);
        assert_eq!(agreement.rtx.map(|rtx| (rtx.ssrc, rtx.payload_type.value())), Some((Ssrc(2), 99)));
        assert!(agreement.extensions.playout_delay.is_some() && agreement.extensions.mid.is_some());
        let description = read_back(&sdp);
        let video = &description.media_descriptions[0];
        assert_eq!(video.media_name.formats, ["98", "99"]);
        for line in [
            "a=ice-lite",
            "a=group:BUNDLE 0",
            "a=sendonly",
            "a=setup:passive",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            "a=rtcp-xr:rcvr-rtt=all",
            "a=rtpmap:98 VP9/90000",
            "a=fmtp:98 profile-id=0",
            "a=rtcp-fb:98 nack pli",
            "a=rtcp-fb:98 ccm fir",
            "a=rtpmap:99 rtx/90000",
            "a=fmtp:99 apt=98",
            "a=extmap:5/sendonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            "a=ssrc-group:FID 1 2",
            "a=ssrc:1 cname:0123456789abcdef",
            "a=candidate:1 1 udp 2130706431 127.0.0.1 8189 typ host",
            "a=end-of-candidates",
        ] {
            assert!(sdp.lines().any(|found| found == line), "{line} is missing in\n{sdp}");
        }
        assert!(sdp.find("a=ssrc:1 ").unwrap() < sdp.find("a=ssrc:2 ").unwrap(), "media comes before its repair");
        assert!(!sdp.contains("goog-remb") && !sdp.contains("transport-cc"), "nothing is agreed on that we do not do");
    }

    #[test]
    fn refuses_the_sections_it_has_nothing_for_in_the_offers_order() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        let (_, sdp) = answered(&offer, Codec::H264);
        let description = read_back(&sdp);
        let sections: Vec<_> = description
            .media_descriptions
            .iter()
            .map(|media| (media.media_name.media.as_str(), media.media_name.port.value))
            .collect();
        assert_eq!(sections, [("video", 9), ("audio", 0), ("application", 0)]);
        assert!(sdp.contains("a=group:BUNDLE 0\r\n"), "refused sections are outside the bundle");
    }

    #[test]
    fn audio_goes_to_whoever_has_a_place_for_it() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        let (agreement, sdp) = answer_with(&offer, Codec::H264, Some(Ssrc(3))).unwrap();
        assert_eq!(agreement.audio.map(|audio| (audio.ssrc, audio.payload_type.value())), Some((Ssrc(3), 96)));
        let description = read_back(&sdp);
        let ports: Vec<_> = description.media_descriptions.iter().map(|media| media.media_name.port.value).collect();
        assert_eq!(ports, [9, 9, 0]);
        let audio = &sdp[sdp.find("m=audio").unwrap()..sdp.find("m=application").unwrap()];
        for line in
            ["a=sendonly", "a=mid:1", "a=rtcp-mux", "a=rtpmap:96 opus/48000/2", "a=ssrc:3 cname:0123456789abcdef"]
        {
            assert!(audio.lines().any(|found| found == line), "{line} is missing in\n{audio}");
        }
        assert!(sdp.contains("a=group:BUNDLE 0 1\r\n"));
        assert_eq!(
            answer_with(&ViewerOffer::parse(CHROMIUM).unwrap(), Codec::Vp8, Some(Ssrc(3))).unwrap().0.audio.map(|_| ()),
            None
        );
    }

    #[test]
    fn a_codec_that_was_not_offered_is_not_answered() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        assert!(offer.codec(Codec::Vp9).is_none());
        assert!(try_answer(&offer, Codec::Vp9).is_none());
        assert!(try_answer(&offer, Codec::Vp8).is_some());
    }

    #[test]
    fn packets_are_sent_again_only_if_both_nack_and_rtx_are_offered() {
        let without_nack = CHROMIUM.replace("a=rtcp-fb:96 nack\r\n", "");
        let without_rtx = CHROMIUM.replace("apt=96", "apt=95");
        for offered in [without_nack, without_rtx] {
            assert_ne!(offered, CHROMIUM);
            let (agreement, sdp) = answered(&ViewerOffer::parse(&offered).unwrap(), Codec::Vp8);
            assert_eq!(agreement.rtx.map(|rtx| rtx.payload_type), None);
            assert!(!sdp.contains("rtx") && !sdp.contains("FID"), "{sdp}");
            assert!(!sdp.contains("a=rtcp-fb:96 nack\r\n"), "{sdp}");
            assert!(sdp.contains("a=rtcp-fb:96 nack pli\r\n") && sdp.contains("a=rtcp-fb:96 ccm fir\r\n"), "{sdp}");
        }
    }
}
