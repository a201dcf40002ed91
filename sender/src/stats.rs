use std::time::Duration;

use lenscast_media::{Bitrate, Resolution};

/// What is known of a track's encoding, in the terms of W3C's `outbound-rtp` statistics where it has them.
#[derive(Debug, Clone, Default)]
pub struct TrackStats {
    /// What it is doing.
    pub state: TrackState,
    /// The bitrate it is to encode at.
    pub target_bitrate: Bitrate,
    /// Size of the last encoded frame.
    pub resolution: Option<Resolution>,
    /// Frames that came out of the encoder.
    pub frames_encoded: u64,
    /// Key frames among them.
    pub key_frames_encoded: u64,
    /// Sum of the quantizers of those frames whose encoder tells it.
    pub qp_sum: u64,
    /// Time spent encoding and packetizing.
    pub total_encode_time: Duration,
    /// Bytes of bitstream that came out.
    pub bytes_encoded: u64,
    /// Packets that were cut.
    pub packets: u64,
    /// Frames that the rate control dropped.
    pub frames_dropped_by_encoder: u64,
    /// Frames that went by while nobody wanted any, or while the target was zero.
    pub frames_unwanted: u64,
    /// Frames lost to an encoder that failed, or while it could not be built.
    pub frames_failed: u64,
    /// Bursts that did not reach all who wanted them.
    pub bursts_refused: u64,
    /// Encoders built, the first one too.
    pub encoders_built: u64,
}

/// What a track is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TrackState {
    /// Nobody wants its frames, its target is zero, or no frame has come yet.
    #[default]
    Idle,
    /// It encodes.
    Active,
    /// Its encoder cannot be built, or keeps failing; it is tried again now and then. Or its task panicked, and it has
    /// ended.
    Failed {
        /// What went wrong last.
        reason: String,
    },
}
