use std::fmt;

use lenscast_capture::FrameBuffer;
use lenscast_encoder::{Backend, VideoEncoder};
use lenscast_media::sync::{Arc, Mutex, RwLock};
use lenscast_media::{Frame, TrackId};

use crate::{TrackControl, TrackState, TrackStats};

/// How a track is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackConfig {
    /// The library and codec.
    pub backend: Backend,
    /// Frames/s to expect before the first two have shown.
    pub framerate: f64,
}

/// One camera's track.
pub struct Track {
    id: TrackId,
    config: TrackConfig,
    control: Arc<TrackControl>,
    buffer: std::sync::Arc<FrameBuffer<Frame>>,
    /// See L1 and L2. `None` while nobody wants frames. The mutex is there for `&mut`: only the encode task takes it.
    encoder: RwLock<Option<Mutex<Box<dyn VideoEncoder>>>>,
    /// Guards nothing else, and nothing is called while it is held.
    stats: Mutex<TrackStats>,
}

impl Track {
    pub(crate) fn new(id: TrackId, config: TrackConfig, control: Arc<TrackControl>) -> Self {
        Self {
            id,
            config,
            control,
            buffer: std::sync::Arc::new(FrameBuffer::new()),
            encoder: RwLock::new(None),
            stats: Mutex::new(TrackStats::default()),
        }
    }

    /// Its name among the sender's tracks.
    #[must_use]
    pub const fn id(&self) -> TrackId {
        self.id
    }

    /// How it is encoded.
    #[must_use]
    pub const fn config(&self) -> &TrackConfig {
        &self.config
    }

    /// What others may want of it.
    #[must_use]
    pub const fn control(&self) -> &Arc<TrackControl> {
        &self.control
    }

    /// Where its camera puts frames. Closed with the track.
    #[must_use]
    pub const fn buffer(&self) -> &std::sync::Arc<FrameBuffer<Frame>> {
        &self.buffer
    }

    /// What is known of it.
    #[must_use]
    pub fn stats(&self) -> TrackStats {
        TrackStats { target_bitrate: self.control.target(), ..self.stats.lock().clone() }
    }

    pub(crate) const fn encoder(&self) -> &RwLock<Option<Mutex<Box<dyn VideoEncoder>>>> {
        &self.encoder
    }

    pub(crate) fn update_stats(&self, update: impl FnOnce(&mut TrackStats)) {
        update(&mut self.stats.lock());
    }

    pub(crate) fn set_state(&self, state: TrackState) {
        let previous = std::mem::replace(&mut self.stats.lock().state, state.clone());
        if previous == state {
            return;
        }
        match &state {
            TrackState::Failed { reason } => tracing::error!(track = %self.id, reason, "the encoder has failed"),
            TrackState::Active | TrackState::Idle => tracing::debug!(track = %self.id, ?state, "encode task"),
        }
    }

    /// Exchanges the encoder (L2) and drops the old one after the lock is released.
    pub(crate) fn swap_encoder(&self, encoder: Option<Box<dyn VideoEncoder>>) {
        let encoder = encoder.map(Mutex::new);
        let old = std::mem::replace(&mut *self.encoder.write(), encoder);
        drop(old);
    }
}

impl fmt::Debug for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track").field("id", &self.id).field("config", &self.config).finish_non_exhaustive()
    }
}
