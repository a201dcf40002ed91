//! The spatial layers of a camera: how large each is, and what bitrates suit it.
//!
//! **Invariant.** Sizes halve from the largest layer, which is the source itself, to the smallest; bitrates never fall from a
//! layer to the next larger one.
//!
//! What it does not do: scale pictures, or decide which layer is encoded.

use lenscast_congestion::{LayerDemand, Layers};
use lenscast_media::{Bitrate, Codec, Resolution};

/// Pixels, and maximum, target and minimum in kb/s: libwebrtc's table of VP8, which it uses for H.264 too
/// (`kSimulcastFormatsVP8` in `video/config/simulcast.cc`). From the smallest up.
const VP8_AND_H264: [(f64, [f64; 3]); 7] = [
    (0.0, [200.0, 150.0, 30.0]),
    (320.0 * 180.0, [200.0, 150.0, 30.0]),
    (480.0 * 270.0, [450.0, 350.0, 150.0]),
    (640.0 * 360.0, [700.0, 500.0, 150.0]),
    (960.0 * 540.0, [1_200.0, 1_200.0, 350.0]),
    (1280.0 * 720.0, [2_500.0, 2_500.0, 600.0]),
    (1920.0 * 1080.0, [5_000.0, 4_000.0, 800.0]),
];

/// The same for VP9 (`kSimulcastFormatsVP9`).
const VP9: [(f64, [f64; 3]); 7] = [
    (0.0, [142.0, 142.0, 30.0]),
    (320.0 * 180.0, [142.0, 142.0, 30.0]),
    (480.0 * 270.0, [257.0, 257.0, 121.0]),
    (640.0 * 360.0, [420.0, 420.0, 193.0]),
    (960.0 * 540.0, [879.0, 879.0, 337.0]),
    (1280.0 * 720.0, [1_524.0, 1_524.0, 481.0]),
    (1920.0 * 1080.0, [3_367.0, 3_367.0, 769.0]),
];

/// The size of layer `layer` of `count`, made from pictures of `source`'s size. Layer 0 is the smallest.
pub(crate) fn layer_size(source: Resolution, layer: usize, count: usize) -> Resolution {
    let halvings = count - 1 - layer;
    let half = |side: u32| (side >> halvings).next_multiple_of(2).clamp(Resolution::MIN_SIDE, side);
    Resolution::new(half(source.width()), half(source.height()))
        .expect("even, and between the least side and the source's")
}

/// What the layers of a camera in this size ask of the allocation. `wanted` has a place for each. The camera's maximum, `most`,
/// is the largest's, whatever the table says; those below come on top of it, each with the table's maximum, or `most` if that
/// is less. Were it one for all together, who watches a small layer would take from who watches the largest.
pub(crate) fn layers(codec: Codec, source: Resolution, wanted: &[bool], most: Bitrate) -> Layers {
    let demands: [Option<LayerDemand>; lenscast_congestion::MAX_LAYERS] = std::array::from_fn(|layer| {
        let active = *wanted.get(layer)?;
        let [max, target, min] = bitrates(codec, layer_size(source, layer, wanted.len()));
        let max = if layer + 1 == wanted.len() { most } else { max.min(most) };
        Some(LayerDemand { min, target, max, active })
    });
    let mut flat = [LayerDemand { min: Bitrate::ZERO, target: Bitrate::ZERO, max: Bitrate::ZERO, active: false };
        lenscast_congestion::MAX_LAYERS];
    for (place, demand) in flat.iter_mut().zip(demands.into_iter().flatten()) {
        *place = demand;
    }
    Layers::new(&flat[..wanted.len()]).expect("a camera has one layer at least, and no more than there are")
}

/// Maximum, target and minimum of a layer of this size: between the table's sizes in proportion to the pixels, as libwebrtc
/// does it; the largest's beyond it.
fn bitrates(codec: Codec, size: Resolution) -> [Bitrate; 3] {
    let table = if codec == Codec::Vp9 { &VP9 } else { &VP8_AND_H264 };
    let pixels = size.pixels() as f64;
    let upper = table.iter().position(|(larger, _)| *larger >= pixels).unwrap_or(table.len() - 1).max(1);
    let ((from, low), (to, high)) = (table[upper - 1], table[upper]);
    let part = ((pixels - from) / (to - from)).min(1.0);
    std::array::from_fn(|index| {
        let kbps = low[index] + (high[index] - low[index]) * part;
        Bitrate::from_bps((kbps * 1_000.0) as u64)
    })
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u32, height: u32) -> Resolution {
        Resolution::new(width, height).unwrap()
    }

    #[test]
    fn three_layers_of_720p_are_those_of_libwebrtc() {
        let sizes = [0, 1, 2].map(|layer| layer_size(size(1280, 720), layer, 3));
        assert_eq!(sizes, [size(320, 180), size(640, 360), size(1280, 720)]);
        let kbps = |size| bitrates(Codec::Vp8, size).map(Bitrate::as_kbps);
        assert_eq!(sizes.map(kbps), [[200, 150, 30], [700, 500, 150], [2_500, 2_500, 600]]);
        assert_eq!(bitrates(Codec::Vp9, size(1920, 1080)).map(Bitrate::as_kbps), [3_367, 3_367, 769]);
    }

    #[test]
    fn between_two_sizes_the_rates_are_between_theirs_and_beyond_the_last_they_stay() {
        let [max, _, min] = bitrates(Codec::H264, size(800, 450)).map(Bitrate::as_kbps);
        assert!((900..1_000).contains(&max) && (200..260).contains(&min), "{max} {min}");
        assert_eq!(bitrates(Codec::Vp8, size(4096, 4096)), bitrates(Codec::Vp8, size(1920, 1080)));
        assert_eq!(bitrates(Codec::Vp8, size(16, 16)), bitrates(Codec::Vp8, size(320, 180)));
    }

    #[test]
    fn a_layer_that_nobody_wants_is_not_active() {
        let layers = layers(Codec::Vp8, size(1280, 720), &[true, false, true], Bitrate::from_kbps(6_000));
        let max: Vec<_> = layers.as_slice().iter().map(|layer| layer.max.as_kbps()).collect();
        assert_eq!(max, [200, 700, 6_000], "what the camera may is the largest layer's");
        assert_eq!(layers.as_slice().iter().map(|layer| layer.active).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn no_layer_takes_more_than_the_camera_may() {
        let layers = layers(Codec::Vp8, size(1280, 720), &[true; 3], Bitrate::from_kbps(500));
        assert_eq!(layers.as_slice().iter().map(|layer| layer.max.as_kbps()).collect::<Vec<_>>(), [200, 500, 500]);
    }

    proptest! {
        #[test]
        fn every_source_has_layers_that_grow(width in 8_u32..=2048, height in 8_u32..=2048, count in 1_usize..=3) {
            let source = size(width * 2, height * 2);
            let sizes: Vec<_> = (0..count).map(|layer| layer_size(source, layer, count)).collect();
            prop_assert_eq!(sizes[count - 1], source);
            for pair in sizes.windows(2) {
                prop_assert!(pair[0].width() <= pair[1].width() && pair[0].height() <= pair[1].height());
                for codec in [Codec::Vp8, Codec::Vp9] {
                    let (small, large) = (bitrates(codec, pair[0]), bitrates(codec, pair[1]));
                    prop_assert!(small.iter().zip(large).all(|(small, large)| *small <= large));
                    prop_assert!(small[2] <= small[1] && small[1] <= small[0]);
                }
            }
        }
    }
}
