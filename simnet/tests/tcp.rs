//! TCP over links: what it fills, how it shares, how it comes back.

// The one instant that everything is counted from; no test looks at it.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_simnet::tcp::{Ack, Congestion, Downloads, Receiver, Segment, Sender, Workload};
use lenscast_simnet::{
    EcnCodepoint, FlowId, LinkConfig, LinkId, Loss, Network, Packet, QueueLimit, Route, Tally, Trace,
};

#[derive(Debug, Clone, Copy)]
enum Payload {
    Segment(Segment),
    Ack(Ack),
}

struct Flow {
    start: Instant,
    sender: Sender,
    receiver: Receiver,
}

/// Flows that share one link there, and one that is never full back.
struct Dumbbell {
    start: Instant,
    network: Network<Payload>,
    link: LinkId,
    there: Route,
    back: Route,
    flows: Vec<Flow>,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn mbps(mbps: u64) -> Bitrate {
    Bitrate::from_kbps(mbps * 1_000)
}

impl Dumbbell {
    fn new(config: LinkConfig) -> Self {
        let start = Instant::now();
        let mut network = Network::new(start);
        let link = network.add_link(config);
        let back = network.add_link(LinkConfig::new(Trace::constant(mbps(1_000))));
        let (there, back) = (Route::new(&[link]), Route::new(&[back]));
        Self { start, network, link, there, back, flows: Vec::new() }
    }

    fn add(&mut self, after: Duration, rule: Congestion, workload: Workload) {
        let start = self.start + after;
        self.flows.push(Flow { start, sender: Sender::new(start, rule, workload), receiver: Receiver::new() });
    }

    /// Bytes that arrived in order, of each flow.
    fn arrived(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.sender.arrived_bytes()).collect()
    }

    fn run_until(&mut self, time: Duration) {
        let end = self.start + time;
        let mut now = self.start;
        loop {
            self.network.handle_timeout(now);
            while let Some(delivered) = self.network.poll_delivered() {
                let flow = &mut self.flows[delivered.packet.flow.0 as usize];
                match delivered.packet.payload {
                    Payload::Segment(segment) => flow.receiver.handle_segment(now, &segment),
                    Payload::Ack(ack) => flow.sender.handle_ack(now, &ack),
                }
            }
            let mut next = self.network.poll_timeout();
            for (id, flow) in (0..).map(FlowId).zip(&mut self.flows) {
                if now < flow.start {
                    next = [next, Some(flow.start)].into_iter().flatten().min();
                    continue;
                }
                flow.sender.handle_timeout(now);
                while let Some(segment) = flow.sender.poll_segment(now) {
                    let (size, payload) = (segment.size(), Payload::Segment(segment));
                    let packet = Packet { flow: id, size, ecn: EcnCodepoint::NotEct, payload };
                    self.network.send(now, &self.there, packet);
                }
                if let Some(ack) = flow.receiver.poll_ack(now) {
                    let packet =
                        Packet { flow: id, size: ack.size(), ecn: EcnCodepoint::NotEct, payload: Payload::Ack(ack) };
                    self.network.send(now, &self.back, packet);
                }
                let timeouts = [flow.sender.poll_timeout(), flow.receiver.poll_timeout()];
                next = [next].into_iter().chain(timeouts).chain([self.network.poll_timeout()]).flatten().min();
            }
            match next {
                Some(next) if next <= end => now = next,
                _ => break,
            }
        }
    }
}

/// How much of the capacity carried new bytes between two times, flow by flow.
fn shares(dumbbell: &mut Dumbbell, from: Duration, to: Duration) -> Vec<f64> {
    dumbbell.run_until(from);
    let before = dumbbell.arrived();
    dumbbell.run_until(to);
    let capacity = dumbbell.network.link_capacity(dumbbell.link).bytes_between(from, to) as f64;
    // Of 1,500 bytes 1,448 are new.
    let after = dumbbell.arrived();
    after.iter().zip(before).map(|(after, before)| (after - before) as f64 * 1_500.0 / 1_448.0 / capacity).collect()
}

#[test]
fn one_flow_fills_the_link() {
    for rule in [Congestion::Reno, Congestion::Cubic] {
        let mut dumbbell = Dumbbell::new(LinkConfig::new(Trace::constant(mbps(2))));
        dumbbell.add(Duration::ZERO, rule, Workload::Endless);
        let share = shares(&mut dumbbell, Duration::ZERO, seconds(120))[0];
        let sender = &dumbbell.flows[0].sender;
        println!("{rule:?}: {share:.3}, {} again, {} timeouts", sender.retransmissions(), sender.timeouts());
        assert!(share >= 0.9, "{rule:?}: {share}");
        assert_eq!(sender.timeouts(), 0);
        // It is congestion that holds it back.
        assert!(dumbbell.network.link_counters(dumbbell.link).dropped.packets > 0);
    }
}

#[test]
fn a_deep_queue_is_filled_too() {
    for rule in [Congestion::Reno, Congestion::Cubic] {
        let queue = QueueLimit::Time(seconds(1));
        let mut dumbbell = Dumbbell::new(LinkConfig { queue, ..LinkConfig::new(Trace::constant(mbps(2))) });
        dumbbell.add(Duration::ZERO, rule, Workload::Endless);
        let share = shares(&mut dumbbell, Duration::ZERO, seconds(120))[0];
        let now = dumbbell.start + seconds(120);
        println!("{rule:?}: {share:.3}, queue {:?}", dumbbell.network.link_queue_delay(dumbbell.link, now));
        assert!(share >= 0.95, "{rule:?}: {share}");
    }
}

#[test]
fn two_flows_share_whoever_came_first() {
    for (first, second, least) in [
        (Congestion::Reno, Congestion::Reno, 0.4),
        (Congestion::Cubic, Congestion::Cubic, 0.4),
        // Where a round trip takes 0.4 s, CUBIC is back at its window in 4 s, and Reno in 26 s (RFC 9438, section 4.3).
        (Congestion::Cubic, Congestion::Reno, 0.1),
    ] {
        let mut dumbbell = Dumbbell::new(LinkConfig::new(Trace::constant(mbps(4))));
        dumbbell.add(Duration::ZERO, first, Workload::Endless);
        dumbbell.add(seconds(10), second, Workload::Endless);
        let shares = shares(&mut dumbbell, seconds(60), seconds(300));
        println!("{first:?} {second:?}: {shares:.3?}");
        assert!(shares.iter().all(|share| *share >= least), "{first:?} {second:?}: {shares:?}");
        assert!(shares.iter().sum::<f64>() > 0.9);
    }
}

/// Mathis et al. 1997: rate = payload / round trip × √(3 / 2p), as growth counts segments, not acknowledgements.
#[test]
fn random_loss_costs_reno_what_theory_says() {
    let loss = Loss::Random(0.01);
    let mut dumbbell = Dumbbell::new(LinkConfig { loss, ..LinkConfig::new(Trace::constant(mbps(100))) });
    dumbbell.add(Duration::ZERO, Congestion::Reno, Workload::Endless);
    dumbbell.run_until(seconds(300));
    let rate = dumbbell.arrived()[0] as f64 * 8.0 / 300.0;
    let theory = 1_448.0 * 8.0 / 0.1 * (3.0 / (2.0 * 0.01_f64)).sqrt();
    println!("{rate:.0} of {theory:.0}");
    assert!((0.8..1.1).contains(&(rate / theory)), "{rate} of {theory}");
}

#[test]
fn comes_back_after_an_outage() {
    for rule in [Congestion::Reno, Congestion::Cubic] {
        let capacity = Trace::steps(&[(seconds(0), mbps(2)), (seconds(20), Bitrate::ZERO), (seconds(24), mbps(2))]);
        let queue = QueueLimit::Bytes(30_000);
        let mut dumbbell = Dumbbell::new(LinkConfig { capacity, queue, ..LinkConfig::new(Trace::constant(mbps(2))) });
        dumbbell.add(Duration::ZERO, rule, Workload::Endless);
        dumbbell.run_until(seconds(24));
        assert!(dumbbell.flows[0].sender.timeouts() >= 1);
        // The timer doubles: it may be four seconds until the next try.
        let share = shares(&mut dumbbell, seconds(30), seconds(60))[0];
        println!("{rule:?}: {share:.3}, {} timeouts", dumbbell.flows[0].sender.timeouts());
        assert!(share > 0.9, "{rule:?}: {share}");
    }
}

/// The retransmission timer alone saves a flow whose whole window is lost.
#[test]
fn comes_back_though_everything_was_lost() {
    let loss = Loss::bursts(0.2, 30.0);
    let mut dumbbell = Dumbbell::new(LinkConfig { loss, seed: 4, ..LinkConfig::new(Trace::constant(mbps(2))) });
    dumbbell.add(Duration::ZERO, Congestion::Reno, Workload::Endless);
    dumbbell.run_until(seconds(300));
    let sender = &dumbbell.flows[0].sender;
    println!("{} bytes, {} timeouts, {} again", sender.arrived_bytes(), sender.timeouts(), sender.retransmissions());
    assert!(sender.timeouts() > 5);
    assert!(sender.arrived_bytes() > 300_000);
}

#[test]
fn downloads_come_and_go() {
    let mut dumbbell = Dumbbell::new(LinkConfig::new(Trace::constant(mbps(2))));
    for seed in 0..10 {
        let workload = Workload::OnOff(Downloads::web(seed, seed < 2));
        dumbbell.add(Duration::ZERO, Congestion::Reno, workload);
    }
    dumbbell.run_until(Duration::from_millis(1));
    let sending = (0..10).filter(|flow| dumbbell.network.flow_counters(FlowId(*flow)).offered != Tally::default());
    assert_eq!(sending.count(), 2);
    dumbbell.run_until(seconds(1_000));
    let count: u64 = dumbbell.flows.iter().map(|flow| flow.sender.downloads()).sum();
    let bytes: u64 = dumbbell.arrived().iter().sum();
    println!("{count} downloads of {} bytes", bytes / count);
    // Ten seconds of pause and a little more for each.
    assert!((800..1_050).contains(&count), "{count}");
    // 40 kB on average, and half a segment for rounding up; those under way count for their part.
    assert!((38_000..43_500).contains(&(bytes / count)), "{}", bytes / count);
}

#[test]
fn the_same_flows_end_at_the_same_byte() {
    let run = || {
        let loss = Loss::bursts(0.01, 3.0);
        let mut dumbbell = Dumbbell::new(LinkConfig { loss, seed: 9, ..LinkConfig::new(Trace::constant(mbps(2))) });
        dumbbell.add(Duration::ZERO, Congestion::Cubic, Workload::Endless);
        dumbbell.add(seconds(1), Congestion::Reno, Workload::OnOff(Downloads::files(1, true)));
        dumbbell.run_until(seconds(60));
        (dumbbell.arrived(), dumbbell.network.link_counters(dumbbell.link))
    };
    assert_eq!(run(), run());
}

#[test]
fn nothing_leaves_once_stopped() {
    let mut dumbbell = Dumbbell::new(LinkConfig::new(Trace::constant(mbps(2))));
    dumbbell.add(Duration::ZERO, Congestion::Cubic, Workload::Endless);
    dumbbell.run_until(seconds(5));
    dumbbell.flows[0].sender.stop();
    let offered = dumbbell.network.flow_counters(FlowId(0)).offered.packets;
    dumbbell.run_until(seconds(6));
    // The last segments are still acknowledged.
    assert!(dumbbell.network.flow_counters(FlowId(0)).offered.packets < offered + 60);
    let counters = dumbbell.network.flow_counters(FlowId(0));
    dumbbell.run_until(seconds(20));
    assert_eq!(dumbbell.network.flow_counters(FlowId(0)), counters);
    assert_eq!(counters.in_flight(), Tally::default());
}
