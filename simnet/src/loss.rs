//! Loss that no queue causes: what a radio or a bad cable does.

use crate::random::Random;

/// Which packets a link loses after they have left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each with this probability, whatever became of the others.
    Random(f64),
    /// In bursts: the Gilbert-Elliott model. Before each packet the link may go from good to bad or back.
    Burst {
        /// The probability of turning bad.
        to_bad: f64,
        /// The probability of turning good again.
        to_good: f64,
        /// The probability of losing a packet while good.
        while_good: f64,
        /// The probability of losing a packet while bad.
        while_bad: f64,
    },
}

impl Loss {
    /// Bursts of so many packets on average, all of a burst lost, so that `rate` (0 to 1) of all packets is lost.
    #[must_use]
    pub fn bursts(rate: f64, mean_length: f64) -> Self {
        let to_good = 1.0 / mean_length.max(1.0);
        let rate = rate.clamp(0.0, 1.0);
        // In the long run the link is bad for to_bad / (to_bad + to_good) of the packets.
        let to_bad = if rate < 1.0 { (to_good * rate / (1.0 - rate)).min(1.0) } else { 1.0 };
        let to_good = if rate < 1.0 { to_good } else { 0.0 };
        Self::Burst { to_bad, to_good, while_good: 0.0, while_bad: 1.0 }
    }
}

/// A link's loss as it goes on.
#[derive(Debug, Clone)]
pub(crate) struct LossProcess {
    loss: Loss,
    bad: bool,
}

impl LossProcess {
    pub(crate) fn new(loss: Loss) -> Self {
        Self { loss, bad: false }
    }

    /// Whether the next packet is lost.
    pub(crate) fn next_is_lost(&mut self, random: &mut Random) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(rate) => random.chance(rate),
            Loss::Burst { to_bad, to_good, while_good, while_bad } => {
                self.bad = if self.bad { !random.chance(to_good) } else { random.chance(to_bad) };
                random.chance(if self.bad { while_bad } else { while_good })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(loss: Loss, count: usize) -> Vec<bool> {
        let (mut process, mut random) = (LossProcess::new(loss), Random::new(11));
        (0..count).map(|_| process.next_is_lost(&mut random)).collect()
    }

    fn rate(pattern: &[bool]) -> f64 {
        pattern.iter().filter(|lost| **lost).count() as f64 / pattern.len() as f64
    }

    #[test]
    fn random_loss_has_its_rate() {
        assert!((rate(&pattern(Loss::Random(0.05), 100_000)) - 0.05).abs() < 0.005);
        assert_eq!(rate(&pattern(Loss::Random(0.0), 1_000)), 0.0);
        assert_eq!(rate(&pattern(Loss::Random(1.0), 1_000)), 1.0);
    }

    #[test]
    fn bursts_have_their_rate_and_length() {
        for expected in [0.05, 0.3] {
            let pattern = pattern(Loss::bursts(expected, 4.0), 400_000);
            assert!((rate(&pattern) - expected).abs() < 0.005, "{}", rate(&pattern));
            let bursts = pattern.windows(2).filter(|pair| !pair[0] && pair[1]).count();
            let length = pattern.iter().filter(|lost| **lost).count() as f64 / bursts as f64;
            assert!((length - 4.0).abs() < 0.1, "{length}");
        }
    }

    #[test]
    fn bursts_of_everything_and_of_nothing() {
        assert_eq!(rate(&pattern(Loss::bursts(1.0, 3.0), 1_000)), 1.0);
        assert_eq!(rate(&pattern(Loss::bursts(0.0, 3.0), 1_000)), 0.0);
    }
}
