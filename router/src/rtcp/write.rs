use lenscast_media::{Bitrate, NtpTime, RtpTime, Ssrc};

use super::{
    APPLICATION, EXTENDED_REPORT, FMT_APPLICATION, FMT_NACK, FMT_PLI, FMT_TRANSPORT_WIDE, GOODBYE, PAYLOAD_FEEDBACK,
    RECEIVER_REPORT, ReportBlock, SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_FEEDBACK, XR_DLRR,
    XR_RECEIVER_REFERENCE_TIME,
};

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

    /// True if nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
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

    /// A receiver report about the streams of `blocks`; at most 31 of them are written (RFC 3550 §6.4.2).
    pub fn push_report_blocks<'a>(&mut self, ssrc: Ssrc, blocks: impl IntoIterator<Item = &'a ReportBlock>) {
        let start = self.bytes.len();
        self.push_header(0, RECEIVER_REPORT, 4);
        self.push_word(ssrc.0);
        for block in blocks.into_iter().take(31) {
            self.bytes[start] += 1;
            self.push_word(block.ssrc.0);
            // 24 bits, signed.
            self.push_word(u32::from(block.fraction_lost) << 24 | block.cumulative_lost as u32 & 0xFF_FFFF);
            self.push_word(block.highest_sequence);
            self.push_word(block.jitter);
            self.push_word(block.last_sender_report);
            self.push_word(block.delay_since_last_sender_report);
        }
        self.close(start);
    }

    /// Asks for packets of `media` again (RFC 4585 §6.2.1); best in ascending order. None asked for is nothing written.
    pub fn push_nack(&mut self, ssrc: Ssrc, media: Ssrc, lost: impl IntoIterator<Item = u16>) {
        let mut lost = lost.into_iter();
        let Some(mut first) = lost.next() else { return };
        let start = self.bytes.len();
        self.push_header(FMT_NACK, TRANSPORT_FEEDBACK, 8);
        self.push_word(ssrc.0);
        self.push_word(media.0);
        let mut mask = 0_u16;
        for sequence in lost {
            match sequence.wrapping_sub(first) {
                0 => {}
                ahead @ 1..=16 => mask |= 1 << (ahead - 1),
                _ => {
                    self.push_word(u32::from(first) << 16 | u32::from(mask));
                    (first, mask) = (sequence, 0);
                }
            }
        }
        self.push_word(u32::from(first) << 16 | u32::from(mask));
        self.close(start);
    }

    /// Asks for a key frame of `media` (RFC 4585 §6.3.1).
    pub fn push_pli(&mut self, ssrc: Ssrc, media: Ssrc) {
        self.push_header(FMT_PLI, PAYLOAD_FEEDBACK, 8);
        self.push_word(ssrc.0);
        self.push_word(media.0);
    }

    /// Says how much all streams of `sources` together may take: REMB (draft-alvestrand-rmcat-remb-03 §2.2). At most 255
    /// sources are written.
    pub fn push_maximum_bitrate(&mut self, ssrc: Ssrc, maximum: Bitrate, sources: &[Ssrc]) {
        let sources = &sources[..sources.len().min(255)];
        self.push_header(FMT_APPLICATION, PAYLOAD_FEEDBACK, 16 + sources.len() * 4);
        self.push_word(ssrc.0);
        self.push_word(0);
        self.bytes.extend_from_slice(b"REMB");
        // 6 bits of exponent and 18 of mantissa, which is rounded down.
        let exponent = (64 - maximum.as_bps().leading_zeros()).saturating_sub(18);
        let mantissa = (maximum.as_bps() >> exponent) as u32;
        self.push_word((sources.len() as u32) << 24 | exponent << 18 | mantissa);
        for source in sources {
            self.push_word(source.0);
        }
    }

    /// A packet that an application has defined for itself (RFC 3550 §6.7). Of `subtype` five bits are written; `data` is
    /// filled up with nulls to whole words.
    pub fn push_application(&mut self, ssrc: Ssrc, subtype: u8, name: [u8; 4], data: &[u8]) {
        let start = self.bytes.len();
        self.push_header(subtype & 0x1F, APPLICATION, 8);
        self.push_word(ssrc.0);
        self.bytes.extend_from_slice(&name);
        self.bytes.extend_from_slice(data);
        self.close(start);
    }

    /// Our own time, which a sender returns by DLRR so that the round trip can be measured (RFC 3611 §4.4).
    pub fn push_receiver_reference_time(&mut self, ssrc: Ssrc, ntp: NtpTime) {
        self.push_header(0, EXTENDED_REPORT, 16);
        self.push_word(ssrc.0);
        self.bytes.extend_from_slice(&[XR_RECEIVER_REFERENCE_TIME, 0, 0, 2]);
        self.bytes.extend_from_slice(&ntp.0.to_be_bytes());
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

    /// When packets came (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): the status of `head.base_sequence` and
    /// of those that follow on it. At most 65,535 are written, and none is nothing written.
    pub fn push_transport_feedback(&mut self, head: &TransportFeedbackHead, statuses: &[PacketStatus]) {
        let statuses = &statuses[..statuses.len().min(usize::from(u16::MAX))];
        if statuses.is_empty() {
            return;
        }
        let start = self.bytes.len();
        self.push_header(FMT_TRANSPORT_WIDE, TRANSPORT_FEEDBACK, 16);
        self.push_word(head.sender.0);
        self.push_word(head.media.0);
        self.push_word(u32::from(head.base_sequence) << 16 | statuses.len() as u32);
        self.push_word(head.reference_time << 8 | u32::from(head.feedback_count));
        let mut rest = statuses;
        while !rest.is_empty() {
            let (chunk, covered) = status_chunk(rest);
            self.bytes.extend_from_slice(&chunk.to_be_bytes());
            rest = &rest[covered..];
        }
        for status in statuses {
            match status {
                PacketStatus::Missing => {}
                PacketStatus::Small(delta) => self.bytes.push(*delta),
                PacketStatus::Large(delta) => self.bytes.extend_from_slice(&delta.to_be_bytes()),
            }
        }
        // "Zero padding" without the padding bit, as libwebrtc has always read it.
        self.close(start);
    }

    /// Fills the packet that begins at `start` up to whole words and writes its length.
    fn close(&mut self, start: usize) {
        self.bytes.resize(start + (self.bytes.len() - start).next_multiple_of(4), 0);
        let words = ((self.bytes.len() - start) / 4 - 1) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
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

/// What a transport-wide feedback begins with (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedbackHead {
    /// Whom it comes from.
    pub sender: Ssrc,
    /// Any of the streams it tells of.
    pub media: Ssrc,
    /// The transport-wide sequence number of the first status.
    pub base_sequence: u16,
    /// What the first delta counts from, in 64 ms; 24 bits.
    pub reference_time: u32,
    /// Counts the feedback packets modulo 256.
    pub feedback_count: u8,
}

/// Whether and when one packet came: its distance from the one that came before it in the list, in 250 µs (§3.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketStatus {
    /// It has not come.
    Missing,
    /// It came up to 63.75 ms later.
    Small(u8),
    /// It came up to 8.19 s later or earlier.
    Large(i16),
}

impl PacketStatus {
    /// §3.1.1.
    const fn symbol(self) -> u16 {
        match self {
            Self::Missing => 0,
            Self::Small(_) => 1,
            Self::Large(_) => 2,
        }
    }
}

/// The chunk that covers most of `statuses`, which are not empty, and how many those are: a run of equal symbols (§3.1.3),
/// or a vector of 14 with one bit or of 7 with two (§3.1.4).
fn status_chunk(statuses: &[PacketStatus]) -> (u16, usize) {
    const MAX_RUN: usize = 0x1FFF;
    const VECTOR: u16 = 0x8000;
    const TWO_BITS: u16 = 0x4000;
    let first = statuses[0].symbol();
    let run = statuses.iter().take(MAX_RUN).take_while(|status| status.symbol() == first).count();
    // A vector that the end cuts short covers what is there.
    let head = &statuses[..statuses.len().min(14)];
    let (kind, width, places) =
        if head.iter().all(|status| status.symbol() < 2) { (0, 1, 14) } else { (TWO_BITS, 2, 7) };
    let vector = statuses.len().min(places);
    if run >= vector {
        return (first << 13 | run as u16, run);
    }
    let symbols = statuses[..vector]
        .iter()
        .enumerate()
        .fold(0, |symbols, (at, status)| symbols | status.symbol() << (width * (places - 1 - at)));
    (VECTOR | kind | symbols, vector)
}
