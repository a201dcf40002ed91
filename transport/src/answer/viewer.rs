//! The answer to a viewer: sendonly.

use std::fmt::{self, Write as _};

use lenscast_media::{Codec, Ssrc};
use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};
use lenscast_router::{HeaderExtensions, PayloadType, RtxParameters};

use super::{
    LocalDescription, RECEIVER_ROUND_TRIP, SectionHead, write_candidates, write_extension, write_refusal, write_session,
};
use crate::ViewerOffer;
use crate::offer::{AudioSection, CameraSections, OfferedCodec, OfferedExtensions};

/// What is sent to the sections of one camera.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The camera's name: that of the media stream, as the viewer's statistics show it.
    pub(crate) stream: &'a str,
    /// What its video is encoded in.
    pub(crate) codec: Codec,
    pub(crate) sources: Sources<'a>,
}

/// The names that a camera's packets are to have. No two cameras have one in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) cname: &'a str,
    pub(crate) video: Ssrc,
    pub(crate) rtx: Ssrc,
    /// `None` if the stream has no audio.
    pub(crate) audio: Option<Ssrc>,
}

/// What was agreed on of a camera.
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

/// Answers `offer` with one video track for each of the `shown` cameras, of which there are as many as the offer is for, and
/// with one of audio if the camera has any and the viewer a place for it.
///
/// # Errors
///
/// The first camera whose codec the viewer cannot decode.
pub(crate) fn answer(
    offer: &ViewerOffer,
    shown: &[Shown<'_>],
    local: &LocalDescription<'_>,
) -> Result<(Vec<Agreement>, String), usize> {
    let mut answered = Vec::with_capacity(shown.len());
    for (position, (sections, shown)) in offer.cameras.iter().zip(shown).enumerate() {
        let offered = sections.video.codec(shown.codec).ok_or(position)?;
        answered.push(Answered { sections, shown, offered, agreement: agree(sections, offered, &shown.sources) });
    }
    let mut sdp = String::with_capacity(2_048 * answered.len());
    write(&mut sdp, offer, &answered, local).expect("a String takes everything");
    Ok((answered.into_iter().map(|answered| answered.agreement).collect(), sdp))
}

/// One camera's part of the answer.
struct Answered<'a> {
    sections: &'a CameraSections,
    shown: &'a Shown<'a>,
    offered: &'a OfferedCodec,
    agreement: Agreement,
}

impl Answered<'_> {
    /// What becomes of the offer's section at this place, if it is this camera's.
    fn at(&self, position: usize) -> Option<Track<'_>> {
        if position == self.sections.video.position {
            return Some(Track::Video(self));
        }
        let audio = self.sections.audio.as_ref().filter(|audio| audio.position == position);
        let (section, agreed) = audio.zip(self.agreement.audio.as_ref())?;
        Some(Track::Audio { section, agreed, shown: self.shown })
    }
}

/// What is sent to a section.
enum Track<'a> {
    Video(&'a Answered<'a>),
    Audio { section: &'a AudioSection, agreed: &'a AudioAgreement, shown: &'a Shown<'a> },
}

impl Track<'_> {
    fn mid(&self) -> &str {
        match self {
            Self::Video(answered) => &answered.sections.video.mid,
            Self::Audio { section, .. } => &section.mid,
        }
    }
}

fn agree(sections: &CameraSections, offered: &OfferedCodec, sources: &Sources<'_>) -> Agreement {
    let video = &sections.video;
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
            ..stamps(&video.extensions, offered)
        },
        audio: sections.audio.as_ref().zip(sources.audio).map(|(audio, ssrc)| AudioAgreement {
            ssrc,
            payload_type: audio.codec.payload_type,
            extensions: HeaderExtensions {
                mid: audio.mid_extension(),
                absolute_capture_time: audio.extensions.id(ExtensionUri::AbsoluteCaptureTime),
                audio_level: audio.extensions.id(ExtensionUri::AudioLevel),
                ..stamps(&audio.extensions, &audio.codec)
            },
        }),
    }
}

/// A number among all packets of the connection for each, if the viewer tells which have come, and with it when they were
/// sent. To whom tells nothing of packets, they say nothing for it.
fn stamps(offered: &OfferedExtensions, codec: &OfferedCodec) -> HeaderExtensions {
    let tells = codec.feedback.contains(&RtcpFeedback::TransportCc);
    let transport_sequence = offered.id(ExtensionUri::TransportWideSequence).filter(|_| tells);
    HeaderExtensions {
        transport_sequence,
        absolute_send_time: offered.id(ExtensionUri::AbsoluteSendTime).filter(|_| transport_sequence.is_some()),
        ..HeaderExtensions::default()
    }
}

fn write(
    sdp: &mut String,
    offer: &ViewerOffer,
    answered: &[Answered<'_>],
    local: &LocalDescription<'_>,
) -> fmt::Result {
    let at = |position| answered.iter().find_map(|answered| answered.at(position));
    let tracks: Vec<_> = (0..offer.sections.len()).map(at).collect();
    write_session(sdp, tracks.iter().flatten().map(Track::mid), local)?;
    for (section, track) in offer.sections.iter().zip(&tracks) {
        match track {
            Some(Track::Video(answered)) => write_video(sdp, answered, local)?,
            Some(Track::Audio { section, agreed, shown }) => write_audio(sdp, section, agreed, local, shown)?,
            None => write_refusal(sdp, section)?,
        }
    }
    Ok(())
}

fn write_video(sdp: &mut String, answered: &Answered<'_>, local: &LocalDescription<'_>) -> fmt::Result {
    let Answered { sections, shown: Shown { stream, sources, .. }, offered, agreement } = answered;
    let video = &sections.video;
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
        RtcpFeedback::TransportCc => agreement.extensions.transport_sequence.is_some(),
        RtcpFeedback::GoogRemb => false,
    };
    head.write_codec(sdp, offered.feedback.iter().copied().filter(kept))?;
    write_extensions(sdp, &agreement.extensions)?;
    write!(sdp, "a=msid:{stream} {stream}\r\n")?;
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
    Shown { stream, sources, .. }: &Shown<'_>,
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
    let tells = agreed.extensions.transport_sequence.map(|_| RtcpFeedback::TransportCc);
    head.write_codec(sdp, tells.into_iter())?;
    write_extensions(sdp, &agreed.extensions)?;
    write!(sdp, "a=msid:{stream} {stream}-audio\r\na=ssrc:{} cname:{}\r\n", agreed.ssrc, sources.cname)?;
    write_candidates(sdp, local)
}

/// Only we send on these sections.
fn write_extensions(sdp: &mut String, extensions: &HeaderExtensions) -> fmt::Result {
    write_extension(sdp, extensions.mid.map(|(id, _)| id), ExtensionUri::Mid, "sendonly")?;
    write_extension(sdp, extensions.absolute_capture_time, ExtensionUri::AbsoluteCaptureTime, "sendonly")?;
    write_extension(sdp, extensions.playout_delay, ExtensionUri::PlayoutDelay, "sendonly")?;
    write_extension(sdp, extensions.video_orientation, ExtensionUri::VideoOrientation, "sendonly")?;
    write_extension(sdp, extensions.audio_level, ExtensionUri::AudioLevel, "sendonly")?;
    write_extension(sdp, extensions.absolute_send_time, ExtensionUri::AbsoluteSendTime, "sendonly")?;
    write_extension(sdp, extensions.transport_sequence, ExtensionUri::TransportWideSequence, "sendonly")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use lenscast_router::Mid;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::tests::{AIORTC, CHROMIUM, bundle};
    use crate::{Fingerprint, IceCredentials};

    pub(crate) fn answered(offer: &ViewerOffer, codec: Codec) -> (Agreement, String) {
        try_answer(offer, codec).unwrap()
    }

    fn try_answer(offer: &ViewerOffer, codec: Codec) -> Option<(Agreement, String)> {
        answer_with(offer, codec, None)
    }

    fn answer_with(offer: &ViewerOffer, codec: Codec, audio: Option<Ssrc>) -> Option<(Agreement, String)> {
        let sources = Sources { cname: "0123456789abcdef", video: Ssrc(1), rtx: Ssrc(2), audio };
        let (mut agreements, sdp) = answer_all(offer, &[Shown { stream: "front", codec, sources }]).ok()?;
        Some((agreements.remove(0), sdp))
    }

    pub(crate) fn answer_all(offer: &ViewerOffer, shown: &[Shown<'_>]) -> Result<(Vec<Agreement>, String), usize> {
        let streams: Vec<_> = shown.iter().map(|shown| shown.stream).collect();
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let candidates = crate::candidate::candidates(&["127.0.0.1:8189".parse().unwrap()], &[], true).unwrap();
        let local = LocalDescription {
            session: 1 << 62,
            credentials: &credentials,
            fingerprint: &Fingerprint::sha256_of(b"certificate"),
            candidates: &candidates,
            streams: &streams,
        };
        answer(offer, shown, &local)
    }

    /// A camera of each codec, with audio.
    pub(crate) fn shown(codecs: &[Codec]) -> Vec<Shown<'static>> {
        let names = ["front", "rear", "side", "top"];
        let shown = codecs.iter().zip(names).zip(0_u32..).map(|((codec, stream), camera)| {
            let source = |number| Ssrc(10 * camera + number);
            let sources = Sources { cname: stream, video: source(1), rtx: source(2), audio: Some(source(3)) };
            Shown { stream, codec: *codec, sources }
        });
        shown.collect()
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
        assert!(!sdp.contains("goog-remb"), "nothing is agreed on that we do not do");
    }

    #[test]
    fn packets_are_numbered_for_those_who_tell_which_have_come() {
        const SEQUENCE: &str =
            "a=extmap:4/sendonly http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
        let (agreement, sdp) = answered(&ViewerOffer::parse(CHROMIUM).unwrap(), Codec::Vp8);
        let HeaderExtensions { transport_sequence, absolute_send_time, .. } = agreement.extensions;
        assert_eq!(
            transport_sequence.zip(absolute_send_time).map(|(one, two)| (one.value(), two.value())),
            Some((4, 2))
        );
        for line in ["a=rtcp-fb:96 transport-cc", SEQUENCE] {
            assert!(sdp.lines().any(|found| found == line), "{line} is missing in\n{sdp}");
        }
        let without_feedback = CHROMIUM.replace("transport-cc", "transport-x");
        let without_numbers = CHROMIUM.replace("draft-holmer-rmcat", "draft-x");
        for offered in [without_feedback, without_numbers] {
            let (agreement, sdp) = answered(&ViewerOffer::parse(&offered).unwrap(), Codec::Vp8);
            let HeaderExtensions { transport_sequence, absolute_send_time, .. } = agreement.extensions;
            assert_eq!((transport_sequence, absolute_send_time), (None, None));
            assert!(!sdp.contains("transport-cc\r\n") && !sdp.contains("abs-send-time"), "{sdp}");
        }
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
    fn each_camera_is_answered_in_its_section_with_its_own_codec_and_names() {
        let offer = ViewerOffer::parse_for(&bundle(2, true), 2).unwrap();
        let (agreements, sdp) = answer_all(&offer, &shown(&[Codec::Vp8, Codec::H264])).unwrap();
        let payload_types: Vec<_> = agreements.iter().map(|agreed| agreed.payload_type.value()).collect();
        assert_eq!(payload_types, [96, 102]);
        let mids: Vec<_> = agreements.iter().map(|agreed| agreed.extensions.mid.unwrap().1).collect();
        assert_eq!(mids, [Mid::new("v0").unwrap(), Mid::new("v1").unwrap()]);
        assert_eq!(agreements[0].extensions.mid.unwrap().0, agreements[1].extensions.mid.unwrap().0);
        let sections: Vec<&str> = sdp.split("m=").skip(1).collect();
        let lines = |section: usize, key: &str| -> Vec<&str> {
            sections[section].lines().filter_map(|line| line.strip_prefix(key)).collect()
        };
        assert!(sdp.contains("a=group:BUNDLE v0 a0 v1 a1\r\n") && sdp.contains("a=msid-semantic: WMS front rear\r\n"));
        let mids: Vec<_> = (0..4).map(|section| lines(section, "a=mid:")[0]).collect();
        assert_eq!(mids, ["v0", "a0", "v1", "a1"], "in the offer's order");
        let streams: Vec<_> = (0..4).map(|section| lines(section, "a=msid:")[0]).collect();
        assert_eq!(streams, ["front front", "front front-audio", "rear rear", "rear rear-audio"]);
        assert_eq!(lines(0, "a=ssrc:"), ["1 cname:front", "2 cname:front"]);
        assert_eq!(lines(1, "a=ssrc:"), ["3 cname:front"]);
        assert_eq!((lines(2, "a=ssrc-group:"), lines(2, "a=ssrc:")[0]), (vec!["FID 11 12"], "11 cname:rear"));
        assert_eq!(lines(2, "a=rtpmap:"), ["102 H264/90000", "103 rtx/90000"]);
        assert_eq!(sdp.matches("a=ice-ufrag:").count(), 4);
    }

    #[test]
    fn the_first_camera_that_cannot_be_decoded_is_named() {
        let without = bundle(2, false).replace("H264/90000", "X264/90000");
        let offer = ViewerOffer::parse_for(&without, 2).unwrap();
        assert_eq!(answer_all(&offer, &shown(&[Codec::Vp8, Codec::H264])).unwrap_err(), 1);
        assert!(answer_all(&offer, &shown(&[Codec::Vp8, Codec::Vp9])).is_ok());
    }

    #[test]
    fn a_codec_that_was_not_offered_is_not_answered() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        assert!(offer.cameras[0].video.codec(Codec::Vp9).is_none());
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
