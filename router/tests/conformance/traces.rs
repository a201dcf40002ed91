//! What is told of objects that are traced.

use lenscast_media::Ssrc;
use lenscast_router::rtcp::Compound;
use lenscast_router::{Event, Layers, Trace};

use crate::scene::{CAMERA, Scene};

fn traces(scene: &mut Scene) -> Vec<Trace> {
    let traced = |event| match event {
        Event::Trace(trace) => Some(trace),
        _ => None,
    };
    scene.events(0).into_iter().filter_map(traced).collect()
}

#[test]
fn a_traced_producer_tells_of_key_frames_and_of_what_asks_for_them() {
    let mut scene = Scene::new(1, 1);
    let viewer = scene.viewer(0, 10);
    scene.frame(0, 0, true);
    assert!(traces(&mut scene).is_empty(), "nobody asked");
    scene.workers[0].trace_producer(CAMERA, true).unwrap();
    scene.workers[0].request_key_frame(scene.now, viewer).unwrap();
    scene.frame(0, 0, false);
    scene.frame(0, 0, true);
    let expected =
        [Trace::KeyFrameRequested { producer: CAMERA, layer: 0 }, Trace::KeyFrame { producer: CAMERA, layer: 0 }];
    assert_eq!(traces(&mut scene), expected);
    scene.workers[0].trace_producer(CAMERA, false).unwrap();
    scene.frame(0, 0, true);
    assert!(traces(&mut scene).is_empty());
}

#[test]
fn a_traced_consumer_tells_of_its_viewers_requests_and_its_layers() {
    let mut scene = Scene::new(2, 1);
    let viewer = scene.viewer(0, 10);
    scene.workers[0].trace_consumer(viewer, true).unwrap();
    scene.frame(1, 0, true);
    let mut compound = Compound::new();
    compound.push_receiver_report(Ssrc(1));
    compound.push_nack(Ssrc(1), Ssrc(10), [100, 101, 105]);
    compound.push_pli(Ssrc(1), Ssrc(10));
    scene.rtcp(10, &compound);
    scene.workers[0].set_preferred_layers(scene.now, viewer, Layers { spatial: 0, temporal: 0 }).unwrap();
    scene.frame(0, 0, true);
    let layers = |spatial| Some(Layers { spatial, temporal: 0 });
    let expected = [
        Trace::LayerSwitch { consumer: viewer, from: None, to: layers(1) },
        Trace::Nack { consumer: viewer, packets: 3 },
        Trace::Pli { consumer: viewer },
        Trace::LayerSwitch { consumer: viewer, from: layers(1), to: layers(0) },
    ];
    assert_eq!(traces(&mut scene), expected);
}
