//! The slope of the queueing delay over the last groups of packets: above zero while a queue grows.
//!
//! Sums up how much longer each group takes than the one before it, smooths the sum, and lays a straight line through the last
//! 20 points. The slope is about (rate sent − capacity) / capacity. After libwebrtc,
//! `modules/congestion_controller/goog_cc/trendline_estimator.cc`.
//!
//! What it does not do: say how steep is too steep; that is [`overuse`](super::overuse).

use std::time::Duration;

use super::arrival_groups::GroupDelta;
use super::rate::millis_between;

/// Points that a line is laid through (`trendline_estimator.h`, `kDefaultTrendlineWindowSize`).
const WINDOW: usize = 20;
/// How much of the smoothed sum stays at each step (`kDefaultTrendlineSmoothingCoeff`).
const SMOOTHING: f64 = 0.9;

#[derive(Debug, Clone, Copy, Default)]
struct Point {
    arrived_ms: f64,
    delay_ms: f64,
}

/// The last points and the sums they come from.
#[derive(Debug)]
pub(super) struct Trendline {
    points: [Point; WINDOW],
    /// How many points there have been; the next one goes to this modulo the window.
    count: usize,
    first_arrival: Option<Duration>,
    accumulated_ms: f64,
    smoothed_ms: f64,
    slope: f64,
}

impl Trendline {
    pub(super) fn new() -> Self {
        Self {
            points: [Point::default(); WINDOW],
            count: 0,
            first_arrival: None,
            accumulated_ms: 0.0,
            smoothed_ms: 0.0,
            slope: 0.0,
        }
    }

    /// Two groups were compared, and a packet after them arrived at `received`. The slope now: 0 until the window is full.
    pub(super) fn add(&mut self, delta: GroupDelta, received: Duration) -> f64 {
        let first = *self.first_arrival.get_or_insert(received);
        self.accumulated_ms += delta.received_ms - delta.sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.accumulated_ms;
        self.points[self.count % WINDOW] =
            Point { arrived_ms: millis_between(first, received), delay_ms: self.smoothed_ms };
        // Where counting ends, it goes on with a full window.
        self.count = self.count.checked_add(1).unwrap_or(WINDOW);
        if self.count >= WINDOW {
            self.slope = slope(&self.points).unwrap_or(self.slope);
        }
        self.slope
    }
}

/// Of the line with the least squared distance. The order of points makes no difference. `None` if all arrived at once.
fn slope(points: &[Point; WINDOW]) -> Option<f64> {
    let count = WINDOW as f64;
    let x_mean = points.iter().map(|p| p.arrived_ms).sum::<f64>() / count;
    let y_mean = points.iter().map(|p| p.delay_ms).sum::<f64>() / count;
    let (mut rise, mut run) = (0.0, 0.0);
    for point in points {
        let x = point.arrived_ms - x_mean;
        rise += x * (point.delay_ms - y_mean);
        run += x * x;
    }
    let slope = rise / run;
    (run > 0.0 && slope.is_finite()).then_some(slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(received_ms: f64, count: u64) -> f64 {
        let mut line = Trendline::new();
        (0..count)
            .map(|n| line.add(GroupDelta { sent_ms: 10.0, received_ms }, Duration::from_millis(11 * n)))
            .last()
            .unwrap()
    }

    #[test]
    fn is_flat_where_delay_does_not_change_and_before_the_window_is_full() {
        assert_eq!(run(10.0, 100), 0.0);
        assert_eq!(run(11.0, 19), 0.0);
        assert!(run(11.0, 20) > 0.0);
    }

    #[test]
    fn comes_near_the_true_slope() {
        // 1 ms more for each 11 ms of arrival: 1/11, and smoothing only lags behind by a constant.
        assert!((run(11.0, 200) - 1.0 / 11.0).abs() < 1e-3);
        assert!(run(9.0, 200) < -0.08);
    }

    #[test]
    fn a_straight_line_has_its_slope() {
        let points: [Point; WINDOW] = std::array::from_fn(|n| Point { arrived_ms: n as f64 * 2.0, delay_ms: n as f64 });
        assert!((slope(&points).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(slope(&[Point::default(); WINDOW]), None);
    }
}
