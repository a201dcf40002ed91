//! How well a stream gets through, from 0 to 10, for producers (from us seen as the receiver) and consumers (from what
//! their receivers report).
//!
//! Each interval of reports is scored by the share of its packets that arrived, to the fourth power, so that 2 % of loss cost
//! a point and 16 % half of them. What was repaired counts as arrived, the less the more of it there was and the more often it
//! had to be sent. The score of a stream is the average of its last 24 intervals, the newest weighing most (mediasoup
//! `RtpStream::UpdateScore`, `RtpStreamRecv::UpdateScore`, `RtpStreamSend::UpdateScore`).
//!
//! **Deviations from mediasoup.** If more was lost in an interval than arrived, it is scored by what arrived; mediasoup caps
//! the loss at what arrived, which comes to the same 0, except that an interval without any packet is 0 here.

use std::collections::VecDeque;
use std::fmt;

/// 0 for nothing, 10 for a stream without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score(u8);

impl Score {
    /// Nothing comes through.
    pub const NONE: Self = Self(0);
    /// Everything comes through.
    pub const BEST: Self = Self(10);

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What became of a stream's packets, counted from its start. Each count may only grow; one that falls back, as a
/// receiver's of lost packets may when they arrive late, counts as unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketCounts {
    /// Sent, or of a received stream: expected by its sequence numbers.
    pub expected: u64,
    /// Not arrived when they should have.
    pub lost: u64,
    /// Arrived when they were sent again.
    pub repaired: u64,
    /// Sent again, each as often as it was.
    pub retransmitted: u64,
}

/// The score of one stream over time.
#[derive(Debug, Clone)]
pub struct StreamScore {
    intervals: VecDeque<Score>,
    scored: PacketCounts,
    score: Score,
}

/// Intervals that count (mediasoup's `ScoreHistogramLength`).
const INTERVALS: usize = 24;

impl StreamScore {
    /// One that begins with `initial`: 0 for a stream that has not come yet, 10 for one that is sent (as mediasoup).
    #[must_use]
    pub fn new(initial: Score) -> Self {
        let scored = PacketCounts { expected: 0, lost: 0, repaired: 0, retransmitted: 0 };
        Self { intervals: VecDeque::with_capacity(INTERVALS), scored, score: initial }
    }

    /// What it is now.
    #[must_use]
    pub const fn score(&self) -> Score {
        self.score
    }

    /// An interval is over: these are the counts now. True if the score has changed.
    pub fn handle_interval(&mut self, counts: PacketCounts) -> bool {
        let before = self.scored;
        self.scored = PacketCounts {
            expected: counts.expected.max(before.expected),
            lost: counts.lost.max(before.lost),
            repaired: counts.repaired.max(before.repaired),
            retransmitted: counts.retransmitted.max(before.retransmitted),
        };
        let interval = PacketCounts {
            expected: self.scored.expected - before.expected,
            lost: self.scored.lost - before.lost,
            repaired: self.scored.repaired - before.repaired,
            retransmitted: self.scored.retransmitted - before.retransmitted,
        };
        if self.intervals.len() == INTERVALS {
            self.intervals.pop_front();
        }
        self.intervals.push_back(interval_score(interval));
        self.set(self.average())
    }

    /// Nothing comes any more, although it should: the score is 0 at once, and what was before is forgotten. True if it
    /// has changed.
    pub fn handle_silence(&mut self) -> bool {
        self.intervals.clear();
        self.set(Score::NONE)
    }

    fn set(&mut self, score: Score) -> bool {
        std::mem::replace(&mut self.score, score) != score
    }

    /// The oldest interval weighs 1, each later one more by 1.
    fn average(&self) -> Score {
        let (mut sum, mut weights) = (0_u32, 0_u32);
        for (weight, score) in (1..).zip(&self.intervals) {
            sum += weight * u32::from(score.0);
            weights += weight;
        }
        // Rounded to the nearest, halves up.
        Score(((2 * sum + weights) / (2 * weights.max(1))) as u8)
    }
}

fn interval_score(interval: PacketCounts) -> Score {
    if interval.expected == 0 {
        return Score::BEST;
    }
    let expected = interval.expected as f64;
    let lost = interval.lost.min(interval.expected) as f64;
    let repaired = (interval.repaired as f64).min(lost);
    let mut weight = (1.0 + repaired / expected).powi(-4);
    if interval.retransmitted > 0 {
        weight *= (repaired / interval.retransmitted as f64).min(1.0);
    }
    let delivered = (expected - (lost - repaired * weight)) / expected;
    Score((delivered.powi(4) * 10.0).round() as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(expected: u64, lost: u64, repaired: u64, retransmitted: u64) -> u8 {
        interval_score(PacketCounts { expected, lost, repaired, retransmitted }).value()
    }

    #[test]
    fn the_score_of_an_interval_falls_with_the_fourth_power_of_what_arrived() {
        let lost: Vec<_> = [0, 1, 2, 5, 10, 16, 30, 60, 100].map(|lost| interval(100, lost, 0, 0)).into();
        assert_eq!(lost, [10, 10, 9, 8, 7, 5, 2, 0, 0]);
        assert_eq!(interval(0, 0, 0, 0), 10, "nothing was to come");
        assert_eq!(interval(10, 30, 0, 0), 0, "never less than nothing");
    }

    #[test]
    fn what_was_repaired_counts_less_the_more_there_was_and_the_more_often_it_was_sent() {
        assert_eq!(interval(100, 10, 10, 10), 9);
        assert_eq!(interval(100, 10, 10, 40), 7);
        assert_eq!(interval(100, 10, 0, 40), 7);
        assert_eq!(interval(100, 50, 50, 50), 1, "half of them repaired: (1/1.5)⁴ of the half counts");
        assert_eq!(interval(100, 10, 30, 30), interval(100, 10, 10, 30), "no more is repaired than was lost");
    }

    #[test]
    fn later_intervals_weigh_more() {
        let mut score = StreamScore::new(Score::NONE);
        let mut counts = PacketCounts::default();
        let mut next = |score: &mut StreamScore, lost| {
            counts.expected += 100;
            counts.lost += lost;
            score.handle_interval(counts);
            score.score().value()
        };
        assert_eq!(next(&mut score, 100), 0);
        assert_eq!(next(&mut score, 0), 7, "(0 + 2·10) / 3");
        assert_eq!(next(&mut score, 0), 8, "(0 + 2·10 + 3·10) / 6");
        assert_eq!(next(&mut score, 100), 5, "(0 + 2·10 + 3·10 + 0) / 10");
        for _ in 0..INTERVALS {
            next(&mut score, 0);
        }
        assert_eq!(score.score(), Score::BEST, "only the last 24 count");
    }

    #[test]
    fn silence_is_0_at_once_and_forgets() {
        let mut score = StreamScore::new(Score::BEST);
        assert!(!score.handle_interval(PacketCounts { expected: 100, ..Default::default() }));
        assert!(score.handle_silence() && !score.handle_silence());
        assert_eq!(score.score(), Score::NONE);
        assert!(score.handle_interval(PacketCounts { expected: 200, ..Default::default() }));
        assert_eq!(score.score(), Score::BEST);
    }

    #[test]
    fn a_count_that_falls_back_is_unchanged() {
        let mut score = StreamScore::new(Score::BEST);
        score.handle_interval(PacketCounts { expected: 100, lost: 50, ..Default::default() });
        let before = score.score();
        score.handle_interval(PacketCounts { expected: 200, lost: 20, ..Default::default() });
        assert!(score.score() > before, "no loss in the second interval");
        score.handle_interval(PacketCounts { expected: 300, lost: 50, ..Default::default() });
        assert!(score.score() > before, "nor in the third: those were counted already");
    }

    proptest! {
        #[test]
        fn a_score_is_from_0_to_10_whatever_is_counted(counts in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 1..60)) {
            let mut score = StreamScore::new(Score::NONE);
            for (expected, lost, repaired, retransmitted) in counts {
                let before = score.score();
                let changed = score.handle_interval(PacketCounts { expected, lost, repaired, retransmitted });
                prop_assert!(score.score() <= Score::BEST);
                prop_assert_eq!(changed, score.score() != before);
            }
        }

        #[test]
        fn more_loss_is_never_better_and_repair_never_worse(expected in 1_u64..1_000, lost in 0_u64..1_000, more in 0_u64..100, repaired in 0_u64..1_000) {
            prop_assert!(interval(expected, lost + more, 0, 0) <= interval(expected, lost, 0, 0));
            prop_assert!(interval(expected, lost, repaired, repaired) >= interval(expected, lost, 0, 0));
        }
    }
}
