use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_capture::FrameBufferCounters;
use lenscast_congestion::MAX_LAYERS;
use lenscast_encoder::{BuildEncoderError, EncoderSettings, FrameTiming, VideoEncoder};
use lenscast_media::{Bitrate, Frame, Resolution, RtpTime};

use crate::allocations::Allocations;
use crate::cpu_watch::CpuWatch;
use crate::layer_task::{LayerFrame, LayerTask, Outcome};
use crate::scaling::Scaling;
use crate::stepping::Stepping;
use crate::stream_clock::StreamClock;
use crate::track::EncoderSlot;
use crate::{BurstSink, LimitationReason, Track, TrackState, clock};

/// Builds encoders: [`lenscast_encoder::build`], or what stands in for it.
pub type Build = dyn Fn(&EncoderSettings) -> Result<Box<dyn VideoEncoder>, BuildEncoderError> + Send + Sync;

/// A track's thread: waits for frames, encodes each wanted layer, packetizes, hands on.
pub(crate) struct EncodeTask {
    track: Arc<Track>,
    sink: Box<dyn BurstSink>,
    build: Arc<Build>,
    allocations: Arc<Allocations>,
    cpu: Arc<CpuWatch>,
    layers: Vec<LayerTask>,
    clock: StreamClock,
    stepping: Stepping,
    /// Makes the largest layer's picture where the track has stepped down.
    scaling: Scaling,
    limitation: Option<LimitationReason>,
    /// Of the last frame that was to be encoded: the source's size, and the largest layer's.
    sizes: Option<(Resolution, Resolution)>,
}

/// A frame, and what is to be made of it.
struct Work {
    frame: Frame,
    taken: Instant,
    /// By layer; zero for those that are not to be encoded.
    targets: [Bitrate; MAX_LAYERS],
    /// The size of the largest layer; `None` if the frame is not to be encoded at all.
    size: Option<Resolution>,
    timing: FrameTiming,
    rtp_time: RtpTime,
    /// Layers that are still to be encoded.
    left: [bool; MAX_LAYERS],
    outcomes: [Option<Outcome>; MAX_LAYERS],
}

impl EncodeTask {
    pub(crate) fn new(
        track: Arc<Track>,
        sink: Box<dyn BurstSink>,
        build: Arc<Build>,
        allocations: Arc<Allocations>,
        cpu: Arc<CpuWatch>,
    ) -> Self {
        Self {
            layers: (0..track.config().layers).map(|layer| LayerTask::new(&track, layer)).collect(),
            stepping: Stepping::new(track.config()),
            track,
            sink,
            build,
            allocations,
            cpu,
            clock: StreamClock::default(),
            scaling: Scaling::default(),
            limitation: None,
            sizes: None,
        }
    }

    /// Runs until the track's buffer is closed.
    pub(crate) fn run(mut self) {
        while self.track.buffer().wait().is_ok() {
            self.announce();
            self.handle_next();
        }
        self.track.end_encoding();
        self.track.set_state(TrackState::Idle);
        // The frame that still lay in the buffer when it was closed is counted nowhere else.
        let FrameBufferCounters { put, evicted, taken } = self.track.buffer().counters();
        tracing::debug!(track = %self.track.id(), put, evicted, taken, "the encode task has ended");
    }

    /// Has the allocation made anew if it went by what is no longer so: what somebody begins to watch gets its share now.
    fn announce(&self) {
        let control = self.track.control();
        if !control.is_allocated_by(control.basis()) {
            self.allocations.refresh();
        }
    }

    fn handle_next(&mut self) {
        if let Some(work) = self.take_and_encode() {
            self.handle(work);
        }
    }

    fn handle(&mut self, mut work: Work) {
        if work.size.is_none() {
            return self.rest(&work);
        }
        self.provide_encoders(&mut work);
        for layer in 0..self.layers.len() {
            if let Some(Outcome::Failed(error)) = &work.outcomes[layer] {
                let reason = error.to_string();
                self.track.swap_encoder(layer, None);
                self.handle_failure(layer, work.taken, reason);
            }
        }
        let encoded = work.outcomes.iter().any(|outcome| matches!(outcome, Some(Outcome::Encoded { .. })));
        // Whatever the other layers do: one that fails for long is not hidden by them.
        if let Some(reason) = self.layers.iter().find_map(|layer| layer.failures.persistent()) {
            self.track.set_state(TrackState::Failed { reason: reason.to_owned() });
        } else if encoded {
            self.track.set_state(TrackState::Active);
        }
        self.finish(&work);
    }

    /// Takes the next frame, and encodes the layers that have an encoder for it, under one hold of the encoders (L2).
    fn take_and_encode(&mut self) -> Option<Work> {
        let track = Arc::clone(&self.track);
        let slot = track.encoder().read();
        let mut work = self.take_locked()?;
        self.encode(&slot, &mut work);
        Some(work)
    }

    /// Takes the next frame, and says what is to be made of it. Under the hold that it is encoded under: its targets are
    /// those of the encoders.
    fn take_locked(&mut self) -> Option<Work> {
        let track = Arc::clone(&self.track);
        let frame = track.buffer().try_take()?;
        let taken = clock::now();
        let control = track.control();
        let targets: [Bitrate; MAX_LAYERS] =
            std::array::from_fn(|layer| if control.is_wanted(layer) { control.target(layer) } else { Bitrate::ZERO });
        let nominal = Duration::from_secs_f64(1.0 / track.config().framerate);
        let mut work = Work {
            size: None,
            taken,
            targets,
            timing: FrameTiming { timestamp: Duration::ZERO, duration: nominal },
            rtp_time: RtpTime(0),
            left: targets.map(|target| target > Bitrate::ZERO),
            outcomes: [None, None, None],
            frame,
        };
        if targets == [Bitrate::ZERO; MAX_LAYERS] {
            return Some(work);
        }
        let Some(size) = self.stepping.admit(control, taken, &work.frame) else {
            track.record(|stats| stats.stats_mut().frames_dropped_by_adaptation += 1);
            return Some(work);
        };
        work.size = Some(size);
        track.record(|stats| stats.add_taken(taken));
        let sizes = (work.frame.picture.resolution(), size);
        if let Some((source, last)) = self.sizes.replace(sizes)
            && source == sizes.0
            && last != size
        {
            track.record(|stats| stats.stats_mut().quality_limitation.resolution_changes += 1);
        }
        control.set_source(size);
        (work.timing, work.rtp_time) = self.clock.advance(work.frame.captured, nominal);
        Some(work)
    }

    /// Builds what encoders are missing, holding no lock (L1), swaps them in, and encodes the frame with them. No other
    /// thread takes frames or encodes (L3): it is as good now as it was before.
    fn provide_encoders(&mut self, work: &mut Work) {
        let Some(size) = work.size else { return };
        if work.left == [false; MAX_LAYERS] {
            return;
        }
        for layer in 0..self.layers.len() {
            if !work.left[layer] {
                continue;
            }
            if !self.layers[layer].failures.may_retry(work.taken) {
                self.track.record(|stats| stats.stats_mut().frames_failed += 1);
                work.left[layer] = false;
                continue;
            }
            let settings = self.track.encoder_settings(layer, size, work.targets[layer]);
            match (self.build)(&settings) {
                Ok(encoder) => {
                    self.track.swap_encoder(layer, Some(encoder));
                    self.track.record(|stats| stats.stats_mut().encoders_built += 1);
                    self.stepping.handle_new_encoder(work.taken);
                }
                Err(error) => {
                    work.left[layer] = false;
                    self.handle_failure(layer, work.taken, error.to_string());
                }
            }
        }
        let track = Arc::clone(&self.track);
        self.encode(&track.encoder().read(), work);
        // An allocation has exchanged the encoder for one of another size in between: the next frame finds it.
        let lost = work.left.iter().filter(|&&left| left).count() as u64;
        if lost > 0 {
            track.record(|stats| stats.stats_mut().frames_failed += lost);
        }
    }

    /// Encodes the missing layers that have an encoder.
    fn encode(&mut self, slot: &EncoderSlot, work: &mut Work) {
        let Some(size) = work.size else { return };
        let in_place = self.track.config().backend.changes_bitrate_in_place();
        let mut picture = self.scaling.scale(&work.frame.picture, size);
        // Each layer is made from the next larger one that is encoded.
        for layer in (0..self.layers.len()).rev() {
            if !work.left[layer] {
                continue;
            }
            let target = work.targets[layer];
            let wanted = self.track.encoder_settings(layer, size, target);
            let task = &mut self.layers[layer];
            picture = task.scaling.scale(&picture, wanted.resolution);
            let Some(encoder) = slot.encoder(layer) else { continue };
            let mut encoder = encoder.lock();
            let has = encoder.settings();
            if has.resolution != wanted.resolution || (!in_place && has.bitrate != target) {
                continue;
            }
            work.left[layer] = false;
            let frame = LayerFrame {
                frame: &work.frame,
                picture: std::sync::Arc::clone(&picture),
                target,
                taken: work.taken,
                timing: work.timing,
                rtp_time: work.rtp_time,
            };
            work.outcomes[layer] = Some(task.encode(&self.track, &mut **encoder, &frame, &*self.sink));
        }
    }

    /// Drops the encoders of layers that do not encode, and writes down what the frame took.
    fn finish(&mut self, work: &Work) {
        self.drop_unused(work);
        let now = clock::now();
        let busy = now.saturating_duration_since(work.taken);
        let outcome = work.outcomes.iter().rev().flatten().next();
        self.stepping.handle_frame(&self.track, now, &work.frame, busy, outcome);
        self.limit(now, Some(self.limitation()));
        let queued = work.taken.saturating_duration_since(work.frame.ready);
        self.track.record(|stats| {
            let stats = stats.stats_mut();
            stats.total_encode_time += busy;
            stats.total_queue_time += queued;
        });
        if self.cpu.is_due(now) {
            self.allocations.refresh_if_stale();
            self.cpu.check(now, |tracks| self.allocations.list_tracks(tracks));
        }
    }

    /// The frame was not encoded.
    fn rest(&mut self, work: &Work) {
        if work.targets != [Bitrate::ZERO; MAX_LAYERS] {
            // Only the frame rate that the track has stepped down to kept it back.
            self.stepping.handle_frame(&self.track, work.taken, &work.frame, Duration::ZERO, None);
            return;
        }
        self.drop_unused(work);
        let control = Arc::clone(self.track.control());
        self.stepping.rest(&control, work.taken);
        if control.is_any_wanted() {
            let reason = if control.is_limited() { LimitationReason::Bandwidth } else { LimitationReason::None };
            self.limit(clock::now(), Some(reason));
            self.track.set_state(TrackState::Paused);
        } else {
            self.limit(clock::now(), None);
            self.track.set_state(TrackState::Idle);
        }
        self.track.record(|stats| stats.stats_mut().frames_unwanted += 1);
    }

    fn drop_unused(&mut self, work: &Work) {
        let has_encoder = self.track.layers_with_encoder();
        for (layer, task) in self.layers.iter_mut().enumerate() {
            if work.targets[layer] == Bitrate::ZERO {
                task.rest();
                if has_encoder[layer] {
                    self.track.drop_unused_encoder(layer);
                }
            }
        }
    }

    /// Counts a frame that a layer lost.
    fn handle_failure(&mut self, layer: usize, now: Instant, reason: String) {
        self.track.record(|stats| stats.stats_mut().frames_failed += 1);
        let failures = &mut self.layers[layer].failures;
        failures.add(now, reason);
        if failures.persistent().is_none() {
            let reason = failures.last();
            tracing::warn!(track = %self.track.id(), layer, reason, "encoding failed; the encoder is restarted");
        }
    }

    fn limitation(&self) -> LimitationReason {
        let control = self.track.control();
        if self.layers.iter().any(|layer| layer.failures.are_persistent()) {
            LimitationReason::Other
        } else if control.cpu_steps() > 0 {
            LimitationReason::Cpu
        } else if control.is_limited() || self.stepping.has_quality_steps() {
            LimitationReason::Bandwidth
        } else {
            LimitationReason::None
        }
    }

    fn limit(&mut self, now: Instant, reason: Option<LimitationReason>) {
        if self.limitation != reason {
            self.limitation = reason;
            self.track.record(|stats| stats.set_limitation(now, reason));
        }
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "models/broken/encode_task.rs"]
mod broken;
