//! The settings that are VP9's own: profile 0, one spatial layer.

use lenscast_media::Resolution;

use super::context::{Algorithm, Context, Control};
use super::shared_config;
use crate::live_encoder::LibraryError;
use crate::{EncoderSettings, TemporalLayers};

/// Cyclic refresh: a part of every frame gets better, in turn (`AQ_MODE` in `vpx/vp8cx.h`).
const CYCLIC_REFRESH: i32 = 3;

/// Milliseconds of the buffer that survive a steep fall of the target. Measured after a fall by half: with 100 libvpx drops
/// frames and is settled after 1.1 to 1.3 s, with 200 after 0.8 to 1.2 s, with 300 after 0.9 s at most.
pub(super) const SAVINGS_KEPT_IN_A_FALL: u32 = 300;

/// Per cent of an average frame that a key frame aims at. VP9 misses it by up to a factor of two, and four average frames
/// are the most.
const INTRA_CAP: i32 = 200;

pub(super) fn start(settings: &EncoderSettings) -> Result<Context, LibraryError> {
    let mut context = Context::new(Algorithm::Vp9, |config| {
        shared_config(config, settings);
        // Probabilities go from frame to frame whatever the layer; with resilience each frame starts from the defaults.
        config.g_error_resilient = u32::from(settings.temporal_layers != TemporalLayers::One);
        // As in libwebrtc (`modules/video_coding/codecs/vp9/libvpx_vp9_encoder.cc`).
        config.rc_undershoot_pct = 50;
        config.rc_overshoot_pct = 50;
        config.rc_buf_initial_sz = 500;
        config.rc_buf_optimal_sz = 600;
        config.rc_buf_sz = 1_000;
    })?;
    context.set(Control::CpuUsed, cpu_used(settings.resolution))?;
    context.set(Control::MaxIntraBitratePct, INTRA_CAP)?;
    context.set(Control::StaticThreshold, 1)?;
    context.set(Control::EnableAutoAltRef, 0)?;
    context.set(Control::Vp9NoiseSensitivity, 0)?;
    context.set(Control::AqMode, CYCLIC_REFRESH)?;
    // libwebrtc asks for row threads even if there is only one. That changes not a bit, and takes 3 to 8 % longer.
    context.set(Control::TileColumns, 0)?;
    context.set(Control::RowMt, 0)?;
    context.set(Control::FrameParallelDecoding, 0)?;
    if settings.temporal_layers != TemporalLayers::One {
        context.set(Control::Svc, 1)?;
        let (least, most) = (context.config().rc_min_quantizer, context.config().rc_max_quantizer);
        context.set_layer_quantizers(least, most)?;
    }
    Ok(context)
}

/// Measured on film at 30 frames/s: 9 saves 20–30 % of the time of 8 for 0.2–0.7 dB, 7 takes 10–30 % more for 0.1–0.3
/// dB.
fn cpu_used(resolution: Resolution) -> i32 {
    if resolution.pixels() <= 1280 * 720 { 8 } else { 9 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left at its default, a 720p frame of VP8 took six times as long.
    #[test]
    fn fault_17_every_size_is_encoded_at_a_speed_for_live_video() {
        for (width, height) in [(16, 16), (320, 180), (640, 360), (1280, 720), (1920, 1080), (4096, 4096)] {
            let speed = cpu_used(Resolution::new(width, height).unwrap());
            assert!((7..=9).contains(&speed), "{width}x{height}: {speed}");
        }
    }
}
