//! The SDP answer to a viewer: sendonly, bundled, multiplexed, ICE-lite, DTLS server (RFC 8829 §5.3.1, RFC 8839 §5.3).

use std::fmt::Write as _;

use lenscast_media::{Codec, Ssrc};
use lenscast_router::{ExtensionId, HeaderExtensions, Mid, PayloadType, RtxParameters};

use crate::offer::{ABSOLUTE_CAPTURE_TIME_URI, Feedback, MID_URI, OfferedCodec, PLAYOUT_DELAY_URI, Section};
use crate::{Candidate, Fingerprint, IceCredentials, ViewerOffer};

/// What the answer tells of our side.
#[derive(Debug, Clone)]
pub(crate) struct LocalDescription<'a> {
    /// SDP's session identifier: digits, below 2⁶³ (RFC 8829 §5.2.1).
    pub(crate) session: u64,
    pub(crate) credentials: &'a IceCredentials,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) candidates: &'a [Candidate],
    /// Name of the media stream, shown by the viewer's statistics: the camera's.
    pub(crate) stream: &'a str,
    pub(crate) cname: &'a str,
    pub(crate) ssrc: Ssrc,
    pub(crate) rtx_ssrc: Ssrc,
}

/// What was agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub(crate) payload_type: PayloadType,
    pub(crate) rtx: Option<RtxParameters>,
    pub(crate) extensions: HeaderExtensions,
}

/// Answers `offer` with one video track in `codec`; `None` if the viewer cannot decode that.
pub(crate) fn answer(offer: &ViewerOffer, codec: Codec, local: &LocalDescription<'_>) -> Option<(Agreement, String)> {
    let offered = offer.codec(codec)?;
    let agreement = agree(offer, offered, local);
    let mut sdp = String::with_capacity(2_048);
    write_session(&mut sdp, offer, local).expect("a String takes everything");
    for section in &offer.sections {
        let written = if section.is_ours {
            write_video(&mut sdp, offer, offered, &agreement, local)
        } else {
            write_refusal(&mut sdp, section)
        };
        written.expect("a String takes everything");
    }
    Some((agreement, sdp))
}

fn agree(offer: &ViewerOffer, offered: &OfferedCodec, local: &LocalDescription<'_>) -> Agreement {
    let video = &offer.video;
    let answers_nack = offered.feedback.contains(&Feedback::Nack);
    let rtx = offered.rtx.filter(|_| answers_nack);
    Agreement {
        payload_type: offered.payload_type,
        rtx: rtx.map(|payload_type| RtxParameters { ssrc: local.rtx_ssrc, payload_type }),
        extensions: HeaderExtensions {
            mid: video.mid_extension.zip(Mid::new(&video.mid)),
            absolute_capture_time: video.absolute_capture_time,
            playout_delay: video.playout_delay,
            ..HeaderExtensions::default()
        },
    }
}

fn write_session(sdp: &mut String, offer: &ViewerOffer, local: &LocalDescription<'_>) -> std::fmt::Result {
    write!(sdp, "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", local.session)?;
    write!(sdp, "a=group:BUNDLE {}\r\n", offer.video.mid)?;
    write!(sdp, "a=msid-semantic: WMS {}\r\na=ice-lite\r\n", local.stream)
}

fn write_video(
    sdp: &mut String,
    offer: &ViewerOffer,
    offered: &OfferedCodec,
    agreement: &Agreement,
    local: &LocalDescription<'_>,
) -> std::fmt::Result {
    let video = &offer.video;
    let payload_type = agreement.payload_type;
    write!(sdp, "m=video 9 UDP/TLS/RTP/SAVPF {payload_type}")?;
    if let Some(rtx) = agreement.rtx {
        write!(sdp, " {}", rtx.payload_type)?;
    }
    write!(sdp, "\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\n", video.mid)?;
    if video.reduced_size_rtcp {
        sdp.push_str("a=rtcp-rsize\r\n");
    }
    if video.receiver_reference_time {
        sdp.push_str("a=rtcp-xr:rcvr-rtt=all\r\n");
    }
    write!(sdp, "a=setup:passive\r\na=fingerprint:{}\r\n", local.fingerprint)?;
    write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.credentials.ufrag, local.credentials.password)?;

    write!(sdp, "a=rtpmap:{payload_type} {}/90000\r\n", offered.codec.encoding_name())?;
    if !offered.parameters.is_empty() {
        write!(sdp, "a=fmtp:{payload_type} {}\r\n", offered.parameters)?;
    }
    // Without a stream to send packets again on, a NACK would not be answered.
    let kept = |feedback: &&Feedback| **feedback != Feedback::Nack || agreement.rtx.is_some();
    for feedback in offered.feedback.iter().filter(kept) {
        write!(sdp, "a=rtcp-fb:{payload_type} {}\r\n", feedback.to_sdp())?;
    }
    if let Some(rtx) = agreement.rtx {
        write!(sdp, "a=rtpmap:{0} rtx/90000\r\na=fmtp:{0} apt={payload_type}\r\n", rtx.payload_type)?;
    }
    let extensions = &agreement.extensions;
    write_extension(sdp, extensions.mid.map(|(id, _)| id), MID_URI)?;
    write_extension(sdp, extensions.absolute_capture_time, ABSOLUTE_CAPTURE_TIME_URI)?;
    write_extension(sdp, extensions.playout_delay, PLAYOUT_DELAY_URI)?;

    write!(sdp, "a=msid:{0} {0}\r\n", local.stream)?;
    // Media first: viewers take the first source for it, whatever the group says.
    if agreement.rtx.is_some() {
        write!(sdp, "a=ssrc-group:FID {} {}\r\n", local.ssrc, local.rtx_ssrc)?;
    }
    write!(sdp, "a=ssrc:{} cname:{}\r\n", local.ssrc, local.cname)?;
    if agreement.rtx.is_some() {
        write!(sdp, "a=ssrc:{} cname:{}\r\n", local.rtx_ssrc, local.cname)?;
    }
    for candidate in local.candidates {
        write!(sdp, "a=candidate:{}\r\n", candidate.to_sdp())?;
    }
    sdp.push_str("a=end-of-candidates\r\n");
    Ok(())
}

fn write_extension(sdp: &mut String, id: Option<ExtensionId>, uri: &str) -> std::fmt::Result {
    match id {
        // Only we send on this section.
        Some(id) => write!(sdp, "a=extmap:{}/sendonly {uri}\r\n", id.value()),
        None => Ok(()),
    }
}

/// A section we have nothing for: port zero (RFC 3264 §6), outside the bundle (RFC 9143 §7.3.3).
fn write_refusal(sdp: &mut String, section: &Section) -> std::fmt::Result {
    let format = section.formats.first().map_or("0", String::as_str);
    write!(sdp, "m={} 0 {} {format}\r\nc=IN IP4 0.0.0.0\r\n", section.media, section.protocol)?;
    if let Some(mid) = &section.mid {
        write!(sdp, "a=mid:{mid}\r\n")?;
    }
    sdp.push_str("a=inactive\r\n");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::tests::{AIORTC, CHROMIUM};

    pub(crate) fn answered(offer: &ViewerOffer, codec: Codec) -> (Agreement, String) {
        try_answer(offer, codec).unwrap()
    }

    fn try_answer(offer: &ViewerOffer, codec: Codec) -> Option<(Agreement, String)> {
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let candidates = crate::candidate::candidates(&["127.0.0.1:8189".parse().unwrap()], &[], true).unwrap();
        let local = LocalDescription {
            session: 1 << 62,
            credentials: &credentials,
            fingerprint: &Fingerprint::sha256_of(b"certificate"),
            candidates: &candidates,
            stream: "front",
            cname: "0123456789abcdef",
            ssrc: Ssrc(1),
            rtx_ssrc: Ssrc(2),
        };
        answer(offer, codec, &local)
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
