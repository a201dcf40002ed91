//! The ways into a worker's thread.

use std::sync::Arc;
use std::time::Instant;

use lenscast_router::{Inbound, RouterId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::hub::Hub;
use crate::nudges::Nudges;
use crate::object::Life;
use crate::socket::Sockets;
use crate::worker::Command;

/// Something to do on a worker's thread. It must not block.
pub(crate) type Task = Box<dyn FnOnce(&mut Hub, &mut Sockets, Instant) + Send>;

/// The worker's thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the worker has ended")]
pub struct WorkerGone;

/// What a worker's ordered channel carries.
pub(crate) struct Incoming {
    /// The worker it comes from; of a local source, the worker it goes to.
    pub(crate) from: usize,
    pub(crate) message: Inbound,
    /// Beside [`Inbound::Open`]: where to tell what befalls the mirror.
    pub(crate) life: Option<watch::Sender<Life>>,
}

/// The ways into a worker's thread, for everybody else.
#[derive(Clone)]
pub(crate) struct WorkerPort {
    pub(crate) index: usize,
    pub(crate) commands: mpsc::Sender<Command>,
    /// For drops, which cannot wait: at most one for each object. A worker does them before any command that was sent
    /// after them.
    pub(crate) releases: mpsc::UnboundedSender<Task>,
    pub(crate) inbound: mpsc::Sender<Incoming>,
    pub(crate) nudges: Arc<Nudges>,
}

/// The ways into a worker's thread, for those who are not to keep it from stopping.
#[derive(Clone)]
pub(crate) struct PeerPort {
    pub(crate) index: usize,
    /// Its default router.
    pub(crate) home: RouterId,
    pub(crate) commands: mpsc::WeakSender<Command>,
    pub(crate) releases: mpsc::UnboundedSender<Task>,
    pub(crate) inbound: mpsc::Sender<Incoming>,
    pub(crate) nudges: Arc<Nudges>,
}

impl PeerPort {
    /// `None` once nobody else can tell the worker anything.
    pub(crate) fn upgrade(&self) -> Option<WorkerPort> {
        Some(WorkerPort {
            index: self.index,
            commands: self.commands.upgrade()?,
            releases: self.releases.clone(),
            inbound: self.inbound.clone(),
            nudges: Arc::clone(&self.nudges),
        })
    }
}

impl WorkerPort {
    pub(crate) fn downgrade(&self, home: RouterId) -> PeerPort {
        PeerPort {
            index: self.index,
            home,
            commands: self.commands.downgrade(),
            releases: self.releases.clone(),
            inbound: self.inbound.clone(),
            nudges: Arc::clone(&self.nudges),
        }
    }

    /// Does something on the worker's thread and returns what came of it. Dropped meanwhile, it is done all the same, and
    /// what came of it is dropped.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Hub, &mut Sockets, Instant) -> T + Send + 'static,
    ) -> Result<T, WorkerGone> {
        let (reply, answer) = oneshot::channel();
        let task: Task = Box::new(move |hub, sockets, now| {
            // Whoever asked may have stopped waiting: then the result is dropped here.
            let _ = reply.send(task(hub, sockets, now));
        });
        self.commands.send(Command::Task(task)).await.map_err(|_| WorkerGone)?;
        answered(answer, &self.commands).await.ok_or(WorkerGone)
    }

    /// Does something on the worker's thread some time, if there is still one.
    pub(crate) fn release(&self, task: impl FnOnce(&mut Hub, &mut Sockets, Instant) + Send + 'static) {
        let _ = self.releases.send(Box::new(task));
    }
}

/// Waits for the answer to what was sent over `channel`. `None` if none comes any more: what a channel takes while its
/// receiver is dropped lies there unseen, and the way to answer with it, for as long as there are senders.
pub(crate) async fn answered<T, M>(mut answer: oneshot::Receiver<T>, channel: &mpsc::Sender<M>) -> Option<T> {
    tokio::select! {
        biased;
        answer = &mut answer => answer.ok(),
        () = channel.closed() => answer.try_recv().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_not_waited_for_from_a_worker_that_ended_with_the_question_unseen() {
        let (questions, receiver) = mpsc::channel(1);
        let (reply, answer) = oneshot::channel::<()>();
        let permit = questions.clone().reserve_owned().await.unwrap();
        drop(receiver);
        permit.send(reply);
        assert_eq!(answered(answer, &questions).await, None);
    }

    #[tokio::test]
    async fn an_answer_counts_although_the_worker_has_ended_since() {
        let (questions, receiver) = mpsc::channel::<()>(1);
        let (reply, answer) = oneshot::channel();
        reply.send(1).unwrap();
        drop(receiver);
        assert_eq!(answered(answer, &questions).await, Some(1));
    }
}
