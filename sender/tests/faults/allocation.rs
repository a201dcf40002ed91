use std::sync::atomic::Ordering;

use lenscast_media::Bitrate;
use lenscast_sender::{AllocationRequest, SetAllocationError, ShareChange, ShareState, TrackConfig, TrackShare};

use crate::scene::{Scene, config, kbps, wait_until};

/// There were weights only, and the raw estimate went to the encoders.
#[test]
fn fault_08_shares_have_bounds_pause_and_resume_and_headers_are_set_aside() {
    let scene = Scene::new();
    let limited = |min, max| TrackConfig {
        share: TrackShare { weight: 1.0, min: kbps(min), max: kbps(max), enforced: false },
        ..config()
    };
    let mut cameras = [scene.camera(64, limited(30, 400)), scene.camera(64, limited(500, 2_500))];
    for camera in &mut cameras {
        camera.demand = Some(camera.track.control().subscribe(0));
        camera.frame();
    }
    let [small, large] = &cameras;
    scene.limit(kbps(2_000));
    let report = scene.sender.allocation().unwrap();
    assert_eq!(scene.target(small), kbps(400), "its maximum");
    assert!(scene.target(large) > kbps(1_300), "it gets what the other cannot use");
    assert!(report.overhead > kbps(90), "{}", report.overhead);
    let given: u64 = report.tracks.iter().map(|track| track.target.as_bps()).sum();
    assert!(given + report.overhead.as_bps() <= 2_000_000);

    scene.limit(kbps(500));
    let state = |index: usize| scene.sender.allocation().unwrap().tracks[index].state;
    assert_eq!((state(0), state(1)), (ShareState::Allocated, ShareState::Paused));
    // 30 + 500 kb/s and what is set aside would fit now, but not by a margin.
    scene.limit(kbps(640));
    assert_eq!(state(1), ShareState::Paused, "it does not flap");
    scene.limit(kbps(900));
    assert_eq!(state(1), ShareState::Allocated);
}

/// A track at weight 0 went on at its old rate.
#[test]
fn fault_09_a_track_at_weight_0_sends_nothing_and_the_sum_stays_within_the_estimate() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.watched(64), scene.watched(128));
    scene.limit(kbps(1_000));
    assert!(front.frame() && rear.frame());
    let equal = scene.target(&front);
    scene.weigh(&[(&rear, 0.0)]).unwrap();
    assert!(!rear.frame() && !rear.frame());
    assert_eq!(scene.target(&rear), Bitrate::ZERO);
    assert!(front.frame());
    let target = scene.target(&front);
    assert!(target > equal && target <= kbps(1_000), "{target}");
    scene.weigh(&[(&rear, 1.0)]).unwrap();
    assert!(rear.frame());
    rear.burst();
    assert!(rear.burst().meta().key_frame, "it begins anew");
}

/// The first custom allocation rebuilt every encoder, and the return to equal shares none that was idle.
#[test]
fn fault_10_only_what_had_nothing_is_built_and_equal_shares_bring_back_what_was_idle() {
    let scene = Scene::new();
    let mut cameras = [64, 128, 192].map(|width| scene.watched(width));
    cameras.iter_mut().for_each(|camera| assert!(camera.frame()));
    assert_eq!(scene.built(), 3);
    let [a, b, c] = &cameras;
    scene.weigh(&[(a, 4.0), (b, 1.0), (c, 1.0)]).unwrap();
    scene.weigh(&[(c, 0.0)]).unwrap();
    for camera in &mut cameras {
        camera.frame();
    }
    assert_eq!(scene.built(), 3, "what runs changes its rate in place");
    scene.sender.set_bitrate_allocation(None).unwrap();
    assert_eq!(scene.built(), 4, "the idle one's encoder is there when the call returns");
    cameras.iter_mut().for_each(|camera| assert!(camera.frame()));
    assert_eq!(scene.built(), 4, "and is the one that is used");
    let targets: Vec<_> = cameras.iter().map(|camera| scene.target(camera)).collect();
    assert_eq!(targets, [targets[0]; 3]);
}

/// A failed rebuild was logged, and committed as if it had worked; a rebuilt encoder began at its builder's rate.
#[test]
fn fault_11_a_build_that_fails_changes_nothing_and_one_that_works_begins_at_its_share() {
    let scene = Scene::new();
    let mut cameras = [64, 128, 192].map(|width| scene.watched(width));
    scene.limit(kbps(3_000));
    cameras.iter_mut().for_each(|camera| assert!(camera.frame()));
    let [_, b, c] = &cameras;
    scene.weigh(&[(b, 0.0), (c, 0.0)]).unwrap();
    for camera in &mut cameras {
        camera.frame();
    }
    let before = scene.sender.allocation().unwrap();
    scene.script.failing_width.store(192, Ordering::SeqCst);
    let [a, b, c] = &cameras;
    let error = scene.weigh(&[(a, 2.0), (b, 1.0), (c, 1.0)]).unwrap_err();
    assert!(matches!(error, SetAllocationError::Encoder { track, .. } if track == c.track.id()), "{error}");
    assert!(error.to_string().contains("as ordered"), "{error}");
    assert_eq!(scene.sender.allocation().unwrap(), before);
    assert_eq!(scene.script.alive.load(Ordering::SeqCst), 1, "what was built for nothing is gone");
    cameras.iter_mut().skip(1).for_each(|camera| assert!(!camera.frame()));

    scene.script.failing_width.store(0, Ordering::SeqCst);
    let [a, b, c] = &cameras;
    scene.weigh(&[(a, 2.0), (b, 1.0), (c, 1.0)]).unwrap();
    let built: Vec<_> = scene.script.built.lock().unwrap().iter().rev().take(2).map(|built| built.bitrate).collect();
    assert_eq!(built, [scene.target(c), scene.target(b)]);
    cameras.iter_mut().for_each(|camera| assert!(camera.frame()));
}

/// NaN and infinity passed.
#[test]
fn fault_12_weights_that_are_no_weights_change_nothing() {
    let scene = Scene::new();
    let camera = scene.watched(64);
    let before = scene.sender.allocation().unwrap();
    for weight in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, 1e7] {
        let error = scene.weigh(&[(&camera, weight)]).unwrap_err();
        assert!(matches!(error, SetAllocationError::Share { .. }), "{weight}: {error}");
        assert!(error.to_string().contains(&weight.to_string()), "{error}");
    }
    let error = scene.weigh(&[(&camera, 0.0)]).unwrap_err();
    assert!(matches!(error, SetAllocationError::NothingPositive), "{error}");
    assert_eq!(scene.sender.allocation().unwrap(), before);
}

#[test]
fn of_two_who_go_by_the_same_version_the_second_is_refused_and_told_the_new_one() {
    let scene = Scene::new();
    let camera = scene.watched(64);
    let version = scene.sender.allocation().unwrap().version;
    let request = |weight| AllocationRequest {
        expected_version: Some(version),
        shares: vec![(camera.track.id(), ShareChange { weight: Some(weight), ..ShareChange::default() })],
        ..AllocationRequest::default()
    };
    let new = scene.sender.allocate(&request(2.0)).unwrap();
    assert!(new > version);
    match scene.sender.allocate(&request(3.0)).unwrap_err() {
        SetAllocationError::Conflict { expected, current } => assert_eq!((expected, current), (version, new)),
        other => panic!("{other}"),
    }
    assert_eq!(scene.sender.allocation().unwrap().tracks[0].share.weight, 2.0);
}

#[test]
fn who_begins_to_watch_takes_a_share_and_who_stops_gives_it_back() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.watched(64), scene.camera(128, config()));
    scene.limit(kbps(2_000));
    assert!(front.frame() && !rear.frame());
    let alone = scene.target(&front);
    let demand = rear.track.control().subscribe(0);
    assert!(rear.frame(), "with its first frame");
    assert!(scene.target(&front) < alone && scene.target(&rear) > kbps(500));
    drop(demand);
    assert!(!rear.frame());
    assert_eq!(scene.target(&front), alone);
    wait_until("its encoder is gone", || scene.script.alive.load(Ordering::SeqCst) == 1);
}

/// The task compared what is wanted with what it had told last, but another track's task had told otherwise meanwhile.
#[test]
fn who_leaves_and_comes_back_between_two_frames_gets_a_share_again() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.watched(64), scene.watched(128));
    scene.limit(kbps(2_000));
    assert!(front.frame() && rear.frame());
    front.demand = None;
    rear.demand = None;
    assert!(!rear.frame(), "and the allocation goes by nobody watching either");
    assert_eq!(scene.target(&front), Bitrate::ZERO);
    front.demand = Some(front.track.control().subscribe(0));
    assert!(front.frame());
}

#[test]
fn who_comes_and_leaves_between_two_frames_keeps_no_share() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.camera(64, config()), scene.watched(128));
    scene.limit(kbps(2_000));
    assert!(rear.frame());
    let alone = scene.target(&rear);
    let demand = front.track.control().subscribe(0);
    rear.demand = None;
    rear.frame();
    rear.demand = Some(rear.track.control().subscribe(0));
    assert!(rear.frame());
    assert!(scene.target(&rear) < alone, "it was shared with the viewer who came");
    drop(demand);
    front.frame();
    assert_eq!(scene.target(&rear), alone);
}

#[test]
fn a_silent_camera_that_nobody_watches_any_more_keeps_no_share() {
    let scene = Scene::new();
    let (mut silent, mut rear) = (scene.watched(64), scene.watched(128));
    scene.limit(kbps(2_000));
    assert!(silent.frame() && rear.frame());
    let shared = scene.target(&rear);
    silent.demand = None;
    scene.sender.health().unwrap();
    assert!(scene.target(&rear) > shared, "though no frame of it comes");
    silent.demand = Some(silent.track.control().subscribe(0));
    scene.sender.health().unwrap();
    assert_eq!(scene.target(&rear), shared);
}
