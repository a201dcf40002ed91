use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_encoder::{EncodeError, FrameTiming, VideoEncoder};
use lenscast_media::{Bitrate, BurstMeta, BurstPool, Frame, PassedExtensions, Picture, RtpTime, StageTimes};

use crate::failures::Failures;
use crate::packetizer::Packetizer;
use crate::scaling::Scaling;
use crate::stats::EncodedStats;
use crate::{BurstSink, Track, clock};

/// What an encode task keeps for one spatial layer.
pub(crate) struct LayerTask {
    layer: usize,
    packetizer: Packetizer,
    pool: BurstPool,
    pub(crate) scaling: Scaling,
    /// Index of the next packet in the layer's stream. Continues across encoders.
    next_packet: u64,
    last_key_frame: Option<Instant>,
    pub(crate) failures: Failures,
}

/// A frame on its way through a layer.
pub(crate) struct LayerFrame<'a> {
    pub(crate) frame: &'a Frame,
    /// The frame's picture in the layer's size.
    pub(crate) picture: Arc<Picture>,
    pub(crate) target: Bitrate,
    pub(crate) taken: Instant,
    pub(crate) timing: FrameTiming,
    pub(crate) rtp_time: RtpTime,
}

/// What a frame came to in one layer.
#[derive(Debug)]
pub(crate) enum Outcome {
    Encoded { quantizer: Option<u8> },
    DroppedByEncoder,
    Failed(EncodeError),
}

/// Requests for key frames are met no oftener (libwebrtc, `VideoStreamEncoder`'s key frame request throttling, 300 ms):
/// a viewer on a bad network must not fill everybody's link with key frames.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

impl LayerTask {
    pub(crate) fn new(track: &Track, layer: usize) -> Self {
        Self {
            layer,
            packetizer: Packetizer::new(track.config().backend.codec(), track.config().temporal_layers),
            pool: BurstPool::new(),
            scaling: Scaling::default(),
            next_packet: 0,
            last_key_frame: None,
            failures: Failures::default(),
        }
    }

    /// Encodes a frame with an encoder that suits it, and hands it on.
    pub(crate) fn encode(
        &mut self,
        track: &Track,
        encoder: &mut dyn VideoEncoder,
        frame: &LayerFrame<'_>,
        sink: &dyn BurstSink,
    ) -> Outcome {
        if encoder.settings().bitrate != frame.target
            && let Err(error) = encoder.set_bitrate(frame.target)
        {
            return Outcome::Failed(error);
        }
        let key_frame = self.key_frame_is_due(track, frame.taken);
        if key_frame {
            track.control().take_key_frame_request(self.layer);
        }
        let encoded = match encoder.encode(&frame.picture, frame.timing, key_frame) {
            Ok(Some(encoded)) => encoded,
            Ok(None) => {
                track.record(|stats| stats.add_dropped_by_encoder(frame.taken, self.layer));
                return Outcome::DroppedByEncoder;
            }
            Err(error) => return Outcome::Failed(error),
        };
        if encoded.key_frame {
            self.last_key_frame = Some(frame.taken);
            // Who asked for one before it is handed on is served, whether it was made for him or not.
            track.control().take_key_frame_request(self.layer);
        }
        let Frame { captured, ready, .. } = *frame.frame;
        let meta = BurstMeta {
            codec: encoded.codec.into(),
            key_frame: encoded.key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(encoded.resolution),
            temporal_layer: encoded.temporal_layer,
            layer_sync: encoded.layer_sync,
            first_packet: self.next_packet,
            rtp_time: frame.rtp_time,
            times: StageTimes { captured, ready, taken: frame.taken, encoded: frame.taken },
            extensions: PassedExtensions::default(),
        };
        let mut now = frame.taken;
        let burst = self.pool.fill(meta, |burst| {
            self.packetizer.packetize(&encoded, burst);
            now = clock::now();
            burst.set_encoded_at(now);
        });
        self.next_packet = burst.packets().end;
        let delivered = burst.is_empty() || sink.deliver(self.layer, &burst);
        self.failures = Failures::default();
        track.record(|stats| {
            stats.add_frame(
                now,
                self.layer,
                &EncodedStats {
                    bytes: encoded.data.len(),
                    key_frame: encoded.key_frame,
                    resolution: encoded.resolution,
                    quantizer: encoded.quantizer,
                },
            );
            let total = stats.stats_mut();
            total.packets += burst.len() as u64;
            total.bursts_refused += u64::from(!delivered);
        });
        Outcome::Encoded { quantizer: encoded.quantizer }
    }

    /// Nobody wants the layer, or nothing is allotted to it: what is remembered would be stale.
    pub(crate) fn rest(&mut self) {
        self.failures = Failures::default();
    }

    fn key_frame_is_due(&self, track: &Track, now: Instant) -> bool {
        let rested = |last: Instant| now.saturating_duration_since(last) >= KEY_FRAME_INTERVAL;
        track.control().key_frame_requested(self.layer) && self.last_key_frame.is_none_or(rested)
    }
}
