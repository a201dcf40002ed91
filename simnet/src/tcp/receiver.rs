//! The receiving side.

use std::time::{Duration, Instant};

use super::{Ack, Block, MOST_BLOCKS, Segment};

/// How long an acknowledgement waits for a second segment: Linux's least (`TCP_DELACK_MIN`, `include/net/tcp.h`); RFC 5681, section 4.2,
/// allows half a second.
const DELAY: Duration = Duration::from_millis(40);

/// Acknowledges every second segment, and at once what is out of order.
///
/// Order of calls: [`handle_segment`](Self::handle_segment) as they come; after each, and at
/// [`poll_timeout`](Self::poll_timeout), [`poll_ack`](Self::poll_ack).
#[derive(Debug, Default)]
pub struct Receiver {
    /// All before have come.
    next: u64,
    /// What has come beyond, without overlaps, the newest first.
    blocks: Vec<Block>,
    due: Option<Due>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    echo: Instant,
}

impl Receiver {
    /// One that has nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A segment has come.
    pub fn handle_segment(&mut self, now: Instant, segment: &Segment) {
        let is_next = segment.number == self.next;
        let had_blocks = !self.blocks.is_empty();
        if segment.number >= self.next {
            self.take(segment.number);
        }
        let can_wait = is_next && !had_blocks && self.due.is_none();
        let at = if can_wait { now.checked_add(DELAY).unwrap_or(now) } else { now };
        // RFC 7323, section 4.3: of the segments that one acknowledgement is for, the first; but one out of order is
        // answered with the time of the last in order. Here each is answered by its own, which tells the sender when it left.
        let echo = match self.due {
            Some(due) if is_next => due.echo,
            _ => segment.sent_at,
        };
        self.due = Some(Due { at, echo });
    }

    /// When an acknowledgement is due that still waits.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.map(|due| due.at)
    }

    /// An acknowledgement, if one is due by now.
    #[must_use]
    pub fn poll_ack(&mut self, now: Instant) -> Option<Ack> {
        let due = self.due.take_if(|due| due.at <= now)?;
        let mut blocks = [None; MOST_BLOCKS];
        for (place, block) in blocks.iter_mut().zip(&self.blocks) {
            *place = Some(*block);
        }
        Some(Ack { next: self.next, blocks, echo: due.echo })
    }

    /// Joins a segment with what it touches, and puts that first.
    fn take(&mut self, number: u64) {
        let mut joined = Block(number, number.saturating_add(1));
        self.blocks.retain(|block| {
            let touches = block.0 <= joined.1 && joined.0 <= block.1;
            if touches {
                joined = Block(joined.0.min(block.0), joined.1.max(block.1));
            }
            !touches
        });
        if joined.0 <= self.next {
            self.next = joined.1;
        } else {
            self.blocks.insert(0, joined);
        }
    }
}

#[cfg(test)]
// The one instant that everything is counted from.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn receive(receiver: &mut Receiver, now: Instant, number: u64) -> Option<Ack> {
        receiver.handle_segment(now, &Segment { number, sent_at: now });
        receiver.poll_ack(now)
    }

    #[test]
    fn acknowledges_every_second_segment_or_after_a_while() {
        let now = Instant::now();
        let mut receiver = Receiver::new();
        assert_eq!(receive(&mut receiver, now, 0), None);
        let later = now + Duration::from_millis(1);
        let ack = receive(&mut receiver, later, 1).unwrap();
        assert_eq!((ack.next, ack.echo, ack.size()), (2, now, 52));
        assert_eq!(receive(&mut receiver, later, 2), None);
        assert_eq!(receiver.poll_timeout(), Some(later + DELAY));
        assert_eq!(receiver.poll_ack(later + DELAY).unwrap().next, 3);
        assert_eq!(receiver.poll_timeout(), None);
    }

    #[test]
    fn tells_at_once_of_holes_and_of_their_filling() {
        let now = Instant::now();
        let mut receiver = Receiver::new();
        let mut blocks = Vec::new();
        for number in [1, 3, 5, 7, 2] {
            let ack = receive(&mut receiver, now, number).unwrap();
            assert_eq!(ack.next, 0);
            blocks = ack.blocks.into_iter().flatten().collect();
        }
        assert_eq!(blocks, [Block(1, 4), Block(7, 8), Block(5, 6)]);
        let ack = receive(&mut receiver, now, 0).unwrap();
        assert_eq!((ack.next, ack.size()), (4, 52 + 4 + 16));
        // What is there already is answered, and changes nothing.
        assert_eq!(receive(&mut receiver, now, 0).unwrap().next, 4);
        assert_eq!(receive(&mut receiver, now, 5).unwrap().next, 4);
    }
}
