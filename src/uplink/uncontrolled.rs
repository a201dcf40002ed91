//! What goes out to those who do not tell which packets have come: viewers without `transport-cc`, plain RTP, other machines'
//! pipes. Nothing limits them, so what they take of the uplink is measured and left out of what is divided.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lenscast_media::Bitrate;
use lenscast_router::ConsumerId;
use lenscast_sender::OVERHEAD;
use lenscast_transport::{SessionConsumer, SessionStats};

/// Between two looks: each asks all workers. As long as the window in which legs' sending is measured.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The counters of the last look, and the rate since the one before.
#[derive(Debug, Default)]
pub(super) struct Uncontrolled {
    looked: Option<Instant>,
    bytes: BTreeMap<ConsumerId, u64>,
    rate: Bitrate,
}

impl Uncontrolled {
    /// What they are sent, headers included, as it was at the last look.
    pub(super) const fn rate(&self) -> Bitrate {
        self.rate
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK)
    }

    pub(super) fn observe(&mut self, now: Instant, sessions: &[SessionStats]) {
        let consumers = sessions.iter().filter(|session| session.leg.is_none()).flat_map(|session| {
            session.consumers.iter().map(|consumer| (consumer.id, sent(consumer), session.created))
        });
        self.note(now, consumers);
    }

    fn note(&mut self, now: Instant, consumers: impl Iterator<Item = (ConsumerId, u64, Instant)>) {
        let mut bytes = BTreeMap::new();
        let mut more = 0_u64;
        for (consumer, sent, created) in consumers {
            // What had been counted of one that was measured so far is not of this span.
            let is_new = self.looked.is_some_and(|looked| created >= looked);
            let before = self.bytes.get(&consumer).copied().unwrap_or(if is_new { 0 } else { sent });
            more = more.saturating_add(sent.saturating_sub(before));
            bytes.insert(consumer, sent);
        }
        let elapsed = self.looked.map_or(0.0, |looked| now.saturating_duration_since(looked).as_secs_f64());
        self.rate = if elapsed > 0.0 { Bitrate::from_bps((more as f64 * 8.0 / elapsed) as u64) } else { Bitrate::ZERO };
        self.bytes = bytes;
        self.looked = Some(now);
    }
}

/// Bytes with the headers of each packet, as the allocation counts them.
fn sent(consumer: &SessionConsumer) -> u64 {
    let stats = &consumer.stats;
    let packets = stats.packets_sent + stats.retransmitted_packets_sent + stats.padding_packets_sent;
    let bytes = stats.bytes_sent + stats.retransmitted_bytes_sent + stats.padding_bytes_sent;
    bytes + packets * u64::from(OVERHEAD.packet_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_since_the_last_look_is_the_rate() {
        let start = Instant::now();
        let mut uncontrolled = Uncontrolled::default();
        assert!(uncontrolled.is_due(start));
        let consumer = |id, sent, created| (ConsumerId(id), sent, created);
        uncontrolled.note(start + LOOK, [consumer(1, 90_000, start)].into_iter());
        assert_eq!(uncontrolled.rate(), Bitrate::ZERO, "nobody knows since when");
        assert!(!uncontrolled.is_due(start + LOOK));
        let fresh = consumer(2, 25_000, start + LOOK * 2);
        let known_so_far = consumer(3, 700_000, start);
        uncontrolled.note(start + LOOK * 3, [consumer(1, 190_000, start), fresh, known_so_far].into_iter());
        assert_eq!(uncontrolled.rate(), Bitrate::from_kbps(500), "of two seconds");
        uncontrolled.note(start + LOOK * 4, std::iter::empty());
        assert_eq!(uncontrolled.rate(), Bitrate::ZERO);
    }
}
