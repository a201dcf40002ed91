//! What to do about packets that wait in the path's queues all the time.
//!
//! Ours; libwebrtc looks only at whether a queue grows, so that its rate overshoots until the slope of the delay is beyond doubt,
//! and what has built up by then stays for seconds. Here the rate falls in proportion to how long even the fastest packets wait,
//! from where that is far longer than [steering](super::steering) means them to, until the queue is about as short as that;
//! then it returns to a little less than what the link carried meanwhile.
//!
//! A queue that does not empty when less is sent is another's: who fills it does not care for delay. To give way to that would
//! be to starve, so then the queue is left out of account for a while, and what libwebrtc does is all that is done.
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
/// A queue that has not been empty for so long is another's…
const PATIENCE: Duration = Duration::from_secs(3);
/// …and is taken for that so long.
const COMPETING: Duration = Duration::from_secs(10);
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

/// For how long there has been a queue.
#[derive(Debug, Default)]
pub(super) struct StandingQueue {
    /// When it was last empty.
    empty: Option<Instant>,
    /// When it was last not empty.
    full: Option<Instant>,
    /// When it was last long.
    long: Option<Instant>,
    /// When it was last found to be another's.
    competing: Option<Instant>,
}

impl StandingQueue {
    /// The fastest packets of a message have waited for `delay`, and are meant to wait for `aim`.
    pub(super) fn handle_delay(&mut self, now: Instant, delay: Duration, aim: Duration) -> QueueAdvice {
        let empty = *self.empty.get_or_insert(now);
        if delay >= LONG {
            self.long = Some(now);
        }
        if delay < aim.saturating_add(HOLD) {
            self.empty = Some(now);
            return if self.is_foreign(now) { QueueAdvice::Foreign } else { QueueAdvice::Empty };
        }
        self.full = Some(now);
        if now.saturating_duration_since(empty) > PATIENCE {
            self.competing = Some(now);
        }
        if self.is_foreign(now) {
            return QueueAdvice::Foreign;
        }
        if delay < aim.saturating_add(DRAIN) {
            return QueueAdvice::Hold;
        }
        let factor = 1.0 - delay.as_secs_f64() / DRAIN_SPAN.as_secs_f64();
        QueueAdvice::Drain(factor.clamp(FACTOR_MIN, FACTOR_MAX))
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
        assert_eq!(queue.handle_delay(at(0), ms(24), AIM), QueueAdvice::Empty);
        assert_eq!(queue.handle_delay(at(10), ms(25), AIM), QueueAdvice::Hold);
        assert_eq!(queue.handle_delay(at(20), ms(90), AIM), QueueAdvice::Drain(0.8));
        assert_eq!(queue.handle_delay(at(30), ms(5_000), AIM), QueueAdvice::Drain(0.5));
    }

    #[test]
    fn a_queue_that_stays_is_anothers() {
        let mut queue = StandingQueue::default();
        queue.handle_delay(at(0), ms(0), AIM);
        assert_eq!(queue.handle_delay(at(3_000), ms(300), AIM), QueueAdvice::Drain(0.5));
        assert_eq!(queue.handle_delay(at(3_001), ms(300), AIM), QueueAdvice::Foreign);
        assert_eq!(queue.handle_delay(at(4_000), ms(0), AIM), QueueAdvice::Foreign);
        assert_eq!(queue.handle_delay(at(13_000), ms(30), AIM), QueueAdvice::Foreign);
        assert_eq!(queue.handle_delay(at(23_001), ms(0), AIM), QueueAdvice::Empty);
        assert_eq!(queue.handle_delay(at(23_002), ms(30), AIM), QueueAdvice::Hold);
    }

    #[test]
    fn a_link_is_full_for_a_while_after_a_queue() {
        let mut queue = StandingQueue::default();
        assert!(!queue.is_link_full(at(0)) && !queue.is_empty());
        queue.handle_delay(at(0), ms(0), AIM);
        assert!(!queue.is_link_full(at(0)) && queue.is_empty());
        queue.handle_delay(at(10), ms(30), AIM);
        assert!(queue.is_link_full(at(10)) && !queue.is_empty());
        queue.handle_delay(at(20), ms(0), AIM);
        assert!(queue.is_link_full(at(3_009)) && queue.is_empty());
        assert!(!queue.is_link_full(at(3_010)));
    }

    #[test]
    fn a_second_without_a_queue_is_calm() {
        let mut queue = StandingQueue::default();
        assert!(!queue.is_calm(at(0)));
        queue.handle_delay(at(0), ms(30), AIM);
        queue.handle_delay(at(10), ms(0), AIM);
        assert!(!queue.is_calm(at(999)));
        assert!(queue.is_calm(at(1_000)));
    }
}
