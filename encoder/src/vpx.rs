//! VP8 and VP9 over libvpx.
//!
//! [`context`] is the only file that calls the library; [`vp8`] and [`vp9`] hold the settings of one codec each. What
//! both share is here: this is where temporal layers will go (the layers' part of [`shared_config`], and the flags of a
//! frame).
//!
//! **Invariants.** What comes out was made from the picture just handed in: there is no lag and no invisible frame. A
//! new target takes effect between two frames, without a key frame.

mod context;
mod vp8;
mod vp9;

use lenscast_media::{Bitrate, Codec, Picture};
use vpx_sys::{vpx_codec_enc_cfg_t, vpx_enc_pass, vpx_kf_mode, vpx_rational, vpx_rc_mode};

use self::context::Context;
use crate::EncoderSettings;
use crate::frame_clock::FrameTime;
use crate::live_encoder::{FrameInfo, Library, LibraryError};

/// A running encoder of either codec.
pub(crate) struct Vpx {
    context: Context,
    target: Bitrate,
    /// Milliseconds of unspent bits that survive a steep fall of the target.
    savings_kept_in_a_fall: u32,
}

impl Library for Vpx {
    const LIMITS_KEY_FRAMES: bool = true;
    const RESTARTS: bool = false;

    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError> {
        let (context, savings_kept_in_a_fall) = match settings.backend.codec() {
            Codec::Vp9 => (vp9::start(settings)?, vp9::SAVINGS_KEPT_IN_A_FALL),
            _ => (vp8::start(settings)?, vp8::SAVINGS_KEPT_IN_A_FALL),
        };
        Ok(Self { context, target: settings.bitrate, savings_kept_in_a_fall })
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        if target.as_bps() < self.target.as_bps() / 4 * 3 {
            // A smaller buffer cuts off what is in it. Then it gets its size back, below.
            let (kept, size) = (self.savings_kept_in_a_fall, self.context.config().rc_buf_sz);
            self.context.reconfigure(|config| {
                config.rc_buf_sz = kept;
                set_target(config, target);
            })?;
            self.context.reconfigure(|config| config.rc_buf_sz = size)?;
        } else {
            self.context.reconfigure(|config| set_target(config, target))?;
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
        self.context.encode(picture, time, key_frame)
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
    config.ts_number_layers = 1;
    set_target(config, settings.bitrate);
}

/// All that changes in a running encoder.
fn set_target(config: &mut vpx_codec_enc_cfg_t, target: Bitrate) {
    config.rc_target_bitrate = u32::try_from(target.as_kbps()).expect("a legal target is far below 2^32 kb/s");
}

/// Per cent of an average frame that a key frame aims at, so that it takes as long to send as `milliseconds` of video.
/// At least 300, as libwebrtc has it (`MaxIntraTarget` in `modules/video_coding/codecs/vp8/libvpx_vp8_encoder.cc`).
fn intra_cap(settings: &EncoderSettings, milliseconds: f64) -> i32 {
    (milliseconds / 1_000.0 * settings.framerate * 100.0).max(300.0) as i32
}
