//! What a worker is to look at, from any thread: never lost, never more than one for each object, and nobody waits.

use std::collections::{BTreeMap, BTreeSet};

use lenscast_congestion::EstimateBounds;
use lenscast_media::LayerSet;
use lenscast_media::sync::Mutex;
use lenscast_router::{OutletId, ProducerKey, TransportId};
use tokio::sync::Notify;

use crate::LegPlan;

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
    /// What legs are given: the newest counts.
    pub(crate) plans: BTreeMap<TransportId, LegPlan>,
    /// Between which bounds their estimates stay from now on.
    pub(crate) bounds: Option<EstimateBounds>,
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

    pub(crate) fn plans(&self, plans: impl IntoIterator<Item = LegPlan>) {
        self.pending.lock().plans.extend(plans.into_iter().map(|plan| (plan.id, plan)));
        self.changed.notify_one();
    }

    pub(crate) fn bounds(&self, bounds: EstimateBounds) {
        self.pending.lock().bounds = Some(bounds);
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
