//! How long to wait for an acknowledgement: RFC 6298.

use std::time::Duration;

/// RFC 6298, rule 2.1: before anything was measured.
const INITIAL: Duration = Duration::from_secs(1);

/// RFC 6298, rule 2.4: never less than a second.
const MIN: Duration = Duration::from_secs(1);

/// RFC 6298, rule 2.5: a bound of at least 60 seconds.
const MAX: Duration = Duration::from_secs(60);

/// G, the clock's granularity: what Linux's timestamps have.
const GRANULARITY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    /// How often the timer has expired since something new was acknowledged.
    backoff: u32,
}

impl RoundTrip {
    pub(super) fn new() -> Self {
        Self { smoothed: None, variation: Duration::ZERO, backoff: 0 }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(super) fn timeout(&self) -> Duration {
        let measured = self.smoothed.map(|smoothed| (smoothed + GRANULARITY.max(self.variation * 4)).max(MIN));
        measured.unwrap_or(INITIAL).saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    /// Rules 2.2 and 2.3, with alpha 1/8 and beta 1/4; something new was acknowledged, so the doubling is over.
    pub(super) fn handle_sample(&mut self, sample: Duration) {
        self.backoff = 0;
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(sample), sample / 2),
            Some(smoothed) => {
                self.variation = self.variation * 3 / 4 + smoothed.abs_diff(sample) / 4;
                self.smoothed = Some(smoothed * 7 / 8 + sample / 8);
            }
        }
    }

    /// Rule 5.5: the timer has expired.
    pub(super) fn handle_expiry(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_rules() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(round_trip.timeout(), Duration::from_secs(1));
        round_trip.handle_sample(Duration::from_millis(400));
        // 400 ms and four times half of it.
        assert_eq!(round_trip.timeout(), Duration::from_millis(1_200));
        round_trip.handle_sample(Duration::from_millis(480));
        // 410 ms and four times 170 ms.
        assert_eq!(round_trip.timeout(), Duration::from_millis(410 + 680));
        round_trip.handle_expiry();
        assert_eq!(round_trip.timeout(), Duration::from_millis(2 * 1_090));
        (0..100).for_each(|_| round_trip.handle_expiry());
        assert_eq!(round_trip.timeout(), Duration::from_secs(60));
        (0..100).for_each(|_| round_trip.handle_sample(Duration::from_millis(10)));
        assert_eq!(round_trip.timeout(), Duration::from_secs(1));
    }
}
