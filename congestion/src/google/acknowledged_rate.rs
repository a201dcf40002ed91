//! How much arrives: the rate of the packets that the other side reports.
//!
//! Over a second and at least 20 packets, the lower of the rates at which they were sent and received. The longest gap between
//! arrivals counts only as long as the second longest, so that a link that pauses and then lets all go looks like no slower
//! one. After libwebrtc, `modules/congestion_controller/goog_cc/robust_throughput_estimator.cc`, with its default settings.
//!
//! **Invariants.** Holds at most [`PACKETS_MAX`] packets; takes no memory after the first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rate::Rate;

/// Packets there must be for a rate (`required_packets`).
const PACKETS_REQUIRED: usize = 10;
/// So many packets are kept whatever their time (`window_packets`), and no more than so many (`max_window_packets`).
const PACKETS_KEPT: usize = 20;
const PACKETS_MAX: usize = 500;
/// So much time is kept if the packets are enough (`min_window_duration`), and no more than so much (`max_window_duration`).
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(5);
/// Where few packets arrive from a queue, the time over which their rate is reckoned may be so many times as long. Ours.
const BUSY_SPANS: u32 = 3;
/// Among the last so many packets from a queue, a gap this many times as long as any other is a pause of the receiver's and not of
/// the link's. What follows it in gaps so many times shorter than the others had arrived during the pause. Ours.
const PAUSE: u32 = 2;
const GAPS: usize = 16;
/// No rate is reckoned over less.
const SPAN_MIN: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy)]
struct Arrived {
    sent: Instant,
    received: Duration,
    size: u32,
    /// It waited in a queue.
    has_waited: bool,
}

/// The last packets in the order in which they arrived.
#[derive(Debug)]
pub(super) struct AcknowledgedRate {
    window: VecDeque<Arrived>,
    /// When the latest of the packets that are no longer in the window was sent.
    discarded: Option<Instant>,
}

impl AcknowledgedRate {
    pub(super) fn new() -> Self {
        Self { window: VecDeque::with_capacity(PACKETS_MAX + 1), discarded: None }
    }

    /// The rate over the whole window; `None` while there are too few packets.
    pub(super) fn rate(&self) -> Option<Rate> {
        if self.window.len() < PACKETS_REQUIRED {
            return None;
        }
        let mut packets = self.window.iter();

        let head = packets.next()?;
        let mut previous = head;
        let (mut longest, mut second) = (Duration::ZERO, Duration::ZERO);
        let mut received_bytes = 0.0;
        let mut sent = SentSpan::default();
        sent.add(head, self.discarded);
        for packet in packets {
            let gap = packet.received.saturating_sub(previous.received);
            if gap > longest {
                (longest, second) = (gap, longest);
            } else {
                second = second.max(gap);
            }
            // The first packet's bytes arrived before the time that is counted.
            received_bytes += f64::from(packet.size);
            sent.add(packet, self.discarded);
            previous = packet;
        }
        let span = previous.received.saturating_sub(head.received).saturating_sub(longest).saturating_add(second);
        let received = Rate::from_bytes(received_bytes, span.max(SPAN_MIN));
        Some(sent.rate().map_or(received, |rate| rate.min(received)))
    }

    /// How fast the last packets arrived that all had waited in a queue: what the link carries, as far as jitter
    /// lets that be told, since it had no pause between them. Over `span`, or longer if those are fewer than `required`, up to [`BUSY_SPANS`] times; `None` if they are fewer still.
    /// What has come after a pause of the receiver's does not count until what came late with it has come too.
    pub(super) fn busy_arrivals(&self, span: Duration, required: usize) -> Option<Rate> {
        let late = self.after_pause();
        let last = self.window.iter().rev().nth(late)?;
        let age = |packet: &Arrived| last.received.saturating_sub(packet.received);
        let behind = self.window.iter().rev().skip(late);
        let busy = behind.take_while(|packet| packet.has_waited && age(packet) <= span * BUSY_SPANS);
        let run = busy.enumerate().take_while(|(index, packet)| *index < required || age(packet) <= span);
        let (mut first, mut count, mut bytes) = (last, 0, 0.0);
        for (_, packet) in run {
            (first, count, bytes) = (packet, count + 1, bytes + f64::from(packet.size));
        }
        let bytes = bytes - f64::from(first.size);
        (count >= required).then(|| Rate::from_bytes(bytes, age(first).max(SPAN_MIN)))
    }

    /// How many packets have come after a gap that is far longer than those before, all at once.
    fn after_pause(&self) -> usize {
        let newest = self.window.len();
        let busy = self.window.iter().rev().take(GAPS).take_while(|packet| packet.has_waited).count();
        let considered = newest - busy.saturating_sub(1)..newest;
        let gap = |at: usize| self.window[at].received.saturating_sub(self.window[at - 1].received);
        let (mut longest, mut second) = (Duration::ZERO, Duration::ZERO);
        for gap in considered.clone().map(gap) {
            second = second.max(gap.min(longest));
            longest = longest.max(gap);
        }
        if longest <= second * PAUSE {
            return 0;
        }
        let late = considered.clone().rev().take_while(|&at| gap(at) < second / PAUSE).count();
        let is_pause =
            newest.checked_sub(late + 1).filter(|at| considered.contains(at)).is_some_and(|at| gap(at) == longest);
        if is_pause { late + 1 } else { 0 }
    }

    /// How fast the last packets arrived, however they were sent. `None` if fewer than `required` arrived within `span` of the
    /// last.
    pub(super) fn recent_arrivals(&self, span: Duration, required: usize) -> Option<Rate> {
        let last = self.window.back()?.received;
        let first = self.window.partition_point(|packet| packet.received < last.saturating_sub(span));
        if self.window.len() - first < required {
            return None;
        }
        let mut packets = self.window.range(first..);
        let since = packets.next()?.received;
        let bytes = packets.map(|packet| f64::from(packet.size)).sum::<f64>();
        Some(Rate::from_bytes(bytes, last.saturating_sub(since).max(SPAN_MIN)))
    }

    /// A packet has arrived, and has waited in a queue or not.
    pub(super) fn add(&mut self, sent: Instant, received: Duration, size: u32, has_waited: bool) {
        let place = self.window.iter().rposition(|packet| packet.received <= received).map_or(0, |last| last + 1);
        self.window.insert(place, Arrived { sent, received, size, has_waited });
        while self.is_full() {
            let Some(oldest) = self.window.pop_front() else { break };
            self.discarded = Some(self.discarded.map_or(oldest.sent, |sent| sent.max(oldest.sent)));
        }
    }

    fn is_full(&self) -> bool {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else { return false };
        let span = last.received.saturating_sub(first.received);
        self.window.len() > PACKETS_MAX || span > WINDOW_MAX || (self.window.len() > PACKETS_KEPT && span > WINDOW_MIN)
    }
}

/// What was sent from when to when.
#[derive(Debug, Default)]
struct SentSpan {
    bounds: Option<(Instant, Instant)>,
    bytes: f64,
    last_size: u32,
    count: usize,
}

impl SentSpan {
    /// A packet that was sent before those that have left the window says nothing of the rate.
    fn add(&mut self, packet: &Arrived, discarded: Option<Instant>) {
        if discarded.is_some_and(|sent| packet.sent < sent) {
            return;
        }
        let (first, last) = self.bounds.unwrap_or((packet.sent, packet.sent));
        if packet.sent >= last {
            self.last_size = packet.size;
        }
        self.bounds = Some((first.min(packet.sent), last.max(packet.sent)));
        self.bytes += f64::from(packet.size);
        self.count += 1;
    }

    /// The last packet's bytes leave after the time that is counted.
    fn rate(&self) -> Option<Rate> {
        let (first, last) = self.bounds?;
        let span = last.saturating_duration_since(first).max(SPAN_MIN);
        (self.count >= PACKETS_REQUIRED).then(|| Rate::from_bytes(self.bytes - f64::from(self.last_size), span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// 1,250 bytes each.
    fn add(rate: &mut AcknowledgedRate, packets: impl IntoIterator<Item = (u64, u64)>) {
        for (sent, received) in packets {
            rate.add(start() + ms(sent), ms(received), 1_250, received > sent);
        }
    }

    #[test]
    fn needs_ten_packets() {
        let mut rate = AcknowledgedRate::new();
        add(&mut rate, (0..9).map(|n| (10 * n, 10 * n)));
        assert_eq!(rate.rate(), None);
        add(&mut rate, [(90, 90)]);
        assert_eq!(rate.rate(), Some(Rate::from_kbps(1_000)));
    }

    #[test]
    fn is_the_lower_of_the_two_rates() {
        let mut slower = AcknowledgedRate::new();
        add(&mut slower, (0..50).map(|n| (10 * n, 20 * n)));
        assert_eq!(slower.rate(), Some(Rate::from_kbps(500)));
        let mut faster = AcknowledgedRate::new();
        add(&mut faster, (0..50).map(|n| (10 * n, 5 * n)));
        assert_eq!(faster.rate(), Some(Rate::from_kbps(1_000)));
    }

    #[test]
    fn a_single_pause_counts_little() {
        let mut rate = AcknowledgedRate::new();
        // 400 ms without arrivals, and then everything at once.
        add(&mut rate, (0..50).map(|n| (10 * n, 10 * n)));
        add(&mut rate, (50..90).map(|n| (10 * n, 900)));
        add(&mut rate, (91..100).map(|n| (10 * n, 10 * n)));
        let kbps = rate.rate().unwrap().kbps();
        assert!(kbps > 950.0, "{kbps}");
    }

    #[test]
    fn recent_arrivals_follow_a_fall() {
        let mut rate = AcknowledgedRate::new();
        add(&mut rate, (0..100).map(|n| (10 * n, 10 * n)));
        add(&mut rate, (100..120).map(|n| (10 * n, 1_000 + 20 * (n - 100))));
        assert!(rate.rate().unwrap().kbps() > 800.0);
        assert_eq!(rate.recent_arrivals(ms(300), 10), Some(Rate::from_kbps(500)));
    }

    #[test]
    fn what_arrives_from_a_queue_shows_what_the_link_carries() {
        let mut rate = AcknowledgedRate::new();
        // A pause, a burst that a token bucket lets through, and the rest at 500 kb/s.
        add(&mut rate, (0..50).map(|n| (10 * n, 10 * n)));
        add(&mut rate, (0..4).map(|n| (700 + n, 700 + n)));
        add(&mut rate, (0..5).map(|n| (704 + n, 720 + 20 * n)));
        assert_eq!(rate.busy_arrivals(ms(150), 6), None);
        add(&mut rate, (5..8).map(|n| (704 + n, 720 + 20 * n)));
        assert_eq!(rate.busy_arrivals(ms(150), 6).unwrap().kbps().round(), 500.0);
        // The receiver sleeps for a while, and all that came meanwhile comes at once.
        for n in 712..718 {
            add(&mut rate, [(n, 980)]);
            assert_eq!(rate.busy_arrivals(ms(150), 6).unwrap().kbps().round(), 500.0);
        }
        add(&mut rate, [(718, 1_000)]);
        assert_eq!(rate.busy_arrivals(ms(150), 6).unwrap().kbps().round(), 500.0);
        // Few packets are looked at for longer, but not for ever.
        let mut slow = AcknowledgedRate::new();
        add(&mut slow, (0..20).map(|n| (10 * n, 80 * n)));
        assert_eq!(slow.busy_arrivals(ms(150), 6).unwrap().kbps().round(), 125.0);
        assert_eq!(slow.busy_arrivals(ms(100), 6), None);
    }

    #[test]
    fn forgets_what_is_old_and_never_holds_more_than_it_may() {
        let mut rate = AcknowledgedRate::new();
        add(&mut rate, (0..10_000).map(|n| (n / 100, n / 100)));
        assert_eq!(rate.window.len(), PACKETS_MAX);
        assert_eq!(rate.window.capacity(), AcknowledgedRate::new().window.capacity());
        add(&mut rate, (0..10).map(|n| (10_000 + 10 * n, 10_000 + 10 * n)));
        assert_eq!(rate.window.len(), 10, "of the last five seconds");
    }
}
