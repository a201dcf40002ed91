//! Whether packets leave as fast as they may: then more of them wait to leave.
//!
//! Ours. An encoder takes a while to follow a fall of the rate, and what it makes meanwhile waits in the pacer, of which a
//! controller knows only what leaves it.
//!
//! What it does not do: say how much waits.

use std::time::{Duration, Instant};

use super::rate::Rate;

/// It is looked at over so long: some ten frames.
const SPAN: Duration = Duration::from_millis(300);
/// If this part of what may leave does leave, more waits.
const PART: f64 = 0.93;

/// What has left of what might have, since the last look.
#[derive(Debug)]
pub(super) struct Backlog {
    since: Instant,
    updated: Instant,
    bytes: f64,
    allowed: f64,
    exists: bool,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, updated: now, bytes: 0.0, allowed: 0.0, exists: false }
    }

    pub(super) fn exists(&self) -> bool {
        self.exists
    }

    /// A packet has left, while packets may leave at `pacing`.
    pub(super) fn handle_sent(&mut self, now: Instant, size: u32, pacing: Rate) {
        self.allowed += pacing.bytes_in(now.saturating_duration_since(self.updated).min(SPAN));
        self.updated = self.updated.max(now);
        self.bytes += f64::from(size);
        if now.saturating_duration_since(self.since) >= SPAN {
            self.exists = self.bytes >= self.allowed * PART;
            (self.since, self.bytes, self.allowed) = (now, 0.0, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    /// So many bytes each 10 ms of a second, while 1,250 may leave.
    fn exists(bytes: u32) -> bool {
        let mut backlog = Backlog::new(start());
        for n in 0..100 {
            backlog.handle_sent(start() + Duration::from_millis(10 * n), bytes, Rate::from_kbps(1_000));
        }
        backlog.exists()
    }

    #[test]
    fn exists_while_all_leaves_that_may() {
        assert!(exists(1_250));
        assert!(exists(1_200));
        assert!(!exists(1_100));
        assert!(!exists(0));
    }
}
