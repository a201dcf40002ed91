//! What a sender knows of the segments that it has sent and that are not all acknowledged yet: RFC 6675.

use std::collections::VecDeque;
use std::time::Instant;

use super::Block;

/// RFC 6675, section 2: so many above it, and it is lost.
const DUPLICATE_THRESHOLD: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    SentAgain,
    Lost,
    Arrived,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    state: State,
    sent_at: Instant,
}

/// **Invariant.** `under_way` and `lost` count the slots in those states.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// The number of the first slot: all before have arrived.
    first: u64,
    slots: VecDeque<Slot>,
    /// Sent once or again, and not known to have arrived or to be lost: RFC 6675's pipe.
    under_way: u64,
    lost: u64,
}

impl Scoreboard {
    pub(super) fn arrived(&self) -> u64 {
        self.first
    }

    /// The number of the next new segment.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn under_way(&self) -> u64 {
        self.under_way
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn has_lost(&self) -> bool {
        self.lost > 0
    }

    /// A new segment leaves; its number.
    pub(super) fn send_new(&mut self, now: Instant) -> u64 {
        let number = self.next();
        self.slots.push_back(Slot { state: State::Sent, sent_at: now });
        self.under_way += 1;
        number
    }

    /// The first that is lost leaves again; its number.
    pub(super) fn send_again(&mut self, now: Instant) -> Option<u64> {
        if self.lost == 0 {
            return None;
        }
        let index = self.slots.iter().position(|slot| slot.state == State::Lost)?;
        self.slots[index].sent_at = now;
        self.set(index, State::SentAgain);
        Some(self.first + index as u64)
    }

    /// All before `next` have arrived; how many of them are news.
    pub(super) fn advance(&mut self, next: u64) -> u64 {
        let news = next.min(self.next()).saturating_sub(self.first);
        for _ in 0..news {
            self.set(0, State::Arrived);
            self.slots.pop_front();
        }
        self.first += news;
        news
    }

    /// These have arrived as well.
    pub(super) fn note(&mut self, block: Block) {
        let end = block.1.min(self.next());
        for number in block.0.max(self.first)..end {
            self.set((number - self.first) as usize, State::Arrived);
        }
    }

    /// Finds what must be lost, given that one that left at `newest` has arrived.
    pub(super) fn find_lost(&mut self, newest: Instant) {
        let mut above = 0;
        for index in (0..self.slots.len()).rev() {
            let slot = self.slots[index];
            let is_lost = match slot.state {
                State::Arrived => {
                    above += 1;
                    false
                }
                State::Sent => above >= DUPLICATE_THRESHOLD,
                // RFC 8985, section 4: what left later has arrived. Links do not reorder, so no window is needed for that.
                State::SentAgain => slot.sent_at < newest,
                State::Lost => false,
            };
            if is_lost {
                self.set(index, State::Lost);
            }
        }
    }

    /// All that has not arrived is taken for lost.
    pub(super) fn lose_all(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].state != State::Arrived {
                self.set(index, State::Lost);
            }
        }
    }

    fn set(&mut self, index: usize, state: State) {
        let old = std::mem::replace(&mut self.slots[index].state, state);
        match old {
            State::Sent | State::SentAgain => self.under_way -= 1,
            State::Lost => self.lost -= 1,
            State::Arrived => {}
        }
        match state {
            State::Sent | State::SentAgain => self.under_way += 1,
            State::Lost => self.lost += 1,
            State::Arrived => {}
        }
    }
}
