//! Whether the slope of the delay means that more is sent than the path carries.
//!
//! The slope is held against a threshold that adapts to what is usual here: quickly down, slowly up, so that a competing TCP
//! flow does not starve this one. After libwebrtc, `modules/congestion_controller/goog_cc/trendline_estimator.cc`, and
//! Carlucci et al., "Analysis and Design of the Google Congestion Control for WebRTC" (2016), section 4.2.
//!
//! What it does not do: change any rate.

use std::time::Duration;

use super::rate::millis_between;

/// What the slope is multiplied by (`kDefaultTrendlineThresholdGain`).
const GAIN: f64 = 4.0;
/// The slope counts fully after so many comparisons (`kMinNumDeltas`).
const FULL_COUNT: u32 = 60;
/// Milliseconds that the threshold begins with, and between which it stays (`threshold_`, `UpdateThreshold`).
const THRESHOLD_START: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
/// How quickly the threshold goes up and down, per millisecond (`k_up_`, `k_down_`).
const SPEED_UP: f64 = 0.0087;
const SPEED_DOWN: f64 = 0.039;
/// A slope this far above the threshold is a spike, to which it does not adapt (`kMaxAdaptOffsetMs`).
const SPIKE: f64 = 15.0;
/// It adapts as if no more than this had passed (`kMaxTimeDeltaMs`).
const ADAPT_SPAN_MS: f64 = 100.0;
/// For longer than this the slope must be above the threshold (`kOverUsingTimeThreshold`).
const SUSTAINED_MS: f64 = 10.0;

/// How what is sent compares with what the path carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Queues stay as they are.
    Normal,
    /// Queues grow.
    Over,
    /// Queues drain.
    Under,
}

/// Holds slopes against the threshold.
#[derive(Debug)]
pub(super) struct OveruseDetector {
    usage: Usage,
    threshold: f64,
    /// Comparisons so far, counted to [`FULL_COUNT`].
    count: u32,
    /// For how long the slope has been above the threshold, and for how many comparisons.
    above_ms: Option<f64>,
    above_count: u32,
    previous_slope: f64,
    adapted: Option<Duration>,
}

impl OveruseDetector {
    pub(super) fn new() -> Self {
        Self {
            usage: Usage::Normal,
            threshold: THRESHOLD_START,
            count: 0,
            above_ms: None,
            above_count: 0,
            previous_slope: 0.0,
            adapted: None,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// The slope after groups that were sent `sent_ms` apart, the last of which arrived at `received`.
    pub(super) fn add(&mut self, slope: f64, sent_ms: f64, received: Duration) {
        self.count = (self.count + 1).min(FULL_COUNT);
        if self.count < 2 {
            return;
        }
        let scaled = f64::from(self.count) * slope * GAIN;
        if scaled > self.threshold {
            // What came before the first comparison above it counts half.
            let above_ms = self.above_ms.map_or(sent_ms / 2.0, |ms| ms + sent_ms);
            self.above_ms = Some(above_ms);
            self.above_count = self.above_count.saturating_add(1);
            if above_ms > SUSTAINED_MS && self.above_count > 1 && slope >= self.previous_slope {
                self.above_ms = Some(0.0);
                self.above_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.above_ms = None;
            self.above_count = 0;
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.previous_slope = slope;
        self.adapt(scaled.abs(), received);
    }

    fn adapt(&mut self, scaled: f64, received: Duration) {
        let before = self.adapted.replace(received).unwrap_or(received);
        if scaled > self.threshold + SPIKE {
            return;
        }
        let speed = if scaled < self.threshold { SPEED_DOWN } else { SPEED_UP };
        let span_ms = millis_between(before, received).clamp(0.0, ADAPT_SPAN_MS);
        self.threshold += speed * (scaled - self.threshold) * span_ms;
        self.threshold = self.threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(detector: &mut OveruseDetector, slope: f64, from: u64, count: u64) {
        for n in from..from + count {
            detector.add(slope, 10.0, Duration::from_millis(10 * n));
        }
    }

    #[test]
    fn reports_overuse_only_when_it_lasts() {
        let mut detector = OveruseDetector::new();
        feed(&mut detector, 0.0, 0, 60);
        // 60 × 0.1 × 4 = 24 is above the threshold, which has come down to 6.
        feed(&mut detector, 0.1, 60, 1);
        assert_eq!(detector.usage(), Usage::Normal, "5 ms");
        feed(&mut detector, 0.1, 61, 1);
        assert_eq!(detector.usage(), Usage::Over, "15 ms");
        feed(&mut detector, 0.0, 62, 1);
        assert_eq!(detector.usage(), Usage::Normal);
        feed(&mut detector, -0.1, 63, 1);
        assert_eq!(detector.usage(), Usage::Under);
    }

    #[test]
    fn a_slope_that_falls_again_is_no_overuse() {
        let mut detector = OveruseDetector::new();
        feed(&mut detector, 0.0, 0, 60);
        for (n, slope) in [0.2, 0.19, 0.18, 0.17].into_iter().enumerate() {
            detector.add(slope, 10.0, Duration::from_millis(600 + 10 * n as u64));
        }
        assert_eq!(detector.usage(), Usage::Normal);
    }

    #[test]
    fn the_threshold_adapts_within_its_bounds() {
        let mut detector = OveruseDetector::new();
        feed(&mut detector, 0.0, 0, 1_000);
        assert_eq!(detector.threshold, THRESHOLD_MIN);
        // 240 × 0.08 = 19.2 is within 15 of 6: up by 0.0087 × 13.2 × 10 at once.
        detector.add(0.08, 10.0, Duration::from_millis(10_000));
        assert!((detector.threshold - (6.0 + 0.0087 * 13.2 * 10.0)).abs() < 1e-9, "{}", detector.threshold);
        // A spike leaves it.
        let before = detector.threshold;
        detector.add(10.0, 10.0, Duration::from_millis(10_010));
        assert_eq!(detector.threshold, before);
    }
}
