use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Burst};

use crate::bandwidth_split::LayerBitrates;
use crate::history::History;

/// One spatial layer of a producer, as it comes in.
#[derive(Debug, Default)]
pub(crate) struct Encoding {
    pub(crate) history: History,
    /// Index that the next burst's first packet should have.
    expected: Option<u64>,
    /// Nobody had a use for what came last: a gap before what comes next is no loss.
    idle: bool,
    /// What came while nobody had a use for it did not continue what was before.
    broken: bool,
    /// Of each temporal layer.
    rates: [RateMeter; LayerBitrates::MAX_TEMPORAL],
}

/// How a burst fits to what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Continuity {
    /// It follows; some packets between may have been lost, and may still come.
    Follows { missing: u64 },
    /// It fills a gap.
    Late,
    /// It does not fit: nothing of it can be decoded without a key frame.
    Breaks,
    /// It has been here.
    Again,
}

/// The most packets of a received stream that can be missing without it counting as broken: more than a sender repeats
/// (mediasoup `RTC/NackGenerator.cpp`, `MaxNackPackets`).
const MAX_MISSING: u64 = 1_000;

impl Encoding {
    /// Where the burst stands. `can_heal` says that what is missing may come late.
    pub(crate) fn place(&mut self, burst: &Burst, broken: bool, can_heal: bool) -> Continuity {
        let packets = burst.packets();
        let continuity = match self.expected {
            _ if broken => Continuity::Breaks,
            None => Continuity::Follows { missing: 0 },
            Some(expected) if packets.start == expected => Continuity::Follows { missing: 0 },
            // Anything newer will do; what comes late belongs to what nobody had a use for.
            Some(expected) if self.idle => {
                if is_late(packets.start, expected) {
                    Continuity::Again
                } else {
                    Continuity::Follows { missing: 0 }
                }
            }
            Some(_) if !can_heal => Continuity::Breaks,
            Some(expected) if packets.start > expected => {
                let missing = packets.start - expected;
                if missing <= MAX_MISSING { Continuity::Follows { missing } } else { Continuity::Breaks }
            }
            // What straddles the end cannot be a run of packets that were missing.
            Some(expected) if packets.end <= expected => {
                // What is older than the history may have been here too.
                let known =
                    !self.history.reaches(packets.start) || packets.clone().any(|packet| self.history.contains(packet));
                if known { Continuity::Again } else { Continuity::Late }
            }
            Some(_) => Continuity::Again,
        };
        if !matches!(continuity, Continuity::Follows { .. } | Continuity::Breaks) {
            return continuity;
        }
        self.expected = Some(packets.end);
        self.idle = false;
        if std::mem::take(&mut self.broken) { Continuity::Breaks } else { continuity }
    }

    /// A burst that nobody has a use for goes by.
    pub(crate) fn pass_over(&mut self, burst: &Burst, broken: bool) {
        let packets = burst.packets();
        self.broken |= broken;
        if !self.expected.is_some_and(|expected| is_late(packets.start, expected)) {
            self.expected = Some(packets.end);
        }
        self.idle = true;
    }

    pub(crate) fn count(&mut self, now: Instant, temporal: u8, bytes: usize) {
        let highest = self.rates.len() - 1;
        self.rates[usize::from(temporal).min(highest)].add(now, bytes);
    }

    pub(crate) fn keep(&mut self, burst: Arc<Burst>, now: Instant) {
        self.history.push(burst, now);
    }

    /// Nobody has a use for it from now on. What comes next need not follow: a gap then is no loss.
    pub(crate) fn end_run(&mut self) {
        self.idle = true;
    }

    /// What one temporal layer took in the last second.
    pub(crate) fn bitrate(&self, now: Instant, temporal: u8) -> Bitrate {
        self.rates.get(usize::from(temporal)).map_or(Bitrate::ZERO, |rate| rate.bitrate(now))
    }
}

/// True if a packet is a little behind; what is far behind begins anew.
fn is_late(packet: u64, expected: u64) -> bool {
    packet < expected && expected - packet <= MAX_MISSING
}

/// Payload bytes of the last second, in steps.
#[derive(Debug, Default)]
struct RateMeter {
    steps: VecDeque<(Instant, usize)>,
    bytes: usize,
}

const WINDOW: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);

impl RateMeter {
    fn add(&mut self, now: Instant, bytes: usize) {
        self.bytes += bytes;
        match self.steps.back_mut() {
            Some((begun, counted)) if now.saturating_duration_since(*begun) < STEP => *counted += bytes,
            _ => self.steps.push_back((now, bytes)),
        }
        while self.steps.front().is_some_and(|(begun, _)| now.saturating_duration_since(*begun) >= WINDOW) {
            self.bytes -= self.steps.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn bitrate(&self, now: Instant) -> Bitrate {
        let fresh = self.steps.iter().filter(|(begun, _)| now.saturating_duration_since(*begun) < WINDOW);
        Bitrate::from_bps(fresh.map(|(_, bytes)| *bytes as u64).sum::<u64>() * 8)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::producer::tests::burst;

    #[test]
    fn tells_gaps_from_breaks_and_late_packets_from_repeated_ones() {
        let now = Instant::now();
        let mut encoding = Encoding::default();
        let mut place = |first: u64, len: usize, can_heal: bool| {
            let burst = burst(first, len, false, now);
            let continuity = encoding.place(&burst, false, can_heal);
            if !matches!(continuity, Continuity::Again) {
                encoding.keep(burst, now);
            }
            continuity
        };
        assert_eq!(place(0, 5, true), Continuity::Follows { missing: 0 });
        assert_eq!(place(8, 2, true), Continuity::Follows { missing: 3 });
        assert_eq!(place(6, 1, true), Continuity::Late);
        assert_eq!(place(6, 1, true), Continuity::Again);
        assert_eq!(place(4, 2, true), Continuity::Again, "half of it has been here");
        assert_eq!(place(9, 2, true), Continuity::Again, "it straddles the end");
        assert_eq!(place(10, 1, true), Continuity::Follows { missing: 0 });
        assert_eq!(place(12 + MAX_MISSING, 1, true), Continuity::Breaks);
        assert_eq!(place(13 + MAX_MISSING, 1, false), Continuity::Follows { missing: 0 });
        assert_eq!(place(15 + MAX_MISSING, 1, false), Continuity::Breaks);
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let mut encoding = Encoding::default();
        for step in 0..40 {
            encoding.count(start + Duration::from_millis(step * 100), 1, 1_250);
        }
        let now = start + Duration::from_millis(3_900);
        assert_eq!(encoding.bitrate(now, 1), Bitrate::from_kbps(100));
        assert_eq!(encoding.bitrate(now + Duration::from_secs(2), 1), Bitrate::ZERO);
    }
}
