//! What reports tell of a path beside its rate: round trip, loss, and how long packets wait in queues.
//!
//! **Invariants.** Fixed memory. The queueing delay is never negative: what the fastest packet of a minute took counts as
//! no queue.
//!
//! What it does not do: estimate a rate.

use std::time::{Duration, Instant};

use super::rate::millis_between;
use crate::network::PacketReport;

/// The fastest packet is looked for in so many spans of so long, so that it is forgotten when the path becomes a longer one.
/// Ours; libwebrtc has no measure of standing queues.
const SPANS: usize = 12;
const SPAN: Duration = Duration::from_secs(5);
/// A loss rate is of so many packets at least, over at least so long (`send_side_bandwidth_estimation.cc`, `kLimitNumPackets`;
/// `goog_cc_network_control.cc`, `kLossUpdateInterval`).
const LOSS_PACKETS: u32 = 20;
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// No path takes longer; more is a clock that jumps.
const DELAY_MAX_MS: f64 = 60_000.0;

/// The measures.
#[derive(Debug)]
pub(super) struct Path {
    /// What sending times are counted from.
    origin: Instant,
    round_trip: Option<Duration>,
    loss: f64,
    packets: u32,
    lost: u32,
    loss_updated: Instant,
    /// The least relative delay in each of the last spans; the current one first.
    least: [f64; SPANS],
    span_began: Instant,
    /// The least of all.
    fastest_ms: f64,
    queue_ms: f64,
}

impl Path {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            round_trip: None,
            loss: 0.0,
            packets: 0,
            lost: 0,
            loss_updated: now,
            least: [f64::INFINITY; SPANS],
            span_began: now,
            fastest_ms: 0.0,
            queue_ms: 0.0,
        }
    }

    /// Of the fastest packet of the last message, without what it waited to be reported.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The part of the packets that did not come, over the last second or 20 packets.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// How much longer the fastest packet of the last message took than the fastest of a minute.
    pub(super) fn queue_delay(&self) -> Duration {
        Duration::from_secs_f64(self.queue_ms.clamp(0.0, DELAY_MAX_MS) / 1e3)
    }

    /// How much longer this packet took than the fastest of a minute, if it arrived.
    pub(super) fn waited(&self, report: &PacketReport) -> Option<Duration> {
        let sent = report.sent.sent_at.saturating_duration_since(self.origin);
        let waited = millis_between(sent, report.received_at?) - self.fastest_ms;
        Some(Duration::from_secs_f64(waited.clamp(0.0, DELAY_MAX_MS) / 1e3))
    }

    /// Feedback has come.
    pub(super) fn handle_feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        self.count_losses(now, reports);
        let Some(last) = reports.iter().filter_map(|report| report.received_at).max() else { return };
        self.turn_spans(now);
        let mut delay_ms = f64::INFINITY;
        let mut round_trip: Option<Duration> = None;
        for report in reports {
            let Some(received) = report.received_at else { continue };
            let waited = last.saturating_sub(received);
            let trip = now.saturating_duration_since(report.sent.sent_at).saturating_sub(waited);
            round_trip = Some(round_trip.map_or(trip, |least| least.min(trip)));
            let sent = report.sent.sent_at.saturating_duration_since(self.origin);
            delay_ms = delay_ms.min(millis_between(sent, received));
        }
        self.round_trip = round_trip.filter(|trip| !trip.is_zero()).or(self.round_trip);
        let least = self.least.iter().copied().fold(f64::INFINITY, f64::min);
        if delay_ms - least > DELAY_MAX_MS {
            self.least = [f64::INFINITY; SPANS];
        }
        self.least[0] = self.least[0].min(delay_ms);
        let least = self.least.iter().copied().fold(f64::INFINITY, f64::min);
        self.fastest_ms = least;
        self.queue_ms = delay_ms - least;
    }

    fn count_losses(&mut self, now: Instant, reports: &[PacketReport]) {
        for report in reports {
            self.packets = self.packets.saturating_add(1);
            self.lost = self.lost.saturating_add(u32::from(report.received_at.is_none()));
        }
        if self.packets >= LOSS_PACKETS && now.saturating_duration_since(self.loss_updated) >= LOSS_INTERVAL {
            self.loss = f64::from(self.lost) / f64::from(self.packets);
            (self.packets, self.lost, self.loss_updated) = (0, 0, now);
        }
    }

    fn turn_spans(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.span_began).as_secs() / SPAN.as_secs();
        if passed == 0 {
            return;
        }
        let turn = usize::try_from(passed).unwrap_or(SPANS).min(SPANS);
        self.least.rotate_right(turn);
        self.least[..turn].fill(f64::INFINITY);
        self.span_began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::{report, start};

    fn at(millis: u64) -> Instant {
        start() + Duration::from_millis(millis)
    }

    #[test]
    fn a_round_trip_leaves_out_what_waited_for_the_report() {
        let mut path = Path::new(start());
        path.handle_feedback(at(200), &[report(0, 1_000, 0, Some(50)), report(1, 1_000, 40, Some(150))]);
        // The first waited 100 ms: 100 ms are left; the second took 160 ms.
        assert_eq!(path.round_trip(), Some(Duration::from_millis(100)));
    }

    #[test]
    fn what_takes_longer_than_the_fastest_waits_in_a_queue() {
        let mut path = Path::new(start());
        path.handle_feedback(at(100), &[report(0, 1_000, 0, Some(1_000))]);
        assert_eq!(path.queue_delay(), Duration::ZERO);
        path.handle_feedback(at(200), &[report(1, 1_000, 100, Some(1_180)), report(2, 1_000, 110, Some(1_170))]);
        assert_eq!(path.queue_delay(), Duration::from_millis(60));
        // After a minute this is how long the path is.
        for n in 1..70 {
            path.handle_feedback(at(1_000 * n), &[report(n, 1_000, 1_000 * n, Some(1_000 * n + 1_060))]);
        }
        assert_eq!(path.queue_delay(), Duration::ZERO);
    }

    #[test]
    fn counts_losses_over_a_second() {
        let mut path = Path::new(start());
        for n in 0..40 {
            path.handle_feedback(at(50 * n), &[report(n, 1_000, 50 * n, (n % 4 != 0).then_some(50 * n + 50))]);
        }
        assert!((path.loss() - 0.25).abs() < 0.05, "{}", path.loss());
    }
}
