//! H.264 over openh264, built from its source: constrained baseline, one slice a frame, Annex B.
//!
//! openh264's rate control (`RC_BITRATE_MODE`, `codec/encoder/core/src/ratectl.cpp`) shares bits out by a frame rate
//! that it is told, not by timestamps, and knows none above 60. So the rate at which frames really come is measured
//! here and told to it; above 60 it is told 60 and a target that is smaller in proportion. (`RC_TIMESTAMP_MODE` goes by
//! timestamps, but drops up to 24 frames of 30 after a fall of the target.)
//!
//! **Invariants.** Every key frame is an IDR frame with its SPS and PPS in front. openh264 prints nothing.
//!
//! What it does not do: tell quantizers (openh264 has them only as statistics).

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::Duration;

use lenscast_media::{Bitrate, Picture};
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, QpRange,
    RateControlMode, SpsPpsStrategy, UsageType,
};
use openh264::formats::YUVSource;
use openh264::{OpenH264API, Timestamp};

use crate::EncoderSettings;
use crate::frame_clock::FrameTime;
use crate::live_encoder::{FrameInfo, Library, LibraryError};

/// The highest frame rate that openh264 reckons with (`MAX_FRAME_RATE` in `codec/encoder/core/inc/wels_const.h`).
const MAX_FRAME_RATE: f64 = 60.0;

/// `WELS_LOG_QUIET` in `codec/api/wels/codec_app_def.h`.
const LOG_QUIET: c_int = 0;

pub(crate) struct OpenH264 {
    encoder: Encoder,
    settings: EncoderSettings,
    /// openh264 initialises itself with the first picture, and takes options only then.
    running: bool,
    pace: Pace,
    output: Vec<u8>,
}

impl Library for OpenH264 {
    const LIMITS_KEY_FRAMES: bool = true;
    const RESTARTS: bool = true;

    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError> {
        let pace = Pace::new(settings.framerate);
        let encoder = start_encoder(settings, &pace)?;
        Ok(Self { encoder, settings: *settings, running: false, pace, output: Vec::new() })
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        self.output.clear();
        if self.running {
            let rises = target > self.settings.bitrate;
            self.set_rate(self.pace.scaled(target), rises)?;
        } else {
            self.encoder = start_encoder(&EncoderSettings { bitrate: target, ..self.settings }, &self.pace)?;
        }
        self.settings.bitrate = target;
        Ok(())
    }

    fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        key_frame: bool,
    ) -> Result<Option<FrameInfo>, LibraryError> {
        self.output.clear();
        let told = self.pace.told;
        if self.pace.measure(time.start) && self.running {
            Setting::FrameRate(self.pace.frame_rate() as f32).apply(&mut self.encoder)?;
            if self.pace.told.max(told) > MAX_FRAME_RATE {
                let rises = self.pace.told < told;
                self.set_rate(self.pace.scaled(self.settings.bitrate), rises)?;
            }
        }
        if key_frame && self.running {
            self.encoder.force_intra_frame();
        }
        let milliseconds =
            u64::try_from(time.start.as_millis()).expect("an encoder runs for less than 584 million years");
        let encoded = self.encoder.encode_at(&Planar(picture), Timestamp::from_millis(milliseconds));
        let encoded = encoded.map_err(|error| call_error("encoding", error.to_string()))?;
        self.running = true;
        let key_frame = match encoded.frame_type() {
            FrameType::IDR => true,
            FrameType::I | FrameType::P | FrameType::IPMixed => false,
            FrameType::Skip => return Ok(None),
            FrameType::Invalid => return Err(call_error("encoding", "openh264 made no frame of it".into())),
        };
        encoded.write_vec(&mut self.output);
        Ok(Some(FrameInfo { key_frame, quantizer: None }))
    }

    fn output(&self) -> &[u8] {
        &self.output
    }
}

impl OpenH264 {
    /// Sets target and maximum, which are the same here: openh264 refuses a maximum below the target.
    fn set_rate(&mut self, bits_per_second: c_int, rises: bool) -> Result<(), LibraryError> {
        let (target, maximum) = (Setting::Bitrate(bits_per_second), Setting::MaxBitrate(bits_per_second));
        for setting in if rises { [maximum, target] } else { [target, maximum] } {
            setting.apply(&mut self.encoder)?;
        }
        Ok(())
    }
}

/// What is set in a running encoder.
#[derive(Debug, Clone, Copy)]
enum Setting {
    FrameRate(f32),
    /// In bits/s.
    Bitrate(c_int),
    /// In bits/s.
    MaxBitrate(c_int),
    TraceLevel(c_int),
}

/// `SBitrateInfo` in `codec/api/wels/codec_app_def.h`.
#[repr(C)]
struct LayerBitrate {
    /// `SPATIAL_LAYER_0`, the only one there is.
    layer: c_int,
    bits_per_second: c_int,
}

impl Setting {
    fn apply(self, encoder: &mut Encoder) -> Result<(), LibraryError> {
        let result = match self {
            Self::FrameRate(mut rate) => self.set(encoder, ptr::from_mut(&mut rate).cast()),
            Self::Bitrate(bits_per_second) | Self::MaxBitrate(bits_per_second) => {
                self.set(encoder, ptr::from_mut(&mut LayerBitrate { layer: 0, bits_per_second }).cast())
            }
            Self::TraceLevel(mut level) => self.set(encoder, ptr::from_mut(&mut level).cast()),
        };
        if result == 0 {
            return Ok(());
        }
        Err(call_error("setting an option", format!("openh264 answered {result} to {self:?}")))
    }

    fn set(self, encoder: &mut Encoder, value: *mut c_void) -> c_int {
        // SAFETY: `apply` passes a value of the type that openh264 reads for the option (`SetOption` in
        // `codec/encoder/plus/src/welsEncoderExt.cpp`); it keeps no pointer to it. None of these options is one the
        // crate relies on.
        unsafe { encoder.raw_api().set_option(self.option(), value) }
    }

    /// Of `ENCODER_OPTION` in `codec/api/wels/codec_app_def.h`.
    const fn option(self) -> c_int {
        match self {
            Self::FrameRate(_) => 4,
            Self::Bitrate(_) => 5,
            Self::MaxBitrate(_) => 6,
            Self::TraceLevel(_) => 25,
        }
    }
}

fn start_encoder(settings: &EncoderSettings, pace: &Pace) -> Result<Encoder, LibraryError> {
    let target = u32::try_from(pace.scaled(settings.bitrate)).expect("a legal target is positive");
    let config = EncoderConfig::new()
        .usage_type(UsageType::CameraVideoRealTime)
        .profile(Profile::Baseline)
        .complexity(Complexity::Low)
        .num_threads(1)
        .rate_control_mode(RateControlMode::Bitrate)
        .bitrate(BitRate::from_bps(target))
        .max_frame_rate(FrameRate::from_hz(pace.frame_rate() as f32))
        .skip_frames(true)
        // The whole range that openh264 has: left at its default, it stops at 42 and drops frames instead.
        .qp(QpRange::new(12, 51))
        // Key frames only on demand: openh264 would make one of every change of scene.
        .intra_frame_period(IntraFramePeriod::from_num_frames(0))
        .scene_change_detect(false)
        .sps_pps_strategy(SpsPpsStrategy::ConstantId);
    let encoder = Encoder::with_api_config(OpenH264API::from_source(), config);
    let mut encoder = encoder.map_err(|error| call_error("initialising", error.to_string()))?;
    // The crate does so too, but only after openh264 has had its say on the configuration.
    Setting::TraceLevel(LOG_QUIET).apply(&mut encoder)?;
    Ok(encoder)
}

fn call_error(operation: &'static str, detail: String) -> LibraryError {
    LibraryError { operation, detail }
}

/// The rate at which frames come.
#[derive(Debug)]
struct Pace {
    last: Option<Duration>,
    /// Smoothed over eight frames, in seconds.
    interval: f64,
    /// The frame rate that openh264 goes by, in frames/s, before it is clipped.
    told: f64,
}

impl Pace {
    /// Openh264 is told anew when it is wrong by more than this.
    const TOLERANCE: f64 = 0.05;

    fn new(framerate: f64) -> Self {
        Self { last: None, interval: 1.0 / framerate, told: framerate }
    }

    /// Takes the time of the next frame. True if openh264 must be told of a new rate.
    fn measure(&mut self, start: Duration) -> bool {
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
    fn frame_rate(&self) -> f64 {
        self.told.clamp(1.0, MAX_FRAME_RATE)
    }

    /// What `target` is at that rate, in bits/s.
    fn scaled(&self, target: Bitrate) -> c_int {
        let bits = target.as_bps() as f64 * (MAX_FRAME_RATE / self.told).min(1.0);
        // Saturates, and openh264 wants at least a bit a frame.
        (bits as c_int).max(MAX_FRAME_RATE as c_int)
    }
}

/// A [`Picture`] as the crate wants to see it.
struct Planar<'a>(&'a Picture);

impl YUVSource for Planar<'_> {
    fn dimensions(&self) -> (usize, usize) {
        let resolution = self.0.resolution();
        (resolution.width() as usize, resolution.height() as usize)
    }

    fn strides(&self) -> (usize, usize, usize) {
        let width = self.0.resolution().width() as usize;
        (width, width / 2, width / 2)
    }

    fn y(&self) -> &[u8] {
        self.0.planes().y
    }

    fn u(&self) -> &[u8] {
        self.0.planes().u
    }

    fn v(&self) -> &[u8] {
        self.0.planes().v
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
