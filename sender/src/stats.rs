use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Resolution};

use crate::rate_tracker::RateTracker;

/// What is known of a track's encoding, in the terms of W3C's `outbound-rtp` statistics where it has them. The sums are over
/// all layers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrackStats {
    /// What it is doing.
    pub state: TrackState,
    /// The bitrate it is to encode at.
    pub target_bitrate: Bitrate,
    /// What it really encodes at: bitstream over the last seconds.
    pub bitrate: Bitrate,
    /// Frames/s really encoded, of the layer that has the most.
    pub frames_per_second: f64,
    /// Size of the last encoded frame of the largest layer that encodes.
    pub resolution: Option<Resolution>,
    /// Frames that came out of the encoders.
    pub frames_encoded: u64,
    /// Key frames among them.
    pub key_frames_encoded: u64,
    /// Sum of the quantizers of those frames whose encoder tells it.
    pub qp_sum: u64,
    /// Time spent encoding and packetizing, scaling included.
    pub total_encode_time: Duration,
    /// Time that taken frames had lain in the frame buffer.
    pub total_queue_time: Duration,
    /// Bytes of bitstream that came out.
    pub bytes_encoded: u64,
    /// Packets that were cut.
    pub packets: u64,
    /// Frames that the rate control dropped to keep to its target.
    pub frames_dropped_by_encoder: u64,
    /// Frames that went by to keep to the frame rate that the track has stepped down to.
    pub frames_dropped_by_adaptation: u64,
    /// Frames that went by while nobody wanted any, or while the target was zero.
    pub frames_unwanted: u64,
    /// Frames lost to an encoder that failed, or while it could not be built.
    pub frames_failed: u64,
    /// Bursts that did not reach all who wanted them.
    pub bursts_refused: u64,
    /// Encoders built by the encode task, the first one too. Those of an allocation are not among them.
    pub encoders_built: u64,
    /// What bounds the quality.
    pub quality_limitation: QualityLimitation,
    /// Each layer, the smallest first.
    pub layers: Vec<LayerStats>,
}

/// What is known of one spatial layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerStats {
    /// The bitrate it is to encode at; zero if it does not.
    pub target_bitrate: Bitrate,
    /// What it really encodes at.
    pub bitrate: Bitrate,
    /// Frames/s really encoded.
    pub frames_per_second: f64,
    /// Size of the last encoded frame.
    pub resolution: Option<Resolution>,
    /// Frames that came out of the encoder.
    pub frames_encoded: u64,
    /// Key frames among them.
    pub key_frames_encoded: u64,
    /// Sum of the quantizers of those frames whose encoder tells it.
    pub qp_sum: u64,
    /// Bytes of bitstream that came out.
    pub bytes_encoded: u64,
    /// Frames that the rate control dropped.
    pub frames_dropped_by_encoder: u64,
}

/// What a track is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TrackState {
    /// Nobody wants its frames, or no frame has come yet.
    #[default]
    Idle,
    /// It encodes.
    Active,
    /// Somebody wants its frames, but nothing is allotted: its weight is zero, or its minimum does not fit.
    Paused,
    /// Its encoder cannot be built, or keeps failing; it is tried again now and then. Or its task panicked, and it has
    /// ended.
    Failed {
        /// What went wrong last.
        reason: String,
    },
}

/// What bounds a track's quality, as W3C has it (webrtc-stats, `qualityLimitationReason` and what belongs to it). Time counts
/// while somebody wants the track.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QualityLimitation {
    /// What bounds it now.
    pub reason: LimitationReason,
    /// How long nothing did.
    pub none: Duration,
    /// How long the CPU did.
    pub cpu: Duration,
    /// How long the bandwidth did: the track got less than its maximum, or a quantizer at its bound made it step down.
    pub bandwidth: Duration,
    /// How long something else did: the encoder failed.
    pub other: Duration,
    /// How often the size of what is encoded changed for it (`qualityLimitationResolutionChanges`).
    pub resolution_changes: u64,
}

/// W3C's `RTCQualityLimitationReason`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LimitationReason {
    /// Nothing.
    #[default]
    None,
    /// The CPU.
    Cpu,
    /// The bandwidth.
    Bandwidth,
    /// Something else.
    Other,
}

impl LimitationReason {
    /// As W3C writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cpu => "cpu",
            Self::Bandwidth => "bandwidth",
            Self::Other => "other",
        }
    }
}

/// A camera of which no frame was taken for so long is silent: longer than the slowest takes, and a slow encoder needs.
const SILENT: Duration = Duration::from_secs(10);

/// What the encode task writes down.
#[derive(Debug)]
pub(crate) struct StatsRecorder {
    stats: TrackStats,
    rates: Vec<RateTracker>,
    /// The time up to which the limitation's durations count; `None` while nobody wants the track.
    counted_until: Option<Instant>,
    /// When a frame last came out, or was dropped by the rate control on purpose.
    last_frame: Option<Instant>,
    /// When a frame last went in.
    last_taken: Option<Instant>,
    /// Since when frames are to come, as far as anybody has asked.
    expected_since: Option<Instant>,
}

impl StatsRecorder {
    pub(crate) fn new(layers: usize) -> Self {
        let stats = TrackStats { layers: vec![LayerStats::default(); layers], ..TrackStats::default() };
        Self {
            stats,
            rates: (0..layers).map(|_| RateTracker::new(RateTracker::DEFAULT_WINDOW)).collect(),
            counted_until: None,
            last_frame: None,
            last_taken: None,
            expected_since: None,
        }
    }

    /// Everything, as of now.
    pub(crate) fn read(&mut self, now: Instant, targets: [Bitrate; lenscast_congestion::MAX_LAYERS]) -> TrackStats {
        self.count_limitation(now);
        let mut stats = self.stats.clone();
        for ((layer, rate), target) in stats.layers.iter_mut().zip(&mut self.rates).zip(targets) {
            layer.target_bitrate = target;
            layer.bitrate = rate.rate(now).unwrap_or(Bitrate::ZERO);
            layer.frames_per_second = rate.frames_per_second(now).unwrap_or(0.0);
        }
        let sum = |bitrate: fn(&LayerStats) -> Bitrate| {
            Bitrate::from_bps(stats.layers.iter().map(|layer| bitrate(layer).as_bps()).sum())
        };
        (stats.target_bitrate, stats.bitrate) = (sum(|layer| layer.target_bitrate), sum(|layer| layer.bitrate));
        let encoding = stats.layers.iter().rev().find(|layer| layer.target_bitrate > Bitrate::ZERO);
        stats.resolution = encoding.or(stats.layers.last()).and_then(|layer| layer.resolution);
        stats.frames_per_second = stats.layers.iter().map(|layer| layer.frames_per_second).fold(0.0, f64::max);
        stats
    }

    /// What is counted for the whole track.
    pub(crate) fn stats_mut(&mut self) -> &mut TrackStats {
        &mut self.stats
    }

    /// A layer made a frame of `bytes`, at `now`.
    pub(crate) fn add_frame(&mut self, now: Instant, layer: usize, frame: &EncodedStats) {
        let EncodedStats { bytes, key_frame, resolution, quantizer } = *frame;
        let quantizer = quantizer.map_or(0, u64::from);
        self.rates[layer].add(now, bytes);
        self.last_frame = Some(now);
        let (stats, bytes) = (&mut self.stats, bytes as u64);
        let own = &mut stats.layers[layer];
        stats.frames_encoded += 1;
        own.frames_encoded += 1;
        stats.key_frames_encoded += u64::from(key_frame);
        own.key_frames_encoded += u64::from(key_frame);
        stats.qp_sum += quantizer;
        own.qp_sum += quantizer;
        stats.bytes_encoded += bytes;
        own.bytes_encoded += bytes;
        own.resolution = Some(resolution);
    }

    pub(crate) fn add_dropped_by_encoder(&mut self, now: Instant, layer: usize) {
        self.last_frame = Some(now);
        self.stats.frames_dropped_by_encoder += 1;
        self.stats.layers[layer].frames_dropped_by_encoder += 1;
    }

    pub(crate) const fn state(&self) -> &TrackState {
        &self.stats.state
    }

    /// Notes whether frames are to come. If so: since when none has.
    pub(crate) fn expect_frames(&mut self, now: Instant, expected: bool) -> Option<Instant> {
        if !expected {
            self.expected_since = None;
            return None;
        }
        let since = *self.expected_since.get_or_insert(now);
        Some(self.last_frame.map_or(since, |last| last.max(since)))
    }

    /// A frame was taken, to be encoded.
    pub(crate) fn add_taken(&mut self, now: Instant) {
        self.last_taken = Some(now);
    }

    /// True if frames go in, whatever becomes of them.
    pub(crate) fn takes_frames(&self, now: Instant) -> bool {
        self.last_taken.is_some_and(|at| now.saturating_duration_since(at) < SILENT)
    }

    pub(crate) const fn last_frame(&self) -> Option<Instant> {
        self.last_frame
    }

    pub(crate) fn set_state(&mut self, state: TrackState) -> TrackState {
        std::mem::replace(&mut self.stats.state, state)
    }

    /// What bounds the quality from now on; `None` if nobody wants the track.
    pub(crate) fn set_limitation(&mut self, now: Instant, reason: Option<LimitationReason>) {
        self.count_limitation(now);
        self.counted_until = reason.is_some().then_some(now);
        self.stats.quality_limitation.reason = reason.unwrap_or_default();
    }

    fn count_limitation(&mut self, now: Instant) {
        let Some(until) = self.counted_until else { return };
        let limitation = &mut self.stats.quality_limitation;
        let duration = match limitation.reason {
            LimitationReason::None => &mut limitation.none,
            LimitationReason::Cpu => &mut limitation.cpu,
            LimitationReason::Bandwidth => &mut limitation.bandwidth,
            LimitationReason::Other => &mut limitation.other,
        };
        *duration += now.saturating_duration_since(until);
        self.counted_until = Some(until.max(now));
    }
}

/// One encoded frame, for the statistics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodedStats {
    pub(crate) bytes: usize,
    pub(crate) key_frame: bool,
    pub(crate) resolution: Resolution,
    pub(crate) quantizer: Option<u8>,
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn limitations_count_while_somebody_wants_the_track() {
        let (mut recorder, start) = (StatsRecorder::new(1), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        recorder.set_limitation(at(0), Some(LimitationReason::None));
        recorder.set_limitation(at(2), Some(LimitationReason::Bandwidth));
        recorder.set_limitation(at(5), Some(LimitationReason::Cpu));
        recorder.set_limitation(at(9), None);
        recorder.set_limitation(at(100), Some(LimitationReason::Other));
        let limitation = recorder.read(at(105), Default::default()).quality_limitation;
        let seconds = [limitation.none, limitation.bandwidth, limitation.cpu, limitation.other].map(|d| d.as_secs());
        assert_eq!((seconds, limitation.reason), ([2, 3, 4, 5], LimitationReason::Other));
    }

    #[test]
    fn a_track_is_the_sum_of_its_layers() {
        let (mut recorder, start) = (StatsRecorder::new(2), Instant::now());
        let resolution = Resolution::new(64, 64).unwrap();
        for (layer, bytes) in [(0, 100), (1, 1_000), (1, 2_000)] {
            let frame = EncodedStats { bytes, key_frame: layer == 0, resolution, quantizer: Some(7) };
            recorder.add_frame(start, layer, &frame);
        }
        let small = Resolution::new(32, 32).unwrap();
        let frame = EncodedStats { bytes: 0, key_frame: false, resolution: small, quantizer: None };
        recorder.add_frame(start, 0, &frame);
        recorder.add_dropped_by_encoder(start, 1);
        let kbps = Bitrate::from_kbps;
        let stats = recorder.read(start, [kbps(100), kbps(500), Bitrate::ZERO]);
        assert_eq!((stats.frames_encoded, stats.key_frames_encoded, stats.qp_sum), (4, 1, 21));
        assert_eq!((stats.resolution, stats.layers[0].resolution), (Some(resolution), Some(small)));
        assert_eq!((stats.bytes_encoded, stats.frames_dropped_by_encoder), (3_100, 1));
        assert_eq!((stats.target_bitrate, stats.layers[1].target_bitrate), (kbps(600), kbps(500)));
        assert_eq!((stats.layers[1].frames_encoded, stats.layers[1].bytes_encoded), (2, 3_000));
    }
}
