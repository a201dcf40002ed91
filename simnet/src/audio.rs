//! Audio at a constant rate, as RFC 8867, section 4.3, has beside each video: 20 kb/s.

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

/// One packet of audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it was due.
    pub at: Instant,
    /// What it holds, without any headers.
    pub bytes: u32,
}

/// Frames of a constant rate, evenly spaced: one is due at the start, the next an interval later.
///
/// **Invariant.** Over any time the frames' bytes are what the rate makes of it, to a byte.
#[derive(Debug, Clone)]
pub struct Source {
    start: Instant,
    rate: Bitrate,
    interval: Duration,
    /// How many frames there were.
    count: u32,
}

impl Source {
    /// What Opus and its like use (RFC 7587, section 6.1: 20 ms is the default).
    pub const USUAL_INTERVAL: Duration = Duration::from_millis(20);

    /// An interval of less than a millisecond is taken for one.
    #[must_use]
    pub fn new(start: Instant, rate: Bitrate, interval: Duration) -> Self {
        Self { start, rate, interval: interval.max(Duration::from_millis(1)), count: 0 }
    }

    /// When the next frame is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.start.checked_add(self.interval.checked_mul(self.count)?)
    }

    /// A frame, if one is due by now. Ask until there is none.
    #[must_use]
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        let at = self.poll_timeout().filter(|at| *at <= now)?;
        let bytes_until = |count: u32| self.rate.bytes_in(self.interval.saturating_mul(count));
        let bytes = bytes_until(self.count.saturating_add(1)) - bytes_until(self.count);
        self.count = self.count.saturating_add(1);
        Some(Frame { at, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) })
    }
}

#[cfg(test)]
// The one instant that everything is counted from.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_to_the_byte() {
        let start = Instant::now();
        // 21 kb/s are 52.5 bytes in 20 ms.
        let mut source = Source::new(start, Bitrate::from_kbps(21), Source::USUAL_INTERVAL);
        let end = start + Duration::from_millis(999);
        let frames: Vec<Frame> = std::iter::from_fn(|| source.poll_frame(end)).collect();
        assert_eq!((frames.len(), frames[0].at, frames[0].bytes, frames[1].bytes), (50, start, 52, 53));
        assert_eq!(frames.iter().map(|frame| frame.bytes).sum::<u32>(), 21_000 / 8);
        assert_eq!(source.poll_timeout(), Some(start + Duration::from_secs(1)));
    }
}
