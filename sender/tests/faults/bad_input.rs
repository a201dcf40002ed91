use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, TrackId};
use lenscast_sender::{
    AllocationRequest, SetAllocationError, ShareChange, ShareError, ShareState, TrackConfig, TrackShare,
};

use crate::scene::{Scene, config, kbps, wait_until};

fn change(scene: &Scene, shares: Vec<(TrackId, ShareChange)>) -> Result<u64, SetAllocationError> {
    scene.sender.allocate(&AllocationRequest { shares, ..AllocationRequest::default() })
}

#[test]
fn unknown_and_duplicate_tracks_and_impossible_bounds_are_refused_as_a_whole() {
    let scene = Scene::new();
    let (front, rear) = (scene.watched(64), scene.watched(64));
    let before = scene.sender.allocation().unwrap();
    let (front, rear) = (front.track.id(), rear.track.id());
    let weigh = ShareChange { weight: Some(2.0), ..ShareChange::default() };
    let bounds = |min, max| ShareChange { min: Some(kbps(min)), max: Some(kbps(max)), ..ShareChange::default() };
    let refused = |shares| change(&scene, shares).unwrap_err();
    assert!(matches!(refused(vec![(front, weigh), (TrackId(7), weigh)]), SetAllocationError::UnknownTrack(TrackId(7))));
    assert!(matches!(
        refused(vec![(front, weigh), (rear, weigh), (front, weigh)]),
        SetAllocationError::DuplicateTrack(track) if track == front
    ));
    assert!(matches!(
        refused(vec![(front, weigh), (rear, bounds(900, 800))]),
        SetAllocationError::Share { track, error: ShareError::MinOverMax { .. } } if track == rear
    ));
    for (min, max) in [(0, 500), (9, 500), (30, 100_001), (30, u64::MAX / 1_000)] {
        let error = refused(vec![(front, bounds(min, max))]);
        assert!(matches!(error, SetAllocationError::Share { error: ShareError::Bitrate { .. }, .. }), "{error}");
    }
    assert_eq!(scene.sender.allocation().unwrap(), before);
}

#[test]
fn more_minima_than_there_is_pause_those_of_least_weight_and_enforced_ones_stay() {
    let scene = Scene::new();
    let share = |weight, enforced| TrackShare { weight, min: kbps(400), max: kbps(1_000), enforced };
    let shares = [share(1.0, false), share(3.0, false), share(2.0, false), share(0.5, true)];
    let cameras = shares.map(|share| {
        let mut camera = scene.camera(64, TrackConfig { share, ..config() });
        camera.demand = Some(camera.track.control().subscribe(0));
        camera.frame();
        camera
    });
    scene.limit(kbps(1_100));
    let states = || scene.sender.allocation().unwrap().tracks.iter().map(|track| track.state).collect::<Vec<_>>();
    use ShareState::{Allocated, Paused};
    assert_eq!(states(), [Paused, Allocated, Paused, Allocated]);
    scene.limit(kbps(100));
    assert_eq!(states(), [Paused, Paused, Paused, Allocated]);
    assert_eq!(scene.target(&cameras[3]), kbps(400), "whatever there is");
    for nothing in [Bitrate::ZERO, Bitrate::from_bps(1)] {
        scene.limit(nothing);
        assert_eq!(states(), [Paused, Paused, Paused, Allocated]);
    }
    scene.limit(Bitrate::UNLIMITED);
    assert_eq!(states(), [Allocated; 4]);
}

#[test]
fn a_source_that_changes_its_size_and_one_whose_time_runs_backwards_go_on() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    let start = Instant::now() + Duration::from_secs(100);
    let mut last = None;
    for (number, offset) in [0_i64, 40, -90_000, 80, 80, -1].into_iter().enumerate() {
        let span = Duration::from_millis(offset.unsigned_abs());
        camera.put_at(if offset < 0 { start - span } else { start + span });
        wait_until("it is encoded", || camera.track.stats().frames_encoded == number as u64 + 1);
        let burst = camera.burst();
        let time = burst.meta().rtp_time;
        assert!(last.is_none_or(|last| time.ticks_since(last) > 0), "frame {number}");
        last = Some(time);
    }
}

#[test]
fn a_camera_that_stalled_for_an_hour_goes_on_with_a_picture_and_the_right_time() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    let start = Instant::now();
    for (number, seconds) in [0, 3_600, 3_601].into_iter().enumerate() {
        camera.put_at(start + Duration::from_secs(seconds));
        wait_until("it is encoded", || camera.track.stats().frames_encoded == number as u64 + 1);
        let burst = camera.burst();
        assert_eq!(burst.meta().rtp_time.0, (seconds * 90_000) as u32);
    }
    assert_eq!(scene.built(), 1);
}
