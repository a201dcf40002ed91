use super::*;

#[test]
fn a_paused_producer_is_received_but_not_forwarded_and_resumes_with_a_key_frame() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 2, true);
    let _ = (scene.events(), scene.asked());
    scene.worker.pause_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    scene.worker.pause_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    let paused = scene.events();
    assert_eq!(paused.iter().filter(|event| **event == Event::ProducerPaused(CAMERA)).count(), 1);
    assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::EMPTY)]);
    scene.burst(2, 2, true);
    assert_eq!((scene.sent_to(1).len(), scene.worker.producer_stats(CAMERA).unwrap().frames), (2, 2));
    scene.rtcp(1, &nack(1, &[32_000]));
    assert_eq!(scene.sent_to(1).len(), 2, "nothing is kept for retransmission");
    scene.worker.resume_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::only(0)), Asked::KeyFrame(0)]);
    assert_eq!(scene.events()[0], Event::ProducerResumed(CAMERA));
    scene.burst(4, 2, false);
    scene.burst(6, 2, true);
    let sent: Vec<_> = scene.sent_to(1).into_iter().map(producer_packet).collect();
    assert_eq!(sent, [0, 1, 6, 7]);
    let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
    assert_eq!(sequences, [32_000, 32_001, 32_002, 32_003]);
}

#[test]
fn a_paused_consumer_gets_nothing_and_asks_for_a_key_frame_when_it_resumes() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 1, true);
    let _ = scene.asked();
    scene.worker.pause_consumer(scene.now, ConsumerId(1)).unwrap();
    assert!(scene.asked().is_empty(), "the other one still wants it");
    scene.burst(1, 1, true);
    scene.worker.resume_consumer(scene.now, ConsumerId(1)).unwrap();
    scene.worker.resume_consumer(scene.now, ConsumerId(1)).unwrap();
    assert_eq!(scene.asked(), [Asked::KeyFrame(0)]);
    scene.burst(2, 1, false);
    scene.burst(3, 1, true);
    let sent: Vec<_> = scene.sent_to(1).into_iter().map(producer_packet).collect();
    assert_eq!(sent, [0, 3]);
    assert_eq!(scene.sent_to(2).len(), 4);
}

#[test]
fn a_consumer_is_active_only_if_nothing_at_all_is_in_the_way() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut scene = Scene::new().viewer(1);
        scene.worker.pause_consumer(scene.now, ConsumerId(1)).unwrap();
        scene.worker.pause_producer(scene.now, CAMERA, &mut scene.out).unwrap();
        for (number, obstacle) in order.into_iter().enumerate() {
            assert!(scene.asked().is_empty());
            scene.burst(number as u64, 1, true);
            assert!(scene.out.rtp.is_empty());
            match obstacle {
                0 => scene.worker.connect_transport(scene.now, TransportId(1)).unwrap(),
                1 => scene.worker.resume_consumer(scene.now, ConsumerId(1)).unwrap(),
                _ => scene.worker.resume_producer(scene.now, CAMERA, &mut scene.out).unwrap(),
            }
        }
        assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::only(0)), Asked::KeyFrame(0)]);
        scene.burst(3, 1, true);
        assert_eq!(scene.sent_to(1).len(), 1);
    }
}

#[test]
fn what_does_not_exist_cannot_be_paused() {
    let mut scene = Scene::new();
    let key = ProducerKey { router: HOME, producer: ProducerId(9) };
    let error = scene.worker.pause_producer(scene.now, key, &mut scene.out).unwrap_err();
    assert_eq!(error, crate::PauseProducerError::UnknownProducer(key));
    let error = scene.worker.resume_consumer(scene.now, ConsumerId(9)).unwrap_err();
    assert_eq!(error.to_string(), "consumer 9 does not exist");
}

#[test]
fn a_paused_consumer_is_sent_nothing_again_either() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 5, true);
    scene.out.rtp.clear();
    scene.worker.pause_consumer(scene.now, ConsumerId(1)).unwrap();
    scene.rtcp(1, &nack(1, &[32_001]));
    assert!(scene.out.rtp.is_empty());
}
