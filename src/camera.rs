//! One camera of the configuration, running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lenscast_capture::{Source, SourceHandle, SourceState, SourceStatus, StartSourceError};
use lenscast_media::sync::Mutex;
use lenscast_media::{Burst, LayerSet, StageHistograms};
use lenscast_router::{ProducerId, ProducerParameters};
use lenscast_sender::{AddTrackError, BurstSink, Demand, Health, Sender, Track, TrackConfig, TrackControl, TrackShare};
use lenscast_transport::object::CreateProducerError;
use lenscast_transport::{BurstSender, TransportServer, Upstream};
use thiserror::Error;

use crate::config::CameraConfig;

/// A running camera: source, track and a producer for each of its spatial layers, tied together.
pub struct Camera {
    config: CameraConfig,
    /// The smallest layer's first.
    producers: Vec<ProducerId>,
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
    /// Starts a camera's parts, last the one that makes frames. `producers` has one for each spatial layer, the smallest's
    /// first. `share` is its claim on the bandwidth to begin with.
    ///
    /// # Errors
    ///
    /// If the system gives no threads. Nothing is left running then.
    pub async fn start(
        config: CameraConfig,
        producers: Vec<ProducerId>,
        share: TrackShare,
        sender: &Sender,
        transport: &TransportServer,
    ) -> Result<Self, StartCameraError> {
        let name = config.name.clone();
        let control = TrackControl::new();
        let stages = Arc::new(StageHistograms::new());
        let mut bursts = Vec::new();
        for (layer, producer) in producers.iter().enumerate() {
            let upstream = Arc::new(LayerUpstream { control: Arc::clone(&control), layer, demand: Mutex::new(None) });
            let parameters = ProducerParameters::local(
                config.settings.backend.codec().into(),
                1,
                config.settings.temporal_layers.count(),
            );
            match transport.add_producer(*producer, parameters, upstream, Arc::clone(&stages)).await {
                Ok(sender) => bursts.push(sender),
                Err(error) => {
                    remove_producers(&producers, transport).await;
                    return Err(StartCameraError::Producer { name, error });
                }
            }
        }
        let track_config = TrackConfig {
            backend: config.settings.backend,
            framerate: config.settings.framerate,
            layers: config.settings.layers,
            temporal_layers: config.settings.temporal_layers,
            degradation: config.settings.degradation,
            share,
        };
        let track = match sender.add_track(track_config, control, Box::new(WorkersSink(bursts))) {
            Ok(track) => track,
            Err(error) => {
                remove_producers(&producers, transport).await;
                return Err(StartCameraError::Track { name, error });
            }
        };
        match Source::start(&name, config.source.clone(), Arc::clone(track.buffer())) {
            Ok(source) => Ok(Self { config, producers, track, source, stages, paused: AtomicBool::new(false) }),
            Err(error) => {
                // Closed in between, it has no tracks to remove.
                let _ = sender.remove_track(track.id());
                remove_producers(&producers, transport).await;
                Err(StartCameraError::Source { name, error })
            }
        }
    }

    /// What it was started with.
    #[must_use]
    pub const fn config(&self) -> &CameraConfig {
        &self.config
    }

    /// The names of its spatial layers in the router, the smallest first.
    #[must_use]
    pub fn producers(&self) -> &[ProducerId] {
        &self.producers
    }

    /// The name in the router of its largest layer: what a viewer gets that asks for none.
    #[must_use]
    pub fn producer(&self) -> ProducerId {
        *self.producers.last().expect("a camera has at least one layer")
    }

    /// The spatial layer that is called this in the router, 0 for the smallest.
    #[must_use]
    pub fn layer_of(&self, producer: ProducerId) -> Option<usize> {
        self.producers.iter().position(|own| *own == producer)
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

    /// Remembers that it is held up, or goes on.
    pub(crate) fn note_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
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
        remove_producers(&self.producers, transport).await;
        // The last owner waits for the source's thread, which may take a moment.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

async fn remove_producers(producers: &[ProducerId], transport: &TransportServer) {
    for producer in producers {
        transport.remove_producer(*producer).await;
    }
}

/// A spatial layer of a track, as the router's workers see it.
struct LayerUpstream {
    control: Arc<TrackControl>,
    layer: usize,
    demand: Mutex<Option<Demand>>,
}

impl Upstream for LayerUpstream {
    fn set_wanted(&self, layers: LayerSet) {
        let mut demand = self.demand.lock();
        if layers.is_empty() {
            *demand = None;
        } else if demand.is_none() {
            *demand = Some(self.control.subscribe(self.layer));
        }
    }

    fn request_key_frame(&self, _: u8) {
        self.control.request_key_frame(self.layer);
    }
}

/// The router's workers, as an encode task sees them: one sender for each layer.
struct WorkersSink(Vec<BurstSender>);

impl BurstSink for WorkersSink {
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool {
        self.0[layer].send(0, burst)
    }
}
