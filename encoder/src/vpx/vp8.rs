//! The settings that are VP8's own.

use lenscast_media::Resolution;

use super::context::{Algorithm, Context, Control};
use super::shared_config;
use crate::EncoderSettings;
use crate::live_encoder::LibraryError;

/// Milliseconds of the buffer that survive a steep fall of the target. VP8 goes on spending what it has saved, at the
/// old pace: measured from 2.5 Mb/s to 800 kb/s, the first second carries 153 % of the target; with this, 100 %.
pub(super) const SAVINGS_KEPT_IN_A_FALL: u32 = 100;

/// Per cent of an average frame that a key frame aims at: the least that libwebrtc allows (`MaxIntraTarget` in
/// `modules/video_coding/codecs/vp8/libvpx_vp8_encoder.cc`). Four average frames are the most.
const INTRA_CAP: i32 = 300;

pub(super) fn start(settings: &EncoderSettings) -> Result<Context, LibraryError> {
    let mut context = Context::new(Algorithm::Vp8, |config| {
        shared_config(config, settings);
        // As in libwebrtc (`modules/video_coding/codecs/vp8/libvpx_vp8_encoder.cc`).
        config.rc_undershoot_pct = 100;
        config.rc_overshoot_pct = 15;
        // Half of libwebrtc's, to stay closer to the target; the first frame may take up half of what is there
        // initially. But some frames' worth, or at a low frame rate each frame empties it and the next is dropped.
        let at_least_frames =
            |frames: f64, milliseconds: u32| milliseconds.max((frames * 1_000.0 / settings.framerate) as u32);
        config.rc_buf_initial_sz = at_least_frames(2.5, 400);
        config.rc_buf_optimal_sz = at_least_frames(2.0, 300);
        config.rc_buf_sz = at_least_frames(4.0, 600);
    })?;
    context.set(Control::CpuUsed, cpu_used(settings.resolution))?;
    context.set(Control::MaxIntraBitratePct, INTRA_CAP)?;
    context.set(Control::StaticThreshold, 1)?;
    context.set(Control::NoiseSensitivity, 0)?;
    context.set(Control::TokenPartitions, 0)?;
    context.set(Control::EnableAutoAltRef, 0)?;
    Ok(context)
}

/// Negative: a fixed speed, whatever the frame takes. From one step to the next, measured on film at 30 frames/s: −6 to
/// −8 saves 10 % of the time for 0.1–0.9 dB, −8 to −10 10 % for 0.2–1 dB, −10 to −12 10 % for 0.4–1.2 dB; at −16 the
/// picture falls apart.
fn cpu_used(resolution: Resolution) -> i32 {
    if resolution.pixels() <= 640 * 360 {
        -6
    } else if resolution.pixels() <= 1280 * 720 {
        -8
    } else {
        -10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left at its default, a 720p frame of VP8 took six times as long.
    #[test]
    fn fault_17_every_size_is_encoded_at_a_speed_for_live_video() {
        for (width, height) in [(16, 16), (320, 180), (640, 360), (1280, 720), (1920, 1080), (4096, 4096)] {
            let speed = cpu_used(Resolution::new(width, height).unwrap());
            assert!((-12..=-6).contains(&speed), "{width}x{height}: {speed}");
        }
    }
}
