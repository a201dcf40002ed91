use lenscast_media::{Codec, MediaCodec};
use lenscast_router::rtp_parameters::{Direction, ExtensionUri, FormatParameters};
use lenscast_router::{ExtensionId, Mid};
use rtc_sdp::description::media::MediaDescription;

use super::OfferError;
use super::codec::{OfferedCodec, OfferedExtensions, offered_codecs};
use super::description::{Description, Remote, Section, is_disabled, measures_round_trips};
use crate::Fingerprint;

/// An acceptable offer of a viewer: exactly one video section that receives, and perhaps one of audio.
#[derive(Debug, Clone)]
pub struct ViewerOffer {
    pub(crate) sections: Vec<Section>,
    pub(crate) video: VideoSection,
    pub(crate) audio: Option<AudioSection>,
    remote: Remote,
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
    /// Reads and checks an offer.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        let description = Description::read(sdp)?;
        let sections = description.media();
        let videos = || sections.iter().enumerate().filter(|(_, media)| media.media_name.media == "video");
        let Some((position, video)) = videos().next().filter(|_| videos().count() == 1) else {
            return Err(OfferError::VideoSections(videos().count()));
        };
        let remote = description.remote(video)?;
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
        let audio =
            sections.iter().enumerate().find_map(|(position, media)| audio_section(&description, position, media));
        Ok(Self {
            sections: sections.iter().map(Section::of).collect(),
            video: VideoSection {
                position,
                extensions: OfferedExtensions::of(video, Direction::receives),
                reduced_size_rtcp: video.has_attribute("rtcp-rsize"),
                receiver_reference_time: measures_round_trips(video),
                codecs,
                mid,
            },
            audio,
            remote,
        })
    }

    /// The viewer's payload type and parameters for `codec`, if it can decode that.
    #[must_use]
    pub(crate) fn codec(&self, codec: Codec) -> Option<&OfferedCodec> {
        self.video.codecs.iter().find(|offered| offered.codec == MediaCodec::Video(codec))
    }

    pub(crate) const fn fingerprint(&self) -> &Fingerprint {
        &self.remote.fingerprint
    }

    /// The viewer's ICE user fragment.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        &self.remote.ufrag
    }

    /// The media identification of the section that our video goes to.
    #[must_use]
    pub fn mid(&self) -> &str {
        &self.video.mid
    }

    /// The codecs of ours that the viewer can decode, in its order of preference.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.video.codecs.iter().filter_map(|offered| match offered.codec {
            MediaCodec::Video(codec) => Some(codec),
            MediaCodec::Opus => None,
        })
    }

    /// True if it has a section that Opus can be sent to.
    #[must_use]
    pub const fn has_audio(&self) -> bool {
        self.audio.is_some()
    }
}

impl VideoSection {
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
    use crate::offer::tests::{AIORTC, CHROMIUM, edits, mangled, replaced};

    fn payload_type(value: u8) -> PayloadType {
        PayloadType::new(value).unwrap()
    }

    fn error(sdp: &str) -> OfferError {
        ViewerOffer::parse(sdp).unwrap_err()
    }

    fn chromium_with(old: &str, new: &str) -> String {
        replaced(CHROMIUM, old, new)
    }

    #[test]
    fn reads_chromiums_offer() {
        let offer = ViewerOffer::parse(CHROMIUM).unwrap();
        let codecs: Vec<_> =
            offer.video.codecs.iter().map(|offered| (offered.codec, offered.payload_type, offered.rtx)).collect();
        assert_eq!(
            codecs,
            [
                (MediaCodec::Video(Codec::Vp8), payload_type(96), Some(payload_type(97))),
                (MediaCodec::Video(Codec::Vp9), payload_type(98), Some(payload_type(99))),
                (MediaCodec::Video(Codec::H264), payload_type(102), Some(payload_type(103))),
            ]
        );
        assert_eq!(
            offer.codec(Codec::Vp8).unwrap().feedback,
            [
                RtcpFeedback::GoogRemb,
                RtcpFeedback::TransportCc,
                RtcpFeedback::CcmFir,
                RtcpFeedback::Nack,
                RtcpFeedback::NackPli
            ]
        );
        assert!(offer.codec(Codec::H264).unwrap().parameters.contains("packetization-mode=1"));
        assert_eq!(offer.video.extensions.id(ExtensionUri::PlayoutDelay), ExtensionId::new(5));
        assert_eq!(offer.video.extensions.id(ExtensionUri::Mid), ExtensionId::new(9));
        assert_eq!(offer.video.extensions.id(ExtensionUri::AbsoluteCaptureTime), None);
        assert!(offer.video.reduced_size_rtcp && offer.video.receiver_reference_time);
    }

    #[test]
    fn reads_aiortcs_offer_with_sections_we_have_nothing_for() {
        let offer = ViewerOffer::parse(AIORTC).unwrap();
        assert_eq!(offer.codecs().collect::<Vec<_>>(), [Codec::Vp8, Codec::H264]);
        let sections: Vec<_> = offer.sections.iter().map(|section| section.media.as_str()).collect();
        assert_eq!(sections, ["video", "audio", "application"]);
        assert_eq!((offer.video.position, offer.audio.map(|audio| audio.position)), (0, Some(1)));
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
        assert_eq!(offer.codec(Codec::H264), None, "single NAL unit mode cannot carry a frame of ours");
        let offer = ViewerOffer::parse(&chromium_with("profile-id=0", "profile-id=2")).unwrap();
        assert_eq!(offer.codec(Codec::Vp9), None);
    }

    #[test]
    fn rtx_and_nack_are_read_each_for_itself() {
        let offer = ViewerOffer::parse(&chromium_with("apt=96", "apt=95")).unwrap();
        let vp8 = offer.codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&RtcpFeedback::Nack)), (None, true));
        let offer = ViewerOffer::parse(&chromium_with("a=rtcp-fb:96 nack\r\n", "")).unwrap();
        let vp8 = offer.codec(Codec::Vp8).unwrap();
        assert_eq!((vp8.rtx, vp8.feedback.contains(&RtcpFeedback::Nack)), (Some(payload_type(97)), false));
    }

    #[test]
    fn extensions_that_the_viewer_only_sends_or_that_need_long_headers_are_left_out() {
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:5/sendonly ")).unwrap();
        assert_eq!(offer.video.extensions.id(ExtensionUri::PlayoutDelay), None);
        let offer = ViewerOffer::parse(&chromium_with("a=extmap:5 ", "a=extmap:15 ")).unwrap();
        assert_eq!(offer.video.extensions.id(ExtensionUri::PlayoutDelay), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn mangled_offers_are_answered_or_refused(chromium: bool, edits in edits()) {
            let sdp = mangled(if chromium { CHROMIUM } else { AIORTC }, edits);
            if let Ok(offer) = ViewerOffer::parse(&sdp) {
                for codec in offer.codecs().collect::<Vec<_>>() {
                    let sdp = crate::answer::viewer::tests::answered(&offer, codec).1;
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
