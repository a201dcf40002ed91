use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::PipeDropStats;

/// What the edges' ends of all pipes of a server have dropped. Each end adds to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct PipeDrops(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    refused: AtomicU64,
    bursts: AtomicU64,
    unsent: AtomicU64,
}

impl PipeDrops {
    pub(crate) fn read(&self) -> PipeDropStats {
        let Counters { refused, bursts, unsent } = &*self.0;
        let [refused, bursts_refused, unsent] = [refused, bursts, unsent].map(|count| count.load(Ordering::Relaxed));
        PipeDropStats { refused, bursts_refused, unsent }
    }

    /// Datagrams that came in and are nothing of the origin's.
    pub(super) fn add_refused(&self, datagrams: u64) {
        self.0.refused.fetch_add(datagrams, Ordering::Relaxed);
    }

    /// The worker of a mirror had no room.
    pub(super) fn add_burst(&self) {
        self.0.bursts.fetch_add(1, Ordering::Relaxed);
    }

    /// The socket did not take a datagram.
    pub(super) fn add_unsent(&self) {
        self.0.unsent.fetch_add(1, Ordering::Relaxed);
    }
}
