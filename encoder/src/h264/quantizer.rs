//! Reads a frame's quantizer out of its bitstream: openh264 has it only as statistics over seconds.
//!
//! SliceQPY of the first slice is `26 + pic_init_qp_minus26 + slice_qp_delta` (ITU-T H.264 §7.4.3), with which the slice
//! begins; openh264 moves from it by a few steps within the frame. libwebrtc reads the same
//! (`common_video/h264/h264_bitstream_parser.cc`).
//!
//! **Invariant.** Any bytes are read without a panic, in a time that their length bounds. What is not understood gives
//! no quantizer.
//!
//! What it does not do: fields, more than one slice group, or the profiles above baseline, none of which is made here.

// ITU-T H.264 table 7-1.
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;

/// The coarsest (§7.4.2.2).
const LARGEST: i64 = 51;

/// Follows one stream.
#[derive(Debug, Default)]
pub(super) struct QuantizerReader {
    sequence: Option<Sequence>,
    picture: Option<PictureParameters>,
}

/// What a slice header's form depends on, of a sequence parameter set (§7.3.2.1.1).
#[derive(Debug, Clone, Copy)]
struct Sequence {
    frame_num_bits: u32,
    order: OrderCount,
}

#[derive(Debug, Clone, Copy)]
enum OrderCount {
    Bits(u32),
    /// `pic_order_cnt_type` 1 with `delta_pic_order_always_zero_flag`, or 2.
    Absent,
    /// `pic_order_cnt_type` 1.
    Deltas,
}

/// The same of a picture parameter set (§7.3.2.2).
#[derive(Debug, Clone, Copy)]
struct PictureParameters {
    order_present: bool,
    initial_quantizer: i64,
    redundant_counts: bool,
    weighted: bool,
}

impl QuantizerReader {
    /// The quantizer of an access unit in Annex B form. Parameter sets in it hold from here on.
    pub(super) fn read(&mut self, access_unit: &[u8]) -> Option<u8> {
        for unit in nal_units(access_unit) {
            let (&header, payload) = unit.split_first()?;
            let mut bits = BitReader::new(payload);
            match header & 0x1F {
                SPS => self.sequence = Sequence::read(&mut bits),
                PPS => self.picture = PictureParameters::read(&mut bits),
                kind @ (SLICE | IDR_SLICE) => {
                    let is_reference = header >> 5 & 3 != 0;
                    return slice_quantizer(&mut bits, self.sequence?, self.picture?, kind == IDR_SLICE, is_reference);
                }
                _ => {}
            }
        }
        None
    }
}

impl Sequence {
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let profile = bits.bits(8)?;
        bits.bits(16)?; // Constraints and level.
        if profile != 66 && profile != 77 {
            return None;
        }
        bits.unsigned()?; // seq_parameter_set_id
        let frame_num_bits = small(bits.unsigned()?, 12)? + 4;
        let order = match bits.unsigned()? {
            0 => OrderCount::Bits(small(bits.unsigned()?, 12)? + 4),
            1 if bits.flag()? => OrderCount::Absent,
            1 => OrderCount::Deltas,
            2 => OrderCount::Absent,
            _ => return None,
        };
        Some(Self { frame_num_bits, order })
    }
}

impl PictureParameters {
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        bits.unsigned()?; // pic_parameter_set_id
        bits.unsigned()?; // seq_parameter_set_id
        bits.flag()?; // entropy_coding_mode_flag
        let order_present = bits.flag()?;
        if bits.unsigned()? != 0 {
            return None; // Slice groups.
        }
        bits.unsigned()?; // num_ref_idx_l0_default_active_minus1
        bits.unsigned()?; // num_ref_idx_l1_default_active_minus1
        let weighted = bits.flag()?;
        bits.bits(2)?; // weighted_bipred_idc
        let initial_quantizer = 26 + bits.signed()?;
        bits.signed()?; // pic_init_qs_minus26
        bits.signed()?; // chroma_qp_index_offset
        bits.bits(2)?; // deblocking_filter_control_present_flag, constrained_intra_pred_flag
        let redundant_counts = bits.flag()?;
        Some(Self { order_present, initial_quantizer, redundant_counts, weighted })
    }
}

/// §7.3.3, as far as `slice_qp_delta`.
fn slice_quantizer(
    bits: &mut BitReader<'_>,
    sequence: Sequence,
    picture: PictureParameters,
    is_idr: bool,
    is_reference: bool,
) -> Option<u8> {
    bits.unsigned()?; // first_mb_in_slice
    let is_predicted = match bits.unsigned()? % 5 {
        0 => true,
        2 => false,
        _ => return None, // B, SP and SI.
    };
    bits.unsigned()?; // pic_parameter_set_id
    bits.bits(sequence.frame_num_bits)?;
    if is_idr {
        bits.unsigned()?; // idr_pic_id
    }
    let deltas = 1 + u32::from(picture.order_present);
    match sequence.order {
        OrderCount::Bits(count) => {
            bits.bits(count)?;
            for _ in 1..deltas {
                bits.signed()?;
            }
        }
        OrderCount::Deltas => {
            for _ in 0..deltas {
                bits.signed()?;
            }
        }
        OrderCount::Absent => {}
    }
    if picture.redundant_counts {
        bits.unsigned()?;
    }
    if is_predicted {
        if bits.flag()? {
            bits.unsigned()?; // num_ref_idx_l0_active_minus1
        }
        if bits.flag()? {
            // ref_pic_list_modification, each of at least two bits.
            while bits.unsigned()? != 3 {
                bits.unsigned()?;
            }
        }
        if picture.weighted {
            return None;
        }
    }
    if is_reference {
        if is_idr {
            bits.bits(2)?; // no_output_of_prior_pics_flag, long_term_reference_flag
        } else if bits.flag()? {
            // dec_ref_pic_marking, each of at least one bit.
            loop {
                match bits.unsigned()? {
                    0 => break,
                    3 => {
                        bits.unsigned()?;
                        bits.unsigned()?;
                    }
                    5 => {}
                    _ => {
                        bits.unsigned()?;
                    }
                }
            }
        }
    }
    let quantizer = picture.initial_quantizer + bits.signed()?;
    u8::try_from(quantizer).ok().filter(|&quantizer| i64::from(quantizer) <= LARGEST)
}

fn small(value: u64, most: u32) -> Option<u32> {
    u32::try_from(value).ok().filter(|&value| value <= most)
}

/// What follows each start code, to the end of `data`. Headers are at the front of a NAL unit, so that nothing reads
/// beyond its own, and the bulk of a slice is never looked through.
fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(after_start_code(data), |unit| after_start_code(unit))
}

const START_CODE: [u8; 3] = [0, 0, 1];

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    let start = data.windows(START_CODE.len()).position(|window| window == START_CODE)?;
    Some(&data[start + START_CODE.len()..])
}

/// Reads a NAL unit's payload bit by bit, without its emulation prevention bytes (§7.4.1).
#[derive(Debug)]
struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// Zero bytes in a row so far.
    zeros: u32,
    byte: u8,
    left: u32,
}

impl<'a> BitReader<'a> {
    fn new(payload: &'a [u8]) -> Self {
        Self { bytes: payload.iter(), zeros: 0, byte: 0, left: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            let mut byte = *self.bytes.next()?;
            if self.zeros >= 2 && byte == 3 {
                self.zeros = 0;
                byte = *self.bytes.next()?;
            }
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
            (self.byte, self.left) = (byte, 8);
        }
        self.left -= 1;
        Some(self.byte >> self.left & 1 == 1)
    }

    /// u(n) of at most 32 bits.
    fn bits(&mut self, count: u32) -> Option<u64> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u64::from(self.flag()?)))
    }

    /// ue(v) (§9.1).
    fn unsigned(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 32 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// se(v) (§9.1.1).
    fn signed(&mut self) -> Option<i64> {
        let code = i64::try_from(self.unsigned()?).ok()?;
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Baseline, 4 bits of `frame_num`, order counts absent; and pictures that start from 30.
    const SETS: [u8; 20] = [0, 0, 0, 1, 0x67, 0x42, 0xC0, 0x1E, 0xDA, 5, 5, 0xE4, 0, 0, 0, 1, 0x68, 0xCE, 4, 0x72];

    #[test]
    fn a_slice_that_reorders_and_marks_references_is_read_to_its_quantizer() {
        // P, frame_num 3, the reference before, one marked as unused; slice_qp_delta −3.
        let slice = [0, 0, 1, 0x61, 0x9A, 0x6E, 0x4A, 0xCE, 0xB0];
        let mut reader = QuantizerReader::default();
        assert_eq!(reader.read(&SETS), None);
        assert_eq!(reader.read(&slice), Some(27));
    }

    #[test]
    fn exp_golomb_codes_are_read_as_in_table_9_2() {
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let codes: Vec<_> = (0..5).map(|_| bits.unsigned()).collect();
        assert_eq!(codes, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        let mut bits = BitReader::new(&[0b0100_1100, 0b1000_0101]);
        assert_eq!(
            [bits.signed(), bits.signed(), bits.signed(), bits.signed()],
            [Some(1), Some(-1), Some(2), Some(-2)]
        );
        assert_eq!(BitReader::new(&[0; 9]).unsigned(), None);
    }

    #[test]
    fn emulation_prevention_bytes_are_no_part_of_the_payload() {
        let mut bits = BitReader::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!((bits.bits(24), bits.bits(16), bits.bits(1)), (Some(1), Some(0), None));
    }

    #[test]
    fn without_parameter_sets_there_is_no_quantizer() {
        assert_eq!(QuantizerReader::default().read(&[0, 0, 1, 0x65, 0x88, 0x80, 0x10]), None);
        assert_eq!(QuantizerReader::default().read(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(
            units in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let mut reader = QuantizerReader::default();
            for (header, payload) in units {
                // Mostly the kinds that are looked into.
                let header = if header & 0x80 == 0 { header & 0x60 | [SLICE, IDR_SLICE, SPS, PPS][usize::from(header & 3)] } else { header };
                let unit = [&[0, 0, 1, header], &payload[..]].concat();
                let quantizer = reader.read(&unit);
                prop_assert!(quantizer.is_none_or(|quantizer| quantizer <= 51));
            }
        }

        #[test]
        fn any_slice_after_real_parameter_sets_is_read(payload in prop::collection::vec(any::<u8>(), 0..60), header in any::<u8>()) {
            let mut reader = QuantizerReader::default();
            reader.read(&SETS);
            prop_assert!(reader.sequence.is_some() && reader.picture.is_some());
            let kind = if header & 1 == 0 { SLICE } else { IDR_SLICE };
            let quantizer = reader.read(&[&[0, 0, 1, header & 0x60 | kind], &payload[..]].concat());
            prop_assert!(quantizer.is_none_or(|quantizer| quantizer <= 51));
        }
    }
}
