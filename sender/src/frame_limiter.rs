//! Lets at most so many frames/s through.
//!
//! Why: a track that adapts to less CPU or fewer bits encodes fewer frames than its camera makes. Counting (every n-th)
//! cannot go from 30 to 20; comparing each frame with the one before halves the rate as soon as capture times tremble.
//!
//! The logic is that of a leaky bucket (ITU-T I.371's virtual scheduling algorithm): a frame is due one interval after the
//! one before it was *due*, not after it came, so the rate holds on average; and what may be made up for is bounded, so a
//! gap is followed by one frame that comes early and no more. libwebrtc's `common_video/framerate_controller.cc` does
//! likewise.
//!
//! **Invariants.** In any stretch of time at most two frames more pass than the rate allows. No source that is slower than
//! the limit, and whose times tremble by less than a third of an interval, loses a frame.
//!
//! What it does not do: hold frames back until they are due, or measure rates.

use std::time::{Duration, Instant};

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct FrameRateLimiter {
    /// The least time between frames on average. `None` lets all pass.
    interval: Option<Duration>,
    /// The next frame may pass from here on. Never more than `interval` after the frame that passed last.
    next: Option<Instant>,
}

/// The limits that make sense, in frames/s: what is asked for is brought within.
const LIMITS: (f64, f64) = (0.01, 1_000.0);

impl FrameRateLimiter {
    /// Frames/s from now on. `None`, and what is no positive finite number, lets all pass.
    pub(crate) fn set_max(&mut self, max: Option<f64>) {
        let max = max.filter(|max| max.is_finite() && *max > 0.0);
        self.interval = max.map(|max| Duration::from_secs_f64(1.0 / max.clamp(LIMITS.0, LIMITS.1)));
    }

    /// Whether the frame captured at `captured` passes.
    pub(crate) fn admit(&mut self, captured: Instant) -> bool {
        let Some(interval) = self.interval else {
            self.next = None;
            return true;
        };
        let due = match self.next {
            // Due later than any frame that passed before can have made it: time ran backwards, or the limit has risen.
            Some(next) if next.saturating_duration_since(captured) > interval => captured,
            Some(next) if next > captured => return false,
            Some(next) => next,
            None => captured,
        };
        // At most seven eighths of an interval are made up for. A whole one would lie exactly on every frame of a source that
        // is twice as fast, and let one frame right behind another after a gap; with three quarters, capture times that
        // tremble by 0.4 of an interval would cost up to 6 % of the frames, and with this they cost 3.5 %.
        self.next = Some((due + interval).max(captured + interval / 8));
        true
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter(max: f64) -> FrameRateLimiter {
        let mut limiter = FrameRateLimiter::default();
        limiter.set_max(Some(max));
        limiter
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn thirty_to_twenty_passes_two_of_three() {
        let (mut limiter, start) = (limiter(20.0), Instant::now());
        let passed: Vec<bool> = (0..90).map(|i| limiter.admit(start + seconds(f64::from(i) / 30.0))).collect();
        for three in passed.chunks(3) {
            assert_eq!(three.iter().filter(|passed| **passed).count(), 2, "{passed:?}");
        }
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let (mut limiter, start) = (FrameRateLimiter::default(), Instant::now());
        for max in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            limiter.set_max(max);
            assert!((0..10).all(|i| limiter.admit(start + Duration::from_millis(i))), "{max:?}");
        }
        for max in [f64::MIN_POSITIVE, f64::MAX] {
            limiter.set_max(Some(max));
            limiter.admit(start);
        }
    }

    #[test]
    fn a_gap_of_hours_is_followed_by_no_burst() {
        let (mut limiter, start) = (limiter(5.0), Instant::now());
        let mut passed =
            |from: Duration| (0..30).filter(|i| limiter.admit(start + from + seconds(f64::from(*i) / 30.0))).count();
        passed(Duration::ZERO);
        for gap in [7_200.0, 14_400.0] {
            assert!((5..=6).contains(&passed(seconds(gap))));
        }
        // And back again: capture times may be anything.
        assert!((5..=6).contains(&passed(Duration::ZERO)));
    }

    #[test]
    fn a_limit_that_rises_holds_at_once() {
        let (mut limiter, start) = (limiter(0.1), Instant::now());
        assert!(limiter.admit(start));
        assert!(!limiter.admit(start + seconds(0.1)));
        limiter.set_max(Some(10.0));
        assert!(limiter.admit(start + seconds(0.2)));
        assert!(limiter.admit(start + seconds(0.3)));
    }

    proptest! {
        /// Jitter does not halve the rate: within 5 %, and the frame that a stretch's ends cut.
        #[test]
        fn passes_the_lesser_of_the_two_rates(
            source in 2.0..240.0f64,
            max in 1.0..120.0f64,
            jitter in prop::collection::vec(-0.3..0.3f64, 2_400),
            length in 1.0..10.0f64,
        ) {
            let (mut limiter, start) = (limiter(max), Instant::now() + seconds(1.0));
            let frames = (source * length) as u32;
            let passed = (0..frames)
                .filter(|i| limiter.admit(start + seconds((f64::from(*i) + 0.5 + jitter[*i as usize]) / source)))
                .count() as f64;
            let expected = source.min(max) * f64::from(frames) / source;
            prop_assert!(passed >= expected * 0.95 - 1.0, "{passed} of {expected}");
            prop_assert!(passed <= expected * 1.05 + 1.0, "{passed} of {expected}");
        }

        /// Whatever the capture times, so long as they do not run backwards.
        #[test]
        fn no_stretch_of_time_passes_more_than_its_due_and_two(
            gaps in prop::collection::vec(prop_oneof![0.0..0.05f64, 0.0..0.5f64, 0.0..20.0f64], 1..300),
            max in 0.5..60.0f64,
        ) {
            let (mut limiter, mut now) = (limiter(max), Instant::now());
            let mut passed = Vec::new();
            for gap in gaps {
                now += seconds(gap);
                if limiter.admit(now) {
                    passed.push(now);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (count, to) in passed[i..].iter().enumerate() {
                    prop_assert!(count as f64 + 1.0 <= max * (*to - *from).as_secs_f64() + 2.0);
                }
            }
        }

        #[test]
        fn never_panics_and_never_stays_shut(
            jumps in prop::collection::vec((any::<bool>(), 0..100_000u64, 0.0..300.0f64), 1..100),
        ) {
            let (mut limiter, mut now) = (FrameRateLimiter::default(), Instant::now() + seconds(1e6));
            for (back, by, max) in jumps {
                let by = seconds(by as f64 / 10.0);
                now = if back { now.checked_sub(by).unwrap_or(now) } else { now + by };
                limiter.set_max(Some(max));
                limiter.admit(now);
                let interval = limiter.interval.unwrap_or_default();
                prop_assert!(limiter.admit(now + interval * 2));
                now += interval * 2;
            }
        }
    }
}
