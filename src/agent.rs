//! The agent: all cameras and the transport, started, reloaded and stopped together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use lenscast_media::sync::RwLock;
use lenscast_media::{TrackId, WallClock};
use lenscast_router::ProducerId;
use lenscast_sender::{
    AllocationReport, AllocationRequest, Closed, Sender, SetAllocationError, ShareChange, TrackShare,
};
use lenscast_transport::{SessionEvent, StartTransportError, TransportServer};
use rand::rngs::StdRng;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};

use crate::allocation::{AllocateError, AllocationChange, Filed, difference, limit_of, told, told_limit};
use crate::camera::{Camera, StartCameraError};
use crate::config::{CameraConfig, Config, Listen};

/// Everything that runs, besides HTTP.
pub struct Agent {
    sender: Arc<Sender>,
    transport: TransportServer,
    cameras: RwLock<Vec<Arc<Camera>>>,
    /// Counts the times that `cameras` was changed.
    camera_changes: AtomicU64,
    next_producer: AtomicU64,
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
            camera_changes: AtomicU64::new(0),
            next_producer: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            started: now,
            changing: Mutex::new(Filed::new(config)),
            allocating: Arc::default(),
        });
        if config.total.is_some() {
            let limit = AllocationRequest { limit: Some(limit_of(config.total)), ..AllocationRequest::default() };
            agent.sender.allocate(&limit)?;
        }
        for camera in &config.cameras {
            let camera = agent.start_camera(camera.clone(), camera.share.claim).await?;
            agent.cameras.write().push(camera);
            agent.count_camera_change();
        }
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

    /// Sessions and packets.
    #[must_use]
    pub const fn transport(&self) -> &TransportServer {
        &self.transport
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
    /// If the system gives no threads for a new camera; those before it in the file run then.
    pub async fn reload(self: &Arc<Self>, config: &Config) -> Result<(), StartCameraError> {
        let mut filed = self.changing.lock().await;
        let after = Filed::new(config);
        let (kept, ended, live) = {
            let _allocating = self.allocating.lock().await;
            let stays = |camera: &Arc<Camera>| {
                config.cameras.iter().any(|wanted| wanted.is_same_but_for_share(camera.config()))
            };
            let live = self.live_shares();
            let (kept, ended): (Vec<_>, Vec<_>) = self.cameras().into_iter().partition(stays);
            self.set_cameras(kept.clone());
            (kept, ended, live)
        };
        for camera in ended {
            tracing::info!(camera = camera.config().name, "ended by the new configuration");
            camera.stop(&self.sender, &self.transport).await;
        }
        let shares = filed.merged(&live, &after);
        let mut running = Vec::new();
        let mut result = Ok(());
        for wanted in &config.cameras {
            match kept.iter().find(|camera| camera.config().name == wanted.name) {
                Some(camera) => running.push(Arc::clone(camera)),
                None if result.is_ok() => match self.start_camera(wanted.clone(), shares[&wanted.name]).await {
                    Ok(camera) => running.push(camera),
                    Err(error) => result = Err(error),
                },
                None => {}
            }
        }
        self.set_cameras(running);
        let changes = kept.iter().filter_map(|camera| {
            let name = &camera.config().name;
            let change = difference(live.get(name)?, &shares[name]);
            (change != ShareChange::default()).then(|| (name.clone(), change))
        });
        self.apply_filed(AllocationChange {
            expected_version: None,
            limit: filed.new_limit(&after),
            shares: changes.collect(),
        })
        .await;
        *filed = after;
        result
    }

    /// From now on it is not ready, and takes no new viewers.
    pub fn begin_shutdown(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Says goodbye to every viewer and stops everything.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
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

    async fn start_camera(&self, config: CameraConfig, share: TrackShare) -> Result<Arc<Camera>, StartCameraError> {
        let first = self.next_producer.fetch_add(config.settings.layers as u64, Ordering::Relaxed);
        let producers = (first..).take(config.settings.layers).map(ProducerId).collect();
        Ok(Arc::new(Camera::start(config, producers, share, &self.sender, &self.transport).await?))
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

    /// What a reload changes of cameras that run on, and the limit.
    async fn apply_filed(self: &Arc<Self>, change: AllocationChange) {
        if change == AllocationChange::default() {
            return;
        }
        if let Err(error) = self.allocate_for(change, "none".to_owned(), "the configuration".to_owned()).await {
            tracing::error!(%error, "the new configuration's shares of the bandwidth are not in effect");
        }
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
        let version = self.sender.allocate(&request).map_err(|error| match error {
            SetAllocationError::Share { track, error } => AllocateError::Share { camera: name_of(track), error },
            SetAllocationError::Encoder { track, error } => AllocateError::Encoder { camera: name_of(track), error },
            error => AllocateError::Refused(error),
        })?;
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
