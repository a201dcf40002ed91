use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use lenscast_media::{Burst, LayerSet};
use lenscast_router::{Inbound, ProducerId, ProducerKey};
use tokio::sync::mpsc;

use crate::object::PauseProducerError;
use crate::port::{Incoming, WorkerPort};

/// Gives a local source's bursts to the home worker of its producer.
#[derive(Clone)]
pub struct BurstSender {
    key: ProducerKey,
    home: WorkerPort,
    inbound: mpsc::Sender<Incoming>,
    /// Layers of which a burst was refused and none was accepted since.
    broken: Arc<AtomicU8>,
}

impl BurstSender {
    pub(crate) fn new(key: ProducerKey, home: WorkerPort) -> Self {
        Self { key, inbound: home.inbound.clone(), home, broken: Arc::default() }
    }

    /// Whose bursts they are.
    #[must_use]
    pub const fn producer(&self) -> ProducerId {
        self.key.producer
    }

    /// Hands a burst of this layer on without waiting. False if there was no room for it: who watches the layer will need
    /// a key frame, and will ask for it.
    #[must_use]
    pub fn send(&self, layer: u8, burst: &Arc<Burst>) -> bool {
        let bit = LayerSet::only(layer).bits();
        let broken = self.broken.fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        let message = Inbound::Burst { key: self.key, outlet: None, layer, broken, burst: Arc::clone(burst) };
        let accepted = self.inbound.try_send(Incoming { from: self.home.index, message, life: None }).is_ok();
        if !accepted {
            self.broken.fetch_or(bit, Ordering::AcqRel);
        }
        accepted
    }

    /// Says which layers can be had: one that is missing is not sent although somebody may want it. All, to begin with.
    pub fn set_sending(&self, sending: LayerSet) {
        self.home.nudges.sending(self.key, sending);
    }

    /// From now on nothing of it is forwarded, to anybody.
    ///
    /// # Errors
    ///
    /// If the producer has ended.
    pub async fn pause(&self) -> Result<(), PauseProducerError> {
        crate::object::pause_producer(&self.home, self.key).await
    }

    /// Forwards it again, from the next key frames on.
    ///
    /// # Errors
    ///
    /// If the producer has ended.
    pub async fn resume(&self) -> Result<(), PauseProducerError> {
        crate::object::resume_producer(&self.home, self.key).await
    }
}

impl fmt::Debug for BurstSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurstSender").field("key", &self.key).finish_non_exhaustive()
    }
}
