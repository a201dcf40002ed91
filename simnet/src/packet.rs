//! What travels.

use std::time::{Duration, Instant};

/// Whose packet it is; the one who sends chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// The two ECN bits of the IP header (RFC 3168, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum EcnCodepoint {
    /// The transport does not know of ECN: never marked.
    #[default]
    NotEct,
    /// ECN-capable, ECT(0).
    Ect0,
    /// ECN-capable, ECT(1), which RFC 9331 gave to L4S. Links here mark it as they do ECT(0).
    Ect1,
    /// Congestion experienced.
    Ce,
}

impl EcnCodepoint {
    /// Whether a link may mark it.
    #[must_use]
    pub const fn is_capable(self) -> bool {
        !matches!(self, Self::NotEct)
    }
}

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<P> {
    /// Whose it is.
    pub flow: FlowId,
    /// Bytes on the wire, all headers counted.
    pub size: u32,
    /// What it says of ECN when it is sent.
    pub ecn: EcnCodepoint,
    /// What it carries; the network does not look at it.
    pub payload: P,
}

/// A packet that has come out at the end of its route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered<P> {
    /// The packet; its ECN bits are as they arrived.
    pub packet: Packet<P>,
    /// When it was sent.
    pub sent_at: Instant,
    /// When it arrived.
    pub arrived_at: Instant,
    /// How long it waited in all the queues together; neither its own transmission nor any propagation is part of it.
    pub queue_delay: Duration,
}

impl<P> Delivered<P> {
    /// Whether it came with Congestion Experienced.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.packet.ecn == EcnCodepoint::Ce
    }
}
