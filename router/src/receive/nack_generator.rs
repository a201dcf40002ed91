use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sequence_window::MAX_MISORDER;

/// Which packets of one stream are missing, and when to ask for each again.
///
/// Follows mediasoup's `RTC/NackGenerator.cpp`, but waits a moment before it asks for the first time: networks put packets
/// in another order, and what comes in one batch is not lost.
#[derive(Debug, Default)]
pub(crate) struct NackGenerator {
    /// In the order of their indices.
    missing: VecDeque<Missing>,
    /// The newest index at which a key frame began: what is missing before it can be done without.
    key_frame: Option<u64>,
    /// When the pending ones are looked at next; `None` if there are none.
    due: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    index: u64,
    since: Instant,
    /// When it was last asked for.
    asked: Option<Instant>,
    times_asked: u8,
}

/// What a gap calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Gap {
    /// The missing packets will be asked for.
    Pending,
    /// Too many are missing: all were given up, and only a key frame helps.
    NeedsKeyFrame,
}

/// `TimerInterval`.
const INTERVAL: Duration = Duration::from_millis(40);
/// `DefaultRtt`: as long as none is known.
pub(crate) const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
/// `MaxNackRetries`.
const MAX_TIMES_ASKED: u8 = 10;
/// `MaxNackPackets`.
const MAX_MISSING: usize = 1_000;
/// How many later packets, or how much time, tell that a packet is lost and not only late. Three is what TCP waits for
/// (RFC 5681 §3.2).
const REORDERING_PACKETS: u64 = 3;
const REORDERING_TIME: Duration = Duration::from_millis(10);

impl NackGenerator {
    /// How many are missing and asked for.
    pub(crate) fn len(&self) -> usize {
        self.missing.len()
    }

    /// Packet `index`, with which a key frame begins, has come.
    pub(crate) fn handle_key_frame(&mut self, index: u64) {
        self.key_frame = self.key_frame.max(Some(index));
    }

    /// The newest packet is `newest`, and those between it and `before` have not come.
    pub(crate) fn handle_newest(&mut self, now: Instant, before: u64, newest: u64) -> Gap {
        let oldest = newest.saturating_sub(MAX_MISORDER);
        while self.missing.front().is_some_and(|missing| missing.index < oldest) {
            self.missing.pop_front();
        }
        let new = (newest - before).saturating_sub(1) as usize;
        if new == 0 {
            self.hasten(now, newest);
            return Gap::Pending;
        }
        if self.missing.len() + new > MAX_MISSING {
            let key_frame = self.key_frame.unwrap_or(0);
            while self.missing.len() + new > MAX_MISSING
                && self.missing.front().is_some_and(|missing| missing.index < key_frame)
            {
                self.missing.pop_front();
            }
            if self.missing.len() + new > MAX_MISSING {
                self.missing.clear();
                self.due = None;
                return Gap::NeedsKeyFrame;
            }
        }
        let lost = before + 1..newest;
        self.missing.extend(lost.map(|index| Missing { index, since: now, asked: None, times_asked: 0 }));
        let first_look = now + REORDERING_TIME;
        self.due = Some(self.due.map_or(first_look, |due| due.min(first_look)));
        self.hasten(now, newest);
        Gap::Pending
    }

    /// Packet `index` has come late or as a retransmission. True if it had been asked for.
    pub(crate) fn handle_late(&mut self, index: u64) -> bool {
        let Ok(at) = self.missing.binary_search_by_key(&index, |missing| missing.index) else { return false };
        let asked = self.missing.remove(at).is_some_and(|missing| missing.times_asked > 0);
        if self.missing.is_empty() {
            self.due = None;
        }
        asked
    }

    /// The indices are those of another sequence from here on.
    pub(crate) fn clear(&mut self) {
        *self = Self { missing: std::mem::take(&mut self.missing), ..Self::default() };
        self.missing.clear();
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Puts the indices that are to be asked for now into `to`, lowest first. Each is asked for again after a round trip,
    /// [`MAX_TIMES_ASKED`] times. If more than `limit` are, the others stay due.
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        newest: u64,
        round_trip: Duration,
        limit: usize,
        to: &mut Vec<u64>,
    ) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut left_over = false;
        self.missing.retain_mut(|missing| {
            let lost = match missing.asked {
                None => {
                    newest >= missing.index + REORDERING_PACKETS
                        || now.saturating_duration_since(missing.since) >= REORDERING_TIME
                }
                Some(asked) => now.saturating_duration_since(asked) >= round_trip,
            };
            if lost && missing.times_asked >= MAX_TIMES_ASKED {
                return false;
            }
            if lost && to.len() >= limit {
                left_over = true;
            } else if lost {
                to.push(missing.index);
                missing.asked = Some(now);
                missing.times_asked += 1;
            }
            true
        });
        if left_over {
            return;
        }
        let unasked = self.missing.iter().find(|missing| missing.asked.is_none());
        let next = unasked.map_or(now + INTERVAL, |missing| missing.since + REORDERING_TIME);
        self.due = (!self.missing.is_empty()).then_some(next.min(now + INTERVAL));
    }

    /// Has those looked at that enough later packets have come after. The newest gap is last, and only what was never asked
    /// for is in a hurry.
    fn hasten(&mut self, now: Instant, newest: u64) {
        if self.due.is_none_or(|due| due <= now) {
            return;
        }
        let waiting = self.missing.iter().rev().take_while(|missing| missing.asked.is_none());
        if waiting.last().is_some_and(|first| newest >= first.index + REORDERING_PACKETS) {
            self.due = Some(now);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(generator: &mut NackGenerator, now: Instant, newest: u64) -> Vec<u64> {
        let mut due = Vec::new();
        generator.take_due(now, newest, DEFAULT_ROUND_TRIP, 400, &mut due);
        due
    }

    #[test]
    fn a_gap_is_asked_for_after_a_moment_and_again_after_a_round_trip() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        assert_eq!(generator.handle_newest(start, 10, 13), Gap::Pending);
        assert_eq!(due(&mut generator, start, 13), [], "11 and 12 may only be late");
        assert_eq!(generator.poll_timeout(), Some(start + REORDERING_TIME));
        assert_eq!(due(&mut generator, start + 10 * MS, 13), [11, 12]);
        assert_eq!(generator.poll_timeout(), Some(start + 50 * MS));
        assert_eq!(due(&mut generator, start + 50 * MS, 13), [], "a round trip has not passed");
        assert!(generator.handle_late(12));
        assert_eq!(due(&mut generator, start + 90 * MS, 13), []);
        assert_eq!(due(&mut generator, start + 130 * MS, 13), [11]);
        assert!(generator.handle_late(11) && !generator.handle_late(11));
        assert_eq!(generator.poll_timeout(), None);
    }

    #[test]
    fn three_later_packets_are_reason_enough() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        for (before, newest, expected) in [(1, 3, vec![]), (3, 4, vec![]), (4, 5, vec![2]), (5, 6, vec![])] {
            let _ = generator.handle_newest(start, before, newest);
            assert_eq!(due(&mut generator, start, newest), expected, "{newest}");
        }
    }

    #[test]
    fn what_comes_in_another_order_is_not_asked_for() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        let _ = generator.handle_newest(start, 1, 4);
        assert!(!generator.handle_late(3) && !generator.handle_late(2));
        assert_eq!((generator.poll_timeout(), due(&mut generator, start + 90 * MS, 4)), (None, vec![]));
    }

    #[test]
    fn asking_ends_after_ten_times() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        let _ = generator.handle_newest(start, 1, 3);
        let mut asked = 0;
        while let Some(at) = generator.poll_timeout() {
            asked += due(&mut generator, at, 3).len();
        }
        assert_eq!(asked, 10);
    }

    #[test]
    fn what_comes_after_the_last_request_is_repaired_too() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        let _ = generator.handle_newest(start, 1, 3);
        let mut asked = 0;
        while asked < 10 {
            let at = generator.poll_timeout().unwrap();
            asked += due(&mut generator, at, 3).len();
        }
        assert!(generator.handle_late(2));
    }

    #[test]
    fn too_many_are_given_up_first_those_before_the_last_key_frame() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        assert_eq!(generator.handle_newest(start, 0, 601), Gap::Pending);
        generator.handle_key_frame(601);
        assert_eq!(generator.handle_newest(start, 601, 1_102), Gap::Pending, "those before the key frame make room");
        assert_eq!(generator.len(), 1_000);
        assert_eq!(generator.handle_newest(start, 1_102, 2_002), Gap::NeedsKeyFrame);
        assert_eq!((generator.len(), generator.poll_timeout()), (0, None));
    }

    #[test]
    fn many_are_asked_for_in_several_messages() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        let _ = generator.handle_newest(start, 0, 1_001);
        let mut counts = Vec::new();
        while generator.poll_timeout().is_some_and(|due| due <= start) {
            counts.push(due(&mut generator, start, 1_001).len());
        }
        assert_eq!(counts, [400, 400, 198], "the last two may only be late");
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let start = Instant::now();
        let mut generator = NackGenerator::default();
        let _ = generator.handle_newest(start, 1, 3);
        let _ = generator.handle_newest(start, 2 + MAX_MISORDER, 3 + MAX_MISORDER);
        assert_eq!(generator.len(), 0);
    }
}
