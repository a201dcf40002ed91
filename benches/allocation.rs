//! What it costs to divide the bandwidth: of a sender whose tracks are all wanted, at a new estimate each time.
//!
//! `update/N` is `Sender::update_bitrate` with N tracks; `set/N` is `Sender::set_bitrate_allocation` with a weight for each.
//! Before it measures, it counts the memory allocations of an update, which must be none.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lenscast_encoder::{Backend, TemporalLayers};
use lenscast_media::{Bitrate, Burst, TrackId};
use lenscast_sender::{
    BurstSink, DEFAULT_MIN, DegradationPreference, Demand, Sender, TrackConfig, TrackControl, TrackShare,
};

const TRACKS: [u32; 4] = [1, 4, 14, 64];

#[global_allocator]
static ALLOCATOR: Counting = Counting(AtomicU64::new(0));

/// The system's allocator, with a count of the calls of threads that count.
struct Counting(AtomicU64);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.try_with(Cell::get).unwrap_or(false) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the system's allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

struct Nowhere;

impl BurstSink for Nowhere {
    fn deliver(&self, _: usize, _: &Arc<Burst>) -> bool {
        true
    }
}

/// A sender of `tracks` tracks that somebody wants each.
fn sender(tracks: u32) -> (Sender, Vec<Demand>) {
    let sender = Sender::new();
    let config = TrackConfig {
        backend: Backend::Vp8,
        framerate: 30.0,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation: DegradationPreference::Balanced,
        share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(2_500), enforced: false },
    };
    let demands = (0..tracks).map(|_| {
        let track = sender.add_track(config, TrackControl::new(), Box::new(Nowhere)).expect("it is legal");
        track.control().subscribe(0)
    });
    let demands = demands.collect();
    (sender, demands)
}

/// Estimates of which no two in a row are alike: so every update changes every target.
fn estimates(tracks: u32) -> impl Iterator<Item = Bitrate> {
    [600, 1_200].into_iter().cycle().map(move |kbps| Bitrate::from_kbps(kbps * u64::from(tracks)))
}

fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    for tracks in TRACKS {
        let (sender, _demands) = sender(tracks);
        let mut estimates = estimates(tracks);
        let mut update = || sender.update_bitrate(estimates.next().expect("they go on")).expect("it is open");
        (0..10).for_each(|_| update());
        let before = ALLOCATOR.0.load(Ordering::Relaxed);
        COUNTS.set(true);
        (0..1_000).for_each(|_| update());
        COUNTS.set(false);
        assert_eq!(ALLOCATOR.0.load(Ordering::Relaxed), before, "an update allocates no memory");
        group.bench_function(BenchmarkId::from_parameter(tracks), |b| b.iter(&mut update));
    }
    group.finish();
}

fn set(c: &mut Criterion) {
    let mut group = c.benchmark_group("set");
    for tracks in TRACKS {
        let (sender, _demands) = sender(tracks);
        sender.update_bitrate(Bitrate::from_kbps(1_000 * u64::from(tracks))).expect("it is open");
        let weights = [1.0, 4.0]
            .map(|first| (0..tracks).map(|id| (TrackId(id), if id == 0 { first } else { 1.0 })).collect::<Vec<_>>());
        let mut weights = weights.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(tracks), |b| {
            b.iter(|| black_box(sender.set_bitrate_allocation(weights.next().map(|weights| &weights[..])).is_ok()));
        });
    }
    group.finish();
}

criterion_group!(benches, update, set);
criterion_main!(benches);
