use std::time::Duration;

/// Where the time of forwarding went, since the worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardingCost {
    /// Packets of RTP handed to the system, or refused by it.
    pub packets: u64,
    /// Finding out who gets which packets, and writing them but for their protection.
    pub rewrite: Duration,
    /// Protecting them.
    pub seal: Duration,
    /// Handing them to the system.
    pub send: Duration,
}

impl ForwardingCost {
    /// What was added to an `earlier` reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            rewrite: self.rewrite - earlier.rewrite,
            seal: self.seal - earlier.seal,
            send: self.send - earlier.send,
        }
    }
}
