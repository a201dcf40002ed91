//! The agent: all cameras and the transport, started, reloaded and stopped together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use lenscast_media::WallClock;
use lenscast_media::sync::RwLock;
use lenscast_router::ProducerId;
use lenscast_sender::Sender;
use lenscast_transport::{SessionEvent, StartTransportError, TransportServer};
use rand::rngs::StdRng;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};

use crate::camera::{Camera, StartCameraError};
use crate::config::{Config, Listen};

/// Everything that runs, besides HTTP.
pub struct Agent {
    sender: Arc<Sender>,
    transport: TransportServer,
    cameras: RwLock<Vec<Arc<Camera>>>,
    next_producer: AtomicU64,
    stopping: AtomicBool,
    started: Instant,
    /// Held while cameras are started or stopped: one reload at a time.
    changing: Mutex<()>,
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
            next_producer: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            started: now,
            changing: Mutex::new(()),
        });
        for camera in &config.cameras {
            let camera = agent.start_camera(camera.clone()).await?;
            agent.cameras.write().push(camera);
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

    /// Runs the cameras of `config` instead of those that run now. Cameras whose configuration is the same are not touched,
    /// and neither are their viewers.
    ///
    /// # Errors
    ///
    /// If the system gives no threads for a new camera; those before it in the file run then.
    pub async fn reload(&self, config: &Config) -> Result<(), StartCameraError> {
        let _changing = self.changing.lock().await;
        let unchanged = |camera: &Arc<Camera>| config.cameras.contains(camera.config());
        let (kept, ended): (Vec<_>, Vec<_>) = self.cameras().into_iter().partition(unchanged);
        self.cameras.write().clone_from(&kept);
        for camera in ended {
            tracing::info!(camera = camera.config().name, "ended by the new configuration");
            camera.stop(&self.sender, &self.transport).await;
        }
        let mut running = Vec::new();
        let mut result = Ok(());
        for wanted in &config.cameras {
            match kept.iter().find(|camera| camera.config() == wanted) {
                Some(camera) => running.push(Arc::clone(camera)),
                None if result.is_ok() => match self.start_camera(wanted.clone()).await {
                    Ok(camera) => running.push(camera),
                    Err(error) => result = Err(error),
                },
                None => {}
            }
        }
        *self.cameras.write() = running;
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

    async fn start_camera(&self, config: crate::config::CameraConfig) -> Result<Arc<Camera>, StartCameraError> {
        let producer = ProducerId(self.next_producer.fetch_add(1, Ordering::Relaxed));
        Ok(Arc::new(Camera::start(config, producer, &self.sender, &self.transport).await?))
    }
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
