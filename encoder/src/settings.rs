use std::ops::RangeInclusive;

use lenscast_media::{Bitrate, Resolution};

use crate::{Backend, BuildEncoderError, TemporalLayers};

/// Legal targets. The floor is where a picture stops being one, a third of libwebrtc's own
/// (`kDefaultMinVideoBitrateBps` in `rtc_base/experiments/min_video_bitrate_experiment.cc`); the ceiling is four times
/// what 4K at 30 fps needs, and far from where the libraries' 32-bit rate arithmetic ends.
pub const BITRATES: RangeInclusive<Bitrate> = Bitrate::from_kbps(10)..=Bitrate::from_kbps(100_000);

/// Legal nominal frame rates in frames/s.
pub const FRAMERATES: RangeInclusive<f64> = 1.0..=240.0;

/// What an encoder is built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderSettings {
    /// The library and codec.
    pub backend: Backend,
    /// The size of every picture.
    pub resolution: Resolution,
    /// Nominal frames/s, within [`FRAMERATES`]. The rate control goes by each frame's own timing; this is what it
    /// expects before the first, and what stands in where a timestamp makes no sense.
    pub framerate: f64,
    /// The target, within [`BITRATES`].
    pub bitrate: Bitrate,
    /// More than one only of a backend that [changes its rate in place](Backend::changes_bitrate_in_place).
    pub temporal_layers: TemporalLayers,
}

impl EncoderSettings {
    /// The time between two frames at the nominal rate.
    #[cfg(any(feature = "vpx", feature = "h264"))]
    pub(crate) fn frame_interval(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(1.0 / self.framerate)
    }

    /// Refuses what the backend cannot do.
    pub(crate) fn validate(&self) -> Result<(), BuildEncoderError> {
        let Self { backend, resolution, framerate, bitrate, temporal_layers } = *self;
        if !is_legal_bitrate(bitrate) {
            return Err(BuildEncoderError::Bitrate { backend, bitrate });
        }
        // NaN is in no range.
        if !FRAMERATES.contains(&framerate) {
            return Err(BuildEncoderError::Framerate { backend, framerate });
        }
        if temporal_layers != TemporalLayers::One && backend == Backend::VpxEncode {
            return Err(BuildEncoderError::TemporalLayers { backend, temporal_layers });
        }
        let (longer, shorter) = largest_size(backend);
        let (width, height) = (resolution.width(), resolution.height());
        if width.max(height) > longer || width.min(height) > shorter {
            return Err(BuildEncoderError::Resolution { backend, resolution, longer, shorter });
        }
        Ok(())
    }
}

/// The longer and the shorter side in pixels, at most.
const fn largest_size(backend: Backend) -> (u32, u32) {
    match backend {
        // openh264's README; level 5.2 ends there. The crate checks the same (`Encoder::reinit`), but only with the
        // first picture.
        Backend::H264 => (3840, 2160),
        _ => (Resolution::MAX_SIDE, Resolution::MAX_SIDE),
    }
}

pub(crate) fn is_legal_bitrate(bitrate: Bitrate) -> bool {
    BITRATES.contains(&bitrate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut EncoderSettings)) -> String {
        let mut settings = EncoderSettings {
            backend: Backend::H264,
            resolution: Resolution::new(1280, 720).unwrap(),
            framerate: 30.0,
            bitrate: Bitrate::from_kbps(1_500),
            temporal_layers: TemporalLayers::One,
        };
        assert_eq!(settings.validate(), Ok(()));
        change(&mut settings);
        settings.validate().unwrap_err().to_string()
    }

    fn assert_names(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    #[test]
    fn an_absurd_bitrate_is_refused_with_its_value_and_the_range() {
        for bps in [0, 1, 9_999, 100_000_001, 10_000_000_000, u64::MAX] {
            let text = refusal(|settings| settings.bitrate = Bitrate::from_bps(bps));
            assert_names(&text, &["h264", "bitrate", &bps.to_string(), "10000 to 100000000 b/s"]);
        }
    }

    #[test]
    fn an_absurd_framerate_is_refused_with_its_value_and_the_range() {
        for framerate in [f64::NAN, 0.0, -30.0, 0.99, 240.1, 1e9, f64::INFINITY, f64::NEG_INFINITY] {
            let text = refusal(|settings| settings.framerate = framerate);
            assert_names(&text, &["h264", "framerate", &framerate.to_string(), "1 to 240 frames/s"]);
        }
    }

    #[test]
    fn h264_is_refused_beyond_its_largest_level_lying_and_standing() {
        for (width, height) in [(4096, 2160), (2160, 4096), (3840, 2162), (2162, 3840), (4096, 16)] {
            let text = refusal(|settings| settings.resolution = Resolution::new(width, height).unwrap());
            assert_names(&text, &["h264", "resolution", &format!("{width}x{height}"), "3840", "2160"]);
        }
    }

    #[test]
    fn the_fallback_has_one_temporal_layer_and_all_others_up_to_three() {
        for layers in [TemporalLayers::Two, TemporalLayers::Three] {
            let text = refusal(|settings| (settings.backend, settings.temporal_layers) = (Backend::VpxEncode, layers));
            assert_names(&text, &["vpx-encode", "temporal_layers", &layers.to_string(), "L1T1"]);
        }
        for backend in Backend::ALL.into_iter().filter(|backend| backend.changes_bitrate_in_place()) {
            for temporal_layers in TemporalLayers::ALL {
                let resolution = Resolution::new(320, 180).unwrap();
                let bitrate = Bitrate::from_kbps(500);
                let settings = EncoderSettings { backend, resolution, framerate: 30.0, bitrate, temporal_layers };
                assert_eq!(settings.validate(), Ok(()));
            }
        }
    }
}
