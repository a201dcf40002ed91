//! A rate that can be reckoned with: [`Bitrate`] in fractions of bits.
//!
//! **Invariants.** Never negative and never not a number; whatever would be is zero.

use std::ops::{Add, Mul};
use std::time::Duration;

use lenscast_media::Bitrate;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rate(f64);

impl Rate {
    pub(super) const ZERO: Self = Self(0.0);
    /// No limit.
    pub(super) const UNLIMITED: Self = Self(f64::INFINITY);

    pub(super) const fn from_kbps(kbps: u32) -> Self {
        Self(kbps as f64 * 1e3)
    }

    pub(super) fn from_bps(bps: f64) -> Self {
        // `max` prefers the number where the other is none.
        Self(bps.max(0.0))
    }

    /// So many bytes in so much time; in no time, without limit.
    pub(super) fn from_bytes(bytes: f64, span: Duration) -> Self {
        if span.is_zero() { Self::UNLIMITED } else { Self::from_bps(bytes * 8.0 / span.as_secs_f64()) }
    }

    pub(super) fn bps(self) -> f64 {
        self.0
    }

    pub(super) fn kbps(self) -> f64 {
        self.0 / 1e3
    }

    pub(super) fn bytes_in(self, span: Duration) -> f64 {
        self.0 * span.as_secs_f64() / 8.0
    }

    pub(super) fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    pub(super) fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    pub(super) fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    /// This less the other, but not less than nothing.
    pub(super) fn less(self, other: Self) -> Self {
        Self::from_bps(self.0 - other.0)
    }

    /// Whole bits per second.
    pub(super) fn to_bitrate(self) -> Bitrate {
        // A cast of a float saturates.
        Bitrate::from_bps(self.0 as u64)
    }
}

impl From<Bitrate> for Rate {
    fn from(bitrate: Bitrate) -> Self {
        if bitrate == Bitrate::UNLIMITED { Self::UNLIMITED } else { Self(bitrate.as_bps() as f64) }
    }
}

impl Mul<f64> for Rate {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self::from_bps(self.0 * factor)
    }
}

impl Add for Rate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// Milliseconds from `earlier` to `later`, negative if they are the other way round.
pub(super) fn millis_between(earlier: Duration, later: Duration) -> f64 {
    if later >= earlier { (later - earlier).as_secs_f64() * 1e3 } else { -((earlier - later).as_secs_f64() * 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_negative_or_not_a_number() {
        assert_eq!(Rate::from_bps(f64::NAN), Rate::ZERO);
        assert_eq!(Rate::UNLIMITED * 0.0, Rate::ZERO);
        assert_eq!(Rate::from_kbps(1).less(Rate::from_kbps(2)), Rate::ZERO);
        assert_eq!(Rate::UNLIMITED.to_bitrate(), Bitrate::UNLIMITED);
    }

    #[test]
    fn counts_bytes_over_time() {
        assert_eq!(Rate::from_bytes(125.0, Duration::from_millis(10)), Rate::from_kbps(100));
        assert_eq!(Rate::from_kbps(100).bytes_in(Duration::from_millis(10)), 125.0);
        assert_eq!(millis_between(Duration::from_millis(5), Duration::from_millis(2)), -3.0);
    }
}
