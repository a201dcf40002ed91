//! Links and networks: what becomes of packets, to the nanosecond.

// The one instant that everything is counted from; no test looks at it.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_simnet::{
    Delivered, Ecn, EcnCodepoint, FlowId, Jitter, LinkConfig, LinkId, Loss, Network, Packet, QueueLimit, Route, Trace,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn mbps(mbps: u64) -> Bitrate {
    Bitrate::from_kbps(mbps * 1_000)
}

fn packet(size: u32, number: u32) -> Packet<u32> {
    Packet { flow: FlowId(0), size, ecn: EcnCodepoint::NotEct, payload: number }
}

/// One link, 8 Mb/s: 1,000 bytes a millisecond.
fn one_link(change: impl FnOnce(&mut LinkConfig)) -> (Instant, Network<u32>, LinkId, Route) {
    let start = Instant::now();
    let mut network = Network::new(start);
    let mut config = LinkConfig::new(Trace::constant(mbps(8)));
    change(&mut config);
    let link = network.add_link(config);
    (start, network, link, Route::new(&[link]))
}

/// Lets everything happen that is to happen.
fn run_out(network: &mut Network<u32>) -> Vec<Delivered<u32>> {
    let mut all = Vec::new();
    while let Some(at) = network.poll_timeout() {
        network.handle_timeout(at);
        all.extend(std::iter::from_fn(|| network.poll_delivered()));
    }
    all
}

fn numbers(delivered: &[Delivered<u32>]) -> Vec<u32> {
    delivered.iter().map(|delivered| delivered.packet.payload).collect()
}

#[test]
fn takes_the_time_of_transmission_and_the_delay() {
    let (start, mut network, _, route) = one_link(|_| {});
    network.send(start + ms(5), &route, packet(1_000, 1));
    assert_eq!(network.poll_timeout(), Some(start + ms(56)));
    network.handle_timeout(start + ms(56) - Duration::from_nanos(1));
    assert_eq!(network.poll_delivered(), None);
    network.handle_timeout(start + ms(56));
    let delivered = network.poll_delivered().unwrap();
    assert_eq!((delivered.sent_at, delivered.arrived_at), (start + ms(5), start + ms(56)));
    assert_eq!(delivered.queue_delay, Duration::ZERO);
    assert_eq!(network.poll_timeout(), None);
}

#[test]
fn those_that_come_together_wait_for_each_other() {
    let (start, mut network, link, route) = one_link(|_| {});
    for number in 0..4 {
        network.send(start, &route, packet(1_000, number));
    }
    assert_eq!(network.link_queue_delay(link, start + ms(1)), ms(3));
    assert_eq!(network.link_queue_bytes(link, start + ms(1)), 3_000);
    let delivered = run_out(&mut network);
    assert_eq!(numbers(&delivered), [0, 1, 2, 3]);
    for (i, delivered) in delivered.iter().enumerate() {
        assert_eq!(delivered.queue_delay, ms(i as u64));
        assert_eq!(delivered.arrived_at, start + ms(51 + i as u64));
    }
}

#[test]
fn a_step_in_capacity_is_felt_by_the_packet_that_is_being_sent() {
    let (start, mut network, _, route) = one_link(|config| {
        config.capacity = Trace::steps(&[(ms(0), mbps(8)), (ms(10), Bitrate::from_kbps(800))]);
    });
    // 1 ms at the old rate carries 1,000 bytes; the other 500 take 5 ms at the new.
    network.send(start + ms(9), &route, packet(1_500, 1));
    assert_eq!(run_out(&mut network)[0].arrived_at, start + ms(10 + 5 + 50));
}

#[test]
fn a_queue_in_bytes_drops_what_does_not_fit() {
    let (start, mut network, link, route) = one_link(|config| config.queue = QueueLimit::Bytes(3_000));
    for number in 0..5 {
        network.send(start, &route, packet(1_000, number));
    }
    // One has left.
    network.send(start + ms(1), &route, packet(1_000, 5));
    network.send(start + ms(1), &route, packet(1, 6));
    assert_eq!(numbers(&run_out(&mut network)), [0, 1, 2, 5]);
    let counters = network.link_counters(link);
    assert_eq!((counters.offered.packets, counters.dropped.packets, counters.dropped.bytes), (7, 3, 2_001));
    assert_eq!(counters, network.flow_counters(FlowId(0)));
}

#[test]
fn a_queue_in_time_holds_what_the_capacity_of_the_moment_carries() {
    let (start, mut network, _, route) = one_link(|config| {
        config.capacity = Trace::steps(&[(ms(0), mbps(8)), (ms(100), mbps(4))]);
        config.queue = QueueLimit::Time(ms(20));
    });
    for number in 0..30 {
        network.send(start, &route, packet(1_000, number));
    }
    // After the fall it is half as many.
    for number in 100..130 {
        network.send(start + ms(200), &route, packet(1_000, number));
    }
    assert_eq!(numbers(&run_out(&mut network)), (0..20).chain(100..110).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_takes_nothing_after_a_fall_until_it_has_drained() {
    let (start, mut network, _, route) = one_link(|config| {
        config.capacity = Trace::steps(&[(ms(0), mbps(8)), (ms(5), Bitrate::from_kbps(800))]);
        config.queue = QueueLimit::Time(ms(20));
    });
    for number in 0..20 {
        network.send(start, &route, packet(1_000, number));
    }
    // 15 wait, 2 may.
    network.send(start + ms(6), &route, packet(1_000, 100));
    network.send(start + ms(134), &route, packet(1_000, 101));
    network.send(start + ms(145), &route, packet(1_000, 102));
    assert_eq!(numbers(&run_out(&mut network)), (0..20).chain([102]).collect::<Vec<_>>());
}

#[test]
fn the_wire_takes_one_packet_however_small_the_queue() {
    let (start, mut network, _, route) = one_link(|config| config.queue = QueueLimit::Bytes(0));
    network.send(start, &route, packet(1_000, 1));
    network.send(start + Duration::from_micros(999), &route, packet(1_000, 2));
    network.send(start + ms(1), &route, packet(1_000, 3));
    assert_eq!(numbers(&run_out(&mut network)), [1, 3]);
}

#[test]
fn a_token_bucket_lets_a_burst_pass_and_then_what_the_link_carries() {
    // A packet of 1,000 bytes takes 1 ms.
    let (start, mut network, _, route) = one_link(|config| config.burst = 2_500);
    for number in 0..5 {
        network.send(start + ms(1_000), &route, packet(1_000, number));
    }
    // Until then 2,500 more bytes could have passed: two packets, and half of one.
    network.send(start + ms(1_005), &route, packet(1_000, 5));
    network.send(start + ms(1_005), &route, packet(1_000, 6));
    network.send(start + ms(1_005), &route, packet(1_000, 7));
    let micros = |delivered: &Delivered<u32>| delivered.arrived_at.duration_since(start).as_micros() as u64 - 1_050_000;
    let arrived: Vec<u64> = run_out(&mut network).iter().map(micros).collect();
    assert_eq!(arrived, [0, 0, 500, 1_500, 2_500, 5_000, 5_000, 5_500]);
}

#[test]
fn a_link_that_stands_still_keeps_what_it_has() {
    let (start, mut network, link, route) = one_link(|config| {
        config.capacity = Trace::steps(&[(ms(0), mbps(8)), (ms(10), Bitrate::ZERO)]);
        config.queue = QueueLimit::Bytes(2_000);
    });
    for at in [0, 11, 12, 13] {
        network.send(start + ms(at), &route, packet(1_000, at as u32));
    }
    assert_eq!(numbers(&run_out(&mut network)), [0]);
    let counters = network.link_counters(link);
    assert_eq!((counters.in_flight().packets, counters.dropped.packets), (2, 1));
    assert_eq!(network.link_queue_delay(link, start + ms(20)), Duration::MAX);
}

#[test]
fn loses_as_many_as_it_is_told_and_still_spends_capacity_on_them() {
    for (loss, expected) in [(Loss::Random(0.1), 0.1), (Loss::bursts(0.05, 3.0), 0.05)] {
        let (start, mut network, link, route) = one_link(|config| config.loss = loss);
        let mut last = None;
        for number in 0..20_000 {
            network.send(start + ms(1) * number, &route, packet(1_000, number));
            while let Some(delivered) = network.poll_delivered() {
                last = Some(delivered);
            }
        }
        assert_eq!(last.unwrap().queue_delay, Duration::ZERO);
        run_out(&mut network);
        let counters = network.link_counters(link);
        let rate = counters.lost.packets as f64 / counters.offered.packets as f64;
        assert!((rate - expected).abs() < 0.01, "{loss:?}: {rate}");
        assert_eq!(counters.in_flight().packets, 0);
        assert_eq!(counters.dropped.packets, 0);
    }
}

#[test]
fn jitter_adds_to_the_delay_up_to_its_cut() {
    let jitter = Jitter { deviation: ms(5), cut: 3.0 };
    let (start, mut network, _, route) = one_link(|config| config.jitter = jitter);
    // Far enough apart that order does not matter.
    let mut delays = Vec::new();
    for number in 0..5_000 {
        network.send(start + ms(100) * number, &route, packet(1_000, number));
        delays.extend(
            run_out(&mut network)
                .iter()
                .map(|delivered| (delivered.arrived_at - delivered.sent_at).as_secs_f64() * 1e3 - 51.0),
        );
    }
    assert!(delays.iter().all(|delay| (0.0..15.000_001).contains(delay)));
    let mean = delays.iter().sum::<f64>() / delays.len() as f64;
    // The mean of a half-normal distribution: √(2 / π) of the deviation.
    assert!((mean - 3.99).abs() < 0.15, "{mean}");
}

#[test]
fn jitter_does_not_reorder() {
    let jitter = Jitter { deviation: ms(20), cut: 3.0 };
    let (start, mut network, _, route) = one_link(|config| config.jitter = jitter);
    for number in 0..1_000 {
        network.send(start + ms(1) * number, &route, packet(500, number));
    }
    let mut delivered = run_out(&mut network);
    assert!(delivered.is_sorted_by_key(|delivered| delivered.arrived_at));
    delivered.sort_by_key(|delivered| delivered.arrived_at);
    assert!(numbers(&delivered).is_sorted());
}

#[test]
fn marks_those_that_waited_too_long_if_they_can_be_marked() {
    let (start, mut network, link, route) = one_link(|config| config.ecn = Some(Ecn { threshold: ms(2) }));
    let points = [EcnCodepoint::Ect0, EcnCodepoint::Ect0, EcnCodepoint::Ect1, EcnCodepoint::Ect0, EcnCodepoint::NotEct];
    for (number, ecn) in points.into_iter().chain([EcnCodepoint::Ect1, EcnCodepoint::Ce]).enumerate() {
        network.send(start, &route, Packet { ecn, ..packet(1_000, number as u32) });
    }
    let marked: Vec<bool> = run_out(&mut network).iter().map(Delivered::is_marked).collect();
    assert_eq!(marked, [false, false, false, true, false, true, true]);
    assert_eq!(network.link_counters(link).marked.packets, 2);
    assert_eq!(network.flow_counters(FlowId(0)).marked.packets, 2);
}

#[test]
fn flows_share_the_links_that_their_routes_have_in_common() {
    let start = Instant::now();
    let mut network = Network::new(start);
    let mut link = |rate| {
        let config = LinkConfig { delay: ms(10), ..LinkConfig::new(Trace::constant(mbps(rate))) };
        network.add_link(config)
    };
    let (a, b, c) = (link(8), link(4), link(8));
    let (long, short) = (Route::new(&[a, b, c]), Route::new(&[b]));
    network.send(start, &long, packet(1_000, 0));
    // When the long flow's packet comes to b, at 11 ms, half of this one is still to be sent.
    network.send(start + ms(10), &short, Packet { flow: FlowId(1), ..packet(1_000, 1) });
    let delivered = run_out(&mut network);
    assert_eq!(numbers(&delivered), [1, 0]);
    assert_eq!(delivered[0].arrived_at, start + ms(10 + 2 + 10));
    assert_eq!(delivered[1].arrived_at, start + ms(11) + ms(1) + ms(2 + 10) + ms(1 + 10));
    assert_eq!(delivered[1].queue_delay, ms(1));
    assert_eq!(network.link_counters(b).delivered.packets, 2);
    assert_eq!(network.link_counters(c).offered.packets, 1);
    assert_eq!(network.flow_counters(FlowId(1)).delivered.packets, 1);
}

#[test]
fn sending_late_lets_the_past_happen_first() {
    let (start, mut network, _, route) = one_link(|_| {});
    network.send(start, &route, packet(1_000, 0));
    network.send(start + ms(500), &route, packet(1_000, 1));
    assert_eq!(network.poll_delivered().unwrap().arrived_at, start + ms(51));
    // Time does not go back.
    network.send(start + ms(100), &route, packet(1_000, 2));
    assert_eq!(run_out(&mut network).last().unwrap().sent_at, start + ms(500));
}

#[test]
fn a_route_over_nothing_arrives_at_once() {
    let mut network = Network::new(Instant::now());
    let at = Instant::now();
    network.send(at, &Route::new(&[]), packet(1_000, 0));
    assert_eq!(network.poll_timeout(), Some(network.poll_delivered().unwrap().arrived_at));
}
