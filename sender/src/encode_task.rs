use std::time::{Duration, Instant};

use lenscast_capture::FrameBufferCounters;
use lenscast_encoder::{BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder};
use lenscast_media::sync::Arc;
use lenscast_media::{Bitrate, BurstMeta, BurstPool, Frame, Resolution, RtpTime, StageTimes};

use crate::packetizer::Packetizer;
use crate::stream_clock::StreamClock;
use crate::{BurstSink, Track, TrackState};

/// Builds encoders; the tests build others than the real ones.
pub(crate) type Build = dyn Fn(&EncoderSettings) -> Result<Box<dyn VideoEncoder>, BuildEncoderError> + Send + Sync;

/// A track's thread: waits for frames, encodes, packetizes, hands on.
pub(crate) struct EncodeTask {
    track: Arc<Track>,
    sink: Box<dyn BurstSink>,
    build: Arc<Build>,
    packetizer: Packetizer,
    pool: BurstPool,
    clock: StreamClock,
    /// Index of the next packet in the track's stream. Continues across encoders.
    next_packet: u64,
    last_key_frame: Option<Instant>,
    /// Of the frame at hand. Read once a frame, so that it cannot become zero halfway.
    target: Bitrate,
    failures: Failures,
}

/// Requests for key frames are met no oftener (libwebrtc, `VideoStreamEncoder`'s key frame request throttling, 300 ms):
/// a viewer on a bad network must not fill everybody's link with key frames.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

/// What one frame came to.
enum Outcome {
    Encoded {
        key_frame: bool,
    },
    DroppedByEncoder,
    /// There is no encoder for pictures of this size.
    NoEncoder,
    Failed(EncodeError),
}

impl EncodeTask {
    pub(crate) fn new(track: Arc<Track>, sink: Box<dyn BurstSink>, build: Arc<Build>) -> Self {
        Self {
            packetizer: Packetizer::new(track.config().backend.codec()),
            track,
            sink,
            build,
            pool: BurstPool::new(),
            clock: StreamClock::default(),
            next_packet: 0,
            last_key_frame: None,
            target: Bitrate::ZERO,
            failures: Failures::default(),
        }
    }

    /// Runs until the track's buffer is closed.
    pub(crate) fn run(mut self) {
        while self.track.buffer().wait().is_ok() {
            self.target = self.track.control().target();
            if self.track.control().is_wanted() && self.target > Bitrate::ZERO {
                self.encode_next();
            } else {
                self.pass_over();
            }
        }
        self.track.swap_encoder(None);
        self.track.set_state(TrackState::Idle);
        // The frame that still lay in the buffer when it was closed is counted nowhere else.
        let FrameBufferCounters { put, evicted, taken } = self.track.buffer().counters();
        tracing::debug!(track = %self.track.id(), put, evicted, taken, "the encode task has ended");
    }

    /// Nobody is watching, or there are no bits for it: the frame goes by, and the encoder is not kept either, since what it remembers would be stale.
    fn pass_over(&mut self) {
        if self.track.buffer().try_take().is_none() {
            return;
        }
        let had_encoder = self.track.encoder().read().is_some();
        if had_encoder {
            self.track.swap_encoder(None);
        }
        self.failures = Failures::default();
        self.track.update_stats(|stats| stats.frames_unwanted += 1);
        self.track.set_state(TrackState::Idle);
    }

    fn encode_next(&mut self) {
        let Some((frame, taken, outcome)) = self.take_and_encode() else { return };
        let outcome = match outcome {
            Outcome::NoEncoder => match self.provide_encoder(frame.picture.resolution(), taken) {
                // No other thread takes frames or encodes (L3): the frame is as good now as it was before the build.
                Ok(true) => self.encode(&frame, taken),
                Ok(false) => return self.count_failure(),
                Err(error) => return self.handle_failure(taken, &error.to_string()),
            },
            outcome => outcome,
        };
        match outcome {
            Outcome::Encoded { key_frame } => {
                if key_frame {
                    self.last_key_frame = Some(taken);
                }
                self.failures = Failures::default();
                self.track.set_state(TrackState::Active);
            }
            Outcome::DroppedByEncoder => {
                self.track.update_stats(|stats| stats.frames_dropped_by_encoder += 1);
            }
            Outcome::NoEncoder => self.count_failure(),
            Outcome::Failed(error) => {
                self.track.swap_encoder(None);
                self.handle_failure(taken, &error.to_string());
            }
        }
    }

    /// Takes the next frame and encodes it under one hold of the encoder (L2).
    fn take_and_encode(&mut self) -> Option<(Frame, Instant, Outcome)> {
        let track = Arc::clone(&self.track);
        let encoder = track.encoder().read();
        let frame = track.buffer().try_take()?;
        let taken = Instant::now();
        let outcome = match &*encoder {
            Some(encoder) => self.encode_with(&mut **encoder.lock(), &frame, taken),
            None => Outcome::NoEncoder,
        };
        Some((frame, taken, outcome))
    }

    fn encode(&mut self, frame: &Frame, taken: Instant) -> Outcome {
        let track = Arc::clone(&self.track);
        match &*track.encoder().read() {
            Some(encoder) => self.encode_with(&mut **encoder.lock(), frame, taken),
            None => Outcome::NoEncoder,
        }
    }

    fn encode_with(&mut self, encoder: &mut dyn VideoEncoder, frame: &Frame, taken: Instant) -> Outcome {
        if encoder.settings().resolution != frame.picture.resolution() {
            return Outcome::NoEncoder;
        }
        if encoder.settings().bitrate != self.target
            && let Err(error) = encoder.set_bitrate(self.target)
        {
            return Outcome::Failed(error);
        }
        let key_frame = self.key_frame_is_due(taken);
        if key_frame {
            self.track.control().take_key_frame_request();
        }
        let nominal = Duration::from_secs_f64(1.0 / self.track.config().framerate);
        let (timing, rtp_time) = self.clock.advance(frame.captured, nominal);
        self.encode_and_deliver(encoder, frame, taken, timing, rtp_time, key_frame)
    }

    fn encode_and_deliver(
        &mut self,
        encoder: &mut dyn VideoEncoder,
        frame: &Frame,
        taken: Instant,
        timing: FrameTiming,
        rtp_time: RtpTime,
        key_frame: bool,
    ) -> Outcome {
        let encoded = match encoder.encode(&frame.picture, timing, key_frame) {
            Ok(Some(encoded)) => encoded,
            Ok(None) => return Outcome::DroppedByEncoder,
            Err(error) => return Outcome::Failed(error),
        };
        let meta = BurstMeta {
            codec: encoded.codec,
            key_frame: encoded.key_frame,
            resolution: encoded.resolution,
            temporal_layer: encoded.temporal_layer,
            first_packet: self.next_packet,
            rtp_time,
            times: StageTimes { captured: frame.captured, ready: frame.ready, taken, encoded: taken },
        };
        let burst = self.pool.fill(meta, |burst| {
            self.packetizer.packetize(&encoded, burst);
            burst.set_encoded_at(Instant::now());
        });
        self.next_packet = burst.packets().end;
        let delivered = burst.is_empty() || self.sink.deliver(&burst);
        let spent = burst.meta().times.encoded.saturating_duration_since(taken);
        self.track.update_stats(|stats| {
            stats.resolution = Some(encoded.resolution);
            stats.frames_encoded += 1;
            stats.key_frames_encoded += u64::from(encoded.key_frame);
            stats.qp_sum += encoded.quantizer.map_or(0, u64::from);
            stats.total_encode_time += spent;
            stats.bytes_encoded += encoded.data.len() as u64;
            stats.packets += burst.len() as u64;
            stats.bursts_refused += u64::from(!delivered);
        });
        Outcome::Encoded { key_frame: encoded.key_frame }
    }

    fn key_frame_is_due(&self, now: Instant) -> bool {
        let rested = |last: Instant| now.saturating_duration_since(last) >= KEY_FRAME_INTERVAL;
        self.track.control().key_frame_requested() && self.last_key_frame.is_none_or(rested)
    }

    /// Builds an encoder for pictures of this size, holding no lock (L1), and swaps it in. False while a failure is too
    /// recent to try again.
    fn provide_encoder(&mut self, resolution: Resolution, now: Instant) -> Result<bool, BuildEncoderError> {
        if !self.failures.may_retry(now) {
            return Ok(false);
        }
        let config = self.track.config();
        let settings = EncoderSettings {
            backend: config.backend,
            resolution,
            framerate: config.framerate,
            bitrate: self.target,
            temporal_layers: TemporalLayers::One,
        };
        let encoder = (self.build)(&settings)?;
        self.track.swap_encoder(Some(encoder));
        self.track.update_stats(|stats| stats.encoders_built += 1);
        // Its first frame is a key frame whether or not somebody asked.
        self.track.control().take_key_frame_request();
        Ok(true)
    }

    fn count_failure(&self) {
        self.track.update_stats(|stats| stats.frames_failed += 1);
    }

    fn handle_failure(&mut self, now: Instant, reason: &str) {
        self.count_failure();
        self.failures.add(now);
        if self.failures.are_persistent() {
            self.track.set_state(TrackState::Failed { reason: reason.to_owned() });
        } else {
            tracing::warn!(track = %self.track.id(), reason, "encoding failed; the encoder is restarted");
        }
    }
}

/// Consecutive failures, and when to try again: at once after the first, then after waits that double.
#[derive(Debug, Default)]
struct Failures {
    consecutive: u32,
    retry_at: Option<Instant>,
}

/// A track is called failed from this many consecutive failures on, less than a second after the first.
const PERSISTENT: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

impl Failures {
    fn add(&mut self, now: Instant) {
        self.consecutive = self.consecutive.saturating_add(1);
        if let Some(doublings) = self.consecutive.checked_sub(2) {
            let wait = FIRST_WAIT.saturating_mul(1 << doublings.min(10)).min(LONGEST_WAIT);
            self.retry_at = Some(now + wait);
        }
    }

    fn may_retry(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    const fn are_persistent(&self) -> bool {
        self.consecutive >= PERSISTENT
    }
}
