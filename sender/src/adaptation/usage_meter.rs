use std::time::{Duration, Instant};

/// How much of the time between its source's frames a track's thread is busy with one: above 1 it cannot keep up.
///
/// Measured against the interval of the *source*. A thread that is too slow takes fewer frames, the intervals between those
/// become longer, and busy time over them could never exceed 1 (libwebrtc sees the same and caps the interval instead,
/// `OnTargetFramerateUpdated` in `video/adaptation/overuse_frame_detector.cc`). So the frames evicted in between are counted
/// in: what they would have cost is taken for what this one did.
///
/// Frames that are let go on purpose (a [`FrameRateLimiter`](crate::frame_limiter::FrameRateLimiter) refused them) are told
/// with no busy time: they do give the thread time.
#[derive(Debug, Clone)]
pub(crate) struct UsageMeter {
    last_captured: Option<Instant>,
    /// Of frames whose capture time told of no interval; belongs to the next that does.
    carried: Duration,
    usage: f64,
}

/// Weight e⁻¹ after this. libwebrtc's `filter_time_ms` is 5 s (`overuse_frame_detector.h`), for one camera; an overload by
/// many is to be seen within the governor's first two seconds.
const TIME_CONSTANT: Duration = Duration::from_secs(2);
/// Until anything is known: in between the governor's thresholds, as libwebrtc's `SendProcessingUsage1::Reset` does.
const NEUTRAL: f64 = (super::cpu_governor::LOW + super::cpu_governor::HIGH) / 2.0;
/// No frame counts as more: a thread that was stopped once is not overused for long enough to count.
const MOST: f64 = 1.5;
/// A camera that was silent for longer is measured anew.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

impl UsageMeter {
    pub(crate) const fn new() -> Self {
        Self { last_captured: None, carried: Duration::ZERO, usage: NEUTRAL }
    }

    /// Smoothed. Not yet told from frames: halfway between too much and little.
    pub(crate) const fn usage(&self) -> f64 {
        self.usage
    }

    /// A frame that took the thread `busy`, from taking it to handing it on. `evicted_before` is how many the frame buffer
    /// evicted since the one before.
    pub(crate) fn handle_frame(&mut self, captured: Instant, busy: Duration, evicted_before: u64) {
        let Some(last) = self.last_captured else {
            self.last_captured = Some(captured);
            return;
        };
        let busy = busy + self.carried;
        let elapsed = captured.saturating_duration_since(last);
        if elapsed > LONGEST_INTERVAL || last.saturating_duration_since(captured) > LONGEST_INTERVAL {
            self.reset();
            self.last_captured = Some(captured);
            return;
        }
        if elapsed.is_zero() {
            self.carried = busy;
            return;
        }
        self.carried = Duration::ZERO;
        self.last_captured = Some(captured);
        let frames = evicted_before as f64 + 1.0;
        let sample = (busy.as_secs_f64() * frames / elapsed.as_secs_f64()).min(MOST);
        let kept = (-elapsed.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
        self.usage = self.usage * kept + sample * (1.0 - kept);
    }

    /// The track's frames will cost something else from now on.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn is_busy_time_over_the_interval() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        for i in 0..600 {
            meter.handle_frame(start + ms(33) * i, ms(11), 0);
        }
        assert!((meter.usage() - 11.0 / 33.0).abs() < 0.01, "{}", meter.usage());
    }

    /// A thread that takes 45 ms a frame of a 30 frames/s camera encodes every second one and looks busy 68 % of the time.
    #[test]
    fn evicted_frames_show_that_it_cannot_keep_up() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        for i in 0..300 {
            meter.handle_frame(start + ms(66) * i, ms(45), 1);
        }
        assert!((meter.usage() - 45.0 / 33.0).abs() < 0.01, "{}", meter.usage());
    }

    #[test]
    fn frames_let_go_on_purpose_give_time() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        for i in 0..600 {
            meter.handle_frame(start + ms(33) * i, if i % 3 == 0 { ms(33) } else { ms(0) }, 0);
        }
        assert!((meter.usage() - 1.0 / 3.0).abs() < 0.02, "{}", meter.usage());
    }

    #[test]
    fn trembling_capture_times_change_nothing() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        for i in 0..600u64 {
            // Every third frame comes with the one before it.
            let captured = start + ms(33 * (i - u64::from(i % 3 == 2)));
            meter.handle_frame(captured, ms(11), 0);
        }
        assert!((meter.usage() - 11.0 / 33.0).abs() < 0.02, "{}", meter.usage());
    }

    #[test]
    fn one_stall_is_forgotten_within_two_seconds() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        let mut now = start;
        for i in 0..400 {
            let stalled = i == 200;
            now += if stalled { ms(4_950) } else { ms(33) };
            meter.handle_frame(now, if stalled { ms(4_950) } else { ms(10) }, if stalled { 149 } else { 0 });
            assert!(i < 262 || meter.usage() < super::super::cpu_governor::HIGH, "{i}: {}", meter.usage());
        }
    }

    #[test]
    fn a_camera_that_was_gone_is_measured_anew() {
        let (mut meter, start) = (UsageMeter::new(), Instant::now());
        for i in 0..600 {
            meter.handle_frame(start + ms(33) * i, ms(60), 1);
        }
        for captured in [start + Duration::from_secs(3_600), start] {
            meter.handle_frame(captured, ms(60), 0);
            assert_eq!(meter.usage(), NEUTRAL);
        }
    }
}
