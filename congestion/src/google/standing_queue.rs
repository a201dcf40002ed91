//! What to do about packets that wait in the path's queues all the time.
//!
//! Ours; libwebrtc looks only at whether a queue grows, so that its rate overshoots until the slope of the delay is beyond doubt,
//! and what has built up by then stays for seconds. Here the rate falls in proportion to how long even the fastest packets wait,
//! from where that is far longer than [steering](super::steering) means them to, until the queue is about as short as that;
//! then it returns to a little less than what the link carried meanwhile.
//!
//! A queue that does not empty when less is sent is another's: who fills it does not care for delay. To give way to that would
//! be to starve, so then the queue is left out of account for a while, and only loss counts. That less is sent is certain, as
//! the pacer is held to it; so a queue of our own falls by what was not sent.
//!
//! What it does not do: measure the queue, which is [`path`](super::path)'s part, or change the rate.

use std::time::{Duration, Instant};

/// Beyond what packets are meant to wait: from so long on there is a queue. Below it there is none to speak of.
const HOLD: Duration = Duration::from_millis(15);
/// From so long on it is to be emptied…
const DRAIN: Duration = Duration::from_millis(30);
/// …as if in so long. Less than about twice a round trip with its feedback would swing.
const DRAIN_SPAN: Duration = Duration::from_millis(450);
/// But never with less than this part of what the link carries, nor with more than that.
const FACTOR_MIN: f64 = 0.5;
const FACTOR_MAX: f64 = 0.95;
/// A queue is another's if it is still there when this many times it would have been emptied by what was not sent. That counts
/// from a round trip and so long after the first cut, which takes that to show; a message counts for no more than this…
const EMPTIED: f64 = 3.0;
const ENCODER_LAG: Duration = Duration::from_millis(200);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
const SPAN_MAX: Duration = Duration::from_millis(250);
/// …and it is taken for that so long, unless it has been empty for so long before.
const COMPETING: Duration = Duration::from_secs(20);
const LEFT: Duration = Duration::from_secs(2);
/// For so long after a queue the link counts as full.
const FULL: Duration = Duration::from_secs(3);
/// For so long without one of this length the path is calm.
const LONG: Duration = Duration::from_millis(30);
const CALM: Duration = Duration::from_secs(1);

/// What the queue asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum QueueAdvice {
    /// Nothing: it is empty.
    Empty,
    /// Nothing: it is another's.
    Foreign,
    /// To go no further than steering goes.
    Hold,
    /// To send only this part of what the link carries.
    Drain(f64),
}

/// What is to become of a queue that is being emptied.
#[derive(Debug)]
struct Emptying {
    since: Instant,
    updated: Instant,
    /// The longest that packets have waited since.
    longest: Duration,
    /// What was not sent, in seconds of what the link carries.
    saved: f64,
}

/// For how long there has been a queue.
#[derive(Debug, Default)]
pub(super) struct StandingQueue {
    /// When it was last empty.
    empty: Option<Instant>,
    /// When it was last not empty.
    full: Option<Instant>,
    emptying: Option<Emptying>,
    /// When it was last long.
    long: Option<Instant>,
    /// When it was last found to be another's.
    competing: Option<Instant>,
}

impl StandingQueue {
    /// The fastest packets of a message have waited for `delay`, and are meant to wait for `aim`. What the link carries is known,
    /// so that less can be sent, or it is not.
    pub(super) fn handle_delay(
        &mut self,
        now: Instant,
        delay: Duration,
        aim: Duration,
        round_trip: Duration,
        is_known: bool,
    ) -> QueueAdvice {
        self.empty.get_or_insert(now);
        if delay >= LONG {
            self.long = Some(now);
        }
        if delay < aim.saturating_add(HOLD) {
            self.empty = Some(now);
            self.emptying = None;
            if self.full.is_some_and(|full| now.saturating_duration_since(full) > LEFT) {
                self.competing = None;
            }
            return if self.is_foreign(now) { QueueAdvice::Foreign } else { QueueAdvice::Empty };
        }
        self.full = Some(now);
        if self.is_foreign(now) {
            return QueueAdvice::Foreign;
        }
        if delay < aim.saturating_add(DRAIN) {
            return QueueAdvice::Hold;
        }
        let factor = 1.0 - delay.as_secs_f64() / DRAIN_SPAN.as_secs_f64();
        let factor = factor.clamp(FACTOR_MIN, FACTOR_MAX);
        // Where no less is sent nothing is saved.
        let saves = if is_known { 1.0 - factor } else { 0.0 };
        if self.is_in_vain(now, delay, saves, round_trip) {
            self.emptying = None;
            self.competing = Some(now);
            return QueueAdvice::Foreign;
        }
        QueueAdvice::Drain(factor)
    }

    /// Whether the queue stays though so much less is sent that it should be gone.
    fn is_in_vain(&mut self, now: Instant, delay: Duration, saves: f64, round_trip: Duration) -> bool {
        let start = Emptying { since: now, updated: now, longest: delay, saved: 0.0 };
        let emptying = self.emptying.get_or_insert(start);
        let span = now.saturating_duration_since(emptying.updated).min(SPAN_MAX);
        emptying.updated = now;
        emptying.longest = emptying.longest.max(delay);
        if now.saturating_duration_since(emptying.since) > round_trip.min(ROUND_TRIP_MAX) + ENCODER_LAG {
            emptying.saved += saves * span.as_secs_f64();
        }
        emptying.saved > emptying.longest.as_secs_f64() * EMPTIED
    }

    /// Whether it has not been long for a while: the path may well carry more, and what is lost is not lost for lack of room.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.empty.is_some() && self.long.is_none_or(|long| now.saturating_duration_since(long) >= CALM)
    }

    /// Whether there was none when last looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.empty.is_some() && self.full.is_none_or(|full| self.empty > Some(full))
    }

    /// Whether the link was full lately: then all that leaves early waits there.
    pub(super) fn is_link_full(&self, now: Instant) -> bool {
        self.full.is_some_and(|full| now.saturating_duration_since(full) < FULL)
    }

    fn is_foreign(&self, now: Instant) -> bool {
        self.competing.is_some_and(|competing| now.saturating_duration_since(competing) < COMPETING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    fn at(millis: u64) -> Instant {
        start() + Duration::from_millis(millis)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const AIM: Duration = ms(10);

    #[test]
    fn the_longer_the_queue_the_less_is_sent() {
        let mut queue = StandingQueue::default();
        assert_eq!(queue.handle_delay(at(0), ms(24), AIM, ms(100), true), QueueAdvice::Empty);
        assert_eq!(queue.handle_delay(at(10), ms(25), AIM, ms(100), true), QueueAdvice::Hold);
        assert_eq!(queue.handle_delay(at(20), ms(90), AIM, ms(100), true), QueueAdvice::Drain(0.8));
        assert_eq!(queue.handle_delay(at(30), ms(5_000), AIM, ms(100), true), QueueAdvice::Drain(0.5));
    }

    #[test]
    fn a_queue_that_does_not_fall_when_less_is_sent_is_anothers() {
        let mut queue = StandingQueue::default();
        // Half is sent: after a round trip and an encoder's lag it takes 1.8 s to save 900 ms.
        let advice = |queue: &mut StandingQueue, millis| queue.handle_delay(at(millis), ms(300), AIM, ms(100), true);
        let found = (0..100).map(|n| 50 * n).find(|at| advice(&mut queue, *at) == QueueAdvice::Foreign).unwrap();
        assert!((2_050..=2_200).contains(&found), "{found}");
        assert_eq!(advice(&mut queue, found + 19_999), QueueAdvice::Foreign);
        assert_eq!(advice(&mut queue, found + 20_000), QueueAdvice::Drain(0.5));
        let again = (0..100).map(|n| found + 20_050 + 50 * n);
        let again = again.into_iter().find(|at| advice(&mut queue, *at) == QueueAdvice::Foreign).unwrap();
        assert_eq!(queue.handle_delay(at(again + 2_000), ms(0), AIM, ms(100), true), QueueAdvice::Foreign);
        let left = queue.handle_delay(at(again + 2_001), ms(0), AIM, ms(100), true);
        assert_eq!(left, QueueAdvice::Empty, "whoever it was has left");
    }

    #[test]
    fn a_queue_that_nothing_is_done_about_is_nobodys() {
        let mut queue = StandingQueue::default();
        for n in 0..1_000 {
            let advice = queue.handle_delay(at(50 * n), ms(300), AIM, ms(100), false);
            assert_eq!(advice, QueueAdvice::Drain(0.5));
        }
    }

    #[test]
    fn a_queue_that_falls_as_it_should_is_our_own() {
        let (mut queue, mut delay) = (StandingQueue::default(), 0.6);
        for n in 0..200 {
            match queue.handle_delay(at(50 * n), Duration::from_secs_f64(delay), AIM, ms(200), true) {
                QueueAdvice::Drain(factor) if n > 8 => delay -= (1.0 - factor) * 0.05,
                advice => assert_ne!(advice, QueueAdvice::Foreign),
            }
        }
        assert!(delay < 0.05, "{delay}");
    }

    #[test]
    fn a_link_is_full_for_a_while_after_a_queue() {
        let mut queue = StandingQueue::default();
        assert!(!queue.is_link_full(at(0)) && !queue.is_empty());
        queue.handle_delay(at(0), ms(0), AIM, ms(100), true);
        assert!(!queue.is_link_full(at(0)) && queue.is_empty());
        queue.handle_delay(at(10), ms(30), AIM, ms(100), true);
        assert!(queue.is_link_full(at(10)) && !queue.is_empty());
        queue.handle_delay(at(20), ms(0), AIM, ms(100), true);
        assert!(queue.is_link_full(at(3_009)) && queue.is_empty());
        assert!(!queue.is_link_full(at(3_010)));
    }

    #[test]
    fn a_second_without_a_queue_is_calm() {
        let mut queue = StandingQueue::default();
        assert!(!queue.is_calm(at(0)));
        queue.handle_delay(at(0), ms(30), AIM, ms(100), true);
        queue.handle_delay(at(10), ms(0), AIM, ms(100), true);
        assert!(!queue.is_calm(at(999)));
        assert!(queue.is_calm(at(1_000)));
    }
}
