//! The table of `closing.rs`, line by line.

use super::*;

const OWN: TransportId = TransportId(50);
const OWN_PRODUCER: ProducerId = ProducerId(50);

/// The camera with viewers 1 and 2, and a direct transport that produces, gets its own stream back and the camera's.
fn scene() -> Scene {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    let slot = scene.worker.create_transport(HOME, OWN, TransportKind::Direct).unwrap();
    scene.out.by_slot.insert(slot, OWN);
    let source = Source::Local(Arc::new(Camera::default()));
    let local = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
    scene.worker.produce(scene.now, OWN, OWN_PRODUCER, local, source).unwrap();
    for (number, producer) in [(51, OWN_PRODUCER), (52, CAMERA.producer)] {
        let parameters = ConsumerParameters { transport: OWN, ..parameters(number) };
        scene.worker.consume(scene.now, producer, parameters).unwrap();
    }
    let parameters = ConsumerParameters { id: ConsumerId(53), ssrc: Ssrc(9), rtx: None, ..parameters(1) };
    scene.worker.consume(scene.now, OWN_PRODUCER, parameters).unwrap();
    let _ = scene.events();
    scene
}

fn closures(scene: &mut Scene) -> Vec<Event> {
    scene.endings()
}

fn consumer(number: u64, transport: u64, producer: ProducerId, cause: EndCause) -> Event {
    Event::ConsumerClosed { consumer: ConsumerId(number), transport: TransportId(transport), producer, cause }
}

fn own() -> ProducerKey {
    ProducerKey { router: HOME, producer: OWN_PRODUCER }
}

#[test]
fn a_transport_takes_its_producers_and_consumers_along_and_those_elsewhere_end_with_their_producer() {
    let mut scene = scene();
    scene.worker.close_transport(scene.now, OWN, &mut scene.out).unwrap();
    let expected = [
        Event::ProducerClosed(own(), EndCause::TransportClosed),
        consumer(51, 50, OWN_PRODUCER, EndCause::TransportClosed),
        consumer(52, 50, CAMERA.producer, EndCause::TransportClosed),
        consumer(53, 1, OWN_PRODUCER, EndCause::ProducerClosed),
        Event::TransportClosed(OWN, EndCause::Requested),
    ];
    assert_eq!(closures(&mut scene), expected);
    assert!(scene.worker.close_transport(scene.now, OWN, &mut scene.out).is_err());
    assert!(scene.worker.close_producer(scene.now, own(), &mut scene.out).is_err());
    assert!(scene.events().is_empty(), "nothing is told twice");
}

#[test]
fn a_producer_ends_before_its_consumers() {
    let mut scene = scene();
    scene.worker.close_producer(scene.now, own(), &mut scene.out).unwrap();
    let expected = [
        Event::ProducerClosed(own(), EndCause::Requested),
        consumer(51, 50, OWN_PRODUCER, EndCause::ProducerClosed),
        consumer(53, 1, OWN_PRODUCER, EndCause::ProducerClosed),
    ];
    assert_eq!(closures(&mut scene), expected);
}

#[test]
fn a_router_takes_everything_along_transport_by_transport() {
    for dies in [false, true] {
        let mut scene = scene();
        if dies {
            scene.worker.close(scene.now, &mut scene.out);
        } else {
            scene.worker.close_router(scene.now, HOME, &mut scene.out).unwrap();
        }
        let mut expected = vec![
            consumer(1, 1, CAMERA.producer, EndCause::TransportClosed),
            consumer(53, 1, OWN_PRODUCER, EndCause::TransportClosed),
            Event::TransportClosed(TransportId(1), EndCause::RouterClosed),
            consumer(2, 2, CAMERA.producer, EndCause::TransportClosed),
            Event::TransportClosed(TransportId(2), EndCause::RouterClosed),
            Event::ProducerClosed(own(), EndCause::TransportClosed),
            consumer(51, 50, OWN_PRODUCER, EndCause::TransportClosed),
            consumer(52, 50, CAMERA.producer, EndCause::TransportClosed),
            Event::TransportClosed(OWN, EndCause::RouterClosed),
            Event::ProducerClosed(CAMERA, EndCause::TransportClosed),
            Event::TransportClosed(LOCAL, EndCause::RouterClosed),
        ];
        if dies {
            expected.insert(0, Event::RouterClosed(HOME, EndCause::WorkerClosed));
        } else {
            expected.push(Event::RouterClosed(HOME, EndCause::Requested));
        }
        assert_eq!(closures(&mut scene), expected);
        let dump = scene.worker.dump(scene.now);
        assert!(dump.routers.is_empty() && dump.closing_outlets.is_empty());
        assert!(scene.worker.poll_timeout().is_none() && scene.worker.consumers.is_empty());
        assert!(scene.worker.producers.by_key.is_empty());
        let refused = scene.worker.create_transport(HOME, TransportId(9), TransportKind::WebRtc);
        assert_eq!(refused, Err(crate::CreateTransportError::UnknownRouter(HOME)), "I9");
    }
}

#[test]
fn a_place_is_taken_again_and_its_old_names_lead_nowhere() {
    let mut scene = scene();
    scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
    let slot = scene.worker.create_transport(HOME, TransportId(3), TransportKind::WebRtc).unwrap();
    scene.out.by_slot.insert(slot, TransportId(3));
    scene.worker.consume(scene.now, CAMERA.producer, parameters(3)).unwrap();
    scene.worker.connect_transport(scene.now, TransportId(3)).unwrap();
    scene.burst(0, 1, true);
    assert_eq!((scene.sent_to(1).len(), scene.sent_to(2).len(), scene.sent_to(3).len()), (0, 1, 1));
    assert!(scene.worker.pause_consumer(scene.now, ConsumerId(1)).is_err());
    scene.worker.close_consumer(scene.now, ConsumerId(2), &mut scene.out).unwrap();
    scene.burst(1, 1, false);
    assert_eq!((scene.sent_to(2).len(), scene.sent_to(3).len(), scene.stats(3).packets_sent), (1, 2, 2));
}
