//! The parts joined: what goes where when something happens, and what becomes the target.
//!
//! After libwebrtc, `modules/congestion_controller/goog_cc/goog_cc_network_control.cc` and
//! `send_side_bandwidth_estimation.cc`.

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use super::acknowledged_rate::AcknowledgedRate;
use super::application_limit::ApplicationLimit;
use super::backlog::Backlog;
use super::delay::{DelayEstimator, DelayUpdate, Findings};
use super::loss::{LossEstimator, LossState};
use super::loss_model::Tolerance;
use super::overuse::Usage;
use super::path::Path;
use super::probe_controller::{Cause, ProbeController};
use super::probe_estimate::ProbeEstimator;
use super::rate::Rate;
use super::silence::Silence;
use super::standing_queue::StandingQueue;
use crate::network::{EstimateBounds, NetworkController, NetworkEstimate, PacketReport, ProbeCluster, SentPacket};

/// Packets leave at this multiple of the target while there are any (`kDefaultPaceMultiplier`).
const PACING_FACTOR: f64 = 2.5;
/// The same where the link was full lately: what left earlier would wait there instead of here. Ours.
const PACING_FACTOR_FULL: f64 = 1.1;
/// But up to this rate always at the greater multiple: sources cannot make as little as they like, and what they make is to leave.
const PACING_MIN: Rate = Rate::from_kbps(400);
/// A packet that took so much longer than the fastest has waited. Ours.
const WAITED: Duration = Duration::from_millis(5);
/// Over so long it is looked how fast packets arrive that have waited, if there are so many. Ours.
const ARRIVALS_SPAN: Duration = Duration::from_millis(150);
const ARRIVALS_PACKETS: usize = 6;
/// Where packets are marked it is looked over so long how fast they arrive, waited or not.
const MARKED_SPAN: Duration = Duration::from_millis(300);
const MARKED_PACKETS: usize = 10;
/// More than this part of a message lost while packets wait so long: the queue overflows. Ours.
const OVERFLOW_LOST: f64 = 0.05;
const OVERFLOW_WAIT: Duration = Duration::from_millis(60);
/// No target is lower whatever the bounds (`bwe_defines.h`, `kCongestionControllerMinBitrate`).
const FLOOR: Rate = Rate::from_kbps(5);

/// Google congestion control for one path.
#[derive(Debug)]
pub struct GoogleController {
    bounds: Bounds,
    wanted: Rate,
    acknowledged: AcknowledgedRate,
    delay: DelayEstimator,
    loss: LossEstimator,
    probes: ProbeController,
    probe_results: ProbeEstimator,
    application: ApplicationLimit,
    path: Path,
    silence: Silence,
    queue: StandingQueue,
    backlog: Backlog,
    pacing_factor: f64,
    target: Rate,
    has_sent: bool,
    /// When a mark last led to a cut.
    marked: Option<Instant>,
    /// The reports of a message in the order of their arrival; kept for its memory.
    arrived: Vec<PacketReport>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    min: Rate,
    max: Rate,
    /// The same to the bit; rates are so only up to 9 Pb/s.
    exact: (Bitrate, Bitrate),
}

impl Bounds {
    /// Where they contradict each other, the lower one counts.
    fn new(bounds: EstimateBounds) -> Self {
        let min = bounds.min.max(FLOOR.to_bitrate());
        let max = bounds.max.max(min);
        Self { min: min.into(), max: max.into(), exact: (min, max) }
    }

    fn clamp(self, rate: Rate) -> Rate {
        rate.min(self.max).max(self.min)
    }
}

impl GoogleController {
    /// For a path of which nothing is known.
    #[must_use]
    pub fn new(now: Instant, bounds: EstimateBounds) -> Self {
        let start = Bounds::new(bounds).clamp(bounds.start.into());
        let bounds = Bounds::new(bounds);
        Self {
            bounds,
            wanted: Rate::UNLIMITED,
            acknowledged: AcknowledgedRate::new(),
            delay: DelayEstimator::new(now, start, bounds.min),
            loss: LossEstimator::new(bounds.min, bounds.max),
            probes: ProbeController::new(start, bounds.max),
            probe_results: ProbeEstimator::new(),
            application: ApplicationLimit::new(now, start),
            path: Path::new(now),
            silence: Silence::new(),
            queue: StandingQueue::default(),
            backlog: Backlog::new(now),
            pacing_factor: PACING_FACTOR,
            target: start,
            has_sent: false,
            marked: None,
            arrived: Vec::new(),
        }
    }

    /// The estimate is to stay between other bounds. It does not begin anew: the start counts only before the first packet.
    pub fn set_bounds(&mut self, now: Instant, bounds: EstimateBounds) {
        self.bounds = Bounds::new(bounds);
        self.delay.control_mut().set_min(self.bounds.min);
        self.loss.set_bounds(self.bounds.min, self.bounds.max);
        if !self.has_sent {
            let start = self.bounds.clamp(bounds.start.into());
            self.delay.control_mut().set_rate(now, start);
            self.target = start;
            self.probes = ProbeController::new(start, self.bounds.max);
            self.probes.set_wanted(now, self.wanted);
        }
        self.probes.set_max(now, self.bounds.max);
        self.set_target(now, self.target);
    }

    /// Everything that becomes of feedback in which at least one packet has arrived, and this part of the packets has not.
    fn handle_arrivals(&mut self, now: Instant, reports: &[PacketReport], lost: f64) {
        if let Some(round_trip) = self.path.round_trip() {
            self.delay.control_mut().set_round_trip(round_trip);
        }
        let mut probed = None;
        for report in reports {
            let Some(received) = report.received_at else { continue };
            let has_waited = self.path.waited(report).is_some_and(|waited| waited >= WAITED);
            self.acknowledged.add(report.sent.sent_at, received, report.sent.size, has_waited);
            self.delay.handle_packet(now, report.sent.sent_at, received);
            probed = self.probe_results.handle_packet(report).or(probed);
        }
        let waits = self.path.queue_delay();
        let round_trip = self.path.round_trip().unwrap_or_default();
        let arrives = self.acknowledged.busy_arrivals(ARRIVALS_SPAN, ARRIVALS_PACKETS);
        let queue = self.queue.handle_delay(now, waits, self.delay.control().aim(), round_trip, arrives.is_some());
        self.pacing_factor = if self.queue.is_link_full(now) { PACING_FACTOR_FULL } else { PACING_FACTOR };
        let findings = Findings {
            acknowledged: self.acknowledged.rate(),
            arrives,
            probed,
            queue,
            waits,
            is_calm: self.queue.is_calm(now),
            has_lost: lost > 0.0,
            overflows: lost > OVERFLOW_LOST && waits > OVERFLOW_WAIT,
            has_backlog: self.backlog.exists(),
        };
        let update = self.delay.update(now, &findings);
        if update == DelayUpdate::Probed {
            self.probes.handle_result(now, self.delay.rate());
            self.target = self.bounds.clamp(self.delay.rate());
        }
    }

    /// Marks are cut for once a round trip.
    fn handle_marks(&mut self, now: Instant, reports: &[PacketReport]) {
        let round_trip = self.path.round_trip().unwrap_or_default();
        let is_new = self.marked.is_none_or(|marked| now.saturating_duration_since(marked) >= round_trip);
        let marks = reports.iter().filter(|report| report.congestion_experienced).count();
        if is_new && marks > 0 {
            self.marked = Some(now);
            let arrives = self.acknowledged.recent_arrivals(MARKED_SPAN, MARKED_PACKETS).or(self.acknowledged.rate());
            let part = marks as f64 / reports.len() as f64;
            self.delay.control_mut().handle_marks(now, arrives.unwrap_or(self.target), part);
        }
    }

    /// The target that follows from all estimates.
    fn update_target(&mut self, now: Instant) {
        let limit = self.delay.rate();
        let target = match self.silence.cut(now, self.target) {
            Some(cut) => cut,
            None if self.silence.is_long() => self.target,
            None => self.loss.rate().unwrap_or(limit).min(limit),
        };
        self.set_target(now, target);
    }

    fn pacing(&self) -> Rate {
        let pacing = self.delay.control().pacing().unwrap_or(self.target * self.pacing_factor);
        pacing.max(self.target).max((self.target * PACING_FACTOR).min(PACING_MIN))
    }

    fn set_target(&mut self, now: Instant, target: Rate) {
        self.target = self.bounds.clamp(target);
        self.application.set_estimate(self.target);
        let cause = match (self.delay.usage(), self.loss.state()) {
            _ if self.silence.is_long() => Cause::Queue,
            // A slope of no queue to speak of is jitter's, or a last probe's.
            (Usage::Over | Usage::Under, LossState::Unlimited) if self.queue.is_empty() => Cause::Delay,
            (Usage::Over | Usage::Under, _) => Cause::Queue,
            (Usage::Normal, LossState::Decreasing) => Cause::Loss,
            (Usage::Normal, LossState::Increasing) => Cause::LossIncreasing,
            (Usage::Normal, LossState::Unlimited) => Cause::Delay,
        };
        self.probes.handle_estimate(now, self.target, cause);
    }
}

impl NetworkController for GoogleController {
    fn handle_sent(&mut self, packet: SentPacket) {
        self.has_sent = true;
        self.backlog.handle_sent(packet.sent_at, packet.size, self.pacing());
        self.application.handle_sent(packet.sent_at, packet.size);
        self.silence.handle_sent(packet.sent_at);
        self.probes.handle_sent(packet.sent_at);
    }

    fn handle_feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        if reports.is_empty() {
            return;
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.clear();
        arrived.extend(reports.iter().filter(|report| report.received_at.is_some()));
        arrived.sort_by_key(|report| report.received_at);
        self.path.handle_feedback(now, reports);
        self.probes.handle_application_limit(now, self.application.since());
        if !arrived.is_empty() {
            self.silence.handle_feedback(now, self.path.round_trip());
            self.handle_arrivals(now, &arrived, 1.0 - arrived.len() as f64 / reports.len() as f64);
            self.handle_marks(now, &arrived);
        }
        self.arrived = arrived;
        let is_limited = self.application.since().is_some();
        let is_calm = self.queue.is_calm(now);
        self.probes.handle_calm(is_calm);
        self.loss.set_tolerance(if is_calm { Tolerance::CALM } else { Tolerance::USUAL });
        self.loss.update(reports, self.acknowledged.rate(), self.delay.control().lasting(), is_limited);
        self.update_target(now);
        if self.delay.take_recovered() {
            self.probes.handle_recovery(now);
        }
    }

    fn set_wanted(&mut self, now: Instant, wanted: Bitrate) {
        self.wanted = wanted.into();
        self.probes.set_wanted(now, self.wanted);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.application.handle_sent(now, 0);
        self.probes.handle_application_limit(now, self.application.since());
        self.update_target(now);
        self.probes.handle_timeout(now);
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        let (mut probe, is_careful) = self.probes.poll_probe()?;
        probe.bitrate = probe.bitrate.min(self.bounds.exact.1);
        self.probe_results.begin(probe, is_careful);
        Some(probe)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.has_sent {
            return None;
        }
        let timeouts =
            [self.probes.poll_timeout(), self.application.poll_timeout(), self.silence.poll_timeout(self.target)];
        timeouts.into_iter().flatten().min()
    }

    fn estimate(&self) -> NetworkEstimate {
        let padding = match self.loss.state() {
            LossState::Increasing => self.target.min(self.wanted),
            LossState::Unlimited | LossState::Decreasing => Rate::ZERO,
        };
        let (min, max) = self.bounds.exact;
        let target = self.target.to_bitrate().clamp(min, max);
        NetworkEstimate {
            target,
            pacing: self.pacing().to_bitrate().max(target),
            padding: padding.to_bitrate().min(target),
            round_trip: self.path.round_trip(),
            loss: self.path.loss(),
            queue_delay: self.path.queue_delay(),
            application_limited: self.application.since().is_some(),
        }
    }
}
