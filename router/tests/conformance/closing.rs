//! Who closes whom, with which cause (docs/closures.md).

use lenscast_media::LayerSet;
use lenscast_router::{EndCause, Event, HeaderExtensions, Inbound, OutletId, ProducerId, StreamState, TransportId};

use crate::scene::{AWAY, CAMERA, HOME, MIRROR, SOURCE, Scene};

fn consumer_closed(number: u64, transport: u64, cause: EndCause) -> Event {
    let (consumer, transport) = (lenscast_router::ConsumerId(number), TransportId(transport));
    Event::ConsumerClosed { consumer, transport, producer: ProducerId(1), cause }
}

#[test]
fn a_producer_that_is_closed_ends_its_consumers_and_its_mirrors_with_theirs() {
    let mut scene = Scene::new(1, 1);
    scene.viewer(0, 10);
    scene.attach(5);
    scene.arrive();
    scene.viewer(1, 20);
    let _ = (scene.endings(0), scene.endings(1));
    scene.workers[0].close_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    scene.arrive();
    let at_home = scene.endings(0);
    assert_eq!(
        at_home,
        [
            Event::ProducerClosed(CAMERA, EndCause::Requested),
            consumer_closed(10, 10, EndCause::ProducerClosed),
            Event::OutletClosed(OutletId(5), EndCause::ProducerClosed),
        ]
    );
    let away = scene.endings(1);
    assert_eq!(
        away,
        [Event::ProducerClosed(MIRROR, EndCause::OriginClosed), consumer_closed(20, 20, EndCause::ProducerClosed),]
    );
}

#[test]
fn a_transport_that_is_closed_ends_what_it_produces_and_consumes_by_itself() {
    let mut scene = Scene::new(1, 1);
    scene.viewer(0, 10);
    scene.consumer(0, SOURCE.0, 11, HeaderExtensions::default());
    let _ = scene.endings(0);
    scene.workers[0].close_transport(scene.now, SOURCE, &mut scene.out).unwrap();
    let ended = scene.endings(0);
    assert_eq!(
        ended,
        [
            Event::ProducerClosed(CAMERA, EndCause::TransportClosed),
            consumer_closed(11, 1, EndCause::TransportClosed),
            consumer_closed(10, 10, EndCause::ProducerClosed),
            Event::TransportClosed(SOURCE, EndCause::Requested),
        ],
        "a consumer on the transport of its producer ends with the transport"
    );
}

#[test]
fn a_router_that_is_closed_ends_its_transports_and_its_mirrors() {
    let mut scene = Scene::new(1, 1);
    scene.attach(5);
    scene.arrive();
    scene.viewer(1, 20);
    let _ = (scene.endings(0), scene.endings(1));
    scene.workers[1].close_router(scene.now, AWAY, &mut scene.out).unwrap();
    scene.arrive();
    let away = scene.endings(1);
    assert_eq!(
        away,
        [
            consumer_closed(20, 20, EndCause::TransportClosed),
            Event::TransportClosed(TransportId(20), EndCause::RouterClosed),
            Event::ProducerClosed(MIRROR, EndCause::RouterClosed),
            Event::RouterClosed(AWAY, EndCause::Requested),
        ]
    );
    let home = scene.endings(0);
    assert_eq!(home, [Event::OutletClosed(OutletId(5), EndCause::MirrorClosed)]);
    assert!(scene.workers[0].producer_stats(CAMERA).is_some(), "the origin goes on");
}

#[test]
fn a_worker_that_is_closed_ends_its_routers() {
    let mut scene = Scene::new(1, 1);
    scene.workers[0].close(scene.now, &mut scene.out);
    let ended = scene.endings(0);
    assert_eq!(
        ended,
        [
            Event::RouterClosed(HOME, EndCause::WorkerClosed),
            Event::ProducerClosed(CAMERA, EndCause::TransportClosed),
            Event::TransportClosed(SOURCE, EndCause::RouterClosed),
        ]
    );
}

/// Where a mirror was detached and made again, or could not be made because there is one, what the other outlet still had to
/// say came behind, and ended the mirror that is there.
#[test]
fn what_is_meant_for_another_mirror_of_the_name_is_not_heard() {
    let mut scene = Scene::new(1, 1);
    scene.attach(5);
    scene.arrive();
    for paused in [true, false] {
        let state = StreamState { version: 9, paused, closed: !paused, sending: LayerSet::EMPTY };
        let message = Inbound::State { key: MIRROR, outlet: Some(OutletId(4)), state };
        scene.workers[1].handle_inbound(scene.now, message, &mut scene.out);
    }
    assert!(scene.events(1).is_empty());
    assert!(scene.workers[1].producer_stats(MIRROR).is_some());
}
