//! When packets leave: [`Pacer`].
//!
//! Encoders deliver frames at once, and the path's narrowest link would have to keep them in its queue. The pacer keeps them
//! instead, sends the urgent ones first, and spaces what is left at the pacing rate, which is some factor above the target. It
//! sends probes at their own rates, and asks for padding where there is nothing else.
//!
//! **Invariants.**
//! - In any span there leaves at most what the rate carries in it, one burst interval's bytes, and one packet; besides these
//!   only audio, which does not wait, and probes. All of it counts against what leaves afterwards, but no more than half a
//!   second's worth: after a fall of the rate to less than a twelfth, part of the last burst is forgiven.
//! - What came first leaves first, within a kind.
//! - What is pushed is given back by `push`, removed by `clear` or `retain`, which say how much, or leaves.
//! - After [`Pacer::poll`] had nothing at a time, [`Pacer::poll_timeout`] is later than this time.
//!
//! Other than libwebrtc's, it begins a probe without a new packet once something has been sent, does not put a packet of one byte
//! ahead of a probe, lets media pass between the bursts of a slow probe, and sends nothing to keep silence alive.
//!
//! What it does not do: read a clock, send, make padding, number packets, or decide on rates and probes. Streams of one kind do
//! not take turns. There is no pause and no congestion window: packets leave however long no feedback has come.

mod debt;
mod prober;
mod queue;

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use self::debt::Debt;
use self::prober::Prober;
use self::queue::PacketQueue;
use crate::{PacketKind, ProbeCluster, ProbeId};

/// Holds packets back until they may leave. `T` is what the driver sends.
///
/// Order of calls: [`push`](Self::push) or, for a whole burst, [`takes_at_once`](Self::takes_at_once), then
/// [`poll`](Self::poll) until it has nothing, then again at [`poll_timeout`](Self::poll_timeout). Times never go back; a time
/// that does counts as the latest one.
#[derive(Debug)]
pub struct Pacer<T> {
    queue: PacketQueue<T>,
    prober: Prober,
    /// What was asked for.
    pacing: Bitrate,
    /// Pays `media` off: the pacing rate, or more if the queue is long.
    rate: Bitrate,
    padding_rate: Bitrate,
    burst_interval: Duration,
    /// Everything that left.
    media: Debt,
    /// Everything that left, against the padding rate.
    padding: Debt,
    /// Debts are those of this time.
    clock: Instant,
    /// Something else than padding has left: only then there is something to make padding of.
    media_sent: bool,
    /// Padding that was asked for, and of which nothing has been heard yet.
    asked: Option<Asked>,
    rejected: u64,
}

/// Padding that was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    probe: Option<ProbeId>,
    /// What the padding rate was charged with in advance.
    charged: u64,
    sent: bool,
}

/// What is to leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paced<T> {
    /// What it is for.
    pub kind: PacketKind,
    /// Bytes on the wire.
    pub size: u32,
    /// The probe that it is part of.
    pub probe: Option<ProbeId>,
    /// The packet, or a wish for padding.
    pub content: PacedContent<T>,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedContent<T> {
    /// A packet that was pushed. It counts as sent.
    Item(T),
    /// About so many bytes, of packets sent before or of zeros. What really leaves is told to [`Pacer::note_sent`] before the
    /// next [`Pacer::poll`], packet by packet; all of it belongs to [`Paced::probe`]. If nothing can be sent, nothing is told.
    Padding {
        /// Bytes on the wire.
        bytes: u32,
    },
}

/// How much may leave at once (libwebrtc, `api/transport/network_types.h`, `PacerConfig::kDefaultTimeInterval`).
const BURST_INTERVAL: Duration = Duration::from_millis(40);
/// Bytes that leave at once at most, for the sake of socket buffers (`pacing_controller.h`, `kMaxBurstSize`).
const MAX_BURST: u64 = 63_000;
/// What may leave without being queued, at the pacing rate.
const AT_ONCE: Duration = Duration::from_millis(5);
/// In what time the queue empties at the latest (`pacing_controller.h`, `kMaxExpectedQueueLength`).
const QUEUE_TIME_LIMIT: Duration = Duration::from_secs(2);
/// The least time that is left to a queue that has been there for longer (`pacing_controller.cc`).
const MIN_TIME_LEFT: Duration = Duration::from_millis(1);
/// For how long what left keeps others waiting at most (`pacing_controller.cc`, `kMaxDebtInTime`)...
const MAX_DEBT: Duration = Duration::from_millis(500);
/// ...but a packet of an Ethernet's size as long as it takes, however low the rate is.
const MAX_PACKET: u64 = 1_500;
/// What is asked for at once, at the padding rate (`pacing_controller.cc`, `kTargetPaddingDuration`).
const PADDING_DURATION: Duration = Duration::from_millis(5);
/// Packets besides audio that wait at most: 2 s of 1,200 bytes at 80 Mb/s.
const MAX_PACKETS: usize = 16_384;
/// Bytes that wait at most: 2 s at 134 Mb/s.
const MAX_BYTES: u64 = 32 << 20;
/// Packets of audio that wait at most. They leave at the next poll, so this is for drivers that do not poll.
const MAX_AUDIO: usize = 1_024;
/// Rates above 100 Gb/s count as this.
const MAX_RATE: Bitrate = Bitrate::from_kbps(100_000_000);

impl<T> Pacer<T> {
    /// With no rate yet: packets leave slowly enough that the queue empties within 2 s.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            queue: PacketQueue::new(now),
            prober: Prober::new(),
            pacing: Bitrate::ZERO,
            rate: Bitrate::ZERO,
            padding_rate: Bitrate::ZERO,
            burst_interval: BURST_INTERVAL,
            media: Debt::default(),
            padding: Debt::default(),
            clock: now,
            media_sent: false,
            asked: None,
            rejected: 0,
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Packets that wait.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.queue.packets()
    }

    /// How long what waits takes to leave.
    #[must_use]
    pub fn queue_delay(&self) -> Duration {
        Debt::of_bytes(self.queue.bytes()).time_at(self.rate).unwrap_or(Duration::ZERO)
    }

    /// Since when the packet has waited that has waited longest.
    #[must_use]
    pub fn oldest_since(&self) -> Option<Instant> {
        self.queue.oldest()
    }

    /// How fast packets leave: the pacing rate, or more, so that the queue is empty within 2 s.
    #[must_use]
    pub fn rate(&self) -> Bitrate {
        self.rate
    }

    /// A probe is under way, or begins with the next poll.
    #[must_use]
    pub fn is_probing(&self) -> bool {
        self.prober.is_probing()
    }

    /// How many packets have been given back because the queue was full.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// How fast packets leave, and how much leaves at least, with padding where there is nothing else.
    ///
    /// No more padding than the pacing rate. Without a pacing rate the queue still empties within 2 s.
    pub fn set_rates(&mut self, now: Instant, pacing: Bitrate, padding: Bitrate) {
        self.advance(now);
        self.pacing = pacing.min(MAX_RATE);
        self.padding_rate = padding.min(self.pacing);
        self.adjust_rate();
    }

    /// How much may leave at once, in time at the pacing rate: 40 ms unless said otherwise.
    pub fn set_burst_interval(&mut self, interval: Duration) {
        self.burst_interval = interval;
    }

    /// A packet of `size` bytes on the wire, to leave when its turn comes. Given back if the queue is full.
    #[must_use = "a full queue gives the packet back"]
    pub fn push(&mut self, now: Instant, kind: PacketKind, size: u32, item: T) -> Option<T> {
        self.advance(now);
        let size = size.max(1);
        if self.is_full(kind, size) {
            self.rejected += 1;
            return Some(item);
        }
        self.queue.push(kind, size, item);
        if kind != PacketKind::Padding {
            self.prober.handle_packet(size);
        }
        self.adjust_rate();
        None
    }

    /// A probe to send. It begins with the next poll, or, before anything has been sent, with the first packet.
    pub fn add_probe(&mut self, now: Instant, cluster: ProbeCluster) {
        self.advance(now);
        self.prober.add(self.clock, ProbeCluster { bitrate: cluster.bitrate.min(MAX_RATE), ..cluster });
    }

    /// Probes that are not over are not to be sent any more.
    pub fn clear_probes(&mut self) {
        self.prober.clear();
    }

    /// A burst of `bytes` need not be queued: nothing waits, no probe either, and it takes no more than 5 ms at the pacing
    /// rate. The driver sends it, and says so by [`note_sent`](Self::note_sent).
    #[must_use]
    pub fn takes_at_once(&mut self, now: Instant, bytes: u64) -> bool {
        self.advance(now);
        let burst = Debt::of_bytes(bytes);
        self.queue.is_empty()
            && !self.prober.has_clusters(self.clock)
            && burst <= Debt::of(self.rate, AT_ONCE)
            && self.media.plus(burst) <= self.burst()
    }

    /// A packet has left that [`poll`](Self::poll) did not hand out.
    pub fn note_sent(&mut self, now: Instant, bytes: u64, kind: PacketKind) {
        self.advance(now);
        let is_padding = matches!(kind, PacketKind::Padding | PacketKind::Retransmission);
        let Some(asked) = self.asked.as_mut().filter(|_| is_padding) else {
            self.charge(bytes, kind, None);
            return self.adjust_rate();
        };
        asked.sent = true;
        let in_advance = bytes.min(asked.charged);
        asked.charged -= in_advance;
        let probe = asked.probe;
        self.padding = self.padding.minus(Debt::of_bytes(in_advance));
        self.charge(bytes, kind, probe);
        self.adjust_rate();
    }

    /// All that wait, with their kinds and their bytes on the wire.
    pub fn waiting(&self) -> impl Iterator<Item = (PacketKind, u32, &T)> {
        self.queue.iter()
    }

    /// Removes everything that waits, and all probes; says how many packets.
    pub fn clear(&mut self) -> usize {
        self.prober.clear();
        self.retain(|_, _| false)
    }

    /// Removes what waits of one kind, and says how many packets.
    pub fn clear_kind(&mut self, kind: PacketKind) -> usize {
        self.retain(|of, _| of != kind)
    }

    /// Removes all packets that `keep` does not want, and says how many.
    pub fn retain(&mut self, keep: impl FnMut(PacketKind, &T) -> bool) -> usize {
        let removed = self.queue.retain(keep);
        self.adjust_rate();
        removed
    }

    /// What is to leave now. Everything of a burst leaves at the same time: to be called until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Paced<T>> {
        self.advance(now);
        self.settle_asked();
        if let Some((probe, missing)) = self.prober.due(self.clock) {
            if let Some(paced) = self.pop(Some(probe)) {
                return Some(paced);
            }
            if self.media_sent {
                return Some(self.ask(Some(probe), missing));
            }
            self.prober.stall();
        }
        if self.queue.packets_of(PacketKind::Audio) > 0 {
            return self.pop(None);
        }
        if !self.queue.is_empty() {
            return if self.has_budget() && !self.waits_for_burst() { self.pop(None) } else { None };
        }
        if self.pads() && self.media.is_zero() && self.padding.is_zero() {
            let bytes = self.padding_rate.bytes_in(PADDING_DURATION).clamp(1, MAX_BURST);
            return Some(self.ask(None, bytes));
        }
        None
    }

    /// When [`poll`](Self::poll) has something, if nothing happens before; it may be in the past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.queue.packets_of(PacketKind::Audio) > 0 {
            return Some(self.clock);
        }
        let wait = if !self.queue.is_empty() {
            match self.has_budget() {
                _ if self.waits_for_burst() => None,
                true => Some(Duration::ZERO),
                false => self.media.time_at(self.rate),
            }
        } else if self.pads() {
            let both = self.media.time_at(self.rate).zip(self.padding.time_at(self.padding_rate));
            both.map(|(media, padding)| media.max(padding))
        } else {
            None
        };
        let other = wait.and_then(|wait| self.clock.checked_add(wait));
        self.prober.next_time(self.clock).into_iter().chain(other).min()
    }

    fn advance(&mut self, now: Instant) {
        let span = now.saturating_duration_since(self.clock);
        if !span.is_zero() {
            self.media = self.media.minus(Debt::of(self.rate, span));
            self.padding = self.padding.minus(Debt::of(self.padding_rate, span));
            self.clock = now;
            self.queue.advance(now);
        }
    }

    /// Raises the rate so that what waits leaves within the limit: the average packet has that, less what it has waited.
    fn adjust_rate(&mut self) {
        self.rate = self.pacing;
        if !self.queue.is_empty() {
            let left = QUEUE_TIME_LIMIT.saturating_sub(self.queue.average_wait()).max(MIN_TIME_LEFT);
            let needed = Debt::of_bytes(self.queue.bytes());
            if needed > Debt::of(self.rate, left) {
                self.rate = needed.rate_over(left).min(MAX_RATE);
            }
        }
        let most = |rate| Debt::of(rate, MAX_DEBT).max(Debt::of_bytes(MAX_PACKET));
        self.media = self.media.min(most(self.rate));
        self.padding = self.padding.min(most(self.padding_rate));
    }

    fn is_full(&self, kind: PacketKind, size: u32) -> bool {
        let audio = self.queue.packets_of(PacketKind::Audio);
        let has_room = match kind {
            PacketKind::Audio => audio < MAX_AUDIO,
            _ => self.queue.packets() - audio < MAX_PACKETS,
        };
        !has_room || self.queue.bytes() + u64::from(size) > MAX_BYTES
    }

    /// What may leave at once.
    fn burst(&self) -> Debt {
        Debt::of(self.rate, self.burst_interval).min(Debt::of_bytes(MAX_BURST))
    }

    fn has_budget(&self) -> bool {
        self.media.is_zero() || self.media < self.burst()
    }

    fn pads(&self) -> bool {
        self.media_sent && self.padding_rate > Bitrate::ZERO && !self.prober.is_probing()
    }

    /// What waits is to fill a probe's next burst, which is soon.
    fn waits_for_burst(&self) -> bool {
        let next = self.prober.next_time(self.clock);
        next.is_some_and(|next| next.saturating_duration_since(self.clock) <= BURST_INTERVAL)
    }

    fn pop(&mut self, probe: Option<ProbeId>) -> Option<Paced<T>> {
        let packet = self.queue.pop()?;
        self.charge(u64::from(packet.size), packet.kind, probe);
        self.adjust_rate();
        Some(Paced { kind: packet.kind, size: packet.size, probe, content: PacedContent::Item(packet.item) })
    }

    /// Asks for padding. The padding rate is charged at once, so that a driver that has none is not asked again and again.
    fn ask(&mut self, probe: Option<ProbeId>, bytes: u64) -> Paced<T> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let charged = if probe.is_none() { u64::from(bytes) } else { 0 };
        self.padding = self.padding.plus(Debt::of_bytes(charged));
        self.adjust_rate();
        self.asked = Some(Asked { probe, charged, sent: false });
        Paced { kind: PacketKind::Padding, size: bytes, probe, content: PacedContent::Padding { bytes } }
    }

    /// Nothing came of padding for a probe: the probe has to wait for packets.
    fn settle_asked(&mut self) {
        if self.asked.take().is_some_and(|asked| asked.probe.is_some() && !asked.sent) {
            self.prober.stall();
        }
    }

    /// Counts what has left.
    fn charge(&mut self, bytes: u64, kind: PacketKind, probe: Option<ProbeId>) {
        self.media = self.media.plus(Debt::of_bytes(bytes));
        self.padding = self.padding.plus(Debt::of_bytes(bytes));
        if kind != PacketKind::Padding && !self.media_sent {
            self.media_sent = true;
            self.prober.handle_first_media();
        }
        if let Some(probe) = probe {
            self.prober.handle_sent(self.clock, probe, bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_in_order_of_their_kinds_at_the_pacing_rate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.set_rates(start, Bitrate::from_kbps(800), Bitrate::ZERO);
        let kinds =
            [PacketKind::Padding, PacketKind::Video, PacketKind::Fec, PacketKind::Retransmission, PacketKind::Audio];
        for (index, kind) in (0..).zip(kinds.into_iter().cycle().take(25)) {
            assert_eq!(pacer.push(start, kind, 1_000, index), None);
        }
        let mut left = Vec::new();
        let mut now = start;
        while let Some(next) = pacer.poll_timeout() {
            now = now.max(next);
            while let Some(paced) = pacer.poll(now) {
                let PacedContent::Item(index) = paced.content else { panic!("padding") };
                left.push((paced.kind, index, now - start));
            }
        }
        let order: Vec<_> = left.iter().map(|(_, index, _)| *index).collect();
        let expected = [4, 9, 14, 19, 24, 3, 8, 13, 18, 23, 1, 2, 6, 7, 11, 12, 16, 17, 21, 22, 0, 5, 10, 15, 20];
        assert_eq!(order, expected);
        assert_eq!(left[4].2, Duration::ZERO, "audio does not wait");
        assert_eq!(left[24].2, Duration::from_millis(210), "audio takes 50 ms of the others, and they leave by fours");
    }
}
