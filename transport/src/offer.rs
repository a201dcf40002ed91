//! The SDP offer of a viewer: what of it matters, checked.
//!
//! Reading is done by `rtc-sdp`; this decides what is acceptable: exactly one video section that receives, multiplexed
//! and bundled (RFC 9725 §4.4), with ICE credentials, a fingerprint, and room for us to be the DTLS server.
//!
//! What it does not do: choose a codec, which depends on the camera (see [`ViewerOffer::codec`] and `answer`).

use std::io::Cursor;

use lenscast_media::Codec;
use lenscast_router::{ExtensionId, Mid, PayloadType};
use rtc_sdp::description::media::MediaDescription;
use rtc_sdp::description::session::SessionDescription;
use thiserror::Error;

use crate::{Fingerprint, ParseFingerprintError};

/// The largest offer that is read, in bytes. Chromium's offer of one section with all its codecs is 5 KB.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;

/// No offer of a browser has more.
const MAX_SECTIONS: usize = 16;

/// An acceptable offer.
#[derive(Debug, Clone)]
pub struct ViewerOffer {
    pub(crate) sections: Vec<Section>,
    pub(crate) video: VideoSection,
    remote_ufrag: String,
    pub(crate) fingerprint: Fingerprint,
}

/// One `m=` section, as far as it must be repeated in the answer.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) media: String,
    pub(crate) protocol: String,
    pub(crate) formats: Vec<String>,
    pub(crate) mid: Option<String>,
    pub(crate) is_ours: bool,
}

/// The section that our video goes to.
#[derive(Debug, Clone)]
pub(crate) struct VideoSection {
    pub(crate) mid: String,
    pub(crate) codecs: Vec<OfferedCodec>,
    pub(crate) mid_extension: Option<ExtensionId>,
    pub(crate) absolute_capture_time: Option<ExtensionId>,
    pub(crate) playout_delay: Option<ExtensionId>,
    pub(crate) reduced_size_rtcp: bool,
    /// The viewer sends its own time and wants it back (`rcvr-rtt`, RFC 3611 §5).
    pub(crate) receiver_reference_time: bool,
}

/// A codec of ours under the viewer's payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfferedCodec {
    pub(crate) codec: Codec,
    pub(crate) payload_type: PayloadType,
    /// The value of its `a=fmtp`, empty if it has none.
    pub(crate) parameters: String,
    pub(crate) feedback: Vec<Feedback>,
    pub(crate) rtx: Option<PayloadType>,
}

/// The RTCP feedback that we understand (RFC 4585 §4.2, RFC 5104 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feedback {
    Nack,
    Pli,
    Fir,
}

/// Why an offer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is larger than any real offer.
    #[error("SDP offer of {0} bytes is larger than {MAX_OFFER_BYTES}")]
    TooLarge(usize),
    /// It is not SDP.
    #[error("SDP offer cannot be read: {0}")]
    Malformed(String),
    /// A line that every WebRTC offer has is not there.
    #[error("SDP offer has no a={0}")]
    MissingAttribute(&'static str),
    /// The fingerprint cannot be used.
    #[error("SDP offer's a=fingerprint: {0}")]
    Fingerprint(#[from] ParseFingerprintError),
    /// It asks for more or fewer video tracks than one.
    #[error("SDP offer has {0} video sections, must have exactly 1")]
    VideoSections(usize),
    /// Its video section does not want to receive.
    #[error("SDP offer's video section is a={0}, must be a=recvonly")]
    Direction(&'static str),
    /// It insists on an RTCP port of its own.
    #[error("SDP offer's video section has no a=rtcp-mux, which is required")]
    NoRtcpMux,
    /// Its sections are not one bundle.
    #[error("SDP offer's a=group:BUNDLE does not name the video section's mid {0:?}")]
    NotBundled(String),
    /// It insists on being the DTLS server.
    #[error("SDP offer's a=setup is {0:?}, must be actpass or active")]
    Setup(String),
    /// It has no codec that any camera of ours could be sent in.
    #[error("SDP offer has none of the codecs VP8, VP9 (profile 0) and H264 (packetization-mode 1, baseline)")]
    NoCodec,
}

impl OfferError {
    /// True if the offer breaks SDP's own rules; false if it is SDP, but asks for what we do not do.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::Malformed(_) | Self::MissingAttribute(_) | Self::Fingerprint(_))
    }
}

impl ViewerOffer {
    /// Reads and checks an offer.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        if sdp.len() > MAX_OFFER_BYTES {
            return Err(OfferError::TooLarge(sdp.len()));
        }
        let description = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
            .map_err(|error| OfferError::Malformed(error.to_string()))?;
        if description.media_descriptions.len() > MAX_SECTIONS {
            return Err(OfferError::Malformed(format!("more than {MAX_SECTIONS} media sections")));
        }
        let videos = || description.media_descriptions.iter().filter(|media| media.media_name.media == "video");
        let Some(video) = videos().next().filter(|_| videos().count() == 1) else {
            return Err(OfferError::VideoSections(videos().count()));
        };
        let session =
            |key: &str| description.attributes.iter().find(|attribute| attribute.key == key)?.value.as_deref();
        // ICE and DTLS attributes may stand once for the session or in each section (RFC 8839 §5.4, RFC 8122 §5).
        let transport =
            |key: &'static str| value(video, key).or_else(|| session(key)).ok_or(OfferError::MissingAttribute(key));
        let remote_ufrag = transport("ice-ufrag")?.to_owned();
        transport("ice-pwd")?;
        let fingerprint = Fingerprint::parse(transport("fingerprint")?)?;
        match transport("setup")? {
            "actpass" | "active" => {}
            other => return Err(OfferError::Setup(other.chars().take(32).collect())),
        }
        if !video.has_attribute("rtcp-mux") {
            return Err(OfferError::NoRtcpMux);
        }
        if let Some(direction) = ["sendonly", "inactive"].into_iter().find(|key| video.has_attribute(key)) {
            return Err(OfferError::Direction(direction));
        }
        let mid = value(video, "mid").ok_or(OfferError::MissingAttribute("mid"))?.to_owned();
        let bundled = |group: &str| group.split(' ').skip(1).any(|member| member == mid);
        let alone = description.media_descriptions.len() == 1;
        if !alone && !session("group").is_some_and(|group| group.starts_with("BUNDLE") && bundled(group)) {
            return Err(OfferError::NotBundled(mid.chars().take(32).collect()));
        }
        let codecs = offered_codecs(video);
        if codecs.is_empty() {
            return Err(OfferError::NoCodec);
        }
        let extension = |uri: &str| offered_extension(video, uri);
        let mid_extension = extension(MID_URI).filter(|_| Mid::new(&mid).is_some());
        Ok(Self {
            sections: description.media_descriptions.iter().map(|media| Section::of(media, video)).collect(),
            video: VideoSection {
                mid_extension,
                absolute_capture_time: extension(ABSOLUTE_CAPTURE_TIME_URI),
                playout_delay: extension(PLAYOUT_DELAY_URI),
                reduced_size_rtcp: video.has_attribute("rtcp-rsize"),
                receiver_reference_time: values(video, "rtcp-xr").any(|formats| formats.contains("rcvr-rtt=")),
                codecs,
                mid,
            },
            remote_ufrag,
            fingerprint,
        })
    }

    /// The viewer's payload type and parameters for `codec`, if it can decode that.
    #[must_use]
    pub(crate) fn codec(&self, codec: Codec) -> Option<&OfferedCodec> {
        self.video.codecs.iter().find(|offered| offered.codec == codec)
    }

    /// The viewer's ICE user fragment.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        &self.remote_ufrag
    }

    /// The media identification of the section that our video goes to.
    #[must_use]
    pub fn mid(&self) -> &str {
        &self.video.mid
    }

    /// The codecs of ours that the viewer can decode, in its order of preference.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.video.codecs.iter().map(|offered| offered.codec)
    }
}

pub(crate) const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(crate) const ABSOLUTE_CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
pub(crate) const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

impl Section {
    fn of(media: &MediaDescription, video: &MediaDescription) -> Self {
        Self {
            media: media.media_name.media.clone(),
            protocol: media.media_name.protos.join("/"),
            formats: media.media_name.formats.clone(),
            mid: value(media, "mid").map(str::to_owned),
            is_ours: std::ptr::eq(media, video),
        }
    }
}

fn value<'a>(media: &'a MediaDescription, key: &str) -> Option<&'a str> {
    media.attribute(key).flatten()
}

fn values<'a>(media: &'a MediaDescription, key: &'static str) -> impl Iterator<Item = &'a str> {
    media
        .attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
}

/// Splits `<payload type> <rest>`, the form of `a=rtpmap`, `a=fmtp` and `a=rtcp-fb`.
fn about(line: &str) -> Option<(PayloadType, &str)> {
    let (payload_type, rest) = line.split_once(' ')?;
    Some((PayloadType::new(payload_type.parse().ok()?)?, rest.trim()))
}

/// One entry per codec of ours, the one the viewer likes best, in the order of the `m=` line.
fn offered_codecs(video: &MediaDescription) -> Vec<OfferedCodec> {
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    for format in &video.media_name.formats {
        let Some(payload_type) = format.parse().ok().and_then(PayloadType::new) else { continue };
        let mapping = values(video, "rtpmap").filter_map(about).find(|(of, _)| *of == payload_type);
        let Some(codec) = mapping.and_then(|(_, mapping)| codec_of(mapping)) else { continue };
        let parameters = parameters_of(video, payload_type);
        if !is_decodable(codec, parameters) || codecs.iter().any(|known| known.codec == codec) {
            continue;
        }
        codecs.push(OfferedCodec {
            codec,
            payload_type,
            parameters: parameters.to_owned(),
            feedback: feedback_of(video, payload_type),
            rtx: rtx_of(video, payload_type),
        });
    }
    codecs
}

fn codec_of(mapping: &str) -> Option<Codec> {
    let (name, clock) = mapping.split_once('/')?;
    let codec = Codec::ALL.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(name))?;
    (clock == "90000").then_some(codec)
}

fn parameters_of(video: &MediaDescription, payload_type: PayloadType) -> &str {
    values(video, "fmtp").filter_map(about).find(|(of, _)| *of == payload_type).map_or("", |(_, parameters)| parameters)
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// VP9 profile 0 (RFC 9628 §6.1); H.264 constrained baseline, or baseline of which it is a subset, in packets that may
/// be fragmented (RFC 6184 §8.1).
fn is_decodable(codec: Codec, parameters: &str) -> bool {
    match codec {
        Codec::Vp8 => true,
        Codec::Vp9 => parameter(parameters, "profile-id").is_none_or(|profile| profile == "0"),
        Codec::H264 => {
            let profile = parameter(parameters, "profile-level-id").unwrap_or("420010");
            // Byte by byte: what a viewer sends need not be ASCII.
            let is_baseline = profile.len() == 6 && profile.as_bytes()[..2] == *b"42";
            is_baseline && parameter(parameters, "packetization-mode") == Some("1")
        }
    }
}

fn feedback_of(video: &MediaDescription, payload_type: PayloadType) -> Vec<Feedback> {
    let lines = values(video, "rtcp-fb").filter_map(|line| {
        let (of, feedback) = line.split_once(' ')?;
        (of == "*" || of.parse() == Ok(payload_type.value())).then_some(feedback.trim())
    });
    let known = lines.filter_map(|feedback| Feedback::ALL.into_iter().find(|known| known.to_sdp() == feedback));
    let mut feedback: Vec<Feedback> = Vec::new();
    known.for_each(|known| {
        if !feedback.contains(&known) {
            feedback.push(known);
        }
    });
    feedback
}

fn rtx_of(video: &MediaDescription, payload_type: PayloadType) -> Option<PayloadType> {
    let mut mappings = values(video, "rtpmap").filter_map(about);
    let rtx = mappings.find(|(of, mapping)| {
        mapping.eq_ignore_ascii_case("rtx/90000")
            && parameter(parameters_of(video, *of), "apt").and_then(|apt| apt.parse().ok())
                == Some(payload_type.value())
    })?;
    Some(rtx.0)
}

fn offered_extension(video: &MediaDescription, uri: &str) -> Option<ExtensionId> {
    values(video, "extmap").find_map(|line| {
        let mut words = line.split(' ');
        let (id, offered) = (words.next()?, words.next()?);
        // The identifier may carry a direction (RFC 8285 §8): we only send.
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let receives = matches!(direction, "sendrecv" | "recvonly");
        (offered == uri && receives).then(|| ExtensionId::new(id.parse().ok()?)).flatten()
    })
}

impl Feedback {
    pub(crate) const ALL: [Self; 3] = [Self::Nack, Self::Pli, Self::Fir];

    pub(crate) const fn to_sdp(self) -> &'static str {
        match self {
            Self::Nack => "nack",
            Self::Pli => "nack pli",
            Self::Fir => "ccm fir",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const CHROMIUM: &str = include_str!("../testdata/chromium.sdp");
    pub(crate) const AIORTC: &str = include_str!("../testdata/aiortc.sdp");

    fn payload_type(value: u8) -> PayloadType {
        PayloadType::new(value).unwrap()
    }

    fn error(sdp: &str) -> OfferError {
        ViewerOffer::parse(sdp).unwrap_err()
    }

    /// Chromium's offer with one piece of it replaced.
    fn chromium_with(old: &str, new: &str) -> String {
        assert!(CHROMIUM.contains(old), "{old:?} is not in the offer");
        CHROMIUM.replace(old, new)
    }

    #[test]
    fn reads_chromiums_offer() {
        let offer = ViewerOffer::parse(CHROMIUM).unwrap();
        let codecs: Vec<_> =
            offer.video.codecs.iter().map(|offered| (offered.codec, offered.payload_type, offered.rtx)).collect();
        assert_eq!(
            codecs,
            [
                (Codec::Vp8, payload_type(96), Some(payload_type(97))),
                (Codec::Vp9, payload_type(98), Some(payload_type(99))),
                (Codec::H264, payload_type(102), Some(payload_type(103))),
            ]
        );
        assert_eq!(offer.codec(Codec::Vp8).unwrap().feedback, [Feedback::Fir, Feedback::Nack, Feedback::Pli]);
        assert!(offer.codec(Codec::H264).unwrap().parameters.contains("packetization-mode=1"));
        assert_eq!(offer.video.playout_delay, ExtensionId::new(5));
        assert_eq!(offer.video.mid_extension, ExtensionId::new(9));
        assert_eq!(offer.video.absolute_capture_time, None);
        assert!(offer.video.reduced_size_rtcp && offer.video.receiver_reference_time);
    }

    #[test]
    fn reads_aiortcs_offer_with_sections_we_have_nothing_for() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        assert_eq!(offer.codecs().collect::<Vec<_>>(), [Codec::Vp8, Codec::H264]);
        let sections: Vec<_> = offer.sections.iter().map(|section| (section.media.as_str(), section.is_ours)).collect();
        assert_eq!(sections, [("video", true), ("audio", false), ("application", false)]);
    }

    #[test]
    fn an_offer_must_be_sdp_of_a_sane_size() {
        for sdp in ["", "v=0", "hello", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=", "\u{0}\u{1}"] {
            assert!(error(sdp).is_malformed() || matches!(error(sdp), OfferError::VideoSections(0)), "{sdp:?}");
        }
        let huge = format!("{CHROMIUM}{}", "a=x\r\n".repeat(20_000));
        assert_eq!(error(&huge), OfferError::TooLarge(huge.len()));
        let section = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
        assert!(error(&format!("{CHROMIUM}{}", section.repeat(40))).is_malformed());
    }

    #[test]
    fn an_offer_must_ask_for_one_video_track() {
        assert_eq!(error(&chromium_with("m=video", "m=audio")), OfferError::VideoSections(0));
        let video = &CHROMIUM[CHROMIUM.find("m=video").unwrap()..];
        assert_eq!(error(&format!("{CHROMIUM}{video}")), OfferError::VideoSections(2));
        assert_eq!(error(&chromium_with("a=recvonly", "a=sendonly")), OfferError::Direction("sendonly"));
        assert_eq!(error(&chromium_with("a=recvonly", "a=inactive")), OfferError::Direction("inactive"));
        assert!(ViewerOffer::parse(&chromium_with("a=recvonly", "a=sendrecv")).is_ok());
    }

    #[test]
    fn an_offer_must_have_what_ice_and_dtls_need() {
        for key in ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "mid"] {
            let without = chromium_with(&format!("a={key}:"), &format!("a=x-{key}:"));
            assert_eq!(error(&without), OfferError::MissingAttribute(key));
            assert!(error(&without).is_malformed());
        }
        assert!(matches!(error(&chromium_with("sha-256", "md5")), OfferError::Fingerprint(_)));
        assert_eq!(error(&chromium_with("actpass", "passive")), OfferError::Setup("passive".to_owned()));
        let in_session = "t=0 0\r\na=ice-ufrag:abcd\r\n";
        let moved = chromium_with("a=ice-ufrag:", "a=x-ufrag:").replace("t=0 0\r\n", in_session);
        assert!(ViewerOffer::parse(&moved).is_ok(), "once for the session will do");
    }

    #[test]
    fn an_offer_must_be_multiplexed_and_bundled() {
        assert_eq!(error(&chromium_with("a=rtcp-mux\r\n", "")), OfferError::NoRtcpMux);
        let unbundled = AIORTC.replace("a=group:BUNDLE 0 1 2\r\n", "");
        assert_eq!(error(&unbundled), OfferError::NotBundled("0".to_owned()));
        assert!(!error(&unbundled).is_malformed());
        assert!(ViewerOffer::parse(&chromium_with("a=group:BUNDLE 0\r\n", "")).is_ok(), "one section needs no bundle");
    }

    #[test]
    fn an_offer_must_have_a_codec_of_ours() {
        let only_av1 = CHROMIUM
            .replace("VP8/90000", "X8/90000")
            .replace("VP9/90000", "X9/90000")
            .replace("H264/90000", "X4/90000");
        assert_eq!(error(&only_av1), OfferError::NoCodec);
        let offer = ViewerOffer::parse(&chromium_with("packetization-mode=1", "packetization-mode=0")).unwrap();
        assert_eq!(offer.codec(Codec::H264), None, "single NAL unit mode cannot carry a frame of ours");
        let offer = ViewerOffer::parse(&chromium_with("profile-id=0", "profile-id=2")).unwrap();
        assert_eq!(offer.codec(Codec::Vp9), None);
    }

    #[test]
    fn rtx_and_nack_are_read_each_for_itself() {
        let offer = ViewerOffer::parse(&chromium_with("apt=96", "apt=95")).unwrap();
        let vp8 = offer.codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&Feedback::Nack)), (None, true));
        let offer = ViewerOffer::parse(&chromium_with("a=rtcp-fb:96 nack\r\n", "")).unwrap();
        let vp8 = offer.codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&Feedback::Nack)), (Some(payload_type(97)), false));
    }

    #[test]
    fn extensions_that_the_viewer_only_sends_or_that_need_long_headers_are_left_out() {
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:5/sendonly ")).unwrap();
        assert_eq!(offer.video.playout_delay, None);
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:15 ")).unwrap();
        assert_eq!(offer.video.playout_delay, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Cuts, swaps and replaces lines of real offers: an answer or an error, never a panic.
        #[test]
        fn mangled_offers_are_answered_or_refused(
            chromium in any::<bool>(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..5, any::<prop::sample::Index>(), "[ -~é]{0,20}"), 1..12)
        ) {
            let mut lines: Vec<String> = if chromium { CHROMIUM } else { AIORTC }.lines().map(str::to_owned).collect();
            for (index, kind, other, text) in edits {
                if lines.is_empty() {
                    break;
                }
                let (at, other) = (index.index(lines.len()), other.index(lines.len()));
                match kind {
                    0 => { lines.remove(at); }
                    1 => lines.swap(at, other),
                    2 => { let line = lines[other].clone(); lines.insert(at, line); }
                    3 => lines[at].push_str(&text),
                    _ => {
                        let keep = lines[at].find([':', '=']).map_or(0, |position| position + 1);
                        lines[at].truncate(keep);
                        lines[at].push_str(&text);
                    }
                }
            }
            let sdp = lines.join("\r\n") + "\r\n";
            if let Ok(offer) = ViewerOffer::parse(&sdp) {
                for codec in offer.codecs().collect::<Vec<_>>() {
                    let sdp = crate::answer::tests::answered(&offer, codec).1;
                    let read_back = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()));
                    prop_assert!(read_back.is_ok(), "{sdp}");
                }
            }
        }

        #[test]
        fn garbage_is_refused(text in "\\PC{0,300}") {
            prop_assert!(ViewerOffer::parse(&text).is_err());
        }
    }
}
