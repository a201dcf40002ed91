//! The VP8 payload descriptor (RFC 7741 §4.2): read to know what a packet is, rewritten in place where layers were left
//! out or streams joined, so that a decoder sees pictures counted without a jump.

use lenscast_media::Resolution;

/// What stands before the VP8 data of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp8Descriptor {
    /// The payload begins with the first partition's beginning: a frame starts here.
    pub(crate) begins_frame: bool,
    /// 7 or 15 bits, and where it stands.
    pub(crate) picture_id: Option<PictureId>,
    /// `TL0PICIDX`: counts frames of the base layer, modulo 256.
    pub(crate) base_layer_index: Option<BaseLayerIndex>,
    /// `TID`, 0 if absent.
    pub(crate) temporal_layer: u8,
    /// `Y`: this frame refers to the base layer only.
    pub(crate) layer_sync: bool,
    /// Bytes before the VP8 data; below the payload's length.
    pub(crate) len: u8,
}

/// A picture identifier and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PictureId {
    /// Modulo 2^15 if `long`, else modulo 2^7.
    pub(crate) value: u16,
    /// Written with 15 bits.
    pub(crate) long: bool,
    at: u8,
}

/// A base layer index and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BaseLayerIndex {
    pub(crate) value: u8,
    at: u8,
}

// First octet.
const EXTENDED: u8 = 0x80;
const PARTITION_START: u8 = 0x10;
const PARTITION_INDEX: u8 = 0x07;
// Extension octet.
const PICTURE_ID: u8 = 0x80;
const BASE_LAYER_INDEX: u8 = 0x40;
const TEMPORAL_LAYER: u8 = 0x20;
const KEY_INDEX: u8 = 0x10;
/// M: the picture identifier has 15 bits.
const LONG: u8 = 0x80;
/// Y, in the octet of TID and KEYIDX.
const LAYER_SYNC: u8 = 0x20;

/// Bits of a long picture identifier.
pub(crate) const LONG_PICTURE_ID: u16 = 0x7FFF;
/// Bits of a short one.
pub(crate) const SHORT_PICTURE_ID: u16 = 0x7F;

impl Vp8Descriptor {
    /// `None` unless the descriptor is complete and at least one byte of VP8 data stands behind it.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            begins_frame: first & PARTITION_START != 0 && first & PARTITION_INDEX == 0,
            picture_id: None,
            base_layer_index: None,
            temporal_layer: 0,
            layer_sync: false,
            len: 1,
        };
        if first & EXTENDED != 0 {
            descriptor.read_extension(payload)?;
        }
        (payload.len() > usize::from(descriptor.len)).then_some(descriptor)
    }

    fn read_extension(&mut self, payload: &[u8]) -> Option<()> {
        let present = *payload.get(1)?;
        let mut at = 2_u8;
        let mut next = || {
            let byte = payload.get(usize::from(at)).map(|byte| (at, *byte));
            at += 1;
            byte
        };
        if present & PICTURE_ID != 0 {
            let (at, high) = next()?;
            self.picture_id = Some(if high & LONG == 0 {
                PictureId { value: u16::from(high), long: false, at }
            } else {
                let (_, low) = next()?;
                PictureId { value: u16::from_be_bytes([high & !LONG, low]), long: true, at }
            });
        }
        if present & BASE_LAYER_INDEX != 0 {
            let (at, value) = next()?;
            self.base_layer_index = Some(BaseLayerIndex { value, at });
        }
        if present & (TEMPORAL_LAYER | KEY_INDEX) != 0 {
            let (_, byte) = next()?;
            if present & TEMPORAL_LAYER != 0 {
                self.temporal_layer = byte >> 6;
                self.layer_sync = byte & LAYER_SYNC != 0;
            }
        }
        self.len = at;
        Some(())
    }

    /// Puts other identifiers in place of those that are there; the descriptor keeps its length. `payload` is the one this
    /// was read from, or a copy. Of `picture_id` as many bits are written as there is room for.
    pub(crate) fn rewrite(&self, payload: &mut [u8], picture_id: u16, base_layer_index: u8) {
        match self.picture_id {
            Some(PictureId { at, long: true, .. }) => {
                let [high, low] = (picture_id & LONG_PICTURE_ID).to_be_bytes();
                if let Some(place) = payload.get_mut(usize::from(at)..usize::from(at) + 2) {
                    place.copy_from_slice(&[high | LONG, low]);
                }
            }
            Some(PictureId { at, long: false, .. }) => {
                if let Some(place) = payload.get_mut(usize::from(at)) {
                    *place = (picture_id & SHORT_PICTURE_ID) as u8;
                }
            }
            None => {}
        }
        if let Some(BaseLayerIndex { at, .. }) = self.base_layer_index
            && let Some(place) = payload.get_mut(usize::from(at))
        {
            *place = base_layer_index;
        }
    }

    /// True if the packet begins a key frame (RFC 6386 §9.1: the lowest bit of the frame tag is clear).
    #[inline]
    pub(crate) fn begins_key_frame(&self, payload: &[u8]) -> bool {
        self.begins_frame && payload.get(usize::from(self.len)).is_some_and(|tag| tag & 1 == 0)
    }

    /// The picture's size, if the packet begins a key frame and the size is one that lenscast handles (RFC 6386 §9.1).
    pub(crate) fn resolution(&self, payload: &[u8]) -> Option<Resolution> {
        if !self.begins_key_frame(payload) {
            return None;
        }
        // Frame tag, start code, width and height with two bits of upscaling each, little-endian.
        let header = payload.get(usize::from(self.len)..)?.first_chunk::<10>()?;
        let side = |at: usize| u32::from(u16::from_le_bytes([header[at], header[at + 1]]) & 0x3FFF);
        if header[3..6] != [0x9D, 0x01, 0x2A] {
            return None;
        }
        Resolution::new(side(6), side(8))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::codec::vp8::Vp8Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    /// What another stack reads; `None` if it refuses.
    fn oracle(payload: &[u8]) -> Option<(Vp8Packet, usize)> {
        let mut packet = Vp8Packet::default();
        let data = packet.depacketize(&Bytes::copy_from_slice(payload)).ok()?;
        Some((packet, payload.len() - data.len()))
    }

    fn assert_agrees(payload: &[u8]) -> Result<(), TestCaseError> {
        let ours = Vp8Descriptor::read(payload);
        let Some((theirs, len)) = oracle(payload) else {
            // It wants four bytes even of a descriptor of one.
            prop_assert!(ours.is_none() || payload.len() < 4, "{ours:?}");
            return Ok(());
        };
        let ours = ours.expect("the other stack reads it");
        prop_assert_eq!(usize::from(ours.len), len);
        prop_assert_eq!(ours.begins_frame, theirs.s == 1 && theirs.pid == 0);
        prop_assert_eq!(ours.picture_id.map(|id| id.value), (theirs.i == 1).then_some(theirs.picture_id & 0x7FFF));
        prop_assert_eq!(ours.base_layer_index.map(|index| index.value), (theirs.l == 1).then_some(theirs.tl0_pic_idx));
        prop_assert_eq!((ours.temporal_layer, u8::from(ours.layer_sync)), (theirs.tid, theirs.y));
        Ok(())
    }

    proptest! {
        #[test]
        fn another_stack_reads_the_same(payload in prop::collection::vec(any::<u8>(), 0..12)) {
            assert_agrees(&payload)?;
        }

        #[test]
        fn another_stack_reads_what_was_rewritten(
            mut payload in prop::collection::vec(any::<u8>(), 7..20), picture_id: u16, index: u8
        ) {
            payload[0] |= EXTENDED;
            let before = payload.clone();
            let descriptor = Vp8Descriptor::read(&payload).unwrap();
            descriptor.rewrite(&mut payload, picture_id, index);
            assert_agrees(&payload)?;
            let (theirs, len) = oracle(&payload).unwrap();
            let (was, _) = oracle(&before).unwrap();
            prop_assert_eq!(&payload[len..], &before[len..], "the VP8 data is as it was");
            let mask = descriptor.picture_id.map_or(0, |id| if id.long { LONG_PICTURE_ID } else { SHORT_PICTURE_ID });
            prop_assert_eq!(theirs.picture_id, picture_id & mask);
            prop_assert_eq!(theirs.tl0_pic_idx, if was.l == 1 { index } else { 0 });
            let others = |packet: Vp8Packet| Vp8Packet { picture_id: 0, tl0_pic_idx: 0, ..packet };
            prop_assert_eq!(others(theirs), others(was));
        }

        #[test]
        fn a_descriptor_of_another_payload_changes_at_most_its_bytes(
            payload in prop::collection::vec(any::<u8>(), 0..12), mut other in prop::collection::vec(any::<u8>(), 0..6)
        ) {
            if let Some(descriptor) = Vp8Descriptor::read(&payload) {
                descriptor.rewrite(&mut other, 1, 2);
                let _ = (descriptor.begins_key_frame(&other), descriptor.resolution(&other));
            }
        }
    }

    #[test]
    fn a_key_frame_tells_its_size() {
        let payload = [0x10, 0x50, 0, 0, 0x9D, 0x01, 0x2A, 0x00, 0x45, 0xD0, 0x02];
        let descriptor = Vp8Descriptor::read(&payload).unwrap();
        assert!(descriptor.begins_key_frame(&payload));
        assert_eq!(descriptor.resolution(&payload), Resolution::new(1_280, 720), "without the upscaling bits");
        for (at, wrong) in [(0, 0x11), (0, 0x00), (1, 0x51), (4, 0)] {
            let mut payload = payload;
            payload[at] = wrong;
            let descriptor = Vp8Descriptor::read(&payload).unwrap();
            assert_eq!(descriptor.resolution(&payload), None, "byte {at}");
        }
    }
}
