use std::collections::BTreeMap;

use lenscast_media::{Codec, MediaCodec};
use lenscast_router::rtp_parameters::{Direction, ExtensionUri, FormatParameters};
use lenscast_router::{ExtensionId, Mid};
use rtc_sdp::description::media::MediaDescription;

use super::codec::{OfferedCodec, OfferedExtensions, offered_codecs};
use super::description::{Description, Remote, Section, is_disabled, measures_round_trips};
use super::{MAX_CAMERAS, OfferError};
use crate::Fingerprint;

/// An acceptable offer of a viewer: for each camera one video section that receives, and perhaps one of audio, all in one
/// bundle.
#[derive(Debug, Clone)]
pub struct ViewerOffer {
    pub(crate) sections: Vec<Section>,
    /// The sections of the cameras, in the cameras' order. At least one.
    pub(crate) cameras: Vec<CameraSections>,
    remote: Remote,
}

/// The sections that one camera's tracks go to.
#[derive(Debug, Clone)]
pub(crate) struct CameraSections {
    pub(crate) video: VideoSection,
    pub(crate) audio: Option<AudioSection>,
}

/// The section that our video goes to.
#[derive(Debug, Clone)]
pub(crate) struct VideoSection {
    /// Its place among the sections.
    pub(crate) position: usize,
    pub(crate) mid: String,
    pub(crate) codecs: Vec<OfferedCodec>,
    pub(crate) extensions: OfferedExtensions,
    pub(crate) reduced_size_rtcp: bool,
    /// The viewer sends its own time and wants it back (`rcvr-rtt`, RFC 3611 §5).
    pub(crate) receiver_reference_time: bool,
}

/// The section that our audio goes to, if there is any.
#[derive(Debug, Clone)]
pub(crate) struct AudioSection {
    /// Its place among the sections.
    pub(crate) position: usize,
    pub(crate) mid: String,
    pub(crate) codec: OfferedCodec,
    pub(crate) extensions: OfferedExtensions,
    pub(crate) reduced_size_rtcp: bool,
}

impl ViewerOffer {
    /// Reads and checks an offer for one camera.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        Self::parse_for(sdp, 1)
    }

    /// Reads and checks an offer for so many cameras, 1 to [`MAX_CAMERAS`]: the first video section is for the first of them,
    /// and so on. Of the audio sections too; with one camera, the first that can be used is for it.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse_for(sdp: &str, cameras: usize) -> Result<Self, OfferError> {
        debug_assert!((1..=MAX_CAMERAS).contains(&cameras), "{cameras} cameras");
        let description = Description::read(sdp)?;
        let sections = description.media();
        let of_kind = |kind| sections.iter().enumerate().filter(move |(_, media)| media.media_name.media == kind);
        let videos: Vec<_> = of_kind("video").collect();
        let Some((_, first)) = videos.first().filter(|_| videos.len() == cameras) else {
            return Err(OfferError::VideoSections { sections: videos.len(), cameras });
        };
        let remote = description.remote(first)?;
        let videos = videos.into_iter().map(|(position, media)| video_section(&description, position, media));
        let videos = videos.collect::<Result<Vec<_>, _>>()?;
        let mut audio: Vec<_> =
            of_kind("audio").map(|(position, media)| audio_section(&description, position, media)).collect();
        if cameras == 1 {
            audio.retain(Option::is_some);
        }
        let audio = audio.into_iter().chain(std::iter::repeat_with(|| None));
        let cameras = videos.into_iter().zip(audio).map(|(video, audio)| CameraSections { video, audio });
        let offer = Self { sections: sections.iter().map(Section::of).collect(), cameras: cameras.collect(), remote };
        if offer.cameras.len() > 1 {
            offer.check_bundle()?;
        }
        Ok(offer)
    }

    /// What is one transport has one meaning for each number, whatever the section: of payload types (RFC 9143 §9.1) and of
    /// header extensions (§8), and no two sections of one name (RFC 5888 §4).
    fn check_bundle(&self) -> Result<(), OfferError> {
        let (mut mids, mut payload_types, mut extensions) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut agree = |mid: &str, codecs: &[OfferedCodec], offered: &OfferedExtensions| {
            if mids.contains(&mid.to_owned()) {
                return Err(OfferError::Bundle(format!("a=mid:{mid} is there twice")));
            }
            mids.push(mid.to_owned());
            for codec in codecs {
                let own = (codec.payload_type, (codec.codec.encoding_name(), codec.parameters.clone()));
                let rtx = codec.rtx.map(|rtx| (rtx, ("rtx", format!("apt={}", codec.payload_type))));
                for (payload_type, meaning) in std::iter::once(own).chain(rtx) {
                    if *payload_types.entry(payload_type.value()).or_insert_with(|| meaning.clone()) != meaning {
                        return Err(OfferError::Bundle(format!("payload type {payload_type} has two meanings")));
                    }
                }
            }
            for (uri, id) in offered.iter() {
                if *extensions.entry(id.value()).or_insert(uri) != uri {
                    return Err(OfferError::Bundle(format!("a=extmap:{} has two meanings", id.value())));
                }
            }
            Ok(())
        };
        for CameraSections { video, audio } in &self.cameras {
            agree(&video.mid, &video.codecs, &video.extensions)?;
            if let Some(audio) = audio {
                agree(&audio.mid, std::slice::from_ref(&audio.codec), &audio.extensions)?;
            }
        }
        Ok(())
    }

    pub(crate) const fn fingerprint(&self) -> &Fingerprint {
        &self.remote.fingerprint
    }

    /// The viewer's ICE user fragment.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        &self.remote.ufrag
    }

    /// The media identifications of the sections that the cameras' video goes to, in the cameras' order.
    pub fn mids(&self) -> impl Iterator<Item = &str> {
        self.cameras.iter().map(|camera| camera.video.mid.as_str())
    }

    /// The codecs of ours that the viewer can decode of a camera, in its order of preference. None for a camera that it has no
    /// section for.
    pub fn codecs(&self, camera: usize) -> impl Iterator<Item = Codec> {
        let offered = self.cameras.get(camera).into_iter().flat_map(|camera| &camera.video.codecs);
        offered.filter_map(|offered| match offered.codec {
            MediaCodec::Video(codec) => Some(codec),
            MediaCodec::Opus => None,
        })
    }

    /// True if it has a section that Opus can be sent to.
    #[must_use]
    pub fn has_audio(&self) -> bool {
        self.cameras.iter().any(|camera| camera.audio.is_some())
    }
}

impl VideoSection {
    /// The viewer's payload type and parameters for `codec`, if it can decode that.
    pub(crate) fn codec(&self, codec: Codec) -> Option<&OfferedCodec> {
        self.codecs.iter().find(|offered| offered.codec == MediaCodec::Video(codec))
    }

    /// The section's name with the identifier that packets may carry it under.
    pub(crate) fn mid_extension(&self) -> Option<(ExtensionId, Mid)> {
        self.extensions.id(ExtensionUri::Mid).zip(Mid::new(&self.mid))
    }
}

impl AudioSection {
    /// As [`VideoSection::mid_extension`].
    pub(crate) fn mid_extension(&self) -> Option<(ExtensionId, Mid)> {
        self.extensions.id(ExtensionUri::Mid).zip(Mid::new(&self.mid))
    }
}

/// A section that video can be sent to.
fn video_section(
    description: &Description,
    position: usize,
    video: &MediaDescription,
) -> Result<VideoSection, OfferError> {
    if !video.has_attribute("rtcp-mux") {
        return Err(OfferError::NoRtcpMux("video"));
    }
    match description.direction(video) {
        Direction::SendOnly => return Err(OfferError::Direction("sendonly")),
        Direction::Inactive => return Err(OfferError::Direction("inactive")),
        Direction::RecvOnly | Direction::SendRecv => {}
    }
    let mid = description.bundled_mid(video)?;
    let codecs = offered_codecs(video, is_decodable);
    if codecs.is_empty() {
        return Err(OfferError::NoCodec);
    }
    Ok(VideoSection {
        position,
        extensions: OfferedExtensions::of(video, Direction::receives),
        reduced_size_rtcp: video.has_attribute("rtcp-rsize"),
        receiver_reference_time: measures_round_trips(video),
        codecs,
        mid,
    })
}

/// A section that audio can be sent to; one that cannot be used is no error, since a viewer can do without.
fn audio_section(description: &Description, position: usize, media: &MediaDescription) -> Option<AudioSection> {
    let usable = media.media_name.media == "audio"
        && !is_disabled(media)
        && media.has_attribute("rtcp-mux")
        && description.direction(media).receives();
    Some(AudioSection {
        position,
        mid: description.bundled_mid(media).ok().filter(|_| usable)?,
        codec: offered_codecs(media, |codec, _| codec == MediaCodec::Opus).pop()?,
        extensions: OfferedExtensions::of(media, Direction::receives),
        reduced_size_rtcp: media.has_attribute("rtcp-rsize"),
    })
}

/// VP9 profile 0 (RFC 9628 §6.1); H.264 constrained baseline, or baseline of which it is a subset, in packets that may
/// be fragmented (RFC 6184 §8.1).
fn is_decodable(codec: MediaCodec, parameters: &FormatParameters) -> bool {
    match codec {
        MediaCodec::Opus => false,
        MediaCodec::Video(Codec::Vp8) => true,
        MediaCodec::Video(Codec::Vp9) => parameters.value("profile-id").is_none_or(|profile| profile == "0"),
        MediaCodec::Video(Codec::H264) => {
            let profile = parameters.value("profile-level-id").unwrap_or("420010");
            // Byte by byte: what a viewer sends need not be ASCII.
            let is_baseline = profile.len() == 6 && profile.as_bytes()[..2] == *b"42";
            is_baseline && parameters.value("packetization-mode") == Some("1")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use lenscast_router::PayloadType;
    use lenscast_router::rtp_parameters::RtcpFeedback;
    use proptest::prelude::*;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::tests::{AIORTC, CHROMIUM, bundle, edits, mangled, replaced};

    fn payload_type(value: u8) -> PayloadType {
        PayloadType::new(value).unwrap()
    }

    fn error(sdp: &str) -> OfferError {
        ViewerOffer::parse(sdp).unwrap_err()
    }

    fn video(offer: &ViewerOffer) -> &VideoSection {
        &offer.cameras[0].video
    }

    fn chromium_with(old: &str, new: &str) -> String {
        replaced(CHROMIUM, old, new)
    }

    #[test]
    fn reads_chromiums_offer() {
        let offer = ViewerOffer::parse(CHROMIUM).unwrap();
        let codecs: Vec<_> =
            video(&offer).codecs.iter().map(|offered| (offered.codec, offered.payload_type, offered.rtx)).collect();
        assert_eq!(
            codecs,
            [
                (MediaCodec::Video(Codec::Vp8), payload_type(96), Some(payload_type(97))),
                (MediaCodec::Video(Codec::Vp9), payload_type(98), Some(payload_type(99))),
                (MediaCodec::Video(Codec::H264), payload_type(102), Some(payload_type(103))),
            ]
        );
        assert_eq!(
            video(&offer).codec(Codec::Vp8).unwrap().feedback,
            [
                RtcpFeedback::GoogRemb,
                RtcpFeedback::TransportCc,
                RtcpFeedback::CcmFir,
                RtcpFeedback::Nack,
                RtcpFeedback::NackPli
            ]
        );
        assert!(video(&offer).codec(Codec::H264).unwrap().parameters.contains("packetization-mode=1"));
        assert_eq!(video(&offer).extensions.id(ExtensionUri::PlayoutDelay), ExtensionId::new(5));
        assert_eq!(video(&offer).extensions.id(ExtensionUri::Mid), ExtensionId::new(9));
        assert_eq!(video(&offer).extensions.id(ExtensionUri::AbsoluteCaptureTime), None);
        assert!(video(&offer).reduced_size_rtcp && video(&offer).receiver_reference_time);
    }

    #[test]
    fn reads_aiortcs_offer_with_sections_we_have_nothing_for() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        assert_eq!(offer.codecs(0).collect::<Vec<_>>(), [Codec::Vp8, Codec::H264]);
        let sections: Vec<_> = offer.sections.iter().map(|section| section.media.as_str()).collect();
        assert_eq!(sections, ["video", "audio", "application"]);
        let CameraSections { video, audio } = &offer.cameras[0];
        assert_eq!((video.position, audio.as_ref().map(|audio| audio.position)), (0, Some(1)));
    }

    #[test]
    fn an_offer_must_be_sdp_of_a_sane_size() {
        for sdp in ["", "v=0", "hello", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=", "\u{0}\u{1}"] {
            assert!(
                error(sdp).is_malformed() || matches!(error(sdp), OfferError::VideoSections { sections: 0, .. }),
                "{sdp:?}"
            );
        }
        let huge = format!("{CHROMIUM}{}", "a=x\r\n".repeat(30_000));
        assert_eq!(error(&huge), OfferError::TooLarge(huge.len()));
        let section = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
        assert!(error(&format!("{CHROMIUM}{}", section.repeat(40))).is_malformed());
    }

    #[test]
    fn an_offer_must_ask_for_one_video_track() {
        assert_eq!(error(&chromium_with("m=video", "m=audio")), OfferError::VideoSections { sections: 0, cameras: 1 });
        let video = &CHROMIUM[CHROMIUM.find("m=video").unwrap()..];
        assert_eq!(error(&format!("{CHROMIUM}{video}")), OfferError::VideoSections { sections: 2, cameras: 1 });
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
        assert_eq!(error(&chromium_with("a=rtcp-mux\r\n", "")), OfferError::NoRtcpMux("video"));
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
        assert_eq!(video(&offer).codec(Codec::H264), None, "single NAL unit mode cannot carry a frame of ours");
        let offer = ViewerOffer::parse(&chromium_with("profile-id=0", "profile-id=2")).unwrap();
        assert_eq!(video(&offer).codec(Codec::Vp9), None);
    }

    #[test]
    fn rtx_and_nack_are_read_each_for_itself() {
        let offer = ViewerOffer::parse(&chromium_with("apt=96", "apt=95")).unwrap();
        let vp8 = video(&offer).codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&RtcpFeedback::Nack)), (None, true));
        let offer = ViewerOffer::parse(&chromium_with("a=rtcp-fb:96 nack\r\n", "")).unwrap();
        let vp8 = video(&offer).codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&RtcpFeedback::Nack)), (Some(payload_type(97)), false));
    }

    #[test]
    fn extensions_that_the_viewer_only_sends_or_that_need_long_headers_are_left_out() {
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:5/sendonly ")).unwrap();
        assert_eq!(video(&offer).extensions.id(ExtensionUri::PlayoutDelay), None);
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:15 ")).unwrap();
        assert_eq!(video(&offer).extensions.id(ExtensionUri::PlayoutDelay), None);
    }

    #[test]
    fn each_camera_has_a_section_of_its_own_in_the_cameras_order() {
        let offer = ViewerOffer::parse_for(&bundle(3, false), 3).unwrap();
        assert_eq!(offer.mids().collect::<Vec<_>>(), ["v0", "v1", "v2"]);
        let positions: Vec<_> = offer.cameras.iter().map(|camera| camera.video.position).collect();
        assert_eq!((positions, offer.has_audio()), (vec![0, 1, 2], false));
        assert_eq!(offer.codecs(2).collect::<Vec<_>>(), [Codec::Vp8, Codec::Vp9, Codec::H264]);
        assert_eq!(offer.codecs(3).count(), 0);
        let offer = ViewerOffer::parse_for(&bundle(2, true), 2).unwrap();
        let audio = |camera: &CameraSections| camera.audio.as_ref().map(|audio| (audio.position, audio.mid.clone()));
        let audio: Vec<_> = offer.cameras.iter().map(audio).collect();
        assert_eq!(audio, [Some((1, "a0".to_owned())), Some((3, "a1".to_owned()))]);
    }

    #[test]
    fn audio_that_cannot_be_used_leaves_its_camera_mute_and_no_other() {
        let sdp = replaced(&bundle(2, true), "a=mid:a0\r\na=recvonly", "a=mid:a0\r\na=inactive");
        let offer = ViewerOffer::parse_for(&sdp, 2).unwrap();
        assert!(offer.cameras[0].audio.is_none() && offer.cameras[1].audio.is_some());
    }

    #[test]
    fn an_offer_has_as_many_video_sections_as_there_are_cameras() {
        for (sections, cameras) in [(1, 2), (3, 2), (15, 16)] {
            let error = ViewerOffer::parse_for(&bundle(sections, true), cameras).unwrap_err();
            assert_eq!(error, OfferError::VideoSections { sections, cameras });
            assert!(error.to_string().contains(&format!("{sections} video sections, must have exactly {cameras}")));
        }
        assert_eq!(
            ViewerOffer::parse_for(&bundle(MAX_CAMERAS, true), MAX_CAMERAS).unwrap().mids().count(),
            MAX_CAMERAS
        );
    }

    #[test]
    fn each_section_must_be_acceptable_for_itself() {
        let error = |old: &str, new: &str| {
            let sdp = bundle(2, false);
            let (first, second) = sdp.split_at(sdp.rfind("m=video").unwrap());
            ViewerOffer::parse_for(&format!("{first}{}", replaced(second, old, new)), 2).unwrap_err()
        };
        assert_eq!(error("a=recvonly", "a=sendonly"), OfferError::Direction("sendonly"));
        assert_eq!(error("a=rtcp-mux\r\n", ""), OfferError::NoRtcpMux("video"));
        assert_eq!(error("a=mid:v1", "a=mid:v7"), OfferError::NotBundled("v7".to_owned()));
        let unknown = replaced(&bundle(2, false), "a=rtpmap:", "a=x-rtpmap:");
        assert_eq!(ViewerOffer::parse_for(&unknown, 2).unwrap_err(), OfferError::NoCodec);
    }

    #[test]
    fn numbers_mean_the_same_in_all_sections_of_a_bundle() {
        let error = |old: &str, new: &str| {
            let sdp = bundle(2, true);
            let (first, second) = sdp.split_at(sdp.rfind("m=video").unwrap());
            let error = ViewerOffer::parse_for(&format!("{first}{}", replaced(second, old, new)), 2).unwrap_err();
            assert!(matches!(&error, OfferError::Bundle(_)) && error.is_malformed(), "{error:?}");
            error.to_string()
        };
        assert!(
            error("a=rtpmap:96 VP8/90000", "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1").contains("96")
        );
        assert!(error("apt=96", "apt=98").contains("97"));
        assert!(error("a=fmtp:98 profile-id=0", "a=fmtp:98 profile-id=0;x=1").contains("98"));
        assert!(error("a=extmap:5 ", "a=extmap:9 ").contains('9'));
        assert!(error("a=mid:a1", "a=mid:a0").contains("a0"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn mangled_offers_are_answered_or_refused(chromium: bool, edits in edits()) {
            let sdp = mangled(if chromium { CHROMIUM } else { AIORTC }, edits);
            if let Ok(offer) = ViewerOffer::parse(&sdp) {
                for codec in offer.codecs(0).collect::<Vec<_>>() {
                    let sdp = crate::answer::viewer::tests::answered(&offer, codec).1;
                    let read_back = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()));
                    prop_assert!(read_back.is_ok(), "{sdp}");
                }
            }
        }

        #[test]
        fn mangled_offers_for_several_are_answered_or_refused(count in 1_usize..5, cameras in 1_usize..5, audio: bool, edits in edits()) {
            use crate::answer::viewer::tests::{answer_all, shown};
            if let Ok(offer) = ViewerOffer::parse_for(&mangled(&bundle(count, audio), edits), cameras) {
                prop_assert_eq!(offer.mids().count(), cameras);
                let codecs: Vec<_> = (0..cameras).map(|camera| offer.codecs(camera).last().unwrap()).collect();
                let (agreements, sdp) = answer_all(&offer, &shown(&codecs)).unwrap();
                prop_assert_eq!(agreements.len(), cameras);
                let read_back = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()));
                prop_assert!(read_back.is_ok(), "{sdp}");
                prop_assert_eq!(read_back.unwrap().media_descriptions.len(), offer.sections.len());
            }
        }

        #[test]
        fn garbage_is_refused(text in "\\PC{0,300}") {
            prop_assert!(ViewerOffer::parse(&text).is_err());
        }
    }
}
