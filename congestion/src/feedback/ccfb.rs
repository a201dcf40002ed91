use lenscast_media::Ssrc;

use super::FeedbackError;

/// A congestion control feedback message (RFC 8888 §3.1): which packets of which streams came, when, and how they were marked.
///
/// It borrows the message and has been checked as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CongestionFeedback<'a> {
    blocks: &'a [u8],
    timestamp: u32,
}

/// What is said of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketMetric {
    /// Its stream.
    pub ssrc: Ssrc,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// How long before the message's timestamp it came, in units of 1/1024 s; `None` if it did not come.
    pub age: Option<u16>,
    /// It came with Congestion Experienced.
    pub congestion_experienced: bool,
}

/// SSRC, first sequence number, and how many packets follow (§3.1).
const BLOCK_HEAD: usize = 8;
/// The packet came (§3.1, "R").
const RECEIVED: u16 = 0x8000;
/// The bits of the ECN mark, and where they are.
const ECN: u16 = 0x6000;
/// CE is 3 (RFC 3168 §5).
const CONGESTION_EXPERIENCED: u16 = 0x6000;
/// How long before the timestamp it came.
const ARRIVAL_TIME_OFFSET: u16 = 0x1FFF;
/// When it came is not known, or it came after the timestamp.
const UNAVAILABLE: u16 = 0x1FFF;

impl<'a> CongestionFeedback<'a> {
    /// Reads what follows the SSRC of the sender.
    ///
    /// # Errors
    ///
    /// If it is not such a message.
    pub fn parse(fci: &'a [u8]) -> Result<Self, FeedbackError> {
        let (blocks, timestamp) = fci.split_last_chunk::<4>().ok_or(FeedbackError::Truncated)?;
        let mut rest = blocks;
        while !rest.is_empty() {
            rest = Block::split(rest).ok_or(FeedbackError::Truncated)?.1;
        }
        Ok(Self { blocks, timestamp: u32::from_be_bytes(*timestamp) })
    }

    /// When the message was made: the middle 32 bits of an NTP timestamp, in units of 1/65,536 s.
    #[must_use]
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// What is said of each packet, stream by stream.
    pub fn metrics(&self) -> impl Iterator<Item = PacketMetric> + use<'a> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let (block, after) = Block::split(rest)?;
            rest = after;
            Some(block)
        })
        .flat_map(Block::metrics)
    }
}

/// What is said of one stream.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    ssrc: Ssrc,
    begin: u16,
    metrics: &'a [u8],
}

impl<'a> Block<'a> {
    /// The first block and what follows it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_first_chunk::<BLOCK_HEAD>()?;
        let count = usize::from(u16::from_be_bytes([head[6], head[7]]));
        // An odd number of packets is followed by two bytes of padding.
        let rest_of = count.next_multiple_of(2) * 2;
        let (metrics, rest) = rest.split_at_checked(rest_of)?;
        let ssrc = Ssrc(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let begin = u16::from_be_bytes([head[4], head[5]]);
        Some((Self { ssrc, begin, metrics: &metrics[..count * 2] }, rest))
    }

    fn metrics(self) -> impl Iterator<Item = PacketMetric> + use<'a> {
        self.metrics.chunks_exact(2).zip(0_u16..).map(move |(bytes, index)| {
            let bits = u16::from_be_bytes([bytes[0], bytes[1]]);
            let age = match bits & ARRIVAL_TIME_OFFSET {
                UNAVAILABLE => 0,
                age => age,
            };
            PacketMetric {
                ssrc: self.ssrc,
                sequence: self.begin.wrapping_add(index),
                age: (bits & RECEIVED != 0).then_some(age),
                congestion_experienced: bits & RECEIVED != 0 && bits & ECN == CONGESTION_EXPERIENCED,
            }
        })
    }
}
