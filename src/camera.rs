//! One camera of the configuration, running.

use std::sync::Arc;
use std::time::Duration;

use lenscast_capture::{Source, SourceHandle, SourceState, SourceStatus, StartSourceError};
use lenscast_encoder::TemporalLayers;
use lenscast_media::{Burst, StageHistograms};
use lenscast_router::ProducerId;
use lenscast_sender::{
    AddTrackError, BurstSink, DEFAULT_MIN, DegradationPreference, Sender, Track, TrackConfig, TrackControl, TrackShare,
    TrackState,
};
use lenscast_transport::{BurstSender, TransportServer, Upstream};
use thiserror::Error;

use crate::config::CameraConfig;

/// A running camera: source, track and producer, tied together.
pub struct Camera {
    config: CameraConfig,
    producer: ProducerId,
    track: Arc<Track>,
    source: SourceHandle,
    stages: Arc<StageHistograms>,
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
    /// Starts a camera's parts, last the one that makes frames.
    ///
    /// # Errors
    ///
    /// If the system gives no threads. Nothing is left running then.
    pub async fn start(
        config: CameraConfig,
        producer: ProducerId,
        sender: &Sender,
        transport: &TransportServer,
    ) -> Result<Self, StartCameraError> {
        let name = config.name.clone();
        let control = TrackControl::new();
        let stages = Arc::new(StageHistograms::new());
        let bursts =
            transport.add_producer(producer, Arc::new(TrackUpstream(Arc::clone(&control))), Arc::clone(&stages));
        let bursts = bursts.await;
        let track_config = TrackConfig {
            backend: config.settings.backend,
            framerate: config.settings.framerate,
            layers: 1,
            temporal_layers: TemporalLayers::One,
            degradation: DegradationPreference::default(),
            share: TrackShare {
                weight: 1.0,
                min: DEFAULT_MIN.min(config.settings.bitrate),
                max: config.settings.bitrate,
                enforced: false,
            },
        };
        let track = match sender.add_track(track_config, control, Box::new(WorkersSink(bursts))) {
            Ok(track) => track,
            Err(error) => {
                transport.remove_producer(producer).await;
                return Err(StartCameraError::Track { name, error });
            }
        };
        match Source::start(&name, config.source.clone(), Arc::clone(track.buffer())) {
            Ok(source) => Ok(Self { config, producer, track, source, stages }),
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

    /// True while pictures come and can be encoded.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_live() && !matches!(self.track.stats().state, TrackState::Failed { .. })
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
struct TrackUpstream(Arc<TrackControl>);

impl Upstream for TrackUpstream {
    fn subscribe(&self) -> Box<dyn Send> {
        Box::new(self.0.subscribe(0))
    }

    fn request_key_frame(&self) {
        self.0.request_key_frame(0);
    }
}

/// The router's workers, as an encode task sees them.
struct WorkersSink(BurstSender);

impl BurstSink for WorkersSink {
    fn deliver(&self, _layer: usize, burst: &Arc<Burst>) -> bool {
        self.0.send(burst) == 0
    }
}
