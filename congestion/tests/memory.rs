//! What allocates no memory in the long run: an allocator of bitrates that knows its tracks, and the way of a packet through
//! pacer and history, with feedback about it.
//!
//! A binary of its own that counts by thread, so that no other test's memory is in the figure.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use std::time::{Duration, Instant};

use lenscast_congestion::{
    Allocation, Allocator, Budget, Demand, Layers, Overhead, PacedContent, Pacer, PacketKind, ProbeCluster, ProbeId,
    SentHistory, ShareState, TransportFeedback,
};
use lenscast_media::{Bitrate, Ssrc, TrackId};

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

/// Frames of four packets through the queue, some at once, probes and padding, every 50 ms feedback that misses one in 16.
#[test]
#[allow(clippy::disallowed_methods)]
fn a_packet_allocates_nothing_once_the_queues_are_as_long_as_they_get() {
    let mut now = Instant::now();
    let mut pacer = Pacer::new(now);
    pacer.set_rates(now, Bitrate::from_kbps(3_000), Bitrate::from_kbps(1_200));
    let mut history = SentHistory::new();
    let mut reports = Vec::new();
    let (mut sequence, mut reported, mut lost) = (0, 0_u16, 0);
    let mut seconds = |count: u32, reports: &mut Vec<_>| {
        for millis in 0..count * 1_000 {
            now += Duration::from_millis(1);
            if millis % 40 == 0 && !pacer.takes_at_once(now, 4_800) {
                (0..4).for_each(|_| assert_eq!(pacer.push(now, PacketKind::Video, 1_200, ()), None));
            }
            if millis % 1_000 == 0 {
                let bitrate = Bitrate::from_kbps(6_000);
                pacer.add_probe(now, ProbeCluster { id: ProbeId(millis), bitrate, min_packets: 5, min_bytes: 9_000 });
            }
            while let Some(paced) = pacer.poll(now) {
                if let PacedContent::Padding { bytes } = paced.content {
                    pacer.note_sent(now, u64::from(bytes), PacketKind::Padding);
                }
                sequence = history.record_rtp(paced.kind, paced.size, now, paced.probe, Ssrc(7), sequence);
            }
            let news = sequence.wrapping_sub(reported);
            if millis % 50 == 0 && news > 0 {
                let [base, count] = [reported, news].map(u16::to_be_bytes);
                let mut fci = [0; 10 + 256];
                fci[..4].copy_from_slice(&[base[0], base[1], count[0], count[1]]);
                // All of them came, but sometimes none did.
                fci[8..10].copy_from_slice(&(if millis % 800 == 0 { news } else { 0x2000 | news }).to_be_bytes());
                reports.clear();
                history.handle_twcc(now, &TransportFeedback::parse(&fci).expect("it is feedback"), reports);
                lost += reports.iter().filter(|report| report.received_at.is_none()).count();
                reported = sequence;
            }
        }
    };
    // What was lost is remembered for a minute.
    seconds(70, &mut reports);
    let before = ALLOCATIONS.get();
    seconds(100, &mut reports);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(lost > 1_000);
}
