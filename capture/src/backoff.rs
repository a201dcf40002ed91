use std::time::Duration;

/// How long to wait before the next attempt: 1 s, 2 s, 4 s, then 5 s every time.
///
/// Short enough that a camera plugged in again is soon back, long enough that a hundred missing ones are no load.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const FIRST: Duration = Duration::from_secs(1);
    pub(crate) const LAST: Duration = Duration::from_secs(5);

    pub(crate) const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The wait after one more failure.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LAST);
        wait
    }

    /// It worked: the next failure is a first one again.
    pub(crate) const fn reset(&mut self) {
        self.0 = Self::FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds_and_start_over_after_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..5).map(|_| backoff.after_failure().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.after_failure(), Backoff::FIRST);
    }
}
