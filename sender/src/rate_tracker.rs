//! How many bytes and frames a second a track makes, over intervals that really passed.
//!
//! Why: N frames within a window span N − 1 intervals; dividing one by the other reads ×1.125 at 30 frames/s, ×2 at five,
//! and nothing at all below the window's own rate. So the frame that the measure starts at (the *anchor*) is counted by its
//! time only, and what is counted came after it.
//!
//! **Invariants.** Memory is bounded and taken once, whatever the frame rate. Exact for regular frames of any rate above
//! one a window. Zero once nothing came for a window. Time that jumps by more than a window, either way, starts anew.
//!
//! What it does not do: smooth. A key frame shows for as long as it is in the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

/// Bytes and frames a second over a sliding window.
#[derive(Debug, Clone)]
pub(crate) struct RateTracker {
    window: Duration,
    /// Oldest first; times never fall. Never holds more than [`CAPACITY`], so it never grows.
    samples: VecDeque<Sample>,
}

/// Frames that lie closer together than a window's 32nd part, as one.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Of its first frame.
    opened: Instant,
    /// Of its last frame. What later samples hold came after this.
    at: Instant,
    bytes: u64,
    frames: u64,
}

/// What came in `span`.
struct Measure {
    bytes: u64,
    frames: u64,
    span: Duration,
}

/// How finely the window slides.
const SAMPLES_IN_WINDOW: u32 = 32;
/// A window's samples, one that reaches into it, the anchor, and the one being opened.
const CAPACITY: usize = SAMPLES_IN_WINDOW as usize + 3;

impl RateTracker {
    /// Two seconds: at one frame/s a frame may be most of a second late, and the rate is still known.
    pub(crate) const DEFAULT_WINDOW: Duration = Duration::from_secs(2);

    /// Measures over `window`, at least a millisecond. Frames that come less often than once in it count as none:
    /// [`RateTracker::DEFAULT_WINDOW`] reads down to half a frame/s.
    pub(crate) fn new(window: Duration) -> Self {
        Self { window: window.max(Duration::from_millis(1)), samples: VecDeque::with_capacity(CAPACITY) }
    }

    /// Bits/s. `None` until two frames have come, or a window has passed since the only one.
    pub(crate) fn rate(&self, now: Instant) -> Option<Bitrate> {
        let measure = self.measure(now)?;
        let bits_per_second = measure.bytes as f64 * 8.0 / measure.span.as_secs_f64();
        Some(Bitrate::from_bps(bits_per_second.round() as u64))
    }

    /// Frames/s. `None` as for [`RateTracker::rate`].
    pub(crate) fn frames_per_second(&self, now: Instant) -> Option<f64> {
        let measure = self.measure(now)?;
        Some(measure.frames as f64 / measure.span.as_secs_f64())
    }

    /// A frame of so many bytes. One that is earlier than the one before counts as of the same time.
    pub(crate) fn add(&mut self, at: Instant, bytes: usize) {
        let bytes = bytes as u64;
        if self.samples.back().is_some_and(|last| distance(last.at, at) > self.window) {
            self.samples.clear();
        }
        // The first frame stays alone: it is an anchor, and what was merged into it would not count.
        let alone = self.samples.len() == 1;
        if let Some(last) = self.samples.back_mut() {
            let at = at.max(last.at);
            if !alone && at - last.opened < self.window / SAMPLES_IN_WINDOW {
                *last = Sample { at, bytes: last.bytes + bytes, frames: last.frames + 1, ..*last };
                return;
            }
            self.samples.push_back(Sample { opened: at, at, bytes, frames: 1 });
            self.forget(at);
        } else {
            self.samples.push_back(Sample { opened: at, at, bytes, frames: 1 });
        }
    }

    /// Drops what lies before the anchor, as of `now`.
    fn forget(&mut self, now: Instant) {
        while self.samples.get(1).is_some_and(|next| self.has_left(next, now)) {
            self.samples.pop_front();
        }
    }

    fn has_left(&self, sample: &Sample, now: Instant) -> bool {
        now.saturating_duration_since(sample.at) >= self.window
    }

    fn measure(&self, now: Instant) -> Option<Measure> {
        let last = self.samples.back()?;
        if self.has_left(last, now) {
            return Some(Measure { bytes: 0, frames: 0, span: self.window });
        }
        let anchor_index = self.samples.iter().rposition(|sample| self.has_left(sample, now)).unwrap_or(0);
        let anchor = self.samples.get(anchor_index)?;
        let span = last.at - anchor.at;
        let (bytes, frames) = self
            .samples
            .range(anchor_index + 1..)
            .fold((0, 0), |(bytes, frames), sample| (bytes + sample.bytes, frames + sample.frames));
        if span.is_zero() {
            return None;
        }
        // A frame is not late before the usual interval has passed; from then on its absence counts.
        let usual = span.div_f64(frames as f64);
        let late = now.saturating_duration_since(last.at).saturating_sub(usual);
        Some(Measure { bytes, frames, span: span + late })
    }
}

fn distance(a: Instant, b: Instant) -> Duration {
    a.saturating_duration_since(b).max(b.saturating_duration_since(a))
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES: usize = 1_000;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A tracker with `count` frames of [`BYTES`], `interval` apart, and the time of the last one.
    fn regular(start: Instant, interval: Duration, count: u32) -> (RateTracker, Instant) {
        let mut tracker = RateTracker::new(RateTracker::DEFAULT_WINDOW);
        for i in 0..count {
            tracker.add(start + interval * i, BYTES);
        }
        (tracker, start + interval * (count - 1))
    }

    /// Fault 15 of the sender this one replaces: ×1.125 at 30 frames/s, ×2 at five, 0 below 3.3.
    #[test]
    fn reads_right_at_every_usual_frame_rate() {
        for (rate, count) in [(240.0, 2_000), (30.0, 2), (30.0, 10), (30.0, 300), (5.0, 50), (1.0, 2), (1.0, 20)] {
            let (tracker, last) = regular(Instant::now(), seconds(1.0 / rate), count);
            for after in [0.0, 0.25 / rate, 0.99 / rate] {
                let now = last + seconds(after);
                let measured = tracker.frames_per_second(now).unwrap();
                assert!((measured / rate - 1.0).abs() < 0.001, "{measured} for {rate}, {after} s after frame {count}");
                let bits = tracker.rate(now).unwrap().as_bps() as f64;
                assert!((bits / (rate * BYTES as f64 * 8.0) - 1.0).abs() < 0.001, "{bits} b/s at {rate} frames/s");
            }
        }
    }

    #[test]
    fn one_frame_is_no_rate_yet_and_none_after_a_window() {
        let start = Instant::now();
        let (tracker, _) = regular(start, seconds(1.0), 1);
        assert_eq!(tracker.rate(start + seconds(1.0)), None);
        assert_eq!(tracker.rate(start + seconds(2.0)), Some(Bitrate::ZERO));
        assert_eq!(RateTracker::new(RateTracker::DEFAULT_WINDOW).rate(start), None);
    }

    #[test]
    fn falls_to_zero_when_frames_stop_and_never_rises_meanwhile() {
        let (tracker, last) = regular(Instant::now(), seconds(1.0 / 30.0), 300);
        let rates: Vec<_> =
            (0..=25).map(|i| tracker.frames_per_second(last + seconds(f64::from(i) * 0.1)).unwrap()).collect();
        assert!(rates.is_sorted_by(|a, b| *a >= *b - 0.01), "{rates:?}");
        assert!(rates[10] < 22.0, "half of the window is silence: {rates:?}");
        assert_eq!(rates[20], 0.0);
    }

    #[test]
    fn a_camera_that_was_gone_for_an_hour_starts_anew() {
        let (mut tracker, last) = regular(Instant::now(), seconds(1.0 / 30.0), 300);
        let back = last + seconds(3_600.0);
        tracker.add(back, BYTES);
        assert_eq!(tracker.rate(back), None);
        tracker.add(back + seconds(0.1), BYTES);
        assert!((tracker.frames_per_second(back + seconds(0.1)).unwrap() - 10.0).abs() < 0.001);
    }

    proptest! {
        #[test]
        fn irregular_frames_are_counted_over_the_time_they_took(
            gaps in prop::collection::vec(0.0005..0.4f64, 200..600),
            sizes in prop::collection::vec(0..50_000usize, 600),
        ) {
            let start = Instant::now();
            let mut tracker = RateTracker::new(RateTracker::DEFAULT_WINDOW);
            let (mut now, mut frames) = (start, Vec::new());
            for (gap, size) in gaps.iter().zip(&sizes) {
                now += seconds(*gap);
                tracker.add(now, *size);
                frames.push((now, *size));
            }
            // Whatever came within the window bounds the truth from below, and a 32nd part and a gap more from above.
            let count = |window: f64| {
                let from = now.checked_sub(seconds(window)).unwrap();
                frames.iter().filter(|(at, _)| *at > from).fold((0.0, 0.0), |(n, b), (_, s)| (n + 1.0, b + *s as f64))
            };
            let (least, most) = (count(2.0 - 2.0 / 32.0), count(2.0 + 2.0 / 32.0));
            let fps = tracker.frames_per_second(now).unwrap();
            prop_assert!(fps >= least.0 / 2.47 && fps <= most.0 / 1.93, "{fps} of {least:?} to {most:?}");
            let bytes = tracker.rate(now).unwrap().as_bps() as f64 / 8.0;
            prop_assert!(bytes >= least.1 / 2.47 && bytes <= most.1 / 1.93, "{bytes} of {least:?} to {most:?}");
        }

        #[test]
        fn never_panics_and_never_grows(
            steps in prop::collection::vec((-3_000_000..3_000_000i64, any::<u32>(), -5_000_000..5_000_000i64), 1..400),
            window in 0..5_000u64,
        ) {
            let mut tracker = RateTracker::new(Duration::from_millis(window));
            let capacity = tracker.samples.capacity();
            let move_by = |at: Instant, us: i64| {
                let by = Duration::from_micros(us.unsigned_abs());
                if us < 0 { at.checked_sub(by).unwrap_or(at) } else { at + by }
            };
            let mut now = Instant::now() + seconds(10_000.0);
            for (step, bytes, ask) in steps {
                // Mostly small steps, so that the window fills.
                now = move_by(now, if step % 8 == 0 { step } else { step / 500 });
                tracker.add(now, bytes as usize);
                let fps = tracker.frames_per_second(move_by(now, ask));
                prop_assert!(fps.is_none_or(|fps| fps.is_finite() && fps >= 0.0));
                let _ = tracker.rate(move_by(now, ask));
                prop_assert!(tracker.samples.len() <= CAPACITY);
                prop_assert_eq!(tracker.samples.capacity(), capacity);
            }
        }
    }
}
