use std::sync::atomic::{AtomicU64, Ordering};

/// Which workers have somebody to send a producer's bursts to: a bit each.
#[derive(Debug, Default)]
pub(crate) struct ActiveWorkers(AtomicU64);

impl ActiveWorkers {
    /// As many as there are bits.
    pub(crate) const MAX: usize = 64;

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let bits = self.0.load(Ordering::Acquire);
        (0..Self::MAX).filter(move |worker| bits >> worker & 1 == 1)
    }

    pub(crate) fn set(&self, worker: usize, active: bool) {
        let bit = 1 << worker;
        if active {
            self.0.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel);
        }
    }
}
