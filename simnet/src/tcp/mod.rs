//! TCP as cross traffic: its congestion control and its recovery from loss, without its bytes.
//!
//! Counted in segments of one size. [`Sender`] and [`Receiver`] know nothing of each other and of no network: a driver carries
//! [`Segment`]s one way and [`Ack`]s the other, at the sizes that they say of themselves.
//!
//! What there is: slow start and congestion avoidance by Reno (RFC 5681) or CUBIC (RFC 9438) from an initial window of ten (RFC
//! 6928); recovery by selective acknowledgements (RFC 2018, RFC 6675), which finds also what was lost a second time (after RFC
//! 8985); the retransmission timer (RFC 6298) by timestamps (RFC 7323); delayed acknowledgements (RFC 5681, section 4.2).
//!
//! What there is not: handshakes (a download begins with its first segment), flow control but for a largest window, Nagle,
//! pacing, HyStart++, undoing a mistaken cut, ECN.

mod cubic;
mod receiver;
mod round_trip;
mod scoreboard;
mod sender;
mod window;
mod workload;

use std::time::Instant;

pub use receiver::Receiver;
pub use sender::Sender;
pub use window::Congestion;
pub use workload::{Downloads, Workload};

/// What a segment carries: 1,500 bytes less the headers of IP (20) and TCP (20) and the timestamps (12).
pub const PAYLOAD_BYTES: u32 = 1_448;

/// Headers of a segment, and all that there is of an acknowledgement without blocks.
const HEADER_BYTES: u32 = 52;

/// How many blocks an acknowledgement has room for beside the timestamps (RFC 2018, section 3).
const MOST_BLOCKS: usize = 3;

/// One segment on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which it is, counted from 0 over the sender's life.
    pub number: u64,
    /// When it left, which the acknowledgement echoes.
    pub sent_at: Instant,
}

impl Segment {
    /// Bytes on the wire.
    #[must_use]
    pub const fn size(&self) -> u32 {
        PAYLOAD_BYTES + HEADER_BYTES
    }
}

/// Segments from the first number up to, but without, the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block(pub u64, pub u64);

/// What a receiver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// All before this one.
    pub next: u64,
    /// Some of those beyond it; the first holds the newest.
    pub blocks: [Option<Block>; MOST_BLOCKS],
    /// When the segment left that this answers, the first of them if there are two.
    pub echo: Instant,
}

impl Ack {
    /// Bytes on the wire.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self.blocks.iter().flatten().count() as u32 {
            0 => HEADER_BYTES,
            // The option's kind and length, padded to four bytes, and eight bytes a block.
            blocks => HEADER_BYTES + 4 + 8 * blocks,
        }
    }
}
