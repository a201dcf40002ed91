//! What became of packets.

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub packets: u64,
    /// Of how many bytes together.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, size: u32) {
        self.packets += 1;
        self.bytes += u64::from(size);
    }

    fn less(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }
}

/// What became of the packets of a link or a flow.
///
/// **Invariant.** What was offered was delivered, or dropped, or lost, or is still under way; nothing is counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Came in: at the link's queue, or from the flow's sender.
    pub offered: Tally,
    /// Came out: at the link's end, or at the route's.
    pub delivered: Tally,
    /// Found a queue full.
    pub dropped: Tally,
    /// Lost on the way for no reason of congestion.
    pub lost: Tally,
    /// Marked with Congestion Experienced; of a flow, by whichever link did it first.
    pub marked: Tally,
}

impl Counters {
    /// In queues and on wires.
    #[must_use]
    pub fn in_flight(&self) -> Tally {
        self.offered.less(self.delivered).less(self.dropped).less(self.lost)
    }
}
