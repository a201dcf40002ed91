use std::time::Duration;

use lenscast_media::{LayerSet, MediaCodec, Resolution};

/// What is known of one consumer, in the terms of W3C's `outbound-rtp` and `remote-inbound-rtp` statistics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConsumerStats {
    /// Media packets sent, without retransmissions.
    pub packets_sent: u64,
    /// Payload bytes of those packets.
    pub bytes_sent: u64,
    /// Frames whose first and last packets were handed to the transport.
    pub frames_sent: u64,
    /// Packets sent again on the viewer's request.
    pub retransmitted_packets_sent: u64,
    /// Payload bytes of those packets.
    pub retransmitted_bytes_sent: u64,
    /// Packets sent only to be measured, on the stream of retransmissions.
    pub padding_packets_sent: u64,
    /// Bytes of those packets' payloads, or padding.
    pub padding_bytes_sent: u64,
    /// Packets asked for that were no longer there, or asked for again within one round trip, or over the limit, or by a
    /// viewer that agreed to no retransmission.
    pub retransmissions_refused: u64,
    /// NACK messages received.
    pub nack_count: u64,
    /// Picture loss indications received.
    pub pli_count: u64,
    /// Full intra requests received.
    pub fir_count: u64,
    /// Frames dropped while waiting for a key frame.
    pub frames_dropped: u64,
    /// Frames of temporal layers that it is not to have.
    pub frames_left_out: u64,
    /// Times it went over to another spatial layer, its first one included.
    pub layer_switches: u64,
    /// Share of packets lost between the last two reports, 0 to 1, as the viewer reports it.
    pub fraction_lost: Option<f64>,
    /// Packets lost since the beginning, as the viewer reports it; negative when duplicates arrived.
    pub packets_lost: i64,
    /// Interarrival jitter as the viewer reports it.
    pub jitter: Option<Duration>,
    /// Round-trip time by the viewer's last report.
    pub round_trip_time: Option<Duration>,
}

/// What is known of one producer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProducerStats {
    /// Frames received from the encode task.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Packets received from the encode task.
    pub packets: u64,
    /// Payload bytes of those packets.
    pub bytes: u64,
    /// Times that packets were missing between two bursts for good (dropped on a full channel, for example).
    pub discontinuities: u64,
    /// Packets that were missing between two bursts and may still come.
    pub packets_missing: u64,
    /// Packets of those that came late.
    pub packets_late: u64,
    /// Packets that came again, or for a layer that does not exist.
    pub packets_refused: u64,
    /// Consumers being served, or waiting only for a key frame.
    pub active_consumers: usize,
    /// All consumers, connected or not.
    pub consumers: usize,
    /// Size of the last frame.
    pub resolution: Option<Resolution>,
    /// Codec of the last frame.
    pub codec: Option<MediaCodec>,
    /// Nothing of it is forwarded.
    pub paused: bool,
    /// The layers that its source can send.
    pub sending: LayerSet,
    /// Its spatial layers, the smallest first.
    pub layers: Vec<ProducerLayerStats>,
}

/// What is known of one spatial layer of a producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerLayerStats {
    /// Frames received.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Packets received.
    pub packets: u64,
    /// Payload bytes of those packets.
    pub bytes: u64,
    /// Size of the last frame that told it.
    pub resolution: Option<Resolution>,
}
