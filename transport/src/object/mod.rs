//! Handles of what lives on the workers' threads: routers, transports, producers, consumers, pipes.
//!
//! A handle closes its object when it is dropped, whatever else is in the object with it; docs/closures.md tells who
//! closes whom. An object that was asked for by a future that is dropped in the midst is closed as soon as it is made.
//! Each ends exactly once, with exactly one cause: `closed()` tells it, however often it is asked.

mod consumer;
mod direct;
mod life;
mod pipe;
mod producer;
mod router;
mod transport;
mod worker;

pub use consumer::{Consumer, ConsumerOperationError, CreateConsumerError};
pub(crate) use direct::DirectSink;
pub use direct::{DirectPackets, DirectReceiver};
pub use life::Life;
pub(crate) use life::{LifeOf, Lives, Living};
pub use pipe::{Pipe, PipeToRouterError};
pub(crate) use pipe::{Pipes, pipe_everywhere, pipe_to_router};
pub use producer::{CreateProducerError, PauseProducerError, Producer};
pub(crate) use producer::{pause_producer, resume_producer};
pub use router::{CreateRouterError, Router};
pub use transport::{CreateTransportError, Transport};
pub(crate) use worker::Names;
pub use worker::WorkerHandle;

#[cfg(test)]
mod tests;
