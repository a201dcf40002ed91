use std::time::{Duration, Instant};

use lenscast_media::Frame;

/// The rate at which a source really makes frames, those counted in that the encode task never saw.
#[derive(Debug)]
pub(crate) struct SourceRate {
    last: Option<(u64, Instant)>,
    /// In seconds, smoothed.
    interval: f64,
}

/// Weight e⁻¹ after this.
const TIME_CONSTANT: Duration = Duration::from_secs(2);
/// A source that was silent for longer says nothing of its rate by it.
const LONGEST_GAP: Duration = Duration::from_secs(5);

impl SourceRate {
    /// `nominal` frames/s to begin with.
    pub(crate) fn new(nominal: f64) -> Self {
        Self { last: None, interval: 1.0 / nominal }
    }

    pub(crate) fn add(&mut self, frame: &Frame) {
        let Some((number, captured)) = self.last.replace((frame.number, frame.captured)) else { return };
        let span = frame.captured.saturating_duration_since(captured);
        let frames = frame.number.saturating_sub(number);
        if frames == 0 || span.is_zero() || span > LONGEST_GAP {
            return;
        }
        let kept = (-span.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
        self.interval = self.interval * kept + span.as_secs_f64() / frames as f64 * (1.0 - kept);
    }

    /// In frames/s.
    pub(crate) fn rate(&self) -> f64 {
        1.0 / self.interval
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use std::sync::Arc;

    use lenscast_media::{Picture, Resolution};

    use super::*;

    fn frame(number: u64, captured: Instant) -> Frame {
        let picture = Arc::new(Picture::black(Resolution::new(16, 16).unwrap()));
        Frame { picture, number, captured, ready: captured }
    }

    #[test]
    fn is_the_source_s_also_where_most_frames_are_missed() {
        let (mut rate, start) = (SourceRate::new(30.0), Instant::now());
        for index in 0..100 {
            rate.add(&frame(index * 3, start + Duration::from_millis(300) * index as u32));
        }
        assert!((rate.rate() - 10.0).abs() < 0.1, "{}", rate.rate());
    }

    #[test]
    fn gaps_and_times_and_numbers_that_run_backwards_change_nothing() {
        let (mut rate, start) = (SourceRate::new(30.0), Instant::now() + Duration::from_secs(100));
        for (number, at) in [(5, start), (6, start + Duration::from_secs(3_600)), (7, start), (3, start), (3, start)] {
            rate.add(&frame(number, at));
        }
        assert!((rate.rate() - 30.0).abs() < 1e-9, "{}", rate.rate());
    }
}
