//! The thread that drives one [`Hub`]: receives, sleeps, carries out commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, StageHistograms};
use lenscast_router::{ProducerId, TransportId};
use tokio::sync::{mpsc, oneshot};

use crate::active_workers::ActiveWorkers;
use crate::hub::{Hub, HubEvent, Wire};
use crate::outbox::Message;
use crate::session::CloseCause;
use crate::socket::{ReceiveBuffers, Sockets};
use crate::stats::{SessionStats, WorkerStats};
use crate::{IceCredentials, Path, SessionEvent, SessionState, Upstream};

/// A frame on its way to a worker.
pub(crate) type ProducedBurst = (ProducerId, Arc<Burst>);

/// What a worker can be told.
pub(crate) enum Command {
    AddProducer(ProducerId, Arc<dyn Upstream>, Arc<StageHistograms>, Arc<ActiveWorkers>),
    RemoveProducer(ProducerId, oneshot::Sender<()>),
    CloseSession(TransportId, oneshot::Sender<()>),
    RestartIce(TransportId, IceCredentials, oneshot::Sender<bool>),
    HandOver(Path, Vec<u8>),
    Stats(oneshot::Sender<(WorkerStats, Vec<SessionStats>)>),
    SessionStats(TransportId, oneshot::Sender<Option<SessionStats>>),
    Shutdown(oneshot::Sender<()>),
}

/// What a worker is connected to.
pub(crate) struct WorkerLinks {
    pub(crate) bursts: mpsc::Receiver<ProducedBurst>,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// All workers' commands, by index. Weak, its own among them: a worker stops when nobody else can tell it anything.
    pub(crate) peers: Vec<mpsc::WeakSender<Command>>,
    pub(crate) events: mpsc::UnboundedSender<SessionEvent>,
}

/// Bursts handled before the sockets get their turn, and batches received before the bursts get theirs.
const MAX_BURSTS_AT_ONCE: usize = 64;
const MAX_BATCHES_AT_ONCE: usize = 8;

/// How often the first worker looks for viewers that never came.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// With nothing to wait for, wait this long.
const IDLE: Duration = Duration::from_secs(3_600);

pub(crate) struct Worker {
    index: usize,
    hub: Hub,
    sockets: Sockets,
    buffers: ReceiveBuffers,
    links: WorkerLinks,
    /// Datagrams for other workers' sessions that did not fit into their queues.
    lost_hand_overs: u64,
}

impl Worker {
    pub(crate) fn new(index: usize, hub: Hub, sockets: Sockets, links: WorkerLinks) -> Self {
        Self { index, hub, sockets, buffers: ReceiveBuffers::new(), links, lost_hand_overs: 0 }
    }

    /// Runs until it is told to stop or everybody who could tell is gone.
    pub(crate) async fn run(mut self, expire_pending: impl Fn(Instant)) {
        let sleep = tokio::time::sleep(IDLE);
        tokio::pin!(sleep);
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.sockets.begin_turn();
            let due = self.hub.poll_timeout().unwrap_or_else(|| Instant::now() + IDLE);
            sleep.as_mut().reset(due.into());
            tokio::select! {
                Some(burst) = self.links.bursts.recv() => self.handle_bursts(burst),
                index = self.sockets.readable() => self.receive(index),
                () = &mut sleep => self.hub.handle_timeout(Instant::now(), &mut self.sockets),
                command = self.links.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => {
                        self.hub.close_all(Instant::now(), &mut self.sockets);
                        self.pass_on_events();
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                _ = expiry.tick(), if self.index == 0 => expire_pending(Instant::now()),
            }
            self.pass_on_events();
        }
    }

    fn handle_bursts(&mut self, first: ProducedBurst) {
        let mut next = Some(first);
        let mut room = MAX_BURSTS_AT_ONCE;
        while let Some((producer, burst)) = next {
            self.hub.handle_burst(Instant::now(), producer, burst, &mut self.sockets, Instant::now);
            room -= 1;
            next = if room > 0 { self.links.bursts.try_recv().ok() } else { None };
        }
    }

    fn receive(&mut self, index: usize) {
        let Self { hub, sockets, buffers, .. } = self;
        for _ in 0..MAX_BATCHES_AT_ONCE {
            let handle = |sockets: &mut Sockets, path: Path, datagram: &mut [u8]| {
                hub.handle_datagram(Instant::now(), path, datagram, sockets);
            };
            match sockets.receive(index, buffers, handle) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive");
                    return;
                }
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        // Whoever asked may have stopped waiting; what was asked for is done all the same.
        match command {
            Command::AddProducer(id, upstream, stages, active) => self.hub.add_producer(id, upstream, stages, active),
            Command::RemoveProducer(id, done) => {
                self.hub.remove_producer(now, id, &mut self.sockets);
                let _ = done.send(());
            }
            Command::CloseSession(id, done) => {
                self.hub.close_session(now, id, CloseCause::Requested, &mut self.sockets);
                let _ = done.send(());
            }
            Command::RestartIce(id, credentials, done) => {
                let _ = done.send(self.hub.restart_ice(id, credentials));
            }
            Command::HandOver(path, datagram) => self.hub.handle_handed_over(now, path, datagram, &mut self.sockets),
            Command::Stats(reply) => {
                let mut dropped = self.hub.dropped();
                dropped.worker_hand_over += self.lost_hand_overs;
                let worker = WorkerStats {
                    sockets: self.sockets.stats(),
                    dropped,
                    forwarding: self.hub.forwarding_cost(),
                    producers: self.hub.producer_stats(),
                };
                let _ = reply.send((worker, self.hub.all_session_stats(now)));
            }
            Command::SessionStats(id, reply) => {
                let _ = reply.send(self.hub.session_stats(now, id));
            }
            Command::Shutdown(_) => unreachable!("the loop handles it"),
        }
    }

    fn pass_on_events(&mut self) {
        for event in self.hub.poll_events() {
            match event {
                HubEvent::Connected(id) => {
                    let _ = self.links.events.send(SessionEvent { id, state: SessionState::Connected });
                }
                HubEvent::Closed(id, cause) => {
                    let _ = self.links.events.send(SessionEvent { id, state: SessionState::Closed(cause) });
                }
                HubEvent::HandOver(worker, path, datagram) => {
                    // A worker that is that far behind loses a datagram, as a full socket buffer would.
                    let peer = self.links.peers[worker].upgrade();
                    if peer.is_none_or(|peer| peer.try_send(Command::HandOver(path, datagram)).is_err()) {
                        self.lost_hand_overs += 1;
                    }
                }
            }
        }
    }
}

impl Wire for Sockets {
    fn send(&mut self, path: Path, datagram: &[u8]) {
        Self::send(self, path, datagram);
    }

    fn send_packets(&mut self, path: Path, buffer: &[u8], ends: &[usize]) {
        Self::send_packets(self, path, buffer, ends);
    }

    fn send_batch(&mut self, buffer: &[u8], ends: &[usize], messages: &[Message]) {
        Self::send_batch(self, buffer, ends, messages);
    }
}
