//! What holds of any network and any traffic.

// The one instant that everything is counted from; no test looks at it.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_simnet::tcp::{Ack, Block, Congestion, Sender, Workload};
use lenscast_simnet::{
    Counters, Delivered, Ecn, EcnCodepoint, FlowId, Jitter, LinkConfig, LinkId, Loss, Network, Packet, QueueLimit,
    Route, Tally, Trace,
};
use proptest::prelude::*;

fn traces() -> impl Strategy<Value = Trace> {
    let rates = prop_oneof![1 => Just(0), 9 => 1_000..30_000_000_u64];
    let steps = prop::collection::vec((0..2_000_u64, rates), 1..6);
    (steps, prop::option::of(1..2_500_u64)).prop_map(|(steps, period)| {
        let steps: Vec<_> =
            steps.into_iter().map(|(at, rate)| (Duration::from_millis(at), Bitrate::from_bps(rate))).collect();
        match period {
            Some(period) => Trace::steps(&steps).repeated(Duration::from_millis(period)),
            None => Trace::steps(&steps),
        }
    })
}

fn losses() -> impl Strategy<Value = Loss> {
    let burst = (0.0..1.0, 1.0..10.0).prop_map(|(rate, length)| Loss::bursts(rate, length));
    prop_oneof![Just(Loss::None), (0.0..1.0).prop_map(Loss::Random), burst]
}

fn queues() -> impl Strategy<Value = QueueLimit> {
    prop_oneof![
        (0..100_000_u64).prop_map(QueueLimit::Bytes),
        (0..500_u64).prop_map(|ms| QueueLimit::Time(Duration::from_millis(ms))),
    ]
}

fn links() -> impl Strategy<Value = LinkConfig> {
    let jitter = prop_oneof![
        Just(Jitter::NONE),
        (0..50_u64, 0.0..4.0).prop_map(|(deviation, cut)| Jitter { deviation: Duration::from_millis(deviation), cut })
    ];
    let ecn = prop::option::of((0..100_u64).prop_map(|ms| Ecn { threshold: Duration::from_millis(ms) }));
    let burst = prop_oneof![Just(0), 0..20_000_u64];
    (traces(), 0..200_u64, jitter, losses(), (queues(), burst), ecn, any::<u64>()).prop_map(
        |(capacity, delay, jitter, loss, (queue, burst), ecn, seed)| {
            let delay = Duration::from_millis(delay);
            LinkConfig { capacity, delay, jitter, loss, queue, burst, ecn, seed }
        },
    )
}

/// A packet to be sent: microseconds after the one before, which of four routes, its size, its ECN bits.
type Sending = (u64, usize, u32, EcnCodepoint);

fn traffic() -> impl Strategy<Value = Vec<Sending>> {
    let points = [EcnCodepoint::NotEct, EcnCodepoint::Ect0, EcnCodepoint::Ect1, EcnCodepoint::Ce];
    let gap = prop_oneof![2 => Just(0), 3 => 0..3_000_u64, 1 => 0..100_000_u64];
    prop::collection::vec((gap, 0..4_usize, 1..9_000_u32, prop::sample::select(points.to_vec())), 1..200)
}

/// What happened, with times counted from the start.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    delivered: Vec<(Duration, Delivered<usize>)>,
    links: Vec<Counters>,
    flows: Vec<Counters>,
}

/// Sends everything over two links: the first, the second, both, none. `check` sees the network after each packet.
fn run(
    start: Instant,
    configs: &[LinkConfig; 2],
    traffic: &[Sending],
    mut check: impl FnMut(&Network<usize>, Instant, &[LinkId]),
) -> Outcome {
    let mut network = Network::new(start);
    let ids: Vec<LinkId> = configs.iter().map(|config| network.add_link(config.clone())).collect();
    let routes = [Route::new(&ids[..1]), Route::new(&ids[1..]), Route::new(&ids), Route::new(&[])];
    let mut outcome = Outcome::default();
    let mut now = start;
    for (number, (gap, route, size, ecn)) in traffic.iter().enumerate() {
        now += Duration::from_micros(*gap);
        let packet = Packet { flow: FlowId(*route as u32), size: *size, ecn: *ecn, payload: number };
        network.send(now, &routes[*route], packet);
        check(&network, now, &ids);
        while let Some(delivered) = network.poll_delivered() {
            outcome.delivered.push((delivered.arrived_at - start, delivered));
        }
    }
    while let Some(at) = network.poll_timeout() {
        network.handle_timeout(at);
        while let Some(delivered) = network.poll_delivered() {
            outcome.delivered.push((delivered.arrived_at - start, delivered));
        }
    }
    outcome.links = ids.iter().map(|id| network.link_counters(*id)).collect();
    outcome.flows = (0..4).map(|flow| network.flow_counters(FlowId(flow))).collect();
    outcome
}

fn sum(tallies: impl Iterator<Item = Tally>) -> (u64, u64) {
    tallies.fold((0, 0), |sum, tally| (sum.0 + tally.packets, sum.1 + tally.bytes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Nothing appears, nothing disappears uncounted; and flows and links tell the same story.
    #[test]
    fn what_was_offered_is_accounted_for(configs in [links(), links()], traffic in traffic()) {
        let outcome = run(Instant::now(), &configs, &traffic, |network, _, ids| {
            for id in ids {
                // Which would overflow if more came out than went in.
                let _ = network.link_counters(*id).in_flight();
            }
        });
        let offered = sum(outcome.flows.iter().map(|flow| flow.offered));
        prop_assert_eq!(offered.0, traffic.len() as u64);
        prop_assert_eq!(offered.1, traffic.iter().map(|sending| u64::from(sending.2)).sum::<u64>());
        let delivered = sum(outcome.flows.iter().map(|flow| flow.delivered));
        prop_assert_eq!(delivered.0, outcome.delivered.len() as u64);
        for select in [|c: &Counters| c.dropped, |c: &Counters| c.lost, |c: &Counters| c.marked, |c: &Counters| c.in_flight()] {
            prop_assert_eq!(sum(outcome.flows.iter().map(select)), sum(outcome.links.iter().map(select)));
        }
        // Only a link that stands still for good keeps anything.
        for (config, counters) in configs.iter().zip(&outcome.links) {
            let end = Duration::from_secs(100_000);
            if config.capacity.bytes_between(end, end * 2) > 0 {
                prop_assert_eq!(counters.in_flight(), Tally::default());
            }
        }
    }

    #[test]
    fn a_route_keeps_its_order(configs in [links(), links()], traffic in traffic()) {
        let outcome = run(Instant::now(), &configs, &traffic, |_, _, _| {});
        prop_assert!(outcome.delivered.is_sorted_by_key(|(at, _)| *at));
        for flow in 0..4 {
            let of_flow = outcome.delivered.iter().filter(|(_, delivered)| delivered.packet.flow == FlowId(flow));
            prop_assert!(of_flow.map(|(_, delivered)| delivered.packet.payload).is_sorted());
        }
    }

    /// But for one packet that found it empty.
    #[test]
    fn a_queue_never_exceeds_its_limit(mut config in links(), traffic in traffic()) {
        config.loss = Loss::None;
        let mut before = (0, Counters::default(), config.capacity.capacity_at(Duration::ZERO));
        let mut exceeded = Vec::new();
        let start = Instant::now();
        let traffic: Vec<Sending> = traffic.into_iter().map(|(gap, _, size, ecn)| (gap, 0, size, ecn)).collect();
        run(start, &[config.clone(), LinkConfig::new(Trace::constant(Bitrate::ZERO))], &traffic, |network, now, ids| {
            let (bytes, counters) = (network.link_queue_bytes(ids[0], now), network.link_counters(ids[0]));
            let capacity = config.capacity.capacity_at(now - start);
            let limit = match config.queue {
                QueueLimit::Bytes(limit) => limit,
                QueueLimit::Time(span) => capacity.bytes_in(span),
            };
            let is_taken = counters.dropped == before.1.dropped;
            let size = counters.offered.bytes - before.1.offered.bytes;
            // The one that came is all there is, or it fits.
            if is_taken && bytes > size && bytes > limit {
                exceeded.push((bytes, limit));
            }
            // What was turned away would not have fitted.
            if !is_taken && bytes + size <= limit {
                exceeded.push((bytes, limit));
            }
            before = (bytes, counters, capacity);
        });
        prop_assert_eq!(exceeded, []);
    }

    #[test]
    fn the_same_seeds_give_the_same_to_the_last_bit(configs in [links(), links()], traffic in traffic()) {
        let start = Instant::now();
        prop_assert_eq!(run(start, &configs, &traffic, |_, _, _| {}), run(start, &configs, &traffic, |_, _, _| {}));
    }

    /// Though a packet's whole way over a link is computed when it comes.
    #[test]
    fn nothing_depends_on_what_the_capacity_becomes_later(
        configs in [links(), links()],
        traffic in traffic(),
        change in 0..1_000_u64,
        after in 0..30_000_000_u64,
    ) {
        let change = Duration::from_millis(change);
        let changed = configs.clone().map(|config| {
            // Sampled finely enough to be the same until the change: all times are whole milliseconds.
            let steps: Vec<_> = (0..change.as_millis() as u64)
                .map(Duration::from_millis)
                .map(|at| (at, config.capacity.capacity_at(at)))
                .chain([(change, Bitrate::from_bps(after))])
                .collect();
            LinkConfig { capacity: Trace::steps(&steps), ..config }
        });
        let start = Instant::now();
        let mut sent = Duration::ZERO;
        let traffic: Vec<Sending> = traffic
            .into_iter()
            .take_while(|(gap, ..)| {
                sent += Duration::from_micros(*gap);
                sent < change
            })
            .collect();
        let before = |configs| {
            let mut dropped = Vec::new();
            let mut outcome = run(start, configs, &traffic, |network, _, ids| {
                dropped.push(ids.iter().map(|id| network.link_counters(*id).dropped).collect::<Vec<_>>());
            });
            outcome.delivered.retain(|(at, _)| *at < change);
            (outcome.delivered, dropped)
        };
        prop_assert_eq!(before(&configs), before(&changed));
    }

    /// A packet's end is where the capacity has carried just its bytes.
    #[test]
    fn service_is_exact(capacity in traces(), begin in 0..3_000_000_u64, size in 1..200_000_u32) {
        let start = Instant::now();
        let mut network = Network::new(start);
        let delay = Duration::ZERO;
        let link = network.add_link(LinkConfig { delay, ..LinkConfig::new(capacity.clone()) });
        let begin = Duration::from_micros(begin);
        let packet = Packet { flow: FlowId(0), size, ecn: EcnCodepoint::NotEct, payload: () };
        network.send(start + begin, &Route::new(&[link]), packet);
        match network.poll_timeout() {
            Some(end) => {
                let end = end - start;
                prop_assert!(capacity.bytes_between(begin, end) >= u64::from(size));
                prop_assert!(capacity.bytes_between(begin, end - Duration::from_nanos(1)) < u64::from(size));
            }
            None => prop_assert!(capacity.bytes_between(begin, Duration::from_secs(10_000_000)) < u64::from(size)),
        }
    }

    /// Between any two packets there pass at most a burst and what the capacity carries meanwhile.
    #[test]
    fn a_bucket_lets_no_more_pass_than_it_holds(
        capacity in traces(),
        burst in 0..20_000_u64,
        packets in prop::collection::vec((0..50_000_u64, 1..3_000_u32), 2..60),
    ) {
        let start = Instant::now();
        let mut network = Network::new(start);
        let queue = QueueLimit::Bytes(u64::MAX);
        let config = LinkConfig { delay: Duration::ZERO, queue, burst, ..LinkConfig::new(capacity.clone()) };
        let route = Route::new(&[network.add_link(config)]);
        let mut now = start;
        for (gap, size) in packets {
            now += Duration::from_micros(gap);
            network.send(now, &route, Packet { flow: FlowId(0), size, ecn: EcnCodepoint::NotEct, payload: size });
        }
        let mut passed: Vec<(Duration, u64)> = Vec::new();
        while let Some(due) = network.poll_timeout().filter(|due| *due < start + Duration::from_secs(10_000)) {
            network.handle_timeout(due);
            let delivered = std::iter::from_fn(|| network.poll_delivered());
            passed.extend(delivered.map(|one| (one.arrived_at - start, u64::from(one.packet.payload))));
        }
        for (index, (from, _)) in passed.iter().enumerate() {
            let mut sum = 0;
            for (until, size) in &passed[index + 1..] {
                sum += size;
                prop_assert!(sum <= burst + capacity.bytes_between(*from, *until) + 1);
            }
        }
    }

    /// Whatever acknowledgements say, a sender neither panics nor sends beyond its window.
    #[test]
    fn a_sender_survives_any_acknowledgement(
        acks in prop::collection::vec((0..5_000_u64, 0..60_u64, prop::collection::vec((0..60_u64, 0..60_u64), 0..3)), 0..200),
        cubic in any::<bool>(),
    ) {
        let start = Instant::now();
        let rule = if cubic { Congestion::Cubic } else { Congestion::Reno };
        let mut sender = Sender::new(start, rule, Workload::Endless);
        let mut now = start;
        let mut arrived = 0;
        for (gap, next, ranges) in acks {
            now += Duration::from_millis(gap);
            let mut blocks = [None; 3];
            for (place, (from, length)) in blocks.iter_mut().zip(ranges) {
                *place = Some(Block(arrived + from, arrived + from + length));
            }
            sender.handle_timeout(now);
            let echo = now.checked_sub(Duration::from_millis(gap / 2)).unwrap_or(now);
            sender.handle_ack(now, &Ack { next: (arrived + next).saturating_sub(20), blocks, echo });
            let sent = std::iter::from_fn(|| sender.poll_segment(now)).count() as u64;
            prop_assert!(sent <= sender.window());
            prop_assert!(sender.poll_timeout().is_some());
            arrived = sender.arrived_bytes() / 1_448;
        }
    }
}
