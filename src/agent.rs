//! The agent: all cameras and the transport, started, reloaded and stopped together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use lenscast_media::sync::RwLock;
use lenscast_media::{Bitrate, TrackId, WallClock};
use lenscast_router::TransportId;
use lenscast_sender::{
    AllocationReport, AllocationRequest, Closed, MAX_LAYERS, Sender, SetAllocationError, ShareChange, TrackShare,
};
use lenscast_transport::{SessionEvent, SessionState, StartTransportError, TransportServer};
use rand::rngs::StdRng;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};

use crate::allocation::{
    AllocateError, AllocationChange, Filed, Refused, changed, difference, limit_of, told, told_limit,
};
use crate::camera::{Camera, StartCameraError};
use crate::config::{CameraConfig, Config, Listen, StreamConfig, StreamSource};
use crate::feed::Feed;
use crate::ingress::{self, Tracks};
use crate::stream::Stream;
use crate::uplink::Uplink;
use crate::{listening, pull};

/// Everything that runs, besides HTTP.
pub struct Agent {
    sender: Arc<Sender>,
    transport: TransportServer,
    cameras: RwLock<Vec<Arc<Camera>>>,
    streams: RwLock<Vec<Arc<Stream>>>,
    uplink: Uplink,
    /// Counts the times that `cameras` was changed.
    camera_changes: AtomicU64,
    stopping: AtomicBool,
    started: Instant,
    /// Held while cameras are started or stopped: one reload at a time.
    changing: Mutex<Filed>,
    /// Held while somebody changes the allocation, and while a reload notes the claims of cameras that it ends: no change is
    /// made in between, to be lost. After `changing`.
    allocating: Arc<Mutex<()>>,
}

/// Why the agent could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartAgentError {
    /// No transport.
    #[error(transparent)]
    Transport(#[from] StartTransportError),
    /// No camera.
    #[error(transparent)]
    Camera(#[from] StartCameraError),
    /// No limit of the bandwidth.
    #[error(transparent)]
    Allocation(#[from] SetAllocationError),
}

/// What of a new configuration is not in effect.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// A camera does not run, nor do those that are new and come after it in the file.
    #[error("a camera could not be started: {0}")]
    Camera(StartCameraError),
    /// A camera's share, or the limit, is what it was.
    #[error("its shares of the bandwidth are not in effect: {0}")]
    Allocation(AllocateError),
}

/// How often streams are looked at: a quarter of the time after which one counts as silent.
const STREAM_PERIOD: Duration = Duration::from_millis(500);

/// How often it is looked which layers are withheld. Two looks tell, so that viewers of one that loses its bits go over to a
/// smaller one within half a second and the time to its next key frame.
const LAYER_PERIOD: Duration = Duration::from_millis(200);

impl Agent {
    /// Starts the transport and every camera of `config`. Returns what happens to viewers' sessions.
    ///
    /// # Errors
    ///
    /// If a port is taken or the system gives no threads. A camera that is not there is no error.
    pub async fn start(
        config: &Config,
        random: StdRng,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<SessionEvent>), StartAgentError> {
        let now = Instant::now();
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        let listen = usable_udp(&config.webrtc.listen);
        let (transport, events) = TransportServer::start(config.transport(listen), WallClock::new(now, unix), random)?;
        let agent = Arc::new(Self {
            sender: Arc::new(Sender::new()),
            transport,
            cameras: RwLock::new(Vec::new()),
            streams: RwLock::new(Vec::new()),
            uplink: Uplink::new(config.uplink),
            camera_changes: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            started: now,
            changing: Mutex::new(Filed::new(config)),
            allocating: Arc::default(),
        });
        agent.transport.set_estimate_bounds(config.uplink.estimate_bounds());
        if config.total.is_some() {
            let limit = AllocationRequest { limit: Some(limit_of(config.total)), ..AllocationRequest::default() };
            agent.sender.allocate(&limit)?;
        }
        for camera in &config.cameras {
            let camera = agent.start_camera(camera.clone(), camera.share.claim, false).await?;
            agent.cameras.write().push(camera);
            agent.count_camera_change();
        }
        agent.set_streams(&config.streams, &[]).await;
        Ok((agent, events))
    }

    /// The running cameras, in the configuration's order.
    #[must_use]
    pub fn cameras(&self) -> Vec<Arc<Camera>> {
        self.cameras.read().clone()
    }

    /// The camera of this name.
    #[must_use]
    pub fn camera(&self, name: &str) -> Option<Arc<Camera>> {
        self.cameras.read().iter().find(|camera| camera.config().name == name).cloned()
    }

    /// The streams that come in, in the configuration's order.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        self.streams.read().clone()
    }

    /// The stream of this name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<Arc<Stream>> {
        self.streams.read().iter().find(|stream| stream.name() == name).cloned()
    }

    /// All that can be played, in the configuration's order, cameras first.
    #[must_use]
    pub fn feeds(&self) -> Vec<Feed> {
        let cameras = self.cameras().into_iter().map(Feed::Camera);
        cameras.chain(self.streams().into_iter().map(Feed::Stream)).collect()
    }

    /// What can be played under this name.
    #[must_use]
    pub fn feed(&self, name: &str) -> Option<Feed> {
        self.camera(name).map(Feed::Camera).or_else(|| self.stream(name).map(Feed::Stream))
    }

    /// Sessions and packets.
    #[must_use]
    pub const fn transport(&self) -> &TransportServer {
        &self.transport
    }

    /// What viewers' connections may take, and what was planned for them.
    #[must_use]
    pub const fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    /// What layers of cameras are to make at most, since viewers' connections carry no more.
    pub(crate) fn set_ceilings(&self, ceilings: &[(TrackId, [Bitrate; MAX_LAYERS])]) -> Result<(), Closed> {
        self.sender.set_ceilings(ceilings)
    }

    /// When it started.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// True once [`Agent::begin_shutdown`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What each camera is allotted, by its track.
    ///
    /// # Errors
    ///
    /// [`Closed`] once it has stopped.
    pub fn allocation(&self) -> Result<AllocationReport, Closed> {
        self.sender.allocation()
    }

    /// Differs from an earlier answer if the cameras, a target or a claim have changed since.
    #[must_use]
    pub fn allocation_changes(&self) -> (u64, u64) {
        (self.sender.allocation_changes(), self.camera_changes.load(Ordering::Acquire))
    }

    /// Changes claims and the limit, all or nothing, and logs what it changed for whom: `peer`, which calls itself `by`.
    /// Returns the new version. Takes as long as building encoders may take.
    ///
    /// # Errors
    ///
    /// [`AllocateError`]; nothing has changed then.
    pub async fn allocate(
        self: &Arc<Self>,
        change: AllocationChange,
        peer: SocketAddr,
        by: String,
    ) -> Result<u64, AllocateError> {
        self.allocate_for(change, peer.to_string(), by).await
    }

    /// Runs the cameras of `config` instead of those that run now. Cameras whose configuration is the same are not touched,
    /// and neither are their viewers; nor are those whose claim on the bandwidth is all that differs, which changes as they
    /// run. What somebody has changed since stays, but for keys whose value in the file has changed.
    ///
    /// # Errors
    ///
    /// Everything that is not in effect; the rest is. The next reload tries it again.
    pub async fn reload(self: &Arc<Self>, config: &Config) -> Result<(), Vec<ReloadError>> {
        let mut filed = self.changing.lock().await;
        let after = Filed::new(config);
        if self.uplink.config() != config.uplink {
            self.uplink.reconfigure(config.uplink);
            self.transport.set_estimate_bounds(config.uplink.estimate_bounds());
        }
        let held: Vec<_> = self.feeds().iter().filter(|feed| feed.is_paused()).map(Feed::name).collect();
        let (kept, ended, noted) = {
            let _allocating = self.allocating.lock().await;
            let stays = |camera: &Arc<Camera>| {
                config.cameras.iter().any(|wanted| wanted.is_same_but_for_share(camera.config()))
            };
            // What those that end have by now is all that will ever be changed of it.
            let noted = self.live_shares();
            let (kept, ended): (Vec<_>, Vec<_>) = self.cameras().into_iter().partition(stays);
            self.set_cameras(kept.clone());
            (kept, ended, noted)
        };
        for camera in ended {
            tracing::info!(camera = camera.config().name, "ended by the new configuration");
            camera.stop(&self.sender, &self.transport).await;
        }
        let shares = filed.merged(&noted, &after);
        let mut running = Vec::new();
        let mut problems = Vec::new();
        for wanted in &config.cameras {
            match kept.iter().find(|camera| camera.config().name == wanted.name) {
                Some(camera) => running.push(Arc::clone(camera)),
                None if problems.is_empty() => {
                    // Whoever held it up did not mean until the next reload.
                    let paused = held.contains(&wanted.name);
                    match self.start_camera(wanted.clone(), shares[&wanted.name], paused).await {
                        Ok(camera) => running.push(camera),
                        Err(error) => problems.push(ReloadError::Camera(error)),
                    }
                }
                None => {}
            }
        }
        self.set_streams(&config.streams, &held).await;
        let allocating = Arc::clone(&self.allocating).lock_owned().await;
        self.set_cameras(running);
        let change = self.filed_change(&filed, &noted, &kept, &after);
        let agent = Arc::clone(self);
        let applied = tokio::task::spawn_blocking(move || {
            // Held to the end, even if nobody waits for that any more.
            let _allocating = allocating;
            agent.apply_filed_locked(&change)
        });
        match applied.await {
            Ok((refused, errors)) => {
                *filed = filed.followed_by(after, &refused);
                problems.extend(errors.into_iter().map(ReloadError::Allocation));
            }
            Err(_) => problems.push(ReloadError::Allocation(AllocateError::Panicked)),
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Notes what became of a session, if a stream comes by it. Returns that stream.
    pub async fn follow_session(&self, event: &SessionEvent) -> Option<Arc<Stream>> {
        let now = Instant::now();
        let stream = self.streams().into_iter().find(|stream| stream.session() == Some(event.id))?;
        match &event.state {
            SessionState::Published(_) => {
                let held = stream.arrive(event.id, now);
                self.hold_up(held).await;
            }
            SessionState::Connected | SessionState::Lost | SessionState::Held => self.look_at_pipe(&stream),
            SessionState::Closed(cause) => {
                stream.end(event.id, Some(format!("its sender is gone: {cause}")), now);
            }
        }
        Some(stream)
    }

    /// Notes how it stands with the pipe that a stream comes by, if it comes by one.
    pub(crate) fn look_at_pipe(&self, stream: &Stream) {
        if let Some(session) = stream.session()
            && let Some(state) = self.transport.pipe_state(session)
        {
            stream.note_pipe(session, state, Instant::now());
        }
    }

    /// Notes that a session is over, if a stream comes by it.
    pub fn end_sender(&self, session: TransportId, reason: &str) {
        for stream in self.streams() {
            stream.end(session, Some(reason.to_owned()), Instant::now());
        }
    }

    /// Holds up a feed at its source, or lets it go on. False if that cannot be done now.
    pub async fn set_paused(&self, feed: &Feed, paused: bool) -> bool {
        match feed {
            Feed::Camera(camera) => camera.set_paused(paused).await,
            // Only its origin can.
            Feed::Stream(stream) if matches!(stream.config().source, StreamSource::Pull(_)) => false,
            Feed::Stream(stream) => {
                let producers = feed.producers();
                let done = producers.is_empty() || ingress::set_paused(&self.transport, &producers, paused).await;
                if done {
                    stream.note_paused(paused);
                }
                done
            }
        }
    }

    /// Who comes to a stream that is held up is held up too.
    pub(crate) async fn hold_up(&self, held: Option<Tracks>) {
        if let Some(tracks) = held {
            ingress::set_paused(&self.transport, &tracks.producers(), true).await;
        }
    }

    /// Looks again and again which layers of cameras cannot be had, for as long as the process runs.
    pub async fn watch_layers(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LAYER_PERIOD);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            for camera in self.cameras().iter().filter(|camera| camera.config().settings.layers > 1) {
                camera.tell_sending();
            }
        }
    }

    /// Looks again and again whether packets of streams come, for as long as the process runs.
    pub async fn watch_streams(self: Arc<Self>) {
        let mut interval = tokio::time::interval(STREAM_PERIOD);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let streams = self.streams();
            if streams.iter().all(|stream| stream.session().is_none()) {
                continue;
            }
            let stats = self.transport.stats().await;
            for stream in streams {
                if let Some(tracks) = stream.tracks() {
                    stream.observe(&ingress::layers_of(&stats, &tracks), Instant::now());
                }
            }
        }
    }

    /// From now on it is not ready, and takes no new viewers.
    pub fn begin_shutdown(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Says goodbye to every viewer and stops everything.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
        for stream in self.streams() {
            stream.stop();
        }
        self.transport.shutdown().await;
        let _changing = self.changing.lock().await;
        let cameras = std::mem::take(&mut *self.cameras.write());
        self.count_camera_change();
        let sender = Arc::clone(&self.sender);
        let stopped = tokio::task::spawn_blocking(move || {
            // All are told before any is waited for.
            for camera in &cameras {
                camera.request_stop();
            }
            sender.close();
            drop(cameras);
        });
        if stopped.await.is_err() {
            tracing::error!("stopping the cameras panicked");
        }
    }

    /// Runs these streams instead of those that run now. Those that come from where they came from are not touched, and neither
    /// are their viewers. Those of the names `held` are held up from the beginning.
    async fn set_streams(self: &Arc<Self>, wanted: &[StreamConfig], held: &[String]) {
        let before = self.streams();
        let find = |name: &str| before.iter().find(|stream| stream.name() == name);
        let now = Instant::now();
        let streams: Vec<Arc<Stream>> = wanted
            .iter()
            .map(|config| {
                let running = find(&config.name).filter(|stream| stream.reconfigure(config));
                running.cloned().unwrap_or_else(|| {
                    let stream = Stream::new(config.clone(), now);
                    let is_pull = matches!(config.source, StreamSource::Pull(_));
                    stream.note_paused(!is_pull && held.contains(&config.name));
                    Arc::new(stream)
                })
            })
            .collect();
        self.streams.write().clone_from(&streams);
        self.count_camera_change();
        let is_in = |stream: &Arc<Stream>, of: &[Arc<Stream>]| of.iter().any(|other| Arc::ptr_eq(stream, other));
        for ended in before.iter().filter(|stream| !is_in(stream, &streams)) {
            tracing::info!(stream = ended.name(), "ended by the new configuration");
            if let Some(session) = ended.stop() {
                self.transport.close_session(session).await;
            }
        }
        for begun in streams.iter().filter(|stream| !is_in(stream, &before)) {
            match &begun.config().source {
                StreamSource::Whip(_) => {}
                StreamSource::Rtp(_) => {
                    tokio::spawn(listening::follow(Arc::clone(self), Arc::clone(begun)));
                }
                StreamSource::Pull(_) => {
                    tokio::spawn(pull::follow(Arc::clone(self), Arc::clone(begun)));
                }
            }
        }
    }

    async fn start_camera(
        &self,
        config: CameraConfig,
        share: TrackShare,
        paused: bool,
    ) -> Result<Arc<Camera>, StartCameraError> {
        let producer = self.transport.new_producer_id();
        Ok(Arc::new(Camera::start(config, producer, share, paused, &self.sender, &self.transport).await?))
    }

    fn set_cameras(&self, cameras: Vec<Arc<Camera>>) {
        *self.cameras.write() = cameras;
        self.count_camera_change();
    }

    fn count_camera_change(&self) {
        self.camera_changes.fetch_add(1, Ordering::AcqRel);
    }

    /// The claims of the running cameras, as they are now.
    fn live_shares(&self) -> BTreeMap<String, TrackShare> {
        // Closed, it has none.
        let shares = self.allocation().map(|report| by_track(&report)).unwrap_or_default();
        let named = self
            .cameras()
            .into_iter()
            .filter_map(|camera| Some((camera.config().name.clone(), *shares.get(&camera.track().id())?)));
        named.collect()
    }

    /// What a reload changes of the cameras that now run, and the limit, with `allocating` held: what somebody has changed
    /// since the reload began counts. `noted` has the claims of cameras as they were before the reload ended them.
    fn filed_change(
        &self,
        filed: &Filed,
        noted: &BTreeMap<String, TrackShare>,
        kept: &[Arc<Camera>],
        after: &Filed,
    ) -> AllocationChange {
        let live = self.live_shares();
        let ran_on = |name: &str| kept.iter().any(|camera| camera.config().name == name);
        let shares = filed.merged_since(noted, &live, ran_on, after);
        let changes = live.iter().filter_map(|(name, live)| {
            let change = difference(live, shares.get(name)?);
            (change != ShareChange::default()).then(|| (name.clone(), change))
        });
        AllocationChange { expected_version: None, limit: filed.new_limit(after), shares: changes.collect() }
    }

    /// With `allocating` held. All at once; if that cannot be, one after the other, so that no camera costs the others what
    /// the file says of them. Returns what is not in effect, and why. Blocks.
    fn apply_filed_locked(&self, change: &AllocationChange) -> (Refused, Vec<AllocateError>) {
        let (mut refused, mut errors) = (Refused::default(), Vec::new());
        let apply = |change: &AllocationChange| self.allocate_locked(change, "none", "the configuration");
        if apply(change).is_ok() {
            return (refused, errors);
        }
        if change.limit.is_some()
            && let Err(error) = apply(&AllocationChange { limit: change.limit, ..AllocationChange::default() })
        {
            refused.limit = true;
            errors.push(error);
        }
        for share in &change.shares {
            if let Err(error) = apply(&AllocationChange { shares: vec![share.clone()], ..AllocationChange::default() })
            {
                refused.shares.push(share.0.clone());
                errors.push(error);
            }
        }
        (refused, errors)
    }

    async fn allocate_for(
        self: &Arc<Self>,
        change: AllocationChange,
        peer: String,
        by: String,
    ) -> Result<u64, AllocateError> {
        let allocating = Arc::clone(&self.allocating).lock_owned().await;
        let agent = Arc::clone(self);
        let change = tokio::task::spawn_blocking(move || {
            // Held to the end, even if nobody waits for that any more.
            let _allocating = allocating;
            agent.allocate_locked(&change, &peer, &by)
        });
        change.await.unwrap_or(Err(AllocateError::Panicked))
    }

    /// With `allocating` held. Blocks.
    fn allocate_locked(&self, change: &AllocationChange, peer: &str, by: &str) -> Result<u64, AllocateError> {
        let cameras = self.cameras();
        let name_of = |track: TrackId| {
            let camera = cameras.iter().find(|camera| camera.track().id() == track);
            camera.map_or_else(|| track.to_string(), |camera| camera.config().name.clone())
        };
        let shares = change.shares.iter().map(|(name, change)| {
            let camera = cameras.iter().find(|camera| camera.config().name == *name);
            let camera = camera.ok_or_else(|| AllocateError::UnknownCamera {
                name: name.clone(),
                there: cameras.iter().map(|camera| camera.config().name.clone()).collect(),
            })?;
            Ok((camera.track().id(), *change))
        });
        let request = AllocationRequest {
            expected_version: change.expected_version,
            limit: change.limit,
            shares: shares.collect::<Result<_, AllocateError>>()?,
        };
        let before = self.sender.allocation().map_err(|closed| AllocateError::Refused(closed.into()))?;
        if changes_nothing(&request, &before) {
            return Ok(before.version);
        }
        let version = self.sender.allocate(&request).map_err(|error| match error {
            SetAllocationError::Share { track, error } => AllocateError::Share { camera: name_of(track), error },
            SetAllocationError::Encoder { track, error } => AllocateError::Encoder { camera: name_of(track), error },
            SetAllocationError::NothingPositive => AllocateError::NothingPositive,
            error => AllocateError::Refused(error),
        })?;
        // Encoders have their part of what viewers' connections carry by the next plan.
        self.uplink.replan();
        // Closed in between, there is nobody whom it concerns.
        let Ok(after) = self.sender.allocation() else { return Ok(version) };
        if let Some(change) = told_limit(before.limit, after.limit) {
            tracing::info!(peer, by, version, change, "the limit of the bandwidth has changed");
        }
        let (from, to) = (by_track(&before), by_track(&after));
        for (track, _) in &request.shares {
            let changed = from.get(track).zip(to.get(track)).and_then(|(from, to)| told(from, to));
            if let Some(change) = changed {
                let camera = name_of(*track);
                tracing::info!(peer, by, version, camera, change, "a share of the bandwidth has changed");
            }
        }
        Ok(version)
    }
}

/// True if all that is asked for is so already, and nothing stands against it.
fn changes_nothing(request: &AllocationRequest, now: &AllocationReport) -> bool {
    let shares = by_track(now);
    let is_so = |(track, change): &(TrackId, ShareChange)| {
        shares.get(track).is_some_and(|share| difference(share, &changed(share, change)) == ShareChange::default())
    };
    request.expected_version.is_none_or(|expected| expected == now.version)
        && request.limit.is_none_or(|limit| limit == now.limit)
        && request.shares.iter().all(is_so)
}

fn by_track(report: &AllocationReport) -> BTreeMap<TrackId, TrackShare> {
    report.tracks.iter().map(|allotted| (allotted.track, allotted.share)).collect()
}

/// The addresses to bind. Of the default ones, those of a family that this system lacks are left out.
fn usable_udp(listen: &Listen) -> Vec<SocketAddr> {
    if listen.all_required {
        return listen.addresses.clone();
    }
    let usable = listen.addresses.iter().copied().filter(|address| {
        // Any port: whether the family is there, not whether the port is free.
        std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
    });
    usable.collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;
    use crate::config::parse;

    fn config(total: &str, cameras: &[(&str, &str)]) -> Config {
        let cameras = cameras.iter().map(|(name, keys)| {
            format!("[[camera]]\nname = \"{name}\"\npattern = true\nwidth = 64\nheight = 64\nfps = 5\n{keys}\n")
        });
        let text =
            format!("[webrtc]\nlisten = [\"127.0.0.1:0\"]\n[bandwidth]\n{total}\n{}", cameras.collect::<String>());
        Config::from_raw(parse(&text).unwrap()).unwrap()
    }

    async fn change(agent: &Arc<Agent>, camera: &str, change: ShareChange) {
        let change = AllocationChange { shares: vec![(camera.to_owned(), change)], ..AllocationChange::default() };
        agent.allocate(change, "127.0.0.1:1".parse().unwrap(), "somebody".to_owned()).await.unwrap();
    }

    /// The claim of a camera, in kb/s.
    fn claim(agent: &Agent, camera: &str) -> (f64, u64, u64) {
        let share = agent.live_shares()[camera];
        (share.weight, share.min.as_kbps(), share.max.as_kbps())
    }

    /// Runs a reload up to where a camera is being ended, makes the change there, and lets it go on. On one thread: the reload
    /// cannot go on before the change has begun.
    async fn changed_while_a_camera_ends(
        before: &Config,
        after: Config,
        camera: &str,
        made: ShareChange,
    ) -> (Arc<Agent>, Result<(), Vec<ReloadError>>) {
        let (agent, _events) = Agent::start(before, StdRng::seed_from_u64(1)).await.unwrap();
        let reloading = tokio::spawn({
            let agent = Arc::clone(&agent);
            async move { agent.reload(&after).await }
        });
        while agent.cameras().len() == before.cameras.len() {
            tokio::task::yield_now().await;
        }
        assert!(!reloading.is_finished());
        change(&agent, camera, made).await;
        let outcome = reloading.await.unwrap();
        (agent, outcome)
    }

    #[tokio::test]
    async fn a_change_during_a_reload_is_merged_and_costs_the_file_nothing() {
        let before = config("", &[("a", "max_kbps = 600"), ("b", ""), ("gone", "")]);
        let after = config("total_kbps = 900", &[("a", "max_kbps = 500"), ("b", "weight = 3")]);
        // More than the file's new maximum: together they cannot be.
        let made = ShareChange { min: Some(lenscast_media::Bitrate::from_kbps(550)), ..ShareChange::default() };
        let (agent, outcome) = changed_while_a_camera_ends(&before, after.clone(), "a", made).await;
        outcome.unwrap();
        assert_eq!((claim(&agent, "a"), claim(&agent, "b").0), ((1.0, 30, 500), 3.0));
        assert_eq!(agent.allocation().unwrap().limit.as_kbps(), 900);
        agent.shutdown().await;

        let made = ShareChange { weight: Some(7.0), ..ShareChange::default() };
        let (agent, outcome) = changed_while_a_camera_ends(&before, after, "a", made).await;
        outcome.unwrap();
        assert_eq!((claim(&agent, "a"), claim(&agent, "b").0), ((7.0, 30, 500), 3.0), "both changes hold");
        agent.shutdown().await;
    }

    #[tokio::test]
    async fn what_the_sender_refuses_costs_no_other_camera_its_share_and_is_told() {
        let (agent, _events) =
            Agent::start(&config("", &[("a", ""), ("b", "")]), StdRng::seed_from_u64(1)).await.unwrap();
        let to = |name: &str, weight| (name.to_owned(), ShareChange { weight: Some(weight), ..ShareChange::default() });
        let filed = AllocationChange {
            limit: Some(lenscast_media::Bitrate::from_kbps(900)),
            shares: vec![to("a", -1.0), to("b", 3.0)],
            ..AllocationChange::default()
        };
        let (refused, errors) = agent.apply_filed_locked(&filed);
        assert_eq!((refused.limit, &refused.shares[..], errors.len()), (false, &["a".to_owned()][..], 1), "{errors:?}");
        assert_eq!((claim(&agent, "a").0, claim(&agent, "b").0), (1.0, 3.0));
        assert_eq!(agent.allocation().unwrap().limit.as_kbps(), 900);
        agent.shutdown().await;
    }

    #[tokio::test]
    async fn a_change_of_nothing_makes_no_version() {
        let (agent, _events) = Agent::start(&config("", &[("a", "")]), StdRng::seed_from_u64(1)).await.unwrap();
        let before = (agent.allocation().unwrap().version, agent.allocation_changes());
        for made in [ShareChange::default(), ShareChange { weight: Some(1.0), ..ShareChange::default() }] {
            change(&agent, "a", made).await;
            assert_eq!((agent.allocation().unwrap().version, agent.allocation_changes()), before);
        }
        let stale = AllocationChange { expected_version: Some(before.0 + 1), ..AllocationChange::default() };
        let error = agent.allocate(stale, "127.0.0.1:1".parse().unwrap(), String::new()).await.unwrap_err();
        assert!(matches!(error, AllocateError::Refused(SetAllocationError::Conflict { .. })), "{error}");
        change(&agent, "a", ShareChange { weight: Some(2.0), ..ShareChange::default() }).await;
        assert_eq!(agent.allocation().unwrap().version, before.0 + 1);
        agent.shutdown().await;
    }
}
