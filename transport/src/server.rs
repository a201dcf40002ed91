//! The transport as the rest of lenscast sees it: workers to give producers to, and sessions to make of offers.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use lenscast_media::sync::Mutex;
use lenscast_media::{Burst, StageHistograms, WallClock};
use lenscast_router::{ProducerId, TransportId};
use rand::rngs::StdRng;
use rtc_crypto::RTCCryptoProvider;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::active_workers::ActiveWorkers;
use crate::candidate::candidates;
use crate::directory::{Directory, Restart};
use crate::hub::Hub;
use crate::publishing::Publishers;
use crate::session::{CloseCause, Timeouts};
use crate::socket::Sockets;
use crate::time_slice;
use crate::worker::{Command, ProducedBurst, Worker, WorkerLinks};
use crate::{
    Candidate, Certificate, ConnectPipeError, ConnectedPipe, CreatePipeError, CreatePlainTransportError,
    CreatedPlainTransport, IceCredentials, MakeCertificateError, PipeOffer, PlainTransportOptions, PreferredLayers,
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
    pub const MAX_WORKERS: usize = ActiveWorkers::MAX;
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
    /// Its publisher has been heard of: from now on these exist, and can be played once connected.
    Published(Vec<PublishedProducer>),
    /// Its peer is connected.
    Connected,
    /// Only of pipes of an edge: nothing comes from the origin any more, see [`TransportServer::reconnect_pipe`].
    Lost,
    /// It ended. Nothing follows.
    Closed(CloseCause),
}

/// Gives a producer's bursts to the workers that have viewers for them.
#[derive(Clone)]
pub struct BurstSender {
    producer: ProducerId,
    workers: Arc<[mpsc::Sender<ProducedBurst>]>,
    active: Arc<ActiveWorkers>,
}

impl BurstSender {
    /// Hands a burst on without waiting. Returns how many workers had no room for it: their viewers will need a key
    /// frame, and will ask for it.
    #[must_use]
    pub fn send(&self, burst: &Arc<Burst>) -> usize {
        let refused = self
            .active
            .iter()
            .filter(|&worker| self.workers[worker].try_send((self.producer, Arc::clone(burst))).is_err());
        refused.count()
    }
}

impl fmt::Debug for BurstSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BurstSender").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// Frames that may wait for a worker: half a second of four cameras.
const BURST_QUEUE: usize = 64;
const COMMAND_QUEUE: usize = 1_024;

/// The running transport. Stops when it is dropped, but says goodbye only in [`TransportServer::shutdown`].
pub struct TransportServer {
    pub(crate) config: TransportConfig,
    addresses: Vec<SocketAddr>,
    pub(crate) certificate: Certificate,
    pub(crate) directory: Arc<Directory>,
    wall: WallClock,
    commands: Vec<mpsc::Sender<Command>>,
    bursts: Arc<[mpsc::Sender<ProducedBurst>]>,
    events: mpsc::UnboundedSender<SessionEvent>,
    next_id: AtomicU64,
    pub(crate) random: Mutex<StdRng>,
    pub(crate) publishers: Mutex<Publishers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl TransportServer {
    /// Binds the sockets and starts the workers. What happens to sessions is told through the receiver: at most two
    /// events for each, so it need not be bounded.
    ///
    /// # Errors
    ///
    /// If an address is taken, or the system has no room for threads.
    pub fn start(
        config: TransportConfig,
        wall: WallClock,
        random: StdRng,
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
        let directory = Arc::new(Directory::new());
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (commands, command_receivers): (Vec<_>, Vec<_>) =
            (0..config.workers).map(|_| mpsc::channel(COMMAND_QUEUE)).unzip();
        let (bursts, burst_receivers): (Vec<_>, Vec<_>) =
            (0..config.workers).map(|_| mpsc::channel(BURST_QUEUE)).unzip();

        let mut threads = Vec::new();
        let receivers = command_receivers.into_iter().zip(burst_receivers);
        for (index, (sockets, (commands_in, bursts_in))) in sockets.into_iter().zip(receivers).enumerate() {
            let hub = Hub::new(index, wall, Arc::clone(&directory), certificate.clone(), Arc::clone(&crypto));
            let links = WorkerLinks {
                bursts: bursts_in,
                commands: commands_in,
                peers: commands.iter().map(mpsc::Sender::downgrade).collect(),
                events: events.clone(),
            };
            let directory = Arc::clone(&directory);
            let (started, ready) = std::sync::mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("router-{index}"))
                .spawn(move || run_worker(index, hub, sockets, links, &directory, &started))
                .map_err(StartTransportError::Thread)?;
            let gone = || io::Error::other("it ended at once");
            ready.recv().unwrap_or_else(|_| Err(gone())).map_err(StartTransportError::Thread)?;
            threads.push(thread);
        }
        let server = Self {
            config,
            addresses,
            certificate,
            directory,
            wall,
            commands,
            bursts: bursts.into(),
            events,
            next_id: AtomicU64::new(1),
            random: Mutex::new(random),
            publishers: Mutex::new(Publishers::default()),
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

    /// Makes a stream known to all workers. What it sends goes through the returned sender.
    pub async fn add_producer(
        &self,
        producer: ProducerId,
        upstream: Arc<dyn Upstream>,
        stages: Arc<StageHistograms>,
    ) -> BurstSender {
        let active = Arc::new(ActiveWorkers::default());
        for worker in &self.commands {
            let command =
                Command::AddProducer(producer, Arc::clone(&upstream), Arc::clone(&stages), Arc::clone(&active));
            // A worker that is gone needs no producer.
            let _ = worker.send(command).await;
        }
        BurstSender { producer, workers: Arc::clone(&self.bursts), active }
    }

    /// Ends a stream and every session that shows it.
    pub async fn remove_producer(&self, producer: ProducerId) {
        for id in self.directory.remove_pending(|setup| setup.purpose.shows(producer)) {
            self.announce_closed(id, CloseCause::ProducerClosed);
        }
        for worker in &self.commands {
            ask(worker, |done| Command::RemoveProducer(producer, done)).await;
        }
    }

    /// A name for a new producer, that no other has had.
    #[must_use]
    pub fn new_producer_id(&self) -> ProducerId {
        ProducerId(self.new_id())
    }

    /// Tells a viewer's session which layers of its video are wanted from now on; `None` for the best. False if it has
    /// ended.
    pub async fn set_preferred_layers(&self, id: TransportId, preferred: Option<PreferredLayers>) -> bool {
        let Some(worker) = self.directory.worker_of(id) else { return false };
        let question = |done| Command::SetPreferredLayers(id, preferred, done);
        ask(&self.commands[worker], question).await == Some(true)
    }

    /// Holds up or goes on with what a viewer's session is sent. False if it has ended.
    pub async fn set_paused(&self, id: TransportId, paused: bool) -> bool {
        let Some(worker) = self.directory.worker_of(id) else { return false };
        ask(&self.commands[worker], |done| Command::SetPaused(id, paused, done)).await == Some(true)
    }

    /// Offers producers of this server to one of another machine. `loopback` says that it is on this one.
    ///
    /// # Errors
    ///
    /// If a producer does not exist, or no more sessions are allowed.
    pub async fn create_pipe_source(
        &self,
        _producers: &[ProducerId],
        _loopback: bool,
    ) -> Result<PipeOffer, CreatePipeError> {
        unimplemented!()
    }

    /// Takes up what a server of another machine offers: its producers exist here when this returns, and send once
    /// connected.
    ///
    /// # Errors
    ///
    /// If the offer cannot be used, or there is no socket for it.
    pub async fn connect_pipe(&self, _offer: PipeOffer) -> Result<ConnectedPipe, ConnectPipeError> {
        unimplemented!()
    }

    /// Gives a pipe that has lost its connection another one, to the same producers of the same origin, which may have
    /// been restarted.
    ///
    /// # Errors
    ///
    /// If the offer cannot be used or is for other producers, or the pipe has ended.
    pub async fn reconnect_pipe(&self, _id: TransportId, _offer: PipeOffer) -> Result<(), ConnectPipeError> {
        unimplemented!()
    }

    /// Makes a plain RTP transport.
    ///
    /// # Errors
    ///
    /// If its address cannot be bound or its keys cannot be used.
    pub async fn create_plain_transport(
        &self,
        _options: PlainTransportOptions,
    ) -> Result<CreatedPlainTransport, CreatePlainTransportError> {
        unimplemented!()
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
                let fresh = credentials.clone();
                if ask(&self.commands[worker], |done| Command::RestartIce(id, fresh, done)).await != Some(true) {
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
        let Some(worker) = self.directory.worker_of(id) else { return false };
        ask(&self.commands[worker], |done| Command::CloseSession(id, done)).await.is_some()
    }

    /// Reads all counters.
    pub async fn stats(&self) -> TransportStats {
        let mut stats = TransportStats { pending_sessions: self.directory.pending(), ..TransportStats::default() };
        for worker in &self.commands {
            if let Some((worker, sessions)) = ask(worker, Command::Stats).await {
                stats.workers.push(worker);
                stats.sessions.extend(sessions);
            }
        }
        stats.sessions.sort_by_key(|session| session.id);
        stats
    }

    /// Reads one session's counters. `None` if it has ended, or its viewer has not been heard of.
    pub async fn session_stats(&self, id: TransportId) -> Option<SessionStats> {
        let worker = self.directory.worker_of(id)?;
        ask(&self.commands[worker], |reply| Command::SessionStats(id, reply)).await?
    }

    /// Says goodbye to every viewer and stops the workers.
    pub async fn shutdown(&self) {
        for id in self.directory.remove_pending(|_| true) {
            self.announce_closed(id, CloseCause::Shutdown);
        }
        for worker in &self.commands {
            ask(worker, Command::Shutdown).await;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // Each has answered, so it is past its loop.
            if thread.join().is_err() {
                tracing::error!("a router thread panicked");
            }
        }
    }

    /// A number that nothing else in the process has for a name.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn candidates(&self, loopback: bool) -> io::Result<Vec<Candidate>> {
        candidates(&self.addresses, &self.config.public_addresses, loopback)
    }

    fn announce_closed(&self, id: TransportId, cause: CloseCause) {
        let _ = self.events.send(SessionEvent { id, state: SessionState::Closed(cause) });
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
    directory: &Directory,
    started: &std::sync::mpsc::Sender<io::Result<()>>,
) {
    let events = links.events.clone();
    let expire_pending = |now| {
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
}

/// Sends a worker a question and waits for its answer; `None` if it is gone.
async fn ask<T>(worker: &mpsc::Sender<Command>, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    worker.send(question(reply)).await.ok()?;
    answer.await.ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
