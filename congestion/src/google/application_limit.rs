//! Whether less is being sent than might be: the application-limited region.
//!
//! A budget fills at 0.65 of the estimate and empties with what is sent, over half a second each way. Nearly full means that the
//! application limits the rate; half full ends it. After libwebrtc, `modules/congestion_controller/goog_cc/alr_detector.cc` and
//! `modules/pacing/interval_budget.cc`.

use std::time::{Duration, Instant};

use super::rate::Rate;

/// The part of the estimate below which use counts as little (`bandwidth_usage_ratio`).
const USAGE: f64 = 0.65;
/// So full is the budget when the region begins and when it ends (`start_budget_level_ratio`, `stop_budget_level_ratio`).
const BEGIN: f64 = 0.8;
const END: f64 = 0.5;
/// The budget holds this much of its rate, as credit and as debt (`interval_budget.cc`, `kWindow`).
const WINDOW: Duration = Duration::from_millis(500);

/// The budget.
#[derive(Debug)]
pub(super) struct ApplicationLimit {
    rate: Rate,
    /// Bytes that might have been sent but were not; negative if more were.
    credit: f64,
    updated: Instant,
    since: Option<Instant>,
}

impl ApplicationLimit {
    pub(super) fn new(now: Instant, estimate: Rate) -> Self {
        Self { rate: estimate * USAGE, credit: 0.0, updated: now, since: None }
    }

    /// When the application began to limit the rate, if it does.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// So many bytes have been sent. With none it takes note of silence.
    pub(super) fn handle_sent(&mut self, now: Instant, bytes: u32) {
        let room = self.room();
        let span = now.saturating_duration_since(self.updated).min(WINDOW * 2);
        self.updated = self.updated.max(now);
        let spent = (self.credit - f64::from(bytes)).max(-room);
        self.credit = (spent + self.rate.bytes_in(span)).min(room);
        if room <= 0.0 {
            return;
        }
        let level = self.credit / room;
        if level > BEGIN {
            self.since.get_or_insert(now);
        } else if level < END {
            self.since = None;
        }
    }

    /// When silence is to be taken note of.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.since.is_none() { self.updated.checked_add(WINDOW) } else { None }
    }

    pub(super) fn set_estimate(&mut self, estimate: Rate) {
        self.rate = estimate * USAGE;
        let room = self.room();
        self.credit = self.credit.clamp(-room, room);
    }

    fn room(&self) -> f64 {
        self.rate.bytes_in(WINDOW).min(f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    /// So many bytes each 10 ms of the milliseconds, on an estimate of 1 Mb/s: 0.65 of it are 812.5 bytes each 10 ms.
    fn send(limit: &mut ApplicationLimit, millis: std::ops::Range<u64>, bytes: u32) {
        for n in millis.step_by(10) {
            limit.handle_sent(start() + Duration::from_millis(n), bytes);
        }
    }

    #[test]
    fn begins_when_little_is_sent_and_ends_when_much_is() {
        let mut limit = ApplicationLimit::new(start(), Rate::from_kbps(1_000));
        send(&mut limit, 10..5_000, 1_000);
        assert_eq!(limit.since(), None);
        // From full debt of 40,625 bytes to a credit of 32,500 at 312.5 bytes each 10 ms: after 2.32 s.
        send(&mut limit, 5_000..7_300, 500);
        assert_eq!(limit.since(), None);
        send(&mut limit, 7_300..7_400, 500);
        assert!(limit.since().is_some());
        send(&mut limit, 7_400..9_000, 1_000);
        assert_eq!(limit.since(), None);
    }

    #[test]
    fn silence_begins_it_too() {
        let mut limit = ApplicationLimit::new(start(), Rate::from_kbps(1_000));
        limit.handle_sent(start() + Duration::from_millis(500), 0);
        assert!(limit.since().is_some());
    }
}
