//! The way of a producer's parameters to its consumers, each behaviour of mediasoup's `test-ortc.ts` among them.

use lenscast_media::{Bitrate, Ssrc};
use proptest::prelude::*;

use super::*;
use crate::{ExtensionId, MediaKind, PayloadType, Rid};

const RANDOM: Ssrc = Ssrc(0x1000);
const OPTIONS: ConsumerOptions =
    ConsumerOptions { ssrc: Ssrc(5), rtx_ssrc: Some(Ssrc(6)), numbering: Numbering::Router };

fn payload_type(value: u8) -> PayloadType {
    PayloadType::new(value).unwrap()
}

fn extension_id(value: u8) -> ExtensionId {
    ExtensionId::new(value).unwrap()
}

fn capability(name: &str, payload_type: u8, parameters: &str, feedback: &[RtcpFeedback]) -> RtpCodecCapability {
    RtpCodecCapability {
        preferred_payload_type: PayloadType::new(payload_type),
        parameters: FormatParameters::parse(parameters),
        feedback: feedback.to_vec(),
        ..RtpCodecCapability::video(name)
    }
}

fn codec(name: &str, number: u8, parameters: &str, feedback: &[RtcpFeedback]) -> RtpCodecParameters {
    capability(name, number, parameters, feedback).with_payload_type(payload_type(number))
}

/// Opus as 100, H.264 main as 101 with RTX as 102.
fn router() -> RtpCapabilities {
    let h264 = RtpCodecCapability {
        preferred_payload_type: None,
        ..capability(
            "H264",
            0,
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d0032;bar=lalala",
            &[],
        )
    };
    RtpCapabilities::of_router(&[RtpCodecCapability::opus(), h264]).unwrap()
}

/// Three encodings of H.264 main, two known by their sources and one by its name.
fn producer() -> RtpParameters {
    let encoding = |ssrc: u32, kbps| RtpEncodingParameters {
        ssrc: Some(Ssrc(ssrc)),
        rtx_ssrc: Some(Ssrc(ssrc + 1)),
        max_bitrate: Some(Bitrate::from_kbps(kbps)),
        scalability_mode: "L1T3".parse().ok(),
        rid: None,
    };
    RtpParameters {
        mid: None,
        codecs: vec![
            codec(
                "H264",
                111,
                "foo=1234;packetization-mode=1;profile-level-id=4d0032",
                &[RtcpFeedback::Nack, RtcpFeedback::NackPli, RtcpFeedback::GoogRemb],
            ),
            codec("rtx", 112, "apt=111", &[]),
        ],
        header_extensions: vec![
            RtpHeaderExtensionParameters { uri: ExtensionUri::Mid, id: extension_id(1) },
            RtpHeaderExtensionParameters { uri: ExtensionUri::VideoOrientation, id: extension_id(2) },
        ],
        encodings: vec![
            encoding(11_111_111, 111),
            encoding(21_111_111, 222),
            RtpEncodingParameters { ssrc: None, rtx_ssrc: None, rid: Rid::new("high"), ..encoding(0, 333) },
        ],
        rtcp: RtcpParameters { cname: Some("qwerty1234".to_owned()), reduced_size: true },
    }
}

fn mapping() -> ProducerMapping {
    map_producer(&producer(), &router(), RANDOM).unwrap()
}

fn consumable() -> RtpParameters {
    consumable_parameters(&producer(), &router(), &mapping())
}

/// A receiver that has taken the router's numbers.
fn receiver() -> RtpCapabilities {
    let extension = |kind, uri, id| RtpHeaderExtensionCapability {
        kind,
        uri,
        preferred_id: extension_id(id),
        direction: Direction::SendRecv,
    };
    let feedback = [RtcpFeedback::Nack, RtcpFeedback::NackPli, RtcpFeedback::GoogRemb, RtcpFeedback::TransportCc];
    RtpCapabilities {
        codecs: vec![
            RtpCodecCapability { preferred_payload_type: PayloadType::new(100), ..RtpCodecCapability::opus() },
            capability("H264", 101, "packetization-mode=1;profile-level-id=4d0032;baz=LOLOLO", &feedback),
            capability("rtx", 102, "apt=101", &[]),
        ],
        header_extensions: vec![
            extension(MediaKind::Audio, ExtensionUri::Mid, 1),
            extension(MediaKind::Video, ExtensionUri::Mid, 1),
            extension(MediaKind::Video, ExtensionUri::RtpStreamId, 2),
            extension(MediaKind::Audio, ExtensionUri::AudioLevel, 8),
            extension(MediaKind::Video, ExtensionUri::VideoOrientation, 11),
        ],
    }
}

fn with_extension(mut receiver: RtpCapabilities, uri: ExtensionUri) -> RtpCapabilities {
    receiver.header_extensions.push(RtpHeaderExtensionCapability {
        kind: MediaKind::Video,
        uri,
        preferred_id: uri.router_id(),
        direction: Direction::SendRecv,
    });
    receiver
}

fn consumed(remote: &RtpCapabilities) -> RtpParameters {
    consumer_parameters(&consumable(), remote, &OPTIONS).unwrap()
}

fn numbers(parameters: &RtpParameters) -> Vec<u8> {
    parameters.codecs.iter().map(|codec| codec.payload_type.value()).collect()
}

fn uris(parameters: &RtpParameters) -> Vec<ExtensionUri> {
    parameters.header_extensions.iter().map(|extension| extension.uri).collect()
}

#[test]
fn a_producers_payload_types_become_the_routers() {
    let mapped: Vec<_> =
        mapping().codecs.iter().map(|codec| (codec.payload_type.value(), codec.mapped_payload_type.value())).collect();
    assert_eq!(mapped, [(111, 101), (112, 102)]);
}

#[test]
fn each_encoding_has_a_mapped_source_of_its_own_and_keeps_what_tells_it_apart() {
    let mapping = mapping();
    let encodings: Vec<_> = mapping.encodings.iter().map(|e| (e.ssrc, e.rid, e.mapped_ssrc)).collect();
    let high = Rid::new("high");
    assert_eq!(
        encodings,
        [
            (Some(Ssrc(11_111_111)), None, Ssrc(0x1000)),
            (Some(Ssrc(21_111_111)), None, Ssrc(0x1001)),
            (None, high, Ssrc(0x1002)),
        ]
    );
    let wrapped = map_producer(&producer(), &router(), Ssrc(u32::MAX)).unwrap();
    assert_eq!(wrapped.encodings[1].mapped_ssrc, Ssrc(0));
}

#[test]
fn a_codec_that_the_router_does_not_speak_is_named_by_position_and_value() {
    let vp8 = RtpParameters {
        codecs: vec![codec("VP8", 120, "", &[])],
        encodings: vec![RtpEncodingParameters { ssrc: Some(Ssrc(1)), ..Default::default() }],
        ..Default::default()
    };
    let error = map_producer(&vp8, &router(), RANDOM).unwrap_err();
    assert_eq!(error.to_string(), "codecs[0] is video/VP8 with payload type 120, which this router does not speak");
    let mut high = producer();
    high.codecs[0].parameters = FormatParameters::parse("packetization-mode=1;profile-level-id=640032");
    assert!(matches!(map_producer(&high, &router(), RANDOM), Err(MappingError::UnsupportedCodec { index: 0, .. })));
}

#[test]
fn rtx_of_a_codec_without_rtx_in_the_router_is_an_error() {
    let mut router = router();
    router.codecs.retain(|codec| !codec.mime_type.is_rtx());
    let error = map_producer(&producer(), &router, RANDOM).unwrap_err();
    assert_eq!(error, MappingError::UnsupportedRtx { index: 1, payload_type: payload_type(112) });
}

#[test]
fn unsound_parameters_are_refused_before_they_are_mapped() {
    let mut twice = producer();
    twice.encodings[1].ssrc = twice.encodings[0].ssrc;
    assert!(matches!(map_producer(&twice, &router(), RANDOM), Err(MappingError::Invalid(_))));
}

#[test]
fn what_is_agreed_on_keeps_the_producers_numbers_and_what_the_router_understands() {
    let mut offered = producer();
    offered.codecs[0].parameters = FormatParameters::parse("packetization-mode=1;profile-level-id=4d001f");
    offered.header_extensions.push(RtpHeaderExtensionParameters { uri: ExtensionUri::AudioLevel, id: extension_id(9) });
    let agreed = map_producer(&offered, &router(), RANDOM).unwrap().agreed;
    assert_eq!(numbers(&agreed), [111, 112]);
    assert_eq!(agreed.codecs[0].parameters.value("profile-level-id"), Some("4d001f"), "the lower level");
    assert_eq!(agreed.codecs[0].feedback, offered.codecs[0].feedback);
    assert_eq!(uris(&agreed), [ExtensionUri::Mid, ExtensionUri::VideoOrientation], "no audio level of video");
}

#[test]
fn an_offer_is_reduced_to_what_the_router_speaks() {
    let mut offered = producer();
    offered.codecs.insert(0, codec("AV1", 45, "", &[]));
    offered.codecs.insert(1, codec("rtx", 46, "apt=45", &[]));
    assert!(map_producer(&offered, &router(), RANDOM).is_err());
    let reduced = offered.reduced_to(&router());
    assert_eq!(numbers(&reduced), [111, 112]);
    assert!(map_producer(&reduced, &router(), RANDOM).is_ok());
}

#[test]
fn a_consumable_stream_has_the_routers_numbers_and_the_producers_parameters() {
    let consumable = consumable();
    assert_eq!(numbers(&consumable), [101, 102]);
    assert_eq!(consumable.codecs[0].parameters.to_string(), "foo=1234;packetization-mode=1;profile-level-id=4d0032");
    assert_eq!(consumable.codecs[1].parameters.apt(), Some(payload_type(101)));
    assert_eq!(consumable.codecs[0].feedback, RtcpFeedback::ALL);
    let encodings: Vec<_> = consumable.encodings.iter().map(|e| (e.ssrc, e.rid, e.rtx_ssrc, e.max_bitrate)).collect();
    assert_eq!(encodings[0], (Some(Ssrc(0x1000)), None, None, Some(Bitrate::from_kbps(111))));
    assert_eq!(encodings[2], (Some(Ssrc(0x1002)), None, None, Some(Bitrate::from_kbps(333))));
    assert_eq!(consumable.rtcp, producer().rtcp);
    let sent = uris(&consumable);
    assert!(!sent.contains(&ExtensionUri::RtpStreamId) && !sent.contains(&ExtensionUri::AudioLevel), "{sent:?}");
    assert!(sent.contains(&ExtensionUri::TransportWideSequence) && sent.contains(&ExtensionUri::PlayoutDelay));
}

#[test]
fn audio_to_consumers_has_no_transport_wide_sequence() {
    let opus = RtpCodecCapability::opus().with_payload_type(payload_type(111));
    let audio =
        RtpParameters { codecs: vec![opus], encodings: vec![RtpEncodingParameters::default()], ..Default::default() };
    let mapping = map_producer(&audio, &router(), RANDOM).unwrap();
    let consumable = consumable_parameters(&audio, &router(), &mapping);
    assert_eq!(numbers(&consumable), [100]);
    let sent = uris(&consumable);
    assert!(sent.contains(&ExtensionUri::AudioLevel) && !sent.contains(&ExtensionUri::TransportWideSequence));
}

#[test]
fn a_consumer_gets_one_encoding_with_rtx_beside_it() {
    let parameters = consumed(&receiver());
    assert_eq!(numbers(&parameters), [101, 102]);
    assert_eq!(parameters.codecs[0].feedback, [RtcpFeedback::Nack, RtcpFeedback::NackPli]);
    assert_eq!(parameters.codecs[0].parameters.to_string(), "foo=1234;packetization-mode=1;profile-level-id=4d0032");
    let [encoding] = parameters.encodings[..] else { panic!("{:?}", parameters.encodings) };
    assert_eq!((encoding.ssrc, encoding.rtx_ssrc), (Some(Ssrc(5)), Some(Ssrc(6))));
    assert_eq!(encoding.scalability_mode.unwrap().to_string(), "L3T3", "the encodings are its spatial layers");
    assert_eq!(encoding.max_bitrate, Some(Bitrate::from_kbps(333)), "the largest");
    assert_eq!(uris(&parameters), [ExtensionUri::Mid, ExtensionUri::VideoOrientation]);
    assert_eq!(parameters.rtcp.cname.as_deref(), Some("qwerty1234"));
}

#[test]
fn a_receiver_without_the_codec_cannot_consume() {
    let mut vp8_only = receiver();
    vp8_only.codecs = vec![capability("VP8", 96, "", &[])];
    assert_eq!(can_consume(&consumable(), &vp8_only), Ok(false));
    let error = consumer_parameters(&consumable(), &vp8_only, &OPTIONS).unwrap_err();
    assert_eq!(error.to_string(), "the receiver cannot decode video/H264");
    assert_eq!(can_consume(&consumable(), &receiver()), Ok(true));
    assert_eq!(can_consume(&consumable(), &RtpCapabilities::default()), Ok(false));
}

#[test]
fn rtx_alone_is_nothing_to_consume() {
    let mut rtx_only = receiver();
    rtx_only.codecs = vec![capability("VP8", 96, "", &[]), capability("rtx", 97, "apt=96", &[])];
    assert_eq!(can_consume(&consumable(), &rtx_only), Ok(false));
}

#[test]
fn unsound_capabilities_are_refused() {
    let mut twice = receiver();
    twice.codecs[2].preferred_payload_type = PayloadType::new(101);
    assert!(matches!(can_consume(&consumable(), &twice), Err(ConsumeError::Invalid(_))));
    assert!(matches!(consumer_parameters(&consumable(), &twice, &OPTIONS), Err(ConsumeError::Invalid(_))));
}

#[test]
fn without_rtx_on_either_side_there_is_neither_rtx_nor_nack() {
    let mut without = receiver();
    without.codecs.retain(|codec| !codec.mime_type.is_rtx());
    let unwanted = ConsumerOptions { rtx_ssrc: None, ..OPTIONS };
    let refused = consumer_parameters(&consumable(), &receiver(), &unwanted).unwrap();
    for parameters in [consumed(&without), refused] {
        assert_eq!((numbers(&parameters), parameters.encodings[0].rtx_ssrc), (vec![101], None));
        assert_eq!(parameters.codecs[0].feedback, [RtcpFeedback::NackPli]);
    }
}

#[test]
fn arrival_is_reported_in_one_way_per_transport_if_possible() {
    let reports = |remote: &RtpCapabilities| {
        let feedback = consumed(remote).codecs[0].feedback.clone();
        let has = |known| feedback.contains(&known);
        (has(RtcpFeedback::TransportCc), has(RtcpFeedback::GoogRemb))
    };
    assert_eq!(reports(&receiver()), (false, false));
    let estimating = with_extension(receiver(), ExtensionUri::AbsoluteSendTime);
    assert_eq!(reports(&estimating), (false, true));
    assert_eq!(reports(&with_extension(estimating, ExtensionUri::TransportWideSequence)), (true, false));
}

#[test]
fn with_the_routers_numbers_an_extension_must_have_the_same_identifier() {
    let mut other = receiver();
    other.header_extensions[4].preferred_id = extension_id(12);
    assert_eq!(uris(&consumed(&other)), [ExtensionUri::Mid]);
}

#[test]
fn an_extension_that_the_receiver_only_sends_is_left_out() {
    let mut other = receiver();
    other.header_extensions[4].direction = Direction::SendOnly;
    assert_eq!(uris(&consumed(&other)), [ExtensionUri::Mid]);
}

#[test]
fn a_receiver_that_has_offered_keeps_its_own_numbers() {
    let mut viewer = receiver();
    viewer.codecs[1].preferred_payload_type = PayloadType::new(106);
    viewer.codecs[2] = capability("rtx", 107, "apt=106", &[]);
    viewer.header_extensions[4].preferred_id = extension_id(7);
    let options = ConsumerOptions { numbering: Numbering::Remote, ..OPTIONS };
    let parameters = consumer_parameters(&consumable(), &viewer, &options).unwrap();
    assert_eq!(numbers(&parameters), [106, 107]);
    assert_eq!(parameters.rtx_of(payload_type(106)), Some(payload_type(107)));
    assert_eq!(parameters.extension(ExtensionUri::VideoOrientation), Some(extension_id(7)));
}

#[test]
fn of_several_decoders_the_equal_one_is_taken_before_one_that_contains_it() {
    let baseline = "packetization-mode=1;profile-level-id=42e01f";
    let own = RtpCapabilities::of_router(&[RtpCodecCapability {
        preferred_payload_type: None,
        ..capability("H264", 0, baseline, &[])
    }])
    .unwrap();
    let stream = RtpParameters {
        codecs: vec![codec("H264", 96, baseline, &[])],
        encodings: vec![RtpEncodingParameters::default()],
        ..Default::default()
    };
    let mapping = map_producer(&stream, &own, RANDOM).unwrap();
    let consumable = consumable_parameters(&stream, &own, &mapping);
    let viewer = |profiles: &[&str]| RtpCapabilities {
        codecs: profiles
            .iter()
            .zip(110..)
            .map(|(profile, number)| {
                capability("H264", number, &format!("packetization-mode=1;profile-level-id={profile}"), &[])
            })
            .collect(),
        header_extensions: Vec::new(),
    };
    let options = ConsumerOptions { numbering: Numbering::Remote, ..OPTIONS };
    let chosen = |profiles: &[&str]| numbers(&consumer_parameters(&consumable, &viewer(profiles), &options).unwrap());
    assert_eq!(chosen(&["64001f", "42e034"]), [111]);
    assert_eq!(chosen(&["64001f", "42001f"]), [110]);
}

#[test]
fn a_pipe_keeps_all_encodings_and_loses_what_is_between_two_hops() {
    let piped = pipe_consumer_parameters(&consumable(), Ssrc(50), None);
    assert_eq!(numbers(&piped), [101]);
    assert_eq!(piped.codecs[0].feedback, [RtcpFeedback::NackPli, RtcpFeedback::CcmFir]);
    let encodings: Vec<_> = piped.encodings.iter().map(|e| (e.ssrc, e.rtx_ssrc, e.max_bitrate)).collect();
    assert_eq!(
        encodings,
        [
            (Some(Ssrc(50)), None, Some(Bitrate::from_kbps(111))),
            (Some(Ssrc(51)), None, Some(Bitrate::from_kbps(222))),
            (Some(Ssrc(52)), None, Some(Bitrate::from_kbps(333))),
        ]
    );
    assert!(piped.encodings.iter().all(|encoding| encoding.scalability_mode == "L1T3".parse().ok()));
    assert!(!uris(&piped).iter().any(|uri| uri.is_hop_by_hop()));
    assert!(uris(&piped).contains(&ExtensionUri::AbsoluteCaptureTime));
}

#[test]
fn a_pipe_may_have_rtx_and_then_has_nack() {
    let piped = pipe_consumer_parameters(&consumable(), Ssrc(50), Some(Ssrc(60)));
    assert_eq!(numbers(&piped), [101, 102]);
    assert_eq!(piped.codecs[0].feedback, [RtcpFeedback::Nack, RtcpFeedback::NackPli, RtcpFeedback::CcmFir]);
    let rtx: Vec<_> = piped.encodings.iter().map(|encoding| encoding.rtx_ssrc).collect();
    assert_eq!(rtx, [Some(Ssrc(60)), Some(Ssrc(61)), Some(Ssrc(62))]);
}

#[test]
fn what_a_pipe_is_sent_can_enter_the_next_router() {
    let piped = pipe_consumer_parameters(&consumable(), Ssrc(50), Some(Ssrc(60)));
    let mapping = map_producer(&piped, &router(), Ssrc(900)).unwrap();
    let next = consumable_parameters(&piped, &router(), &mapping);
    assert_eq!(numbers(&next), numbers(&consumable()));
    assert_eq!(next.encodings.len(), 3);
}

fn any_stream() -> impl Strategy<Value = (RtpParameters, u32)> {
    let names = prop::sample::subsequence(vec!["VP8", "VP9", "H264"], 1..=3).prop_shuffle();
    let parameters = (names, any::<bool>(), 1_usize..=4, 96_u8..=110, any::<u32>());
    parameters.prop_map(|(names, rtx, encodings, first, ssrc)| {
        let mut codecs = Vec::new();
        for (name, number) in names.into_iter().zip((first..).step_by(2)) {
            codecs.push(codec(
                name,
                number,
                if name == "H264" { "packetization-mode=1;profile-level-id=42e01f" } else { "" },
                &RtcpFeedback::ALL,
            ));
            if rtx {
                codecs.push(codec("rtx", number + 1, &format!("apt={number}"), &[]));
            }
        }
        let encodings = (0..encodings)
            .map(|layer| RtpEncodingParameters { rid: Rid::new(&format!("r{layer}")), ..Default::default() })
            .collect();
        (RtpParameters { codecs, encodings, ..Default::default() }, ssrc)
    })
}

proptest! {
    /// Whatever is produced, under whatever numbers: each codec, encoding and number is mapped once, what comes out is
    /// sound and can be consumed by who can produce it, and `can_consume` says what `consumer_parameters` does.
    #[test]
    fn what_is_mapped_is_sound_and_consumable((stream, ssrc) in any_stream(), remote_codecs in prop::sample::subsequence(vec![0_usize, 1, 2, 3], 0..=4), remote_numbers in any::<bool>()) {
        let h264 = RtpCodecCapability { preferred_payload_type: None, ..capability("H264", 0, "packetization-mode=1;profile-level-id=42e01f", &[]) };
        let asked = [RtpCodecCapability::opus(), RtpCodecCapability::video("VP8"), RtpCodecCapability::video("VP9"), h264];
        let router = RtpCapabilities::of_router(&asked).unwrap();
        let mapping = map_producer(&stream, &router, Ssrc(ssrc)).unwrap();
        prop_assert_eq!(mapping.codecs.len(), stream.codecs.len());
        let mut mapped: Vec<_> = mapping.codecs.iter().map(|codec| codec.mapped_payload_type.value()).collect();
        mapped.sort_unstable();
        mapped.dedup();
        prop_assert_eq!(mapped.len(), stream.codecs.len(), "no two codecs become one");
        let consumable = consumable_parameters(&stream, &router, &mapping);
        prop_assert_eq!(consumable.validate(), Ok(()));
        prop_assert_eq!(consumable.encodings.len(), stream.encodings.len());

        let chosen: Vec<_> = remote_codecs.iter().map(|&index| asked[index].clone()).collect();
        let remote = RtpCapabilities::of_router(&chosen).unwrap();
        let numbering = if remote_numbers { Numbering::Remote } else { Numbering::Router };
        let options = ConsumerOptions { numbering, ..OPTIONS };
        let consumer = consumer_parameters(&consumable, &remote, &options);
        prop_assert_eq!(can_consume(&consumable, &remote).unwrap(), consumer.is_ok());
        if let Ok(consumer) = consumer {
            prop_assert_eq!(consumer.validate(), Ok(()));
            prop_assert_eq!(consumer.encodings.len(), 1);
            prop_assert!(!consumer.codecs[0].mime_type.is_rtx());
            let theirs = |codec: &RtpCodecParameters| remote.codecs.iter().any(|known| known.preferred_payload_type == Some(codec.payload_type) && known.mime_type == codec.mime_type);
            prop_assert!(!remote_numbers || consumer.codecs.iter().all(theirs));
        }
        for rtx in [None, Some(Ssrc(ssrc.wrapping_add(100)))] {
            let piped = pipe_consumer_parameters(&consumable, Ssrc(ssrc), rtx);
            prop_assert_eq!(piped.validate(), Ok(()));
            prop_assert_eq!(piped.codecs.iter().any(|codec| codec.mime_type.is_rtx()), rtx.is_some());
        }
    }
}

#[test]
fn the_engine_gets_a_producer_in_its_own_numbers() {
    let agreed = mapping().agreed;
    let engine = agreed.to_producer().unwrap();
    assert_eq!((engine.codec, engine.clock_rate), (lenscast_media::Codec::H264.into(), 90_000));
    assert_eq!((engine.payload_type, engine.rtx_payload_type), (Some(payload_type(111)), Some(payload_type(112))));
    assert_eq!((engine.encodings.len(), engine.temporal_layers), (3, 3));
    assert_eq!(engine.encodings[2].rid, Rid::new("high"));
    assert_eq!(
        (engine.extensions.mid, engine.extensions.video_orientation),
        (Some(extension_id(1)), Some(extension_id(2)))
    );
}

#[test]
fn the_engine_sends_the_extensions_of_a_consumer_and_the_mid_of_its_section() {
    let mut parameters = consumed(&with_extension(receiver(), ExtensionUri::TransportWideSequence));
    assert_eq!(parameters.sent_extensions().mid, None);
    parameters.mid = crate::Mid::new("0");
    let sent = parameters.sent_extensions();
    assert_eq!(sent.mid, Some((extension_id(1), crate::Mid::new("0").unwrap())));
    assert_eq!((sent.video_orientation, sent.transport_sequence), (Some(extension_id(11)), Some(extension_id(5))));
    assert_eq!(sent.playout_delay, None, "the receiver does not know it");
}
