use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lenscast_router::pipe::registry::{ObtainError, Shared};
use lenscast_router::pipe::{PipeKey, PipeRegistry};
use lenscast_router::{
    AttachError, AttachParameters, Confirm, EndCause, OpenMirrorError, OutletId, OutletLink, ProducerId, ProducerKey,
    RouterId,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::producer::Origin;
use super::worker::Names;
use super::{LifeOf, Living};
use crate::hub::Opening;
use crate::port::{PeerPort, Task, WorkerGone, WorkerPort, answered};

/// Why a producer could not be piped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PipeToRouterError {
    /// One of the two workers has ended.
    #[error(transparent)]
    WorkerGone(#[from] WorkerGone),
    /// The producer's side refused it.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The destination's side refused it.
    #[error(transparent)]
    Open(#[from] OpenMirrorError),
    /// The producer, or the destination, has ended meanwhile.
    #[error("it ended while it was being made")]
    Ended,
}

/// A producer's mirror in another router. Shared by all who asked for the same; closed when the last of them drops it.
#[derive(Clone)]
#[must_use = "it is closed when it is dropped"]
pub struct Pipe {
    ends: Shared<PipeKey, PipeEnds, PipeToRouterError>,
}

/// The pipes between the workers of one server.
pub(crate) type Pipes = PipeRegistry<PipeEnds, PipeToRouterError>;

/// Both ends of a pipe, or the first of them as long as there is no other. Dropped, it detaches.
pub(crate) struct PipeEnds {
    outlet: OutletId,
    /// To the producer's worker, which a pipe does not keep from stopping.
    home: mpsc::UnboundedSender<Task>,
    /// Of the producer's end, and of the mirror.
    outlet_life: Living,
    mirror_life: Living,
    /// It is attached, and is this one's to detach.
    made: bool,
}

impl Pipe {
    /// What is piped.
    #[must_use]
    pub fn producer(&self) -> ProducerId {
        self.ends.key().producer
    }

    /// Where to.
    #[must_use]
    pub fn destination(&self) -> RouterId {
        self.ends.key().destination
    }

    /// Its name: that of its end at the producer.
    #[must_use]
    pub fn outlet(&self) -> OutletId {
        self.ends.outlet
    }

    /// Waits until it has ended at the producer.
    pub async fn closed(&self) -> EndCause {
        self.ends.outlet_life.ended().await
    }

    /// Waits until the mirror has ended.
    pub async fn mirror_closed(&self) -> EndCause {
        self.ends.mirror_life.ended().await
    }
}

impl PipeEnds {
    fn has_ended(&self) -> bool {
        self.outlet_life.now().ended.is_some() || self.mirror_life.now().ended.is_some()
    }
}

impl Drop for PipeEnds {
    fn drop(&mut self) {
        if self.made {
            let outlet = self.outlet;
            let detach: Task = Box::new(move |hub, sockets, now| {
                hub.with_router(now, sockets, |router, egress| router.detach(now, outlet, egress));
            });
            let _ = self.home.send(detach);
        }
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("key", self.ends.key()).field("outlet", &self.ends.outlet).finish_non_exhaustive()
    }
}

/// How long until a destination without room is tried again. It goes on as long as there are the producer and the
/// destination.
const RETRY: Duration = Duration::from_millis(20);

/// Shares the pipe that there is, or makes one.
pub(crate) async fn pipe_to_router(
    pipes: &Pipes,
    origin: Origin,
    destination: &WorkerPort,
    router: RouterId,
    names: &Names,
) -> Result<Pipe, PipeToRouterError> {
    let key = PipeKey { producer: origin.key.producer, destination: router };
    loop {
        let create = |_| create(origin.clone(), destination.clone(), router, OutletId(names.next()));
        let ends = match pipes.obtain(key, create).await {
            Ok(ends) => ends,
            // Of a pipe that was there before, the end is still on its way: that goes first.
            Err(ObtainError::Failed(PipeToRouterError::Attach(AttachError::NoRoom(_)))) => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(ObtainError::Failed(error)) => return Err(error),
            Err(ObtainError::Ended) => return Err(PipeToRouterError::Ended),
        };
        if !ends.has_ended() {
            return Ok(Pipe { ends });
        }
        // It ended by itself, and somebody holds it still: nobody else is to get it.
        pipes.remove(&key, ends.entry());
    }
}

async fn create(
    origin: Origin,
    destination: WorkerPort,
    router: RouterId,
    outlet: OutletId,
) -> Result<PipeEnds, PipeToRouterError> {
    let Origin { key, home } = origin;
    // With a place in the destination's channel beforehand, the attaching itself waits for nothing.
    let permit = destination.inbound.clone().reserve_owned().await.map_err(|_| WorkerGone)?;
    let (told, outlet_life) = Living::new();
    let (mirror_told, mirror_life) = Living::new();
    let (tell, opened) = oneshot::channel();
    let nudges = Arc::clone(&home.nudges);
    let parameters = AttachParameters {
        producer: key,
        destination: router,
        link: Arc::new(OutletLink::new(outlet, move |outlet| nudges.outlet(outlet))),
        created: Confirm::new(move |result| {
            // Whoever asked may be gone: then the outlet is detached, and the mirror ends.
            let _ = tell.send(result);
        }),
    };
    let opening = Opening { permit, mirror: mirror_told };
    let mut ends = PipeEnds { outlet, home: home.releases.clone(), outlet_life, mirror_life, made: false };
    let destination_index = destination.index;
    // It travels with the command: if nobody waits for it any more, it is dropped there, and detached.
    let attached = home.call(move |hub, sockets, now| {
        hub.attach(now, parameters, destination_index, opening, sockets)?;
        hub.lives().follow(LifeOf::Outlet(outlet), told);
        ends.made = true;
        Ok::<_, AttachError>(ends)
    });
    let ends = attached.await??;
    answered(opened, &destination.inbound).await.ok_or(WorkerGone)??;
    Ok(ends)
}

/// Makes a producer of worker `home` known in the default routers of all others. A worker that has ended gets none.
pub(crate) async fn pipe_everywhere(
    pipes: &Pipes,
    names: &Names,
    workers: &[PeerPort],
    key: ProducerKey,
    home: usize,
) -> Vec<Pipe> {
    // All at once: one that is slow holds up none of the others.
    let mut making = JoinSet::new();
    for worker in workers.iter().filter(|worker| worker.index != home) {
        let (Some(destination), Some(home)) = (worker.upgrade(), workers[home].upgrade()) else { continue };
        let (pipes, names, router) = (pipes.clone(), names.clone(), worker.home);
        making.spawn(async move {
            let piped = pipe_to_router(&pipes, Origin { key, home }, &destination, router, &names).await;
            piped.inspect_err(|error| {
                tracing::warn!(producer = %key, worker = destination.index, %error, "cannot pipe");
            })
        });
    }
    let mut made = Vec::new();
    while let Some(piped) = making.join_next().await {
        made.extend(piped.into_iter().flatten());
    }
    made
}
