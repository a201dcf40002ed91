use lenscast_media::Ssrc;

use crate::{ConsumerId, HeaderExtensions, Layers, PayloadType, Priority, TransportId};

/// How one viewer is to get a producer's stream.
#[derive(Debug, Clone)]
pub struct ConsumerParameters {
    /// The consumer's name in the router.
    pub id: ConsumerId,
    /// Where it sends to.
    pub transport: TransportId,
    /// The source of the media packets. Unique within the transport.
    pub ssrc: Ssrc,
    /// What the viewer calls the codec.
    pub payload_type: PayloadType,
    /// How lost packets are sent again; without it they are not.
    pub rtx: Option<RtxParameters>,
    /// The header extensions the viewer understands.
    pub extensions: HeaderExtensions,
    /// Canonical name (RFC 7022) that ties the viewer's streams together.
    pub cname: String,
    /// Random start of the sequence; below 2¹⁵, so that SRTP's first guess of the rollover counter cannot be wrong.
    pub initial_sequence: u16,
    /// The same for retransmissions.
    pub initial_rtx_sequence: u16,
    /// Random start of the timestamps.
    pub timestamp_offset: u32,
    /// The layers to send while they can be had and the bandwidth allows them.
    pub preferred_layers: Layers,
    /// How much it matters beside the transport's other consumers.
    pub priority: Priority,
    /// Begins paused.
    pub paused: bool,
}

/// A retransmission stream (RFC 4588).
#[derive(Debug, Clone, Copy)]
pub struct RtxParameters {
    /// Its source. Unique within the transport.
    pub ssrc: Ssrc,
    /// Its payload type.
    pub payload_type: PayloadType,
}
