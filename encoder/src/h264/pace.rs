use std::ffi::c_int;
use std::time::Duration;

use lenscast_media::Bitrate;

/// The highest frame rate that openh264 reckons with (`MAX_FRAME_RATE` in `codec/encoder/core/inc/wels_const.h`).
pub(super) const MAX_FRAME_RATE: f64 = 60.0;

/// The rate at which frames come.
#[derive(Debug)]
pub(super) struct Pace {
    last: Option<Duration>,
    /// Smoothed over eight frames, in seconds.
    interval: f64,
    /// The frame rate that openh264 goes by, in frames/s, before it is clipped.
    pub(super) told: f64,
}

impl Pace {
    /// Openh264 is told anew when it is wrong by more than this.
    const TOLERANCE: f64 = 0.05;

    pub(super) fn new(framerate: f64) -> Self {
        Self { last: None, interval: 1.0 / framerate, told: framerate }
    }

    /// Takes the time of the next frame. True if openh264 must be told of a new rate.
    pub(super) fn measure(&mut self, start: Duration) -> bool {
        if let Some(last) = self.last.replace(start) {
            self.interval += (start.saturating_sub(last).as_secs_f64() - self.interval) / 8.0;
        }
        let wrong = (self.told * self.interval - 1.0).abs() > Self::TOLERANCE;
        if wrong {
            self.told = 1.0 / self.interval;
        }
        wrong
    }

    /// What openh264 can be told.
    pub(super) fn frame_rate(&self) -> f64 {
        self.told.clamp(1.0, MAX_FRAME_RATE)
    }

    /// What `target` is at that rate, in bits/s.
    pub(super) fn scaled(&self, target: Bitrate) -> c_int {
        let bits = target.as_bps() as f64 * (MAX_FRAME_RATE / self.told).min(1.0);
        // Saturates, and openh264 wants at least a bit a frame.
        (bits as c_int).max(MAX_FRAME_RATE as c_int)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_follows_the_frames_and_is_told_only_when_it_is_off() {
        let mut pace = Pace::new(30.0);
        let told: Vec<bool> = (0..60).map(|frame| pace.measure(Duration::from_millis(33) * frame)).collect();
        assert_eq!(told.iter().filter(|&&told| told).count(), 0, "33 ms is 30 frames/s within the tolerance");
        let start = Duration::from_millis(33 * 59);
        for frame in 1..60 {
            pace.measure(start + Duration::from_millis(100) * frame);
        }
        assert!((pace.frame_rate() - 10.0).abs() < 0.6, "{pace:?}");
    }

    #[test]
    fn above_60_frames_a_second_the_target_shrinks_in_proportion() {
        let mut pace = Pace::new(30.0);
        for frame in 0..60 {
            pace.measure(Duration::from_nanos(8_333_333) * frame);
        }
        assert_eq!(pace.frame_rate(), 60.0);
        let scaled = f64::from(pace.scaled(Bitrate::from_kbps(2_000)));
        assert!((scaled / 1_000_000.0 - 1.0).abs() < 0.06, "{scaled}");
        assert_eq!(Pace::new(30.0).scaled(Bitrate::from_kbps(2_000)), 2_000_000);
    }
}
