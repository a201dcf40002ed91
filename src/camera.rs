//! One camera of the configuration, running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lenscast_capture::{Source, SourceHandle, SourceState, SourceStatus, StartSourceError};
use lenscast_media::sync::Mutex;
use lenscast_media::{Bitrate, Burst, LayerSet, StageHistograms};
use lenscast_router::{ProducerId, ProducerParameters};
use lenscast_sender::{AddTrackError, BurstSink, Demand, Health, Sender, Track, TrackConfig, TrackControl, TrackShare};
use lenscast_transport::object::CreateProducerError;
use lenscast_transport::{BurstSender, TransportServer, Upstream};
use thiserror::Error;

use crate::config::CameraConfig;

/// A running camera: source, track and a producer with its spatial layers, tied together.
pub struct Camera {
    config: CameraConfig,
    producer: ProducerId,
    /// What its viewers want of it, and how it tells them what it cannot send.
    upstream: Arc<TrackUpstream>,
    bursts: BurstSender,
    track: Arc<Track>,
    source: SourceHandle,
    stages: Arc<StageHistograms>,
    paused: AtomicBool,
}

/// Why a camera could not be started at all. One that is merely not there is started all the same, and degraded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartCameraError {
    /// No track.
    #[error("camera {name:?}: {error}")]
    Track {
        /// The camera.
        name: String,
        /// Why.
        error: AddTrackError,
    },
    /// No producer.
    #[error("camera {name:?}: {error}")]
    Producer {
        /// The camera.
        name: String,
        /// Why.
        error: CreateProducerError,
    },
    /// No source.
    #[error("camera {name:?}: {error}")]
    Source {
        /// The camera.
        name: String,
        /// Why.
        error: StartSourceError,
    },
}

impl Camera {
    /// Starts a camera's parts, last the one that makes frames. `producer` is its name in the router, `share` its claim on the
    /// bandwidth to begin with.
    ///
    /// # Errors
    ///
    /// If the system gives no threads. Nothing is left running then.
    pub async fn start(
        config: CameraConfig,
        producer: ProducerId,
        share: TrackShare,
        sender: &Sender,
        transport: &TransportServer,
    ) -> Result<Self, StartCameraError> {
        let name = config.name.clone();
        let control = TrackControl::new();
        let stages = Arc::new(StageHistograms::new());
        let upstream = Arc::new(TrackUpstream::new(&control, config.settings.layers));
        let codec = config.settings.backend.codec().into();
        let parameters =
            ProducerParameters::local(codec, config.settings.layers, config.settings.temporal_layers.count());
        let as_upstream: Arc<dyn Upstream> = Arc::clone(&upstream) as _;
        let added = transport.add_producer(producer, parameters, as_upstream, Arc::clone(&stages)).await;
        let bursts = added.map_err(|error| StartCameraError::Producer { name: name.clone(), error })?;
        let track_config = TrackConfig {
            backend: config.settings.backend,
            framerate: config.settings.framerate,
            layers: config.settings.layers,
            temporal_layers: config.settings.temporal_layers,
            degradation: config.settings.degradation,
            share,
        };
        let track = match sender.add_track(track_config, control, Box::new(WorkersSink(bursts.clone()))) {
            Ok(track) => track,
            Err(error) => {
                transport.remove_producer(producer).await;
                return Err(StartCameraError::Track { name, error });
            }
        };
        match Source::start(&name, config.source.clone(), Arc::clone(track.buffer())) {
            Ok(source) => {
                let paused = AtomicBool::new(false);
                Ok(Self { config, producer, upstream, bursts, track, source, stages, paused })
            }
            Err(error) => {
                // Closed in between, it has no tracks to remove.
                let _ = sender.remove_track(track.id());
                transport.remove_producer(producer).await;
                Err(StartCameraError::Source { name, error })
            }
        }
    }

    /// What it was started with.
    #[must_use]
    pub const fn config(&self) -> &CameraConfig {
        &self.config
    }

    /// Its name in the router.
    #[must_use]
    pub const fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Its track.
    #[must_use]
    pub const fn track(&self) -> &Arc<Track> {
        &self.track
    }

    /// Where its frames' time goes.
    #[must_use]
    pub const fn stages(&self) -> &Arc<StageHistograms> {
        &self.stages
    }

    /// What its source is doing.
    #[must_use]
    pub fn source_status(&self) -> SourceStatus {
        self.source.status()
    }

    /// True while pictures come.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.source_status().state, SourceState::Live { .. })
    }

    /// True while it is held up: nothing of it is forwarded.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Holds it up, or lets it go on. False if it has ended.
    pub(crate) async fn set_paused(&self, paused: bool) -> bool {
        let done = if paused { self.bursts.pause().await } else { self.bursts.resume().await };
        if done.is_ok() {
            self.paused.store(paused, Ordering::Release);
        }
        done.is_ok()
    }

    /// Tells viewers' workers which layers cannot be had though somebody wants them, so that those go over to smaller ones. To
    /// be called again and again: a layer counts as withheld the second time that it is found so after an allocation that knew
    /// that it is wanted, since its first encoder takes a moment to build.
    pub(crate) fn tell_sending(&self) {
        let control = self.track.control();
        let layers = self.config.settings.layers as u8;
        let idle = |layer: &u8| control.target(usize::from(*layer)) == Bitrate::ZERO;
        let idle = if control.is_allocated() { (0..layers).filter(idle).collect() } else { LayerSet::EMPTY };
        self.bursts.set_sending(LayerSet::all(layers).difference(self.upstream.withheld(idle)));
    }

    /// Whether its track does what it is to do.
    #[must_use]
    pub fn health(&self) -> Health {
        self.track.health(Instant::now())
    }

    /// True while pictures come, and are encoded if somebody wants them.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_live() && !matches!(self.health(), Health::Failed(_) | Health::Stalled(_))
    }

    /// Waits until it is live, for `bound` at most. Blocks.
    #[must_use]
    pub fn wait_until_live(&self, bound: Duration) -> bool {
        self.source.wait_until(bound, |status| matches!(status.state, SourceState::Live { .. })).is_some()
    }

    /// Tells the source to stop, without waiting for it.
    pub fn request_stop(&self) {
        self.source.request_stop();
    }

    /// Stops it: no more frames, then no more packets, then no more viewers.
    pub async fn stop(self: Arc<Self>, sender: &Arc<Sender>, transport: &TransportServer) {
        let (camera, sender) = (Arc::clone(&self), Arc::clone(sender));
        let stopped = tokio::task::spawn_blocking(move || {
            camera.source.request_stop();
            // Closed in between, it has no tracks to remove.
            let _ = sender.remove_track(camera.track.id());
        });
        if stopped.await.is_err() {
            tracing::error!(camera = self.config.name, "stopping panicked");
        }
        transport.remove_producer(self.producer).await;
        // The last owner waits for the source's thread, which may take a moment.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// A track, as the router's workers see it.
struct TrackUpstream {
    control: Arc<TrackControl>,
    inner: Mutex<Wanted>,
}

struct Wanted {
    /// Of each spatial layer, the smallest first: there while somebody wants it.
    demands: Vec<Option<Demand>>,
    /// The layers that were wanted and got nothing when somebody last looked.
    starving: LayerSet,
}

impl TrackUpstream {
    fn new(control: &Arc<TrackControl>, layers: usize) -> Self {
        let demands = std::iter::repeat_with(|| None).take(layers).collect();
        Self { control: Arc::clone(control), inner: Mutex::new(Wanted { demands, starving: LayerSet::EMPTY }) }
    }

    /// Of the layers that get nothing, those that were wanted at the last look too.
    fn withheld(&self, idle: LayerSet) -> LayerSet {
        let mut inner = self.inner.lock();
        let wanted: LayerSet =
            inner.demands.iter().zip(0..).filter(|(demand, _)| demand.is_some()).map(|(_, layer)| layer).collect();
        let starving = idle.intersection(wanted);
        std::mem::replace(&mut inner.starving, starving).intersection(starving)
    }
}

impl Upstream for TrackUpstream {
    fn set_wanted(&self, layers: LayerSet) {
        let mut inner = self.inner.lock();
        for (demand, layer) in inner.demands.iter_mut().zip(0_u8..) {
            match layers.contains(layer) {
                true if demand.is_none() => *demand = Some(self.control.subscribe(layer.into())),
                true => {}
                false => *demand = None,
            }
        }
    }

    fn request_key_frame(&self, layer: u8) {
        if usize::from(layer) < self.inner.lock().demands.len() {
            self.control.request_key_frame(layer.into());
        }
    }
}

/// The router's workers, as an encode task sees them.
struct WorkersSink(BurstSender);

impl BurstSink for WorkersSink {
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool {
        self.0.send(layer as u8, burst)
    }
}
