use lenscast_media::Resolution;

use super::bit_reader::BitReader;

/// What one VP9 payload's descriptor (RFC 9628 §4.2) says of its frame.
///
/// The spatial layers of one picture, which share a timestamp, are taken as one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp9Descriptor {
    /// B, of the lowest spatial layer.
    pub(crate) begins_frame: bool,
    /// Begins a frame that is not predicted from another picture.
    pub(crate) key_frame: bool,
    /// TID, 0 if absent.
    pub(crate) temporal_layer: u8,
    /// U: a point to switch up at.
    pub(crate) layer_sync: bool,
    /// Of the highest spatial layer by the scalability structure, else of the uncompressed header.
    pub(crate) resolution: Option<Resolution>,
    /// Bytes before the VP9 data; below the payload's length.
    pub(crate) len: usize,
}

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGIN: u8 = 0x08;
const STRUCTURE_PRESENT: u8 = 0x02;
/// M: the picture identifier has 15 bits.
const LONG: u8 = 0x80;
/// N: another reference follows.
const ANOTHER: u8 = 0x01;
/// RFC 9628 §4.2: "up to three times".
const MAX_REFERENCES: usize = 3;

impl Vp9Descriptor {
    /// `None` unless the descriptor is complete and at least one byte of VP9 data stands behind it.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let control = next(&mut rest)?;
        if control & PICTURE_ID != 0 && next(&mut rest)? & LONG != 0 {
            next(&mut rest)?;
        }
        let (mut temporal_layer, mut spatial_layer, mut layer_sync) = (0, 0, false);
        if control & LAYER_INDICES != 0 {
            let layers = next(&mut rest)?;
            (temporal_layer, spatial_layer, layer_sync) = (layers >> 5, layers >> 1 & 7, layers & 0x10 != 0);
            if control & FLEXIBLE == 0 {
                let _base_layer_index = next(&mut rest)?;
            }
        }
        if control & FLEXIBLE != 0 && control & INTER_PREDICTED != 0 {
            let mut references = 1;
            while next(&mut rest)? & ANOTHER != 0 {
                references += 1;
                if references > MAX_REFERENCES {
                    return None;
                }
            }
        }
        let mut resolution = None;
        if control & STRUCTURE_PRESENT != 0 {
            resolution = read_structure(&mut rest)?;
        }
        if rest.is_empty() {
            return None;
        }
        let begins_frame = control & BEGIN != 0 && spatial_layer == 0;
        let key_frame = begins_frame && control & INTER_PREDICTED == 0;
        if key_frame && resolution.is_none() {
            resolution = resolution_of_uncompressed_header(rest);
        }
        Some(Self { begins_frame, key_frame, temporal_layer, layer_sync, resolution, len: payload.len() - rest.len() })
    }
}

fn next(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(byte)
}

/// RFC 9628 §4.2.1. The outer `None` if it is cut off, the inner if it has no size.
fn read_structure(rest: &mut &[u8]) -> Option<Option<Resolution>> {
    let head = next(rest)?;
    let mut resolution = None;
    if head & 0x10 != 0 {
        for _ in 0..=head >> 5 {
            let (size, behind) = rest.split_first_chunk::<4>()?;
            let side = |at: usize| u32::from(u16::from_be_bytes([size[at], size[at + 1]]));
            resolution = Resolution::new(side(0), side(2));
            *rest = behind;
        }
    }
    if head & 0x08 != 0 {
        for _ in 0..next(rest)? {
            let references = usize::from(next(rest)? >> 2 & 3);
            *rest = rest.get(references..)?;
        }
    }
    Some(resolution)
}

/// VP9 bitstream specification §6.2 (`uncompressed_header`), of a key frame.
fn resolution_of_uncompressed_header(data: &[u8]) -> Option<Resolution> {
    const FRAME_MARKER: u32 = 2;
    const SYNC_CODE: u32 = 0x49_83_42;
    const SRGB: u32 = 7;
    let mut reader = BitReader::new(data);
    if reader.bits(2)? != FRAME_MARKER {
        return None;
    }
    let profile = u32::from(reader.bit()?) | u32::from(reader.bit()?) << 1;
    if profile == 3 {
        reader.skip(1)?;
    }
    let (shows_existing, inter) = (reader.bit()?, reader.bit()?);
    if shows_existing || inter {
        return None;
    }
    // show_frame, error_resilient_mode.
    reader.skip(2)?;
    if reader.bits(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        let _twelve_bits = reader.bit()?;
    }
    let subsampling_given = profile & 1 == 1;
    if reader.bits(3)? != SRGB {
        let _full_range = reader.bit()?;
        if subsampling_given {
            reader.skip(3)?;
        }
    } else if subsampling_given {
        reader.skip(1)?;
    }
    let width = reader.bits(16)? + 1;
    let height = reader.bits(16)? + 1;
    Resolution::new(width, height)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::codec::vp9::Vp9Packet;
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;

    /// As drawn in RFC 9628 §4.2.
    fn descriptor() -> impl Strategy<Value = Vec<u8>> {
        let references = prop::collection::vec(any::<u8>(), 1..3);
        let sizes = prop::collection::vec((16_u16..300, 16_u16..300), 1..8);
        let group = prop::collection::vec((0_u8..8, any::<bool>(), prop::collection::vec(any::<u8>(), 0..4)), 0..8);
        let layers = (0_u8..8, any::<bool>(), 0_u8..5, any::<u8>());
        (any::<u8>(), any::<u16>(), layers, references, (any::<bool>(), sizes), (any::<bool>(), group)).prop_map(
            |(control, id, (temporal, sync, spatial, index), references, (sized, sizes), (grouped, group))| {
                let mut written = vec![control];
                if control & PICTURE_ID != 0 {
                    let [high, low] = id.to_be_bytes();
                    written.push(high);
                    written.extend((high & LONG != 0).then_some(low));
                }
                if control & LAYER_INDICES != 0 {
                    written.push(temporal << 5 | u8::from(sync) << 4 | spatial << 1);
                    written.extend((control & FLEXIBLE == 0).then_some(index));
                }
                if control & FLEXIBLE != 0 && control & INTER_PREDICTED != 0 {
                    let last = references.len() - 1;
                    written.extend(references.iter().enumerate().map(|(at, r)| r & !ANOTHER | u8::from(at < last)));
                }
                if control & STRUCTURE_PRESENT != 0 {
                    let layers = (sizes.len() - 1) as u8;
                    written.push(layers << 5 | u8::from(sized) << 4 | u8::from(grouped) << 3);
                    for (width, height) in sizes.iter().filter(|_| sized) {
                        written.extend((width * 2).to_be_bytes());
                        written.extend((height * 2).to_be_bytes());
                    }
                    if grouped {
                        written.push(group.len() as u8);
                        for (layer, up, distances) in group {
                            written.push(layer << 5 | u8::from(up) << 4 | (distances.len() as u8) << 2);
                            written.extend(distances);
                        }
                    }
                }
                written
            },
        )
    }

    proptest! {
        #[test]
        fn another_stack_reads_the_same(descriptor in descriptor()) {
            prop_assert_eq!(Vp9Descriptor::read(&descriptor), None, "nothing behind the descriptor");
            let mut payload = descriptor.clone();
            payload.extend_from_slice(&[0xFF; 3]);
            let ours = Vp9Descriptor::read(&payload).unwrap();
            let mut theirs = Vp9Packet::default();
            let data = theirs.depacketize(&Bytes::from(payload.clone())).unwrap();
            prop_assert_eq!(ours.len, payload.len() - data.len());
            prop_assert_eq!(ours.begins_frame, theirs.b && theirs.sid == 0);
            prop_assert_eq!(ours.key_frame, theirs.b && theirs.sid == 0 && !theirs.p);
            prop_assert_eq!((ours.temporal_layer, ours.layer_sync), (theirs.tid, theirs.u));
            let size = theirs.width.last().zip(theirs.height.last());
            prop_assert_eq!(ours.resolution, size.and_then(|(w, h)| Resolution::new(u32::from(*w), u32::from(*h))));
            for cut in 0..descriptor.len() {
                prop_assert_eq!(Vp9Descriptor::read(&descriptor[..cut]), None);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(descriptor) = Vp9Descriptor::read(&bytes) {
                prop_assert!(descriptor.len < bytes.len());
            }
        }
    }

    #[test]
    fn a_key_frame_without_structure_tells_its_size_in_its_header() {
        // Profile 0: marker 10, profile 00, shown 0, key 0, show 1, resilient 0; sync code; colour 000, range 0; size.
        let mut payload = vec![BEGIN, 0b1000_0010, 0x49, 0x83, 0x42];
        let sides = u64::from(1_279_u16) << 16 | u64::from(719_u16);
        payload.extend_from_slice(&(sides << 28).to_be_bytes()[..5]);
        assert_eq!(Vp9Descriptor::read(&payload).unwrap().resolution, Resolution::new(1_280, 720));
        payload[3] = 0;
        assert_eq!(Vp9Descriptor::read(&payload).unwrap().resolution, None);
    }
}
