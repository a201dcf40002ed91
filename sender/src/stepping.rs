use std::time::{Duration, Instant};

use lenscast_media::{Frame, Resolution};

use crate::adaptation::{Adapt, FrameOutcome, Ladder, QualityScaler, UsageMeter};
use crate::cpu_watch::Usage;
use crate::frame_limiter::FrameRateLimiter;
use crate::layer_task::Outcome;
use crate::source_rate::SourceRate;
use crate::{DegradationPreference, Track, TrackConfig, TrackControl};

/// How far a track has stepped down in size and frame rate, and why.
pub(crate) struct Stepping {
    preference: DegradationPreference,
    rate: SourceRate,
    ladder: Option<SourceLadder>,
    /// `None` with simulcast, where the layers take over what it would do, and where nothing is to give way.
    quality: Option<QualityScaler>,
    /// Steps down for a quantizer at its bound.
    quality_steps: u8,
    limiter: FrameRateLimiter,
    usage: UsageMeter,
    /// Number of the last frame.
    last_number: Option<u64>,
    /// Steps for the CPU that the last frame was encoded with.
    last_cpu_steps: u8,
}

/// The steps down from a source of this size and frame rate.
struct SourceLadder {
    source: Resolution,
    rate: f64,
    ladder: Ladder,
}

impl SourceLadder {
    fn new(preference: DegradationPreference, source: Resolution, rate: f64) -> Self {
        Self { source, rate, ladder: Ladder::new(preference, source, rate) }
    }
}

/// A ladder is made anew for a source whose frame rate is another by more than this: its steps would take nothing, or too much.
const RATE_TOLERANCE: f64 = 0.1;

impl Stepping {
    pub(crate) fn new(config: &TrackConfig) -> Self {
        let watches_quality = config.layers == 1 && config.degradation != DegradationPreference::Disabled;
        Self {
            preference: config.degradation,
            rate: SourceRate::new(config.framerate),
            ladder: None,
            quality: watches_quality.then(|| QualityScaler::new(config.backend.codec())),
            quality_steps: 0,
            limiter: FrameRateLimiter::default(),
            usage: UsageMeter::new(),
            last_number: None,
            last_cpu_steps: 0,
        }
    }

    pub(crate) const fn has_quality_steps(&self) -> bool {
        self.quality_steps > 0
    }

    /// The size in which a frame is to be encoded; `None` if it is one too many.
    pub(crate) fn admit(&mut self, control: &TrackControl, now: Instant, frame: &Frame) -> Option<Resolution> {
        let source = frame.picture.resolution();
        let cpu_steps = control.cpu_steps();
        self.rate.add(frame);
        let rate = self.rate.rate();
        if self.ladder.as_ref().is_none_or(|ladder| ladder.source != source) {
            self.quality_steps = 0;
            self.ladder = Some(SourceLadder::new(self.preference, source, rate));
        } else if self.quality_steps == 0 && cpu_steps == 0 {
            // Not while it stands on one: a step must not change under it.
            let is_off = |ladder: &SourceLadder| (rate / ladder.rate - 1.0).abs() > RATE_TOLERANCE;
            if self.ladder.as_ref().is_some_and(is_off) {
                self.ladder = Some(SourceLadder::new(self.preference, source, rate));
            }
        }
        if cpu_steps != self.last_cpu_steps {
            self.last_cpu_steps = cpu_steps;
            self.measure_anew(now);
        }
        let ladder = &self.ladder.as_ref()?.ladder;
        let steps = self.quality_steps.saturating_add(cpu_steps).min(ladder.steps());
        let restriction = ladder.at(steps);
        self.limiter.set_max(restriction.max_framerate);
        self.limiter.admit(frame.captured).then_some(restriction.resolution)
    }

    /// A frame was handled, which took `busy`, and came to `outcome` in the largest layer; `None` if it was let go.
    pub(crate) fn handle_frame(
        &mut self,
        track: &Track,
        now: Instant,
        frame: &Frame,
        busy: Duration,
        outcome: Option<&Outcome>,
    ) {
        let skipped = self.last_number.map_or(0, |last| frame.number.saturating_sub(last).saturating_sub(1));
        self.last_number = Some(frame.number);
        self.usage.handle_frame(frame.captured, busy, skipped);
        let ladder = self.ladder.as_ref().map_or(0, |ladder| ladder.ladder.steps());
        let taken = self.quality_steps.saturating_add(track.control().cpu_steps());
        track.control().set_cpu_usage(Usage { busy: self.usage.usage(), can_step_down: taken < ladder });
        let Some(quality) = &mut self.quality else { return };
        quality.handle_target(track.control().target(0));
        let outcome = match outcome {
            Some(Outcome::Encoded { quantizer }) => FrameOutcome::Encoded { quantizer: *quantizer },
            Some(Outcome::DroppedByEncoder) => FrameOutcome::Dropped,
            Some(Outcome::Failed(_)) | None => return,
        };
        let steps = match quality.handle_frame(now, outcome) {
            Some(Adapt::Down) if taken < ladder => self.quality_steps + 1,
            Some(Adapt::Up) => self.quality_steps.saturating_sub(1),
            _ => return,
        };
        if steps != self.quality_steps {
            self.quality_steps = steps;
            self.measure_anew(now);
            tracing::info!(track = %track.id(), steps, "the quantizer changes how it is encoded");
        }
    }

    /// Nothing is encoded: what was learned is stale. What the track has given up it takes back once nobody wants it.
    pub(crate) fn rest(&mut self, control: &TrackControl, now: Instant) {
        if !control.is_any_wanted() {
            self.quality_steps = 0;
            control.set_cpu_steps(0);
        }
        self.measure_anew(now);
        self.last_number = None;
        control.set_cpu_usage(Usage { busy: 0.0, can_step_down: false });
    }

    /// The encoder is another: what is known of the last one's quantizers says nothing of it.
    pub(crate) fn handle_new_encoder(&mut self, now: Instant) {
        if let Some(quality) = &mut self.quality {
            quality.reset(now);
        }
    }

    /// A frame costs something else from now on, and another quantizer.
    fn measure_anew(&mut self, now: Instant) {
        self.usage.reset();
        if let Some(quality) = &mut self.quality {
            quality.reset(now);
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use std::sync::Arc;

    use lenscast_encoder::{Backend, TemporalLayers};
    use lenscast_media::{Bitrate, Picture, TrackId};

    use super::*;
    use crate::{DEFAULT_MIN, TrackShare};

    /// A track and its stepping, in virtual time.
    struct Scene {
        track: Track,
        stepping: Stepping,
        picture: Arc<Picture>,
        start: Instant,
        frames: u64,
        /// In 30ths of a second, from one frame of the source to the next.
        every: u64,
    }

    impl Scene {
        fn new(degradation: DegradationPreference, layers: usize) -> Self {
            let share = TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(500), enforced: false };
            let config = TrackConfig {
                backend: Backend::Vp8,
                framerate: 30.0,
                layers,
                temporal_layers: TemporalLayers::One,
                degradation,
                share,
            };
            let picture = Arc::new(Picture::black(Resolution::new(1280, 720).unwrap()));
            let track = Track::new(TrackId(0), config, TrackControl::new());
            Self { track, stepping: Stepping::new(&config), picture, start: Instant::now(), frames: 0, every: 1 }
        }

        /// Encodes frames for so long, each of which takes `busy` and comes to `quantizer`. The last size, and how many were
        /// encoded a second.
        fn run(&mut self, seconds: u64, busy: Duration, quantizer: u8) -> (u32, u64) {
            let (mut width, mut admitted) = (0, 0);
            for _ in 0..seconds * 30 / self.every {
                let captured = self.start + Duration::from_secs(self.frames) / 30;
                let number = self.frames / self.every;
                let frame = Frame { picture: Arc::clone(&self.picture), number, captured, ready: captured };
                self.frames += self.every;
                let admit = self.stepping.admit(self.track.control(), captured, &frame);
                let outcome = Outcome::Encoded { quantizer: Some(quantizer) };
                let (busy, outcome) = match admit {
                    Some(size) => {
                        (width, admitted) = (size.width(), admitted + 1);
                        (busy, Some(&outcome))
                    }
                    None => (Duration::ZERO, None),
                };
                self.stepping.handle_frame(&self.track, captured + busy, &frame, busy, outcome);
            }
            (width, admitted / seconds)
        }
    }

    const QUICK: Duration = Duration::from_millis(2);
    /// VP8's thresholds are 29 and 95.
    const GOOD: u8 = 20;
    const FAIR: u8 = 60;
    const BAD: u8 = 120;

    #[test]
    fn a_quantizer_at_its_bound_takes_the_track_down_and_a_low_one_brings_it_back() {
        let mut scene = Scene::new(DegradationPreference::MaintainFramerate, 1);
        assert_eq!(scene.run(20, QUICK, FAIR), (1280, 30));
        scene.run(3, QUICK, BAD);
        assert!(scene.stepping.has_quality_steps());
        let (width, rate) = scene.run(3, QUICK, FAIR);
        assert!(width < 1280 && rate == 30, "{width} {rate}");
        assert_eq!(scene.run(120, QUICK, GOOD), (1280, 30));
    }

    #[test]
    fn a_preference_for_size_gives_up_frames_and_none_gives_up_nothing() {
        let mut scene = Scene::new(DegradationPreference::MaintainResolution, 1);
        scene.run(3, QUICK, BAD);
        let (width, rate) = scene.run(3, QUICK, FAIR);
        assert!(width == 1280 && (15..=21).contains(&rate), "{width} {rate}");
        let mut scene = Scene::new(DegradationPreference::Disabled, 1);
        scene.track.control().set_cpu_steps(3);
        assert_eq!(scene.run(20, QUICK, BAD), (1280, 30));
    }

    #[test]
    fn steps_for_the_cpu_act_with_the_next_frame_and_what_is_used_is_told() {
        let mut scene = Scene::new(DegradationPreference::MaintainFramerate, 3);
        scene.run(10, Duration::from_millis(30), BAD);
        let usage = scene.track.control().cpu_usage();
        assert!((usage.busy - 0.9).abs() < 0.02 && usage.can_step_down, "{usage:?}");
        assert!(!scene.stepping.has_quality_steps(), "with simulcast, layers go instead");
        scene.track.control().set_cpu_steps(1);
        assert_eq!(scene.run(1, QUICK, FAIR).0, 960);
        scene.track.control().set_cpu_steps(100);
        scene.run(1, QUICK, FAIR);
        assert!(!scene.track.control().cpu_usage().can_step_down);
        scene.stepping.rest(scene.track.control(), scene.start + Duration::from_secs(scene.frames) / 30);
        assert_eq!(scene.run(1, QUICK, FAIR), (1280, 30), "nobody wanted it for a while");
    }

    /// What was measured before a rest was held against the first frame after it.
    #[test]
    fn a_rest_and_a_new_encoder_begin_a_new_measurement() {
        for forget in [
            (|scene: &mut Scene, now| scene.stepping.rest(scene.track.control(), now)) as fn(&mut Scene, Instant),
            |scene, now| scene.stepping.handle_new_encoder(now),
        ] {
            let mut scene = Scene::new(DegradationPreference::MaintainFramerate, 1);
            scene.run(1, QUICK, BAD);
            scene.frames += 3_600 * 30;
            let now = scene.start + Duration::from_secs(scene.frames) / 30;
            forget(&mut scene, now);
            scene.run(1, QUICK, GOOD);
            assert!(!scene.stepping.has_quality_steps(), "a second of bad frames an hour ago");
        }
    }

    /// An operator gave a camera four times as much, and it stayed small for minutes.
    #[test]
    fn much_more_bitrate_than_at_the_last_step_down_is_another_situation() {
        let mut scene = Scene::new(DegradationPreference::MaintainFramerate, 1);
        scene.track.control().publish(0, 1, Bitrate::from_kbps(500));
        // Each step up turns out a mistake, so that the next one waits for longer.
        for _ in 0..8 {
            scene.run(3, QUICK, BAD);
            let mut waited = 0;
            while scene.run(3, QUICK, GOOD).0 < 1280 && waited < 400 {
                waited += 1;
            }
        }
        scene.run(3, QUICK, BAD);
        assert!(scene.run(60, QUICK, GOOD).0 < 1280, "it has learned to wait");
        scene.track.control().publish(0, 2, Bitrate::from_kbps(2_000));
        assert_eq!(scene.run(10, QUICK, GOOD).0, 1280);
    }

    /// Steps from 30 frames/s took nothing from a camera that makes ten.
    #[test]
    fn steps_go_by_the_rate_at_which_frames_really_come() {
        let mut scene = Scene::new(DegradationPreference::MaintainResolution, 1);
        scene.every = 3;
        assert_eq!(scene.run(20, QUICK, FAIR), (1280, 10));
        scene.track.control().set_cpu_steps(1);
        let (_, rate) = scene.run(10, QUICK, FAIR);
        assert!(rate < 8, "{rate} of 10 frames/s after a step");
    }
}
