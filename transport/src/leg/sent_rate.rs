use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

/// What was sent in the last second, counted in slices of a tenth.
#[derive(Debug)]
pub(super) struct SentRate {
    slices: [u64; SLICES],
    /// Which slice it is now, counted from the beginning.
    now: u64,
    began: Instant,
}

const SLICES: usize = 10;
const SLICE: Duration = Duration::from_millis(100);

impl SentRate {
    pub(super) const fn new(now: Instant) -> Self {
        Self { slices: [0; SLICES], now: 0, began: now }
    }

    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        self.slices[self.now as usize % SLICES] += bytes;
    }

    /// Over the last ten slices, the one that is under way among them.
    pub(super) fn rate(&mut self, now: Instant) -> Bitrate {
        self.advance(now);
        Bitrate::from_bps(self.slices.iter().sum::<u64>() * 8)
    }

    fn advance(&mut self, now: Instant) {
        let slice = (now.saturating_duration_since(self.began).as_nanos() / SLICE.as_nanos()) as u64;
        let passed = slice.saturating_sub(self.now).min(SLICES as u64);
        for step in 1..=passed {
            self.slices[(slice - passed + step) as usize % SLICES] = 0;
        }
        self.now = self.now.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_second_is_forgotten() {
        let start = Instant::now();
        let mut sent = SentRate::new(start);
        for number in 0..20 {
            sent.add(start + SLICE * number, 1_000);
        }
        assert_eq!(sent.rate(start + SLICE * 19), Bitrate::from_kbps(80));
        assert_eq!(sent.rate(start + SLICE * 24), Bitrate::from_kbps(40));
        assert_eq!(sent.rate(start + SLICE * 1_000), Bitrate::ZERO);
        sent.add(start, 500);
        assert_eq!(sent.rate(start + SLICE * 1_000), Bitrate::from_kbps(4), "time does not go back");
    }
}
