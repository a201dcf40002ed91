//! The codecs' own clock.
//!
//! **Invariant.** Frames start and end later than the frame before, by no more than a second.

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::{EncoderSettings, FrameTiming};

/// Makes times that a codec can rely on out of a [`FrameTiming`] each: they strictly advance, and so do the frames'
/// ends.
///
/// libvpx takes a frame rate from the distance between two frames' ends (`adjust_frame_rate` in
/// `vp9/encoder/vp9_encoder.c`), takes 30 frames/s for anything below one in ten seconds, and refuses durations over 71
/// minutes.
#[derive(Debug)]
pub(crate) struct FrameClock {
    nominal: Duration,
    previous: Option<Previous>,
}

#[derive(Debug)]
struct Previous {
    timestamp: Duration,
    time: FrameTime,
}

/// A frame's time on the codec's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameTime {
    /// Since the encoder's first frame.
    pub(crate) start: Duration,
    /// Never zero.
    pub(crate) duration: Duration,
}

/// No gap between two frames is worth more bits than this: libvpx and openh264 multiply bits a frame by percentages and
/// boosts in 32 bits (`calc_iframe_target_size` in `vp8/encoder/ratectrl.c`: up to 246 times 2^23).
const MOST_BITS_A_FRAME: u64 = 8_000_000;

impl FrameClock {
    pub(crate) fn new(settings: &EncoderSettings) -> Self {
        Self { nominal: settings.frame_interval(), previous: None }
    }

    /// The time of the next frame, which is encoded at `target`.
    pub(crate) fn advance(&mut self, timing: FrameTiming, target: Bitrate) -> FrameTime {
        let longest = Duration::from_micros(MOST_BITS_A_FRAME * 1_000_000 / target.as_bps().max(MOST_BITS_A_FRAME));
        let shortest = (self.nominal / 8).min(longest);
        let sensible = |span: Duration| if span.is_zero() { self.nominal } else { span }.clamp(shortest, longest);

        let mut duration = sensible(timing.duration);
        let start = match &self.previous {
            None => Duration::ZERO,
            Some(Previous { timestamp, time }) => {
                let start = time.start + sensible(timing.timestamp.saturating_sub(*timestamp));
                let earliest_end = time.start + time.duration + shortest;
                duration = duration.max(earliest_end.saturating_sub(start));
                start
            }
        };
        let time = FrameTime { start, duration };
        self.previous = Some(Previous { timestamp: timing.timestamp, time });
        time
    }
}

#[cfg(test)]
mod tests {
    use lenscast_media::Resolution;
    use proptest::prelude::*;

    use super::*;
    use crate::{Backend, TemporalLayers};

    const TARGET: Bitrate = Bitrate::from_kbps(1_500);

    fn clock(framerate: f64) -> FrameClock {
        let resolution = Resolution::new(640, 360).unwrap();
        FrameClock::new(&EncoderSettings {
            backend: Backend::Vp8,
            resolution,
            framerate,
            bitrate: TARGET,
            temporal_layers: TemporalLayers::One,
        })
    }

    fn starts(clock: &mut FrameClock, timestamps_ms: &[u64]) -> Vec<u64> {
        let timing = |ms| FrameTiming { timestamp: Duration::from_millis(ms), duration: Duration::from_millis(40) };
        timestamps_ms.iter().map(|&ms| clock.advance(timing(ms), TARGET).start.as_millis() as u64).collect()
    }

    #[test]
    fn starts_at_zero_and_keeps_the_capture_times_distances() {
        assert_eq!(starts(&mut clock(25.0), &[7_000, 7_040, 7_075, 7_200]), [0, 40, 75, 200]);
    }

    #[test]
    fn times_that_stand_still_or_run_backwards_advance_by_the_nominal_interval() {
        assert_eq!(starts(&mut clock(25.0), &[900, 900, 900, 100, 140]), [0, 40, 80, 120, 160]);
    }

    #[test]
    fn a_gap_of_hours_counts_as_a_second_and_a_burst_as_an_eighth_of_the_interval() {
        assert_eq!(starts(&mut clock(25.0), &[0, 36_000_000, 36_000_001]), [0, 1_000, 1_005]);
    }

    #[test]
    fn durations_of_zero_and_of_hours_are_put_right() {
        let mut clock = clock(25.0);
        let mut duration_of = |secs, duration| {
            clock.advance(FrameTiming { timestamp: Duration::from_secs(secs), duration }, TARGET).duration
        };
        assert_eq!(duration_of(0, Duration::ZERO), Duration::from_millis(40));
        assert_eq!(duration_of(1, Duration::from_secs(7_200)), Duration::from_secs(1));
        assert_eq!(duration_of(3, Duration::from_nanos(1)), Duration::from_millis(5));
    }

    #[test]
    fn the_longest_step_shrinks_as_the_target_grows() {
        let mut clock = clock(1.0);
        let mut advance = |secs, mbps: u64| {
            let timing = FrameTiming { timestamp: Duration::from_secs(secs), duration: Duration::from_secs(1) };
            clock.advance(timing, Bitrate::from_kbps(mbps * 1_000))
        };
        let (start, duration) = (Duration::from_millis(80), Duration::from_millis(80));
        assert_eq!(advance(0, 100).duration, duration);
        assert_eq!(advance(1, 100), FrameTime { start, duration });
        assert_eq!(advance(2, 1).start, Duration::from_millis(1_080));
    }

    proptest! {
        #[test]
        fn starts_and_ends_always_advance_and_stay_sensible(
            framerate in 1.0_f64..240.0,
            frames in prop::collection::vec((any::<u64>(), any::<u64>(), 10_000_u64..100_000_000), 1..50),
        ) {
            let mut clock = clock(framerate);
            let mut previous: Option<FrameTime> = None;
            for (timestamp, duration, bps) in frames {
                let timing = FrameTiming {
                    timestamp: Duration::from_nanos(timestamp),
                    duration: Duration::from_nanos(duration),
                };
                let time = clock.advance(timing, Bitrate::from_bps(bps));
                prop_assert!(time.duration > Duration::ZERO && time.duration <= Duration::from_secs(1));
                if let Some(previous) = previous {
                    prop_assert!(time.start > previous.start);
                    prop_assert!(time.start - previous.start <= Duration::from_secs(1));
                    prop_assert!(time.start + time.duration > previous.start + previous.duration);
                }
                previous = Some(time);
            }
        }
    }
}
