//! One sender with a controller and a pacer over a simulated link, and what became of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lenscast_congestion::{
    EstimateBounds, GoogleController, NetworkController, NetworkEstimate, Paced, PacedContent, Pacer, PacketKind,
    PacketReport, ProbeId, SentPacket,
};
use lenscast_media::Bitrate;
use lenscast_simnet::video::{VideoConfig, VideoSource};
use lenscast_simnet::{EcnCodepoint, FlowId, LinkConfig, LinkId, Network, Packet, Route};

/// Bytes of a full packet on the wire, and those of its headers.
const PACKET: u32 = 1_200;
const HEADERS: u32 = 60;
/// The receiver reports this often.
const FEEDBACK: Duration = Duration::from_millis(50);
/// The receiver's clock began so much earlier.
const CLOCK_OFFSET: Duration = Duration::from_secs(1_000);

/// A time to count from: the same one for a whole run.
#[expect(clippy::disallowed_methods, reason = "tests need some time to begin with")]
pub(crate) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// The bounds of all trials: 50 kb/s to 20 Mb/s.
pub(crate) fn bounds(start_kbps: u64) -> EstimateBounds {
    let kbps = Bitrate::from_kbps;
    EstimateBounds { min: kbps(50), start: kbps(start_kbps), max: kbps(20_000) }
}

/// What a tenth of a second was like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) at: Duration,
    /// What arrived.
    pub(crate) arrived: Bitrate,
    /// What might have arrived.
    pub(crate) capacity: Bitrate,
    /// At its end.
    pub(crate) estimate: NetworkEstimate,
    /// At its end.
    pub(crate) queue: Duration,
}

/// What a trial showed.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// Of each packet.
    pub(crate) queue_delays: Vec<Duration>,
    pub(crate) wanted: Bitrate,
}

impl Outcome {
    /// The part of what the link could carry and the source could use.
    pub(crate) fn utilisation(&self, from: f64, until: f64) -> f64 {
        let within = |sample: &&Sample| (from..until).contains(&sample.at.as_secs_f64());
        let sum = |of: &dyn Fn(&Sample) -> u64| self.samples.iter().filter(within).map(of).sum::<u64>() as f64;
        sum(&|sample| sample.arrived.as_bps()) / sum(&|sample| sample.capacity.min(self.wanted).as_bps())
    }

    pub(crate) fn queue_percentile(&self, part: f64) -> Duration {
        let mut delays = self.queue_delays.clone();
        delays.sort_unstable();
        delays[((delays.len() - 1) as f64 * part) as usize]
    }

    /// From when on the queue stays below `limit` for half a second, counted from `from`.
    pub(crate) fn drained(&self, from: f64, limit: Duration) -> f64 {
        let later: Vec<_> = self.samples.iter().filter(|sample| sample.at.as_secs_f64() > from).collect();
        let calm = later.windows(5).find(|five| five.iter().all(|sample| sample.queue < limit));
        calm.map_or(f64::INFINITY, |five| five[0].at.as_secs_f64() - from)
    }

    /// From when on the target is at least so much, counted from `from`.
    pub(crate) fn reached(&self, from: f64, target: Bitrate) -> f64 {
        let found = self.samples.iter().find(|s| s.at.as_secs_f64() > from && s.estimate.target >= target);
        found.map_or(f64::INFINITY, |sample| sample.at.as_secs_f64() - from)
    }
}

/// The sender, the link, the receiver.
pub(crate) struct Trial {
    network: Network<u64>,
    link: LinkId,
    route: Route,
    back: Duration,
    ecn: EcnCodepoint,
    controller: GoogleController,
    pacer: Pacer<()>,
    video: VideoSource,
    wanted: Bitrate,
    sent: Vec<SentPacket>,
    arrived: Vec<(u64, Duration, bool)>,
    /// All before this have been reported.
    reported: u64,
    next_report: Instant,
    reports: VecDeque<(Instant, Vec<PacketReport>)>,
    queue_delays: Vec<Duration>,
    arrived_bytes: u64,
    samples: Vec<Sample>,
    next_sample: Instant,
}

impl Trial {
    /// A source that makes at most `wanted`, over the link there, and back without a queue.
    pub(crate) fn new(start_kbps: u64, wanted: Bitrate, link: LinkConfig) -> Self {
        let back = link.delay;
        let ecn = if link.ecn.is_some() { EcnCodepoint::Ect1 } else { EcnCodepoint::NotEct };
        let mut network = Network::new(start());
        let link = network.add_link(link);
        let mut controller = GoogleController::new(start(), bounds(start_kbps));
        controller.set_wanted(start(), wanted);
        Self {
            route: Route::new(&[link]),
            network,
            link,
            back,
            ecn,
            controller,
            pacer: Pacer::new(start()),
            video: VideoSource::new(1, VideoConfig { max: wanted, ..VideoConfig::default() }),
            wanted,
            sent: Vec::new(),
            arrived: Vec::new(),
            reported: 0,
            next_report: start() + FEEDBACK,
            reports: VecDeque::new(),
            queue_delays: Vec::new(),
            arrived_bytes: 0,
            samples: Vec::new(),
            next_sample: start() + Duration::from_millis(100),
        }
    }

    pub(crate) fn run(mut self, length: Duration) -> Outcome {
        let mut now = start();
        self.apply(now);
        while now < start() + length {
            let timeouts = [
                self.network.poll_timeout(),
                self.pacer.poll_timeout(),
                self.video.poll_timeout(),
                self.controller.poll_timeout(),
                self.reports.front().map(|&(at, _)| at),
                Some(self.next_report),
                Some(self.next_sample),
            ];
            now = timeouts.into_iter().flatten().min().unwrap().max(now);
            self.step(now);
        }
        Outcome { samples: self.samples, queue_delays: self.queue_delays, wanted: self.wanted }
    }

    fn step(&mut self, now: Instant) {
        self.network.handle_timeout(now);
        while let Some(delivered) = self.network.poll_delivered() {
            self.arrived_bytes += u64::from(delivered.packet.size);
            self.queue_delays.push(delivered.queue_delay);
            let received = delivered.arrived_at - start() + CLOCK_OFFSET;
            self.arrived.push((delivered.packet.payload, received, delivered.is_marked()));
        }
        if now >= self.next_report {
            self.next_report = now + FEEDBACK;
            self.report(now);
        }
        while self.reports.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, reports)) = self.reports.pop_front() else { break };
            self.controller.handle_feedback(now, &reports);
        }
        if self.controller.poll_timeout().is_some_and(|at| at <= now) {
            self.controller.handle_timeout(now);
            assert!(self.controller.poll_timeout().is_none_or(|at| at > now), "a timeout that does not pass");
        }
        self.apply(now);
        while let Some(frame) = self.video.poll_frame(now) {
            let mut left = frame.bytes;
            while left > 0 {
                let part = left.min(PACKET - HEADERS);
                assert!(self.pacer.push(now, PacketKind::Video, part + HEADERS, ()).is_none());
                left -= part;
            }
        }
        while let Some(paced) = self.pacer.poll(now) {
            self.send_paced(now, &paced);
        }
        if now >= self.next_sample {
            self.next_sample = now + Duration::from_millis(100);
            self.sample(now);
        }
    }

    /// What the controller says goes to the pacer and the source.
    fn apply(&mut self, now: Instant) {
        while let Some(probe) = self.controller.poll_probe() {
            self.pacer.add_probe(now, probe);
        }
        let estimate = self.controller.estimate();
        self.pacer.set_rates(now, estimate.pacing, estimate.padding);
        let media = estimate.target.as_bps() as f64 * f64::from(PACKET - HEADERS) / f64::from(PACKET);
        self.video.set_target(now, Bitrate::from_bps(media as u64));
    }

    fn send_paced(&mut self, now: Instant, paced: &Paced<()>) {
        match paced.content {
            PacedContent::Item(()) => self.send(now, paced.kind, paced.size, paced.probe),
            PacedContent::Padding { bytes } => {
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(PACKET);
                    left -= part;
                    let size = part.max(HEADERS);
                    self.send(now, PacketKind::Padding, size, paced.probe);
                    self.pacer.note_sent(now, u64::from(size), PacketKind::Padding);
                }
            }
        }
    }

    fn send(&mut self, now: Instant, kind: PacketKind, size: u32, probe: Option<ProbeId>) {
        let sequence = self.sent.len() as u64;
        let packet = SentPacket { sequence, size, sent_at: now, kind, probe };
        self.sent.push(packet);
        self.controller.handle_sent(packet);
        self.network.send(now, &self.route, Packet { flow: FlowId(0), size, ecn: self.ecn, payload: sequence });
    }

    fn report(&mut self, now: Instant) {
        let Some(last) = self.arrived.iter().map(|&(sequence, ..)| sequence).max() else { return };
        let known: BTreeSet<u64> = self.arrived.iter().map(|&(sequence, ..)| sequence).collect();
        let lost = (self.reported..last).filter(|sequence| !known.contains(sequence));
        let mut reports: Vec<_> = lost.map(|sequence| (sequence, None, false)).collect();
        reports.extend(self.arrived.drain(..).map(|(sequence, at, marked)| (sequence, Some(at), marked)));
        reports.sort_unstable();
        self.reported = self.reported.max(last + 1);
        let reports = reports.into_iter().map(|(sequence, received_at, congestion_experienced)| PacketReport {
            sent: self.sent[sequence as usize],
            received_at,
            congestion_experienced,
        });
        self.reports.push_back((now + self.back, reports.collect()));
    }

    fn sample(&mut self, now: Instant) {
        let tenth = |bytes: u64| Bitrate::from_bps(bytes * 80);
        let at = now - start();
        let trace = self.network.link_capacity(self.link);
        let capacity = tenth(trace.bytes_between(at - Duration::from_millis(100), at));
        let queue = self.network.link_queue_delay(self.link, now);
        let arrived = tenth(std::mem::take(&mut self.arrived_bytes));
        let estimate = self.controller.estimate();
        self.samples.push(Sample { at, arrived, capacity, estimate, queue });
    }
}
