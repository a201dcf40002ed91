//! VP8 and VP9 over libvpx.
//!
//! [`context`] is the only file that calls the library; [`vp8`] and [`vp9`] hold the settings of one codec each. What
//! both share is here, temporal layers among it: their part of the configuration, and the references of a frame.
//!
//! **Invariants.** What comes out was made from the picture just handed in: there is no lag and no invisible frame. A
//! new target takes effect between two frames, without a key frame. The frames of an upper layer change nothing that a
//! frame of a lower layer is decoded by: neither its references nor its probabilities.

mod context;
mod vp8;
mod vp9;

use lenscast_media::{Bitrate, Codec, Picture};
use vpx_sys::{
    VP8_EFLAG_NO_REF_ARF, VP8_EFLAG_NO_REF_GF, VP8_EFLAG_NO_UPD_ARF, VP8_EFLAG_NO_UPD_ENTROPY, VP8_EFLAG_NO_UPD_GF,
    VP8_EFLAG_NO_UPD_LAST, VPX_EFLAG_FORCE_KF, vp9e_temporal_layering_mode, vpx_codec_enc_cfg_t, vpx_enc_pass,
    vpx_kf_mode, vpx_rational, vpx_rc_mode,
};

use self::context::{Algorithm, Context, Control};
use crate::EncoderSettings;
use crate::frame_clock::FrameTime;
use crate::live_encoder::{FrameInfo, Library, LibraryError};
use crate::temporal_layers::{LayerPattern, LayerPlace, TemporalLayers};

/// A running encoder of either codec.
pub(crate) struct Vpx {
    algorithm: Algorithm,
    context: Context,
    target: Bitrate,
    layers: TemporalLayers,
    pattern: LayerPattern,
    /// Milliseconds of unspent bits that survive a steep fall of the target.
    savings_kept_in_a_fall: u32,
}

impl Library for Vpx {
    const KEEPS_BUDGET: bool = true;
    const RESTARTS: bool = false;

    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError> {
        let (algorithm, context, savings_kept_in_a_fall) = match settings.backend.codec() {
            Codec::Vp9 => (Algorithm::Vp9, vp9::start(settings)?, vp9::SAVINGS_KEPT_IN_A_FALL),
            _ => (Algorithm::Vp8, vp8::start(settings)?, vp8::SAVINGS_KEPT_IN_A_FALL),
        };
        let (target, layers) = (settings.bitrate, settings.temporal_layers);
        let pattern = LayerPattern::new(layers);
        Ok(Self { algorithm, context, target, layers, pattern, savings_kept_in_a_fall })
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        let layers = self.layers;
        if target.as_bps() < self.target.as_bps() / 4 * 3 {
            // A smaller buffer cuts off what is in it. Then it gets its size back, below.
            let (kept, size) = (self.savings_kept_in_a_fall, self.context.config().rc_buf_sz);
            self.context.reconfigure(|config| {
                config.rc_buf_sz = kept;
                set_target(config, target, layers);
            })?;
            self.context.reconfigure(|config| config.rc_buf_sz = size)?;
        } else {
            self.context.reconfigure(|config| set_target(config, target, layers))?;
        }
        self.target = target;
        Ok(())
    }

    fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        key_frame: bool,
    ) -> Result<Option<FrameInfo>, LibraryError> {
        let place = self.pattern.place(key_frame);
        let mut flags = if key_frame { VPX_EFLAG_FORCE_KF } else { 0 };
        if self.layers != TemporalLayers::One {
            match self.algorithm {
                Algorithm::Vp8 => self.context.set(Control::TemporalLayerId, place.layer.into())?,
                Algorithm::Vp9 => self.context.set_layer_of_next_frame(place.layer)?,
            }
            if !key_frame {
                flags |= references(place, self.layers);
            }
        }
        let Some(coded) = self.context.encode(picture, time, flags)? else { return Ok(None) };
        self.pattern.advance(coded.key_frame);
        Ok(Some(FrameInfo { key_frame: coded.key_frame, quantizer: coded.quantizer, place }))
    }

    fn output(&self) -> &[u8] {
        self.context.output()
    }
}

/// One pass of real-time CBR on one thread, without lag, key frames only on demand.
fn shared_config(config: &mut vpx_codec_enc_cfg_t, settings: &EncoderSettings) {
    config.g_w = settings.resolution.width();
    config.g_h = settings.resolution.height();
    config.g_threads = 1;
    config.g_profile = 0;
    config.g_timebase = vpx_rational { num: 1, den: 1_000_000 };
    config.g_pass = vpx_enc_pass::VPX_RC_ONE_PASS;
    config.g_lag_in_frames = 0;
    // A lost packet is sent again, or a key frame follows: resilience would only cost bits.
    config.g_error_resilient = 0;
    config.kf_mode = vpx_kf_mode::VPX_KF_DISABLED;
    config.rc_end_usage = vpx_rc_mode::VPX_CBR;
    config.rc_resize_allowed = 0;
    config.rc_dropframe_thresh = 30;
    // The whole range. libwebrtc stops at 56 (VP8) and 52 (VP9), for better still frames; here a driver would rather
    // have coarse pictures than none: measured on noisy 720p at 1.5 Mb/s, VP9 drops 2 frames of 30 instead of 27, VP8
    // 12 instead of 23.
    config.rc_min_quantizer = 2;
    config.rc_max_quantizer = 63;
    config.ss_number_layers = 1;
    set_layers(config, settings.temporal_layers);
    set_target(config, settings.bitrate, settings.temporal_layers);
}

/// All that changes in a running encoder.
fn set_target(config: &mut vpx_codec_enc_cfg_t, target: Bitrate, layers: TemporalLayers) {
    let kbps = u32::try_from(target.as_kbps()).expect("a legal target is far below 2^32 kb/s");
    config.rc_target_bitrate = kbps;
    config.ss_target_bitrate[0] = kbps;
    for (layer, percent) in layers.cumulative_percent().iter().enumerate() {
        // VP8 reads the one, VP9 the other.
        config.ts_target_bitrate[layer] = kbps * percent / 100;
        config.layer_target_bitrate[layer] = kbps * percent / 100;
    }
}

fn set_layers(config: &mut vpx_codec_enc_cfg_t, layers: TemporalLayers) {
    let pattern = layers.pattern();
    config.ts_number_layers = layers.count().into();
    config.ts_periodicity = pattern.len() as u32;
    for (to, &layer) in config.ts_layer_id.iter_mut().zip(pattern) {
        *to = layer.into();
    }
    for layer in 0..layers.count() {
        config.ts_rate_decimator[usize::from(layer)] = 1 << (layers.count() - 1 - layer);
    }
    if layers != TemporalLayers::One {
        // The references are told with each frame.
        config.temporal_layering_mode = vp9e_temporal_layering_mode::VP9E_TEMPORAL_LAYERING_MODE_BYPASS as i32;
    }
}

/// The flags of a frame in one of several layers, other than a key frame: `last` holds the last frame of layer 0, and
/// `golden` that of layer 1 if there are three. `alternate` is not used.
fn references(place: LayerPlace, layers: TemporalLayers) -> u32 {
    const ONLY_LAST: u32 = VP8_EFLAG_NO_REF_GF | VP8_EFLAG_NO_REF_ARF;
    match (place, layers) {
        (LayerPlace { layer: 0, .. }, _) => ONLY_LAST | VP8_EFLAG_NO_UPD_GF | VP8_EFLAG_NO_UPD_ARF,
        (LayerPlace { layer: 1, .. }, TemporalLayers::Three) => {
            ONLY_LAST | VP8_EFLAG_NO_UPD_LAST | VP8_EFLAG_NO_UPD_ARF | VP8_EFLAG_NO_UPD_ENTROPY
        }
        (LayerPlace { sync, .. }, _) => {
            let references = if sync { ONLY_LAST } else { VP8_EFLAG_NO_REF_ARF };
            references | VP8_EFLAG_NO_UPD_LAST | VP8_EFLAG_NO_UPD_GF | VP8_EFLAG_NO_UPD_ARF | VP8_EFLAG_NO_UPD_ENTROPY
        }
    }
}
