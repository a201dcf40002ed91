use lenscast_media::NtpTime;

use crate::{ExtensionId, ReceivedExtensions};

/// The bytes of a packet's header extension (RFC 3550 §5.3.1), as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeaderExtensionBytes<'a> {
    pub(super) profile: u16,
    pub(super) data: &'a [u8],
}

/// RFC 8285 §4.2.
const ONE_BYTE_FORM: u16 = 0xBEDE;
/// RFC 8285 §4.3; the lowest four bits are the application's.
const TWO_BYTE_FORM: u16 = 0x1000;
/// RFC 8285 §4.2: ends the reading.
const RESERVED: u8 = 15;

impl<'a> HeaderExtensionBytes<'a> {
    /// The elements of either form in order, up to the first malformed one. Those of another form are none.
    #[must_use]
    pub fn elements(self) -> Elements<'a> {
        let form = match self.profile {
            ONE_BYTE_FORM => Form::OneByte,
            profile if profile & 0xFFF0 == TWO_BYTE_FORM => Form::TwoByte,
            _ => return Elements { form: Form::OneByte, rest: &[], malformed: false },
        };
        Elements { form, rest: self.data, malformed: false }
    }
}

/// Identifiers and data of a header extension's elements.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    form: Form,
    rest: &'a [u8],
    malformed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    OneByte,
    TwoByte,
}

impl Elements<'_> {
    /// True once an element was met that says it is longer than what is there, or padding with a length.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }

    fn end(&mut self, malformed: bool) {
        self.rest = &[];
        self.malformed = malformed;
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        while let Some((&head, behind)) = self.rest.split_first() {
            if head == 0 {
                self.rest = behind;
                continue;
            }
            let (id, len, behind) = match self.form {
                Form::OneByte => (head >> 4, usize::from(head & 0x0F) + 1, behind),
                Form::TwoByte => match behind.split_first() {
                    Some((&len, behind)) => (head, usize::from(len), behind),
                    None => (0, 0, behind),
                },
            };
            // Of the one-byte form 0 is padding and has no length, and 15 ends it (RFC 8285 §4.2).
            if matches!(self.form, Form::OneByte) && id == RESERVED {
                self.end(false);
                return None;
            }
            let Some((data, rest)) = behind.split_at_checked(len).filter(|_| id != 0) else {
                self.end(true);
                return None;
            };
            self.rest = rest;
            return Some((id, data));
        }
        None
    }
}

/// What one packet's header extension says, of what was negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionValues<'a> {
    /// The m-section's identification (RFC 9143 §15.2).
    pub mid: Option<&'a [u8]>,
    /// The encoding's identification (RFC 8852 §3.1).
    pub rid: Option<&'a [u8]>,
    /// In a retransmission: that of the encoding it repairs (RFC 8852 §3.2).
    pub repaired_rid: Option<&'a [u8]>,
    /// When the picture was taken, on the sender's clock.
    pub absolute_capture_time: Option<NtpTime>,
    /// When the packet was sent: 24 bits of 1/2^18 s, wraps every 64 s.
    pub absolute_send_time: Option<u32>,
    /// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
    pub transport_sequence: Option<u16>,
    /// How the picture is to be turned (3GPP TS 26.114 §7.4.5).
    pub video_orientation: Option<u8>,
    /// Voice activity and level in −dBov (RFC 6464 §3).
    pub audio_level: Option<u8>,
    /// Minimum and maximum, 12 bits of 10 ms each.
    pub playout_delay: Option<[u8; 3]>,
    /// The extension, or a known element of it, is malformed.
    pub malformed: bool,
}

/// Reads the header extensions that a session has negotiated.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtensionReader {
    /// By identifier.
    kinds: [Option<Kind>; 16],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Mid,
    Rid,
    RepairedRid,
    AbsoluteCaptureTime,
    AbsoluteSendTime,
    TransportSequence,
    VideoOrientation,
    AudioLevel,
    PlayoutDelay,
}

impl ExtensionReader {
    /// For the identifiers that the sender negotiated. One that is given twice stands for the later of the two.
    #[must_use]
    pub fn new(negotiated: &ReceivedExtensions) -> Self {
        let known: [(Option<ExtensionId>, Kind); 9] = [
            (negotiated.mid, Kind::Mid),
            (negotiated.rid, Kind::Rid),
            (negotiated.repaired_rid, Kind::RepairedRid),
            (negotiated.absolute_capture_time, Kind::AbsoluteCaptureTime),
            (negotiated.absolute_send_time, Kind::AbsoluteSendTime),
            (negotiated.transport_sequence, Kind::TransportSequence),
            (negotiated.video_orientation, Kind::VideoOrientation),
            (negotiated.audio_level, Kind::AudioLevel),
            (negotiated.playout_delay, Kind::PlayoutDelay),
        ];
        let mut kinds = [None; 16];
        for (id, kind) in known {
            if let Some(id) = id {
                kinds[usize::from(id.value())] = Some(kind);
            }
        }
        Self { kinds }
    }

    /// What `extension` says. Elements of other identifiers are passed over.
    #[inline]
    #[must_use]
    pub fn read<'a>(&self, extension: HeaderExtensionBytes<'a>) -> ExtensionValues<'a> {
        let mut values = ExtensionValues::default();
        let mut elements = extension.elements();
        for (id, data) in &mut elements {
            if let Some(Some(kind)) = self.kinds.get(usize::from(id)) {
                values.malformed |= values.set(*kind, data).is_none();
            }
        }
        values.malformed |= elements.is_malformed();
        values
    }
}

impl<'a> ExtensionValues<'a> {
    fn set(&mut self, kind: Kind, data: &'a [u8]) -> Option<()> {
        match kind {
            Kind::Mid => self.mid = Some(data),
            Kind::Rid => self.rid = Some(data),
            Kind::RepairedRid => self.repaired_rid = Some(data),
            // Longer with the estimated clock offset, which is not ours to pass on.
            Kind::AbsoluteCaptureTime => {
                self.absolute_capture_time = Some(NtpTime(u64::from_be_bytes(*data.first_chunk()?)));
            }
            Kind::AbsoluteSendTime => {
                let [high, middle, low] = *data.first_chunk()?;
                self.absolute_send_time = Some(u32::from_be_bytes([0, high, middle, low]));
            }
            Kind::TransportSequence => self.transport_sequence = Some(u16::from_be_bytes(*data.first_chunk()?)),
            Kind::VideoOrientation => self.video_orientation = Some(*data.first()?),
            Kind::AudioLevel => self.audio_level = Some(*data.first()?),
            Kind::PlayoutDelay => self.playout_delay = Some(*data.first_chunk()?),
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader() -> ExtensionReader {
        let id = ExtensionId::new;
        ExtensionReader::new(&ReceivedExtensions {
            mid: id(1),
            rid: id(2),
            repaired_rid: id(3),
            absolute_capture_time: id(4),
            absolute_send_time: id(5),
            transport_sequence: id(6),
            video_orientation: id(7),
            audio_level: id(8),
            playout_delay: id(9),
        })
    }

    fn written(two_byte: bool, elements: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut data = Vec::new();
        for (id, element) in elements {
            match two_byte {
                true => data.extend_from_slice(&[*id, element.len() as u8]),
                false => data.push(id << 4 | (element.len() - 1) as u8),
            }
            data.extend_from_slice(element);
            // Padding may stand between elements.
            data.resize(data.len().next_multiple_of(4), 0);
        }
        data
    }

    #[test]
    fn both_forms_are_read() {
        let elements = [
            (1, b"0".to_vec()),
            (2, b"high".to_vec()),
            (3, b"low".to_vec()),
            (4, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9]),
            (5, vec![1, 0, 2]),
            (6, vec![3, 4]),
            (7, vec![1]),
            (14, vec![0; 16]),
            (8, vec![0x85]),
            (9, vec![0, 1, 2]),
        ];
        for (two_byte, profile) in [(false, 0xBEDE), (true, 0x1000), (true, 0x100F)] {
            let data = written(two_byte, &elements);
            let values = reader().read(HeaderExtensionBytes { profile, data: &data });
            let expected = ExtensionValues {
                mid: Some(b"0"),
                rid: Some(b"high"),
                repaired_rid: Some(b"low"),
                absolute_capture_time: Some(NtpTime(0x0102_0304_0506_0708)),
                absolute_send_time: Some(0x01_0002),
                transport_sequence: Some(0x0304),
                video_orientation: Some(1),
                audio_level: Some(0x85),
                playout_delay: Some([0, 1, 2]),
                malformed: false,
            };
            assert_eq!(values, expected);
        }
        let other = reader().read(HeaderExtensionBytes { profile: 0xABAC, data: &[0x10, 1, 2, 3] });
        assert_eq!(other, ExtensionValues::default());
    }

    #[test]
    fn what_is_malformed_ends_the_reading_and_is_told() {
        for (profile, data, malformed, orientation) in [
            (0xBEDE, &[0x70, 1, 0x6F, 1][..], true, Some(1)),
            (0xBEDE, &[0x03, 0x70, 1, 0], true, None),
            (0xBEDE, &[0xF0, 0x70, 1, 0], false, None),
            (0xBEDE, &[0x60, 1, 0x70, 1], true, Some(1)),
            (0x1000, &[7, 0, 0, 0], true, None),
            (0x1000, &[7, 1, 1, 9], true, Some(1)),
            (0x1000, &[7, 1, 1, 0], false, Some(1)),
        ] {
            let values = reader().read(HeaderExtensionBytes { profile, data });
            assert_eq!((values.malformed, values.video_orientation), (malformed, orientation), "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            data in prop::collection::vec(any::<u8>(), 0..80), profile in prop::sample::select(vec![0xBEDE, 0x1000, 0])
        ) {
            let _ = reader().read(HeaderExtensionBytes { profile, data: &data });
        }
    }
}
