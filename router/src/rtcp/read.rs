use lenscast_media::{NtpTime, RtpTime, Ssrc};
use thiserror::Error;

use super::{
    APPLICATION, EXTENDED_REPORT, FMT_CONGESTION_CONTROL, FMT_FIR, FMT_NACK, FMT_PLI, FMT_TRANSPORT_WIDE, GOODBYE,
    HEADER_LEN, PADDED, PAYLOAD_FEEDBACK, RECEIVER_REPORT, SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_FEEDBACK,
    XR_DLRR, XR_RECEIVER_REFERENCE_TIME,
};

/// One packet of a compound, as far as it concerns a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// What a source has sent and when, with reception statistics of what it receives itself.
    SenderReport(SenderReport<'a>),
    /// Reception statistics (RFC 3550 §6.4.2).
    Reports(ReportBlocks<'a>),
    /// Canonical names of sources (RFC 3550 §6.5).
    Names(Names<'a>),
    /// Sources that end (RFC 3550 §6.6).
    Goodbyes(Goodbyes<'a>),
    /// What an application has defined for itself (RFC 3550 §6.7).
    Application(Application<'a>),
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
    /// Times that a receiver wants back, or returns, to measure the round trip (RFC 3611).
    Extended {
        /// Whose report it is.
        sender: Ssrc,
        /// What it says.
        blocks: ExtendedBlocks<'a>,
    },
    /// Which of a transport's packets have come, by their transport-wide numbers
    /// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): what stands behind the two sources.
    TransportWide(&'a [u8]),
    /// Which packets of each stream have come, by their sequence numbers (RFC 8888 §3.1): what stands behind the sender.
    CongestionControl(&'a [u8]),
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

/// What a source says of itself (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// The source.
    pub sender: Ssrc,
    /// Its wall clock.
    pub ntp: NtpTime,
    /// Its RTP clock at that moment.
    pub rtp: RtpTime,
    /// Packets it has sent, modulo 2^32.
    pub packets: u32,
    /// Payload bytes of them, modulo 2^32.
    pub octets: u32,
    /// What it receives.
    pub reports: ReportBlocks<'a>,
}

/// A packet that an application has defined for itself (RFC 3550 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Application<'a> {
    /// Who sent it.
    pub sender: Ssrc,
    /// Whose it is.
    pub name: [u8; 4],
    /// Five bits for the application to use.
    pub subtype: u8,
    /// The rest, whole words.
    pub data: &'a [u8],
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

/// Sources and their canonical names (RFC 3550 §6.5.1); chunks without one are passed over, and a malformed one is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = (Ssrc, &'a [u8]);

    fn next(&mut self) -> Option<(Ssrc, &'a [u8])> {
        const END: u8 = 0;
        const CNAME: u8 = 1;
        while let Some((source, items)) = self.0.split_first_chunk::<4>() {
            let mut name = None;
            let mut at = 0;
            while let Some(&kind) = items.get(at).filter(|kind| **kind != END) {
                let end = items.get(at + 1).map_or(usize::MAX, |len| at + 2 + usize::from(*len));
                let text = items.get(at + 2..end);
                if kind == CNAME {
                    name = name.or(text);
                }
                at = if text.is_some() { end } else { items.len() };
            }
            // At least one null ends the items, and more fill the word.
            self.0 = items.get((at + 1).next_multiple_of(4)..).unwrap_or_default();
            if let Some(name) = name {
                return Some((Ssrc(u32::from_be_bytes(*source)), name));
            }
        }
        None
    }
}

/// Sources that end (RFC 3550 §6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbyes<'a>(&'a [u8]);

impl Iterator for Goodbyes<'_> {
    type Item = Ssrc;

    fn next(&mut self) -> Option<Ssrc> {
        let (source, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(Ssrc(u32::from_be_bytes(*source)))
    }
}

/// What an extended report says of round trips (RFC 3611 §4.4 and §4.5); other blocks are passed over, and a malformed one is
/// the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedBlocks<'a> {
    blocks: &'a [u8],
    /// The rest of a block of returned times.
    returned: &'a [u8],
}

/// One time of an extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedBlock {
    /// The receiver's own time, to be returned.
    ReferenceTime(NtpTime),
    /// A receiver's time, returned.
    Returned {
        /// Whose.
        receiver: Ssrc,
        /// [`NtpTime::compact`] of the time; 0 if none has come.
        last_report: u32,
        /// For how long it was held, in 1/65,536 s.
        delay: u32,
    },
}

impl Iterator for ExtendedBlocks<'_> {
    type Item = ExtendedBlock;

    fn next(&mut self) -> Option<ExtendedBlock> {
        loop {
            if let Some((entry, rest)) = self.returned.split_first_chunk::<12>() {
                self.returned = rest;
                let (receiver, last_report, delay) = (Ssrc(word(entry, 0)), word(entry, 4), word(entry, 8));
                return Some(ExtendedBlock::Returned { receiver, last_report, delay });
            }
            let (header, rest) = self.blocks.split_first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([header[2], header[3]])) * 4;
            let content = rest.get(..len);
            self.blocks = rest.get(len..).unwrap_or_default();
            match (header[0], content?) {
                (XR_RECEIVER_REFERENCE_TIME, content) => {
                    if let Some(ntp) = content.first_chunk::<8>() {
                        return Some(ExtendedBlock::ReferenceTime(NtpTime(u64::from_be_bytes(*ntp))));
                    }
                }
                (XR_DLRR, content) => self.returned = content,
                _ => {}
            }
        }
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
        (SENDER_REPORT, _) => {
            let reports = report_blocks(after(28)?, count);
            Packet::SenderReport(SenderReport {
                sender: Ssrc(word(packet, 4)),
                ntp: NtpTime(u64::from(word(packet, 8)) << 32 | u64::from(word(packet, 12))),
                rtp: RtpTime(word(packet, 16)),
                packets: word(packet, 20),
                octets: word(packet, 24),
                reports,
            })
        }
        (RECEIVER_REPORT, _) => Packet::Reports(report_blocks(after(8)?, count)),
        (SOURCE_DESCRIPTION, _) => Packet::Names(Names(after(4)?)),
        (GOODBYE, _) => {
            // Behind the counted sources there may be a reason.
            let sources = after(4)?;
            Packet::Goodbyes(Goodbyes(&sources[..sources.len().min(usize::from(count) * 4)]))
        }
        (APPLICATION, subtype) => {
            let data = after(12)?;
            let name = [packet[8], packet[9], packet[10], packet[11]];
            Packet::Application(Application { sender: Ssrc(word(packet, 4)), name, subtype, data })
        }
        (TRANSPORT_FEEDBACK, FMT_NACK) => {
            let pairs = after(12)?;
            Packet::Nack { media: Ssrc(word(packet, 8)), lost: NackPairs(pairs) }
        }
        (TRANSPORT_FEEDBACK, FMT_TRANSPORT_WIDE) => Packet::TransportWide(after(12)?),
        (TRANSPORT_FEEDBACK, FMT_CONGESTION_CONTROL) => Packet::CongestionControl(after(8)?),
        (PAYLOAD_FEEDBACK, FMT_PLI) => {
            after(12)?;
            Packet::Pli { media: Ssrc(word(packet, 8)) }
        }
        (PAYLOAD_FEEDBACK, FMT_FIR) => Packet::Fir(FirEntries(after(12)?)),
        (EXTENDED_REPORT, _) => {
            let blocks = ExtendedBlocks { blocks: after(8)?, returned: &[] };
            Packet::Extended { sender: Ssrc(word(packet, 4)), blocks }
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

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
