use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::Burst;

/// A producer's latest bursts: the one copy from which every consumer's retransmissions are made.
#[derive(Debug, Default)]
pub(crate) struct History {
    bursts: VecDeque<Arc<Burst>>,
    packets: usize,
}

/// What mediasoup keeps of a video stream (`RtpRetransmissionBuffer`, 2,500 packets or 2 s).
const MAX_PACKETS: usize = 2_500;
const MAX_AGE: Duration = Duration::from_secs(2);

impl History {
    /// The burst that holds the producer's packet `packet`, and the packet's position in it.
    pub(crate) fn find(&self, packet: u64, now: Instant) -> Option<(&Arc<Burst>, usize)> {
        let after = self.bursts.partition_point(|burst| burst.meta().first_packet <= packet);
        let burst = self.bursts.get(after.checked_sub(1)?)?;
        let fresh = now.saturating_duration_since(burst.meta().times.encoded) <= MAX_AGE;
        (burst.packets().contains(&packet) && fresh).then(|| (burst, (packet - burst.meta().first_packet) as usize))
    }

    /// The latest burst, however old.
    pub(crate) fn newest(&self) -> Option<&Arc<Burst>> {
        self.bursts.back()
    }

    /// True if it goes back to before this packet.
    pub(crate) fn reaches(&self, packet: u64) -> bool {
        self.bursts.front().is_some_and(|oldest| oldest.meta().first_packet < packet)
    }

    /// True if the producer's packet `packet` is here, however old.
    pub(crate) fn contains(&self, packet: u64) -> bool {
        let after = self.bursts.partition_point(|burst| burst.meta().first_packet <= packet);
        after.checked_sub(1).is_some_and(|index| self.bursts[index].packets().contains(&packet))
    }

    /// Keeps a burst, in its place among the others. None of its packets is here yet.
    pub(crate) fn push(&mut self, burst: Arc<Burst>, now: Instant) {
        self.packets += burst.len();
        let first = burst.meta().first_packet;
        if self.bursts.back().is_none_or(|last| last.meta().first_packet < first) {
            self.bursts.push_back(burst);
        } else {
            let at = self.bursts.partition_point(|burst| burst.meta().first_packet <= first);
            self.bursts.insert(at, burst);
        }
        self.expire(now);
        while self.packets > MAX_PACKETS && self.bursts.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Forgets what is too old to be sent again.
    pub(crate) fn expire(&mut self, now: Instant) {
        let expired = |burst: &Arc<Burst>| now.saturating_duration_since(burst.meta().times.encoded) > MAX_AGE;
        while self.bursts.front().is_some_and(expired) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        self.packets -= self.bursts.pop_front().map_or(0, |oldest| oldest.len());
    }

    /// Packets in it.
    pub(crate) const fn len(&self) -> usize {
        self.packets
    }

    pub(crate) fn clear(&mut self) {
        self.bursts.clear();
        self.packets = 0;
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::producer::tests::burst;

    #[test]
    fn finds_each_packet_until_it_is_too_old() {
        let start = Instant::now();
        let mut history = History::default();
        for number in 0..100 {
            let at = start + Duration::from_millis(33) * number;
            history.push(burst(u64::from(number) * 5, 5, number == 0, at), at);
        }
        let now = start + Duration::from_millis(33) * 99;
        let (found, position) = history.find(99 * 5 + 3, now).unwrap();
        assert_eq!((found.meta().first_packet, position), (99 * 5, 3));
        assert!(history.find(0, now).is_none(), "older than two seconds");
        assert!(history.find(500, now).is_none(), "not there yet");
        assert!(history.find(99 * 5, now + Duration::from_secs(3)).is_none(), "too old even if nothing newer came");
    }

    #[test]
    fn is_bounded_in_packets() {
        let start = Instant::now();
        let mut history = History::default();
        for number in 0..1_000 {
            history.push(burst(number * 50, 50, false, start), start);
            assert!(history.packets <= MAX_PACKETS);
        }
        history.push(burst(50_000, 5_000, true, start), start);
        assert!(history.find(52_000, start).is_some(), "the newest burst is kept whatever its size");
        assert_eq!(history.bursts.len(), 1);
    }
}
