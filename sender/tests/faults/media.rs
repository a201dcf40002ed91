use std::time::{Duration, Instant};

use lenscast_media::RtpTime;
use lenscast_sender::{Health, LimitationReason};

use crate::scene::{Gate, Scene, config, kbps, wait_until};

/// Capture times were put on the packets by the pacer: with several frames queued, they took each other's.
#[test]
fn fault_18_every_burst_bears_the_capture_time_of_its_own_frame() {
    let scene = Scene::new();
    let mut camera = scene.watched(64);
    let start = Instant::now();
    let captured = [0, 40, 47, 130, 131, 400].map(|ms| start + Duration::from_millis(ms));
    for (number, at) in captured.into_iter().enumerate() {
        camera.put_at(at);
        wait_until("it is encoded", || camera.track.stats().frames_encoded == number as u64 + 1);
    }
    // Only now is anything read: all six have waited.
    for at in captured {
        let burst = camera.burst();
        assert_eq!(burst.meta().times.captured, at);
        assert_eq!(burst.meta().rtp_time, RtpTime::from_span(at - start));
    }
}

/// Every encoder began with a black frame, in the size of the process's first track.
#[test]
fn fault_19_nothing_comes_out_before_a_frame_goes_in_and_the_first_is_that_frame_in_its_own_size() {
    let scene = Scene::new();
    let (mut first, mut second) = (scene.watched(64), scene.watched(320));
    assert!(first.frame());
    scene.weigh(&[(&first, 0.0)]).unwrap();
    assert!(!first.frame());
    scene.weigh(&[(&first, 1.0)]).unwrap();
    assert!(second.bursts.try_recv().is_err());
    assert!(second.frame() && first.frame());
    let burst = second.burst();
    assert_eq!(burst.meta().resolution.unwrap().width(), 320);
    assert!(burst.meta().key_frame && burst.meta().first_packet == 0);
    let ids: Vec<_> = [first.burst(), first.burst()].iter().map(|burst| burst.meta().first_packet).collect();
    assert_eq!(ids, [0, 1], "one burst a frame that went in while something was allotted");
}

/// One stalled camera hid behind another that was well, and no track was ever called limited by the bandwidth.
#[test]
fn fault_21_each_track_has_its_own_health_and_says_truly_what_limits_it() {
    let scene = Scene::new();
    let (mut well, mut stalled, mut idle) = (scene.watched(64), scene.watched(128), scene.camera(192, config()));
    assert!(well.frame() && stalled.frame() && !idle.frame());
    let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(5));
    let health = |track: &lenscast_sender::Track, at| track.health(at);
    assert_eq!(health(&idle.track, now), Health::Idle);
    assert_eq!(health(&stalled.track, now), Health::Encoding);
    let fresh = scene.watched(256);
    assert_eq!(health(&fresh.track, now), Health::Starting, "no frame has come yet");
    assert!(matches!(health(&fresh.track, later), Health::Stalled(_)));
    let gate = Gate::new();
    *scene.script.encode_gate.lock().unwrap() = Some((128, std::sync::Arc::clone(&gate)));
    stalled.put();
    gate.wait_for_somebody();
    assert!(well.frame());
    assert_eq!(health(&well.track, Instant::now()), Health::Encoding);
    assert!(matches!(health(&stalled.track, later), Health::Stalled(span) if span >= Duration::from_secs(2)));
    assert_eq!(health(&idle.track, later), Health::Idle);
    gate.open();

    assert_eq!(well.track.stats().quality_limitation.reason, LimitationReason::None);
    scene.limit(kbps(600));
    assert!(well.frame());
    let limitation = well.track.stats().quality_limitation;
    assert_eq!(limitation.reason, LimitationReason::Bandwidth);
    scene.limit(kbps(60_000));
    assert!(well.frame());
    let limitation = well.track.stats().quality_limitation;
    assert_eq!(limitation.reason, LimitationReason::None);
    assert!(limitation.bandwidth > Duration::ZERO, "{limitation:?}");
}
