use lenscast_media::{Codec, MediaCodec, Ssrc};
use lenscast_router::rtp_parameters::{Direction, FormatParameters};
use lenscast_router::{Mid, Rid};
use rtc_sdp::description::media::MediaDescription;

use super::OfferError;
use super::codec::{OfferedCodec, OfferedExtensions, offered_codecs};
use super::description::{Description, Remote, Section, is_disabled, measures_round_trips, value, values};
use crate::Fingerprint;

/// An acceptable offer of somebody who publishes (RFC 9725 §4.4): one video section and at most one of audio, of one media
/// stream, both sending, in one bundle.
#[derive(Debug, Clone)]
pub struct PublisherOffer {
    pub(crate) sections: Vec<Section>,
    pub(crate) video: PublishedSection,
    pub(crate) audio: Option<PublishedSection>,
    remote: Remote,
}

/// A section that media comes from.
#[derive(Debug, Clone)]
pub(crate) struct PublishedSection {
    /// Its place among the sections.
    pub(crate) position: usize,
    pub(crate) mid: String,
    pub(crate) codecs: Vec<OfferedCodec>,
    /// At least one; of simulcast, the smallest first.
    pub(crate) encodings: Vec<OfferedEncoding>,
    /// The RIDs of its simulcast in the offer's order; empty without.
    pub(crate) simulcast: Vec<Rid>,
    pub(crate) extensions: OfferedExtensions,
    pub(crate) reduced_size_rtcp: bool,
    /// The publisher returns our time (`rcvr-rtt`, RFC 3611 §5).
    pub(crate) returns_reference_times: bool,
}

/// How one of its layers can be told from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OfferedEncoding {
    pub(crate) rid: Option<Rid>,
    pub(crate) ssrc: Option<Ssrc>,
    pub(crate) rtx_ssrc: Option<Ssrc>,
}

/// As many as a producer has at most.
const MAX_ENCODINGS: usize = 4;

impl PublisherOffer {
    /// Reads and checks an offer.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse(sdp: &str) -> Result<Self, OfferError> {
        let description = Description::read(sdp)?;
        let sections = description.media();
        let used = || sections.iter().enumerate().filter(|(_, media)| !is_disabled(media));
        let of = |kind: &'static str| used().filter(move |(_, media)| media.media_name.media == kind);
        if let Some((_, other)) = used().find(|(_, media)| !matches!(&*media.media_name.media, "video" | "audio")) {
            return Err(OfferError::Section(other.media_name.media.chars().take(32).collect()));
        }
        let Some((position, video)) = of("video").next().filter(|_| of("video").count() == 1) else {
            return Err(OfferError::VideoSections { sections: of("video").count(), cameras: 1 });
        };
        if of("audio").count() > 1 {
            return Err(OfferError::AudioSections(of("audio").count()));
        }
        let remote = description.remote(video)?;
        let audio_media = of("audio").next();
        if let Some((_, audio)) = audio_media
            && let (Some(one), Some(other)) = (media_stream(video), media_stream(audio))
            && one != other
        {
            return Err(OfferError::MediaStreams);
        }
        let audio = match audio_media {
            Some((position, audio)) => Some(audio_section(&description, position, audio)?),
            None => None,
        };
        let video = video_section(&description, position, video)?;
        Ok(Self { sections: sections.iter().map(Section::of).collect(), video, audio, remote })
    }

    pub(crate) const fn fingerprint(&self) -> &Fingerprint {
        &self.remote.fingerprint
    }

    /// The publisher's ICE user fragment.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        &self.remote.ufrag
    }

    /// The media identification of its first section: the one that stands for the bundle (RFC 9143 §7.2).
    #[must_use]
    pub fn mid(&self) -> &str {
        match &self.audio {
            Some(audio) if audio.position < self.video.position => &audio.mid,
            _ => &self.video.mid,
        }
    }

    /// The video codecs that it offers, of those we know, in its order of preference.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        self.video.codecs.iter().filter_map(|offered| match offered.codec {
            MediaCodec::Video(codec) => Some(codec),
            MediaCodec::Opus => None,
        })
    }

    /// Spatial layers of its video.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.video.encodings.len()
    }

    /// True if it sends audio too.
    #[must_use]
    pub const fn has_audio(&self) -> bool {
        self.audio.is_some()
    }
}

fn video_section(
    description: &Description,
    position: usize,
    media: &MediaDescription,
) -> Result<PublishedSection, OfferError> {
    let codecs = offered_codecs(media, is_forwardable);
    if codecs.is_empty() {
        return Err(OfferError::NoCodec);
    }
    let simulcast = simulcast(media)?;
    let mut encodings = match &simulcast[..] {
        [] => encodings_by_source(media)?,
        rids => smallest_first(media, rids)
            .map(|rid| OfferedEncoding { rid: Some(rid), ..OfferedEncoding::default() })
            .collect(),
    };
    if encodings.len() > MAX_ENCODINGS {
        return Err(OfferError::Simulcast("has more than 4 layers"));
    }
    if encodings.is_empty() {
        encodings.push(OfferedEncoding::default());
    }
    section(description, position, media, "video", codecs, encodings, simulcast)
}

fn audio_section(
    description: &Description,
    position: usize,
    media: &MediaDescription,
) -> Result<PublishedSection, OfferError> {
    let codecs = offered_codecs(media, |codec, _| codec == MediaCodec::Opus);
    if codecs.is_empty() {
        return Err(OfferError::NoAudioCodec);
    }
    let encoding = OfferedEncoding { ssrc: sources(media).next(), ..OfferedEncoding::default() };
    section(description, position, media, "audio", codecs, vec![encoding], Vec::new())
}

fn section(
    description: &Description,
    position: usize,
    media: &MediaDescription,
    kind: &'static str,
    codecs: Vec<OfferedCodec>,
    encodings: Vec<OfferedEncoding>,
    simulcast: Vec<Rid>,
) -> Result<PublishedSection, OfferError> {
    if !media.has_attribute("rtcp-mux") {
        return Err(OfferError::NoRtcpMux(kind));
    }
    match description.direction(media) {
        Direction::RecvOnly => return Err(OfferError::PublisherDirection { kind, direction: "recvonly" }),
        Direction::Inactive => return Err(OfferError::PublisherDirection { kind, direction: "inactive" }),
        Direction::SendOnly | Direction::SendRecv => {}
    }
    Ok(PublishedSection {
        position,
        mid: description.bundled_mid(media)?,
        codecs,
        encodings,
        simulcast,
        extensions: OfferedExtensions::of(media, Direction::sends),
        reduced_size_rtcp: media.has_attribute("rtcp-rsize"),
        returns_reference_times: measures_round_trips(media),
    })
}

impl PublishedSection {
    /// The section's name, if packets can carry it.
    pub(crate) fn mid(&self) -> Option<Mid> {
        Mid::new(&self.mid)
    }
}

/// VP9 profile 0; H.264 in packets that may be fragmented. Of H.264 any profile: viewers are told of constrained
/// baseline, and browsers' decoders take what they get.
fn is_forwardable(codec: MediaCodec, parameters: &FormatParameters) -> bool {
    match codec {
        MediaCodec::Opus => false,
        MediaCodec::Video(Codec::Vp8) => true,
        MediaCodec::Video(Codec::Vp9) => parameters.value("profile-id").is_none_or(|profile| profile == "0"),
        MediaCodec::Video(Codec::H264) => parameters.value("packetization-mode") == Some("1"),
    }
}

/// The name of the media stream that a section's track is of (RFC 8830 §2), if it is of any.
fn media_stream(media: &MediaDescription) -> Option<&str> {
    value(media, "msid")?.split(' ').next().filter(|stream| !matches!(*stream, "-" | ""))
}

/// The RIDs of `a=simulcast:send` (RFC 8853 §5.1), in its order. Of alternatives the first counts, and a paused one (`~`)
/// like others: it may begin later.
fn simulcast(media: &MediaDescription) -> Result<Vec<Rid>, OfferError> {
    let Some(line) = value(media, "simulcast") else { return Ok(Vec::new()) };
    let mut words = line.split_ascii_whitespace();
    let mut sent = None;
    while let Some(direction) = words.next() {
        let list = words.next();
        if direction == "send" {
            sent = list;
        }
    }
    let Some(list) = sent else { return Ok(Vec::new()) };
    let mut rids: Vec<Rid> = Vec::new();
    for alternatives in list.split(';') {
        let first = alternatives.split(',').next().unwrap_or_default();
        let rid = Rid::new(first.trim_start_matches('~')).ok_or(OfferError::Simulcast("names a RID that is none"))?;
        if restrictions(media, rid).is_none() {
            return Err(OfferError::Simulcast("names a RID without an a=rid that sends"));
        }
        if rids.contains(&rid) {
            return Err(OfferError::Simulcast("names a RID twice"));
        }
        if rids.len() == MAX_ENCODINGS {
            return Err(OfferError::Simulcast("has more than 4 layers"));
        }
        rids.push(rid);
    }
    Ok(rids)
}

/// What follows `a=rid:<rid> send` (RFC 8851 §4).
fn restrictions(media: &MediaDescription, rid: Rid) -> Option<&str> {
    values(media, "rid").find_map(|line| {
        let mut words = line.splitn(3, ' ');
        let fits = words.next() == Some(rid.as_str()) && words.next() == Some("send");
        fits.then(|| words.next().unwrap_or_default())
    })
}

/// Names that browsers' applications give the layers, each set from the smallest to the largest.
const LADDERS: [&[&str]; 4] = [&["q", "h", "f"], &["l", "m", "h"], &["low", "mid", "high"], &["low", "medium", "high"]];

/// Orders layers by what the offer says of their size, or else by what their names mean. If neither tells, their order
/// is taken for ascending, as the default of W3C's `scaleResolutionDownBy` has it.
fn smallest_first(media: &MediaDescription, rids: &[Rid]) -> impl Iterator<Item = Rid> + use<> {
    let limit = |rid: &Rid, name: &str| {
        let parameters = FormatParameters::parse(restrictions(media, *rid).unwrap_or_default());
        parameters.value(name).and_then(|value| value.parse::<u64>().ok())
    };
    let ladder = LADDERS.into_iter().find(|ladder| rids.iter().all(|rid| ladder.contains(&rid.as_str())));
    let by_name = |rid: &Rid| ladder?.iter().position(|name| *name == rid.as_str()).map(|position| position as u64);
    let all = |rank: &dyn Fn(&Rid) -> Option<u64>| rids.iter().map(rank).collect::<Option<Vec<_>>>();
    let ranks = all(&|rid| limit(rid, "max-width"))
        .or_else(|| all(&|rid| limit(rid, "max-height")))
        .or_else(|| all(&|rid| limit(rid, "max-br")))
        .or_else(|| all(&by_name))
        .unwrap_or_else(|| vec![0; rids.len()]);
    let mut ranked: Vec<_> = ranks.into_iter().zip(rids.iter().copied()).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, rid)| rid)
}

/// The sources that the offer names (RFC 5576): one layer, or those of a `SIM` group; with what repairs each.
fn encodings_by_source(media: &MediaDescription) -> Result<Vec<OfferedEncoding>, OfferError> {
    let groups = |kind: &'static str| {
        values(media, "ssrc-group").filter_map(move |line| {
            let (semantics, list) = line.split_once(' ')?;
            (semantics == kind)
                .then(|| list.split(' ').filter_map(|ssrc| ssrc.parse().ok().map(Ssrc)).collect::<Vec<_>>())
        })
    };
    let repairs =
        |ssrc: Ssrc| groups("FID").find(|pair| pair.first() == Some(&ssrc)).and_then(|pair| pair.get(1).copied());
    let repaired: Vec<Ssrc> = groups("FID").filter_map(|pair| pair.get(1).copied()).collect();
    let media_sources = match groups("SIM").next() {
        Some(layers) => layers,
        None => sources(media).filter(|ssrc| !repaired.contains(ssrc)).take(1).collect(),
    };
    if (1..media_sources.len()).any(|at| media_sources[..at].contains(&media_sources[at])) {
        return Err(OfferError::Simulcast("names a source twice"));
    }
    let encoding =
        |ssrc| OfferedEncoding { rid: None, ssrc: Some(ssrc), rtx_ssrc: repairs(ssrc).filter(|rtx| *rtx != ssrc) };
    Ok(media_sources.into_iter().map(encoding).collect())
}

fn sources(media: &MediaDescription) -> impl Iterator<Item = Ssrc> {
    values(media, "ssrc").filter_map(|line| Some(Ssrc(line.split(' ').next()?.parse().ok()?)))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use lenscast_router::rtp_parameters::{ExtensionUri, RtcpFeedback};
    use proptest::prelude::*;
    use rtc_sdp::description::session::SessionDescription;

    use super::*;
    use crate::offer::tests::{edits, mangled, replaced};

    pub(crate) const SIMULCAST: &str = include_str!("../../testdata/publish_chromium_simulcast.sdp");
    pub(crate) const CHROMIUM: &str = include_str!("../../testdata/publish_chromium.sdp");
    pub(crate) const AIORTC: &str = include_str!("../../testdata/publish_aiortc.sdp");
    // In the form that these have, written down by hand.
    pub(crate) const FIREFOX: &str = include_str!("../../testdata/publish_firefox.sdp");
    pub(crate) const OBS: &str = include_str!("../../testdata/publish_obs.sdp");
    pub(crate) const GSTREAMER: &str = include_str!("../../testdata/publish_gstreamer.sdp");

    pub(crate) const ALL: [&str; 6] = [SIMULCAST, CHROMIUM, AIORTC, FIREFOX, OBS, GSTREAMER];

    fn parse(sdp: &str) -> PublisherOffer {
        PublisherOffer::parse(sdp).unwrap()
    }

    fn error(sdp: &str) -> OfferError {
        PublisherOffer::parse(sdp).unwrap_err()
    }

    fn rids(offer: &PublisherOffer) -> Vec<String> {
        offer.video.encodings.iter().filter_map(|encoding| encoding.rid).map(|rid| rid.to_string()).collect()
    }

    #[test]
    fn reads_chromiums_simulcast() {
        let offer = parse(SIMULCAST);
        assert_eq!(rids(&offer), ["q", "h", "f"]);
        assert_eq!(offer.codecs().collect::<Vec<_>>(), [Codec::Vp8, Codec::H264, Codec::Vp9]);
        assert!(offer.video.encodings.iter().all(|encoding| encoding.ssrc.is_none()));
        let vp8 = &offer.video.codecs[0];
        assert_eq!((vp8.payload_type.value(), vp8.rtx.map(|rtx| rtx.value())), (96, Some(97)));
        assert!(vp8.feedback.contains(&RtcpFeedback::Nack) && vp8.feedback.contains(&RtcpFeedback::TransportCc));
        for (uri, id) in [
            (ExtensionUri::Mid, 4),
            (ExtensionUri::RtpStreamId, 10),
            (ExtensionUri::RepairedRtpStreamId, 11),
            (ExtensionUri::TransportWideSequence, 3),
            (ExtensionUri::VideoOrientation, 13),
            (ExtensionUri::AbsoluteSendTime, 2),
            (ExtensionUri::PlayoutDelay, 5),
        ] {
            assert_eq!(offer.video.extensions.id(uri).map(|id| id.value()), Some(id), "{uri}");
        }
        let audio = offer.audio.as_ref().unwrap();
        assert_eq!((audio.position, audio.codecs[0].payload_type.value()), (0, 111));
        assert_eq!(audio.encodings[0].ssrc, Some(Ssrc(715_546_204)));
        assert_eq!((offer.mid(), offer.video.mid.as_str()), ("0", "1"));
    }

    #[test]
    fn reads_the_sources_of_a_single_layer_and_what_repairs_them() {
        for (sdp, ssrc, rtx) in [
            (CHROMIUM, 1_127_649_484, Some(1_737_108_167)),
            (OBS, 1_176_447_162, None),
            (GSTREAMER, 2_733_462_161, Some(1_316_826_871)),
            (AIORTC, 4_011_775_965, Some(2_529_812_554)),
        ] {
            let offer = parse(sdp);
            let expected = OfferedEncoding { rid: None, ssrc: Some(Ssrc(ssrc)), rtx_ssrc: rtx.map(Ssrc) };
            assert_eq!(offer.video.encodings, [expected]);
            assert_eq!(offer.has_audio(), sdp != CHROMIUM);
        }
    }

    #[test]
    fn reads_a_bundle_of_which_one_section_only_has_a_port() {
        let offer = parse(GSTREAMER);
        assert_eq!(offer.audio.as_ref().unwrap().codecs[0].codec, MediaCodec::Opus);
        assert_eq!(offer.codecs().collect::<Vec<_>>(), [Codec::H264]);
    }

    #[test]
    fn reads_layers_as_groups_of_sources() {
        let grouped = replaced(
            CHROMIUM,
            "a=ssrc-group:FID",
            "a=ssrc-group:SIM 5 6 7\r\na=ssrc-group:FID 6 60\r\na=ssrc-group:FID",
        );
        let encodings = parse(&grouped).video.encodings;
        let found: Vec<_> = encodings.iter().map(|encoding| (encoding.ssrc.unwrap().0, encoding.rtx_ssrc)).collect();
        assert_eq!(found, [(5, None), (6, Some(Ssrc(60))), (7, None)]);
        assert!(matches!(error(&grouped.replace("SIM 5 6 7", "SIM 5 6 5")), OfferError::Simulcast(_)));
    }

    #[test]
    fn layers_are_ordered_by_size_by_name_or_as_they_come() {
        let named = |names: &str| {
            let list: Vec<_> = names.split(' ').collect();
            let mut sdp = SIMULCAST.replace("a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\n", "");
            let lines: String =
                list.iter().map(|line| format!("a=rid:{}\r\n", line.replacen(':', " send ", 1))).collect();
            let rids: Vec<_> = list.iter().map(|line| line.split(':').next().unwrap()).collect();
            sdp = sdp.replace("a=simulcast:send q;h;f\r\n", &format!("{lines}a=simulcast:send {}\r\n", rids.join(";")));
            PublisherOffer::parse(&sdp).map(|offer| rids_of(&offer))
        };
        fn rids_of(offer: &PublisherOffer) -> String {
            rids(offer).join(" ")
        }
        assert_eq!(named("f: h: q:").unwrap(), "q h f");
        assert_eq!(named("h: m: l:").unwrap(), "l m h");
        assert_eq!(named("high: low:").unwrap(), "low high");
        assert_eq!(named("2: 1: 0:").unwrap(), "2 1 0", "nobody knows");
        assert_eq!(named("a:max-width=1280;max-height=720 b:max-width=320").unwrap(), "b a");
        assert_eq!(named("q:max-br=900000 f:max-br=100000").unwrap(), "f q", "sizes say more than names");
        assert!(matches!(named("a: b: c: d: e:"), Err(OfferError::Simulcast(_))));
        assert!(matches!(named("a: a:"), Err(OfferError::Simulcast(_))));
    }

    #[test]
    fn simulcast_that_makes_no_sense_is_refused() {
        let with = |line: &str| error(&replaced(SIMULCAST, "a=simulcast:send q;h;f", line));
        for line in ["a=simulcast:send q;x", "a=simulcast:send q;;h", "a=simulcast:send é"] {
            assert!(matches!(with(line), OfferError::Simulcast(_)), "{line}");
        }
        let paused = replaced(SIMULCAST, "a=simulcast:send q;h;f", "a=simulcast:send q,h;~f");
        assert_eq!(rids(&parse(&paused)), ["q", "f"]);
        let received = replaced(SIMULCAST, "a=simulcast:send q;h;f", "a=simulcast:recv q;h;f");
        assert_eq!(parse(&received).layers(), 1);
    }

    #[test]
    fn an_offer_must_be_of_one_stream_with_one_video_track_that_sends() {
        let video = &CHROMIUM[CHROMIUM.find("m=video").unwrap()..];
        assert_eq!(error(&format!("{CHROMIUM}{video}")), OfferError::VideoSections { sections: 2, cameras: 1 });
        assert_eq!(
            error(&replaced(CHROMIUM, "m=video", "m=audio")),
            OfferError::VideoSections { sections: 0, cameras: 1 }
        );
        let audio = &OBS[OBS.find("m=audio").unwrap()..OBS.find("m=video").unwrap()];
        assert_eq!(error(&format!("{OBS}{audio}")), OfferError::AudioSections(2));
        let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
        assert_eq!(error(&format!("{OBS}{data}")), OfferError::Section("application".to_owned()));
        assert!(PublisherOffer::parse(&format!("{OBS}{}", data.replace(" 9 ", " 0 "))).is_ok(), "it is disabled");
        for direction in ["recvonly", "inactive"] {
            let refused = error(&replaced(CHROMIUM, "a=sendonly", &format!("a={direction}")));
            assert_eq!(refused, OfferError::PublisherDirection { kind: "video", direction });
        }
        assert!(PublisherOffer::parse(&replaced(CHROMIUM, "a=sendonly", "a=sendrecv")).is_ok());
        let other = replaced(OBS, "a=msid:Yz4T1oAaRXrAbPmW Yz4T1oAaRXrAbPmW-video", "a=msid:other video");
        assert_eq!(error(&other), OfferError::MediaStreams);
        assert!(!error(&other).is_malformed());
    }

    #[test]
    fn an_offer_must_be_multiplexed_and_bundled_and_leave_the_dtls_server_to_us() {
        assert_eq!(error(&CHROMIUM.replace("a=rtcp-mux\r\n", "")), OfferError::NoRtcpMux("video"));
        assert_eq!(
            error(&replaced(OBS, "a=group:BUNDLE 0 1", "a=group:BUNDLE 1")),
            OfferError::NotBundled("0".to_owned())
        );
        assert_eq!(
            error(&replaced(OBS, "a=setup:actpass", "a=setup:passive")),
            OfferError::Setup("passive".to_owned())
        );
        for key in ["ice-ufrag", "ice-pwd", "fingerprint", "setup", "mid"] {
            let without = OBS.replace(&format!("a={key}:"), &format!("a=x-{key}:"));
            assert_eq!(error(&without), OfferError::MissingAttribute(key));
        }
    }

    #[test]
    fn an_offer_must_have_codecs_of_ours() {
        assert_eq!(error(&replaced(OBS, "packetization-mode=1", "packetization-mode=0")), OfferError::NoCodec);
        assert_eq!(error(&replaced(OBS, "opus/48000/2", "opus/48000/1")), OfferError::NoAudioCodec);
        let high = replaced(OBS, "profile-level-id=42e01f", "profile-level-id=640c1f");
        assert_eq!(parse(&high).codecs().collect::<Vec<_>>(), [Codec::H264]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn mangled_offers_are_answered_or_refused(which in 0..ALL.len(), edits in edits()) {
            let sdp = mangled(ALL[which], edits);
            if let Ok(offer) = PublisherOffer::parse(&sdp) {
                let (_, sdp) = crate::answer::publisher::tests::answered(&offer, &Codec::ALL).unwrap();
                let read_back = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()));
                prop_assert!(read_back.is_ok(), "{sdp}");
                prop_assert!((1..=MAX_ENCODINGS).contains(&offer.layers()));
            }
        }

        #[test]
        fn garbage_is_refused(text in "\\PC{0,300}") {
            prop_assert!(PublisherOffer::parse(&text).is_err());
        }
    }
}
