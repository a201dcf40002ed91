use lenscast_media::{Burst, Codec, MediaCodec};

use crate::vp8::Vp8Descriptor;

/// What is added to a producer's numbers so that one consumer sees them go on without a jump, whatever was left out or
/// switched before. All of it wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewrite {
    /// Added to RTP timestamps.
    pub(crate) timestamp: u32,
    /// Added to picture identifiers, modulo 2^15 or 2^7.
    pub(crate) picture_id: u16,
    /// Added to `TL0PICIDX`.
    pub(crate) base_layer_index: u8,
}

/// The numbers that a frame bears in its payload descriptors (RFC 7741 §4.2, RFC 9628 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FrameIds {
    pub(crate) picture_id: Option<u16>,
    pub(crate) base_layer_index: Option<u8>,
}

/// Bits of a picture identifier in its longer form.
const PICTURE_ID_BITS: u16 = 0x7FFF;

impl Rewrite {
    /// True if payloads can be copied as they are.
    pub(crate) const fn keeps_payload(&self) -> bool {
        self.picture_id == 0 && self.base_layer_index == 0
    }

    /// The same, but for what is written into payloads: it makes `new` follow `last` directly.
    pub(crate) fn following(self, last: FrameIds, new: FrameIds) -> Self {
        let Self { timestamp, mut picture_id, mut base_layer_index } = self;
        if let (Some(last), Some(new)) = (last.picture_id, new.picture_id) {
            picture_id = last.wrapping_add(1).wrapping_sub(new) & PICTURE_ID_BITS;
        }
        if let (Some(last), Some(new)) = (last.base_layer_index, new.base_layer_index) {
            base_layer_index = last.wrapping_add(1).wrapping_sub(new);
        }
        Self { timestamp, picture_id, base_layer_index }
    }

    /// What becomes of a frame's numbers.
    pub(crate) fn ids(&self, ids: FrameIds) -> FrameIds {
        FrameIds {
            picture_id: ids.picture_id.map(|id| id.wrapping_add(self.picture_id) & PICTURE_ID_BITS),
            base_layer_index: ids.base_layer_index.map(|index| index.wrapping_add(self.base_layer_index)),
        }
    }

    /// Rewrites a copied payload.
    pub(crate) fn apply(&self, codec: MediaCodec, payload: &mut [u8]) {
        match codec {
            MediaCodec::Video(Codec::Vp8) => {
                if let Some(descriptor) = Vp8Descriptor::read(payload) {
                    let id = descriptor.picture_id.map_or(0, |id| id.value.wrapping_add(self.picture_id));
                    let index = descriptor.base_layer_index.map_or(0, |index| index.value);
                    descriptor.rewrite(payload, id, index.wrapping_add(self.base_layer_index));
                }
            }
            MediaCodec::Video(Codec::Vp9) => {
                if let Some(places) = Vp9Places::read(payload) {
                    places.rewrite(payload, self);
                }
            }
            MediaCodec::Video(Codec::H264) | MediaCodec::Opus => {}
        }
    }
}

impl FrameIds {
    /// Those of a burst's first packet.
    pub(crate) fn of(burst: &Burst) -> Self {
        if burst.is_empty() {
            return Self::default();
        }
        let payload = burst.payload(0);
        match burst.meta().codec {
            MediaCodec::Video(Codec::Vp8) => Vp8Descriptor::read(payload).map_or(Self::default(), |descriptor| Self {
                picture_id: descriptor.picture_id.map(|id| id.value),
                base_layer_index: descriptor.base_layer_index.map(|index| index.value),
            }),
            MediaCodec::Video(Codec::Vp9) => Vp9Places::read(payload).map_or(Self::default(), |places| Self {
                picture_id: places.picture_id.map(|(at, long)| places.picture_id_at(payload, at, long)),
                base_layer_index: places.base_layer_index.map(|at| payload[at]),
            }),
            MediaCodec::Video(Codec::H264) | MediaCodec::Opus => Self::default(),
        }
    }
}

/// Where a VP9 payload descriptor (RFC 9628 §4.2) has its numbers. All places are inside the payload it was read from.
struct Vp9Places {
    /// And whether it has 15 bits.
    picture_id: Option<(usize, bool)>,
    /// Of the non-flexible mode only.
    base_layer_index: Option<usize>,
}

impl Vp9Places {
    const PICTURE_ID: u8 = 0x80;
    const LAYER_INDICES: u8 = 0x20;
    const FLEXIBLE: u8 = 0x10;
    const LONG: u8 = 0x80;

    fn read(payload: &[u8]) -> Option<Self> {
        let control = *payload.first()?;
        let mut at = 1;
        let mut picture_id = None;
        if control & Self::PICTURE_ID != 0 {
            let long = payload.get(at)? & Self::LONG != 0;
            picture_id = Some((at, long));
            at += 1 + usize::from(long);
        }
        let indexed = control & Self::LAYER_INDICES != 0 && control & Self::FLEXIBLE == 0;
        let base_layer_index = indexed.then_some(at + 1);
        let last = base_layer_index.unwrap_or(at);
        (payload.len() > last).then_some(Self { picture_id, base_layer_index })
    }

    fn picture_id_at(&self, payload: &[u8], at: usize, long: bool) -> u16 {
        if long { u16::from_be_bytes([payload[at], payload[at + 1]]) & PICTURE_ID_BITS } else { u16::from(payload[at]) }
    }

    fn rewrite(&self, payload: &mut [u8], rewrite: &Rewrite) {
        if let Some((at, long)) = self.picture_id {
            let id = self.picture_id_at(payload, at, long).wrapping_add(rewrite.picture_id);
            if long {
                let [high, low] = (id & PICTURE_ID_BITS).to_be_bytes();
                payload[at..at + 2].copy_from_slice(&[high | Self::LONG, low]);
            } else {
                payload[at] = id as u8 & !Self::LONG;
            }
        }
        if let Some(at) = self.base_layer_index {
            payload[at] = payload[at].wrapping_add(rewrite.base_layer_index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vp9_numbers_wrap_in_their_own_width() {
        let rewrite = Rewrite { timestamp: 0, picture_id: 3, base_layer_index: 2 };
        let vp9 = MediaCodec::Video(Codec::Vp9);
        let mut long = [0xA0, 0xFF, 0xFE, 0, 255, 9];
        rewrite.apply(vp9, &mut long);
        assert_eq!(long, [0xA0, 0x80, 0x01, 0, 1, 9]);
        let mut short = [0xA0, 0x7E, 0, 255, 9];
        rewrite.apply(vp9, &mut short);
        assert_eq!(short, [0xA0, 0x01, 0, 1, 9]);
        let mut flexible = [0xB0, 0x7E, 0, 255, 9];
        rewrite.apply(vp9, &mut flexible);
        assert_eq!(flexible, [0xB0, 0x01, 0, 255, 9], "no base layer index in flexible mode");
    }

    #[test]
    fn what_is_too_short_stays_as_it_is() {
        let rewrite = Rewrite { timestamp: 0, picture_id: 3, base_layer_index: 2 };
        for codec in Codec::ALL {
            for len in 0..4 {
                let mut payload = vec![0xFF; len];
                rewrite.apply(codec.into(), &mut payload);
                assert_eq!(payload, vec![0xFF; len], "{codec}");
            }
        }
    }

    #[test]
    fn following_numbers_join_across_the_wrap() {
        let ids = |picture_id, index| FrameIds { picture_id: Some(picture_id), base_layer_index: Some(index) };
        let rewrite = Rewrite::default().following(ids(0x7FFF, 255), ids(77, 3));
        assert_eq!(rewrite.ids(ids(77, 3)), ids(0, 0));
        assert_eq!(rewrite.ids(ids(78, 4)), ids(1, 1));
    }
}
