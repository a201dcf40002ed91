use std::fmt;
use std::sync::Arc;

use lenscast_router::{
    ConsumerParameters, EndCause, ProducerId, ProducerParameters, RouterId, TransportId, TransportKind, Upstream,
};
use thiserror::Error;

use super::direct::direct_channel;
use super::{
    Consumer, CreateConsumerError, CreateProducerError, DirectReceiver, LifeOf, Living, Producer, WorkerHandle,
};
use crate::port::WorkerGone;

/// Why a transport could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateTransportError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The router refused it.
    #[error(transparent)]
    Router(#[from] lenscast_router::CreateTransportError),
}

/// A transport of a router. Closed when it is dropped, with what it produces and consumes.
#[must_use = "it is closed when it is dropped"]
pub struct Transport {
    id: TransportId,
    kind: TransportKind,
    router: RouterId,
    worker: WorkerHandle,
    life: Living,
    /// It stands, and is this handle's to close.
    made: bool,
}

impl Transport {
    pub(crate) async fn create_direct(
        worker: &WorkerHandle,
        router: RouterId,
        id: TransportId,
        capacity: usize,
    ) -> Result<(Self, DirectReceiver), CreateTransportError> {
        let (told, life) = Living::new();
        let (sink, receiver) = direct_channel(capacity);
        let mut transport = Self { id, kind: TransportKind::Direct, router, worker: worker.clone(), life, made: false };
        let created = worker.port.call(move |hub, _, _| {
            hub.create_direct_transport(router, id, sink)?;
            hub.lives().follow(LifeOf::Transport(id), told);
            transport.made = true;
            Ok::<_, lenscast_router::CreateTransportError>(transport)
        });
        Ok((created.await??, receiver))
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> TransportId {
        self.id
    }

    /// What is on its other side.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        self.kind
    }

    /// Its router.
    #[must_use]
    pub const fn router(&self) -> RouterId {
        self.router
    }

    /// Makes a source in this process known, over a direct transport. `upstream` is told what is wanted of it.
    ///
    /// # Errors
    ///
    /// If the transport is closed or of another kind, the parameters are refused, or the worker has ended.
    pub async fn produce(
        &self,
        parameters: ProducerParameters,
        upstream: Arc<dyn Upstream>,
    ) -> Result<Producer, CreateProducerError> {
        self.produce_as(ProducerId(self.worker.names.next()), parameters, upstream).await
    }

    pub(crate) async fn produce_as(
        &self,
        producer: ProducerId,
        parameters: ProducerParameters,
        upstream: Arc<dyn Upstream>,
    ) -> Result<Producer, CreateProducerError> {
        Producer::create(&self.worker, self.router, self.id, producer, parameters, upstream).await
    }

    /// Sends a producer of this router to the other side.
    ///
    /// # Errors
    ///
    /// If the router has no such producer, the transport is closed, the parameters are refused, or the worker has ended.
    pub async fn consume(
        &self,
        producer: ProducerId,
        parameters: ConsumerParameters,
    ) -> Result<Consumer, CreateConsumerError> {
        Consumer::create(&self.worker.port, producer, ConsumerParameters { transport: self.id, ..parameters }).await
    }

    /// Waits until it has ended.
    pub async fn closed(&self) -> EndCause {
        self.life.ended().await
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.made {
            let id = self.id;
            self.worker.port.release(move |hub, sockets, now| {
                // It may have ended by itself.
                let _ = hub.with_router(now, sockets, |router, egress| router.close_transport(now, id, egress));
            });
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}
