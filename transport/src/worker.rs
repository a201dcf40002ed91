//! The thread that drives one [`Hub`]: receives, sleeps, carries out commands.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_router::{ProducerKey, TransportId};
use tokio::sync::{mpsc, oneshot};

use crate::hub::{Hub, HubEvent, Wire};
use crate::nudges::Nudges;
use crate::object::{Names, Pipes, pipe_everywhere};
use crate::outbox::Message;
use crate::port::{Incoming, PeerPort, Task};
use crate::session::CloseCause;
use crate::socket::{ReceiveBuffers, Sockets};
use crate::stats::{SessionStats, WorkerStats};
use crate::{IceCredentials, Path, PreferredLayers, PublishedProducer, SessionEvent, SessionState};

/// What a worker can be told.
pub(crate) enum Command {
    Task(Task),
    CloseSession(TransportId, oneshot::Sender<()>),
    SetPreferredLayers(TransportId, usize, Option<PreferredLayers>, oneshot::Sender<bool>),
    SetPaused(TransportId, usize, bool, oneshot::Sender<bool>),
    RestartIce(TransportId, IceCredentials, oneshot::Sender<bool>),
    HandOver(Path, Vec<u8>),
    Stats(oneshot::Sender<(WorkerStats, Vec<SessionStats>)>),
    SessionStats(TransportId, oneshot::Sender<Option<SessionStats>>),
    Shutdown(oneshot::Sender<()>),
}

/// What a worker is connected to.
pub(crate) struct WorkerLinks {
    pub(crate) inbound: mpsc::Receiver<Incoming>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) releases: mpsc::UnboundedReceiver<Task>,
    pub(crate) nudges: Arc<Nudges>,
    /// All workers, by index. Weak, itself among them: a worker stops when nobody else can tell it anything.
    pub(crate) peers: Vec<PeerPort>,
    pub(crate) pipes: Pipes,
    pub(crate) names: Names,
    pub(crate) events: mpsc::UnboundedSender<SessionEvent>,
}

/// Messages handled before the sockets get their turn, and batches received before the messages get theirs.
const MAX_INBOUND_AT_ONCE: usize = 64;
const MAX_BATCHES_AT_ONCE: usize = 8;

/// How often each worker looks for viewers that never came: all of them, so that none is needed for it.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// With nothing to wait for, wait this long.
const IDLE: Duration = Duration::from_secs(3_600);

pub(crate) struct Worker {
    index: usize,
    hub: Hub,
    sockets: Sockets,
    buffers: ReceiveBuffers,
    links: WorkerLinks,
    /// Publishers whose producers are not known everywhere yet, and whether they are connected: nobody is to hear of that
    /// before they can be watched.
    publishing: HashMap<TransportId, bool>,
    /// Datagrams for other workers' sessions that did not fit into their queues.
    lost_hand_overs: u64,
}

impl Worker {
    pub(crate) fn new(index: usize, hub: Hub, sockets: Sockets, links: WorkerLinks) -> Self {
        Self {
            index,
            hub,
            sockets,
            buffers: ReceiveBuffers::new(),
            links,
            publishing: HashMap::new(),
            lost_hand_overs: 0,
        }
    }

    /// Runs until it is told to stop or everybody who could tell is gone.
    pub(crate) async fn run(mut self, expire_pending: impl Fn(Instant)) {
        let sleep = tokio::time::sleep(IDLE);
        tokio::pin!(sleep);
        let nudges = Arc::clone(&self.links.nudges);
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        expiry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.sockets.begin_turn();
            let due = self.hub.poll_timeout().unwrap_or_else(|| Instant::now() + IDLE);
            sleep.as_mut().reset(due.into());
            tokio::select! {
                Some(first) = self.links.inbound.recv() => self.handle_inbound(first),
                () = nudges.changed() => self.hub.handle_nudges(Instant::now(), nudges.take(), &mut self.sockets),
                Some(task) = self.links.releases.recv() => task(&mut self.hub, &mut self.sockets, Instant::now()),
                index = self.sockets.readable() => self.receive(index),
                () = &mut sleep => self.hub.handle_timeout(Instant::now(), &mut self.sockets),
                command = self.links.commands.recv() => match command {
                    Some(Command::Shutdown(done)) => {
                        self.hub.close_all(Instant::now(), &mut self.sockets);
                        self.end_readers().await;
                        self.pass_on_events();
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                _ = expiry.tick() => expire_pending(Instant::now()),
            }
            self.end_readers().await;
            self.pass_on_events();
        }
    }

    /// Waits until the ports of plain transports that have ended are free: their readers have been told, and stop at once.
    async fn end_readers(&mut self) {
        for reader in self.hub.ended_readers() {
            let _ = reader.await;
        }
    }

    fn handle_inbound(&mut self, first: Incoming) {
        let mut next = Some(first);
        let mut room = MAX_INBOUND_AT_ONCE;
        while let Some(incoming) = next {
            self.hub.handle_incoming(Instant::now(), incoming, &mut self.sockets, Instant::now);
            room -= 1;
            next = if room > 0 { self.links.inbound.try_recv().ok() } else { None };
        }
    }

    fn receive(&mut self, index: usize) {
        let Self { hub, sockets, buffers, .. } = self;
        for _ in 0..MAX_BATCHES_AT_ONCE {
            let handle = |sockets: &mut Sockets, path: Path, datagram: &mut [u8]| {
                hub.handle_datagram(Instant::now(), path, datagram, sockets);
            };
            let received = sockets.receive(index, buffers, handle);
            hub.end_of_batch(Instant::now(), sockets);
            match received {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive");
                    return;
                }
            }
        }
    }

    async fn handle_command(&mut self, command: Command) {
        // What was dropped before this was asked comes first: the same may be made anew.
        while let Ok(task) = self.links.releases.try_recv() {
            task(&mut self.hub, &mut self.sockets, Instant::now());
        }
        let now = Instant::now();
        // Whoever asked may have stopped waiting; what was asked for is done all the same.
        match command {
            Command::Task(task) => task(&mut self.hub, &mut self.sockets, now),
            Command::CloseSession(id, done) => {
                self.hub.close_session(now, id, CloseCause::Requested, &mut self.sockets);
                self.end_readers().await;
                // Whoever asked is to find it gone.
                self.pass_on_events();
                let _ = done.send(());
            }
            Command::RestartIce(id, credentials, done) => {
                let _ = done.send(self.hub.restart_ice(id, credentials));
            }
            Command::SetPreferredLayers(id, camera, preferred, done) => {
                let _ = done.send(self.hub.set_preferred_layers(now, id, camera, preferred, &mut self.sockets));
            }
            Command::SetPaused(id, camera, paused, done) => {
                let _ = done.send(self.hub.set_paused(now, id, camera, paused, &mut self.sockets));
            }
            Command::HandOver(path, datagram) => {
                self.hub.handle_handed_over(now, path, datagram, &mut self.sockets);
                self.hub.end_of_batch(now, &mut self.sockets);
            }
            Command::Stats(reply) => {
                let mut dropped = self.hub.dropped();
                dropped.worker_hand_over += self.lost_hand_overs;
                let worker = WorkerStats {
                    sockets: self.sockets.stats().and(self.hub.plain_sockets()),
                    dropped,
                    forwarding: self.hub.forwarding_cost(),
                    producers: self.hub.producer_stats(),
                    objects: self.hub.object_counts(),
                };
                let _ = reply.send((worker, self.hub.all_session_stats(now)));
            }
            Command::SessionStats(id, reply) => {
                let _ = reply.send(self.hub.session_stats(now, id));
            }
            Command::Shutdown(_) => unreachable!("the loop handles it"),
        }
    }

    /// Makes a publisher's producers known in the default routers of all other workers, without waiting for it, and tells
    /// then that they exist: a viewer comes to whatever worker.
    fn publish(&self, id: TransportId, producers: Vec<PublishedProducer>) {
        let home = self.index;
        let own = &self.links.peers[home];
        let (router, peers) = (own.home, self.links.peers.clone());
        let (releases, pipes, names) = (own.releases.clone(), self.links.pipes.clone(), self.links.names.clone());
        tokio::spawn(async move {
            let mut made = Vec::new();
            for producer in &producers {
                let key = ProducerKey { router, producer: producer.id };
                made.push((key, pipe_everywhere(&pipes, &names, &peers, key, home).await));
            }
            // Kept by the worker itself: a pipe's handle does not keep a worker from stopping.
            let _ = releases.send(Box::new(move |hub, _, _| {
                made.into_iter().for_each(|(key, pipes)| hub.keep_pipes(key, pipes));
                hub.announce_published(id, producers);
            }));
        });
    }

    fn pass_on_events(&mut self) {
        let mut produced = Vec::new();
        let Self { hub, links, publishing, .. } = self;
        let tell = |id, state| {
            let _ = links.events.send(SessionEvent { id, state });
        };
        for event in hub.poll_events() {
            match event {
                HubEvent::Produced(id, producers) if links.peers.len() > 1 => {
                    publishing.insert(id, false);
                    produced.push((id, producers));
                }
                HubEvent::Produced(id, producers) | HubEvent::Published(id, producers) => {
                    tell(id, SessionState::Published(producers));
                    if publishing.remove(&id) == Some(true) {
                        tell(id, SessionState::Connected);
                    }
                }
                HubEvent::Connected(id) => match publishing.get_mut(&id) {
                    Some(connected) => *connected = true,
                    None => tell(id, SessionState::Connected),
                },
                HubEvent::Closed(id, cause) => {
                    publishing.remove(&id);
                    tell(id, SessionState::Closed(cause));
                }
                HubEvent::HandOver(worker, path, datagram) => {
                    // A worker that is that far behind loses a datagram, as a full socket buffer would.
                    let peer = links.peers[worker].commands.upgrade();
                    if peer.is_none_or(|peer| peer.try_send(Command::HandOver(path, datagram)).is_err()) {
                        self.lost_hand_overs += 1;
                    }
                }
            }
        }
        for (id, producers) in produced {
            self.publish(id, producers);
        }
    }
}

impl Wire for Sockets {
    fn now(&self, _: Instant) -> Instant {
        Instant::now()
    }

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
