use std::fmt;

use lenscast_router::{
    ConsumeError, ConsumerId, ConsumerParameters, EndCause, Layers, Priority, ProducerId, UnknownConsumer,
};
use thiserror::Error;

use super::{Life, Living};
use crate::port::{WorkerGone, WorkerPort};

/// Why a consumer could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateConsumerError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The router refused it.
    #[error(transparent)]
    Router(#[from] ConsumeError),
}

/// Why a consumer could not be told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumerOperationError {
    /// Its worker has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// It has ended.
    #[error(transparent)]
    Ended(#[from] UnknownConsumer),
}

/// A stream that leaves a router. Closed when it is dropped.
#[must_use = "it is closed when it is dropped"]
pub struct Consumer {
    id: ConsumerId,
    producer: ProducerId,
    port: WorkerPort,
    life: Living,
    /// It stands, and is this handle's to close.
    made: bool,
}

impl Consumer {
    pub(crate) async fn create(
        port: &WorkerPort,
        producer: ProducerId,
        parameters: ConsumerParameters,
    ) -> Result<Self, CreateConsumerError> {
        let id = parameters.id;
        let (told, life) = Living::new();
        // It travels with the command: if nobody waits for it any more, it is dropped there, and closed.
        let mut consumer = Self { id, producer, port: port.clone(), life, made: false };
        let created = port.call(move |hub, sockets, now| {
            hub.consume(now, producer, parameters, told, sockets)?;
            consumer.made = true;
            Ok::<_, ConsumeError>(consumer)
        });
        Ok(created.await??)
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> ConsumerId {
        self.id
    }

    /// What it shows.
    #[must_use]
    pub const fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Sends nothing from now on.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn pause(&self) -> Result<(), ConsumerOperationError> {
        let id = self.id;
        Ok(self
            .port
            .call(move |hub, sockets, now| hub.with_router(now, sockets, |r, _| r.pause_consumer(now, id)))
            .await??)
    }

    /// Sends again, from the next key frame on.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn resume(&self) -> Result<(), ConsumerOperationError> {
        let id = self.id;
        Ok(self
            .port
            .call(move |hub, sockets, now| hub.with_router(now, sockets, |r, _| r.resume_consumer(now, id)))
            .await??)
    }

    /// Sends these layers while they can be had.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn set_preferred_layers(&self, layers: Layers) -> Result<(), ConsumerOperationError> {
        let id = self.id;
        let set = self.port.call(move |hub, sockets, now| {
            hub.with_router(now, sockets, |router, _| router.set_preferred_layers(now, id, layers))
        });
        Ok(set.await??)
    }

    /// How much it matters beside the others of its transport.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn set_priority(&self, priority: Priority) -> Result<(), ConsumerOperationError> {
        let id = self.id;
        let set = self.port.call(move |hub, sockets, now| {
            hub.with_router(now, sockets, |router, _| router.set_priority(now, id, priority))
        });
        Ok(set.await??)
    }

    /// Asks its producer for a key frame.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub async fn request_key_frame(&self) -> Result<(), ConsumerOperationError> {
        let id = self.id;
        let asked = self.port.call(move |hub, sockets, now| {
            hub.with_router(now, sockets, |router, _| router.request_key_frame(now, id))
        });
        Ok(asked.await??)
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
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.made {
            let id = self.id;
            self.port.release(move |hub, sockets, now| {
                // It may have ended by itself.
                let _ = hub.with_router(now, sockets, |router, egress| router.close_consumer(now, id, egress));
            });
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("id", &self.id).field("producer", &self.producer).finish_non_exhaustive()
    }
}
