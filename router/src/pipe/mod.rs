//! What makes a pipe one: shared by all who ask for it, and made or not made.

pub(crate) mod promise;
pub mod registry;

use registry::Registry;

use crate::{ProducerId, RouterId};

/// Which pipe: a producer and the router that is to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeKey {
    /// What is piped.
    pub producer: ProducerId,
    /// Where to.
    pub destination: RouterId,
}

/// Two routers, named in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterPair(RouterId, RouterId);

impl RouterPair {
    /// The pair of these two.
    #[must_use]
    pub fn new(one: RouterId, other: RouterId) -> Self {
        Self(one.min(other), one.max(other))
    }
}

/// The live pipes: at most one for each producer and destination (I10).
pub type PipeRegistry<P, E> = Registry<PipeKey, P, E>;

/// What two routers have between them for all their pipes: at most one for each two routers (I10).
pub type PairRegistry<P, E> = Registry<RouterPair, P, E>;
