//! The pacer against a driver that does as it likes, and in single steps.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lenscast_congestion::{Paced, PacedContent, Pacer, PacketKind, ProbeCluster, ProbeId};
use lenscast_media::Bitrate;
use proptest::prelude::*;

const KINDS: [PacketKind; 5] =
    [PacketKind::Audio, PacketKind::Retransmission, PacketKind::Video, PacketKind::Fec, PacketKind::Padding];
const BURST_INTERVAL: Duration = Duration::from_millis(40);
const MAX_BURST: u64 = 63_000;
const MTU: u64 = 1_500;

/// What a rate carries, exactly: in bits × nanoseconds a second.
fn units_in(rate: Bitrate, span: Duration) -> u128 {
    u128::from(rate.as_bps()) * span.as_nanos()
}

fn units_of(bytes: u64) -> u128 {
    u128::from(bytes) * 8_000_000_000
}

/// What left.
#[derive(Debug, Clone, Copy)]
struct Left {
    at: Instant,
    kind: PacketKind,
    size: u64,
    probe: Option<ProbeId>,
    item: Option<u32>,
}

/// Does what a driver does, and holds against what was promised.
struct Driver {
    now: Instant,
    pacer: Pacer<u32>,
    pacing: Bitrate,
    /// What paced packets alone owe.
    level: u128,
    left: Vec<Left>,
    /// With when the first packet left, how many bytes left, and how many packets.
    probes: BTreeMap<ProbeId, (ProbeCluster, Option<Instant>, u64, u32)>,
    pushed: u32,
    removed: usize,
    rejected: usize,
    /// What it does when it is asked for padding, in turn: how many bytes it sends of those asked for, in percent.
    padding: Vec<u64>,
    asked: usize,
}

impl Driver {
    fn new(start: Instant, padding: Vec<u64>) -> Self {
        Self {
            now: start,
            pacer: Pacer::new(start),
            pacing: Bitrate::ZERO,
            level: 0,
            left: Vec::new(),
            probes: BTreeMap::new(),
            pushed: 0,
            removed: 0,
            rejected: 0,
            padding,
            asked: 0,
        }
    }

    fn set_rates(&mut self, pacing: Bitrate, padding: Bitrate) {
        self.pacing = pacing;
        self.pacer.set_rates(self.now, pacing, padding);
        self.forgive();
    }

    fn push(&mut self, kind: PacketKind, size: u32) {
        match self.pacer.push(self.now, kind, size, self.pushed) {
            None => {}
            Some(item) => {
                assert_eq!(item, self.pushed);
                self.rejected += 1;
            }
        }
        self.pushed += 1;
        self.forgive();
    }

    fn add_probe(&mut self, cluster: ProbeCluster) {
        self.probes.insert(cluster.id, (cluster, None, 0, 0));
        self.pacer.add_probe(self.now, cluster);
    }

    fn send_at_once(&mut self, bytes: u64) {
        if self.pacer.takes_at_once(self.now, bytes) {
            assert_eq!(self.pacer.queued_packets(), 0);
            assert!(units_of(bytes) <= units_in(self.pacer.rate(), Duration::from_millis(5)));
            self.note(bytes, PacketKind::Video, None, None, self.burst());
            self.pacer.note_sent(self.now, bytes, PacketKind::Video);
        }
    }

    /// Lets time pass, polls when the pacer wants it, and `late` after that.
    fn run(&mut self, until: Instant, late: Duration) {
        self.poll_all();
        while let Some(next) = self.pacer.poll_timeout() {
            let next = next.max(self.now) + late;
            if next > until {
                break;
            }
            self.pass_to(next);
            self.poll_all();
        }
        self.pass_to(until);
    }

    fn pass_to(&mut self, now: Instant) {
        let span = now.duration_since(self.now);
        self.level = self.level.saturating_sub(units_in(self.pacer.rate(), span));
        self.now = now;
    }

    fn poll_all(&mut self) {
        let before = self.left.len() + self.asked;
        loop {
            let burst = self.burst();
            let was_empty = self.pacer.queued_packets() == 0;
            let Some(Paced { kind, size, probe, content }) = self.pacer.poll(self.now) else { break };
            match content {
                PacedContent::Item(item) => self.note(u64::from(size), kind, probe, Some(item), burst),
                PacedContent::Padding { bytes } => {
                    assert!(was_empty, "there was something else");
                    assert!(self.left.iter().any(|left| left.kind != PacketKind::Padding), "nothing left before");
                    let percent = self.padding[self.asked % self.padding.len()];
                    self.asked += 1;
                    let mut bytes = u64::from(bytes) * percent / 100;
                    while bytes > 0 {
                        let packet = bytes.min(1_200);
                        self.note(packet, PacketKind::Padding, probe, None, u128::MAX);
                        self.pacer.note_sent(self.now, packet, PacketKind::Padding);
                        bytes -= packet;
                    }
                }
            }
            self.forgive();
            assert!(self.left.len() + self.asked - before < 100_000, "it does not end");
        }
        self.forgive();
        let next = self.pacer.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "it had nothing, and wants to be polled at once");
        if let Some(since) = self.pacer.oldest_since()
            && self.now - since < Duration::from_secs(1)
        {
            let short = Bitrate::from_bps(self.pacer.queued_bytes() * 8 + 1);
            assert!(self.pacer.rate() <= self.pacing.max(short), "no faster than the queue needs");
        }
    }

    fn burst(&self) -> u128 {
        units_in(self.pacer.rate(), BURST_INTERVAL).min(units_of(MAX_BURST))
    }

    /// No more than half a second or a packet is remembered.
    fn forgive(&mut self) {
        let most = units_in(self.pacer.rate(), Duration::from_millis(500)).max(units_of(MTU));
        self.level = self.level.min(most);
    }

    /// Something leaves: if it is paced, then there is room in the burst for at least its first byte.
    fn note(&mut self, size: u64, kind: PacketKind, probe: Option<ProbeId>, item: Option<u32>, burst: u128) {
        self.left.push(Left { at: self.now, kind, size, probe, item });
        if let Some(probe) = probe {
            let (cluster, start, bytes, packets) = self.probes.get_mut(&probe).expect("it was asked for");
            let complete = *bytes >= cluster.min_bytes && *packets >= cluster.min_packets;
            assert!(!complete || item.is_none(), "only padding that was asked for at once goes on");
            let span = self.now - *start.get_or_insert(self.now);
            let burst = cluster.bitrate.bytes_in(Duration::from_millis(2)).clamp(1, MAX_BURST);
            assert!(
                item.is_none() || units_of(*bytes) < units_in(cluster.bitrate, span) + units_of(burst),
                "the burst was complete"
            );
            *bytes += size;
            *packets += 1;
        } else if kind != PacketKind::Audio {
            assert!(self.level == 0 || self.level < burst, "{} bytes too many", (self.level - burst) / 8_000_000_000);
            self.level += units_of(size);
        }
    }

    fn check_order(&self) {
        for kind in KINDS {
            let items: Vec<u32> =
                self.left.iter().filter(|left| left.kind == kind).filter_map(|left| left.item).collect();
            assert!(items.is_sorted(), "{kind:?} out of order");
        }
        let items = self.left.iter().filter(|left| left.item.is_some()).count();
        let accounted = items + self.removed + self.rejected + self.pacer.queued_packets();
        assert_eq!(accounted, self.pushed as usize, "nothing is lost");
        assert_eq!(self.pacer.rejected(), self.rejected as u64);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Run { micros: u64, late: u64 },
    Push { kind: usize, size: u32, count: usize },
    AtOnce { bytes: u64 },
    Rates { pacing: u64, padding: u64 },
    Probe { kbps: u64, packets: u32, bytes: u64 },
    ClearKind(usize),
    Retain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..100_000, prop_oneof![Just(0_u64), 0..4_000_u64])
            .prop_map(|(micros, late)| Step::Run { micros, late }),
        6 => (0..KINDS.len(), 1..=MTU as u32, 1_usize..30).prop_map(|(kind, size, count)| Step::Push { kind, size, count }),
        2 => (1..10_000_u64).prop_map(|bytes| Step::AtOnce { bytes }),
        1 => (300..3_000_u64, 0..400_u64).prop_map(|(pacing, padding)| Step::Rates { pacing, padding }),
        1 => (50..10_000_u64, 1..12_u32, 1..20_000_u64)
            .prop_map(|(kbps, packets, bytes)| Step::Probe { kbps, packets, bytes }),
        1 => (0..KINDS.len()).prop_map(Step::ClearKind),
        1 => Just(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_beyond_the_budget_nor_out_of_order_nor_is_lost(
        steps in prop::collection::vec(step(), 1..60),
        padding in prop::collection::vec(prop_oneof![Just(0_u64), Just(100), 1..300_u64], 1..5),
    ) {
        let start = Instant::now();
        let mut driver = Driver::new(start, padding);
        driver.set_rates(Bitrate::from_kbps(1_000), Bitrate::ZERO);
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Run { micros, late } => {
                    let until = driver.now + Duration::from_micros(micros);
                    driver.run(until, Duration::from_micros(late));
                }
                Step::Push { kind, size, count } => (0..count).for_each(|_| driver.push(KINDS[kind], size)),
                Step::AtOnce { bytes } => driver.send_at_once(bytes),
                Step::Rates { pacing, padding } => driver.set_rates(Bitrate::from_kbps(pacing), Bitrate::from_kbps(padding)),
                Step::Probe { kbps, packets, bytes } => driver.add_probe(ProbeCluster {
                    id: ProbeId(number), bitrate: Bitrate::from_kbps(kbps), min_packets: packets, min_bytes: bytes,
                }),
                Step::ClearKind(kind) => driver.removed += driver.pacer.clear_kind(KINDS[kind]),
                Step::Retain => driver.removed += driver.pacer.retain(|_, item| item % 7 != 0),
            }
            driver.forgive();
            driver.check_order();
        }
        let now = driver.now;
        driver.run(now + Duration::from_secs(3), Duration::ZERO);
        prop_assert_eq!(driver.pacer.queued_packets(), 0, "the queue empties");
        prop_assert_eq!(driver.pacer.queued_bytes(), 0);
        driver.check_order();
    }

    #[test]
    fn any_numbers_at_any_times_are_survived(
        steps in prop::collection::vec((0_u8..9, any::<u64>(), any::<u32>(), -1_000_000_i64..3_000_000), 0..80)
    ) {
        let start = Instant::now();
        let mut now = start + Duration::from_secs(3_600);
        let mut latest = now;
        let mut pacer = Pacer::new(now);
        for (op, long, short, micros) in steps {
            let span = Duration::from_micros(micros.unsigned_abs());
            now = if micros < 0 { now - span } else { now + span };
            latest = latest.max(now);
            let kind = KINDS[short as usize % KINDS.len()];
            match op {
                0 => pacer.set_rates(now, Bitrate::from_bps(long), Bitrate::from_bps(u64::from(short))),
                1..=3 => { let _ = pacer.push(now, kind, short, ()); }
                4 => pacer.add_probe(now, ProbeCluster {
                    id: ProbeId(short), bitrate: Bitrate::from_bps(long), min_packets: short % 20, min_bytes: long,
                }),
                5 => { let _ = pacer.takes_at_once(now, long); }
                6 => pacer.note_sent(now, long, kind),
                7 => pacer.set_burst_interval(Duration::from_nanos(long)),
                _ => drop(pacer.clear_kind(kind)),
            }
            for turn in 0.. {
                prop_assert!(turn < 10_000, "it does not end");
                let Some(paced) = pacer.poll(now) else { break };
                if let PacedContent::Padding { bytes } = paced.content {
                    prop_assert!(bytes > 0);
                    if short.is_multiple_of(2) {
                        pacer.note_sent(now, u64::from(bytes), PacketKind::Padding);
                    }
                }
            }
            prop_assert!(pacer.poll_timeout().is_none_or(|next| next > latest));
            let _ = (pacer.queue_delay(), pacer.queued_bytes(), pacer.is_probing());
        }
    }
}

fn paced_at(start: Instant, kbps: u64, padding: u64) -> Driver {
    let mut driver = Driver::new(start, vec![100]);
    driver.set_rates(Bitrate::from_kbps(kbps), Bitrate::from_kbps(padding));
    driver
}

#[test]
fn a_frame_that_fits_the_burst_leaves_at_once_and_a_longer_one_in_bursts() {
    let start = Instant::now();
    let mut driver = paced_at(start, 2_400, 0);
    (0..30).for_each(|_| driver.push(PacketKind::Video, 1_200));
    driver.run(start + Duration::from_millis(200), Duration::ZERO);
    let times: Vec<u128> = driver.left.iter().map(|left| (left.at - start).as_millis()).collect();
    assert_eq!(times, [[0; 10], [40; 10], [80; 10]].concat(), "12 kB are 40 ms");
}

#[test]
fn a_long_queue_is_empty_within_two_seconds() {
    let start = Instant::now();
    let mut driver = paced_at(start, 100, 0);
    (0..500).for_each(|_| driver.push(PacketKind::Video, 1_000));
    assert_eq!(driver.pacer.rate(), Bitrate::from_kbps(2_000), "500 kB in 2 s");
    driver.run(start + Duration::from_secs(4), Duration::ZERO);
    let last = driver.left.last().expect("all have left").at - start;
    assert_eq!(driver.left.len(), 500);
    assert!((1_800..=2_000).contains(&last.as_millis()), "{last:?}");
}

#[test]
fn a_full_queue_gives_packets_back_but_takes_audio() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    pacer.set_rates(start, Bitrate::from_kbps(1_000), Bitrate::ZERO);
    let taken = (0..20_000).filter(|item| pacer.push(start, PacketKind::Video, 1_000, *item).is_none()).count();
    assert_eq!((taken, pacer.queued_packets(), pacer.rejected()), (16_384, 16_384, 3_616));
    assert_eq!(pacer.push(start, PacketKind::Audio, 100, 7), None);
    assert_eq!(pacer.poll(start).map(|paced| paced.content), Some(PacedContent::Item(7)));
    let taken = (0..20_000).filter(|item| pacer.push(start, PacketKind::Audio, 100, *item).is_none()).count();
    assert_eq!(taken, 1_024);
    assert_eq!(pacer.clear(), 16_384 + 1_024);
    assert_eq!((pacer.queued_bytes(), pacer.oldest_since()), (0, None));
    let large = (0..100).filter(|item| pacer.push(start, PacketKind::Video, 1 << 20, *item).is_none()).count();
    assert_eq!(large, 32, "32 MiB");
}

#[test]
fn a_probe_waits_for_media_and_then_pads_itself_out_at_its_rate() {
    let start = Instant::now();
    let mut driver = paced_at(start, 300, 0);
    let cluster = ProbeCluster { id: ProbeId(1), bitrate: Bitrate::from_kbps(2_400), min_packets: 5, min_bytes: 4_500 };
    driver.add_probe(cluster);
    driver.run(start + Duration::from_secs(1), Duration::ZERO);
    assert!(driver.left.is_empty(), "nothing before media");
    driver.push(PacketKind::Audio, 100);
    driver.run(start + Duration::from_secs(1), Duration::ZERO);
    let first: Vec<_> = driver.left.iter().map(|left| (left.kind, left.probe)).collect();
    assert_eq!(first[0], (PacketKind::Audio, None), "too small to begin with");
    driver.run(start + Duration::from_secs(2), Duration::ZERO);
    let probes: Vec<_> = driver.left.iter().filter(|left| left.probe == Some(ProbeId(1))).collect();
    let span = probes[probes.len() - 1].at - probes[0].at;
    let bytes: u64 = probes.iter().map(|left| left.size).sum();
    assert_eq!((bytes, probes.len()), (4_800, 8), "600 bytes are 2 ms");
    assert_eq!(span, Duration::from_millis(14));
    assert!(!driver.pacer.is_probing());
}

#[test]
fn a_probe_takes_what_waits_and_nothing_waits_for_a_slow_one() {
    let start = Instant::now();
    let mut driver = paced_at(start, 300, 0);
    driver.add_probe(ProbeCluster { id: ProbeId(1), bitrate: Bitrate::from_kbps(900), min_packets: 5, min_bytes: 1 });
    (0..8).for_each(|_| driver.push(PacketKind::Video, 1_125));
    driver.run(start + Duration::from_millis(45), Duration::ZERO);
    let left: Vec<_> = driver.left.iter().map(|left| ((left.at - start).as_millis(), left.probe)).collect();
    assert_eq!(left, [0, 10, 20, 30, 40].map(|at| (at, Some(ProbeId(1)))));

    let mut driver = paced_at(start, 300, 0);
    driver.add_probe(ProbeCluster { id: ProbeId(2), bitrate: Bitrate::from_kbps(9), min_packets: 5, min_bytes: 1 });
    (0..8).for_each(|_| driver.push(PacketKind::Video, 1_125));
    driver.run(start + Duration::from_millis(300), Duration::ZERO);
    assert_eq!(driver.left.len(), 8, "a second for each packet of the probe");
}

#[test]
fn a_probe_begins_when_the_last_one_has_had_its_time() {
    let start = Instant::now();
    let mut driver = paced_at(start, 300, 0);
    for (id, kbps) in [(1, 2_400), (2, 4_800)] {
        let bitrate = Bitrate::from_kbps(kbps);
        driver.add_probe(ProbeCluster { id: ProbeId(id), bitrate, min_packets: 2, min_bytes: 1 });
    }
    (0..4).for_each(|_| driver.push(PacketKind::Video, 1_200));
    driver.run(start + Duration::from_millis(20), Duration::ZERO);
    let left: Vec<_> = driver.left.iter().map(|left| ((left.at - start).as_millis(), left.probe)).collect();
    assert_eq!(left, [(0, 1), (4, 1), (8, 2), (10, 2)].map(|(at, id)| (at, Some(ProbeId(id)))));
}

#[test]
fn a_probe_that_comes_too_late_is_dropped() {
    let start = Instant::now();
    let mut driver = paced_at(start, 300, 0);
    let cluster = |id| ProbeCluster { id: ProbeId(id), bitrate: Bitrate::from_kbps(900), min_packets: 5, min_bytes: 1 };
    driver.add_probe(cluster(1));
    driver.run(start + Duration::from_millis(5_001), Duration::ZERO);
    driver.push(PacketKind::Video, 1_125);
    driver.run(start + Duration::from_millis(5_100), Duration::ZERO);
    assert_eq!(driver.left[0].probe, None, "it had waited for five seconds");

    driver.add_probe(cluster(2));
    driver.poll_all();
    assert!(driver.pacer.is_probing());
    driver.pass_to(start + Duration::from_millis(5_200));
    driver.push(PacketKind::Video, 1_125);
    driver.run(start + Duration::from_millis(5_300), Duration::ZERO);
    assert_eq!(driver.left.last().expect("it left").probe, None, "its second burst was due long ago");
    assert!(!driver.pacer.is_probing());
}

#[test]
fn who_has_no_padding_is_not_asked_on_and_on() {
    let start = Instant::now();
    let mut driver = paced_at(start, 1_000, 400);
    driver.padding = vec![0];
    driver.push(PacketKind::Video, 1_000);
    driver.run(start + Duration::from_secs(1), Duration::ZERO);
    assert!((150..=200).contains(&driver.asked), "every 5 ms: {}", driver.asked);
    driver.add_probe(ProbeCluster { id: ProbeId(1), bitrate: Bitrate::from_kbps(900), min_packets: 3, min_bytes: 1 });
    driver.set_rates(Bitrate::from_kbps(1_000), Bitrate::ZERO);
    let asked = driver.asked;
    driver.run(start + Duration::from_secs(2), Duration::ZERO);
    assert_eq!(driver.asked, asked + 1, "once for the probe, which waits then");
    (0..3).for_each(|_| driver.push(PacketKind::Video, 1_000));
    driver.run(start + Duration::from_secs(3), Duration::ZERO);
    assert_eq!(driver.left.iter().filter(|left| left.probe.is_some()).count(), 3);
}

#[test]
fn padding_fills_up_to_its_rate_what_media_leaves() {
    let start = Instant::now();
    let mut driver = paced_at(start, 2_000, 400);
    for frame in 0..50 {
        driver.run(start + Duration::from_millis(frame * 40), Duration::ZERO);
        driver.push(PacketKind::Video, 1_000);
    }
    driver.run(start + Duration::from_secs(2), Duration::ZERO);
    let bytes = |kind| driver.left.iter().filter(|left| left.kind == kind).map(|left| left.size).sum::<u64>();
    assert_eq!(bytes(PacketKind::Video), 50_000);
    let padding = bytes(PacketKind::Padding);
    assert!((45_000..=50_500).contains(&padding), "200 of 400 kb/s: {padding} bytes");
}

#[test]
fn a_burst_takes_the_fast_path_only_where_nothing_waits() {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    assert!(!pacer.takes_at_once(start, 1), "no rate yet");
    pacer.set_rates(start, Bitrate::from_kbps(8_000), Bitrate::ZERO);
    assert!(pacer.takes_at_once(start, 5_000), "5 ms");
    assert!(!pacer.takes_at_once(start, 5_001));
    for _ in 0..8 {
        assert!(pacer.takes_at_once(start, 5_000));
        pacer.note_sent(start, 5_000, PacketKind::Video);
    }
    assert!(!pacer.takes_at_once(start, 1), "40 ms have left");
    let later = start + Duration::from_millis(5);
    assert!(pacer.takes_at_once(later, 5_000));
    assert_eq!(pacer.push(later, PacketKind::Video, 100, ()), None);
    assert!(!pacer.takes_at_once(later, 100), "one waits");
    assert!(pacer.poll(later).is_some());
    assert!(pacer.takes_at_once(later, 100));
    let cluster = ProbeCluster { id: ProbeId(1), bitrate: Bitrate::from_kbps(900), min_packets: 5, min_bytes: 1 };
    pacer.add_probe(later, cluster);
    assert!(!pacer.takes_at_once(later, 100), "it is to fill the probe");
    pacer.clear_probes();
    assert!(pacer.takes_at_once(later, 100) && pacer.poll(later).is_none(), "no probe any more");
}
