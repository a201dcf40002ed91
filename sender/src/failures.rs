use std::time::{Duration, Instant};

/// Consecutive failures of an encoder, and when to try again: at once after the first, then after waits that double.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    consecutive: u32,
    retry_at: Option<Instant>,
    reason: String,
}

/// A track is called failed from this many consecutive failures on, less than a second after the first.
const PERSISTENT: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Failures {
    pub(crate) fn add(&mut self, now: Instant, reason: String) {
        self.reason = reason;
        self.consecutive = self.consecutive.saturating_add(1);
        if let Some(doublings) = self.consecutive.checked_sub(2) {
            let wait = FIRST_WAIT.saturating_mul(1 << doublings.min(10)).min(LONGEST_WAIT);
            self.retry_at = Some(now + wait);
        }
    }

    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    pub(crate) const fn are_persistent(&self) -> bool {
        self.consecutive >= PERSISTENT
    }

    /// What went wrong last.
    pub(crate) fn last(&self) -> &str {
        &self.reason
    }

    /// What went wrong last, if it has gone wrong for long.
    pub(crate) fn persistent(&self) -> Option<&str> {
        self.are_persistent().then_some(&self.reason)
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_later_ones_wait_longer_and_longer() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let waits: Vec<u64> = (0..10)
            .map(|_| {
                failures.add(start, "as the test wants it".into());
                (0..=5_000).find(|&ms| failures.may_retry(start + Duration::from_millis(ms))).unwrap()
            })
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(failures.persistent(), Some("as the test wants it"));
    }
}
