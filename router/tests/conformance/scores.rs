//! How well streams get through, from 0 to 10.

use std::time::Duration;

use lenscast_media::{Codec, Ssrc};
use lenscast_router::rtcp::{Compound, ReportBlock};
use lenscast_router::{ConsumerId, ConsumerScore, Event, HeaderExtensions, ReceivedExtensions};

use crate::scene::{STREAM, Scene};

const KEY_FRAME: [u8; 11] = [0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0];

fn scores(score: ConsumerScore) -> (u8, u8, Vec<u8>) {
    let layers = score.producer_layers.as_slice().iter().map(|score| score.value());
    (score.own.value(), score.producer.value(), layers.collect())
}

fn score_of(scene: &Scene, consumer: ConsumerId) -> (u8, u8, Vec<u8>) {
    scores(scene.workers[0].consumer_score(consumer).expect("it is there"))
}

/// What was told of scores since the last call.
fn told(scene: &mut Scene) -> Vec<(u8, u8, Vec<u8>)> {
    let scored = |event| match event {
        Event::ScoreChanged { score, .. } => Some(scores(score)),
        _ => None,
    };
    scene.events(0).into_iter().filter_map(scored).collect()
}

fn report(scene: &mut Scene, transport: u64, lost: i32) {
    let block = ReportBlock {
        ssrc: Ssrc(transport as u32),
        fraction_lost: 0,
        cumulative_lost: lost,
        highest_sequence: 0,
        jitter: 0,
        last_sender_report: 0,
        delay_since_last_sender_report: 0,
    };
    let mut compound = Compound::new();
    compound.push_report_blocks(Ssrc(1), [&block]);
    scene.rtcp(transport, &compound);
}

#[test]
fn a_consumer_is_scored_by_its_viewers_reports_and_its_producers_layers() {
    let mut scene = Scene::new(2, 1);
    let viewer = scene.viewer(0, 10);
    assert_eq!(score_of(&scene, viewer), (10, 0, vec![10, 10]), "nothing is forwarded");
    for number in 0..100 {
        scene.frame(1, 0, number == 0);
    }
    assert_eq!(told(&mut scene), [(10, 10, vec![10, 10])]);
    report(&mut scene, 10, 0);
    assert!(told(&mut scene).is_empty(), "it has not changed");
    for _ in 0..100 {
        scene.frame(1, 0, false);
    }
    report(&mut scene, 10, 16);
    assert_eq!(score_of(&scene, viewer), (7, 10, vec![10, 10]), "(10 + 2·5) / 3");
    assert_eq!(told(&mut scene), [(7, 10, vec![10, 10])]);
    assert_eq!(scores(scene.workers[0].dump(scene.now).routers[0].producers[0].consumers[0].score).0, 7);
}

#[test]
fn a_received_streams_score_falls_with_what_is_lost_on_its_way_here_and_is_told_to_its_consumers() {
    let mut scene = Scene::new(1, 1);
    scene.publish(Codec::Vp8.into(), 1, ReceivedExtensions::default());
    scene.transport(0, 10);
    let viewer = scene.consumer_of(STREAM.producer, 0, 10, 10, HeaderExtensions::default());
    assert_eq!(score_of(&scene, viewer), (10, 0, vec![0]));
    for sequence in 0..55 {
        scene.receive(sequence, &[], &KEY_FRAME);
    }
    scene.wait(Duration::ZERO);
    assert_eq!(told(&mut scene).last(), Some(&(10, 10, vec![10])));
    for sequence in (55..105).filter(|sequence| sequence % 2 == 0) {
        scene.receive(sequence, &[], &KEY_FRAME);
        scene.wait(Duration::from_millis(20));
    }
    let (own, producer, layers) = score_of(&scene, viewer);
    assert!(own == 10 && producer < 10 && layers == [producer], "{own} {producer} {layers:?}");
    assert_eq!(told(&mut scene).last(), Some(&(own, producer, layers)));
    scene.wait(Duration::from_secs(2));
    assert_eq!(score_of(&scene, viewer), (10, 0, vec![0]), "silence");
    assert_eq!(told(&mut scene).last(), Some(&(10, 0, vec![0])));
}
