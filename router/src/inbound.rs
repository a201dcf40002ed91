use std::fmt;
use std::sync::Arc;

use lenscast_media::{Burst, LayerSet};

use crate::{OpenMirrorError, OutletId, ProducerKey, ProducerParameters, StreamState, Upstream};

/// What a worker's ordered channel carries: what local sources send to the home of their producer, and what homes send
/// to the mirrors of theirs.
///
/// **Invariant.** What one sender puts in arrives in its order: a state counts for all packets behind it.
#[derive(Debug)]
pub enum Inbound {
    /// Makes a mirror.
    Open(Box<Open>),
    /// A mirrored producer has changed.
    State {
        /// The mirror.
        key: ProducerKey,
        /// That of [`Open::outlet`].
        outlet: Option<OutletId>,
        /// All of its state.
        state: StreamState,
    },
    /// A local source says which of its layers can be had at all.
    Sending {
        /// The producer.
        key: ProducerKey,
        /// The layers that come, or would come if they were wanted.
        sending: LayerSet,
    },
    /// Packets.
    Burst {
        /// Whose.
        key: ProducerKey,
        /// To a mirror, that of [`Open::outlet`]; otherwise none.
        outlet: Option<OutletId>,
        /// Of which spatial layer.
        layer: u8,
        /// True if bursts of this layer were lost between the sender and here: nothing fits to what went before.
        broken: bool,
        /// The packets.
        burst: Arc<Burst>,
    },
}

/// Everything that a mirror begins with.
#[derive(Debug)]
pub struct Open {
    /// The mirror's name: its own router, the producer's identifier.
    pub key: ProducerKey,
    /// Who feeds it, so that it hears nobody else: messages of an older mirror of the same name, or for one that could not
    /// be made because of this one, may still be on their way.
    pub outlet: Option<OutletId>,
    /// Those of the producer.
    pub parameters: ProducerParameters,
    /// The producer's state when the mirror was attached. Every later change follows.
    pub snapshot: StreamState,
    /// The way back.
    pub upstream: Arc<dyn Upstream>,
    /// Told what became of it.
    pub created: Confirm,
}

/// Tells whoever asked for a mirror whether it stands. Called once; dropped uncalled if the channel was closed first.
pub struct Confirm(Box<dyn FnOnce(Result<(), OpenMirrorError>) + Send>);

impl Confirm {
    /// Calls `tell`, on the destination's thread: it must not block.
    #[must_use]
    pub fn new(tell: impl FnOnce(Result<(), OpenMirrorError>) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// For one that nobody waits for.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Tells it.
    pub fn tell(self, result: Result<(), OpenMirrorError>) {
        (self.0)(result);
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confirm")
    }
}

impl fmt::Debug for dyn Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}
