use lenscast_media::Resolution;

use super::bit_reader::BitReader;

/// What one H.264 payload (RFC 6184, packetization mode 1: single NAL units, STAP-A, FU-A) says of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct H264Payload {
    /// Holds the first NAL unit that an access unit can have: a delimiter, a parameter set, or its first slice
    /// (H.264 §7.4.1.2.3). One that has several of them says so several times.
    pub(crate) may_begin_frame: bool,
    /// Holds a sequence parameter set, which senders repeat with each picture that a decoder can start at, and only there
    /// (the same sign that mediasoup's `Codecs/H264.cpp` goes by).
    pub(crate) key_frame: bool,
    /// Of the sequence parameter set, if the packet has a whole one of a size that lenscast handles.
    pub(crate) resolution: Option<Resolution>,
}

/// NAL unit types (H.264 table 7-1, RFC 6184 table 3).
const SLICE: u8 = 1;
const SLICE_OF_KEY_FRAME: u8 = 5;
const SEQUENCE_PARAMETERS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const TYPE: u8 = 0x1F;
const FU_START: u8 = 0x80;

impl H264Payload {
    /// `None` for what the packetization mode does not have, and for what is cut off.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let (&first, rest) = payload.split_first()?;
        match first & TYPE {
            1..=23 => found.add_unit(first & TYPE, rest, true),
            STAP_A => {
                let mut units = rest;
                if units.is_empty() {
                    return None;
                }
                while let Some((len, behind)) = units.split_first_chunk::<2>() {
                    let (unit, next) = behind.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
                    let (&header, body) = unit.split_first()?;
                    found.add_unit(header & TYPE, body, true);
                    units = next;
                }
            }
            FU_A => {
                let (&header, body) = rest.split_first()?;
                if header & FU_START != 0 {
                    found.add_unit(header & TYPE, body, false);
                }
            }
            _ => return None,
        }
        Some(found)
    }

    /// `body` is what follows the unit's first octet, `whole` or up to where it was cut.
    fn add_unit(&mut self, unit_type: u8, body: &[u8], whole: bool) {
        match unit_type {
            ACCESS_UNIT_DELIMITER => self.may_begin_frame = true,
            SEQUENCE_PARAMETERS => {
                self.may_begin_frame = true;
                self.key_frame = true;
                if whole {
                    self.resolution = resolution_of_sequence_parameters(body).or(self.resolution);
                }
            }
            // first_mb_in_slice = 0 is a single set bit.
            SLICE | SLICE_OF_KEY_FRAME => self.may_begin_frame |= body.first().is_some_and(|byte| byte & 0x80 != 0),
            _ => {}
        }
    }
}

/// Profiles whose parameter sets say how chroma is sampled (H.264 §7.3.2.1.1).
const WITH_CHROMA_FORMAT: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// The most reference frames in an order cycle (H.264 §7.4.2.1.1).
const MAX_ORDER_CYCLE: u32 = 255;

/// H.264 §7.3.2.1.1, as far as the frame's size and cropping.
fn resolution_of_sequence_parameters(body: &[u8]) -> Option<Resolution> {
    let mut reader = BitReader::of_nal_unit(body);
    let profile = reader.bits(8)?;
    // Constraints and level.
    reader.skip(16)?;
    let _id = reader.unsigned()?;
    let mut chroma_format = 1;
    let mut separate_planes = false;
    if WITH_CHROMA_FORMAT.contains(&profile) {
        chroma_format = reader.unsigned()?;
        if chroma_format == 3 {
            separate_planes = reader.bit()?;
        }
        let _luma_depth = reader.unsigned()?;
        let _chroma_depth = reader.unsigned()?;
        let _transform_bypass = reader.bit()?;
        if reader.bit()? {
            for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                if reader.bit()? {
                    skip_scaling_list(&mut reader, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let _frame_number_bits = reader.unsigned()?;
    match reader.unsigned()? {
        0 => drop(reader.unsigned()?),
        1 => {
            reader.bit()?;
            reader.signed()?;
            reader.signed()?;
            let cycle = reader.unsigned()?;
            if cycle > MAX_ORDER_CYCLE {
                return None;
            }
            for _ in 0..cycle {
                reader.signed()?;
            }
        }
        _ => {}
    }
    let _reference_frames = reader.unsigned()?;
    let _gaps_allowed = reader.bit()?;
    let width_units = reader.unsigned()?.checked_add(1)?;
    let height_units = reader.unsigned()?.checked_add(1)?;
    let frames_only = reader.bit()?;
    if !frames_only {
        let _adaptive_field = reader.bit()?;
    }
    let _direct_inference = reader.bit()?;
    let mut crop = [0; 4];
    if reader.bit()? {
        for side in &mut crop {
            *side = reader.unsigned()?;
        }
    }
    let [left, right, top, bottom] = crop;
    let fields = if frames_only { 1 } else { 2 };
    // Table 6-1: how many luma samples a chroma sample stands for; monochrome counts single ones.
    let (wide, high) = match (chroma_format, separate_planes) {
        (1, _) => (2, 2),
        (2, _) => (2, 1),
        _ => (1, 1),
    };
    let side = |units: u32, before: u32, after: u32, unit: u32| {
        units.checked_mul(16)?.checked_sub(before.checked_add(after)?.checked_mul(unit)?)
    };
    let width = side(width_units, left, right, wide)?;
    let height = side(height_units.checked_mul(fields)?, top, bottom, high * fields)?;
    Resolution::new(width, height)
}

/// H.264 §7.3.2.1.1.1.
fn skip_scaling_list(reader: &mut BitReader<'_>, len: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = (last + reader.signed()?.rem_euclid(256)).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Bits(Vec<bool>);

    impl Bits {
        fn push(&mut self, value: u32, count: u32) {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        }

        fn push_code(&mut self, value: u32) {
            let len = 32 - (value + 1).leading_zeros();
            self.push(0, len - 1);
            self.push(value + 1, len);
        }

        /// Complete bytes, with escape bytes where they are needed.
        fn escaped(mut self) -> Vec<u8> {
            self.0.push(true);
            let bytes = self
                .0
                .chunks(8)
                .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at)));
            let mut written = Vec::new();
            for byte in bytes {
                if byte <= 3 && written.ends_with(&[0, 0]) {
                    written.push(3);
                }
                written.push(byte);
            }
            written
        }
    }

    fn sequence_parameters(profile: u32, width: u32, height: u32, interlaced: bool) -> Vec<u8> {
        let mut bits = Bits(Vec::new());
        bits.push(7 | 3 << 5, 8);
        bits.push(profile, 8);
        bits.push(0, 8);
        bits.push(31, 8);
        bits.push_code(0);
        if WITH_CHROMA_FORMAT.contains(&profile) {
            bits.push_code(1);
            bits.push_code(0);
            bits.push_code(0);
            bits.push(0, 1);
            // One scaling list that repeats, and seven that are not there.
            bits.push(1, 1);
            bits.push(1, 1);
            bits.push_code(16);
            bits.push(0, 7);
        }
        bits.push_code(0);
        bits.push_code(2);
        bits.push_code(1);
        bits.push(0, 1);
        bits.push_code(width.div_ceil(16) - 1);
        // Of fields, units and cropping count twice (§7.4.2.1.1).
        let fields = if interlaced { 2 } else { 1 };
        bits.push_code(height.div_ceil(16 * fields) - 1);
        bits.push(u32::from(!interlaced), 1);
        bits.push(0, if interlaced { 1 } else { 0 });
        bits.push(1, 1);
        let below = height.next_multiple_of(16 * fields) - height;
        let crop = [0, (16 - width % 16) % 16 / 2, 0, below / (2 * fields)];
        bits.push(1, 1);
        for side in crop {
            bits.push_code(side);
        }
        bits.push(0, 1);
        bits.escaped()
    }

    #[test]
    fn units_are_found_alone_together_and_in_pieces() {
        let set = sequence_parameters(66, 1_280, 720, false);
        let mut together = vec![STAP_A, 0, set.len() as u8];
        together.extend_from_slice(&set);
        together.extend_from_slice(&[0, 2, 0x68, 0xCE, 0, 2, 0x65, 0x88]);
        for payload in [&set, &together] {
            let read = H264Payload::read(payload).unwrap();
            assert_eq!(read.resolution, Resolution::new(1_280, 720));
            assert!(read.key_frame && read.may_begin_frame);
        }
        let flags = |payload: &[u8]| H264Payload::read(payload).map(|read| (read.may_begin_frame, read.key_frame));
        assert_eq!(flags(&[0x65, 0x88]), Some((true, false)), "a decoder cannot start without parameter sets");
        assert_eq!(flags(&[0x41, 0x40]), Some((false, false)), "not the first slice");
        assert_eq!(flags(&[0x7C, 0x85, 0x88]), Some((true, false)));
        assert_eq!(flags(&[0x7C, 0x05, 0x88]), Some((false, false)), "the middle of a unit");
        assert_eq!(flags(&[0x7C, 0x87, 0x42]), Some((true, true)), "parameters cut in pieces");
        assert_eq!(flags(&[0x09, 0x10]), Some((true, false)));
        for cut in [&[][..], &[STAP_A], &[STAP_A, 0, 9, 1], &[STAP_A, 0, 0], &[0x7C], &[0x7D, 0], &[30, 1]] {
            assert_eq!(flags(cut), None, "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn sizes_are_read_through_cropping_and_escapes(
            width in 8_u32..2_048, height in 4_u32..1_024, profile in prop::sample::select(vec![66, 77, 100, 244]),
            interlaced: bool
        ) {
            let read = H264Payload::read(&sequence_parameters(profile, width * 2, height * 4, interlaced)).unwrap();
            prop_assert_eq!(read.resolution, Resolution::new(width * 2, height * 4));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = H264Payload::read(&bytes);
            let mut set = vec![0x67];
            set.extend_from_slice(&bytes);
            let _ = H264Payload::read(&set);
        }
    }
}
