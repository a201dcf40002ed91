use std::time::{Duration, Instant};

use lenscast_encoder::FrameTiming;
use lenscast_media::RtpTime;

/// Turns capture times into a track's two timelines: the encoder's and RTP's. Both start with the first frame and only
/// move forward, whatever the capture times do.
#[derive(Debug, Default)]
pub(crate) struct StreamClock {
    started: Option<Instant>,
    last: Option<Duration>,
    interval: Option<Duration>,
}

/// The least two frames lie apart: a tick of the RTP clock and then some, so that no two share a timestamp.
const MIN_STEP: Duration = Duration::from_micros(100);

/// Capture times that run back by more than this are another clock's.
const MAX_JITTER: Duration = Duration::from_secs(1);

/// A frame is expected to last as long as the one before it did, within these bounds: 240 to 1 frame/s.
const MIN_INTERVAL: Duration = Duration::from_micros(4_167);
const MAX_INTERVAL: Duration = Duration::from_secs(1);

impl StreamClock {
    /// When the frame captured at `captured` is on both timelines. `nominal` is the time between frames to expect while
    /// nothing better is known.
    pub(crate) fn advance(&mut self, captured: Instant, nominal: Duration) -> (FrameTiming, RtpTime) {
        let started = *self.started.get_or_insert(captured);
        let mut timestamp = captured.saturating_duration_since(started);
        let expected = self.interval.unwrap_or_else(|| nominal.clamp(MIN_INTERVAL, MAX_INTERVAL));
        if let Some(last) = self.last
            && captured + MAX_JITTER < started + last
            && let Some(started) = captured.checked_sub(last + expected)
        {
            // Not the order of two frames, but a clock that was set back: it goes on from here.
            self.started = Some(started);
            timestamp = last + expected;
        }
        if let Some(last) = self.last {
            timestamp = timestamp.max(last + MIN_STEP);
            self.interval = Some((timestamp - last).clamp(MIN_INTERVAL, MAX_INTERVAL));
        }
        self.last = Some(timestamp);
        let duration = self.interval.unwrap_or_else(|| nominal.clamp(MIN_INTERVAL, MAX_INTERVAL));
        (FrameTiming { timestamp, duration }, RtpTime::from_span(timestamp))
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    const NOMINAL: Duration = Duration::from_millis(33);

    #[test]
    fn follows_the_capture_times() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        let (timing, rtp) = clock.advance(start, NOMINAL);
        assert_eq!((timing.timestamp, timing.duration, rtp), (Duration::ZERO, NOMINAL, RtpTime(0)));
        let (timing, rtp) = clock.advance(start + Duration::from_millis(50), NOMINAL);
        assert_eq!(timing.duration, Duration::from_millis(50));
        assert_eq!(rtp, RtpTime(4_500));
    }

    #[test]
    fn never_stands_still_and_never_runs_backwards() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        let mut last = clock.advance(start + Duration::from_secs(1), NOMINAL);
        for captured in [start, start + Duration::from_secs(1), start + Duration::from_secs(1), start] {
            let next = clock.advance(captured, NOMINAL);
            assert!(next.0.timestamp > last.0.timestamp);
            assert!(next.1.ticks_since(last.1) > 0);
            last = next;
        }
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on_at_its_pace() {
        let (mut clock, start) = (StreamClock::default(), Instant::now() + Duration::from_secs(100));
        let at = |ms: i64| {
            let span = Duration::from_millis(ms.unsigned_abs());
            if ms < 0 { start - span } else { start + span }
        };
        let timestamps: Vec<_> =
            [0, 40, -90_000, -89_960, -89_920].map(|ms| clock.advance(at(ms), NOMINAL).0.timestamp.as_millis()).into();
        assert_eq!(timestamps, [0, 40, 80, 120, 160]);
    }

    #[test]
    fn a_camera_that_was_gone_for_an_hour_comes_back_with_a_sane_duration() {
        let (mut clock, start) = (StreamClock::default(), Instant::now());
        clock.advance(start, NOMINAL);
        let (timing, _) = clock.advance(start + Duration::from_secs(3_600), NOMINAL);
        assert_eq!((timing.timestamp, timing.duration), (Duration::from_secs(3_600), MAX_INTERVAL));
    }
}
