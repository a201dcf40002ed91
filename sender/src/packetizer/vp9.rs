use lenscast_encoder::TemporalLayers;
use lenscast_media::{Burst, EncodedFrame};

use super::{MAX_PAYLOAD, PictureIds, fragments};

/// Writes the VP9 payload descriptor (RFC 9628 §4.2) in non-flexible mode with layer indices, and with each key frame the
/// scalability structure: one spatial layer of this size, and the group of pictures that its temporal layers make up.
#[derive(Debug)]
pub struct Vp9Packetizer {
    ids: PictureIds,
    layers: TemporalLayers,
}

/// Control octet, 15-bit picture identifier, layer indices, base-layer index.
const DESCRIPTOR: usize = 5;
/// Header, width, height, and a group of four pictures at most: [`scalability_structure`].
const MAX_STRUCTURE: usize = 6 + 4 * 2 + 1;

/// Control octet.
const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const STRUCTURE_PRESENT: u8 = 0x02;

impl Vp9Packetizer {
    pub(super) fn new(layers: TemporalLayers) -> Self {
        Self { ids: PictureIds::default(), layers }
    }

    pub(super) fn packetize(&mut self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        if frame.data.is_empty() {
            return;
        }
        self.ids.advance(frame.temporal_layer);
        let [id_high, id_low] = self.ids.long_picture_id();
        let layer = frame.temporal_layer << 5 | u8::from(frame.layer_sync) << 4;
        let mut structure = [0; MAX_STRUCTURE];
        let head = if frame.key_frame { scalability_structure(frame, group(self.layers), &mut structure) } else { 0 };
        let inter = if frame.key_frame { 0 } else { INTER_PREDICTED };
        let mut left = frame.data.len();
        for fragment in fragments(frame.data, MAX_PAYLOAD - DESCRIPTOR, head) {
            let begins = left == frame.data.len();
            left -= fragment.len();
            let carried = if begins { &structure[..head] } else { &[] };
            let control = PICTURE_ID
                | LAYER_INDICES
                | inter
                | if begins { BEGIN } else { 0 }
                | if left == 0 { END } else { 0 }
                | if carried.is_empty() { 0 } else { STRUCTURE_PRESENT };
            let descriptor = [control, id_high, id_low, layer, self.ids.tl0_picture_index];
            burst.push(&[&descriptor, carried, fragment]);
        }
    }
}

/// RFC 9628 §4.2.1: N_S = 0 (one spatial layer), Y (its size follows), G (a picture group follows), and that group.
fn scalability_structure(frame: &EncodedFrame<'_>, group: &[GroupPicture], to: &mut [u8; MAX_STRUCTURE]) -> usize {
    // Resolution::MAX_SIDE fits into 16 bits.
    let [width_high, width_low] = (frame.resolution.width() as u16).to_be_bytes();
    let [height_high, height_low] = (frame.resolution.height() as u16).to_be_bytes();
    let head = [0b0001_1000, width_high, width_low, height_high, height_low, group.len() as u8];
    to[..head.len()].copy_from_slice(&head);
    let pictures = group.iter().flat_map(|picture| {
        let references = picture.distances.len() as u8;
        let head = picture.layer << 5 | u8::from(picture.sync) << 4 | references << 2;
        std::iter::once(head).chain(picture.distances.iter().copied())
    });
    let places = to[head.len()..].iter_mut().zip(pictures);
    head.len() + places.map(|(place, byte)| *place = byte).count()
}

/// A picture of the group that repeats from a key frame on: its layer, whether it is a point to switch up at, and how many
/// pictures before it those lie that it refers to.
#[derive(Debug, Clone, Copy)]
struct GroupPicture {
    layer: u8,
    sync: bool,
    distances: &'static [u8],
}

/// As the encoders make them (`TemporalLayers`): what the rate control drops keeps its place, so that the group repeats
/// without a hole.
const fn group(layers: TemporalLayers) -> &'static [GroupPicture] {
    const fn picture(layer: u8, sync: bool, distances: &'static [u8]) -> GroupPicture {
        GroupPicture { layer, sync, distances }
    }
    match layers {
        TemporalLayers::One => const { &[picture(0, false, &[1])] },
        TemporalLayers::Two => const { &[picture(0, false, &[2]), picture(1, true, &[1])] },
        TemporalLayers::Three => {
            const { &[picture(0, false, &[4]), picture(2, true, &[1]), picture(1, true, &[2]), picture(2, false, &[1, 3])] }
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use bytes::Bytes;
    use lenscast_media::Codec;
    use proptest::prelude::*;
    use rtc_rtp::codec::vp9::Vp9Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::super::Packetizer;
    use super::super::tests::{frame, packetized, payloads};
    use super::*;

    proptest! {
        #[test]
        fn another_stack_puts_the_frames_together_again(lengths in prop::collection::vec((1_usize..8_000, any::<bool>()), 1..20)) {
            let mut packetizer = Packetizer::new(Codec::Vp9, TemporalLayers::One);
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
    fn a_key_frame_describes_the_pattern_of_its_temporal_layers() {
        for (layers, ids, syncs, distances) in [
            (TemporalLayers::Two, vec![0, 1], vec![false, true], vec![2, 1]),
            (TemporalLayers::Three, vec![0, 2, 1, 2], vec![false, true, true, false], vec![4, 1, 2, 1, 3]),
        ] {
            let mut packetizer = Packetizer::new(Codec::Vp9, layers);
            let data = [7; 5_000];
            let burst = packetized(&mut packetizer, &frame(Codec::Vp9, &data, true));
            let mut packet = Vp9Packet::default();
            let first = packet.depacketize(&Bytes::copy_from_slice(burst.payload(0))).unwrap();
            assert!(packet.v && packet.g && data.starts_with(&first));
            assert_eq!((packet.pgtid, packet.pgu), (ids, syncs));
            assert_eq!(packet.pgpdiff.concat(), distances);
        }
    }

    #[test]
    fn a_frame_of_an_upper_layer_says_so_and_leaves_the_base_s_index() {
        let mut packetizer = Packetizer::new(Codec::Vp9, TemporalLayers::Three);
        for (layer, sync, index) in [(0, false, 0), (2, true, 0), (1, true, 0), (2, false, 0), (0, false, 1)] {
            let encoded =
                EncodedFrame { temporal_layer: layer, layer_sync: sync, ..frame(Codec::Vp9, &[1; 100], false) };
            let burst = packetized(&mut packetizer, &encoded);
            let mut packet = Vp9Packet::default();
            packet.depacketize(&Bytes::copy_from_slice(burst.payload(0))).unwrap();
            assert_eq!((packet.tid, packet.u, packet.tl0picidx), (layer, sync, index));
        }
    }
}
