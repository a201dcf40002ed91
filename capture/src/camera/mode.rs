//! Which of the formats, sizes and rates that a camera offers is taken.
//!
//! A pure function: what the device says and what is wanted in, one mode out. A size is worth more than a rate, and a rate
//! more than cheap conversion, because a viewer sees the first at once and the last never.
//!
//! **Invariants.** A mode is only chosen from what is offered; whatever is offered, nothing panics. A configured format is
//! obeyed or refused, never replaced.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use lenscast_media::Resolution;

use crate::camera::abi;
use crate::{CameraConfig, FrameRate, PixelFormat};

/// The values `min`, `min + step`, … up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The least.
    pub min: u32,
    /// The greatest; equal to `min` if there is one only.
    pub max: u32,
    /// At least 1.
    pub step: u32,
}

/// Sizes that a camera offers in one format, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRange {
    /// The widths, each with each height.
    pub widths: Steps,
    /// The heights.
    pub heights: Steps,
}

/// The time of one frame in seconds, as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Above the line.
    pub numerator: u32,
    /// Below the line.
    pub denominator: u32,
}

/// Frame intervals that a camera offers at one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntervalRange {
    /// The highest rate.
    pub shortest: Interval,
    /// The lowest rate; equal to `shortest` if there is one only.
    pub longest: Interval,
}

/// What a camera offers in one format that this program can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) format: PixelFormat,
    /// The driver's own name for the format.
    pub(crate) fourcc: u32,
    pub(crate) sizes: Vec<(SizeRange, Vec<IntervalRange>)>,
}

/// One way for a camera to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) format: PixelFormat,
    pub(crate) fourcc: u32,
    pub(crate) resolution: Resolution,
    /// `None` if the camera does not say which it offers.
    pub(crate) interval: Option<Interval>,
}

/// Intervals less than a hundredth apart are the same rate: 30 and 30000/1001.
const SAME_RATE: u64 = 100;

/// The offered mode that is nearest to what is wanted: in size; then in rate, where too fast is better than too slow;
/// then the cheapest to convert. `None` if nothing is offered that this program can use.
pub(crate) fn choose(offers: &[Offer], wanted: &CameraConfig) -> Option<Mode> {
    let size = wanted.resolution.unwrap_or(CameraConfig::DEFAULT_RESOLUTION);
    let rate = wanted.rate.unwrap_or(CameraConfig::DEFAULT_RATE);
    offers
        .iter()
        .filter(|offer| wanted.format.is_none_or(|format| format == offer.format))
        .flat_map(|offer| offer.sizes.iter().map(move |sizes| (offer, sizes)))
        .filter_map(|(offer, (range, intervals))| {
            let resolution = range.nearest(size)?;
            let interval = intervals.iter().filter_map(|range| range.nearest(rate)).min_by_key(|i| i.unlike(rate));
            Some(Mode { format: offer.format, fourcc: offer.fourcc, resolution, interval })
        })
        .min_by_key(|mode| {
            let distance =
                mode.resolution.width().abs_diff(size.width()) + mode.resolution.height().abs_diff(size.height());
            let rate = mode.interval.map_or((0, 0), |interval| interval.unlike(rate));
            (distance, Reverse(mode.resolution.pixels()), rate, cost(mode.format))
        })
}

/// Which format a driver's code stands for.
pub(crate) fn pixel_format(fourcc: u32) -> Option<PixelFormat> {
    match fourcc {
        abi::PIX_FMT_NV12 => Some(PixelFormat::Nv12),
        abi::PIX_FMT_YUYV => Some(PixelFormat::Yuyv),
        abi::PIX_FMT_MJPEG | abi::PIX_FMT_JPEG => Some(PixelFormat::Mjpeg),
        _ => None,
    }
}

const fn cost(format: PixelFormat) -> u8 {
    match format {
        PixelFormat::Nv12 => 0,
        PixelFormat::Yuyv => 1,
        PixelFormat::Mjpeg => 2,
    }
}

impl Steps {
    /// One value only.
    #[must_use]
    pub const fn one(value: u32) -> Self {
        Self { min: value, max: value, step: 1 }
    }

    /// What a driver says, which may be nonsense: a step of 0 is none, and a `max` below `min` is `min`.
    pub(crate) const fn new(min: u32, max: u32, step: u32) -> Self {
        Self { min, max: if max < min { min } else { max }, step: if step == 0 { 1 } else { step } }
    }

    /// The even value nearest to `wanted`, if there is one.
    fn nearest_even(self, wanted: u32) -> Option<u32> {
        let wanted = wanted.clamp(self.min, self.max);
        let down = wanted - (wanted - self.min) % self.step;
        let candidates = [
            Some(down),
            down.checked_add(self.step),
            down.checked_sub(self.step),
            down.checked_add(self.step).and_then(|up| up.checked_add(self.step)),
        ];
        let offered = |value: &u32| (self.min..=self.max).contains(value) && value.is_multiple_of(2);
        candidates.into_iter().flatten().filter(offered).min_by_key(|value| value.abs_diff(wanted))
    }
}

impl SizeRange {
    /// The size nearest to `wanted` that a picture can have, if there is one.
    pub(crate) fn nearest(&self, wanted: Resolution) -> Option<Resolution> {
        Resolution::new(self.widths.nearest_even(wanted.width())?, self.heights.nearest_even(wanted.height())?)
    }
}

impl Interval {
    /// `None` if it is no time at all, or longer than a minute.
    pub(crate) fn duration(self) -> Option<Duration> {
        let nanos = u64::from(self.numerator).checked_mul(1_000_000_000)?.checked_div(u64::from(self.denominator))?;
        (1..=60_000_000_000).contains(&nanos).then_some(Duration::from_nanos(nanos))
    }

    /// How bad it is instead of `rate`: first by how much too slow, then by how much too fast, in nanoseconds a frame.
    fn unlike(self, rate: FrameRate) -> (u64, u64) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let wanted = nanos(rate.time_of(1));
        let own = self.duration().map_or(u64::MAX, nanos);
        if own.abs_diff(wanted) <= wanted / SAME_RATE {
            return (0, 0);
        }
        (own.saturating_sub(wanted), wanted.saturating_sub(own))
    }
}

impl IntervalRange {
    /// The interval of `rate` if that is within the range, otherwise the end that is nearer. `None` if it is none.
    fn nearest(self, rate: FrameRate) -> Option<Interval> {
        let (shortest, longest) = (self.shortest.duration()?, self.longest.duration()?);
        let wanted = rate.time_of(1);
        Some(if wanted <= shortest || shortest >= longest {
            self.shortest
        } else if wanted >= longest {
            self.longest
        } else {
            Interval { numerator: rate.denominator(), denominator: rate.numerator() }
        })
    }
}

impl From<abi::Fract> for Interval {
    fn from(fract: abi::Fract) -> Self {
        Self { numerator: fract.numerator, denominator: fract.denominator }
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { min, max, .. } if min == max => write!(f, "{min}"),
            Self { min, max, step } => write!(f, "{min}..{max}+{step}"),
        }
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.widths, self.heights)
    }
}

impl fmt::Display for Interval {
    /// As a rate, which is how people speak of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numerator {
            1 => write!(f, "{}", self.denominator),
            _ => write!(f, "{}/{}", self.denominator, self.numerator),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CameraSelector;
    use PixelFormat::{Mjpeg, Nv12, Yuyv};

    fn fourcc(format: PixelFormat) -> u32 {
        match format {
            Nv12 => abi::PIX_FMT_NV12,
            Yuyv => abi::PIX_FMT_YUYV,
            Mjpeg => abi::PIX_FMT_MJPEG,
        }
    }

    /// Sizes with the rates offered at each.
    fn offer(format: PixelFormat, sizes: &[(u32, u32, &[u32])]) -> Offer {
        let one = |rate: &u32| Interval { numerator: 1, denominator: *rate };
        let sizes = sizes.iter().map(|(width, height, rates)| {
            let intervals =
                rates.iter().map(|rate| IntervalRange { shortest: one(rate), longest: one(rate) }).collect();
            (SizeRange { widths: Steps::one(*width), heights: Steps::one(*height) }, intervals)
        });
        Offer { format, fourcc: fourcc(format), sizes: sizes.collect() }
    }

    /// A webcam as they are: raw formats are slow at high sizes.
    fn webcam() -> Vec<Offer> {
        vec![
            offer(Yuyv, &[(640, 480, &[30, 15]), (1280, 720, &[10, 5])]),
            offer(Mjpeg, &[(640, 480, &[60, 30]), (1280, 720, &[30, 15]), (1920, 1080, &[30])]),
        ]
    }

    fn wanted(size: Option<(u32, u32)>, rate: Option<u32>, format: Option<PixelFormat>) -> CameraConfig {
        CameraConfig {
            resolution: size.map(|(width, height)| Resolution::new(width, height).unwrap()),
            rate: rate.map(|rate| FrameRate::whole(rate).unwrap()),
            format,
            ..CameraConfig::new(CameraSelector::Index(0))
        }
    }

    /// Format, size and rate of the mode chosen from a webcam.
    fn chosen(wanted: &CameraConfig) -> (PixelFormat, String, String) {
        let mode = choose(&webcam(), wanted).unwrap();
        (mode.format, mode.resolution.to_string(), mode.interval.unwrap().to_string())
    }

    #[test]
    fn the_nearest_size_then_the_rate_then_the_cheapest_format() {
        for (size, rate, format, expected) in [
            (None, None, None, (Mjpeg, "1280x720", "30")),
            (Some((640, 480)), Some(30), None, (Yuyv, "640x480", "30")),
            (Some((640, 480)), Some(60), None, (Mjpeg, "640x480", "60")),
            (Some((1280, 720)), Some(10), None, (Yuyv, "1280x720", "10")),
            (Some((1280, 720)), Some(15), None, (Mjpeg, "1280x720", "15")),
            (Some((1280, 720)), Some(30), Some(Yuyv), (Yuyv, "1280x720", "10")),
            (Some((1920, 1080)), Some(30), Some(Yuyv), (Yuyv, "1280x720", "10")),
            (Some((3840, 2160)), None, None, (Mjpeg, "1920x1080", "30")),
            (Some((320, 240)), Some(20), None, (Yuyv, "640x480", "30")),
            (Some((640, 480)), Some(240), None, (Mjpeg, "640x480", "60")),
        ] {
            let got = chosen(&wanted(size, rate, format));
            assert_eq!((got.0, got.1.as_str(), got.2.as_str()), expected, "{size:?} {rate:?} {format:?}");
        }
    }

    #[test]
    fn a_format_that_is_not_offered_is_not_replaced() {
        assert_eq!(choose(&webcam(), &wanted(None, None, Some(Nv12))), None);
        assert_eq!(choose(&[], &wanted(None, None, None)), None);
    }

    #[test]
    fn ntsc_rates_count_as_whole_ones() {
        let ntsc = Interval { numerator: 1_001, denominator: 30_000 };
        let size = SizeRange { widths: Steps::one(720), heights: Steps::one(480) };
        let raw = Offer {
            format: Yuyv,
            fourcc: abi::PIX_FMT_YUYV,
            sizes: vec![(size, vec![IntervalRange { shortest: ntsc, longest: ntsc }])],
        };
        let mode = choose(&[offer(Mjpeg, &[(720, 480, &[30])]), raw], &wanted(None, Some(30), None)).unwrap();
        assert_eq!((mode.format, mode.interval), (Yuyv, Some(ntsc)));
    }

    #[test]
    fn ranges_of_sizes_and_rates_give_what_is_wanted_or_their_nearest_end() {
        let range = IntervalRange {
            shortest: Interval { numerator: 1, denominator: 90 },
            longest: Interval { numerator: 1, denominator: 5 },
        };
        let size = SizeRange { widths: Steps::new(32, 2_592, 2), heights: Steps::new(32, 1_944, 2) };
        let offers = [Offer { format: Nv12, fourcc: abi::PIX_FMT_NV12, sizes: vec![(size, vec![range])] }];
        for (size, rate, expected_size, expected_rate) in
            [((1280, 720), 30, "1280x720", "30"), ((4096, 4096), 240, "2592x1944", "90"), ((16, 16), 1, "32x32", "5")]
        {
            let mode = choose(&offers, &wanted(Some(size), Some(rate), None)).unwrap();
            assert_eq!(mode.resolution.to_string(), expected_size);
            assert_eq!(mode.interval.unwrap().to_string(), expected_rate);
        }
    }

    #[test]
    fn a_camera_that_does_not_tell_its_rates_is_taken_as_it_is() {
        let mode = choose(&[offer(Nv12, &[(640, 480, &[])])], &wanted(None, None, None)).unwrap();
        assert_eq!(mode.interval, None);
    }

    fn steps() -> impl Strategy<Value = Steps> {
        let number = || prop_oneof![0_u32..5_000, any::<u32>()];
        (number(), number(), number()).prop_map(|(min, max, step)| Steps::new(min, max, step))
    }

    fn intervals() -> impl Strategy<Value = Interval> {
        let number = || prop_oneof![0_u32..100, any::<u32>()];
        (number(), number()).prop_map(|(numerator, denominator)| Interval { numerator, denominator })
    }

    proptest! {
        #[test]
        fn whatever_a_driver_says_a_mode_lies_within_its_offer(
            sizes in prop::collection::vec(
                ((steps(), steps()), prop::collection::vec((intervals(), intervals()), 0..4)), 0..6
            ),
            width in 8_u32..=2_048, height in 8_u32..=2_048, rate in 1_u32..=240
        ) {
            let sizes: Vec<_> = sizes.into_iter().map(|((widths, heights), intervals)| {
                let intervals = intervals.into_iter().map(|(shortest, longest)| IntervalRange { shortest, longest });
                (SizeRange { widths, heights }, intervals.collect())
            }).collect();
            let offers = [Offer { format: Mjpeg, fourcc: abi::PIX_FMT_MJPEG, sizes: sizes.clone() }];
            let Some(mode) = choose(&offers, &wanted(Some((width * 2, height * 2)), Some(rate), None)) else {
                return Ok(());
            };
            let within = |steps: Steps, value: u32| {
                (steps.min..=steps.max).contains(&value) && (value - steps.min).is_multiple_of(steps.step)
            };
            let offered = sizes.iter().any(|(range, _)| {
                within(range.widths, mode.resolution.width()) && within(range.heights, mode.resolution.height())
            });
            prop_assert!(offered, "{:?} is not offered", mode);
        }
    }
}
