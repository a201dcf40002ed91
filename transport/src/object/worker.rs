use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lenscast_router::{EndCause, RouterId};

use super::{CreateRouterError, Living, Pipes, Router};
use crate::port::WorkerPort;

/// One thread that forwards. Not closed when the handle is dropped: it belongs to its
/// [`TransportServer`](crate::TransportServer).
#[derive(Clone)]
pub struct WorkerHandle {
    pub(crate) port: WorkerPort,
    pub(crate) home: RouterId,
    pub(crate) life: Living,
    pub(crate) names: Names,
    pub(crate) pipes: Pipes,
}

/// Gives out identifiers, each once.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<AtomicU64>);

impl Names {
    pub(crate) fn from(first: u64) -> Self {
        Self(Arc::new(AtomicU64::new(first)))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl WorkerHandle {
    /// Which of the server's workers.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.port.index
    }

    /// The router in which its sessions are, and mirrors of all producers.
    #[must_use]
    pub const fn default_router(&self) -> RouterId {
        self.home
    }

    /// Makes a router on it.
    ///
    /// # Errors
    ///
    /// If the worker has ended.
    pub async fn create_router(&self) -> Result<Router, CreateRouterError> {
        Router::create(self).await
    }

    /// True while its thread runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.life.now().ended.is_none()
    }

    /// Waits until its thread has ended: [`EndCause::Requested`] by a shutdown, [`EndCause::WorkerClosed`] by itself.
    pub async fn died(&self) -> EndCause {
        self.life.ended().await
    }
}

impl WorkerHandle {
    /// Never returns if it is told to end.
    pub(crate) async fn dies_by_itself(&self) {
        if self.died().await == EndCause::Requested {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("index", &self.port.index).finish_non_exhaustive()
    }
}
