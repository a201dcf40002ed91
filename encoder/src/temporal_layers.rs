//! Layers of frames that may be left out from the top.
//!
//! | | layers of the frames, over and over | share of the rate in per cent |
//! |---|---|---|
//! | L1T1 | 0 | 100 |
//! | L1T2 | 0 1 | 60, 40 |
//! | L1T3 | 0 2 1 2 | 40, 20, 40 |
//!
//! **Invariants.** A frame of layer 0 refers to the frame of layer 0 before it; one of layer 1 to the last of layer 0; one
//! of layer 2 to the last of the layers below. So all are sync points but the second frame of layer 2. A key frame is of
//! layer 0, and the pattern starts anew there. A frame that the rate control dropped keeps its place in the pattern for
//! the next one: all layers lose alike, and none refers to a frame that there never was.
//!
//! libwebrtc has longer patterns in which some frames of the upper layers also refer to frames of their own layer
//! (`modules/video_coding/codecs/vp8/default_temporal_layers.cc`). This one is VP9's and openh264's own, has twice as
//! many points to switch up at, and its layers mean the same in all three codecs.

use std::fmt;

/// How many temporal layers an encoder makes, in the names of W3C's Scalable Video Coding extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TemporalLayers {
    /// L1T1: every frame refers to the one before.
    #[default]
    One,
    /// L1T2: every second frame can be left out.
    Two,
    /// L1T3: every second frame can be left out, then every second of those that remain.
    Three,
}

impl TemporalLayers {
    /// In the order of their number.
    pub const ALL: [Self; 3] = [Self::One, Self::Two, Self::Three];

    /// How many there are: 1 to 3.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The layers of consecutive frames, from a key frame on, over and over.
    #[cfg(any(feature = "vpx", feature = "h264"))]
    pub(crate) const fn pattern(self) -> &'static [u8] {
        match self {
            Self::One => &[0],
            Self::Two => &[0, 1],
            Self::Three => &[0, 2, 1, 2],
        }
    }

    /// Per cent of the target that each layer and those below it take up. libwebrtc's split
    /// (`SimulcastRateAllocator::GetTemporalRateAllocation` in `modules/video_coding/utility/simulcast_rate_allocator.cc`).
    #[cfg(feature = "vpx")]
    pub(crate) const fn cumulative_percent(self) -> &'static [u32] {
        match self {
            Self::One => &[100],
            Self::Two => &[60, 100],
            Self::Three => &[40, 60, 100],
        }
    }
}

impl fmt::Display for TemporalLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::One => "L1T1",
            Self::Two => "L1T2",
            Self::Three => "L1T3",
        })
    }
}

/// Where a stream is in its pattern.
#[cfg(any(feature = "vpx", feature = "h264"))]
#[derive(Debug)]
pub(crate) struct LayerPattern {
    layers: TemporalLayers,
    /// Index of the next frame in [`TemporalLayers::pattern`].
    next: usize,
}

/// A frame's place in the pattern.
#[cfg(any(feature = "vpx", feature = "h264"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerPlace {
    pub(crate) layer: u8,
    /// It refers to frames of layer 0 only, and is of a higher one.
    pub(crate) sync: bool,
}

#[cfg(any(feature = "vpx", feature = "h264"))]
impl LayerPlace {
    /// Where all frames are that have no layers.
    pub(crate) const BASE: Self = Self { layer: 0, sync: false };
}

#[cfg(any(feature = "vpx", feature = "h264"))]
impl LayerPattern {
    pub(crate) const fn new(layers: TemporalLayers) -> Self {
        Self { layers, next: 0 }
    }

    /// The place of the next frame that comes out, if it is a key frame or is not.
    pub(crate) fn place(&self, key_frame: bool) -> LayerPlace {
        let index = if key_frame { 0 } else { self.next };
        let layer = self.layers.pattern()[index];
        LayerPlace { layer, sync: matches!((index, layer), (1, 1 | 2) | (2, 1)) }
    }

    /// A frame has come out.
    pub(crate) fn advance(&mut self, key_frame: bool) {
        let index = if key_frame { 0 } else { self.next };
        self.next = (index + 1) % self.layers.pattern().len();
    }
}

#[cfg(all(test, any(feature = "vpx", feature = "h264")))]
mod tests {
    use super::*;

    /// Layers and sync points (`*`) of `frames` frames, of which those in `keys` are key frames.
    fn told(layers: TemporalLayers, frames: usize, keys: &[usize]) -> String {
        let mut pattern = LayerPattern::new(layers);
        let told = (0..frames).map(|frame| {
            let key_frame = keys.contains(&frame);
            let LayerPlace { layer, sync } = pattern.place(key_frame);
            pattern.advance(key_frame);
            format!("{layer}{}", if sync { "*" } else { "" })
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn patterns_repeat_and_start_anew_at_key_frames() {
        assert_eq!(told(TemporalLayers::One, 4, &[0, 2]), "0 0 0 0");
        assert_eq!(told(TemporalLayers::Two, 5, &[0]), "0 1* 0 1* 0");
        assert_eq!(told(TemporalLayers::Two, 5, &[0, 1]), "0 0 1* 0 1*");
        assert_eq!(told(TemporalLayers::Three, 9, &[0]), "0 2* 1* 2 0 2* 1* 2 0");
        assert_eq!(told(TemporalLayers::Three, 7, &[0, 3]), "0 2* 1* 0 2* 1* 2");
    }

    #[test]
    fn names_are_those_of_the_svc_extension() {
        let names = TemporalLayers::ALL.map(|layers| (layers.to_string(), layers.count()));
        assert_eq!(names, [("L1T1".into(), 1), ("L1T2".into(), 2), ("L1T3".into(), 3)]);
    }
}
