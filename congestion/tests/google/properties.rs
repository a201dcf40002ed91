//! What holds whatever comes in.

use std::time::{Duration, Instant};

use lenscast_congestion::{
    EstimateBounds, GoogleController, NetworkController, NetworkEstimate, PacketKind, PacketReport, ProbeCluster,
    ProbeId, SentPacket,
};
use lenscast_media::Bitrate;
use proptest::prelude::*;

use crate::trial::start;

/// A packet of a message: its number, its size, how long ago it was sent, when it arrived, its probe, its mark.
type Reported = (u64, u32, u64, Option<u64>, Option<u32>, bool);

#[derive(Debug, Clone)]
enum Event {
    Sent { size: u32, probe: Option<u32> },
    Feedback(Vec<Reported>),
    Wanted(u64),
    Bounds(u64, u64, u64),
    Timeout,
}

fn any_reported() -> impl Strategy<Value = Reported> {
    let received = prop_oneof![2 => (0..100_000_u64).prop_map(Some), 1 => any::<u64>().prop_map(Some), 1 => Just(None)];
    (
        0..1_000_u64,
        prop_oneof![0..1_500_u32, any::<u32>()],
        0..100_000_u64,
        received,
        prop::option::of(0..8_u32),
        any::<bool>(),
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..2_000_u32, prop::option::of(0..8_u32)).prop_map(|(size, probe)| Event::Sent { size, probe }),
        4 => prop::collection::vec(any_reported(), 0..40).prop_map(Event::Feedback),
        1 => any::<u64>().prop_map(Event::Wanted),
        1 => (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(min, first, max)| Event::Bounds(min, first, max)),
        2 => Just(Event::Timeout),
    ]
}

/// Milliseconds until each event: mostly little, now and then years.
fn any_events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let gap = prop_oneof![8 => 0..100_u64, 1 => 0..10_000_u64, 1 => 0..100_000_000_000_u64];
    prop::collection::vec((gap, any_event()), 0..80)
}

fn packet(sequence: u64, size: u32, sent_at: Instant, probe: Option<u32>) -> SentPacket {
    SentPacket { sequence, size, sent_at, kind: PacketKind::Video, probe: probe.map(ProbeId) }
}

fn play(events: &[(u64, Event)]) -> Vec<(NetworkEstimate, Vec<ProbeCluster>)> {
    let kbps = Bitrate::from_kbps;
    let mut bounds = EstimateBounds { min: kbps(30), start: kbps(300), max: kbps(50_000) };
    let mut controller = GoogleController::new(start(), bounds);
    let mut now = start();
    let mut seen = Vec::new();
    for (sequence, (gap, event)) in events.iter().enumerate() {
        now += Duration::from_millis(*gap);
        match event {
            Event::Sent { size, probe } => controller.handle_sent(packet(sequence as u64, *size, now, *probe)),
            Event::Feedback(reported) => {
                let reports: Vec<_> = reported
                    .iter()
                    .map(|&(sequence, size, ago, received, probe, congestion_experienced)| PacketReport {
                        sent: packet(sequence, size, now.checked_sub(Duration::from_millis(ago)).unwrap_or(now), probe),
                        received_at: received.map(Duration::from_millis),
                        congestion_experienced,
                    })
                    .collect();
                controller.handle_feedback(now, &reports);
            }
            Event::Wanted(bps) => controller.set_wanted(now, Bitrate::from_bps(*bps)),
            Event::Bounds(min, first, max) => {
                let bps = Bitrate::from_bps;
                bounds = EstimateBounds { min: bps(*min), start: bps(*first), max: bps(*max) };
                controller.set_bounds(now, bounds);
            }
            Event::Timeout => controller.handle_timeout(now),
        }
        let probes: Vec<_> = std::iter::from_fn(|| controller.poll_probe()).collect();
        let estimate = controller.estimate();
        let min = bounds.min.max(kbps(5));
        assert!(estimate.target >= min && estimate.target <= bounds.max.max(min), "{estimate:?} in {bounds:?}");
        assert!(estimate.padding <= estimate.target && estimate.target <= estimate.pacing, "{estimate:?}");
        assert!((0.0..=1.0).contains(&estimate.loss), "{estimate:?}");
        assert!(probes.len() <= 4 && probes.iter().all(|probe| probe.bitrate <= bounds.max.max(min)), "{probes:?}");
        seen.push((estimate, probes));
    }
    // Timeouts pass: there is always an end to what is to be done now.
    if controller.poll_timeout().is_some_and(|at| at <= now) {
        controller.handle_timeout(now);
        assert!(controller.poll_timeout().is_none_or(|at| at > now), "a timeout that does not pass");
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stays_within_bounds_whatever_comes_in(events in any_events()) {
        play(&events);
    }

    #[test]
    fn does_the_same_again(events in any_events()) {
        prop_assert_eq!(play(&events), play(&events));
    }
}
