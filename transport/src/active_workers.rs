use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lenscast_media::LayerSet;
use lenscast_media::sync::Mutex;
use lenscast_router::Upstream;

/// Which workers have somebody to send a producer's bursts to: a bit each.
#[derive(Debug, Default)]
pub(crate) struct ActiveWorkers(AtomicU64, Mutex<()>);

impl ActiveWorkers {
    /// As many as there are bits.
    pub(crate) const MAX: usize = 64;

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let bits = self.0.load(Ordering::Acquire);
        (0..Self::MAX).filter(move |worker| bits >> worker & 1 == 1)
    }

    /// Runs `tell` with whether any worker is active now. One at a time, so that the last to be told is the truth.
    pub(crate) fn set(&self, worker: usize, active: bool, tell: impl FnOnce(bool)) {
        let _turn = self.1.lock();
        let bit = 1 << worker;
        if active {
            self.0.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel);
        }
        tell(self.0.load(Ordering::Acquire) != 0);
    }
}

/// A producer's source as one of several workers sees it.
pub(crate) struct SharedUpstream {
    pub(crate) worker: usize,
    pub(crate) active: Arc<ActiveWorkers>,
    pub(crate) source: Arc<dyn Upstream>,
}

impl Upstream for SharedUpstream {
    fn set_wanted(&self, layers: LayerSet) {
        // First open the way for bursts, then ask for them: the first is a key frame not to be missed.
        self.active.set(self.worker, !layers.is_empty(), |any| {
            self.source.set_wanted(if any { LayerSet::only(0) } else { LayerSet::EMPTY });
        });
    }

    fn request_key_frame(&self, layer: u8) {
        self.source.request_key_frame(layer);
    }
}
