//! What comes over RTP and goes on to viewers.

use lenscast_media::{Codec, LayerSet, MediaCodec, NtpTime, PassedExtensions};
use lenscast_router::{HeaderExtensions, Layers, ReceivedExtensions};

use crate::scene::{PUBLISHER, STREAM, Scene, id};

const KEY_FRAME: [u8; 11] = [0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0];

#[test]
fn what_a_publisher_says_in_extensions_is_passed_on_under_the_viewers_identifiers() {
    let mut scene = Scene::new(1, 1);
    let received = ReceivedExtensions {
        absolute_capture_time: id(1),
        playout_delay: id(2),
        video_orientation: id(3),
        ..ReceivedExtensions::default()
    };
    scene.publish(Codec::Vp8.into(), 1, received);
    scene.transport(0, 10);
    let sent = HeaderExtensions {
        absolute_capture_time: id(11),
        playout_delay: id(12),
        video_orientation: id(13),
        ..HeaderExtensions::default()
    };
    scene.consumer_of(STREAM.producer, 0, 10, 10, sent);
    let captured = 0x1122_3344_5566_7788_u64.to_be_bytes();
    scene.receive(1, &[(1, &captured), (2, &[0x00, 0xA0, 0x14]), (3, &[2])], &KEY_FRAME);
    scene.receive(2, &[], &[0x10, 0x11, 0, 0]);
    let [first, second] = &scene.seen(10)[..] else { panic!() };
    assert_eq!(first.header.get_extension(11).unwrap(), &captured[..]);
    assert_eq!(first.header.get_extension(12).unwrap(), &[0x00, 0xA0, 0x14][..]);
    assert_eq!(first.header.get_extension(13).unwrap(), &[2][..]);
    assert!(second.header.extensions.is_empty(), "what the publisher did not say is not said for it");
}

/// Its own, not that and the one for sources that say nothing.
#[test]
fn a_local_source_that_says_its_playout_delay_is_taken_at_its_word() {
    let mut scene = Scene::new(1, 1);
    scene.transport(0, 10);
    let extensions = HeaderExtensions { playout_delay: id(14), ..HeaderExtensions::default() };
    scene.consumer(0, 10, 10, extensions);
    scene.frame_with(0, 0, true, PassedExtensions { playout_delay: Some([0, 1, 2]), ..PassedExtensions::default() });
    let [packet] = &scene.seen(10)[..] else { panic!() };
    let delays: Vec<_> = packet.header.extensions.iter().filter(|extension| extension.id == 14).collect();
    assert_eq!(delays.len(), 1);
    assert_eq!(packet.header.get_extension(14).unwrap(), &[0, 1, 2][..]);
}

#[test]
fn audio_begins_at_once_and_carries_its_level() {
    let mut scene = Scene::new(1, 1);
    scene.publish(MediaCodec::Opus, 1, ReceivedExtensions { audio_level: id(1), ..ReceivedExtensions::default() });
    scene.transport(0, 10);
    let extensions = HeaderExtensions { audio_level: id(10), ..HeaderExtensions::default() };
    let viewer = scene.consumer_of(STREAM.producer, 0, 10, 10, extensions);
    for sequence in 1..5 {
        scene.receive(sequence, &[(1, &[sequence as u8])], &[0xFC, 0xFF, 0xFE]);
    }
    let packets = scene.seen(10);
    assert_eq!(packets.len(), 4, "from the first on");
    for (packet, level) in packets.iter().zip(1..) {
        assert_eq!(packet.header.get_extension(10).unwrap(), &[level][..]);
    }
    scene.workers[0].request_key_frame(scene.now, viewer).unwrap();
    scene.wait(std::time::Duration::from_millis(100));
    assert!(!scene.out.rtcp.iter().any(|(to, _)| *to == PUBLISHER), "there is nothing to ask for");
    assert_eq!(scene.workers[0].producer_stats(STREAM).unwrap().sending, LayerSet::only(0));
}

/// A frame of one packet: its picture identifier, its temporal layer, and whether one can switch up with it.
fn vp9(picture: u8, temporal: u8, switches_up: bool) -> [u8; 6] {
    let predicted = if picture == 0 { 0 } else { 0x40 };
    // A key frame's uncompressed header: frame marker 2, profile 0, shown, not of an existing frame.
    let frame = if picture == 0 { 0x82 } else { 0x86 };
    [0xAC | predicted, picture, temporal << 5 | u8::from(switches_up) << 4, 0, frame, 0x49]
}

#[test]
fn vp9s_temporal_layers_are_dropped_and_taken_up_again_where_a_decoder_can() {
    let mut scene = Scene::new(1, 1);
    scene.publish(Codec::Vp9.into(), 2, ReceivedExtensions::default());
    scene.transport(0, 10);
    let viewer = scene.consumer_of(STREAM.producer, 0, 10, 10, HeaderExtensions::default());
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 0 }).unwrap();
    for picture in 0..8 {
        scene.receive(picture, &[], &vp9(picture as u8, (picture % 2) as u8, false));
    }
    let packets = scene.seen(10);
    let sequences = |packets: &[rtc_rtp::packet::Packet]| -> Vec<u16> {
        packets.iter().map(|packet| packet.header.sequence_number - 100).collect()
    };
    let pictures =
        |packets: &[rtc_rtp::packet::Packet]| -> Vec<u8> { packets.iter().map(|packet| packet.payload[1]).collect() };
    assert_eq!((sequences(&packets), pictures(&packets)), (vec![0, 1, 2, 3], vec![0, 2, 4, 6]));
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 1 }).unwrap();
    for picture in 8..14 {
        scene.receive(picture, &[], &vp9(picture as u8, (picture % 2) as u8, picture == 11));
    }
    let packets = scene.seen(10);
    assert_eq!((sequences(&packets), pictures(&packets)), (vec![4, 5, 6, 7, 8], vec![8, 10, 11, 12, 13]));
}

/// The same instant in both, so that a viewer can relate a stream's timestamps to its capture times.
#[test]
fn capture_time_of_a_local_source_is_that_of_its_frames() {
    let mut scene = Scene::new(1, 1);
    scene.transport(0, 10);
    let extensions = HeaderExtensions { absolute_capture_time: id(9), ..HeaderExtensions::default() };
    scene.consumer(0, 10, 10, extensions);
    let time = NtpTime(7 << 32);
    scene.frame(0, 0, true);
    scene.frame_with(0, 0, false, PassedExtensions { absolute_capture_time: Some(time), ..Default::default() });
    let [by_us, by_the_source] = &scene.seen(10)[..] else { panic!() };
    assert_eq!(by_us.header.get_extension(9).expect("with a key frame").len(), 8);
    assert_eq!(by_the_source.header.get_extension(9).unwrap(), &time.0.to_be_bytes()[..]);
}
