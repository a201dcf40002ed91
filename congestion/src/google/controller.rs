//! The parts joined (`goog_cc_network_control.cc`).

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use super::acknowledged_rate::AcknowledgedRate;
use super::delay::DelayEstimator;
use super::rate::Rate;
use crate::network::{EstimateBounds, NetworkController, NetworkEstimate, PacketReport, ProbeCluster, SentPacket};

/// Packets leave at this multiple of the target while there are any (`kDefaultPaceMultiplier`).
const PACING_FACTOR: f64 = 2.5;

/// Google congestion control for one path.
#[derive(Debug)]
pub struct GoogleController {
    bounds: EstimateBounds,
    acknowledged: AcknowledgedRate,
    delay: DelayEstimator,
    round_trip: Option<Duration>,
    /// The reports of a message in the order of their arrival.
    arrived: Vec<PacketReport>,
}

impl GoogleController {
    /// For a path of which nothing is known.
    #[must_use]
    pub fn new(now: Instant, bounds: EstimateBounds) -> Self {
        Self {
            bounds,
            acknowledged: AcknowledgedRate::new(),
            delay: DelayEstimator::new(now, bounds.start.into(), bounds.min.into()),
            round_trip: None,
            arrived: Vec::new(),
        }
    }

    /// The estimate is to stay between other bounds. Does not begin anew.
    pub fn set_bounds(&mut self, _now: Instant, bounds: EstimateBounds) {
        self.bounds = bounds;
        self.delay.control_mut().set_min(bounds.min.into());
    }
}

impl NetworkController for GoogleController {
    fn handle_sent(&mut self, _packet: SentPacket) {}

    fn handle_feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        self.arrived.clear();
        self.arrived.extend(reports.iter().filter(|report| report.received_at.is_some()));
        self.arrived.sort_by_key(|report| report.received_at);
        let Some(last) = self.arrived.last() else { return };
        let round_trip = now.saturating_duration_since(last.sent.sent_at);
        self.round_trip = Some(round_trip);
        self.delay.control_mut().set_round_trip(round_trip);
        for report in &self.arrived {
            let Some(received) = report.received_at else { continue };
            self.acknowledged.add(report.sent.sent_at, received, report.sent.size);
            self.delay.handle_packet(now, report.sent.sent_at, received);
        }
        self.delay.update(now, self.acknowledged.rate(), None);
    }

    fn set_wanted(&mut self, _now: Instant, _wanted: Bitrate) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn estimate(&self) -> NetworkEstimate {
        let target = self.delay.rate().max(self.bounds.min.into()).min(Rate::from(self.bounds.max));
        NetworkEstimate {
            target: target.to_bitrate(),
            pacing: (target * PACING_FACTOR).to_bitrate(),
            padding: Bitrate::ZERO,
            round_trip: self.round_trip,
            loss: 0.0,
            queue_delay: Duration::ZERO,
            application_limited: false,
        }
    }
}
