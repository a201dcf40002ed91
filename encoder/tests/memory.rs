//! A running encoder allocates nothing of its own for a frame, and a dropped one keeps nothing.
//!
//! A binary of its own with one test, so that no other test's memory is in the figures.

#![cfg(all(feature = "vpx", feature = "h264"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::time::Duration;

use lenscast_encoder::{Backend, EncoderSettings, FrameTiming, TemporalLayers, build};
use lenscast_media::{Bitrate, Picture, Resolution};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises hold for the system's allocator too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer came from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_running_encoder_allocates_nothing_and_a_dropped_one_keeps_nothing() {
    frames_and_rate_changes_allocate_nothing_once_the_stream_runs();
    dropping_an_encoder_in_any_state_gives_its_memory_back();
}

/// What the C libraries do with `malloc` is not seen here.
fn frames_and_rate_changes_allocate_nothing_once_the_stream_runs() {
    let resolution = Resolution::new(320, 180).unwrap();
    let pictures: Vec<_> = (0..8).map(|frame| stripes(resolution, frame)).collect();
    for backend in [Backend::Vp8, Backend::Vp9, Backend::H264] {
        let bitrate = Bitrate::from_kbps(400);
        let mut encoder = build(&EncoderSettings {
            backend,
            resolution,
            framerate: 30.0,
            bitrate,
            temporal_layers: TemporalLayers::One,
        })
        .unwrap();
        let step = Duration::from_millis(33);
        let mut encode = |frame: u32| {
            let timing = FrameTiming { timestamp: step * frame, duration: step };
            encoder.set_bitrate(Bitrate::from_kbps(400 - u64::from(frame % 2))).unwrap();
            encoder.encode(&pictures[frame as usize % 8], timing, frame.is_multiple_of(25)).unwrap().is_some()
        };
        // The output buffer grows to the largest frame, a key frame.
        let warm_up = (0..60).filter(|&frame| encode(frame)).count();
        let before = ALLOCATIONS.get();
        let frames = (60..260).filter(|&frame| encode(frame)).count();
        assert_eq!(ALLOCATIONS.get() - before, 0, "{backend}");
        assert!(warm_up > 30 && frames > 100, "{backend}: {warm_up} and {frames} frames");
    }
}

fn dropping_an_encoder_in_any_state_gives_its_memory_back() {
    let resolution = Resolution::new(1280, 720).unwrap();
    let picture = stripes(resolution, 0);
    let timing = FrameTiming { timestamp: Duration::ZERO, duration: Duration::from_millis(33) };
    for backend in Backend::ALL {
        let life = |round: u32| {
            let bitrate = Bitrate::from_kbps(1_500);
            let settings =
                EncoderSettings { backend, resolution, framerate: 30.0, bitrate, temporal_layers: TemporalLayers::One };
            drop(build(&settings).unwrap());
            let mut encoder = build(&settings).unwrap();
            encoder.encode(&picture, timing, false).unwrap();
            if round.is_multiple_of(2) {
                encoder.set_bitrate(Bitrate::from_kbps(500)).unwrap();
            }
            let wrong = Picture::black(Resolution::new(16, 16).unwrap());
            encoder.encode(&wrong, timing, true).unwrap_err();
        };
        // What the libraries and the allocator keep for good.
        (0..3).for_each(life);
        let before = resident_megabytes();
        (0..12).for_each(life);
        let grown = resident_megabytes().saturating_sub(before);
        // An encoder of this size is 15 to 60 MB: a leak of every second one would be 90 MB at least.
        assert!(grown < 80, "{backend}: grown by {grown} MB over 24 encoders");
    }
}

fn resident_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1_024
}

/// Vertical stripes that move.
fn stripes(resolution: Resolution, frame: usize) -> Picture {
    let mut picture = Picture::black(resolution);
    for (index, luma) in picture.planes_mut().y.iter_mut().enumerate() {
        *luma = ((index + frame * 3) % 64) as u8 * 2 + 60;
    }
    picture
}
