use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::PacketKind;

/// Packets that wait, the most urgent kind first, within a class in the order they came.
///
/// Streams of one class do not take turns, as they do in libwebrtc's `prioritized_packet_queue.cc`: frames of several cameras
/// leave one after the other, so that each is complete as early as it can be.
#[derive(Debug)]
pub(super) struct PacketQueue<T> {
    /// By class: see [`class`].
    waiting: [VecDeque<Waiting<T>>; CLASSES],
    packets: usize,
    bytes: u64,
    /// What all that wait have waited in sum, as of `counted_to`.
    waited: u128,
    counted_to: Instant,
}

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) kind: PacketKind,
    pub(super) size: u32,
    pub(super) since: Instant,
    pub(super) item: T,
}

const CLASSES: usize = 4;

/// The class of a kind: video and its FEC are one, since FEC that comes late repairs little
/// (libwebrtc, `prioritized_packet_queue.cc`, `GetPriorityForType`).
fn class(kind: PacketKind) -> usize {
    match kind {
        PacketKind::Audio => 0,
        PacketKind::Retransmission => 1,
        PacketKind::Video | PacketKind::Fec => 2,
        PacketKind::Padding => 3,
    }
}

impl<T> PacketQueue<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self { waiting: std::array::from_fn(|_| VecDeque::new()), packets: 0, bytes: 0, waited: 0, counted_to: now }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    pub(super) fn packets_of(&self, kind: PacketKind) -> usize {
        self.waiting[class(kind)].len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Since when the packet has waited that has waited longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(VecDeque::front).map(|waiting| waiting.since).min()
    }

    /// How long those that wait have waited on average, as of the last [`advance`](Self::advance).
    pub(super) fn average_wait(&self) -> Duration {
        // More than this is more than 500 years.
        let waited = u64::try_from(self.waited).unwrap_or(u64::MAX);
        Duration::from_nanos(waited.checked_div(self.packets as u64).unwrap_or(0))
    }

    /// Times never go back.
    pub(super) fn advance(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.counted_to).as_nanos();
        self.waited += span * self.packets as u128;
        self.counted_to = self.counted_to.max(now);
    }

    /// A packet that waits as of the last [`advance`](Self::advance).
    pub(super) fn push(&mut self, kind: PacketKind, size: u32, item: T) {
        self.packets += 1;
        self.bytes += u64::from(size);
        self.waiting[class(kind)].push_back(Waiting { kind, size, since: self.counted_to, item });
    }

    pub(super) fn pop(&mut self) -> Option<Waiting<T>> {
        let popped = self.waiting.iter_mut().find_map(VecDeque::pop_front)?;
        self.forget(popped.size, popped.since);
        Some(popped)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PacketKind, u32, &T)> {
        self.waiting.iter().flatten().map(|waiting| (waiting.kind, waiting.size, &waiting.item))
    }

    /// Keeps what `keep` says, and returns how many packets are gone.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(PacketKind, &T) -> bool) -> usize {
        let before = self.packets;
        let Self { waiting, packets, bytes, waited, counted_to } = self;
        for class in waiting {
            class.retain(|packet| {
                let kept = keep(packet.kind, &packet.item);
                if !kept {
                    *packets -= 1;
                    *bytes -= u64::from(packet.size);
                    *waited -= counted_to.duration_since(packet.since).as_nanos();
                }
                kept
            });
        }
        before - self.packets
    }

    fn forget(&mut self, size: u32, since: Instant) {
        self.packets -= 1;
        self.bytes -= u64::from(size);
        self.waited -= self.counted_to.duration_since(since).as_nanos();
    }
}
