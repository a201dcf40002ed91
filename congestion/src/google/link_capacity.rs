//! What the link has carried when it was full, and how sure that is.
//!
//! After libwebrtc, `modules/congestion_controller/goog_cc/link_capacity_estimator.cc`: an exponential average of the rates at
//! which overuse was found, with the variance normalised by the rate.

use super::rate::Rate;

/// Weight of a new sample (`OnOveruseDetected`).
const WEIGHT: f64 = 0.05;
/// Normalised variance in kb/s: at first and at least, at most (`deviation_kbps_`).
const DEVIATION_MIN: f64 = 0.4;
const DEVIATION_MAX: f64 = 2.5;
/// How many standard deviations are near (`UpperBound`, `LowerBound`).
const NEAR: f64 = 3.0;

/// The estimate, while there is one.
#[derive(Debug)]
pub(super) struct LinkCapacity {
    estimate_kbps: Option<f64>,
    deviation: f64,
}

impl LinkCapacity {
    pub(super) fn new() -> Self {
        Self { estimate_kbps: None, deviation: DEVIATION_MIN }
    }

    pub(super) fn estimate(&self) -> Option<Rate> {
        self.estimate_kbps.map(|kbps| Rate::from_bps(kbps * 1e3))
    }

    /// Above this a rate disproves the estimate. Without an estimate nothing does.
    pub(super) fn upper_bound(&self) -> Rate {
        self.bound(1.0).unwrap_or(Rate::UNLIMITED)
    }

    /// Below this a rate disproves the estimate.
    pub(super) fn lower_bound(&self) -> Rate {
        self.bound(-1.0).unwrap_or(Rate::ZERO)
    }

    /// The link was full at `rate`.
    pub(super) fn handle_overuse(&mut self, rate: Rate) {
        if !rate.is_finite() {
            return;
        }
        let sample = rate.kbps();
        let estimate = self.estimate_kbps.map_or(sample, |kbps| (1.0 - WEIGHT) * kbps + WEIGHT * sample);
        self.estimate_kbps = Some(estimate);
        let error = estimate - sample;
        let normalised = error * error / estimate.max(1.0);
        self.deviation = ((1.0 - WEIGHT) * self.deviation + WEIGHT * normalised).clamp(DEVIATION_MIN, DEVIATION_MAX);
    }

    pub(super) fn reset(&mut self) {
        self.estimate_kbps = None;
    }

    fn bound(&self, side: f64) -> Option<Rate> {
        let estimate = self.estimate_kbps?;
        let deviation = (self.deviation * estimate).sqrt();
        Some(Rate::from_bps((estimate + side * NEAR * deviation) * 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_with_the_first_sample_and_bounds_it_by_three_deviations() {
        let mut capacity = LinkCapacity::new();
        assert_eq!(capacity.upper_bound(), Rate::UNLIMITED);
        capacity.handle_overuse(Rate::from_kbps(1_000));
        assert_eq!(capacity.estimate(), Some(Rate::from_kbps(1_000)));
        // √(0.4 × 1000) × 3 = 60.
        assert!((capacity.upper_bound().kbps() - 1_060.0).abs() < 1e-9);
        assert!((capacity.lower_bound().kbps() - 940.0).abs() < 1e-9);
    }

    #[test]
    fn moves_a_twentieth_at_a_time() {
        let mut capacity = LinkCapacity::new();
        capacity.handle_overuse(Rate::from_kbps(1_000));
        capacity.handle_overuse(Rate::from_kbps(2_000));
        assert!((capacity.estimate().unwrap().kbps() - 1_050.0).abs() < 1e-9);
        // 0.95 × 0.4 + 0.05 × 950² / 1050 is above the most.
        assert_eq!(capacity.deviation, DEVIATION_MAX);
        capacity.reset();
        assert_eq!(capacity.estimate(), None);
    }
}
