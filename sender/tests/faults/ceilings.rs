//! What viewers' paths carry bears on encoders at once, and on nothing else.

use lenscast_encoder::Backend;
use lenscast_media::{Bitrate, TrackId};
use lenscast_sender::{Closed, MAX_LAYERS, ShareState, TrackConfig, TrackShare};

use crate::scene::{Camera, Scene, config, kbps};

const NONE: Bitrate = Bitrate::UNLIMITED;

fn cap(scene: &Scene, camera: &Camera, layers: [Bitrate; MAX_LAYERS]) {
    scene.sender.set_ceilings(&[(camera.track.id(), layers)]).unwrap();
}

#[test]
fn a_fall_acts_with_the_next_frame_in_place_and_without_a_key_frame() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    assert!(camera.frame());
    assert_eq!(camera.encoded_at(), kbps(2_500));
    let version = scene.sender.allocation().unwrap().version;
    for (ceiling, expected) in [(900, 900), (895, 895), (897, 897), (5, 30), (4_000, 2_500)] {
        cap(&scene, &camera, [kbps(ceiling), NONE, NONE]);
        assert!(camera.frame());
        let burst = camera.burst();
        assert!(!burst.meta().key_frame);
        assert_eq!(Bitrate::from_bps(u64::from_be_bytes(burst.payload(0)[6..].try_into().unwrap())), kbps(expected));
        let report = scene.sender.allocation().unwrap();
        assert_eq!((report.version, report.tracks[0].state), (version, ShareState::Allocated));
        assert_eq!(report.tracks[0].limited, expected < 2_500, "{ceiling}");
        assert_eq!(report.tracks[0].ceilings[0], kbps(ceiling));
    }
    assert_eq!(scene.built(), 1);
}

#[test]
fn what_one_track_is_kept_from_is_the_others() {
    let scene = Scene::new();
    let cameras = [scene.watched(64), scene.watched(128)];
    scene
        .sender
        .allocate(&lenscast_sender::AllocationRequest { limit: Some(kbps(2_000)), ..Default::default() })
        .unwrap();
    let before = cameras.each_ref().map(|camera| scene.target(camera));
    assert_eq!(before[0], before[1]);
    cap(&scene, &cameras[0], [kbps(300), NONE, NONE]);
    let after = cameras.each_ref().map(|camera| scene.target(camera));
    assert_eq!(after[0], kbps(300));
    assert!(after[1] > Bitrate::from_bps(before[1].as_bps() * 5 / 4), "{before:?} {after:?}");
}

#[test]
fn each_layer_has_its_own() {
    let scene = Scene::new();
    let share = TrackShare { max: kbps(5_000), ..config().share };
    let mut camera = scene.camera(1280, TrackConfig { layers: 3, share, ..config() });
    let control = camera.track.control().clone();
    let _demands = [0, 1, 2].map(|layer| control.subscribe(layer));
    camera.frame();
    let targets = || [0, 1, 2].map(|layer| control.target(layer));
    let before = targets();
    cap(&scene, &camera, [NONE, kbps(400), NONE]);
    assert_eq!(targets()[1], kbps(400));
    assert_eq!(targets()[0], before[0]);
    assert!(targets()[2] >= before[2], "what is kept from one layer costs none above it: {before:?} {:?}", targets());
    cap(&scene, &camera, [kbps(100), kbps(400), kbps(1_500)]);
    assert_eq!(targets(), [100, 400, 1_500].map(kbps));
    let report = scene.sender.allocation().unwrap();
    assert_eq!(report.tracks[0].layers.as_slice().len(), 3);
    assert_eq!(report.tracks[0].layers.as_slice()[2].max, kbps(5_000), "bounds know of no ceilings");
    // Below their minima: those are made all the same.
    cap(&scene, &camera, [kbps(1); 3]);
    assert_eq!(targets(), report.tracks[0].layers.as_slice().iter().map(|layer| layer.min).collect::<Vec<_>>()[..]);
    cap(&scene, &camera, [NONE; 3]);
    assert_eq!(targets(), before);
}

#[test]
fn an_encoder_that_must_be_built_anew_is_built_seldom() {
    let scene = Scene::new();
    let mut camera = scene.camera(64, TrackConfig { backend: Backend::VpxEncode, ..config() });
    camera.demand = Some(camera.track.control().subscribe(0));
    camera.frame();
    cap(&scene, &camera, [kbps(1_000), NONE, NONE]);
    camera.frame();
    let built = scene.built();
    assert_eq!(camera.encoded_at(), kbps(850));
    for kbits in [920, 1_000, 1_080, 930, 990] {
        cap(&scene, &camera, [kbps(kbits), NONE, NONE]);
        camera.frame();
    }
    assert_eq!(scene.built(), built);
}

#[test]
fn what_is_not_there_has_none() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    camera.frame();
    let before = scene.sender.allocation_changes();
    scene.sender.set_ceilings(&[(TrackId(99), [kbps(100); MAX_LAYERS])]).unwrap();
    cap(&scene, &camera, [NONE; MAX_LAYERS]);
    assert_eq!(scene.sender.allocation_changes(), before);
    assert_eq!(scene.target(&camera), kbps(2_500));
    scene.sender.close();
    assert_eq!(scene.sender.set_ceilings(&[]), Err(Closed));
}
