//! Runs a case: the loop over whatever happens next.

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_simnet::tcp::{self, Congestion, Downloads, Workload};
use lenscast_simnet::{
    Delivered, Ecn, EcnCodepoint, FlowId, Jitter, LinkConfig, LinkId, Loss, Network, Packet, QueueLimit, Route, Trace,
};

use crate::case::{Capacity, Case, JitterPlan, LinkPlan, TcpLoad, TcpPlan};
use crate::controllers::Controller;
use crate::media::{Addressed, Checks, Ends, FeedbackFormat, Message, wire_max};
use crate::metrics::{Link, Track, metrics, rate};
use crate::outcome::{BottleneckSeries, CrossSeries, FlowSeries, Invariants, Outcome, SAMPLE};
use crate::record::{CrossRecord, GLANCE, LinkRecord, TrackRecord, samples};

/// Runs `case` with `controller`. The same arguments give the same outcome.
#[must_use]
pub fn run(case: &Case, controller: Controller, seed: u64) -> Outcome {
    let mut world = World::new(case, controller, seed);
    world.run();
    world.outcome()
}

/// All of them with each of the controllers, in this order, on as many threads as there are processors.
#[must_use]
pub fn run_all(cases: &[Case], controllers: &[Controller], seed: u64) -> Vec<Outcome> {
    let runs: Vec<(&Case, Controller)> =
        cases.iter().flat_map(|case| controllers.iter().map(move |controller| (case, *controller))).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(runs.len());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut outcomes = Vec::new();
        loop {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((case, controller)) = runs.get(index) else { return outcomes };
            outcomes.push((index, run(case, *controller, seed)));
        }
    };
    let mut outcomes: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        // A panic of a run is one of this call.
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// When a run begins. Only differences to it count; that much lies before it so that nothing can reach back too far.
#[expect(clippy::disallowed_methods, reason = "virtual time needs a beginning, whichever it is")]
pub(crate) fn origin() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// What travels through the network.
enum Parcel {
    /// From a sender of media.
    Forward(usize, Message),
    /// To it.
    Back(usize, Message),
    /// To a TCP connection's receiver.
    Segment(usize, tcp::Segment),
    /// To its sender.
    Ack(usize, tcp::Ack),
}

/// How RFC 8868, section 4.5.3, has jitter: a deviation of 5 ms, cut at three of them.
const JITTER: Jitter = Jitter { deviation: Duration::from_millis(5), cut: 3.0 };

struct World<'a> {
    case: &'a Case,
    controller: Controller,
    seed: u64,
    start: Instant,
    network: Network<Parcel>,
    links: Vec<LinkId>,
    pairs: Vec<Pair>,
    connections: Vec<Connection>,
    /// Of the bottlenecks, in the order of links.
    link_records: Vec<LinkRecord>,
    next_glance: Instant,
}

/// A sender and its receiver.
struct Pair {
    begins: Instant,
    /// Once it has begun.
    ends: Option<Ends>,
    forward: Route,
    back: Route,
    records: Vec<TrackRecord>,
}

/// A TCP connection.
struct Connection {
    sender: tcp::Sender,
    receiver: tcp::Receiver,
    stops: Option<Instant>,
    forward: Route,
    back: Route,
    record: CrossRecord,
}

impl<'a> World<'a> {
    fn new(case: &'a Case, controller: Controller, seed: u64) -> Self {
        let start = origin();
        let mut network = Network::new(start);
        let links: Vec<LinkId> = (0_u64..)
            .zip(&case.links)
            .map(|(index, plan)| network.add_link(link_config(plan, case.length, mix(seed, index))))
            .collect();
        let route = |plan: &[usize]| Route::new(&plan.iter().map(|index| links[*index]).collect::<Vec<_>>());
        let pairs = case.senders.iter().map(|plan| {
            let begins = plan.tracks.iter().flat_map(|track| &track.active).map(|(from, _)| *from).min();
            Pair {
                begins: start + begins.unwrap_or(case.length),
                ends: None,
                forward: route(&plan.forward),
                back: route(&plan.back),
                records: plan.tracks.iter().map(|_| TrackRecord::new(case.length)).collect(),
            }
        });
        let pairs = pairs.collect();
        let connections = (0_u64..).zip(&case.tcp).map(|(index, plan)| Connection {
            sender: tcp_sender(start, plan, mix(seed, 2_000 + index)),
            receiver: tcp::Receiver::new(),
            stops: match plan.load {
                TcpLoad::Long(_, to) => Some(start + to),
                TcpLoad::Web(_) | TcpLoad::Files(_) => None,
            },
            forward: route(&plan.forward),
            back: route(&plan.back),
            record: CrossRecord::new(case.length),
        });
        let connections = connections.collect();
        let bottlenecks = case.links.iter().filter(|link| link.bottleneck);
        let link_records = bottlenecks.map(|_| LinkRecord { queue: Vec::new(), capacity: Vec::new() }).collect();
        Self { case, controller, seed, start, network, links, pairs, connections, link_records, next_glance: start }
    }

    fn run(&mut self) {
        let end = self.start + self.case.length;
        let mut now = self.start;
        while let Some(next) = self.next().filter(|next| *next < end) {
            now = now.max(next);
            self.network.handle_timeout(now);
            while let Some(delivered) = self.network.poll_delivered() {
                self.deliver(now, delivered);
            }
            for index in 0..self.pairs.len() {
                self.step(now, index);
            }
            for index in 0..self.connections.len() {
                self.step_tcp(now, index);
            }
            if self.next_glance <= now {
                self.glance(now);
                self.next_glance += GLANCE;
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let pairs = self.pairs.iter().map(Pair::next);
        let connections = self.connections.iter().filter_map(Connection::next);
        pairs.chain(connections).chain(self.network.poll_timeout()).chain([self.next_glance]).min()
    }

    /// Lets a sender and its receiver do what is due.
    fn step(&mut self, now: Instant, index: usize) {
        let pair = &mut self.pairs[index];
        if pair.ends.is_none() && pair.begins <= now {
            let seed = mix(self.seed, 1_000 + index as u64);
            let plan = &self.case.senders[index];
            let format = format(self.case, self.controller);
            pair.ends = Some(Ends::new(self.start, now, plan, self.controller, format, seed));
        }
        let Some(ends) = pair.ends.as_mut() else { return };
        let marks = self.case.ecn && self.controller.reads_marks();
        let ecn = if marks { EcnCodepoint::Ect1 } else { EcnCodepoint::NotEct };
        ends.handle_timeout(now, &mut pair.records);
        while let Some(Addressed { size, message }) = ends.poll_forward(now, &mut pair.records) {
            let payload = Parcel::Forward(index, message);
            self.network.send(now, &pair.forward, Packet { flow: FlowId(index as u32), size, ecn, payload });
        }
        while let Some(Addressed { size, message }) = ends.poll_back(now) {
            let (ecn, payload) = (EcnCodepoint::NotEct, Parcel::Back(index, message));
            self.network.send(now, &pair.back, Packet { flow: FlowId(index as u32), size, ecn, payload });
        }
    }

    /// Lets a TCP connection do what is due.
    fn step_tcp(&mut self, now: Instant, index: usize) {
        let Connection { sender, receiver, stops, forward, back, .. } = &mut self.connections[index];
        if stops.is_some_and(|at| at <= now) {
            *stops = None;
            sender.stop();
        }
        let flow = FlowId(1_000 + index as u32);
        let ecn = EcnCodepoint::NotEct;
        if sender.poll_timeout().is_some_and(|at| at <= now) {
            sender.handle_timeout(now);
        }
        while let Some(segment) = sender.poll_segment(now) {
            let payload = Parcel::Segment(index, segment);
            self.network.send(now, forward, Packet { flow, size: segment.size(), ecn, payload });
        }
        while let Some(ack) = receiver.poll_ack(now) {
            self.network.send(now, back, Packet { flow, size: ack.size(), ecn, payload: Parcel::Ack(index, ack) });
        }
    }

    fn deliver(&mut self, now: Instant, delivered: Delivered<Parcel>) {
        let marked = delivered.is_marked();
        let size = delivered.packet.size;
        let at = now - self.start;
        match delivered.packet.payload {
            Parcel::Segment(index, segment) => {
                let connection = &mut self.connections[index];
                connection.record.note_received(at, size);
                connection.receiver.handle_segment(now, &segment);
                // One that answers at once does so before the next comes.
                self.step_tcp(now, index);
            }
            Parcel::Ack(index, ack) => self.connections[index].sender.handle_ack(now, &ack),
            Parcel::Forward(index, message) => {
                let pair = &mut self.pairs[index];
                let arrived = message.arrived();
                let record = &mut pair.records[usize::from(arrived.track)];
                record.note_received(at, size, delivered.queue_delay);
                if let Some(number) = arrived.number {
                    record.note_media(at, number, arrived.first);
                }
                pair.ends.iter_mut().for_each(|ends| ends.handle_forward(now, &message, size, marked));
            }
            Parcel::Back(index, message) => {
                self.pairs[index].ends.iter_mut().for_each(|ends| ends.handle_back(now, &message));
            }
        }
    }

    /// Writes down what is not told by packets.
    fn glance(&mut self, now: Instant) {
        let at = now - self.start;
        let begins_sample = at.as_nanos().is_multiple_of(SAMPLE.as_nanos());
        let bottlenecks = self.case.links.iter().zip(&self.links).filter(|(plan, _)| plan.bottleneck);
        for ((_, link), record) in bottlenecks.zip(&mut self.link_records) {
            record.queue.push(self.network.link_queue_delay(*link, now));
            if begins_sample {
                let bytes = self.network.link_capacity(*link).bytes_between(at, at + SAMPLE);
                record.capacity.push(Bitrate::from_bps(rate(bytes) as u64));
            }
        }
        if begins_sample {
            for pair in &mut self.pairs {
                for (track, record) in pair.records.iter_mut().enumerate() {
                    let target = pair.ends.as_ref().map_or(Bitrate::ZERO, |ends| ends.share(track));
                    record.target.push(target);
                }
            }
        }
    }

    fn outcome(self) -> Outcome {
        let case = self.case;
        let bottlenecks: Vec<usize> = (0..case.links.len()).filter(|index| case.links[*index].bottleneck).collect();
        let links: Vec<Link<'_>> =
            bottlenecks.iter().zip(&self.link_records).map(|(index, record)| Link { index: *index, record }).collect();
        let tracks: Vec<Track<'_>> = case
            .senders
            .iter()
            .zip(&self.pairs)
            .flat_map(|(plan, pair)| {
                plan.tracks.iter().zip(&pair.records).enumerate().map(|(index, (track, record))| Track {
                    plan: track,
                    record,
                    forward: &plan.forward,
                    wire_max: wire_max(track.max, plan.audio && index == 0),
                })
            })
            .collect();
        Outcome {
            case: case.name,
            title: case.title,
            controller: self.controller,
            seed: self.seed,
            length: case.length,
            bottlenecks: links.iter().map(|link| bottleneck_series(case, link)).collect(),
            flows: (1..).zip(&tracks).map(|(number, track)| flow_series(case, number, track)).collect(),
            cross: (1..).zip(&self.connections).map(|(number, connection)| cross_series(number, connection)).collect(),
            metrics: metrics(case, &links, &tracks),
            invariants: self.invariants(),
        }
    }

    fn invariants(&self) -> Invariants {
        let ends = self.pairs.iter().filter_map(|pair| pair.ends.as_ref());
        ends.map(Ends::checks).fold(Invariants::default(), |sum, checks: Checks| Invariants {
            estimates_out_of_bounds: sum.estimates_out_of_bounds + checks.estimates_out_of_bounds,
            longest_pacer_queue: sum.longest_pacer_queue.max(checks.longest_pacer_queue),
            rejected: sum.rejected + checks.rejected,
            unreadable: sum.unreadable + checks.unreadable,
            over_pacing: sum.over_pacing + checks.over_pacing,
        })
    }
}

impl Pair {
    /// When the sender has something to do.
    fn next(&self) -> Instant {
        match &self.ends {
            None => self.begins,
            // It always has: the controller's clock, or a source's.
            Some(ends) => ends.poll_timeout().unwrap_or(self.begins + Duration::from_secs(86_400)),
        }
    }
}

impl Connection {
    fn next(&self) -> Option<Instant> {
        [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.stops].into_iter().flatten().min()
    }
}

/// A connection by CUBIC, as most are.
fn tcp_sender(start: Instant, plan: &TcpPlan, seed: u64) -> tcp::Sender {
    let (from, workload) = match plan.load {
        TcpLoad::Long(from, _) => (from, Workload::Endless),
        TcpLoad::Web(starts_on) => (Duration::ZERO, Workload::OnOff(Downloads::web(seed, starts_on))),
        TcpLoad::Files(starts_on) => (Duration::ZERO, Workload::OnOff(Downloads::files(seed, starts_on))),
    };
    tcp::Sender::new(start + from, Congestion::Cubic, workload)
}

fn format(case: &Case, controller: Controller) -> FeedbackFormat {
    if case.ecn && controller.reads_marks() { FeedbackFormat::Rfc8888 } else { FeedbackFormat::TransportWide }
}

fn link_config(plan: &LinkPlan, length: Duration, seed: u64) -> LinkConfig {
    let capacity = match &plan.capacity {
        Capacity::Steps(steps) => Trace::steps(steps),
        Capacity::Cellular(mean) => Trace::lte_like(seed, *mean, length),
    };
    LinkConfig {
        delay: plan.delay,
        jitter: match plan.jitter {
            JitterPlan::None => Jitter::NONE,
            JitterPlan::Gaussian => JITTER,
        },
        loss: if plan.loss > 0.0 { Loss::Random(plan.loss) } else { Loss::None },
        queue: QueueLimit::Time(plan.queue),
        burst: plan.burst,
        ecn: plan.mark.map(|threshold| Ecn { threshold }),
        seed,
        ..LinkConfig::new(capacity)
    }
}

/// A seed of its own for everything that has one: the finaliser of SplitMix64.
fn mix(seed: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn bottleneck_series(case: &Case, link: &Link<'_>) -> BottleneckSeries {
    let glances = (SAMPLE.as_nanos() / GLANCE.as_nanos()) as usize;
    let longest = |glances: &[Duration]| glances.iter().copied().max().unwrap_or_default();
    BottleneckSeries {
        name: case.links[link.index].name,
        capacity: link.record.capacity.clone(),
        queue: link.record.queue.chunks(glances).map(longest).collect(),
    }
}

fn cross_series(number: usize, connection: &Connection) -> CrossSeries {
    let received = connection.record.received.iter().map(|bytes| Bitrate::from_bps(rate(*bytes) as u64)).collect();
    CrossSeries { name: format!("TCP {number}"), received }
}

fn flow_series(case: &Case, number: usize, track: &Track<'_>) -> FlowSeries {
    let rates = |bytes: &[u64]| bytes.iter().map(|bytes| Bitrate::from_bps(rate(*bytes) as u64)).collect();
    let record = track.record;
    let mut goodput = vec![0_u64; samples(case.length)];
    let mut sent = vec![(0_u32, 0_u32, 0_u32); samples(case.length)];
    let sample = |at: Duration| (at.as_nanos() / SAMPLE.as_nanos()) as usize;
    for packet in record.media() {
        if let Some(bytes) = packet.came_at.and_then(|at| goodput.get_mut(sample(at))) {
            *bytes += u64::from(packet.payload);
        }
        if let Some((all, lost, for_good)) = sent.get_mut(sample(packet.sent_at)) {
            *all += 1;
            *lost += u32::from(!packet.came_at_once);
            *for_good += u32::from(!packet.came_in_time());
        }
    }
    let part = |part: u32, all: u32| if all == 0 { 0.0 } else { f64::from(part) / f64::from(all) };
    FlowSeries {
        name: format!("flow {number}"),
        target: record.target.clone(),
        sent: rates(&record.sent),
        received: rates(&record.received),
        goodput: rates(&goodput),
        queueing: record.queueing.iter().map(|(sum, count)| (*count > 0).then(|| *sum / (*count).max(1))).collect(),
        lost: sent.iter().map(|(all, lost, _)| part(*lost, *all)).collect(),
        lost_after_repair: sent.iter().map(|(all, _, for_good)| part(*for_good, *all)).collect(),
    }
}
