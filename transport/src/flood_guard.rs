use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::Ssrc;

/// Bounds how many packets of one session are looked at in a second, so that one that floods takes no turn of the others.
///
/// Sources that an authentic packet has come from have a budget of their own: whoever forges a publisher's address does
/// not know its sources, which are 32 random bits, and uses up only the other.
#[derive(Debug, Default)]
pub(crate) struct FloodGuard {
    second: Option<Instant>,
    authentic: u32,
    unknown: u32,
    /// The latest last.
    sources: VecDeque<Ssrc>,
}

/// 120 Mb/s in packets of 1,200 bytes: a publisher's four layers at their best, and as much again.
const MAX_PACKETS_PER_SECOND: u32 = 12_500;
/// A source is unknown for one packet, if that arrives.
const MAX_UNKNOWN_PER_SECOND: u32 = 1_000;
/// Four layers with their retransmissions, and audio: nine. The rest is for those that are replaced meanwhile.
const MAX_SOURCES: usize = 16;

impl FloodGuard {
    /// False if the packet is one too many.
    pub(crate) fn admits(&mut self, now: Instant, packet: &[u8]) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            (self.second, self.authentic, self.unknown) = (Some(now), 0, 0);
        }
        let is_known = source_of(packet).is_some_and(|source| self.sources.contains(&source));
        let (packets, most) = if is_known {
            (&mut self.authentic, MAX_PACKETS_PER_SECOND)
        } else {
            (&mut self.unknown, MAX_UNKNOWN_PER_SECOND)
        };
        *packets = packets.saturating_add(1);
        *packets <= most
    }

    /// The packet was authentic.
    pub(crate) fn confirm(&mut self, packet: &[u8]) {
        let Some(source) = source_of(packet).filter(|source| !self.sources.contains(source)) else { return };
        if self.sources.len() == MAX_SOURCES {
            self.sources.pop_front();
        }
        self.sources.push_back(source);
    }
}

/// RFC 3550 §5.1.
fn source_of(packet: &[u8]) -> Option<Ssrc> {
    packet.get(8..).and_then(<[u8]>::first_chunk).map(|source| Ssrc(u32::from_be_bytes(*source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: u32) -> Vec<u8> {
        [&[0x80; 8][..], &source.to_be_bytes(), &[0; 8]].concat()
    }

    fn admitted(guard: &mut FloodGuard, at: Instant, source: u32) -> usize {
        (0..20_000).filter(|_| guard.admits(at, &packet(source))).count()
    }

    #[test]
    fn a_flood_ends_with_its_second() {
        let (mut guard, now) = (FloodGuard::default(), Instant::now());
        guard.confirm(&packet(1));
        assert_eq!(admitted(&mut guard, now, 1), 12_500);
        assert_eq!(admitted(&mut guard, now + Duration::from_millis(999), 1), 0);
        assert_eq!(admitted(&mut guard, now + Duration::from_secs(1), 1), 12_500);
    }

    #[test]
    fn forged_packets_leave_the_publishers_their_turn() {
        let (mut guard, now) = (FloodGuard::default(), Instant::now());
        guard.confirm(&packet(1));
        assert_eq!(admitted(&mut guard, now, 2), 1_000);
        assert!(!guard.admits(now, &[0x80; 3]));
        assert_eq!(admitted(&mut guard, now, 1), 12_500);
    }

    #[test]
    fn the_latest_sources_are_known() {
        let (mut guard, now) = (FloodGuard::default(), Instant::now());
        (0..1_000).for_each(|source| guard.confirm(&packet(source)));
        assert_eq!(guard.sources.len(), MAX_SOURCES);
        assert_eq!(admitted(&mut guard, now, 999), 12_500);
    }
}
