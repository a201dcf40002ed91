use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lenscast_capture::FrameBuffer;
use lenscast_congestion::MAX_LAYERS;
use lenscast_encoder::{Backend, EncoderSettings, TemporalLayers, VideoEncoder};
use lenscast_media::sync::atomic::{AtomicBool, Ordering};
use lenscast_media::sync::{Mutex, RwLock};
use lenscast_media::{Bitrate, Frame, Resolution, TrackId};

use crate::simulcast::layer_size;
use crate::stats::StatsRecorder;
use crate::{DegradationPreference, TrackControl, TrackShare, TrackState, TrackStats, clock};

/// How a track is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackConfig {
    /// The library and codec.
    pub backend: Backend,
    /// Frames/s to expect before the first two have shown.
    pub framerate: f64,
    /// Spatial layers, 1 to [`MAX_LAYERS`], each of half the size of the next. Layer 0 is the smallest.
    pub layers: usize,
    /// Temporal layers of each of them.
    pub temporal_layers: TemporalLayers,
    /// What gives way where the CPU or the bitrate does not suffice.
    pub degradation: DegradationPreference,
    /// Its claim on the bandwidth when it is added.
    pub share: TrackShare,
}

/// One camera's track.
pub struct Track {
    id: TrackId,
    config: TrackConfig,
    control: Arc<TrackControl>,
    buffer: std::sync::Arc<FrameBuffer<Frame>>,
    /// Its encode task is over.
    ended: AtomicBool,
    /// See L1 and L2.
    encoder: RwLock<EncoderSlot>,
    /// Guards nothing else, and nothing is called while it is held.
    stats: Mutex<StatsRecorder>,
}

/// The running encoders of a track, one a layer; `None` while nobody wants the layer or nothing is allotted to it. The
/// mutexes are there for `&mut`: only the encode task takes them.
#[derive(Default)]
pub(crate) struct EncoderSlot {
    encoders: [Option<Mutex<Box<dyn VideoEncoder>>>; MAX_LAYERS],
    /// The encode task has ended: nothing goes in any more.
    ended: bool,
}

impl Track {
    pub(crate) fn new(id: TrackId, config: TrackConfig, control: Arc<TrackControl>) -> Self {
        Self {
            id,
            config,
            control,
            buffer: std::sync::Arc::new(FrameBuffer::new()),
            ended: AtomicBool::new(false),
            encoder: RwLock::new(EncoderSlot::default()),
            stats: Mutex::new(StatsRecorder::new(config.layers)),
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
        let targets = std::array::from_fn(|layer| self.control.target(layer));
        self.stats.lock().read(clock::now(), targets)
    }

    pub(crate) const fn encoder(&self) -> &RwLock<EncoderSlot> {
        &self.encoder
    }

    pub(crate) fn record(&self, record: impl FnOnce(&mut StatsRecorder)) {
        record(&mut self.stats.lock());
    }

    pub(crate) fn set_state(&self, state: TrackState) {
        let previous = self.stats.lock().set_state(state.clone());
        if previous == state {
            return;
        }
        match &state {
            TrackState::Failed { reason } => tracing::error!(track = %self.id, reason, "the encoder has failed"),
            TrackState::Active | TrackState::Idle | TrackState::Paused => {
                tracing::debug!(track = %self.id, ?state, "encode task");
            }
        }
    }

    /// What an encoder of this layer is built for, out of pictures of `source`'s size.
    pub(crate) fn encoder_settings(&self, layer: usize, source: Resolution, bitrate: Bitrate) -> EncoderSettings {
        EncoderSettings {
            backend: self.config.backend,
            resolution: layer_size(source, layer, self.config.layers),
            framerate: self.config.framerate,
            temporal_layers: self.config.temporal_layers,
            bitrate,
        }
    }

    /// Exchanges a layer's encoder (L2) and drops the old one after the lock is released.
    pub(crate) fn swap_encoder(&self, layer: usize, encoder: Option<Box<dyn VideoEncoder>>) {
        let old = self.encoder.write().exchange(layer, encoder);
        drop(old);
    }

    /// Exchanges a layer's encoder as an allocation wants it, and sets the target with it, so that no frame sees one without
    /// the other. If a later allocation has set the target already, that one holds, and so does an encoder that is there: it
    /// is as new, if not that allocation's own. If the layer gets nothing, or the track has ended, none is needed.
    pub(crate) fn install_encoder(&self, layer: usize, sequence: u32, target: Bitrate, encoder: Box<dyn VideoEncoder>) {
        let unneeded = {
            let mut slot = self.encoder.write();
            let is_latest = self.control.publish_late(layer, sequence, target);
            let is_missing = is_latest || slot.encoders[layer].is_none();
            if is_missing && self.control.target(layer) > Bitrate::ZERO {
                slot.exchange(layer, Some(encoder))
            } else {
                Some(Mutex::new(encoder))
            }
        };
        drop(unneeded);
    }

    /// True if frames go in, whatever becomes of them.
    pub(crate) fn takes_frames(&self, now: Instant) -> bool {
        self.stats.lock().takes_frames(now)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Which layers have an encoder.
    pub(crate) fn layers_with_encoder(&self) -> [bool; MAX_LAYERS] {
        let slot = self.encoder.read();
        std::array::from_fn(|layer| slot.encoders[layer].is_some())
    }

    /// Drops the encoder of a layer that is not to encode, unless an allocation has just put it there.
    pub(crate) fn drop_unused_encoder(&self, layer: usize) {
        let old = {
            let mut slot = self.encoder.write();
            let used = self.control.is_wanted(layer) && self.control.target(layer) > Bitrate::ZERO;
            if used { None } else { slot.exchange(layer, None) }
        };
        drop(old);
    }

    /// The encode task is over: drops the encoders, and takes no more.
    pub(crate) fn end_encoding(&self) {
        self.ended.store(true, Ordering::Release);
        let old = {
            let mut slot = self.encoder.write();
            slot.ended = true;
            std::mem::take(&mut slot.encoders)
        };
        drop(old);
    }
}

impl EncoderSlot {
    pub(crate) fn encoder(&self, layer: usize) -> Option<&Mutex<Box<dyn VideoEncoder>>> {
        self.encoders[layer].as_ref()
    }

    /// Puts `encoder` in, and returns what is to be dropped: the old one, or `encoder` itself once the track has ended.
    fn exchange(
        &mut self,
        layer: usize,
        encoder: Option<Box<dyn VideoEncoder>>,
    ) -> Option<Mutex<Box<dyn VideoEncoder>>> {
        let encoder = encoder.map(Mutex::new);
        if self.ended { encoder } else { std::mem::replace(&mut self.encoders[layer], encoder) }
    }
}

impl fmt::Debug for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Track").field("id", &self.id).field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "models/broken/track.rs"]
mod broken;
