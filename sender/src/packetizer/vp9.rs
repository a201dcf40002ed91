use lenscast_media::{Burst, EncodedFrame};

use super::{MAX_PAYLOAD, PictureIds, fragments};

/// Writes the VP9 payload descriptor (RFC 9628 §4.2) in non-flexible mode with layer indices, and with each key frame the
/// scalability structure: one spatial layer of this size, and the pattern of the temporal layers.
#[derive(Debug, Default)]
pub struct Vp9Packetizer {
    ids: PictureIds,
    pattern: Pattern,
}

/// The pictures of one group, and what each refers to: the patterns of `lenscast_encoder::TemporalLayers`. A receiver takes
/// the references of all pictures from the group that the last key frame announced.
#[derive(Debug, Clone, Copy, Default)]
enum Pattern {
    #[default]
    One,
    Two,
    Three,
}

impl Pattern {
    /// N_G, then for each picture a temporal layer, U and R, and R distances (RFC 9628 §4.2.1). U says that the picture
    /// refers to layer 0 only, as it does in the descriptors.
    const fn group(self) -> &'static [u8] {
        match self {
            Self::One => const { &[1, picture(0, false, 1), 1] },
            Self::Two => const { &[2, picture(0, false, 1), 2, picture(1, true, 1), 1] },
            Self::Three => {
                const {
                    let (base, sync, middle, top) =
                        (picture(0, false, 1), picture(2, true, 1), picture(1, true, 1), picture(2, false, 2));
                    &[4, base, 4, sync, 1, middle, 2, top, 1, 3]
                }
            }
        }
    }
}

const fn picture(layer: u8, switching_up: bool, references: u8) -> u8 {
    layer << 5 | (switching_up as u8) << 4 | references << 2
}

/// Control octet, 15-bit picture identifier, layer indices, base-layer index.
const DESCRIPTOR: usize = 5;
/// Header, width, height: [`scalability_structure`]. The picture group follows.
const STRUCTURE: usize = 5;

/// Control octet.
const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const STRUCTURE_PRESENT: u8 = 0x02;

impl Vp9Packetizer {
    /// For frames in this many temporal layers, 1 to 3.
    #[must_use]
    pub fn with_temporal_layers(count: u8) -> Self {
        let pattern = match count {
            0 | 1 => Pattern::One,
            2 => Pattern::Two,
            _ => Pattern::Three,
        };
        Self { pattern, ..Self::default() }
    }

    pub(super) fn packetize(&mut self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        if frame.data.is_empty() {
            return;
        }
        self.ids.advance(frame.temporal_layer);
        let [id_high, id_low] = self.ids.long_picture_id();
        let layer = frame.temporal_layer << 5 | u8::from(frame.layer_sync) << 4;
        let structure = frame.key_frame.then(|| scalability_structure(frame));
        let group = self.pattern.group();
        let head = if frame.key_frame { STRUCTURE + group.len() } else { 0 };
        let inter = if frame.key_frame { 0 } else { INTER_PREDICTED };
        let mut left = frame.data.len();
        for fragment in fragments(frame.data, MAX_PAYLOAD - DESCRIPTOR, head) {
            let begins = left == frame.data.len();
            left -= fragment.len();
            let carried = structure.as_ref().filter(|_| begins);
            let control = PICTURE_ID
                | LAYER_INDICES
                | inter
                | if begins { BEGIN } else { 0 }
                | if left == 0 { END } else { 0 }
                | if carried.is_some() { STRUCTURE_PRESENT } else { 0 };
            let descriptor = [control, id_high, id_low, layer, self.ids.tl0_picture_index];
            let (structure, group) = carried.map_or((&[][..], &[][..]), |structure| (&structure[..], group));
            burst.push(&[&descriptor, structure, group, fragment]);
        }
    }
}

/// RFC 9628 §4.2.1: N_S = 0 (one spatial layer), Y (its size follows), G (a picture group follows).
fn scalability_structure(frame: &EncodedFrame<'_>) -> [u8; STRUCTURE] {
    // Resolution::MAX_SIDE fits into 16 bits.
    let [width_high, width_low] = (frame.resolution.width() as u16).to_be_bytes();
    let [height_high, height_low] = (frame.resolution.height() as u16).to_be_bytes();
    [0b0001_1000, width_high, width_low, height_high, height_low]
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use bytes::Bytes;
    use lenscast_media::{Codec, EncodedFrame};
    use proptest::prelude::*;
    use rtc_rtp::codec::vp9::Vp9Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::super::Packetizer;
    use super::super::tests::{frame, packetized, payloads};

    proptest! {
        #[test]
        fn another_stack_puts_the_frames_together_again(lengths in prop::collection::vec((1_usize..8_000, any::<bool>()), 1..20)) {
            let mut packetizer = Packetizer::new(Codec::Vp9);
            for (number, (len, key_frame)) in lengths.into_iter().enumerate() {
                let data: Vec<u8> = (0..len).map(|byte| (byte * 31 + number) as u8).collect();
                let burst = packetized(&mut packetizer, &frame(Codec::Vp9, &data, key_frame));
                let mut assembled = Vec::new();
                for (position, payload) in payloads(&burst).enumerate() {
                    let (first, last) = (position == 0, position + 1 == burst.len());
                    let mut packet = Vp9Packet::default();
                    assembled.extend_from_slice(&packet.depacketize(&Bytes::copy_from_slice(payload)).unwrap());
                    prop_assert_eq!((packet.b, packet.e, packet.p), (first, last, !key_frame));
                    prop_assert_eq!((packet.i, packet.l, packet.f, packet.v), (true, true, false, key_frame && first));
                    prop_assert_eq!((packet.picture_id, packet.tl0picidx), (number as u16, number as u8));
                    prop_assert_eq!((packet.tid, packet.sid, packet.u, packet.d), (0, 0, false, false));
                    if packet.v {
                        prop_assert_eq!((packet.ns, packet.y, packet.g, packet.ng), (0, true, true, 1));
                        prop_assert_eq!((&packet.width[..], &packet.height[..]), (&[1_280][..], &[720][..]));
                        prop_assert_eq!((&packet.pgtid[..], &packet.pgpdiff[..]), (&[0][..], &[vec![1]][..]));
                    }
                }
                prop_assert_eq!(assembled, data);
            }
        }
    }

    #[test]
    fn the_structure_describes_the_group_that_the_frames_keep_to() {
        for (count, layers, distances) in [
            (1, &[0_u8][..], &[vec![1_u8]][..]),
            (2, &[0, 1], &[vec![2], vec![1]]),
            (3, &[0, 2, 1, 2], &[vec![4], vec![1], vec![2], vec![1, 3]]),
        ] {
            let mut packetizer = Packetizer::Vp9(super::Vp9Packetizer::with_temporal_layers(count));
            let burst = packetized(&mut packetizer, &frame(Codec::Vp9, &[1; 3_000], true));
            let mut packet = Vp9Packet::default();
            let first = packet.depacketize(&Bytes::copy_from_slice(burst.payload(0))).unwrap();
            assert!(first.iter().all(|&byte| byte == 1), "{count}: the structure ends where the frame begins");
            assert_eq!((packet.ng, &packet.pgtid[..], &packet.pgpdiff[..]), (layers.len() as u8, layers, distances));
        }
    }

    #[test]
    fn layers_are_written_and_only_the_base_moves_its_index() {
        let mut packetizer = Packetizer::Vp9(super::Vp9Packetizer::with_temporal_layers(3));
        let base = frame(Codec::Vp9, &[1], true);
        let _ = packetized(&mut packetizer, &base);
        let upper = EncodedFrame { key_frame: false, temporal_layer: 2, layer_sync: true, ..base };
        let burst = packetized(&mut packetizer, &upper);
        // I, P, L, B, E; picture 1; layer 2, U, not D; base-layer index 0.
        assert_eq!(burst.payload(0), [0b1110_1100, 0x80, 0x01, 0b0101_0000, 0, 1]);
        let next = EncodedFrame { key_frame: false, ..base };
        assert_eq!(packetized(&mut packetizer, &next).payload(0)[2..5], [2, 0, 1]);
    }
}
