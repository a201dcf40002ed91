use std::fmt;

use lenscast_router::{EndCause, RouterId, TransportId};
use thiserror::Error;

use super::{
    CreateTransportError, DirectReceiver, LifeOf, Living, Pipe, PipeToRouterError, Producer, Transport, WorkerHandle,
};
use crate::port::WorkerGone;

/// Why a router could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateRouterError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The worker refused it.
    #[error(transparent)]
    Router(#[from] lenscast_router::CreateRouterError),
}

/// A router on one worker. Closed when it is dropped, with all that is in it.
#[must_use = "it is closed when it is dropped"]
pub struct Router {
    id: RouterId,
    worker: WorkerHandle,
    life: Living,
    /// It stands, and is this handle's to close.
    made: bool,
}

impl Router {
    pub(crate) async fn create(worker: &WorkerHandle) -> Result<Self, CreateRouterError> {
        let id = RouterId(worker.names.next());
        let (told, life) = Living::new();
        // It travels with the command: if nobody waits for it any more, it is dropped there, and closed.
        let mut router = Self { id, worker: worker.clone(), life, made: false };
        let created = worker.port.call(move |hub, _, _| {
            hub.create_router(id)?;
            hub.lives().follow(LifeOf::Router(id), told);
            router.made = true;
            Ok::<_, lenscast_router::CreateRouterError>(router)
        });
        Ok(created.await??)
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> RouterId {
        self.id
    }

    /// Where it lives.
    #[must_use]
    pub const fn worker(&self) -> &WorkerHandle {
        &self.worker
    }

    /// Makes a transport for a source in this process and for consumers in it, whose packets the receiver yields.
    /// `capacity` is how many bursts may wait there; more are dropped and counted.
    ///
    /// # Errors
    ///
    /// If the router is closed, or its worker has ended.
    pub async fn create_direct_transport(
        &self,
        capacity: usize,
    ) -> Result<(Transport, DirectReceiver), CreateTransportError> {
        Transport::create_direct(&self.worker, self.id, TransportId(self.worker.names.next()), capacity).await
    }

    /// Makes the producer known in this router too: callers at once share one pipe.
    ///
    /// May be dropped at any moment; then there is no pipe, unless somebody else asked for it.
    ///
    /// # Errors
    ///
    /// If either is closed or ends meanwhile, a worker has ended, or the producer is there already.
    pub async fn pipe(&self, producer: &Producer) -> Result<Pipe, PipeToRouterError> {
        super::pipe_to_router(&self.worker.pipes, producer.origin(), &self.worker.port, self.id, &self.worker.names)
            .await
    }

    /// Waits until it has ended.
    pub async fn closed(&self) -> EndCause {
        self.life.ended().await
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.made {
            let id = self.id;
            self.worker.port.release(move |hub, sockets, now| {
                // It may have ended by itself.
                let _ = hub.with_router(now, sockets, |router, egress| router.close_router(now, id, egress));
            });
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("id", &self.id).finish_non_exhaustive()
    }
}
