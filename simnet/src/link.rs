//! A link: a queue, a wire that serves it at a capacity that changes, a delay, and what goes wrong on it.
//!
//! When a packet comes, everything that will become of it is settled at once: since packets are served in order and the
//! capacity over all time is known, so is the moment when it has left the queue. Nothing that comes later can change that. So a
//! packet costs one event a link, at its arrival at the other end.
//!
//! A shaper that is a token bucket (as `tc tbf`, and what stands at many a home's door) lets so many bytes through at once after
//! a pause, and then what it carries. A wire is one with an empty bucket.
//!
//! **Invariants.**
//! - Packets arrive in the order in which they came; jitter delays, it does not reorder.
//! - The queue never holds more than its limit, but for a packet that found it empty: the wire itself takes one.
//! - What is decided about a packet depends on nothing that happens later, though it is computed early.

use std::collections::VecDeque;
use std::time::Duration;

use lenscast_media::Bitrate;

use crate::counters::Counters;
use crate::loss::{Loss, LossProcess};
use crate::random::Random;
use crate::time::{NEVER, Nanos, nanos};
use crate::trace::{Trace, Work, work_of};

/// How much may wait, the packet that is being served counted whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// As many bytes as the capacity of the moment carries in this time. After a fall more may be waiting than that; then
    /// nothing is taken until enough has left.
    Time(Duration),
    /// So many bytes.
    Bytes(u64),
}

/// How much longer than the delay a packet is on the wire: the magnitude of a Gaussian with this deviation, cut off at so many
/// deviations, without reordering (RFC 8868, section 4.5.3; the same in libwebrtc's `bwe_test_framework.cc`, `JitterFilter`). So
/// the delay is the least, and with 5 ms and 3 the mean is 4 ms above it and the most 15.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    /// The deviation, before the cut.
    pub deviation: Duration,
    /// How many deviations at most.
    pub cut: f64,
}

impl Jitter {
    /// Every packet takes exactly the delay.
    pub const NONE: Self = Self { deviation: Duration::ZERO, cut: 0.0 };
}

/// When packets that can be marked are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecn {
    /// Those that have waited longer than this when their turn comes, each of them: a step (as RFC 9332, section 2.5.1.1, has it
    /// for low latency). What cannot be marked passes; only a full queue drops.
    pub threshold: Duration,
}

/// What a link is like.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkConfig {
    /// What it carries, all headers counted.
    pub capacity: Trace,
    /// From having been sent whole to arriving.
    pub delay: Duration,
    /// How much longer that may be.
    pub jitter: Jitter,
    /// What is lost after the queue.
    pub loss: Loss,
    /// How much may wait.
    pub queue: QueueLimit,
    /// So many bytes pass at once after a pause in which as many could have passed.
    pub burst: u64,
    /// Whether and when it marks.
    pub ecn: Option<Ecn>,
    /// Where its random numbers begin.
    pub seed: u64,
}

impl LinkConfig {
    /// A link with the defaults of RFC 8867, sections 4.2 and 4.3, but for its jitter: 50 ms one way, 300 ms of queue, no loss.
    #[must_use]
    pub fn new(capacity: Trace) -> Self {
        Self {
            capacity,
            delay: Duration::from_millis(50),
            jitter: Jitter::NONE,
            loss: Loss::None,
            queue: QueueLimit::Time(Duration::from_millis(300)),
            burst: 0,
            ecn: None,
            seed: 0,
        }
    }
}

/// A packet on a link, and what is to become of it.
#[derive(Debug)]
pub(crate) struct Passage<T> {
    /// When it is at the other end; [`NEVER`] if the link stands still for good.
    pub(crate) arrival: Nanos,
    /// Its number among all that ever entered a link: the order among those that arrive at the same time.
    pub(crate) order: u64,
    /// How long it waits before its turn comes.
    pub(crate) waited: Nanos,
    pub(crate) size: u32,
    pub(crate) is_lost: bool,
    /// If it can be marked, it is.
    pub(crate) is_marking: bool,
    pub(crate) content: T,
    /// When it has left the queue.
    departure: Nanos,
}

#[derive(Debug)]
pub(crate) struct Link<T> {
    config: LinkConfig,
    jitter: Nanos,
    delay: Nanos,
    random: Random,
    loss: LossProcess,
    /// All that is on the link, in order: first those on the wire, then, from `left`, those in the queue.
    passages: VecDeque<Passage<T>>,
    left: usize,
    queued_bytes: u64,
    /// When the last of the queue has left.
    busy_until: Nanos,
    /// What the link carries up to here is spent, but for what is in the bucket.
    served_until: Nanos,
    bucket: Work,
    last_arrival: Nanos,
    pub(crate) counters: Counters,
}

impl<T> Link<T> {
    pub(crate) fn new(config: LinkConfig) -> Self {
        Self {
            jitter: nanos(config.jitter.deviation),
            delay: nanos(config.delay),
            random: Random::new(config.seed),
            loss: LossProcess::new(config.loss),
            passages: VecDeque::new(),
            left: 0,
            queued_bytes: 0,
            busy_until: 0,
            served_until: 0,
            bucket: work_of(config.burst),
            last_arrival: 0,
            counters: Counters::default(),
            config,
        }
    }

    pub(crate) fn capacity(&self) -> &Trace {
        &self.config.capacity
    }

    /// How long a packet that came now would wait for its turn; [`NEVER`] if that does not come.
    pub(crate) fn wait(&self, now: Nanos) -> Nanos {
        if self.busy_until == NEVER { NEVER } else { self.busy_until.saturating_sub(now) }
    }

    /// What waits in the queue, or is being sent.
    pub(crate) fn queued_bytes(&self, now: Nanos) -> u64 {
        let gone = self.passages.range(self.left..).take_while(|passage| passage.departure <= now);
        self.queued_bytes - gone.map(|passage| u64::from(passage.size)).sum::<u64>()
    }

    /// When the first of those on the link arrives, and its number. `None` if none ever does.
    pub(crate) fn next_arrival(&self) -> Option<(Nanos, u64)> {
        self.passages.front().filter(|first| first.arrival != NEVER).map(|first| (first.arrival, first.order))
    }

    /// A packet comes. Times never go back. What finds no room is given back.
    pub(crate) fn offer(&mut self, now: Nanos, order: u64, size: u32, content: T) -> Result<(), T> {
        self.let_go(now);
        self.counters.offered.add(size);
        if !self.has_room(now, size) {
            self.counters.dropped.add(size);
            return Err(content);
        }
        let turn = self.busy_until.max(now);
        let departure = if turn == NEVER { NEVER } else { self.serve(now, size).max(turn) };
        let waited = turn - now;
        let is_marking = self.config.ecn.is_some_and(|ecn| waited > nanos(ecn.threshold));
        let is_lost = self.loss.next_is_lost(&mut self.random);
        let arrival = departure.saturating_add(self.time_on_wire()).max(self.last_arrival);
        self.busy_until = departure;
        self.last_arrival = arrival;
        self.queued_bytes += u64::from(size);
        self.passages.push_back(Passage { arrival, order, waited, size, is_lost, is_marking, content, departure });
        Ok(())
    }

    /// Takes off the first, which has arrived.
    pub(crate) fn take(&mut self, now: Nanos) -> Option<Passage<T>> {
        self.let_go(now);
        if self.passages.front()?.arrival > now {
            return None;
        }
        let passage = self.passages.pop_front()?;
        // It arrived, so it has left the queue.
        self.left -= 1;
        if passage.is_lost {
            self.counters.lost.add(passage.size);
        } else {
            self.counters.delivered.add(passage.size);
        }
        Some(passage)
    }

    /// When the link has carried a packet that comes now, after all that came before: [`NEVER`] if it never does.
    fn serve(&mut self, now: Nanos, size: u32) -> Nanos {
        let (full, need) = (work_of(self.config.burst), work_of(u64::from(size)));
        if self.served_until < now {
            let more = self.config.capacity.work_between(self.served_until, now);
            self.bucket = self.bucket.saturating_add(more).min(full);
            self.served_until = now;
        }
        let saved = self.bucket.min(need);
        self.bucket -= saved;
        self.served_until = self.config.capacity.finish_work(self.served_until, need - saved).unwrap_or(NEVER);
        self.served_until
    }

    /// Those whose time in the queue is over are on the wire.
    fn let_go(&mut self, now: Nanos) {
        while let Some(passage) = self.passages.get(self.left)
            && passage.departure <= now
        {
            self.queued_bytes -= u64::from(passage.size);
            self.left += 1;
        }
    }

    fn has_room(&self, now: Nanos, size: u32) -> bool {
        let limit = match self.config.queue {
            QueueLimit::Bytes(bytes) => bytes,
            QueueLimit::Time(span) => match self.config.capacity.capacity(now) {
                Bitrate::UNLIMITED => u64::MAX,
                capacity => capacity.bytes_in(span),
            },
        };
        self.left == self.passages.len() || self.queued_bytes + u64::from(size) <= limit
    }

    fn time_on_wire(&mut self) -> Nanos {
        if self.jitter == 0 {
            return self.delay;
        }
        let drawn = self.random.truncated_normal(self.config.jitter.cut).abs();
        self.delay.saturating_add((drawn * self.jitter as f64) as Nanos)
    }
}
