use lenscast_media::{Burst, EncodedFrame};

use super::{MAX_PAYLOAD, fragments};

/// Sends NAL units (RFC 6184): small ones together (STAP-A, §5.7.1), large ones in pieces (FU-A, §5.8), one that fits as it
/// is (§5.6).
#[derive(Debug)]
pub struct H264Packetizer;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_HEADERS: usize = 2;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
/// The bits of a NAL unit's first octet (RFC 6184 §1.3): F and NRI, and the type.
const FORBIDDEN_AND_REFERENCE: u8 = 0xE0;
const TYPE: u8 = 0x1F;
/// An access unit delimiter tells a receiver nothing that the marker bit does not.
const ACCESS_UNIT_DELIMITER: u8 = 9;

impl H264Packetizer {
    pub(super) fn packetize(&self, frame: &EncodedFrame<'_>, burst: &mut Burst) {
        let mut units = nal_units(frame.data).filter(|unit| unit[0] & TYPE != ACCESS_UNIT_DELIMITER).peekable();
        // Parameter sets and the like: what fits into one packet together, up to a unit that does not.
        let mut aggregate = Aggregate::default();
        while let Some(unit) = units.next() {
            if aggregate.fits(unit) {
                aggregate.units.push(unit);
                if units.peek().is_some() {
                    continue;
                }
                aggregate.flush(burst);
            } else {
                aggregate.flush(burst);
                if unit.len() <= MAX_PAYLOAD && units.peek().is_some() {
                    aggregate.units.push(unit);
                } else {
                    push_unit(unit, burst);
                }
            }
        }
    }
}

fn push_unit(unit: &[u8], burst: &mut Burst) {
    if unit.len() <= MAX_PAYLOAD {
        burst.push(&[unit]);
        return;
    }
    let (header, body) = (unit[0], &unit[1..]);
    let indicator = header & FORBIDDEN_AND_REFERENCE | FU_A;
    let mut left = body.len();
    for fragment in fragments(body, MAX_PAYLOAD - FU_HEADERS, 0) {
        let start = if left == body.len() { FU_START } else { 0 };
        left -= fragment.len();
        let end = if left == 0 { FU_END } else { 0 };
        burst.push(&[&[indicator, start | end | header & TYPE], fragment]);
    }
}

/// NAL units that wait to go out together.
#[derive(Default)]
struct Aggregate<'a> {
    units: Vec<&'a [u8]>,
}

impl<'a> Aggregate<'a> {
    fn fits(&self, unit: &[u8]) -> bool {
        let sizes = self.units.iter().map(|unit| 2 + unit.len()).sum::<usize>();
        1 + sizes + 2 + unit.len() <= MAX_PAYLOAD
    }

    fn flush(&mut self, burst: &mut Burst) {
        match &self.units[..] {
            [] => {}
            [unit] => burst.push(&[unit]),
            units => {
                // RFC 6184 §5.7: F is set if any unit's is, and NRI is the highest.
                let forbidden = units.iter().fold(0, |bits, unit| bits | unit[0] & 0x80);
                let reference = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
                let mut packet = Vec::with_capacity(MAX_PAYLOAD);
                packet.push(forbidden | reference | STAP_A);
                for unit in units {
                    packet.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                    packet.extend_from_slice(unit);
                }
                burst.push(&[&packet]);
            }
        }
        self.units.clear();
    }
}

/// Splits an access unit in Annex B form (H.264 B.1) at its start codes of three or four bytes. Empty units are passed
/// over, and so is what stands before the first start code.
fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = find_start_code(data).map_or(&[][..], |at| &data[at + 3..]);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let next = find_start_code(rest);
            let unit = &rest[..next.unwrap_or(rest.len())];
            rest = next.map_or(&[][..], |at| &rest[at + 3..]);
            // The fourth byte of a long start code, and padding (B.1: trailing_zero_8bits).
            let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if end > 0 {
                return Some(&unit[..end]);
            }
        }
        None
    })
}

fn find_start_code(data: &[u8]) -> Option<usize> {
    // Three bytes at a time: the third of a start code is 1, and what is above 1 cannot be part of one.
    let mut at = 2;
    while let Some(&byte) = data.get(at) {
        match byte {
            0 => at += 1,
            1 if data[at - 1] == 0 && data[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use bytes::Bytes;
    use lenscast_encoder::TemporalLayers;
    use lenscast_media::Codec;
    use proptest::prelude::*;
    use rtc_rtp::codec::h264::H264Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::super::Packetizer;
    use super::super::tests::{assert_equal_but_last, frame, packetized, payloads};
    use super::*;

    /// A NAL unit without start codes in it, as emulation prevention guarantees.
    fn unit(kind: u8, len: usize) -> Vec<u8> {
        let mut unit: Vec<u8> = (0..len).map(|byte| (byte as u8) | 2).collect();
        unit[0] = 0x60 | kind;
        unit
    }

    fn annex_b(units: &[Vec<u8>], long: bool) -> Vec<u8> {
        let start: &[u8] = if long { &[0, 0, 0, 1] } else { &[0, 0, 1] };
        units.iter().flat_map(|unit| [start, unit].concat()).collect()
    }

    fn reassembled(burst: &Burst) -> Vec<Vec<u8>> {
        let mut depacketizer = H264Packet::default();
        let stream: Vec<u8> = payloads(burst)
            .flat_map(|payload| depacketizer.depacketize(&Bytes::copy_from_slice(payload)).unwrap().to_vec())
            .collect();
        nal_units(&stream).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_key_frame_is_its_parameter_sets_together_and_then_its_slice_in_equal_pieces() {
        let units = [unit(7, 12), unit(8, 4), unit(5, 20_000)];
        let data = annex_b(&units, true);
        let burst =
            packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, &data, true));
        let payloads: Vec<_> = payloads(&burst).collect();
        assert_eq!(payloads[0][0], 0x60 | STAP_A);
        assert!(payloads[1..].iter().all(|payload| payload[0] == 0x60 | FU_A && payload[1] & TYPE == 5));
        assert_eq!((payloads[1][1] & FU_START, payloads.last().unwrap()[1] & FU_END), (FU_START, FU_END));
        assert_equal_but_last(&payloads[1..]);
        assert_eq!(reassembled(&burst), units);
    }

    #[test]
    fn a_small_frame_is_one_packet() {
        let units = [unit(9, 2), unit(7, 12), unit(8, 4), unit(5, 500)];
        let data = annex_b(&units, false);
        let burst =
            packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, &data, true));
        assert_eq!(burst.len(), 1);
        assert_eq!(reassembled(&burst), units[1..], "without the delimiter");
        let slice = annex_b(&[unit(1, 300)], true);
        let burst =
            packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, &slice, false));
        assert_eq!(burst.payload(0), unit(1, 300));
    }

    #[test]
    fn nothing_but_zeros_and_noise_makes_no_packet() {
        for data in [&[][..], &[0, 0], &[0, 0, 0, 0, 0, 0], &[5, 6, 7], &[0, 0, 1], &[0, 0, 1, 0, 0, 0, 1, 0]] {
            let burst =
                packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, data, false));
            assert!(burst.is_empty(), "{data:?}");
        }
    }

    proptest! {
        /// Units of three bytes at least: the other stack refuses a packet of two, unless it is a delimiter.
        #[test]
        fn another_stack_puts_the_units_together_again(
            shapes in prop::collection::vec((prop_oneof![1_u8..9, 10_u8..13], 3_usize..4_000), 1..12), long in any::<bool>()
        ) {
            let units: Vec<Vec<u8>> = shapes.into_iter().map(|(kind, len)| unit(kind, len)).collect();
            let data = annex_b(&units, long);
            let burst = packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, &data, true));
            prop_assert!(payloads(&burst).all(|payload| payload.len() <= MAX_PAYLOAD));
            prop_assert_eq!(reassembled(&burst), units);
        }

        #[test]
        fn start_codes_are_found_where_a_plain_search_finds_them(data in prop::collection::vec(0_u8..3, 0..200)) {
            let plain = data.windows(3).position(|window| window == [0, 0, 1]);
            prop_assert_eq!(find_start_code(&data), plain);
        }

        #[test]
        fn garbage_is_cut_without_panic(data in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..5_000)) {
            let burst = packetized(&mut Packetizer::new(Codec::H264, TemporalLayers::One), &frame(Codec::H264, &data, true));
            prop_assert!(payloads(&burst).all(|payload| payload.len() <= MAX_PAYLOAD && !payload.is_empty()));
        }
    }
}
