//! The transport as the rest of lenscast sees it: workers to give producers to, and sessions to make of offers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;

use lenscast_congestion::EstimateBounds;
use lenscast_media::sync::Mutex;
use lenscast_media::{StageHistograms, WallClock};
use lenscast_router::{EndCause, ProducerId, ProducerKey, ProducerParameters, TransportId};
use rand::Rng as _;
use rand::rngs::StdRng;
use rtc_crypto::RTCCryptoProvider;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::background::Background;
use crate::candidate::candidates;
use crate::catalog::Catalog;
use crate::directory::{Directory, Restart};
use crate::hub::Hub;
use crate::leg::Board;
use crate::nudges::Nudges;
use crate::object::{CreateProducerError, Life, Living, Names, Pipe, Pipes, Producer, WorkerHandle, pipe_everywhere};
use crate::pipe::{Edges, PipeDrops};
use crate::port::{Incoming, Task, WorkerPort, answered};
use crate::publishing::Publishers;
use crate::session::{CloseCause, Timeouts};
use crate::socket::Sockets;
use crate::source::BurstSender;
use crate::time_slice;
use crate::worker::{Command, Worker, WorkerLinks};
use crate::{
    Candidate, Certificate, IceCredentials, LegPlan, LegReport, MakeCertificateError, PreferredLayers,
    PublishedProducer, SessionStats, TransportStats, Upstream,
};

/// How the transport is set up.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// Where to listen, at most one address per family; all on one port.
    pub listen: Vec<SocketAddr>,
    /// Addresses under which a NAT makes us known.
    pub public_addresses: Vec<IpAddr>,
    /// Threads that forward, 1 to [`TransportConfig::MAX_WORKERS`].
    pub workers: usize,
    /// Sessions at once, connected or not.
    pub max_sessions: usize,
    /// How long viewers may be silent.
    pub timeouts: Timeouts,
}

impl TransportConfig {
    /// The most workers there can be.
    pub const MAX_WORKERS: usize = 64;
}

/// Why the transport could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartTransportError {
    /// An address could not be bound.
    #[error("cannot listen on UDP {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// No number of workers that can be had.
    #[error("workers is {0}, must be 1 to {max}", max = TransportConfig::MAX_WORKERS)]
    Workers(usize),
    /// No address to listen on.
    #[error("no UDP address to listen on")]
    NoAddress,
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] MakeCertificateError),
    /// No cryptography.
    #[error("no cryptography: {0}")]
    Crypto(String),
    /// A worker's thread could not be started.
    #[error("cannot start a router thread: {0}")]
    Thread(io::Error),
}

/// A session whose viewer is on its way.
#[derive(Debug, Clone)]
pub struct CreatedSession {
    /// Which.
    pub id: TransportId,
    /// The SDP answer for the viewer.
    pub answer: String,
}

/// Our side of an ICE restart.
#[derive(Debug, Clone)]
pub struct IceRestart {
    /// The credentials that the viewer is to use from now on.
    pub credentials: IceCredentials,
    /// Where we can be reached.
    pub candidates: Vec<Candidate>,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// To which.
    pub id: TransportId,
    /// What.
    pub state: SessionState,
}

/// The stations of a session after its creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// Its publisher has been heard of: from now on these exist on all workers, and can be played once connected.
    Published(Vec<PublishedProducer>),
    /// Its peer is connected.
    Connected,
    /// Only of pipes of an edge: nothing comes from the origin any more, see [`TransportServer::reconnect_pipe`].
    Lost,
    /// The edge's end of a pipe: the origin holds its producers up, or lets them go on.
    /// [`TransportServer::pipe_state`] says which.
    Held,
    /// It ended. Nothing follows.
    Closed(CloseCause),
}

/// Messages that may wait for a worker, nearly all of them frames: a second of eight cameras.
const INBOUND_QUEUE: usize = 256;
const COMMAND_QUEUE: usize = 1_024;

/// A local source's producer, with its mirrors on all other workers.
struct Everywhere {
    producer: Producer,
    pipes: Vec<Pipe>,
}

/// The running transport. Stops when it is dropped, but says goodbye only in [`TransportServer::shutdown`].
pub struct TransportServer {
    pub(crate) config: TransportConfig,
    addresses: Vec<SocketAddr>,
    pub(crate) certificate: Certificate,
    pub(crate) directory: Arc<Directory>,
    wall: WallClock,
    workers: Vec<WorkerHandle>,
    producers: Mutex<BTreeMap<ProducerId, Everywhere>>,
    /// Whose turn it is to be the home of a local source.
    next_home: AtomicUsize,
    pub(crate) events: mpsc::UnboundedSender<SessionEvent>,
    names: Names,
    pub(crate) random: Mutex<StdRng>,
    pub(crate) publishers: Mutex<Publishers>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) edges: Mutex<Edges>,
    pub(crate) pipe_drops: PipeDrops,
    pub(crate) background: Background,
    /// Tells those who know this server's producers that it is another one after a restart.
    pub(crate) epoch: u64,
    /// What each worker says of its legs.
    boards: Vec<Arc<Board>>,
    leg_changes: Arc<watch::Sender<u64>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl TransportServer {
    /// Binds the sockets and starts the workers. What happens to sessions is told through the receiver, which is not
    /// bounded: few events for each session, but an edge's pipe has two for each time that its connection is lost.
    ///
    /// # Errors
    ///
    /// If an address is taken, or the system has no room for threads.
    pub fn start(
        config: TransportConfig,
        wall: WallClock,
        mut random: StdRng,
    ) -> Result<(Self, mpsc::UnboundedReceiver<SessionEvent>), StartTransportError> {
        if !(1..=TransportConfig::MAX_WORKERS).contains(&config.workers) {
            return Err(StartTransportError::Workers(config.workers));
        }
        let crypto = crypto()?;
        let certificate = Certificate::generate(&*crypto)?;
        let sockets = bind_all(&config.listen, config.workers)?;
        let addresses = addresses_of(sockets.first().ok_or(StartTransportError::NoAddress)?);
        if addresses.is_empty() {
            return Err(StartTransportError::NoAddress);
        }
        let epoch = random.next_u64();
        let directory = Arc::new(Directory::new());
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (names, pipes) = (Names::from(TransportConfig::MAX_WORKERS as u64 + 1), Pipes::new());
        let mut ports = Vec::new();
        let mut receivers = Vec::new();
        for index in 0..config.workers {
            let (commands, commands_in) = mpsc::channel(COMMAND_QUEUE);
            // One for each handle that is dropped, and one for each call that is given up: no more than were made.
            let (releases, releases_in) = mpsc::unbounded_channel();
            let (inbound, inbound_in) = mpsc::channel(INBOUND_QUEUE);
            ports.push(WorkerPort { index, commands, releases, inbound, nudges: Arc::new(Nudges::default()) });
            receivers.push((commands_in, releases_in, inbound_in));
        }
        let leg_changes = Arc::new(watch::Sender::new(0));
        let boards: Vec<_> = (0..config.workers).map(|_| Arc::new(Board::new(Arc::clone(&leg_changes)))).collect();
        let inbound: Vec<mpsc::Sender<Incoming>> = ports.iter().map(|port| port.inbound.clone()).collect();

        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for ((port, sockets), receivers) in ports.iter().zip(sockets).zip(receivers) {
            let index = port.index;
            let channels = inbound.clone();
            let (shared, board) = (Arc::clone(&directory), Arc::clone(&boards[index]));
            let hub = Hub::new(index, wall, shared, certificate.clone(), Arc::clone(&crypto), channels, board);
            let (commands, releases, inbound) = receivers;
            let links = WorkerLinks {
                inbound,
                commands,
                releases,
                nudges: Arc::clone(&port.nudges),
                peers: ports.iter().map(|peer| peer.downgrade(Hub::default_router(peer.index))).collect(),
                pipes: pipes.clone(),
                names: names.clone(),
                events: events.clone(),
            };
            let (told, life) = Living::new();
            let others =
                ports.iter().filter(|other| other.index != index).map(|other| other.releases.clone()).collect();
            let obituary = Obituary {
                index,
                told,
                others,
                directory: Arc::clone(&directory),
                events: events.clone(),
                asked: false,
            };
            let (started, ready) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("router-{index}"))
                .spawn(move || run_worker(index, hub, sockets, links, obituary, &started))
                .map_err(StartTransportError::Thread)?;
            let gone = || io::Error::other("it ended at once");
            ready.recv().unwrap_or_else(|_| Err(gone())).map_err(StartTransportError::Thread)?;
            threads.push(thread);
            let (port, home) = (port.clone(), Hub::default_router(index));
            workers.push(WorkerHandle { port, home, life, names: names.clone(), pipes: pipes.clone() });
        }
        let server = Self {
            config,
            addresses,
            certificate,
            directory,
            wall,
            workers,
            producers: Mutex::new(BTreeMap::new()),
            next_home: AtomicUsize::new(0),
            events,
            names,
            random: Mutex::new(random),
            publishers: Mutex::new(Publishers::default()),
            catalog: Arc::new(Catalog::default()),
            edges: Mutex::new(Edges::default()),
            pipe_drops: PipeDrops::default(),
            background: Background::default(),
            epoch,
            boards,
            leg_changes,
            threads: Mutex::new(threads),
        };
        Ok((server, event_receiver))
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What ties its reports to the wall clock.
    #[must_use]
    pub const fn wall_clock(&self) -> WallClock {
        self.wall
    }

    /// True until the session has ended.
    #[must_use]
    pub fn has_session(&self, id: TransportId) -> bool {
        self.directory.contains(id)
    }

    /// Sessions that have not ended.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.directory.len()
    }

    /// The threads that forward.
    #[must_use]
    pub fn workers(&self) -> &[WorkerHandle] {
        &self.workers
    }

    /// Waits until a worker's thread has ended by itself, and says which. What it was the home of has ended with it and
    /// comes back with another server only.
    pub async fn worker_died(&self) -> usize {
        let mut deaths: Vec<_> = self.workers.iter().map(|worker| Box::pin(worker.dies_by_itself())).collect();
        std::future::poll_fn(|context| {
            let dead = deaths.iter_mut().position(|death| death.as_mut().poll(context).is_ready());
            dead.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Makes a local source's stream known on all workers; each in turn is the home of one. What it sends goes through the
    /// returned sender, and the times of its frames into `stages`.
    ///
    /// # Errors
    ///
    /// If the parameters contradict each other, there is a producer of this name, or all workers have ended.
    pub async fn add_producer(
        &self,
        producer: ProducerId,
        parameters: ProducerParameters,
        upstream: Arc<dyn Upstream>,
        stages: Arc<StageHistograms>,
    ) -> Result<BurstSender, CreateProducerError> {
        let home = self.next_home();
        let (router, local) = (home.home, Hub::local_transport(home.index()));
        let catalogued = parameters.clone();
        let made = Producer::create(home, router, local, producer, parameters, upstream).await?;
        let key = made.key();
        let recorded = Arc::clone(&stages);
        home.port.call(move |hub, _, _| hub.record_stages(key, recorded)).await?;
        let pipes = self.pipe_to_others(home, key, &stages).await;
        let sender = made.burst_sender();
        self.catalog.add(producer, catalogued, None);
        self.producers.lock().insert(producer, Everywhere { producer: made, pipes });
        Ok(sender)
    }

    /// Makes a producer of `home` known on all other workers, and where the times of its frames go.
    pub(crate) async fn pipe_to_others(
        &self,
        home: &WorkerHandle,
        key: ProducerKey,
        stages: &Arc<StageHistograms>,
    ) -> Vec<Pipe> {
        let peers: Vec<_> = self.workers.iter().map(|worker| worker.port.downgrade(worker.home)).collect();
        let pipes = pipe_everywhere(&home.pipes, &self.names, &peers, key, home.index()).await;
        for worker in self.workers.iter().filter(|worker| worker.index() != home.index()) {
            let mirror = ProducerKey { router: worker.home, producer: key.producer };
            let stages = Arc::clone(stages);
            // A worker that is gone has nothing to record.
            let _ = worker.port.call(move |hub, _, _| hub.record_stages(mirror, stages)).await;
        }
        pipes
    }

    /// Holds up a producer for everybody, or lets it go on from its next key frame. False if it has ended, or its home is on
    /// another machine.
    pub async fn set_producer_paused(&self, producer: ProducerId, paused: bool) -> bool {
        for worker in &self.workers {
            let key = ProducerKey { router: worker.home, producer };
            let done = if paused {
                crate::object::pause_producer(&worker.port, key).await
            } else {
                crate::object::resume_producer(&worker.port, key).await
            };
            // Elsewhere it has mirrors, which refuse.
            if done.is_ok() {
                return true;
            }
        }
        false
    }

    /// Ends a stream and every session that shows it.
    pub async fn remove_producer(&self, producer: ProducerId) {
        for id in self.directory.remove_pending(|setup| setup.purpose.shows(producer)) {
            self.announce_closed(id, CloseCause::ProducerClosed);
        }
        self.catalog.forget(producer);
        let Some(Everywhere { producer, pipes }) = self.producers.lock().remove(&producer) else { return };
        producer.close().await;
        for pipe in pipes {
            pipe.mirror_closed().await;
        }
    }

    /// A name for a new producer, that no other has had.
    #[must_use]
    pub fn new_producer_id(&self) -> ProducerId {
        ProducerId(self.new_id())
    }

    /// Tells a viewer's session which layers of the video of one of its cameras, by the order of its offer, are wanted from now
    /// on; `None` for the best. False if the session or the camera has ended, or the viewer has not been heard of.
    pub async fn set_preferred_layers(
        &self,
        id: TransportId,
        camera: usize,
        preferred: Option<PreferredLayers>,
    ) -> bool {
        let Some(worker) = self.directory.worker_of(id) else { return false };
        let question = |done| Command::SetPreferredLayers(id, camera, preferred, done);
        ask(&self.workers[worker].port.commands, question).await == Some(true)
    }

    /// Holds up or goes on with what a viewer's session is sent of one of its cameras, by the order of its offer. False if the
    /// session or the camera has ended, or the viewer has not been heard of.
    pub async fn set_paused(&self, id: TransportId, camera: usize, paused: bool) -> bool {
        let Some(worker) = self.directory.worker_of(id) else { return false };
        let question = |done| Command::SetPaused(id, camera, paused, done);
        ask(&self.workers[worker].port.commands, question).await == Some(true)
    }

    /// What is known of the legs whose viewers tell which packets have come, in the order of their names. Asks no worker.
    #[must_use]
    pub fn leg_reports(&self) -> Vec<LegReport> {
        let mut reports: Vec<_> = self.boards.iter().flat_map(|board| board.reports()).collect();
        reports.sort_unstable_by_key(|report| report.id);
        reports.into_iter().map(|report| Arc::try_unwrap(report).unwrap_or_else(|shared| (*shared).clone())).collect()
    }

    /// A number that is another one whenever a leg's report has changed by what matters: it has come or gone, what its path
    /// carries is another by more than a fiftieth, it has been confirmed, or its media is not what it was. At most every
    /// 20 ms for each leg.
    #[must_use]
    pub fn leg_changes(&self) -> watch::Receiver<u64> {
        self.leg_changes.subscribe()
    }

    /// Gives legs what they are to have. Never waits; of several plans for a leg the newest counts.
    pub fn plan_legs(&self, plans: Vec<LegPlan>) {
        let mut by_worker: BTreeMap<usize, Vec<LegPlan>> = BTreeMap::new();
        for plan in plans {
            // One that has not begun has no report either.
            if let Some(worker) = self.directory.worker_of(plan.id) {
                by_worker.entry(worker).or_default().push(plan);
            }
        }
        for (worker, plans) in by_worker {
            self.workers[worker].port.nudges.plans(plans);
        }
    }

    /// Between which bounds all legs' estimates stay from now on, and where those of new ones begin.
    pub fn set_estimate_bounds(&self, bounds: EstimateBounds) {
        for worker in &self.workers {
            worker.port.nudges.bounds(bounds);
        }
    }

    /// Offers a session new ICE credentials; the old ones work until its viewer uses the new. `None` if the session has
    /// ended.
    ///
    /// # Errors
    ///
    /// If the system does not tell our addresses.
    pub async fn restart_ice(&self, id: TransportId, loopback: bool) -> io::Result<Option<IceRestart>> {
        let candidates = self.candidates(loopback)?;
        let credentials = IceCredentials::random(&mut *self.random.lock());
        match self.directory.restart(id, &credentials) {
            Restart::Pending => {}
            Restart::Worker(worker) => {
                let commands = &self.workers[worker].port.commands;
                let mut offered =
                    Offered { directory: &self.directory, id, ufrag: &credentials.ufrag, is_known: false };
                let Ok(permit) = commands.reserve().await else { return Ok(None) };
                let (done, answer) = oneshot::channel();
                permit.send(Command::RestartIce(id, credentials.clone(), done));
                offered.is_known = true;
                if answered(answer, commands).await != Some(true) {
                    return Ok(None);
                }
            }
            Restart::Unknown => return Ok(None),
        }
        Ok(Some(IceRestart { credentials, candidates }))
    }

    /// Ends a session. False if it had ended already.
    pub async fn close_session(&self, id: TransportId) -> bool {
        if !self.directory.remove_pending(|setup| setup.id == id).is_empty() {
            self.announce_closed(id, CloseCause::Requested);
            return true;
        }
        if self.close_edge(id, CloseCause::Requested).await {
            return true;
        }
        let Some(worker) = self.directory.worker_of(id) else { return false };
        ask(&self.workers[worker].port.commands, |done| Command::CloseSession(id, done)).await.is_some()
    }

    /// Reads all counters.
    pub async fn stats(&self) -> TransportStats {
        let mut stats = TransportStats { pending_sessions: self.directory.pending(), ..TransportStats::default() };
        for worker in &self.workers {
            if let Some((worker, sessions)) = ask(&worker.port.commands, Command::Stats).await {
                stats.workers.push(worker);
                stats.sessions.extend(sessions);
            }
        }
        stats.sessions.sort_by_key(|session| session.id);
        stats.pipes = self.pipe_drops.read();
        stats
    }

    /// Reads one session's counters. `None` if it has ended, or its viewer has not been heard of.
    pub async fn session_stats(&self, id: TransportId) -> Option<SessionStats> {
        let worker = self.directory.worker_of(id)?;
        ask(&self.workers[worker].port.commands, |reply| Command::SessionStats(id, reply)).await?
    }

    /// Says goodbye to every viewer and stops the workers.
    pub async fn shutdown(&self) {
        for id in self.directory.remove_pending(|_| true) {
            self.announce_closed(id, CloseCause::Shutdown);
        }
        self.close_edges().await;
        for worker in &self.workers {
            ask(&worker.port.commands, Command::Shutdown).await;
        }
        self.background.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // Each has answered, so it is past its loop.
            if thread.join().is_err() {
                tracing::error!("a router thread panicked");
            }
        }
    }

    /// The next worker whose turn it is, of those that run.
    pub(crate) fn next_home(&self) -> &WorkerHandle {
        let turn = self.next_home.fetch_add(1, Ordering::Relaxed);
        let count = self.workers.len();
        let mut turns = (0..count).map(|step| &self.workers[(turn + step) % count]);
        turns.find(|worker| worker.is_alive()).unwrap_or(&self.workers[turn % count])
    }

    /// A number that nothing else in the process has for a name.
    pub(crate) fn new_id(&self) -> u64 {
        self.names.next()
    }

    pub(crate) fn candidates(&self, loopback: bool) -> io::Result<Vec<Candidate>> {
        candidates(&self.addresses, &self.config.public_addresses, loopback)
    }

    fn announce_closed(&self, id: TransportId, cause: CloseCause) {
        let _ = self.events.send(SessionEvent { id, state: SessionState::Closed(cause) });
    }
}

/// A user fragment that the directory has, and its session's worker is to hear of. Dropped before that, it is forgotten:
/// nobody else would.
struct Offered<'a> {
    directory: &'a Directory,
    id: TransportId,
    ufrag: &'a str,
    is_known: bool,
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        if !self.is_known {
            self.directory.forget_ufrag(self.id, self.ufrag);
        }
    }
}

fn crypto() -> Result<Arc<dyn RTCCryptoProvider>, StartTransportError> {
    rtc_crypto::default_provider().map_err(|error| StartTransportError::Crypto(error.to_string()))
}

fn bind_all(listen: &[SocketAddr], workers: usize) -> Result<Vec<Vec<std::net::UdpSocket>>, StartTransportError> {
    let bind = |addresses: &[SocketAddr], shared| {
        Sockets::bind(addresses, shared).map_err(|(address, error)| StartTransportError::Bind { address, error })
    };
    if workers == 1 {
        return Ok(vec![bind(listen, false)?]);
    }
    // Sharing a port would not notice another process that shares it too: find out first whether it is free.
    let alone = bind(listen, false)?;
    let addresses = addresses_of(&alone);
    drop(alone);
    (0..workers).map(|_| bind(&addresses, true)).collect()
}

fn addresses_of(sockets: &[std::net::UdpSocket]) -> Vec<SocketAddr> {
    sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
}

fn run_worker(
    index: usize,
    hub: Hub,
    sockets: Vec<std::net::UdpSocket>,
    links: WorkerLinks,
    mut obituary: Obituary,
    started: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    let (events, directory) = (links.events.clone(), Arc::clone(&obituary.directory));
    let expire_pending = move |now| {
        for id in directory.expire(now) {
            let _ = events.send(SessionEvent { id, state: SessionState::Closed(CloseCause::ConnectTimeout) });
        }
    };
    // Beside encoders that keep every processor busy, a frame would else wait milliseconds for its turn to be forwarded.
    if let Err(error) = time_slice::shorten() {
        tracing::debug!(%error, "the system does not shorten the router's time slice");
    }
    // Whoever starts us waits for exactly one word.
    let run = |runtime: tokio::runtime::Runtime| {
        runtime.block_on(async {
            let sockets = Sockets::new(sockets)?;
            let _ = started.send(Ok(()));
            Worker::new(index, hub, sockets, links).run(expire_pending).await;
            Ok(())
        })
    };
    if let Err(error) = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(run) {
        let _ = started.send(Err(error));
    }
    obituary.asked = true;
}

/// Tells everybody that a worker's thread has ended, also if it panicked.
struct Obituary {
    index: usize,
    told: watch::Sender<Life>,
    others: Vec<mpsc::UnboundedSender<Task>>,
    directory: Arc<Directory>,
    events: mpsc::UnboundedSender<SessionEvent>,
    /// It ended because it was told to.
    asked: bool,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        let cause = if self.asked { EndCause::Requested } else { EndCause::WorkerClosed };
        self.told.send_modify(|life| life.ended = Some(cause));
        if self.asked {
            return;
        }
        tracing::error!(worker = self.index, "a router thread panicked");
        for id in self.directory.remove_worker(self.index) {
            let _ = self.events.send(SessionEvent { id, state: SessionState::Closed(CloseCause::WorkerDied) });
        }
        let dead = self.index;
        for other in &self.others {
            let _ = other.send(Box::new(move |hub, sockets, now| hub.handle_worker_died(now, dead, sockets)));
        }
    }
}

/// Sends a worker a question and waits for its answer; `None` if it is gone.
async fn ask<T>(worker: &mpsc::Sender<Command>, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    worker.send(question(reply)).await.ok()?;
    answered(answer, worker).await
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_server_that_is_dropped_stops_its_workers() {
        for workers in [1, 2] {
            let config = TransportConfig {
                listen: vec!["127.0.0.1:0".parse().unwrap()],
                public_addresses: Vec::new(),
                workers,
                max_sessions: 1,
                timeouts: Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) },
            };
            let wall = WallClock::new(Instant::now(), Duration::from_secs(1));
            let (server, events) = TransportServer::start(config, wall, StdRng::seed_from_u64(1)).unwrap();
            let threads = std::mem::take(&mut *server.threads.lock());
            drop((server, events));
            // Hangs if one does not.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }
}
