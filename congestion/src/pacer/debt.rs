use std::time::Duration;

use lenscast_media::Bitrate;

/// Bytes that have left ahead of the time that they take at the rate at which they may leave. Time pays them off.
///
/// Counted in bits × nanoseconds per second, so that nothing is lost to rounding however often time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Debt(u128);

/// Units in a byte.
const BYTE: u128 = 8 * 1_000_000_000;

impl Debt {
    /// What `rate` pays off in `span`.
    pub(super) fn of(rate: Bitrate, span: Duration) -> Self {
        Self(u128::from(rate.as_bps()).saturating_mul(span.as_nanos()))
    }

    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self(u128::from(bytes) * BYTE)
    }

    pub(super) fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Nothing less than no debt: time that had nothing to pay off is lost.
    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The least rate that pays it off in `span`, which is not zero.
    pub(super) fn rate_over(self, span: Duration) -> Bitrate {
        let bits = self.0.div_ceil(span.as_nanos().max(1));
        Bitrate::from_bps(u64::try_from(bits).unwrap_or(u64::MAX))
    }

    /// How long `rate` takes to pay it off, rounded up to a whole nanosecond; `None` if it takes a thousand years.
    pub(super) fn time_at(self, rate: Bitrate) -> Option<Duration> {
        if self.0 == 0 {
            return Some(Duration::ZERO);
        }
        let nanos = self.0.checked_add(u128::from(rate.as_bps()).checked_sub(1)?)? / u128::from(rate.as_bps());
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_pays_it_off_to_the_nanosecond() {
        let rate = Bitrate::from_bps(7);
        let debt = Debt::of_bytes(1);
        let time = debt.time_at(rate).unwrap();
        assert_eq!(time, Duration::from_nanos(1_142_857_143));
        assert!(debt.minus(Debt::of(rate, time)).is_zero());
        assert!(!debt.minus(Debt::of(rate, time - Duration::from_nanos(1))).is_zero());
        assert_eq!(Debt::of_bytes(u64::MAX).time_at(Bitrate::ZERO), None);
        assert_eq!(Debt::of_bytes(u64::MAX).time_at(Bitrate::from_bps(1)), None);
        assert_eq!(Debt::default().time_at(Bitrate::ZERO), Some(Duration::ZERO));
    }
}
