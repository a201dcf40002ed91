//! What to do when packets are sent and nothing is heard of them: less, and less again.
//!
//! After libwebrtc, `modules/congestion_controller/goog_cc/send_side_bandwidth_estimation.cc`, `RttBasedBackoff`.

use std::time::{Duration, Instant};

use super::rate::Rate;

/// From so long a round trip on (`limit`)…
const LIMIT: Duration = Duration::from_secs(3);
/// …the rate becomes this part of itself (`fraction`), so often (`interval`), but not less than this (`floor`).
const FACTOR: f64 = 0.8;
const INTERVAL: Duration = Duration::from_secs(1);
const FLOOR: Rate = Rate::from_kbps(5);

/// How long ago something was heard, in the time of what was sent.
#[derive(Debug)]
pub(super) struct Silence {
    heard: Option<Instant>,
    sent: Option<Instant>,
    round_trip: Duration,
    cut: Option<Instant>,
}

impl Silence {
    pub(super) fn new() -> Self {
        Self { heard: None, sent: None, round_trip: Duration::ZERO, cut: None }
    }

    /// Whether the round trip, with what has been sent since something was heard, is above the limit.
    pub(super) fn is_long(&self) -> bool {
        let (Some(heard), Some(sent)) = (self.heard, self.sent) else { return false };
        sent.saturating_duration_since(heard).saturating_add(self.round_trip) > LIMIT
    }

    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.heard.get_or_insert(now);
        self.sent = Some(now);
    }

    pub(super) fn handle_feedback(&mut self, now: Instant, round_trip: Option<Duration>) {
        self.heard = Some(now);
        self.round_trip = round_trip.unwrap_or_default();
    }

    /// The rate after a cut, if it is time for one.
    pub(super) fn cut(&mut self, now: Instant, rate: Rate) -> Option<Rate> {
        let is_new = self.cut.is_none_or(|cut| now.saturating_duration_since(cut) >= INTERVAL);
        if !self.is_long() || !is_new || rate <= FLOOR {
            return None;
        }
        self.cut = Some(now);
        Some((rate * FACTOR).max(FLOOR))
    }

    /// When it is time for a cut of the rate.
    pub(super) fn poll_timeout(&self, rate: Rate) -> Option<Instant> {
        if !self.is_long() || rate <= FLOOR {
            return None;
        }
        self.cut.map_or(self.sent, |cut| cut.checked_add(INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    fn at(millis: u64) -> Instant {
        start() + Duration::from_millis(millis)
    }

    #[test]
    fn cuts_each_second_after_three_without_an_answer() {
        let mut silence = Silence::new();
        let rate = Rate::from_kbps(1_000);
        silence.handle_sent(at(0));
        silence.handle_sent(at(3_000));
        assert_eq!(silence.cut(at(3_000), rate), None);
        silence.handle_sent(at(3_010));
        assert_eq!(silence.cut(at(3_010), rate), Some(Rate::from_kbps(800)));
        assert_eq!(silence.cut(at(4_000), rate), None);
        assert_eq!(silence.cut(at(4_010), rate), Some(Rate::from_kbps(800)));
        silence.handle_feedback(at(5_020), Some(Duration::from_millis(100)));
        assert_eq!(silence.cut(at(5_020), rate), None);
    }

    #[test]
    fn who_sends_nothing_waits_for_nothing() {
        let mut silence = Silence::new();
        silence.handle_sent(at(0));
        silence.handle_feedback(at(100), None);
        assert_eq!(silence.cut(at(60_000), Rate::from_kbps(1_000)), None);
    }
}
