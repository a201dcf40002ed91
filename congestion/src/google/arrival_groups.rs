//! Packets that were sent together, and how much further apart groups of them arrive than they were sent.
//!
//! Single packets say little: a burst leaves at once and arrives as fast as the bottleneck lets it. So packets that leave within
//! 5 ms count as one, and so do those that a link held back and let go together. After libwebrtc,
//! `modules/congestion_controller/goog_cc/inter_arrival_delta.cc`.
//!
//! What it does not do: judge the differences.

use std::time::{Duration, Instant};

use super::rate::millis_between;

/// Packets that leave within this are one group (libwebrtc, `delay_based_bwe.cc`, `kSendTimeGroupLength`).
const GROUP_LENGTH: Duration = Duration::from_millis(5);
/// Packets that arrive this close together were held back together (`inter_arrival_delta.cc`, `kBurstDeltaThreshold`).
const BURST_GAP_MS: f64 = 5.0;
/// But not for longer than this (`kMaxBurstDuration`).
const BURST_LENGTH_MS: f64 = 100.0;
/// The receiver's clock has jumped if it is so far from ours within one group (`kArrivalTimeOffsetThreshold`).
const CLOCK_JUMP_MS: f64 = 3_000.0;
/// After so many groups that arrived before those before them, the receiver's clock has been set back
/// (`kReorderedResetThreshold`).
const REORDERED_LIMIT: u32 = 3;

/// Two groups compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GroupDelta {
    /// How much later the second was sent.
    pub(super) sent_ms: f64,
    /// How much later the second arrived.
    pub(super) received_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: Instant,
    last_sent: Instant,
    first_received: Duration,
    last_received: Duration,
    /// When we heard of the last of it.
    reported: Instant,
}

/// The group that grows, and the one before it.
#[derive(Debug, Default)]
pub(super) struct ArrivalGroups {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u32,
}

impl ArrivalGroups {
    /// A packet has arrived. If it begins a group, the two groups before it are complete and compared.
    pub(super) fn add(&mut self, sent: Instant, received: Duration, now: Instant) -> Option<GroupDelta> {
        let Some(current) = &mut self.current else {
            self.current = Some(Group::new(sent, received, now));
            return None;
        };
        if sent < current.first_sent {
            return None;
        }
        if !current.is_left_by(sent, received) {
            current.last_sent = current.last_sent.max(sent);
            current.last_received = received;
            current.reported = now;
            return None;
        }
        let complete = *current;
        let previous = self.previous.replace(complete);
        self.current = Some(Group::new(sent, received, now));
        self.compare(previous?, complete)
    }

    fn compare(&mut self, previous: Group, complete: Group) -> Option<GroupDelta> {
        let received_ms = millis_between(previous.last_received, complete.last_received);
        let ours_ms = complete.reported.saturating_duration_since(previous.reported).as_secs_f64() * 1e3;
        if received_ms - ours_ms >= CLOCK_JUMP_MS {
            *self = Self::default();
            return None;
        }
        if received_ms < 0.0 {
            self.reordered += 1;
            if self.reordered >= REORDERED_LIMIT {
                *self = Self::default();
            }
            return None;
        }
        self.reordered = 0;
        let sent_ms = complete.last_sent.saturating_duration_since(previous.last_sent).as_secs_f64() * 1e3;
        Some(GroupDelta { sent_ms, received_ms })
    }
}

impl Group {
    fn new(sent: Instant, received: Duration, now: Instant) -> Self {
        Self { first_sent: sent, last_sent: sent, first_received: received, last_received: received, reported: now }
    }

    fn is_left_by(&self, sent: Instant, received: Duration) -> bool {
        !self.was_held_back_with(sent, received) && sent.saturating_duration_since(self.first_sent) > GROUP_LENGTH
    }

    fn was_held_back_with(&self, sent: Instant, received: Duration) -> bool {
        let sent_ms = sent.saturating_duration_since(self.last_sent).as_secs_f64() * 1e3;
        if sent_ms == 0.0 {
            return true;
        }
        let received_ms = millis_between(self.last_received, received);
        received_ms < sent_ms
            && received_ms <= BURST_GAP_MS
            && millis_between(self.first_received, received) < BURST_LENGTH_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Packets as (sent, received), each heard of 50 ms after it was sent.
    fn deltas(start: Instant, packets: &[(u64, u64)]) -> Vec<GroupDelta> {
        let mut groups = ArrivalGroups::default();
        packets.iter().filter_map(|&(s, r)| groups.add(start + ms(s), ms(r), start + ms(s + 50))).collect()
    }

    fn start() -> Instant {
        crate::google::tests::start()
    }

    #[test]
    fn compares_the_ends_of_groups() {
        // Groups 0..4, 20..21 and 40: ends were sent 17 ms apart and arrived 27 ms apart.
        let found = deltas(start(), &[(0, 100), (4, 108), (20, 125), (21, 135), (40, 160)]);
        assert_eq!(found, [GroupDelta { sent_ms: 17.0, received_ms: 27.0 }]);
    }

    #[test]
    fn takes_packets_that_were_held_back_together_as_one() {
        // The packets of 20 and 30 came right after that of 10: one group that ends at 30 and 122.
        let found = deltas(start(), &[(0, 100), (10, 120), (20, 121), (30, 122), (50, 150), (70, 170)]);
        assert_eq!(found[0], GroupDelta { sent_ms: 30.0, received_ms: 22.0 });
        assert_eq!(found[1], GroupDelta { sent_ms: 20.0, received_ms: 28.0 });
    }

    #[test]
    fn leaves_out_what_was_sent_before_its_group() {
        let found = deltas(start(), &[(20, 100), (0, 300), (40, 120), (60, 140)]);
        assert_eq!(found, [GroupDelta { sent_ms: 20.0, received_ms: 20.0 }]);
    }

    #[test]
    fn begins_anew_when_the_receivers_clock_jumps() {
        let found =
            deltas(start(), &[(0, 0), (20, 20), (40, 9_040), (60, 9_060), (80, 9_080), (100, 9_100), (120, 9_120)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|d| d.received_ms == 20.0));
    }
}
