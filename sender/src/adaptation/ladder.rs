use lenscast_media::Resolution;

use super::DegradationPreference;

/// What a track may encode at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Restriction {
    /// The size to scale pictures down to.
    pub(crate) resolution: Resolution,
    /// Frames/s; `None` is the source's own rate.
    pub(crate) max_framerate: Option<f64>,
}

/// The steps down from a source, each strictly cheaper (pixels × frames/s) than the one before.
///
/// A step in size asks for 3/5 of the pixels and gets the next of the sizes 3/4, 1/2, 3/8, 1/4 … of the source's sides
/// that is no larger, as a source of libwebrtc does: 1280x720 becomes 960x540, 640x360, 480x270, 320x180.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ladder {
    source: Resolution,
    /// From the first step down on.
    steps: Vec<Restriction>,
}

/// No step in size is taken whose 3/5 are below this (libwebrtc `kDefaultMinPixelsPerFrame`,
/// `api/video_codecs/video_encoder.h`; first `kMinPixelsPerFrame`). The size that it then gets may be up to a quarter
/// smaller, and of a very narrow source a little more, since sides are even.
const MIN_PIXELS: f64 = 320.0 * 180.0;
/// Pixels asked for at a step (libwebrtc `GetLowerResolutionThan`, `call/adaptation/video_stream_adapter.cc`).
const PIXELS_DOWN: f64 = 3.0 / 5.0;
/// Frames/s asked for at a step, rounded down (libwebrtc `GetLowerFrameRateThan`, same file).
const FRAMERATE_DOWN: f64 = 2.0 / 3.0;
/// No step goes below so many frames/s. libwebrtc's `kMinFrameRateFps` (same file) is 2, for slides that are shared; with
/// a picture every half second nobody steers by a camera, and losing one costs as much again: five is the least that is of
/// use.
const MIN_FRAMERATE: f64 = 5.0;
/// Frames/s that suffice up to so many pixels (libwebrtc `DefaultConfigs`,
/// `rtc_base/experiments/balanced_degradation_settings.cc`).
const BALANCED: [(usize, f64); 3] = [(320 * 240, 7.0), (480 * 360, 10.0), (640 * 480, 15.0)];
/// One step of `balanced` at most halves the frame rate. libwebrtc's goes to the table's at once, which is the same for 30
/// frames/s; from 120 it would be an eighth of the cost, and no quality scaler could hold either side of it.
const BALANCED_DOWN: f64 = 1.0 / 2.0;
/// A step that saves less than a tenth is none: the frame rate of a source is measured, and trembles.
const LEAST_SAVING: f64 = 0.9;
/// Source rates above it count as this, so that the steps are bounded.
const MAX_FRAMERATE: f64 = 240.0;

impl Ladder {
    /// The steps down from pictures of `source` at `framerate`. A rate that is no positive finite number is unknown, and no
    /// step lowers it.
    pub(crate) fn new(preference: DegradationPreference, source: Resolution, framerate: f64) -> Self {
        let known = framerate.is_finite() && framerate > 0.0;
        let mut place = Place { source, scale: 1.0, framerate: known.then(|| framerate.min(MAX_FRAMERATE)) };
        let mut steps = Vec::new();
        let mut max_framerate = None;
        while let Some(next) = place.below(preference) {
            if next.framerate != place.framerate {
                max_framerate = next.framerate;
            }
            steps.push(Restriction { resolution: next.resolution(), max_framerate });
            place = next;
        }
        Self { source, steps }
    }

    /// How many steps there are.
    pub(crate) fn steps(&self) -> u8 {
        u8::try_from(self.steps.len()).unwrap_or(u8::MAX)
    }

    /// The restriction after so many steps down, at most all of them. After none it is the source.
    pub(crate) fn at(&self, step: u8) -> Restriction {
        match step.min(self.steps()).checked_sub(1) {
            Some(index) => self.steps[usize::from(index)],
            None => Restriction { resolution: self.source, max_framerate: None },
        }
    }
}

/// Where on the way down.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    source: Resolution,
    /// Of the source's sides.
    scale: f64,
    framerate: Option<f64>,
}

impl Place {
    fn below(self, preference: DegradationPreference) -> Option<Self> {
        match preference {
            DegradationPreference::Balanced => {
                let floor = self.balanced_framerate();
                floor.and_then(|floor| self.slower(BALANCED_DOWN, floor)).or_else(|| self.smaller())
            }
            DegradationPreference::MaintainFramerate => self.smaller(),
            DegradationPreference::MaintainResolution => self.slower(FRAMERATE_DOWN, MIN_FRAMERATE),
            DegradationPreference::Disabled => None,
        }
    }

    fn balanced_framerate(self) -> Option<f64> {
        let pixels = self.resolution().pixels();
        BALANCED.iter().find(|(up_to, _)| pixels <= *up_to).map(|(_, framerate)| *framerate)
    }

    fn slower(self, factor: f64, floor: f64) -> Option<Self> {
        let framerate = self.framerate?;
        let lower = (framerate * factor).floor().max(floor);
        (lower <= framerate * LEAST_SAVING).then_some(Self { framerate: Some(lower), ..self })
    }

    fn smaller(self) -> Option<Self> {
        let most = self.pixels() * PIXELS_DOWN;
        if most < MIN_PIXELS {
            return None;
        }
        let mut next = self;
        // libwebrtc `FindScale`, `media/base/video_adapter.cc`: ×3/4 and ×2/3 in turn, so that the sides stay divisible.
        while next.pixels() > most {
            let is_power_of_half = next.scale.log2().fract() == 0.0;
            next.scale = if is_power_of_half { next.scale * 3.0 / 4.0 } else { next.scale * 2.0 / 3.0 };
        }
        next.sides().map(|_| next)
    }

    /// Not rounded to sides.
    fn pixels(self) -> f64 {
        self.source.pixels() as f64 * self.scale * self.scale
    }

    fn resolution(self) -> Resolution {
        self.sides().unwrap_or(self.source)
    }

    /// Even sides. The longer one follows from the shorter: rounding the shorter changes the aspect most. `None` where it
    /// would be shorter than a picture's may be.
    fn sides(self) -> Option<Resolution> {
        let (width, height) = (f64::from(self.source.width()), f64::from(self.source.height()));
        let (longer, shorter) = (width.max(height), width.min(height));
        let short = (shorter * self.scale / 2.0).floor() * 2.0;
        let long = (short * longer / shorter / 2.0).round() * 2.0;
        let (short, long) = (short as u32, long as u32);
        if width >= height { Resolution::new(long, short) } else { Resolution::new(short, long) }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ladder(preference: DegradationPreference, width: u32, height: u32, framerate: f64) -> Vec<String> {
        let ladder = Ladder::new(preference, Resolution::new(width, height).unwrap(), framerate);
        let text = |at: Restriction| match at.max_framerate {
            Some(max) => format!("{}@{max}", at.resolution),
            None => at.resolution.to_string(),
        };
        (0..=ladder.steps()).map(|step| text(ladder.at(step))).collect()
    }

    #[test]
    fn maintain_framerate_gives_up_pixels() {
        let preference = DegradationPreference::MaintainFramerate;
        let hd = ["1280x720", "960x540", "640x360", "480x270", "320x180"];
        assert_eq!(ladder(preference, 1280, 720, 30.0), hd);
        assert_eq!(ladder(preference, 640, 480, 30.0), ["640x480", "480x360", "320x240"]);
        assert_eq!(ladder(preference, 720, 1280, 30.0).last().unwrap(), "180x320");
    }

    #[test]
    fn maintain_resolution_gives_up_frames() {
        let preference = DegradationPreference::MaintainResolution;
        let steps = ["1280x720", "1280x720@20", "1280x720@13", "1280x720@8", "1280x720@5"];
        assert_eq!(ladder(preference, 1280, 720, 30.0), steps);
    }

    #[test]
    fn balanced_lowers_the_frame_rate_to_what_the_size_needs_before_the_size() {
        let preference = DegradationPreference::Balanced;
        let steps =
            ["1280x720", "960x540", "640x360", "640x360@15", "480x270@15", "480x270@10", "320x180@10", "320x180@7"];
        assert_eq!(ladder(preference, 1280, 720, 30.0), steps);
        assert_eq!(ladder(preference, 640, 480, 60.0)[1..3], ["640x480@30", "640x480@15"]);
    }

    #[test]
    fn a_source_at_the_floor_and_a_disabled_one_have_no_steps() {
        assert_eq!(ladder(DegradationPreference::MaintainFramerate, 320, 180, 30.0), ["320x180"]);
        assert_eq!(ladder(DegradationPreference::MaintainResolution, 320, 180, 5.2), ["320x180"]);
        assert_eq!(ladder(DegradationPreference::Balanced, 320, 180, 7.0), ["320x180"]);
        assert_eq!(ladder(DegradationPreference::Disabled, 4096, 4096, 240.0), ["4096x4096"]);
        let ladder = Ladder::new(DegradationPreference::default(), Resolution::new(1280, 720).unwrap(), 30.0);
        assert_eq!(ladder.at(u8::MAX), ladder.at(ladder.steps()), "beyond the last step is the last step");
    }

    proptest! {
        #[test]
        fn every_step_is_cheaper_and_looks_like_the_source(
            preference in prop::sample::select(&DegradationPreference::ALL[..]),
            width in 8..=2_048u32,
            height in 8..=2_048u32,
            framerate in prop_oneof![0.5..300.0f64, any::<f64>()],
        ) {
            let source = Resolution::new(width * 2, height * 2).unwrap();
            let ladder = Ladder::new(preference, source, framerate);
            prop_assert!(ladder.steps() <= 16, "{ladder:?}");
            prop_assert_eq!(ladder.at(0), Restriction { resolution: source, max_framerate: None });
            let nominal = if framerate.is_finite() && framerate > 0.0 { framerate.min(MAX_FRAMERATE) } else { 30.0 };
            let cost = |at: Restriction| at.resolution.pixels() as f64 * at.max_framerate.unwrap_or(nominal);
            for step in 1..=ladder.steps() {
                let (before, at) = (ladder.at(step - 1), ladder.at(step));
                prop_assert!(cost(at) <= cost(before) * LEAST_SAVING, "{before:?} to {at:?}");
                // What the governor counts on before it lets a track up.
                prop_assert!(cost(at) >= cost(before) / 2.6, "{before:?} to {at:?}");
                let aspect = |of: Resolution| f64::from(of.width()) / f64::from(of.height());
                let change = aspect(at.resolution) / aspect(source);
                prop_assert!((change - 1.0).abs() < 0.02, "{} from {source}", at.resolution);
                if at.resolution != source {
                    prop_assert!(at.resolution.pixels() as f64 >= MIN_PIXELS * 0.65, "{at:?}");
                }
                prop_assert!(at.max_framerate.is_none_or(|max| max >= MIN_FRAMERATE));
            }
        }
    }
}
