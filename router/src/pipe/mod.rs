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

/// The live pipes: at most one for each producer and destination (I10).
pub type PipeRegistry<P, E> = Registry<PipeKey, P, E>;
