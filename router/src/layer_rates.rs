//! What each layer of a stream takes, or is expected to take as long as nobody has had it.
//!
//! A layer takes what came of it in the last second, or if it has stopped, in the second before that. Of one that has never
//! come, the nearest below it that has tells, or else the nearest above:
//!
//! - by the number of pixels, if the size of both is known: to the power of ¾, as a picture of four times the pixels, which has
//!   coarser detail for its size, takes not four times the bits but 2.8 (libwebrtc's simulcast table, `video/config/simulcast.cc`,
//!   has 3.3 to 3.6 from each size to the next);
//! - else three times as much with each layer up, a third with each layer down.
//!
//! If none has come at all, the smallest is expected to take what libwebrtc gives 320 × 180, the smallest of its table, and a stream of
//! sound what libwebrtc gives Opus. An estimate of 0 would give everybody everything that has not come yet, whatever there is
//! room for.

use lenscast_media::{Bitrate, Resolution};

use crate::bandwidth_split::LayerBitrates;
use crate::{Layers, MediaKind};

/// What is known of one spatial layer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LayerRate {
    /// What each temporal layer took when it last came, without those below.
    pub(crate) measured: [Bitrate; LayerBitrates::MAX_TEMPORAL],
    /// The size of its newest frame that told it.
    pub(crate) resolution: Option<Resolution>,
}

/// How many times the bits a layer takes than the one below it, where the sizes are not known.
const STEP: f64 = 3.0;
const SMALLEST_VIDEO: Bitrate = Bitrate::from_kbps(150);
const AUDIO: Bitrate = Bitrate::from_kbps(32);

/// `layers` has the smallest first.
pub(crate) fn layer_bitrates(kind: MediaKind, temporal_layers: u8, layers: &[LayerRate]) -> LayerBitrates {
    let temporal_layers = temporal_layers.clamp(1, LayerBitrates::MAX_TEMPORAL as u8);
    let mut bitrates = LayerBitrates::new(layers.len() as u8, temporal_layers);
    for (spatial, layer) in layers.iter().enumerate() {
        let whole = layer.whole();
        let expected = if whole == 0 { expected(kind, layers, spatial) } else { 0.0 };
        let mut sum = 0;
        for temporal in 0..temporal_layers {
            sum += layer.measured[usize::from(temporal)].as_bps();
            let share = f64::from(temporal + 1) / f64::from(temporal_layers);
            let bitrate = if whole == 0 { (expected * share) as u64 } else { sum };
            bitrates.set(Layers { spatial: spatial as u8, temporal }, Bitrate::from_bps(bitrate));
        }
    }
    bitrates
}

/// Bits a second of a layer that has not come.
fn expected(kind: MediaKind, layers: &[LayerRate], spatial: usize) -> f64 {
    let has_come = |other: &usize| layers[*other].whole() > 0;
    let Some(known) = (0..spatial).rev().find(has_come).or_else(|| (spatial + 1..layers.len()).find(has_come)) else {
        return match kind {
            MediaKind::Audio => AUDIO.as_bps() as f64,
            MediaKind::Video => SMALLEST_VIDEO.as_bps() as f64 * STEP.powi(spatial as i32),
        };
    };
    let factor = match (layers[spatial].resolution, layers[known].resolution) {
        (Some(own), Some(other)) => (pixels(own) / pixels(other)).powf(0.75),
        _ => STEP.powi(spatial as i32 - known as i32),
    };
    layers[known].whole() as f64 * factor
}

fn pixels(resolution: Resolution) -> f64 {
    f64::from(resolution.width()) * f64::from(resolution.height())
}

impl LayerRate {
    fn whole(&self) -> u64 {
        self.measured.iter().map(|bitrate| bitrate.as_bps()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kbps: [u64; 4], size: Option<(u32, u32)>) -> LayerRate {
        let resolution = size.map(|(width, height)| Resolution::new(width, height).unwrap());
        LayerRate { measured: kbps.map(Bitrate::from_kbps), resolution }
    }

    fn kbps(kind: MediaKind, temporal_layers: u8, layers: &[LayerRate]) -> Vec<u64> {
        let bitrates = layer_bitrates(kind, temporal_layers, layers);
        let of = |spatial| (0..temporal_layers).map(move |temporal| Layers { spatial, temporal });
        (0..layers.len() as u8).flat_map(of).map(|layers| bitrates.of(layers).as_kbps()).collect()
    }

    #[test]
    fn what_comes_takes_what_came() {
        let layers = [layer([60, 40, 0, 0], None), layer([300, 100, 0, 0], None)];
        assert_eq!(kbps(MediaKind::Video, 2, &layers), [60, 100, 300, 400]);
    }

    #[test]
    fn what_has_not_come_is_expected_to_take_three_times_as_much_with_each_layer() {
        let layers = [layer([0; 4], None), layer([600, 0, 0, 0], None), layer([0; 4], None), layer([0; 4], None)];
        assert_eq!(kbps(MediaKind::Video, 1, &layers), [200, 600, 1_800, 5_400]);
    }

    #[test]
    fn where_sizes_are_known_the_pixels_tell() {
        let layers = [layer([500, 0, 0, 0], Some((640, 360))), layer([0; 4], Some((2_560, 1_440)))];
        assert_eq!(kbps(MediaKind::Video, 1, &layers), [500, 4_000], "16 times the pixels, 8 times the bits");
        let layers = [layer([0; 4], Some((160, 90))), layer([800, 0, 0, 0], Some((640, 360)))];
        assert_eq!(kbps(MediaKind::Video, 2, &layers), [50, 100, 800, 800]);
    }

    #[test]
    fn of_a_stream_that_has_not_come_yet_something_is_expected_all_the_same() {
        assert_eq!(kbps(MediaKind::Video, 1, &[LayerRate::default(); 3]), [150, 450, 1_350]);
        assert_eq!(kbps(MediaKind::Audio, 1, &[LayerRate::default()]), [32]);
    }
}
