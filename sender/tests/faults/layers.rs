use lenscast_media::Bitrate;
use lenscast_sender::{TrackConfig, TrackShare, TrackState};

use crate::scene::{Camera, Scene, config, kbps, wait_until};

fn simulcast(scene: &Scene, layers: usize) -> Camera {
    let share = TrackShare { max: kbps(5_000), ..config().share };
    scene.camera(1280, TrackConfig { layers, share, ..config() })
}

#[test]
fn only_layers_that_somebody_consumes_are_encoded() {
    let scene = Scene::new();
    let mut camera = simulcast(&scene, 3);
    assert!(!camera.frame());
    assert_eq!(scene.built(), 0);
    let control = camera.track.control().clone();
    let top = control.subscribe(2);
    assert!(camera.frame());
    assert_eq!(camera.bursts.recv().unwrap().0, 2);
    assert!(camera.bursts.try_recv().is_err(), "one burst: of the layer that is wanted");

    let bottom = control.subscribe(0);
    assert!(camera.frame());
    let mut layers = [camera.bursts.recv().unwrap(), camera.bursts.recv().unwrap()];
    layers.sort_by_key(|(layer, _)| *layer);
    let [(low, small), (high, large)] = &layers;
    assert_eq!((*low, *high), (0, 2));
    assert_eq!((small.meta().resolution.unwrap().width(), large.meta().resolution.unwrap().width()), (320, 1280));
    assert_eq!(small.meta().rtp_time, large.meta().rtp_time, "one clock");
    assert!(small.meta().key_frame && small.meta().first_packet == 0, "its own stream begins");
    assert!(!large.meta().key_frame && large.meta().first_packet == 1, "the other goes on");

    drop(top);
    assert!(camera.frame());
    assert_eq!(camera.bursts.recv().unwrap().0, 0);
    assert!(camera.bursts.try_recv().is_err());
    let stats = camera.track.stats();
    assert_eq!(stats.layers.iter().map(|layer| layer.frames_encoded).collect::<Vec<_>>(), [2, 0, 2]);
    drop(bottom);
    assert!(!camera.frame());
}

#[test]
fn a_track_s_share_is_filled_from_the_lowest_layer_up() {
    let scene = Scene::new();
    let mut camera = simulcast(&scene, 3);
    let control = camera.track.control().clone();
    let _demands = [0, 1, 2].map(|layer| control.subscribe(layer));
    let targets = |limit: u64| {
        scene.limit(kbps(limit));
        [0, 1, 2].map(|layer| control.target(layer))
    };
    camera.frame();
    let [low, middle, high] = targets(10_000);
    assert!(low >= kbps(150) && middle >= kbps(500) && high >= kbps(2_500), "{low} {middle} {high}");
    let [low, middle, high] = targets(500);
    assert!(low > Bitrate::ZERO && middle > Bitrate::ZERO && high == Bitrate::ZERO, "{low} {middle} {high}");
    let [low, middle, high] = targets(150);
    assert!(low > Bitrate::ZERO && middle == Bitrate::ZERO && high == Bitrate::ZERO, "{low} {middle} {high}");
    assert_eq!(targets(60), [low, Bitrate::ZERO, Bitrate::ZERO].map(|bitrate| bitrate.min(control.target(0))));
}

/// As measured in a browser, it fell by what the small one took, though its viewer's path carried everything.
#[test]
fn a_smaller_layer_that_somebody_begins_to_watch_costs_the_largest_nothing() {
    let scene = Scene::new();
    let mut camera = scene.camera(1280, TrackConfig { layers: 2, ..config() });
    let control = camera.track.control().clone();
    let _top = control.subscribe(1);
    camera.frame();
    assert_eq!([0, 1].map(|layer| control.target(layer)), [0, 2_500].map(kbps));
    let _bottom = control.subscribe(0);
    camera.frame();
    assert_eq!([0, 1].map(|layer| control.target(layer)), [700, 2_500].map(kbps));
    scene.limit(kbps(2_500));
    let targets = [0, 1].map(|layer| control.target(layer));
    assert!(targets.iter().map(|target| target.as_bps()).sum::<u64>() < 2_500_000, "the total binds: {targets:?}");
}

/// On the frames between two tries, the other layers' success hid it.
#[test]
fn a_layer_that_cannot_be_encoded_is_not_hidden_by_the_others() {
    let scene = Scene::new();
    let mut camera = simulcast(&scene, 2);
    let control = camera.track.control().clone();
    scene.script.failing_width.store(640, std::sync::atomic::Ordering::SeqCst);
    let _demands = [0, 1].map(|layer| control.subscribe(layer));
    let failed = |camera: &Camera| matches!(camera.track.stats().state, TrackState::Failed { .. });
    wait_until("it is called failed", || {
        camera.frame();
        failed(&camera)
    });
    for _ in 0..20 {
        camera.frame();
        assert!(failed(&camera), "the other layer goes on, but this one does not");
    }
    scene.script.failing_width.store(0, std::sync::atomic::Ordering::SeqCst);
    wait_until("it comes back", || {
        camera.frame();
        camera.track.stats().state == TrackState::Active
    });
}
