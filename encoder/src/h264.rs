//! H.264 over openh264, built from its source: constrained baseline, one slice a frame, Annex B.
//!
//! openh264's rate control (`RC_BITRATE_MODE`, `codec/encoder/core/src/ratectl.cpp`) shares bits out by a frame rate
//! that it is told, not by timestamps, and knows none above 60. So the rate at which frames really come is measured
//! here and told to it; above 60 it is told 60 and a target that is smaller in proportion. (`RC_TIMESTAMP_MODE` goes by
//! timestamps, but drops up to 24 frames of 30 after a fall of the target.)
//!
//! [`context`] is the only file that calls the library; the settings are here, [`pace`] is the measured rate, and [`quantizer`]
//! reads out of the bitstream what openh264 does not tell.
//!
//! **Invariants.** Every key frame is an IDR frame with its SPS and PPS in front. Of temporal layers, openh264's own
//! pattern is ours (`uiCodingIdx2TemporalId` in `codec/encoder/core/inc/param_svc.h`), and it too leaves a dropped
//! frame's place to the next.
//!
//! What it does not do: split the rate between the layers in shares of ours. openh264 has its own.

mod adjuster;
mod context;
mod pace;
mod quantizer;

use std::ffi::c_int;

use lenscast_media::{Bitrate, Picture};
use openh264_sys2::{
    CAMERA_VIDEO_REAL_TIME, CONSTANT_ID, LOW_COMPLEXITY, PRO_BASELINE, RC_BITRATE_MODE, SEncParamExt, SM_SINGLE_SLICE,
};

use self::adjuster::Adjuster;
use self::context::{Context, Setting};
use self::pace::{MAX_FRAME_RATE, Pace};
use self::quantizer::QuantizerReader;
use crate::EncoderSettings;
use crate::frame_clock::FrameTime;
use crate::live_encoder::{FrameInfo, Library, LibraryError};
use crate::temporal_layers::{LayerPattern, LayerPlace};

/// openh264 keeps the quantizer of a key frame within a range that goes by bits a pixel, and makes the first one by that
/// alone (`RcCalculateIdrQp`). So for a key frame it is told this fraction of its target, which coarsens the range by two
/// steps. At a smaller fraction it takes the key frame for a debt of seconds.
const KEY_FRAME_SHRINKS: c_int = 2;

/// Per cent of an average frame that a key frame aims at, after the first. openh264 misses it by up to a half, and four
/// average frames are the most.
const KEY_FRAME_PERCENT: c_int = 220;

pub(crate) struct OpenH264 {
    context: Context,
    target: Bitrate,
    /// What openh264 was told, in bits/s.
    told: c_int,
    pace: Pace,
    adjuster: Adjuster,
    pattern: LayerPattern,
    quantizers: QuantizerReader,
    output: Vec<u8>,
}

impl Library for OpenH264 {
    const KEEPS_BUDGET: bool = true;
    const RESTARTS: bool = true;

    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError> {
        let pace = Pace::new(settings.framerate);
        let context = Context::new(|parameters| configure(parameters, settings, &pace))?;
        let pattern = LayerPattern::new(settings.temporal_layers);
        let told = pace.scaled(settings.bitrate);
        Ok(Self {
            context,
            target: settings.bitrate,
            told,
            pace,
            adjuster: Adjuster::new(),
            pattern,
            quantizers: QuantizerReader::default(),
            output: Vec::new(),
        })
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        self.output.clear();
        self.adjuster.rescale(target.as_bps() as f64 / self.target.as_bps() as f64);
        self.tell_rate(target)?;
        self.target = target;
        Ok(())
    }

    fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        key_frame: bool,
    ) -> Result<Option<FrameInfo>, LibraryError> {
        self.output.clear();
        self.adjuster.advance(time.start, self.target);
        let told = self.pace.told;
        if self.pace.measure(time.start) {
            self.context.set(Setting::FrameRate(self.pace.frame_rate() as f32))?;
            if self.pace.told.max(told) > MAX_FRAME_RATE {
                self.tell_rate(self.target)?;
            }
        }
        if key_frame {
            self.context.force_key_frame();
            self.context.set(Setting::Bitrate((self.told / KEY_FRAME_SHRINKS).max(MAX_FRAME_RATE as c_int)))?;
        }
        let coded = self.context.encode(picture, time.start, &mut self.output)?;
        if key_frame {
            self.context.set(Setting::Bitrate(self.told))?;
        }
        let Some(coded) = coded else { return Ok(None) };
        let quantizer = self.quantizers.read(&self.output);
        if self.adjuster.measure(self.output.len(), coded.key_frame, quantizer, self.target) {
            self.tell_rate(self.target)?;
        }
        let LayerPlace { layer, sync } = self.pattern.place(coded.key_frame);
        debug_assert_eq!(coded.temporal_layer, layer, "openh264's pattern is ours");
        self.pattern.advance(coded.key_frame);
        let place = LayerPlace { layer: coded.temporal_layer, sync };
        Ok(Some(FrameInfo { key_frame: coded.key_frame, quantizer, place }))
    }

    fn output(&self) -> &[u8] {
        &self.output
    }
}

impl OpenH264 {
    /// Sets target and maximum, which are the same here: openh264 refuses a maximum below the target.
    fn tell_rate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        let bits_per_second = self.pace.scaled(self.adjuster.adjusted(target));
        let rises = bits_per_second > self.told;
        self.told = bits_per_second;
        let (target, maximum) = (Setting::Bitrate(bits_per_second), Setting::MaxBitrate(bits_per_second));
        for setting in if rises { [maximum, target] } else { [target, maximum] } {
            self.context.set(setting)?;
        }
        Ok(())
    }
}

fn configure(parameters: &mut SEncParamExt, settings: &EncoderSettings, pace: &Pace) {
    // `Resolution::MAX_SIDE` fits.
    let (width, height) = (settings.resolution.width() as c_int, settings.resolution.height() as c_int);
    let target = pace.scaled(settings.bitrate);
    let frame_rate = pace.frame_rate() as f32;
    parameters.iUsageType = CAMERA_VIDEO_REAL_TIME;
    parameters.iComplexityMode = LOW_COMPLEXITY;
    parameters.iMultipleThreadIdc = 1;
    parameters.iRCMode = RC_BITRATE_MODE;
    // Frames are dropped by the budget (`frame_budget`), which counts by real intervals and knows what a key frame costs.
    parameters.bEnableFrameSkip = false;
    (parameters.iPicWidth, parameters.iPicHeight) = (width, height);
    parameters.fMaxFrameRate = frame_rate;
    parameters.iTargetBitrate = target;
    // It carries debts on but no savings, and a debt that a key frame left in the middle of eight frames several times over.
    // What is too much is seen to by the adjuster.
    parameters.bFixRCOverShoot = false;
    parameters.iIdrBitrateRatio = KEY_FRAME_PERCENT * KEY_FRAME_SHRINKS;
    // The whole range that openh264 has: left at its default, it stops at 42 and drops frames instead.
    (parameters.iMinQp, parameters.iMaxQp) = (12, 51);
    // Key frames only on demand: openh264 would make one of every change of scene.
    parameters.uiIntraPeriod = 0;
    parameters.bEnableSceneChangeDetect = false;
    parameters.eSpsPpsIdStrategy = CONSTANT_ID;
    parameters.iLoopFilterDisableIdc = 0;
    parameters.iTemporalLayerNum = settings.temporal_layers.count().into();
    parameters.iSpatialLayerNum = 1;
    let layer = &mut parameters.sSpatialLayers[0];
    (layer.iVideoWidth, layer.iVideoHeight) = (width, height);
    layer.fFrameRate = frame_rate;
    (layer.iSpatialBitrate, layer.iMaxSpatialBitrate) = (target, target);
    layer.uiProfileIdc = PRO_BASELINE;
    layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
    layer.sSliceArgument.uiSliceNum = 1;
}
