//! What the bitstreams themselves say, read by the letter of their specifications.

use lenscast_media::Codec;

/// Whether a decoder can start at this frame.
pub(crate) fn is_key_frame(codec: Codec, data: &[u8]) -> bool {
    match codec {
        // RFC 6386 §9.1: the lowest bit of the frame tag, inverse.
        Codec::Vp8 => data[0] & 1 == 0,
        Codec::Vp9 => {
            // VP9 bitstream specification §6.2: frame_marker, profile 0, show_existing_frame, frame_type, show_frame.
            assert_eq!(data[0] >> 3, 0b10000, "a frame of profile 0 that is shown from its own data");
            assert_eq!(data[0] >> 1 & 1, 1, "shown");
            data[0] >> 2 & 1 == 0
        }
        Codec::H264 => nal_units(data).iter().any(|nal| nal_type(nal) == IDR_SLICE),
    }
}

// ITU-T H.264 table 7-1.
pub(crate) const SLICE: u8 = 1;
pub(crate) const IDR_SLICE: u8 = 5;
pub(crate) const SPS: u8 = 7;
pub(crate) const PPS: u8 = 8;

pub(crate) fn nal_type(nal: &[u8]) -> u8 {
    nal[0] & 0x1F
}

/// The NAL units of an Annex B access unit, without start codes. Panics unless it starts with one.
pub(crate) fn nal_units(data: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut start = None;
    let mut position = 0;
    while position + 3 <= data.len() {
        if data[position..position + 3] == [0, 0, 1] {
            match start {
                // The zero before the start code is its own fourth byte.
                Some(start) => units.push(data[start..position].strip_suffix(&[0]).unwrap_or(&data[start..position])),
                None => assert!(data[..position].iter().all(|&byte| byte == 0), "nothing before the first start code"),
            }
            start = Some(position + 3);
            position += 3;
        } else {
            position += 1;
        }
    }
    units.push(&data[start.expect("a start code")..]);
    units
}
