use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use lenscast_media::{Burst, Frame, Picture, Resolution};
use lenscast_sender::{
    AddTrackError, BurstSink, Closed, SendFrameError, Sender, SetAllocationError, TrackControl, TrackState,
};

use crate::scene::{BOUND, Gate, Scene, config, kbps, wait_until};

/// An allocation held the table's lock through the start of an encoder.
#[test]
fn fault_01_while_an_allocation_builds_an_encoder_every_other_camera_and_call_goes_on() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.watched(64), scene.watched(128));
    assert!(front.frame() && rear.frame());
    scene.weigh(&[(&rear, 0.0)]).unwrap();
    assert!(!rear.frame());
    let gate = Gate::new();
    scene.script.build_gates.lock().unwrap().push_back(Arc::clone(&gate));
    let weights = [(rear.track.id(), 1.0)];
    std::thread::scope(|scope| {
        let allocation = scope.spawn(|| scene.sender.set_bitrate_allocation(Some(&weights)));
        gate.wait_for_somebody();
        assert!(front.frame(), "the other camera encodes");
        scene.sender.update_bitrate(kbps(1_000)).unwrap();
        assert_eq!(scene.sender.allocation().unwrap().tracks.len(), 2);
        scene.weigh(&[(&front, 2.0)]).unwrap();
        let added = scene.camera(32, config());
        assert_eq!(scene.sender.remove_track(added.track.id()), Ok(true));
        gate.open();
        allocation.join().unwrap().unwrap();
    });
    assert!(rear.frame());
}

/// The bitrate's tick took each encoder's mutex in turn.
#[test]
fn fault_02_an_update_of_the_bitrate_waits_for_no_encode() {
    let scene = Scene::new();
    let (mut slow, mut other) = (scene.watched(64), scene.watched(128));
    assert!(slow.frame() && other.frame());
    let gate = Gate::new();
    *scene.script.encode_gate.lock().unwrap() = Some((64, Arc::clone(&gate)));
    slow.put();
    gate.wait_for_somebody();
    scene.sender.update_bitrate(kbps(500)).unwrap();
    scene.weigh(&[(&slow, 3.0), (&other, 1.0)]).unwrap();
    scene.sender.force_key_frame(slow.track.id()).unwrap();
    assert!(other.frame(), "at its new target");
    assert!(other.encoded_at() < kbps(200));
    gate.open();
    *scene.script.encode_gate.lock().unwrap() = None;
    wait_until("the slow frame comes out", || slow.track.stats().frames_encoded == 2);
}

/// Callbacks ran under the encoder's lock, and deadlocked if they called back.
#[test]
fn fault_03_a_sink_may_ask_the_sender_for_a_new_rate() {
    struct CallsBack(Arc<Sender>, mpsc::Sender<()>);

    impl BurstSink for CallsBack {
        fn deliver(&self, _: usize, burst: &Arc<Burst>) -> bool {
            self.0.update_bitrate(kbps(700)).unwrap();
            self.0.allocation().unwrap();
            self.0.force_key_frame(lenscast_media::TrackId(0)).unwrap();
            assert!(!burst.is_empty());
            self.1.send(()).is_ok()
        }
    }

    let scene = Scene::new();
    let (called, calls) = mpsc::channel();
    let control = TrackControl::new();
    let _demand = control.subscribe(0);
    let sink = Box::new(CallsBack(Arc::clone(&scene.sender), called));
    let track = scene.sender.add_track(config(), control, sink).unwrap();
    for number in 0..3 {
        scene.sender.send_frame(track.id(), frame(number)).unwrap();
        calls.recv_timeout(BOUND).expect("the sink came back");
    }
    wait_until("all are counted", || track.stats().frames_encoded == 3);
}

fn frame(number: u64) -> Frame {
    let picture = Arc::new(Picture::black(Resolution::new(64, 64).unwrap()));
    let captured = Instant::now();
    Frame { picture, number, captured, ready: captured }
}

/// There was no closed flag, a rebuild raced with the close, and what was added later leaked.
#[test]
fn fault_04_after_close_nothing_runs_nothing_is_kept_and_every_call_says_so() {
    let scene = Scene::new();
    let (mut front, mut rear) = (scene.watched(64), scene.watched(128));
    assert!(front.frame() && rear.frame());
    scene.weigh(&[(&rear, 0.0)]).unwrap();
    assert!(!rear.frame());
    let gate = Gate::new();
    scene.script.build_gates.lock().unwrap().push_back(Arc::clone(&gate));
    let weights = [(rear.track.id(), 1.0)];
    std::thread::scope(|scope| {
        let allocation = scope.spawn(|| scene.sender.set_bitrate_allocation(Some(&weights)));
        gate.wait_for_somebody();
        scene.sender.close();
        gate.open();
        assert!(matches!(allocation.join().unwrap(), Err(SetAllocationError::Closed(Closed))));
    });
    assert_eq!(scene.script.alive.load(Ordering::SeqCst), 0, "no encoder is left");
    let ended = |bursts: &mpsc::Receiver<_>| {
        while bursts.try_recv().is_ok() {}
        matches!(bursts.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    };
    assert!(ended(&front.bursts) && ended(&rear.bursts), "both tasks are over");
    let id = front.track.id();
    let sender = &scene.sender;
    assert_eq!(sender.send_frame(id, frame(0)).unwrap_err(), SendFrameError::Closed(Closed));
    assert_eq!(sender.update_bitrate(kbps(1)).unwrap_err(), Closed);
    assert_eq!(sender.allocation().unwrap_err(), Closed);
    assert_eq!(sender.health().unwrap_err(), Closed);
    assert_eq!(sender.force_key_frame(id), Err(Closed));
    assert_eq!(sender.remove_track(id), Err(Closed));
    assert!(matches!(sender.set_bitrate_allocation(None), Err(SetAllocationError::Closed(Closed))));
    struct Nowhere;
    impl BurstSink for Nowhere {
        fn deliver(&self, _: usize, _: &Arc<Burst>) -> bool {
            true
        }
    }
    let added = sender.add_track(config(), TrackControl::new(), Box::new(Nowhere));
    assert!(matches!(added, Err(AddTrackError::Closed(Closed))));
}

/// A new connection went on with the dead one's estimate.
#[test]
fn fault_05_a_new_estimate_replaces_the_old_one_at_once_up_and_down() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    assert!(camera.frame());
    for (estimate, least, most) in [(300, 200, 300), (10_000, 2_500, 2_500), (100, 30, 100), (2_000, 1_700, 2_000)] {
        scene.limit(kbps(estimate));
        let target = scene.target(&camera);
        assert!(kbps(least) <= target && target <= kbps(most), "{target} of {estimate} kb/s");
        assert!(camera.frame());
        assert_eq!(camera.encoded_at(), target);
    }
}

/// An encoder that kept failing was tried again without a pause, and filled the log.
#[test]
fn fault_06_an_encoder_that_keeps_failing_is_tried_less_and_less_often_and_then_called_failed() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    assert!(camera.frame());
    scene.script.failing.store(true, Ordering::SeqCst);
    let mut frames = 0;
    wait_until("it is called failed", || {
        camera.frame();
        frames += 1;
        matches!(camera.track.stats().state, TrackState::Failed { .. })
    });
    assert!(scene.built() < 10, "{} encoders for {frames} frames", scene.built());
    scene.script.failing.store(false, Ordering::SeqCst);
    wait_until("it comes back by itself", || camera.frame());
    assert_eq!(camera.track.stats().state, TrackState::Active);
}
