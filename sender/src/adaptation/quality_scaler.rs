use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Codec};

use super::Adapt;

/// Watches the quantizer and the drops of one track's encoder, and says when its pictures are too many for its bits
/// (libwebrtc `modules/video_coding/utility/quality_scaler.cc`).
///
/// Call [`QualityScaler::reset`] at once after a step that it asked for was taken, before the next frame: so it knows that
/// it was. Call it also after any other step of this track, and after its encoder was built anew. A verdict that is not
/// followed (the ladder has no such step) costs nothing.
///
/// Deviations from libwebrtc. Slow cameras are judged after 5 s with fewer than 60 frames, and means are of one period, not
/// of 150 frames. An up that had to be taken back is tried again after waits that double; libwebrtc only
/// lengthens its period once.
#[derive(Debug, Clone)]
pub(crate) struct QualityScaler {
    thresholds: Thresholds,
    period: Option<Period>,
    /// Said with the frame before, and perhaps taken.
    proposed: Option<(Instant, Adapt)>,
    last_up: Option<Instant>,
    last_down: Option<Instant>,
    /// After a down, no up for so long.
    up_wait: Duration,
    /// What frames are encoded at, and what they were at the last down.
    target: Bitrate,
    target_at_down: Option<Bitrate>,
}

/// What became of one frame that was given to the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameOutcome {
    /// It came out.
    Encoded {
        /// On the codec's own scale, if the encoder tells it.
        quantizer: Option<u8>,
    },
    /// The rate control dropped it.
    Dropped,
}

/// Of the mean quantizer: above `high` is too coarse, up to `low` is finer than anyone sees.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    low: f64,
    high: f64,
}

#[derive(Debug, Clone, Copy)]
struct Period {
    started: Instant,
    frames: u32,
    dropped: u32,
    quantized: u32,
    quantizer_sum: u64,
}

/// libwebrtc `kMeasureMs` (2 s) and `kMinFramesNeededToScale`, `quality_scaler.cc`.
const PERIOD: Duration = Duration::from_secs(2);
const ENOUGH_FRAMES: u32 = 60;
/// A camera too slow for 60 frames in this time (libwebrtc's 2 s × `kSamplePeriodScaleFactor` 2.5) is judged by what there
/// is, but not by less than this: at five frames/s, 60 would take 12 s of bad pictures for every step.
const LONG_PERIOD: Duration = Duration::from_secs(5);
const FEWEST_FRAMES: u32 = 5;
/// libwebrtc `kFramedropPercentThreshold`, same file.
const DROPPED_PERCENT: u32 = 60;
/// How long an up waits after a down: at first, and at most. Ours.
const FIRST_UP_WAIT: Duration = Duration::from_secs(10);
const LONGEST_UP_WAIT: Duration = Duration::from_secs(600);
/// An up is judged a mistake when a down follows within this. Ours.
const UP_MUST_HOLD: Duration = Duration::from_secs(60);

impl QualityScaler {
    /// Thresholds for the codec's quantizers: VP8 0 to 127, VP9 0 to 255, H.264 0 to 51.
    pub(crate) const fn new(codec: Codec) -> Self {
        // libwebrtc `modules/video_coding/codecs`: `vp8/libvpx_vp8_encoder.cc` kLowVp8QpThreshold, kHighVp8QpThreshold;
        // `vp9/libvpx_vp9_encoder.cc` kLowVp9QpThreshold …; `h264/h264_encoder_impl.cc` kLowH264QpThreshold …
        let thresholds = match codec {
            Codec::Vp8 => Thresholds { low: 29.0, high: 95.0 },
            Codec::Vp9 => Thresholds { low: 149.0, high: 205.0 },
            Codec::H264 => Thresholds { low: 24.0, high: 37.0 },
        };
        Self {
            thresholds,
            period: None,
            proposed: None,
            last_up: None,
            last_down: None,
            target: Bitrate::ZERO,
            target_at_down: None,
            up_wait: FIRST_UP_WAIT,
        }
    }

    /// The rate that frames are encoded at. Much more of it than at the last down is another situation: what was learned
    /// about going up does not hold then.
    pub(crate) fn handle_target(&mut self, target: Bitrate) {
        self.target = target;
        let much_more = |then: Bitrate| target.as_bps() / 3 >= then.as_bps() / 2;
        if self.last_down.is_some() && self.target_at_down.is_some_and(much_more) {
            (self.last_down, self.last_up, self.target_at_down) = (None, None, None);
            self.up_wait = FIRST_UP_WAIT;
        }
    }

    /// What became of a frame, and perhaps what to do about it. Frames that never reached the encoder are none of its.
    #[must_use = "nobody else takes the step"]
    pub(crate) fn handle_frame(&mut self, now: Instant, outcome: FrameOutcome) -> Option<Adapt> {
        self.proposed = None;
        let period = self.period.get_or_insert_with(|| Period::new(now));
        period.add(outcome);
        if !period.is_over(now) {
            return None;
        }
        let verdict = period.verdict(self.thresholds).filter(|verdict| *verdict == Adapt::Down || self.may_go_up(now));
        self.period = Some(Period::new(now));
        self.proposed = verdict.map(|verdict| (now, verdict));
        verdict
    }

    /// A step was taken, or the encoder is another: what was measured is void. See the type.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.period = Some(Period::new(now));
        match self.proposed.take() {
            Some((at, Adapt::Up)) => self.last_up = Some(at),
            Some((at, Adapt::Down)) => {
                self.back_off(at);
                self.last_down = Some(at);
                self.target_at_down = Some(self.target);
            }
            None => {}
        }
    }

    fn may_go_up(&self, now: Instant) -> bool {
        self.last_down.is_none_or(|at| now.saturating_duration_since(at) >= self.up_wait)
    }

    fn back_off(&mut self, now: Instant) {
        // Each up is judged once, by the first down after it.
        let Some(up) = self.last_up.take() else { return };
        let held = now.saturating_duration_since(up) >= UP_MUST_HOLD;
        self.up_wait = if held { FIRST_UP_WAIT } else { (self.up_wait * 2).min(LONGEST_UP_WAIT) };
    }
}

impl Period {
    const fn new(started: Instant) -> Self {
        Self { started, frames: 0, dropped: 0, quantized: 0, quantizer_sum: 0 }
    }

    fn add(&mut self, outcome: FrameOutcome) {
        self.frames += 1;
        match outcome {
            FrameOutcome::Encoded { quantizer: Some(quantizer) } => {
                self.quantized += 1;
                self.quantizer_sum += u64::from(quantizer);
            }
            FrameOutcome::Encoded { quantizer: None } => {}
            FrameOutcome::Dropped => self.dropped += 1,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.started);
        (lasted >= PERIOD && self.frames >= ENOUGH_FRAMES) || (lasted >= LONG_PERIOD && self.frames >= FEWEST_FRAMES)
    }

    fn verdict(&self, thresholds: Thresholds) -> Option<Adapt> {
        if u64::from(self.dropped) * 100 >= u64::from(self.frames) * u64::from(DROPPED_PERCENT) {
            return Some(Adapt::Down);
        }
        if self.quantized == 0 {
            return None;
        }
        let mean = self.quantizer_sum as f64 / f64::from(self.quantized);
        if mean > thresholds.high {
            Some(Adapt::Down)
        } else if mean <= thresholds.low {
            Some(Adapt::Up)
        } else {
            None
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use lenscast_media::Resolution;
    use proptest::prelude::*;

    use super::super::{DegradationPreference, Ladder};
    use super::*;

    const HOUR: f64 = 3_600.0;

    /// The coarser, the more pixels/s share a bit: quantizers as of each codec's table of step sizes, roughly.
    fn quantizer(codec: Codec, pixels_per_bit: f64) -> u8 {
        let step = 4.0 * pixels_per_bit;
        let index = match codec {
            Codec::Vp8 => (step - 4.0).clamp(0.0, 127.0),
            Codec::Vp9 => (40.0 * (step / 8.0).log2() + 60.0).clamp(0.0, 255.0),
            Codec::H264 => (6.0 * step.log2() + 4.0).clamp(0.0, 51.0),
        };
        index as u8
    }

    /// A track whose every step the scaler decides, in virtual time.
    struct Track {
        codec: Codec,
        scaler: QualityScaler,
        ladder: Ladder,
        framerate: f64,
        step: u8,
        now: Instant,
        started: Instant,
        /// When a step was taken, in seconds, and which.
        taken: Vec<(f64, Adapt)>,
    }

    impl Track {
        fn new(codec: Codec, preference: DegradationPreference, source: (u32, u32), framerate: f64) -> Self {
            let now = Instant::now();
            let ladder = Ladder::new(preference, Resolution::new(source.0, source.1).unwrap(), framerate);
            Self {
                codec,
                scaler: QualityScaler::new(codec),
                ladder,
                framerate,
                step: 0,
                now,
                started: now,
                taken: Vec::new(),
            }
        }

        fn run(&mut self, seconds: f64, bits_per_second: f64, noise: i16) {
            let end = self.now + Duration::from_secs_f64(seconds);
            let mut frame = 0i16;
            while self.now < end {
                let at = self.ladder.at(self.step);
                let framerate = at.max_framerate.unwrap_or(self.framerate).min(self.framerate);
                self.now += Duration::from_secs_f64(1.0 / framerate);
                let quantizer = quantizer(self.codec, at.resolution.pixels() as f64 * framerate / bits_per_second);
                frame = frame.wrapping_add(7);
                let trembling = (i16::from(quantizer) + frame % (noise + 1)).clamp(0, 255) as u8;
                self.handle(FrameOutcome::Encoded { quantizer: Some(trembling) });
            }
        }

        fn handle(&mut self, outcome: FrameOutcome) {
            let adapt = self.scaler.handle_frame(self.now, outcome);
            match adapt {
                Some(Adapt::Down) if self.step < self.ladder.steps() => self.step += 1,
                Some(Adapt::Up) if self.step > 0 => self.step -= 1,
                _ => return,
            }
            self.scaler.reset(self.now);
            self.taken.push(((self.now - self.started).as_secs_f64(), adapt.unwrap()));
        }

        fn taken_after(&self, seconds: f64) -> usize {
            self.taken.iter().filter(|(at, _)| *at > seconds).count()
        }
    }

    #[test]
    fn bits_too_few_for_the_size_settle_at_one_step_for_an_hour() {
        let mut track = Track::new(Codec::Vp8, DegradationPreference::MaintainFramerate, (1280, 720), 30.0);
        track.run(HOUR, 400_000.0, 4);
        assert!(track.step > 0, "1280x720 at 30 frames/s does not fit into 400 kb/s");
        assert!(track.taken.len() == usize::from(track.step), "straight to its place: {:?}", track.taken);
        assert!(track.taken.last().unwrap().0 < 10.0, "{:?}", track.taken);
    }

    #[test]
    fn bits_that_come_back_bring_all_pixels_back() {
        let mut track = Track::new(Codec::H264, DegradationPreference::Balanced, (1280, 720), 30.0);
        track.run(60.0, 100_000.0, 2);
        assert!(track.step >= 2, "{:?}", track.taken);
        track.run(120.0, 20_000_000.0, 2);
        assert_eq!(track.step, 0, "{:?}", track.taken);
    }

    #[test]
    fn a_slow_camera_adapts_too() {
        for framerate in [5.0, 1.0] {
            let mut track = Track::new(Codec::H264, DegradationPreference::MaintainFramerate, (1280, 720), framerate);
            track.run(13.0, 10_000.0, 0);
            assert_eq!(track.step, 2, "two periods of 5 s at {framerate} frames/s");
        }
    }

    #[test]
    fn most_frames_dropped_is_too_much() {
        let start = Instant::now();
        for (dropped_of_ten, verdict) in [(5, None), (6, Some(Adapt::Down)), (10, Some(Adapt::Down))] {
            let mut scaler = QualityScaler::new(Codec::Vp9);
            let verdicts: Vec<_> = (0..70)
                .filter_map(|i| {
                    let encoded = FrameOutcome::Encoded { quantizer: None };
                    let outcome = if i % 10 < dropped_of_ten { FrameOutcome::Dropped } else { encoded };
                    scaler.handle_frame(start + Duration::from_millis(i * 34), outcome)
                })
                .collect();
            assert_eq!(verdicts.first().copied(), verdict, "{dropped_of_ten} of ten");
        }
    }

    /// An encoder that no step suits: too coarse at one, needlessly fine at the next.
    #[test]
    fn an_encoder_between_two_steps_is_tried_ever_less_often() {
        let mut track = Track::new(Codec::Vp8, DegradationPreference::MaintainFramerate, (640, 480), 30.0);
        while track.now < track.started + Duration::from_secs(3_600) {
            track.now += Duration::from_millis(33);
            let quantizer = if track.step == 0 { 120 } else { 10 };
            track.handle(FrameOutcome::Encoded { quantizer: Some(quantizer) });
        }
        let ups: Vec<f64> = track.taken.iter().filter(|(_, adapt)| *adapt == Adapt::Up).map(|(at, _)| *at).collect();
        assert!((5..=12).contains(&ups.len()), "{ups:?}");
        let waits: Vec<f64> = ups.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.is_sorted_by(|a, b| a <= &(b + 3.0)), "{waits:?}");
        assert!(*waits.last().unwrap() >= 600.0, "{waits:?}");
    }

    /// At the top of the ladder nobody goes up, however often it is said, and the first down is no mistake's.
    #[test]
    fn an_up_that_nobody_took_is_not_held_against_it() {
        let mut track = Track::new(Codec::Vp8, DegradationPreference::MaintainFramerate, (640, 480), 30.0);
        track.run(60.0, 20_000_000.0, 0);
        track.run(20.0, 100_000.0, 0);
        assert!(track.step > 0);
        assert_eq!(track.scaler.up_wait, FIRST_UP_WAIT);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn settles_at_one_step_and_stays_there_for_an_hour(
            codec in prop::sample::select(&Codec::ALL[..]),
            preference in prop::sample::select(&DegradationPreference::ALL[..]),
            source in prop::sample::select(&[(1920, 1080), (1280, 720), (640, 480), (640, 360)][..]),
            framerate in prop::sample::select(&[60.0, 30.0, 15.0, 5.0][..]),
            bits_per_second in 50_000.0..5_000_000.0f64,
            noise in 0..5i16,
        ) {
            let mut track = Track::new(codec, preference, source, framerate);
            track.run(HOUR, bits_per_second, noise);
            prop_assert_eq!(track.taken_after(120.0), 0, "{:?}", track.taken);
            prop_assert!(track.taken.iter().all(|(_, adapt)| *adapt == Adapt::Down), "{:?}", track.taken);
        }
    }
}
