use std::fmt;
use std::sync::Arc;

use lenscast_router::{
    EndCause, ProduceError, ProducerId, ProducerKey, ProducerParameters, RouterId, Source, TransportId, Upstream,
};
use thiserror::Error;

use super::{Life, LifeOf, Living, Pipe, PipeToRouterError, Router, WorkerHandle};
use crate::port::{WorkerGone, WorkerPort};
use crate::source::BurstSender;

/// Why a producer could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateProducerError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The router refused it.
    #[error(transparent)]
    Router(#[from] ProduceError),
}

/// Why a producer could not be paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PauseProducerError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The router refused it.
    #[error(transparent)]
    Router(#[from] lenscast_router::PauseProducerError),
}

/// A stream that enters a router. Closed when it is dropped, with its consumers and its mirrors everywhere.
#[must_use = "it is closed when it is dropped"]
pub struct Producer {
    key: ProducerKey,
    worker: WorkerHandle,
    life: Living,
    /// It stands, and is this handle's to close.
    made: bool,
}

/// What a pipe is made from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) key: ProducerKey,
    pub(crate) home: WorkerPort,
}

impl Producer {
    pub(crate) async fn create(
        worker: &WorkerHandle,
        router: RouterId,
        transport: TransportId,
        producer: ProducerId,
        parameters: ProducerParameters,
        upstream: Arc<dyn Upstream>,
    ) -> Result<Self, CreateProducerError> {
        let key = ProducerKey { router, producer };
        let (told, life) = Living::new();
        // It travels with the command: if nobody waits for it any more, it is dropped there, and closed.
        let mut handle = Self { key, worker: worker.clone(), life, made: false };
        let created = worker.port.call(move |hub, sockets, now| {
            let source = Source::Local(upstream);
            hub.with_router(now, sockets, |router, _| router.produce(now, transport, producer, parameters, source))?;
            hub.lives().follow(LifeOf::Producer(key), told);
            handle.made = true;
            Ok::<_, ProduceError>(handle)
        });
        Ok(created.await??)
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> ProducerId {
        self.key.producer
    }

    /// Its name with that of its router.
    #[must_use]
    pub const fn key(&self) -> ProducerKey {
        self.key
    }

    /// Where its source puts its bursts.
    #[must_use]
    pub fn burst_sender(&self) -> BurstSender {
        BurstSender::new(self.key, self.worker.port.clone())
    }

    /// From now on nothing of it is forwarded, to anybody.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn pause(&self) -> Result<(), PauseProducerError> {
        pause_producer(&self.worker.port, self.key).await
    }

    /// Forwards it again, from the next key frames on.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn resume(&self) -> Result<(), PauseProducerError> {
        resume_producer(&self.worker.port, self.key).await
    }

    /// Makes it known in another router: [`Router::pipe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pipe_to_router(&self, router: &Router) -> Result<Pipe, PipeToRouterError> {
        router.pipe(self).await
    }

    /// What is known of it now.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life.now()
    }

    /// Waits for something else than `seen`; what it ended with, if it has.
    pub async fn changed(&self, seen: Life) -> Life {
        self.life.changed(seen).await
    }

    /// Waits until it has ended.
    pub async fn closed(&self) -> EndCause {
        self.life.ended().await
    }

    /// Ends it, and waits until that is done on its worker.
    pub async fn close(self) {
        let (port, key) = (self.worker.port.clone(), self.key);
        // Drops the handle first, so that what it releases comes before what is waited for.
        drop(self);
        let _ = port.call(move |hub, _, _| hub.lives().forget(LifeOf::Producer(key))).await;
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { key: self.key, home: self.worker.port.clone() }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.made {
            let key = self.key;
            self.worker.port.release(move |hub, sockets, now| {
                // It may have ended by itself.
                let _ = hub.with_router(now, sockets, |router, egress| router.close_producer(now, key, egress));
            });
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("key", &self.key).finish_non_exhaustive()
    }
}

pub(crate) async fn pause_producer(home: &WorkerPort, key: ProducerKey) -> Result<(), PauseProducerError> {
    Ok(home
        .call(move |hub, sockets, now| {
            hub.with_router(now, sockets, |router, egress| router.pause_producer(now, key, egress))
        })
        .await??)
}

pub(crate) async fn resume_producer(home: &WorkerPort, key: ProducerKey) -> Result<(), PauseProducerError> {
    Ok(home
        .call(move |hub, sockets, now| {
            hub.with_router(now, sockets, |router, egress| router.resume_producer(now, key, egress))
        })
        .await??)
}
