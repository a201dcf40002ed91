//! How much may be under way: Reno's or CUBIC's congestion window, in segments.

use std::time::{Duration, Instant};

use super::cubic::{BETA, Cubic};

/// RFC 6928, section 2.
const INITIAL: f64 = 10.0;

/// RFC 5681, equation 4: the threshold is never less.
const MIN_THRESHOLD: f64 = 2.0;

/// 6 MB, which Linux lets a receive window grow to (`net.ipv4.tcp_rmem`).
const MAX: f64 = 4_096.0;

/// RFC 3465, section 2.3: an acknowledgement counts for two segments at most.
const MOST_A_TIME: u64 = 2;

/// By which rule the window grows and is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 5681: one segment a round trip, and half at a loss.
    Reno,
    /// RFC 9438.
    Cubic,
}

#[derive(Debug)]
pub(super) struct Window {
    rule: Congestion,
    size: f64,
    /// Below it slow start doubles the window in a round trip.
    threshold: f64,
    cubic: Cubic,
}

impl Window {
    pub(super) fn new(rule: Congestion) -> Self {
        Self { rule, size: INITIAL, threshold: f64::INFINITY, cubic: Cubic::default() }
    }

    /// In whole segments.
    pub(super) fn segments(&self) -> u64 {
        self.size as u64
    }

    /// So many segments were acknowledged, and nothing is being recovered.
    pub(super) fn handle_acked(&mut self, now: Instant, segments: u64, round_trip: Duration) {
        let acked = segments.min(MOST_A_TIME) as f64;
        let grown = if self.size < self.threshold {
            self.size + acked
        } else {
            match self.rule {
                Congestion::Reno => self.size + acked / self.size,
                Congestion::Cubic => self.cubic.grown(now, self.size, acked, round_trip),
            }
        };
        self.size = grown.min(MAX);
    }

    /// Something was lost while so many segments were under way.
    pub(super) fn handle_loss(&mut self, in_flight: u64) {
        self.cut(in_flight, false);
        self.size = self.threshold;
    }

    /// The timer has expired while so many segments were under way. While one timeout is being recovered from, the next
    /// leaves the threshold as it is (RFC 5681, section 3.1).
    pub(super) fn handle_timeout(&mut self, in_flight: u64, is_repeated: bool) {
        if !is_repeated {
            self.cut(in_flight, true);
        }
        self.size = 1.0;
    }

    fn cut(&mut self, in_flight: u64, is_timeout: bool) {
        let part = match self.rule {
            Congestion::Reno => 0.5,
            Congestion::Cubic => BETA,
        };
        // What was allowed but not used has shown nothing.
        let used = (in_flight as f64).min(self.size);
        self.threshold = (used * part).max(MIN_THRESHOLD);
        self.cubic.handle_cut(used, is_timeout);
    }
}
