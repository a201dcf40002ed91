//! Which packets go to whom, and what they carry.

use std::time::Duration;

use lenscast_media::{Bitrate, LayerSet, PassedExtensions, Ssrc};
use lenscast_router::{Event, HeaderExtensions, Layers, MediaKind, Mid, OutletId, TransportId, TransportKind};

use crate::scene::{AWAY, CAMERA, MIRROR, SOURCE, Scene, id};

#[test]
fn a_layer_is_left_for_another_on_the_others_key_frame_only() {
    let mut scene = Scene::new(2, 1);
    let viewer = scene.viewer(0, 10);
    scene.frame(0, 0, true);
    scene.frame(1, 0, true);
    scene.frame(0, 0, false);
    scene.frame(1, 0, false);
    assert_eq!(scene.layers_seen(10), [1, 1], "nothing of the smaller one, as the larger can be had");
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 0 }).unwrap();
    assert_eq!(scene.camera.key_frames().last(), Some(&0), "it asks for what it waits for");
    scene.frame(0, 0, false);
    scene.frame(1, 0, false);
    assert_eq!(scene.layers_seen(10), [1], "until then the old layer goes on");
    scene.frame(0, 0, true);
    scene.frame(1, 0, false);
    scene.frame(0, 0, false);
    assert_eq!(scene.layers_seen(10), [0, 0]);
}

#[test]
fn temporal_layers_are_dropped_and_what_is_left_is_renumbered() {
    let mut scene = Scene::new(1, 2);
    let viewer = scene.viewer(0, 10);
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 0 }).unwrap();
    scene.frame(0, 0, true);
    for _ in 0..4 {
        scene.frame(0, 1, false);
        scene.frame(0, 0, false);
    }
    let packets = scene.seen(10);
    assert_eq!(packets.len(), 5);
    for pair in packets.windows(2) {
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number + 1);
        let picture = |payload: &[u8]| u16::from_be_bytes([payload[2], payload[3]]) & 0x7FFF;
        assert_eq!(picture(&pair[1].payload), picture(&pair[0].payload) + 1);
        assert!(pair[1].header.timestamp > pair[0].header.timestamp);
    }
}

#[test]
fn a_paused_producer_is_received_and_not_forwarded_and_goes_on_with_a_key_frame() {
    let mut scene = Scene::new(1, 1);
    scene.viewer(0, 10);
    scene.frame(0, 0, true);
    scene.workers[0].pause_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    scene.frame(0, 0, false);
    assert_eq!(scene.layers_seen(10).len(), 1);
    assert_eq!(scene.workers[0].producer_stats(CAMERA).unwrap().packets, 2);
    let _ = scene.camera.key_frames();
    scene.workers[0].resume_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    assert_eq!(scene.camera.key_frames(), [0], "a resume asks for one");
    scene.frame(0, 0, false);
    assert!(scene.layers_seen(10).is_empty());
    scene.frame(0, 0, true);
    assert_eq!(scene.layers_seen(10).len(), 1);
}

#[test]
fn a_consumer_is_served_when_neither_it_nor_its_producer_is_paused() {
    let mut scene = Scene::new(1, 1);
    let viewer = scene.viewer(0, 10);
    scene.workers[0].pause_consumer(scene.now, viewer).unwrap();
    assert_eq!(scene.camera.wanted(), LayerSet::EMPTY);
    scene.frame(0, 0, true);
    assert!(scene.layers_seen(10).is_empty());
    let _ = scene.camera.key_frames();
    scene.workers[0].resume_consumer(scene.now, viewer).unwrap();
    assert_eq!((scene.camera.wanted(), scene.camera.key_frames()), (LayerSet::only(0), vec![0]));
    scene.frame(0, 0, true);
    assert_eq!(scene.layers_seen(10).len(), 1);
}

#[test]
fn what_a_transport_can_carry_limits_the_layers_and_an_upgrade_waits_ten_seconds() {
    let mut scene = Scene::new(2, 1);
    scene.viewer(0, 10);
    let both = |scene: &mut Scene, times: usize| {
        for _ in 0..times {
            scene.frame(0, 0, true);
            scene.frame(1, 0, true);
        }
        scene.layers_seen(10).last().copied()
    };
    assert_eq!(both(&mut scene, 30), Some(1));
    // A kilobyte every 66 ms is about 120 kb/s a layer; the larger one takes no more here, so both fit or none does.
    scene.workers[0].set_available_bitrate(scene.now, TransportId(10), Some(Bitrate::from_kbps(30))).unwrap();
    assert_eq!(both(&mut scene, 5), None, "there is room for nothing");
    scene.workers[0].set_available_bitrate(scene.now, TransportId(10), Some(Bitrate::from_kbps(5_000))).unwrap();
    let at_once = both(&mut scene, 5);
    assert!(at_once.is_some(), "something is better than nothing, hold or not");
    scene.now += Duration::from_secs(11);
    scene.workers[0].set_available_bitrate(scene.now, TransportId(10), Some(Bitrate::from_kbps(5_000))).unwrap();
    assert_eq!(both(&mut scene, 5), Some(1));
}

#[test]
fn what_the_source_says_in_extensions_is_passed_on_under_the_viewers_identifiers() {
    let mut scene = Scene::new(1, 1);
    scene.transport(0, 10);
    let extensions = HeaderExtensions {
        mid: id(1).zip(Mid::new("0")),
        video_orientation: id(11),
        playout_delay: id(14),
        transport_sequence: id(5),
        absolute_send_time: id(4),
        ..HeaderExtensions::default()
    };
    scene.consumer(0, 10, 10, extensions);
    let passed = PassedExtensions { video_orientation: Some(3), ..Default::default() };
    scene.frame_with(0, 0, true, passed);
    scene.frame_with(0, 0, false, passed);
    let packets = scene.seen(10);
    assert_eq!(packets[0].header.get_extension(1).unwrap(), &b"0"[..], "the viewer's section");
    assert_eq!(packets[0].header.get_extension(11).unwrap(), &[3][..]);
    assert_eq!(packets[0].header.get_extension(14).unwrap(), &[0, 0, 0][..], "of a source here: show at once");
    for packet in &packets {
        assert_eq!(
            packet.header.get_extension(5).expect("on every packet"),
            &[0; 2][..],
            "whoever sends it numbers it"
        );
        assert_eq!(packet.header.get_extension(4).expect("on every packet"), &[0; 3][..]);
    }
}

#[test]
fn a_pipe_carries_all_layers_that_its_viewers_want_and_nothing_for_nobody() {
    let mut scene = Scene::new(2, 1);
    scene.attach(5);
    scene.arrive();
    scene.frame(0, 0, true);
    assert_eq!(scene.camera.wanted(), LayerSet::EMPTY);
    assert!(scene.workers[1].producer_stats(MIRROR).is_some_and(|stats| stats.packets == 0));
    let low = scene.viewer(1, 20);
    scene.viewer(1, 21);
    scene.workers[1].set_preferred_layers(scene.now, low, Layers { spatial: 0, temporal: 0 }).unwrap();
    scene.arrive();
    assert_eq!(scene.camera.wanted(), LayerSet::all(2));
    assert!(scene.camera.key_frames().contains(&1), "a viewer behind a pipe asks for key frames at home");
    scene.frame(0, 0, true);
    scene.frame(1, 0, true);
    scene.frame(0, 0, false);
    scene.frame(1, 0, false);
    assert_eq!(scene.layers_seen(20), [0, 0]);
    assert_eq!(scene.layers_seen(21).last(), Some(&1));
}

#[test]
fn a_pause_at_home_pauses_the_mirror_and_its_viewers_go_on_with_a_key_frame() {
    let mut scene = Scene::new(1, 1);
    scene.workers[0].pause_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    scene.attach(5);
    scene.arrive();
    scene.viewer(1, 20);
    scene.arrive();
    scene.frame(0, 0, true);
    assert!(scene.layers_seen(20).is_empty(), "a mirror begins as its origin is");
    scene.workers[0].resume_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    scene.arrive();
    let told = scene.endings(1);
    assert_eq!(told, [Event::ProducerResumed(MIRROR)]);
    assert!(scene.camera.key_frames().contains(&0));
    scene.frame(0, 0, false);
    scene.frame(0, 0, true);
    assert_eq!(scene.layers_seen(20).len(), 1);
}

#[test]
fn a_dump_tells_all_there_is() {
    let mut scene = Scene::new(2, 1);
    let viewer = scene.viewer(0, 10);
    scene.attach(5);
    let dump = scene.workers[0].dump(scene.now);
    let [router] = &dump.routers[..] else { panic!("{dump:?}") };
    assert_eq!(router.transports.len(), 2);
    let [producer] = &router.producers[..] else { panic!("{dump:?}") };
    assert_eq!((producer.key, producer.encodings.len(), producer.outlets.len()), (CAMERA, 2, 1));
    assert_eq!(producer.consumers[0].id, viewer);
    assert!(!producer.state.paused && producer.wanted.contains(1));

    scene.frame(1, 0, true);
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 3 }).unwrap();
    scene.workers[0].set_available_bitrate(scene.now, TransportId(10), Some(Bitrate::from_kbps(900))).unwrap();
    let dump = scene.workers[0].dump(scene.now);
    let [source, viewers] = &dump.routers[0].transports[..] else { panic!("{dump:?}") };
    assert_eq!((source.id, source.kind, source.available), (SOURCE, TransportKind::Direct, None));
    assert_eq!((viewers.id, viewers.kind, viewers.connected), (TransportId(10), TransportKind::WebRtc, true));
    assert_eq!((&viewers.consumers[..], viewers.available), (&[viewer][..], Some(Bitrate::from_kbps(900))));
    let producer = &dump.routers[0].producers[0];
    assert_eq!((producer.kind, producer.transport), (MediaKind::Video, Some(SOURCE)));
    assert_eq!((producer.encodings[0].kept_packets, producer.encodings[1].kept_packets), (0, 1));
    assert_eq!(producer.encodings[1].bitrate, Bitrate::from_bps(8 * 1_006));
    assert_eq!((producer.stats.packets, producer.stats.frames, producer.stats.key_frames), (1, 1, 1));
    let consumer = &producer.consumers[0];
    assert_eq!((consumer.transport, consumer.ssrc, consumer.paused), (TransportId(10), Ssrc(10), false));
    assert_eq!(consumer.preferred, Layers { spatial: 0, temporal: 3 });
    assert_eq!(consumer.current, Some(Layers { spatial: 1, temporal: 0 }), "until the other's key frame");
    assert_eq!((consumer.target, consumer.stats.packets_sent, consumer.score.own.value()), (Some(0), 1, 10));
    let outlet = &producer.outlets[0];
    assert_eq!((outlet.id, outlet.destination, outlet.wanted), (OutletId(5), AWAY, LayerSet::EMPTY));
}
