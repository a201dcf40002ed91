use lenscast_media::{Burst, EncodedFrame};

use super::{MAX_PAYLOAD, PictureIds, fragments};

/// Writes the VP8 payload descriptor (RFC 7741 §4.2) in its complete form, the same length on every packet: picture
/// identifier, base-layer index, temporal layer. Routers and layer switches need all three.
#[derive(Debug, Default)]
pub struct Vp8Packetizer {
    ids: PictureIds,
}

const DESCRIPTOR: usize = 6;
/// First octet: extended control bits present, and start of a partition.
const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
/// Extension octet: I, L and T present; K is not, for there is one key frame index only with temporal layers.
const I_L_T: u8 = 0xE0;

impl Vp8Packetizer {
    pub(super) fn packetize(&mut self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        if frame.data.is_empty() {
            return;
        }
        self.ids.advance(frame.temporal_layer);
        let [id_high, id_low] = self.ids.long_picture_id();
        let layer = frame.temporal_layer << 6 | u8::from(frame.layer_sync) << 5;
        let mut start = START;
        for fragment in fragments(frame.data, MAX_PAYLOAD - DESCRIPTOR, 0) {
            burst.push(&[&[EXTENDED | start, I_L_T, id_high, id_low, self.ids.tl0_picture_index, layer], fragment]);
            start = 0;
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use bytes::Bytes;
    use lenscast_encoder::TemporalLayers;
    use lenscast_media::Codec;
    use proptest::prelude::*;
    use rtc_rtp::codec::vp8::Vp8Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::super::Packetizer;
    use super::super::tests::{frame, packetized, payloads};
    use super::*;

    proptest! {
        #[test]
        fn another_stack_puts_the_frames_together_again(lengths in prop::collection::vec(1_usize..8_000, 1..20)) {
            let mut packetizer = Packetizer::new(Codec::Vp8, TemporalLayers::One);
            for (number, len) in lengths.into_iter().enumerate() {
                let data: Vec<u8> = (0..len).map(|byte| (byte * 31 + number) as u8).collect();
                let burst = packetized(&mut packetizer, &frame(Codec::Vp8, &data, number == 0));
                let mut assembled = Vec::new();
                for (position, payload) in payloads(&burst).enumerate() {
                    let mut packet = Vp8Packet::default();
                    assembled.extend_from_slice(&packet.depacketize(&Bytes::copy_from_slice(payload)).unwrap());
                    prop_assert_eq!((packet.s, packet.pid), (u8::from(position == 0), 0));
                    prop_assert_eq!((packet.i, packet.l, packet.t), (1, 1, 1));
                    prop_assert_eq!((packet.picture_id, packet.tl0_pic_idx), (number as u16, number as u8));
                    prop_assert_eq!((packet.tid, packet.y), (0, 0));
                }
                prop_assert_eq!(assembled, data);
            }
        }
    }

    #[test]
    fn identifiers_wrap_at_15_and_8_bits() {
        let ids = PictureIds { picture_id: 0x7FFF, tl0_picture_index: 255, started: true };
        let packetizer = Vp8Packetizer { ids };
        let burst = packetized(&mut Packetizer::Vp8(packetizer), &frame(Codec::Vp8, &[1], false));
        assert_eq!(burst.payload(0), [0x90, 0xE0, 0x80, 0x00, 0, 0, 1]);
    }

    #[test]
    fn layers_are_written_and_only_the_base_moves_its_index() {
        let mut packetizer = Packetizer::new(Codec::Vp8, TemporalLayers::One);
        let base = frame(Codec::Vp8, &[1], true);
        let upper = EncodedFrame { temporal_layer: 2, layer_sync: true, ..base };
        let _ = packetized(&mut packetizer, &base);
        let burst = packetized(&mut packetizer, &upper);
        assert_eq!(burst.payload(0), [0x90, 0xE0, 0x80, 0x01, 0, 0b1010_0000, 1]);
        let burst = packetized(&mut packetizer, &base);
        assert_eq!(burst.payload(0)[3..5], [2, 1]);
    }
}
