//! How CUBIC's window grows between two cuts: RFC 9438. In segments and seconds.

use std::time::{Duration, Instant};

/// RFC 9438, section 5: C, in segments per cubic second.
const C: f64 = 0.4;

/// RFC 9438, section 4.6: what is left of the window after a cut.
pub(super) const BETA: f64 = 0.7;

/// RFC 9438, section 4.3: how fast Reno would have to grow to get the same with cuts by [`BETA`].
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// RFC 9438, section 4.2: a round trip adds half the window at most.
const LARGEST_TARGET: f64 = 1.5;

#[derive(Debug, Default)]
pub(super) struct Cubic {
    /// W_max: where growth is to be slowest, the window of the last cut.
    max: f64,
    /// cwnd_prior: the window before the last cut.
    prior: f64,
    epoch: Option<Epoch>,
    /// The last cut was a timeout's: what was before it says nothing.
    is_anew: bool,
}

/// Congestion avoidance since the last cut.
#[derive(Debug)]
struct Epoch {
    start: Instant,
    /// K: how long it takes to come back to W_max.
    time_to_max: f64,
    max: f64,
    /// W_est: what Reno's window would be.
    estimate: f64,
}

impl Cubic {
    /// Section 4.7, fast convergence: who has less than the last time leaves room for others.
    pub(super) fn handle_cut(&mut self, window: f64, is_timeout: bool) {
        self.max = if window < self.max { window * (1.0 + BETA) / 2.0 } else { window };
        self.prior = window;
        self.epoch = None;
        self.is_anew = is_timeout;
    }

    /// The window after so many segments were acknowledged in congestion avoidance.
    pub(super) fn grown(&mut self, now: Instant, window: f64, acked: f64, round_trip: Duration) -> f64 {
        let (max, is_anew) = (self.max, self.is_anew);
        let epoch = self.epoch.get_or_insert_with(|| {
            // Section 4.8: the first after a timeout begins at its plateau, as does one that is beyond it.
            let max = if is_anew { window } else { max.max(window) };
            Epoch { start: now, time_to_max: cube_root((max - window) / C), max, estimate: window }
        });
        let alpha = if epoch.estimate >= self.prior { 1.0 } else { ALPHA };
        epoch.estimate += alpha * acked / window;
        let elapsed = now.saturating_duration_since(epoch.start).as_secs_f64();
        if epoch.window_at(elapsed) < epoch.estimate {
            return window.max(epoch.estimate);
        }
        let target = epoch.window_at(elapsed + round_trip.as_secs_f64()).clamp(window, LARGEST_TARGET * window);
        window + (target - window) / window * acked
    }
}

impl Epoch {
    /// W_cubic: section 4.2, equation 1.
    fn window_at(&self, elapsed: f64) -> f64 {
        let from_max = elapsed - self.time_to_max;
        C * from_max * from_max * from_max + self.max
    }
}

/// By Newton's method, from operations that are exact everywhere. 0 for what is not positive.
fn cube_root(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return 0.0;
    }
    let mut root = x.max(1.0);
    // From above it falls by a third at least each time until it is near.
    for _ in 0..64 {
        root = (2.0 * root + x / (root * root)) / 3.0;
    }
    root
}

#[cfg(test)]
// The one instant that everything is counted from.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn cube_root_agrees_with_the_platform() {
        for x in [1e-6, 0.5, 1.0, 8.0, 27.0, 1e6, 1e12_f64] {
            assert!((cube_root(x) / x.cbrt() - 1.0).abs() < 1e-12, "{x}");
        }
        assert_eq!(cube_root(-1.0), 0.0);
    }

    /// RFC 9438, figure 1: concave to W_max, which it reaches after K, convex from there.
    #[test]
    fn comes_back_to_where_it_was_cut() {
        let start = Instant::now();
        let (mut cubic, round_trip) = (Cubic::default(), Duration::from_millis(100));
        cubic.handle_cut(1_000.0, false);
        let mut window = 700.0;
        // K is the cube root of 300 / 0.4: 9.09 s.
        let at = |cubic: &mut Cubic, window: &mut f64, second: f64| {
            let now = start + Duration::from_secs_f64(second);
            // A window of acknowledgements.
            *window = cubic.grown(now, *window, *window, round_trip);
            *window
        };
        let windows: Vec<f64> = (0..=180).map(|tenth| at(&mut cubic, &mut window, f64::from(tenth) / 10.0)).collect();
        assert!((windows[45] - 965.0).abs() < 10.0, "{}", windows[45]);
        assert!((windows[91] - 1_000.0).abs() < 2.0, "{}", windows[91]);
        assert!((windows[180] - 1_282.0).abs() < 20.0, "{}", windows[180]);
    }

    #[test]
    fn a_small_window_grows_as_reno_does() {
        let start = Instant::now();
        let (mut cubic, round_trip) = (Cubic::default(), Duration::from_millis(20));
        cubic.handle_cut(20.0, false);
        let mut window = 14.0;
        for i in 0..10 {
            window = cubic.grown(start + round_trip * i, window, window, round_trip);
        }
        // 0.53 segments a round trip.
        assert!((window - 14.0 - 10.0 * ALPHA).abs() < 0.2, "{window}");
    }

    #[test]
    fn who_was_cut_below_the_last_time_aims_lower() {
        let mut cubic = Cubic::default();
        cubic.handle_cut(100.0, false);
        cubic.handle_cut(80.0, false);
        assert!((cubic.max - 68.0).abs() < 1e-9);
    }
}
