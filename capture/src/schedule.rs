//! When a paced source owes its frames.
//!
//! Every deadline is counted from the start, never from the frame before, so a source that is late now and then neither
//! drifts nor bursts to catch up: the slots that have passed are skipped, and said to be.
//!
//! **Invariants.** Slot numbers ascend; a slot's time is its number over the rate after the start; a slot is handed out
//! while it lasts or before it begins, never after.
//!
//! What it does not do: read a clock or sleep.

use std::time::Instant;

use crate::FrameRate;

/// The slots of a source that makes frames at a fixed rate.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: FrameRate,
    next: u64,
}

/// One frame's place in a [`Schedule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Counts slots from 0, skipped ones too.
    pub(crate) number: u64,
    /// When the frame is due.
    pub(crate) at: Instant,
    /// How many slots passed unused since the one before.
    pub(crate) skipped: u64,
}

impl Schedule {
    /// Slot 0 is at `start`.
    pub(crate) const fn new(start: Instant, rate: FrameRate) -> Self {
        Self { start, rate, next: 0 }
    }

    /// The next slot that is not over at `now`.
    pub(crate) fn next_slot(&mut self, now: Instant) -> Slot {
        let current = self.rate.index_at(now.saturating_duration_since(self.start));
        let number = self.next.max(current);
        let skipped = number - self.next;
        self.next = number + 1;
        Slot { number, at: self.start + self.rate.time_of(number), skipped }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_source_skips_what_is_over_and_says_so() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, FrameRate::whole(10).unwrap());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(schedule.next_slot(start), Slot { number: 0, at: start, skipped: 0 });
        assert_eq!(schedule.next_slot(at(20)), Slot { number: 1, at: at(100), skipped: 0 });
        assert_eq!(schedule.next_slot(at(299)), Slot { number: 2, at: at(200), skipped: 0 }, "late, but not over");
        assert_eq!(schedule.next_slot(at(610)), Slot { number: 6, at: at(600), skipped: 3 });
    }

    proptest! {
        #[test]
        fn slots_ascend_without_drift_and_every_number_is_used_or_skipped(
            frames in 1_u32..=240, delays in prop::collection::vec(0_u64..500_000_000, 1..100)
        ) {
            let rate = FrameRate::whole(frames).unwrap();
            let start = Instant::now();
            let mut schedule = Schedule::new(start, rate);
            let (mut now, mut accounted) = (start, 0);
            for delay in delays {
                let slot = schedule.next_slot(now);
                accounted += slot.skipped;
                prop_assert_eq!(slot.number, accounted);
                accounted += 1;
                prop_assert_eq!(slot.at, start + rate.time_of(slot.number));
                prop_assert!(slot.at + rate.time_of(1) > now, "slot {} was over", slot.number);
                now = now.max(slot.at) + Duration::from_nanos(delay);
            }
        }
    }
}
