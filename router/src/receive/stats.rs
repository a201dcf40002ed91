use std::time::Duration;

use lenscast_media::{Resolution, Ssrc};

use crate::score::Score;

/// What is known of one layer of a received stream, in the terms of W3C's `inbound-rtp` statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedLayerStats {
    /// The layer, 0 for the smallest.
    pub layer: u8,
    /// Its source, once known.
    pub ssrc: Option<Ssrc>,
    /// Media packets, those that came as retransmissions included.
    pub packets_received: u64,
    /// Payload bytes of those packets.
    pub bytes_received: u64,
    /// Packets that came as retransmissions and were not there yet.
    pub retransmitted_packets_received: u64,
    /// Packets that the path lost, repaired or not; negative when more came than were expected.
    pub packets_lost: i64,
    /// Share of packets that the path lost between the last two reports, 0 to 1.
    pub fraction_lost: f64,
    /// Packets that are missing and asked for.
    pub packets_missing: u64,
    /// Packets asked for again, each as often as it was.
    pub packets_requested: u64,
    /// NACK messages sent.
    pub nack_count: u64,
    /// Picture loss indications sent.
    pub pli_count: u64,
    /// Times that so many packets were missing that all were given up for a key frame.
    pub nack_overflows: u64,
    /// Frames whose last packet came.
    pub frames_received: u64,
    /// Key frames whose first packet came.
    pub key_frames_received: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Times that the source began anew: another SSRC, or far-off sequence numbers.
    pub restarts: u64,
    /// Variation of the time between packets.
    pub jitter: Duration,
    /// Size of the last key frame, where it tells.
    pub resolution: Option<Resolution>,
    /// How well it gets through.
    pub score: Score,
}

/// Packets that a receiver did not take, by reason: see [`crate::receive::Refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RefusedCounts {
    /// Of another payload type, or media and retransmissions confused.
    pub payload_type: u64,
    /// Of an SSRC and a RID that are not the stream's.
    pub unknown_source: u64,
    /// Of a source that another one has replaced.
    pub replaced_source: u64,
    /// Retransmissions of a layer of which nothing has come yet.
    pub retransmission_before_media: u64,
    /// Retransmissions without an original sequence number.
    pub malformed_retransmission: u64,
    /// Retransmissions that were nothing but padding, which congestion control sends.
    pub padding: u64,
    /// They had come before.
    pub duplicate: u64,
    /// Too far behind or ahead.
    pub far_off: u64,
    /// Their payload's descriptor is none of the codec.
    pub malformed_payload: u64,
    /// More in one batch than are kept.
    pub no_room: u64,
}
