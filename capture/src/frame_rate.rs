use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

/// Frames a second as an exact fraction, between [`FrameRate::MIN`] and [`FrameRate::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRate {
    /// Reduced to lowest terms, as is `seconds`, so that equal rates compare equal.
    frames: u32,
    seconds: u32,
}

impl FrameRate {
    /// The lowest rate in frames a second. Slower, and a viewer's jitter buffer takes the stream for a stalled one.
    pub const MIN: u32 = 1;
    /// The highest rate in frames a second: the fastest displays and USB cameras.
    pub const MAX: u32 = 240;

    /// `frames` in every `seconds`, such as 30000 and 1001. `None` unless that is within the bounds.
    #[must_use]
    pub const fn new(frames: u32, seconds: u32) -> Option<Self> {
        let (low, high) = (Self::MIN as u64 * seconds as u64, Self::MAX as u64 * seconds as u64);
        if seconds == 0 || (frames as u64) < low || frames as u64 > high {
            return None;
        }
        let (mut divisor, mut rest) = (frames, seconds);
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        Some(Self { frames: frames / divisor, seconds: seconds / divisor })
    }

    /// A whole number of frames a second.
    #[must_use]
    pub const fn whole(frames: u32) -> Option<Self> {
        Self::new(frames, 1)
    }

    /// The fraction's upper part.
    #[must_use]
    pub const fn numerator(self) -> u32 {
        self.frames
    }

    /// The fraction's lower part; 1 for a whole number.
    #[must_use]
    pub const fn denominator(self) -> u32 {
        self.seconds
    }

    /// Frames a second.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }

    /// When frame `index` is due after frame 0. Exact to the nanosecond for any index, so a schedule never drifts.
    #[must_use]
    pub fn time_of(self, index: u64) -> Duration {
        let nanos = (u128::from(index) * u128::from(self.seconds) * NANOS).div_ceil(u128::from(self.frames));
        Duration::new(
            u64::try_from(nanos / NANOS).unwrap_or(u64::MAX),
            u32::try_from(nanos % NANOS).expect("a remainder of 10^9 fits"),
        )
    }

    /// The last frame that is due `elapsed` after frame 0.
    #[must_use]
    pub fn index_at(self, elapsed: Duration) -> u64 {
        let index = elapsed.as_nanos() * u128::from(self.frames) / (u128::from(self.seconds) * NANOS);
        u64::try_from(index).unwrap_or(u64::MAX)
    }
}

const NANOS: u128 = 1_000_000_000;

impl Ord for FrameRate {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (u64::from(self.frames), u64::from(other.frames));
        (left * u64::from(other.seconds)).cmp(&(right * u64::from(self.seconds)))
    }
}

impl PartialOrd for FrameRate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            1 => write!(f, "{}", self.frames),
            _ => write!(f, "{}/{}", self.frames, self.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_is_no_rate() {
        for (frames, seconds) in [(0, 1), (30, 0), (0, 0), (241, 1), (1, 2), (u32::MAX, 1), (1, u32::MAX)] {
            assert_eq!(FrameRate::new(frames, seconds), None, "{frames}/{seconds}");
        }
    }

    #[test]
    fn equal_fractions_are_equal_rates() {
        assert_eq!(FrameRate::new(60, 2), FrameRate::whole(30));
        assert_eq!(FrameRate::new(60_000, 2_002).unwrap().to_string(), "30000/1001");
        assert!(FrameRate::new(30_000, 1_001) < FrameRate::whole(30));
    }

    proptest! {
        #[test]
        fn each_index_is_due_at_its_time_and_not_before(frames in 1_u32..=240_000, seconds in 1_u32..=1_001, index in 0..u64::from(u32::MAX)) {
            let Some(rate) = FrameRate::new(frames, seconds) else { return Ok(()) };
            let due = rate.time_of(index);
            prop_assert_eq!(rate.index_at(due), index);
            if index > 0 {
                prop_assert_eq!(rate.index_at(due - Duration::from_nanos(1)), index - 1);
            }
        }
    }
}
