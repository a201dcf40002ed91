//! What a worker is to look at, from any thread: never lost, never more than one for each object, and nobody waits.

use std::collections::{BTreeMap, BTreeSet};

use lenscast_media::LayerSet;
use lenscast_media::sync::Mutex;
use lenscast_router::{OutletId, ProducerKey};
use tokio::sync::Notify;

/// The nudges that a worker has not acted on yet.
#[derive(Default)]
pub(crate) struct Nudges {
    pending: Mutex<Pending>,
    changed: Notify,
}

/// What is to be looked at.
#[derive(Default)]
pub(crate) struct Pending {
    /// Outlets whose mirrors want something else, or a key frame.
    pub(crate) outlets: BTreeSet<OutletId>,
    /// What local sources can send now: the newest counts.
    pub(crate) sending: BTreeMap<ProducerKey, LayerSet>,
}

impl Nudges {
    pub(crate) fn outlet(&self, outlet: OutletId) {
        self.pending.lock().outlets.insert(outlet);
        self.changed.notify_one();
    }

    pub(crate) fn sending(&self, producer: ProducerKey, sending: LayerSet) {
        self.pending.lock().sending.insert(producer, sending);
        self.changed.notify_one();
    }

    /// Returns once there may be something. May be dropped at any time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }
}
