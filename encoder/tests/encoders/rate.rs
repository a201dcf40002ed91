//! The rate control keeps its word.

use std::time::Duration;

use lenscast_encoder::Backend;
use lenscast_media::Resolution;

use crate::content::{Reel, grainy, noise, pattern};
use crate::stream::{IN_PLACE, Stream, size};

/// Encodes `span` of `reel`; gives the mean rate in kb/s. `steps` are the times between frames, over and over.
fn mean_kbps(stream: &mut Stream, reel: &Reel, span: Duration, steps: &[Duration]) -> f64 {
    let until = stream.now + span;
    let begin = stream.now;
    let mut bytes = 0;
    for frame in 0.. {
        if stream.now >= until {
            break;
        }
        let step = steps[frame as usize % steps.len()];
        let coded = stream.encode_after(reel.picture(frame), false, step).unwrap();
        bytes += coded.map_or(0, |coded| coded.data.len());
    }
    bytes as f64 * 8.0 / 1_000.0 / (stream.now - begin).as_secs_f64()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn every(frames_a_second: f64) -> Vec<Duration> {
    vec![Duration::from_secs_f64(1.0 / frames_a_second)]
}

fn assert_near(measured: f64, target: u64, tolerance: f64, what: &str) {
    let error = measured / target as f64 - 1.0;
    assert!(error.abs() <= tolerance, "{what}: {measured:.0} kb/s at a target of {target}");
}

/// Content that can use up, and make do with, the rates of these tests.
fn lively(resolution: Resolution) -> Reel {
    Reel::new(40, |frame| grainy(resolution, frame, 8))
}

#[test]
fn the_mean_meets_the_target_up_and_down_at_every_frame_rate() {
    let resolution = size(192, 108);
    let reel = lively(resolution);
    for backend in IN_PLACE {
        for framerate in [5.0, 15.0, 30.0, 60.0, 120.0] {
            let mut stream = Stream::new(backend, resolution, framerate, 120);
            for kbps in [120, 60, 300, 90] {
                stream.set_kbps(kbps);
                // The first second is the change's own, see below.
                mean_kbps(&mut stream, &reel, secs(1), &every(framerate));
                let measured = mean_kbps(&mut stream, &reel, secs(8), &every(framerate));
                assert_near(measured, kbps, 0.05, &format!("{backend} at {framerate} frames/s"));
            }
        }
    }
}

#[test]
fn the_mean_meets_the_target_when_frames_do_not_come_at_the_nominal_rate() {
    let resolution = size(320, 180);
    let reel = lively(resolution);
    let jitter = [20, 45, 30, 38, 27, 60, 12, 33].map(Duration::from_millis);
    for backend in IN_PLACE {
        for (what, steps) in [("10 frames/s", &every(10.0)[..]), ("55 frames/s", &every(55.0)), ("jitter", &jitter)] {
            let mut stream = Stream::new(backend, resolution, 30.0, 500);
            mean_kbps(&mut stream, &reel, secs(2), steps);
            let measured = mean_kbps(&mut stream, &reel, secs(8), steps);
            assert_near(measured, 500, 0.05, &format!("{backend}, nominally 30 frames/s, really {what}"));
        }
    }
}

#[test]
fn a_fall_of_the_target_acts_within_a_second() {
    let resolution = size(320, 180);
    let reel = lively(resolution);
    for backend in IN_PLACE {
        for (from, to) in [(1_500, 300), (800, 400), (500, 450)] {
            let mut stream = Stream::new(backend, resolution, 30.0, from);
            mean_kbps(&mut stream, &reel, secs(5), &every(30.0));
            stream.set_kbps(to);
            let first_second = mean_kbps(&mut stream, &reel, secs(1), &every(30.0));
            assert!(first_second <= 1.2 * to as f64, "{backend}, {from} to {to} kb/s: {first_second:.0} kb/s");
        }
    }
}

#[test]
fn a_target_set_before_the_first_frame_holds_from_the_first_frame() {
    let resolution = size(320, 180);
    let reel = lively(resolution);
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 3_000);
        stream.set_kbps(300);
        let measured = mean_kbps(&mut stream, &reel, secs(6), &every(30.0));
        assert_near(measured, 300, 0.05, &backend.to_string());
    }
}

#[test]
fn what_cannot_be_coded_at_the_target_is_dropped() {
    let resolution = size(192, 108);
    let reel = Reel::new(8, |frame| noise(resolution, u64::from(frame)));
    for backend in IN_PLACE {
        let mut stream = Stream::new(backend, resolution, 30.0, 100);
        let (mut bytes, mut dropped) = (0, 0);
        for frame in 0..1_800 {
            match stream.encode(reel.picture(frame), false) {
                Some(coded) => bytes += coded.data.len(),
                None => dropped += 1,
            }
        }
        let kbps = bytes as f64 * 8.0 / 1_000.0 / 60.0;
        assert!(dropped > 900, "{backend}: {dropped} of 1800 dropped, so the content fits and this tests nothing");
        assert!(kbps <= 105.0, "{backend}: {kbps:.0} kb/s over a minute at a target of 100");
    }
}

#[test]
fn a_change_of_the_target_has_settled_after_a_second_down_and_two_up() {
    let resolution = size(320, 180);
    let reel = lively(resolution);
    for backend in IN_PLACE {
        for (from, to) in [(1_000, 500), (1_500, 400), (500, 1_000), (300, 900)] {
            let mut stream = Stream::new(backend, resolution, 30.0, from);
            mean_kbps(&mut stream, &reel, secs(5), &every(30.0));
            stream.set_kbps(to);
            mean_kbps(&mut stream, &reel, secs(if to < from { 1 } else { 2 }), &every(30.0));
            for second in 0..3 {
                let measured = mean_kbps(&mut stream, &reel, secs(1), &every(30.0));
                assert_near(measured, to, 0.1, &format!("{backend}, from {from} kb/s, second {second} of the settled"));
            }
        }
    }
}

/// What comes out of any span of time is bounded, so what a viewer's connection must hold is too.
#[test]
fn frames_are_dropped_before_the_budget_breaks() {
    let resolution = size(192, 108);
    let reel = Reel::new(8, |frame| noise(resolution, u64::from(frame)));
    for backend in IN_PLACE {
        for framerate in [10.0, 30.0, 60.0] {
            let mut stream = Stream::new(backend, resolution, framerate, 60);
            let (mut sizes, mut dropped) = (Vec::new(), 0);
            for frame in 0..(30.0 * framerate) as u32 {
                let coded = stream.encode(reel.picture(frame), frame % 250 == 249);
                dropped += u32::from(coded.is_none());
                sizes.push(coded.map_or(0.0, |coded| coded.data.len() as f64 * 8.0));
            }
            assert!(dropped > 30, "{backend}: {dropped} dropped, so the content fits and this tests nothing");
            let largest = sizes.iter().copied().fold(0.0, f64::max);
            let interval = 60_000.0 / framerate;
            // The most that any span exceeds its share by, as the largest sum of consecutive differences.
            let excess = sizes.iter().fold((0.0_f64, 0.0_f64), |(most, run), size| {
                let run = (run + size - interval).max(0.0);
                (most.max(run), run)
            });
            // Debt of 0.4 s, savings of 0.3 s, and the frame that there was just room for.
            let bound = 0.7 * 60_000.0 + largest;
            assert!(excess.0 <= bound, "{backend} at {framerate}: {:.0} bits beyond, {bound:.0} at most", excess.0);
        }
    }
}

#[test]
fn the_fallback_follows_its_target_roughly() {
    let resolution = size(320, 180);
    let reel = Reel::new(40, |frame| pattern(resolution, frame));
    let mut stream = Stream::new(Backend::VpxEncode, resolution, 30.0, 800);
    let high = mean_kbps(&mut stream, &reel, secs(6), &every(30.0));
    stream.set_kbps(100);
    let low = mean_kbps(&mut stream, &reel, secs(6), &every(30.0));
    assert!((400.0..1_600.0).contains(&high) && (50.0..250.0).contains(&low), "{high:.0}, {low:.0} kb/s");
}
