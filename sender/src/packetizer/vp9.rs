use lenscast_media::{Burst, EncodedFrame};

use super::{MAX_PAYLOAD, PictureIds, fragments};

/// Writes the VP9 payload descriptor (RFC 9628 §4.2) in non-flexible mode with layer indices, and with each key frame the
/// scalability structure: one spatial layer of this size, one temporal layer that refers to the frame before.
#[derive(Debug, Default)]
pub struct Vp9Packetizer {
    ids: PictureIds,
}

/// Control octet, 15-bit picture identifier, layer indices, base-layer index.
const DESCRIPTOR: usize = 5;
/// Header, width, height, one entry of the picture group: [`scalability_structure`].
const STRUCTURE: usize = 8;

/// Control octet.
const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const BEGIN: u8 = 0x08;
const END: u8 = 0x04;
const STRUCTURE_PRESENT: u8 = 0x02;

impl Vp9Packetizer {
    pub(super) fn packetize(&mut self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        if frame.data.is_empty() {
            return;
        }
        self.ids.advance(frame.temporal_layer);
        let [id_high, id_low] = self.ids.long_picture_id();
        let layer = frame.temporal_layer << 5 | u8::from(frame.layer_sync) << 4;
        let structure = frame.key_frame.then(|| scalability_structure(frame));
        let head = if frame.key_frame { STRUCTURE } else { 0 };
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
            burst.push(&[&descriptor, carried.map_or(&[][..], |structure| &structure[..]), fragment]);
        }
    }
}

/// RFC 9628 §4.2.1: N_S = 0 (one spatial layer), Y (its size follows), G (a picture group follows), that group being one
/// picture of temporal layer 0 with one reference, to the picture before.
fn scalability_structure(frame: &EncodedFrame<'_>) -> [u8; STRUCTURE] {
    // Resolution::MAX_SIDE fits into 16 bits.
    let [width_high, width_low] = (frame.resolution.width() as u16).to_be_bytes();
    let [height_high, height_low] = (frame.resolution.height() as u16).to_be_bytes();
    [0b0001_1000, width_high, width_low, height_high, height_low, 1, 0b0000_0100, 1]
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
}
