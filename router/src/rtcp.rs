//! RTCP as far as a sender of video needs it: reads what viewers send (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3.1,
//! RFC 3611 §4.4), writes sender reports, SDES, BYE and DLRR blocks.
//!
//! Reading borrows the packet and allocates nothing. A packet that says it is longer than what is there ends the
//! compound with an error; one of an unknown type or with unknown content is passed over as [`Packet::Other`].
//!
//! What it does not do: transport-wide congestion control feedback, which belongs to the congestion controller.

use lenscast_media::{NtpTime, RtpTime, Ssrc};
use thiserror::Error;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// Version, padding bit, count; packet type; length (RFC 3550 §6.4.1).
const HEADER_LEN: usize = 4;
const PADDED: u8 = 1 << 5;

/// FMT of a generic NACK (RFC 4585 §6.2.1).
const FMT_NACK: u8 = 1;
/// FMT of a picture loss indication (RFC 4585 §6.3.1).
const FMT_PLI: u8 = 1;
/// FMT of a full intra request (RFC 5104 §4.3.1.1).
const FMT_FIR: u8 = 4;
/// Block types of extended reports (RFC 3611 §4.4 and §4.5).
const XR_RECEIVER_REFERENCE_TIME: u8 = 4;
const XR_DLRR: u8 = 5;

/// One packet of a compound, as far as it concerns a sender of video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Reception statistics (RFC 3550 §6.4.2), from a receiver report or from the blocks of a sender report.
    Reports(ReportBlocks<'a>),
    /// Lost packets that the viewer wants again.
    Nack {
        /// The stream they belong to.
        media: Ssrc,
        /// Their sequence numbers.
        lost: NackPairs<'a>,
    },
    /// The viewer cannot decode and wants a key frame.
    Pli {
        /// The stream it cannot decode.
        media: Ssrc,
    },
    /// The viewer wants a key frame, once per new command sequence number.
    Fir(FirEntries<'a>),
    /// The viewer's own time, to be sent back so that it can measure the round trip.
    ReceiverReferenceTime {
        /// Who wants it back.
        receiver: Ssrc,
        /// Its time.
        ntp: NtpTime,
    },
    /// A well-formed packet of another type or format.
    Other {
        /// Its RTCP packet type.
        packet_type: u8,
    },
}

/// Why a compound could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadRtcpError {
    /// Fewer bytes than an RTCP header.
    #[error("RTCP packet of {0} bytes is shorter than its 4-byte header")]
    TooShort(usize),
    /// The version bits are not 2.
    #[error("RTCP version is {0}, must be 2")]
    Version(u8),
    /// The length field points past the end, or leaves no room for the packet's fixed part.
    #[error("RTCP packet type {packet_type} says it has {claimed} bytes, {available} are there")]
    Length {
        /// The packet's type.
        packet_type: u8,
        /// What its length field says, or its fixed part needs.
        claimed: usize,
        /// What is there.
        available: usize,
    },
    /// The padding is none, or longer than what it pads.
    #[error("RTCP packet type {packet_type} says it has {padding} bytes of padding")]
    Padding {
        /// The packet's type.
        packet_type: u8,
        /// What its last byte says.
        padding: usize,
    },
}

/// Reads the packets of a compound (or of a reduced-size one, RFC 5506) in order. Ends after the first error.
pub fn read(compound: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, ReadRtcpError>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        Some(split_first(rest).and_then(|(packet, behind)| {
            rest = behind;
            read_one(packet)
        }))
        .inspect(|result| {
            if result.is_err() {
                rest = &[];
            }
        })
    })
}

/// Report blocks, 24 bytes each (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

/// What a viewer says of one stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: Ssrc,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when duplicates arrived.
    pub cumulative_lost: i32,
    /// The highest sequence number seen, and how often it wrapped.
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP clock ticks.
    pub jitter: u32,
    /// [`NtpTime::compact`] of the last sender report; 0 if none has come.
    pub last_sender_report: u32,
    /// Time since then, in 1/65,536 s.
    pub delay_since_last_sender_report: u32,
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_first_chunk::<24>()?;
        self.0 = rest;
        Some(ReportBlock {
            ssrc: Ssrc(word(block, 0)),
            fraction_lost: block[4],
            // 24 bits, signed.
            cumulative_lost: (word(block, 4) << 8) as i32 >> 8,
            highest_sequence: word(block, 8),
            jitter: word(block, 12),
            last_sender_report: word(block, 16),
            delay_since_last_sender_report: word(block, 20),
        })
    }
}

/// Pairs of packet id and bitmask (RFC 4585 §6.2.1), read as sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackPairs<'a>(&'a [u8]);

impl NackPairs<'_> {
    /// The sequence numbers asked for, at most 17 per pair.
    pub fn sequences(self) -> impl Iterator<Item = u16> {
        self.0.chunks_exact(4).flat_map(|pair| {
            let first = u16::from_be_bytes([pair[0], pair[1]]);
            let mask = u16::from_be_bytes([pair[2], pair[3]]);
            let following = (0..16).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1));
            std::iter::once(first).chain(following)
        })
    }
}

/// Entries of a full intra request: stream and command sequence number (RFC 5104 §4.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntries<'a>(&'a [u8]);

impl Iterator for FirEntries<'_> {
    type Item = (Ssrc, u8);

    fn next(&mut self) -> Option<(Ssrc, u8)> {
        let (entry, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some((Ssrc(word(entry, 0)), entry[4]))
    }
}

fn split_first(compound: &[u8]) -> Result<(&[u8], &[u8]), ReadRtcpError> {
    let Some(header) = compound.first_chunk::<4>() else {
        return Err(ReadRtcpError::TooShort(compound.len()));
    };
    if header[0] >> 6 != 2 {
        return Err(ReadRtcpError::Version(header[0] >> 6));
    }
    let claimed = (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1) * 4;
    compound.split_at_checked(claimed).ok_or(ReadRtcpError::Length {
        packet_type: header[1],
        claimed,
        available: compound.len(),
    })
}

fn read_one(packet: &[u8]) -> Result<Packet<'_>, ReadRtcpError> {
    let (count, packet_type) = (packet[0] & 0x1F, packet[1]);
    let packet = without_padding(packet)?;
    let after = |fixed: usize| {
        let error = ReadRtcpError::Length { packet_type, claimed: fixed, available: packet.len() };
        packet.get(fixed..).ok_or(error)
    };
    Ok(match (packet_type, count) {
        (SENDER_REPORT, _) => Packet::Reports(report_blocks(after(28)?, count)),
        (RECEIVER_REPORT, _) => Packet::Reports(report_blocks(after(8)?, count)),
        (TRANSPORT_FEEDBACK, FMT_NACK) => {
            let pairs = after(12)?;
            Packet::Nack { media: Ssrc(word(packet, 8)), lost: NackPairs(pairs) }
        }
        (PAYLOAD_FEEDBACK, FMT_PLI) => {
            after(12)?;
            Packet::Pli { media: Ssrc(word(packet, 8)) }
        }
        (PAYLOAD_FEEDBACK, FMT_FIR) => Packet::Fir(FirEntries(after(12)?)),
        (EXTENDED_REPORT, _) => {
            let blocks = after(8)?;
            match receiver_reference_time(blocks) {
                Some(ntp) => Packet::ReceiverReferenceTime { receiver: Ssrc(word(packet, 4)), ntp },
                None => Packet::Other { packet_type },
            }
        }
        _ => Packet::Other { packet_type },
    })
}

/// Padding stands at the end, and its last byte says how long it is, itself included (RFC 3550 §6.4.1).
fn without_padding(packet: &[u8]) -> Result<&[u8], ReadRtcpError> {
    if packet[0] & PADDED == 0 {
        return Ok(packet);
    }
    let padding = packet.last().map_or(0, |last| usize::from(*last));
    let end = packet.len().checked_sub(padding).filter(|end| *end >= HEADER_LEN && padding > 0);
    end.map(|end| &packet[..end]).ok_or(ReadRtcpError::Padding { packet_type: packet[1], padding })
}

fn report_blocks(blocks: &[u8], count: u8) -> ReportBlocks<'_> {
    // Behind the counted blocks there may be profile-specific extensions (RFC 3550 §6.4.3).
    ReportBlocks(&blocks[..blocks.len().min(usize::from(count) * 24)])
}

fn receiver_reference_time(mut blocks: &[u8]) -> Option<NtpTime> {
    while let Some(header) = blocks.first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([header[2], header[3]])) * 4;
        let content = blocks.get(4..4 + len)?;
        if header[0] == XR_RECEIVER_REFERENCE_TIME
            && let Some(ntp) = content.first_chunk::<8>()
        {
            return Some(NtpTime(u64::from_be_bytes(*ntp)));
        }
        blocks = &blocks[4 + len..];
    }
    None
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A compound packet in the making.
#[derive(Debug, Default)]
pub struct Compound {
    bytes: Vec<u8>,
}

impl Compound {
    /// Nothing in it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// A sender report without report blocks (RFC 3550 §6.4.1). Counts wrap at 32 bits, as the RFC has it.
    pub fn push_sender_report(&mut self, ssrc: Ssrc, ntp: NtpTime, rtp: RtpTime, packets: u64, octets: u64) {
        self.push_header(0, SENDER_REPORT, 24);
        self.push_word(ssrc.0);
        self.bytes.extend_from_slice(&ntp.0.to_be_bytes());
        self.push_word(rtp.0);
        self.push_word(packets as u32);
        self.push_word(octets as u32);
    }

    /// An empty receiver report, which must lead a compound that has no sender report (RFC 3550 §6.1).
    pub fn push_receiver_report(&mut self, ssrc: Ssrc) {
        self.push_header(0, RECEIVER_REPORT, 4);
        self.push_word(ssrc.0);
    }

    /// The canonical name of a source (RFC 3550 §6.5.1). At most 255 bytes of it are written.
    pub fn push_cname(&mut self, ssrc: Ssrc, cname: &str) {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        // Type, length, text, and at least one null to end the chunk.
        let chunk = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        self.push_header(1, SOURCE_DESCRIPTION, chunk);
        self.push_word(ssrc.0);
        self.bytes.extend_from_slice(&[1, cname.len() as u8]);
        self.bytes.extend_from_slice(cname);
        self.bytes.resize(self.bytes.len() + chunk - 6 - cname.len(), 0);
    }

    /// Says that a source ends (RFC 3550 §6.6).
    pub fn push_bye(&mut self, ssrc: Ssrc) {
        self.push_header(1, GOODBYE, 4);
        self.push_word(ssrc.0);
    }

    /// Answers a receiver's reference time (RFC 3611 §4.5): its compact time, and for how long we held it.
    pub fn push_dlrr(&mut self, ssrc: Ssrc, receiver: Ssrc, last_report: u32, delay: u32) {
        self.push_header(0, EXTENDED_REPORT, 20);
        self.push_word(ssrc.0);
        self.bytes.extend_from_slice(&[XR_DLRR, 0, 0, 3]);
        self.push_word(receiver.0);
        self.push_word(last_report);
        self.push_word(delay);
    }

    fn push_header(&mut self, count: u8, packet_type: u8, body: usize) {
        let words = (body / 4) as u16;
        self.bytes.extend_from_slice(&[0x80 | count, packet_type]);
        self.bytes.extend_from_slice(&words.to_be_bytes());
    }

    fn push_word(&mut self, word: u32) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc_rtcp::receiver_report::ReceiverReport;
    use rtc_rtcp::reception_report::ReceptionReport;
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
    use rtc_shared::marshal::Marshal;

    use super::*;

    fn all(compound: &[u8]) -> Vec<Packet<'_>> {
        read(compound).map(Result::unwrap).collect()
    }

    #[test]
    fn reads_what_another_stack_writes() {
        let report = ReceiverReport {
            ssrc: 1,
            reports: vec![ReceptionReport {
                ssrc: 42,
                fraction_lost: 64,
                total_lost: 1_000,
                last_sequence_number: 0x0001_FFFF,
                jitter: 90,
                last_sender_report: 7,
                delay: 8,
            }],
            ..Default::default()
        };
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: 42,
            nacks: nack_pairs_from_sequence_numbers(&[65_534, 65_535, 1, 40]),
        };
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: 42 };
        let fir =
            FullIntraRequest { sender_ssrc: 1, media_ssrc: 42, fir: vec![FirEntry { ssrc: 42, sequence_number: 9 }] };
        let mut compound = Vec::new();
        compound.extend_from_slice(&report.marshal().unwrap());
        compound.extend_from_slice(&nack.marshal().unwrap());
        compound.extend_from_slice(&pli.marshal().unwrap());
        compound.extend_from_slice(&fir.marshal().unwrap());

        let packets = all(&compound);
        let Packet::Reports(mut blocks) = packets[0] else { panic!("{packets:?}") };
        let block = blocks.next().unwrap();
        assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (Ssrc(42), 64, 1_000));
        assert_eq!((block.highest_sequence, block.jitter), (0x0001_FFFF, 90));
        assert_eq!((block.last_sender_report, block.delay_since_last_sender_report), (7, 8));
        assert!(blocks.next().is_none());
        let Packet::Nack { media, lost } = packets[1] else { panic!("{packets:?}") };
        assert_eq!((media, lost.sequences().collect::<Vec<_>>()), (Ssrc(42), vec![65_534, 65_535, 1, 40]));
        assert_eq!(packets[2], Packet::Pli { media: Ssrc(42) });
        let Packet::Fir(entries) = packets[3] else { panic!("{packets:?}") };
        assert_eq!(entries.collect::<Vec<_>>(), vec![(Ssrc(42), 9)]);
    }

    #[test]
    fn another_stack_reads_what_is_written() {
        let mut compound = Compound::new();
        compound.push_sender_report(Ssrc(5), NtpTime(0x1122_3344_5566_7788), RtpTime(99), 1 << 32 | 3, 4);
        compound.push_cname(Ssrc(5), "front camera");
        compound.push_dlrr(Ssrc(5), Ssrc(6), 7, 8);
        compound.push_bye(Ssrc(5));
        let mut bytes = bytes::Bytes::copy_from_slice(compound.as_bytes());
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        let texts: Vec<String> = packets.iter().map(|packet| format!("{packet:?}")).collect();
        let any = |index: usize| packets[index].as_any();
        let report = any(0).downcast_ref::<rtc_rtcp::sender_report::SenderReport>().unwrap();
        assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (5, 0x1122_3344_5566_7788, 99));
        assert_eq!((report.packet_count, report.octet_count), (3, 4));
        assert!(texts[1].contains("front camera"), "{texts:?}");
        let extended = any(2).downcast_ref::<rtc_rtcp::extended_report::ExtendedReport>().unwrap();
        assert_eq!(extended.sender_ssrc, 5);
        assert!(any(3).downcast_ref::<rtc_rtcp::goodbye::Goodbye>().is_some(), "{texts:?}");
        assert!(packets[0].raw_size().is_multiple_of(4));
    }

    #[test]
    fn cumulative_loss_can_be_negative() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&[0x81, 201, 0, 7, 0, 0, 0, 1]);
        bytes[12..16].copy_from_slice(&[0, 0xFF, 0xFF, 0xFE]);
        let [Packet::Reports(mut blocks)] = all(&bytes)[..] else { panic!() };
        assert_eq!(blocks.next().unwrap().cumulative_lost, -2);
    }

    #[test]
    fn a_receivers_reference_time_is_found_behind_other_blocks() {
        let mut bytes = vec![0x80, 207, 0, 0, 0, 0, 0, 9];
        bytes.extend_from_slice(&[1, 0, 0, 1, 1, 2, 3, 4]);
        bytes.extend_from_slice(&[4, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        assert_eq!(all(&bytes), vec![Packet::ReceiverReferenceTime { receiver: Ssrc(9), ntp: NtpTime(1 << 32 | 2) }]);
    }

    #[test]
    fn padding_is_no_content() {
        let mut nack = vec![0xA1, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 42, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
        let [Packet::Nack { lost, .. }] = all(&nack)[..] else { panic!() };
        assert_eq!(lost.sequences().collect::<Vec<_>>(), [7]);
        for wrong in [0, 21, 255] {
            *nack.last_mut().unwrap() = wrong;
            let expected = ReadRtcpError::Padding { packet_type: 205, padding: usize::from(wrong) };
            assert_eq!(read(&nack).collect::<Vec<_>>(), [Err(expected)]);
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_end_the_compound() {
        let errors: [(&[u8], &str); 4] = [
            (&[0x80, 201], "RTCP packet of 2 bytes is shorter than its 4-byte header"),
            (&[0x40, 201, 0, 0], "RTCP version is 1, must be 2"),
            (&[0x80, 201, 0, 9, 0, 0, 0, 0], "RTCP packet type 201 says it has 40 bytes, 8 are there"),
            (&[0x81, 206, 0, 0], "RTCP packet type 206 says it has 12 bytes, 4 are there"),
        ];
        for (bytes, text) in errors {
            let results: Vec<_> = read(bytes).collect();
            assert_eq!(results.len(), 1);
            assert_eq!(results[0].unwrap_err().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn reading_garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
            drain(&bytes);
        }

        #[test]
        fn reading_near_garbage_ends(
            kind in 200_u8..208, count in 0_u8..64, body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let body_words = body.len() / 4;
            let mut bytes = vec![0x80 | count, kind, 0, body_words as u8];
            bytes.extend_from_slice(&body);
            drain(&bytes);
        }
    }

    fn drain(bytes: &[u8]) {
        for packet in read(bytes).flatten() {
            match packet {
                Packet::Reports(blocks) => assert!(blocks.count() <= 31),
                Packet::Nack { lost, .. } => assert!(lost.sequences().count() <= bytes.len() / 4 * 17),
                Packet::Fir(entries) => assert!(entries.count() <= bytes.len() / 8),
                Packet::Pli { .. } | Packet::ReceiverReferenceTime { .. } | Packet::Other { .. } => {}
            }
        }
    }
}
