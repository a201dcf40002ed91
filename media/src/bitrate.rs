use std::fmt;
use std::time::Duration;

/// A rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// No bits at all: a track with this target does not encode.
    pub const ZERO: Self = Self(0);
    /// More than anything carries: no limit.
    pub const UNLIMITED: Self = Self(u64::MAX);

    /// From bits per second.
    #[must_use]
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// From kilobits (1,000 bits) per second.
    #[must_use]
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps.saturating_mul(1_000))
    }

    /// Bits per second.
    #[must_use]
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// Whole kilobits per second, rounded down.
    #[must_use]
    pub const fn as_kbps(self) -> u64 {
        self.0 / 1_000
    }

    /// How many bytes this rate carries in `span`, rounded down.
    #[must_use]
    pub fn bytes_in(self, span: Duration) -> u64 {
        let bytes = u128::from(self.0).saturating_mul(span.as_nanos()) / 8 / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000_000 {
            write!(f, "{:.2} Mb/s", self.0 as f64 / 1e6)
        } else {
            write!(f, "{} kb/s", self.0 / 1_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_bytes_of_a_span() {
        assert_eq!(Bitrate::from_kbps(1_000).bytes_in(Duration::from_secs(1)), 125_000);
        assert_eq!(Bitrate::from_bps(u64::MAX).bytes_in(Duration::from_secs(1 << 40)), u64::MAX);
    }

    #[test]
    fn prints_a_unit_a_person_would_choose() {
        assert_eq!(Bitrate::from_kbps(300).to_string(), "300 kb/s");
        assert_eq!(Bitrate::from_kbps(2_500).to_string(), "2.50 Mb/s");
    }
}
