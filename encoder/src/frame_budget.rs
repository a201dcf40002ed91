//! Drops a frame before the budget breaks.
//!
//! The libraries drop frames by rules of their own, and late: libvpx lets a second and more of the target run up, and
//! none of them counts by real intervals. This is the last word: a leaky bucket, in seconds of the target, over
//! everything that came out.
//!
//! **Invariants.** What is owed never exceeds [`MOST_OWED`], or four frames' worth at a low rate, by more than one frame.
//! In any span, what comes out is at most the span's worth of the target, what was saved up before, and that.
//!
//! What it does not do: make frames smaller. That is the libraries' affair; here a frame is made or is not.

use std::time::Duration;

use lenscast_media::Bitrate;

/// A key frame of four average frames fits into it at 10 frames/s and more.
const MOST_OWED: f64 = 0.4;

/// At a low frame rate a few frames are longer than that.
const MOST_OWED_IN_FRAMES: f64 = 4.0;

/// What was not spent may be spent later, up to this: without it, sizes that vary about the target would look like debt.
const MOST_SAVED: f64 = 0.3;

#[derive(Debug)]
pub(crate) struct FrameBudget {
    last: Option<Duration>,
    /// Between frames that were offered, smoothed, in seconds.
    interval: f64,
    /// In seconds of the target.
    owed: f64,
}

impl FrameBudget {
    pub(crate) fn new(nominal: Duration) -> Self {
        Self { last: None, interval: nominal.as_secs_f64(), owed: 0.0 }
    }

    /// Takes the time of the next frame. True if there is room for it.
    pub(crate) fn advance(&mut self, start: Duration) -> bool {
        if let Some(last) = self.last.replace(start) {
            let step = start.saturating_sub(last).as_secs_f64();
            self.owed = (self.owed - step).max(-MOST_SAVED);
            self.interval += (step - self.interval) / 8.0;
        }
        self.owed <= MOST_OWED.max(MOST_OWED_IN_FRAMES * self.interval)
    }

    /// A frame has come out.
    ///
    /// What is owed stays the same number of seconds when the target changes: bits that are on their way at the old rate
    /// are no reason to send nothing at the new one.
    pub(crate) fn spend(&mut self, bytes: usize, target: Bitrate) {
        self.owed += bytes as f64 * 8.0 / target.as_bps() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Bitrate = Bitrate::from_kbps(800);
    const INTERVAL: Duration = Duration::from_millis(40);
    /// At the target.
    const AVERAGE: usize = 4_000;

    /// Offers `frames` frames of `size`; gives how many were made, and how much was owed at most.
    fn offer(budget: &mut FrameBudget, frames: u32, size: usize) -> (u32, f64) {
        let start = budget.last.map_or(Duration::ZERO, |last| last + INTERVAL);
        let mut most = 0.0_f64;
        let made = (0..frames).filter(|&frame| {
            let room = budget.advance(start + INTERVAL * frame);
            if room {
                budget.spend(size, TARGET);
            }
            most = most.max(budget.owed);
            room
        });
        (made.count() as u32, most)
    }

    #[test]
    fn frames_at_the_target_are_all_made() {
        let mut budget = FrameBudget::new(INTERVAL);
        assert_eq!(offer(&mut budget, 1_000, AVERAGE).0, 1_000);
    }

    #[test]
    fn of_frames_four_times_too_large_every_fourth_is_made_and_little_is_ever_owed() {
        let mut budget = FrameBudget::new(INTERVAL);
        let (made, most) = offer(&mut budget, 1_000, 4 * AVERAGE);
        assert!((250..=258).contains(&made), "{made}");
        assert!(most <= MOST_OWED + 4.0 * INTERVAL.as_secs_f64() + 1e-9, "{most}");
    }

    #[test]
    fn little_of_what_was_not_spent_is_saved_up() {
        let mut budget = FrameBudget::new(INTERVAL);
        offer(&mut budget, 1_000, 0);
        let (made, _) = offer(&mut budget, 100, 4 * AVERAGE);
        assert!((28..33).contains(&made), "{made}");
    }

    #[test]
    fn a_key_frame_of_four_average_frames_costs_no_other() {
        let mut budget = FrameBudget::new(INTERVAL);
        for _ in 0..4 {
            assert_eq!(offer(&mut budget, 1, 4 * AVERAGE).0, 1);
            assert_eq!(offer(&mut budget, 24, AVERAGE * 7 / 8).0, 24);
        }
    }
}
