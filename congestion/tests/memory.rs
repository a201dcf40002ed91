//! An allocator of bitrates that knows its tracks allocates no memory.
//!
//! A binary of its own with one test, so that no other test's memory is in the figure.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lenscast_congestion::{Allocation, Allocator, Budget, Demand, Layers, Overhead, ShareState};
use lenscast_media::{Bitrate, TrackId};

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

/// Through every way: all fit, some pause and resume, weights change places, and demands come in another order.
#[test]
fn an_update_allocates_nothing_once_the_tracks_are_known() {
    let demand = |track| Demand {
        track: TrackId(track),
        weight: f64::from(track + 1),
        min: Bitrate::from_kbps(100),
        max: Bitrate::from_kbps(2_000),
        active: true,
        enforced: false,
        framerate: 30.0,
        layers: Layers::one(),
    };
    let mut demands: Vec<Demand> = (0..64).map(demand).collect();
    let overhead = Overhead { packet_bytes: 60, payload_bytes: 1_150, retransmission: 0.1, fec: 0.0, audio: true };
    let mut allocator = Allocator::new();
    let mut allocation = Allocation::default();
    let mut paused = 0;
    let mut round = || {
        for total in [100_000, 3_000, 20_000, 200_000] {
            let budget = Budget { total: Bitrate::from_kbps(total), overhead };
            allocator.update(&budget, &demands, &mut allocation);
            paused += allocation.shares().iter().filter(|share| share.state == ShareState::Paused).count();
            demands.reverse();
            demands[7].weight = 1.0 + demands[7].weight % 50.0;
        }
    };
    round();
    let before = ALLOCATIONS.get();
    (0..10).for_each(|_| round());
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(paused > 0);
}
