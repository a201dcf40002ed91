//! Why something could not be done: one type for each operation.

use lenscast_media::Ssrc;
use thiserror::Error;

use crate::{ConsumerId, OutletId, ProducerId, ProducerKey, RouterId, TransportId};

/// Why a router could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateRouterError {
    /// There is one of this name.
    #[error("{0} exists already")]
    Exists(RouterId),
}

/// Why a transport could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CreateTransportError {
    /// No such router, or it is closed.
    #[error("{0} does not exist")]
    UnknownRouter(RouterId),
    /// There is one of this name.
    #[error("{0} exists already")]
    Exists(TransportId),
}

/// Why a producer could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// No such transport, or it is closed.
    #[error("{0} does not exist")]
    UnknownTransport(TransportId),
    /// The router has a producer of this name.
    #[error("{0} exists already")]
    Exists(ProducerKey),
    /// None, or too many.
    #[error("a producer has {max} encodings at most and one at least, not {0}", max = crate::ProducerParameters::MAX_ENCODINGS)]
    Encodings(usize),
    /// Another producer of the transport, or another encoding, is sent with this source.
    #[error("SSRC {0} is taken")]
    DuplicateSsrc(Ssrc),
    /// Two encodings have one name.
    #[error("two encodings have the RID {0}")]
    DuplicateRid(crate::Rid),
    /// Of several encodings, this one has neither a source nor a name: its packets could not be told from the others'.
    #[error("encoding {0} has neither an SSRC nor a RID")]
    UnnamedEncoding(usize),
    /// A source in this process feeds direct transports only, and RTP all others.
    #[error("{0} is of another kind than the producer's source")]
    WrongTransport(TransportId),
    /// A stream that is received needs a payload type, one from a local source has none.
    #[error("the payload type is missing, or there is one where none can be")]
    PayloadType,
}

/// Why a mirror could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenMirrorError {
    /// No such router, or it is closed.
    #[error("{0} does not exist")]
    UnknownRouter(RouterId),
    /// The router has this producer, or a mirror of it.
    #[error("{0} exists already")]
    Exists(ProducerKey),
    /// The producer has closed before it was attached.
    #[error("{0} has closed")]
    Closed(ProducerId),
}

/// Why a mirror could not be attached to a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No such producer, or it is closed.
    #[error("{0} does not exist")]
    UnknownProducer(ProducerKey),
    /// There is one of this name.
    #[error("{0} exists already")]
    Exists(OutletId),
    /// The producer has a mirror on that router, or is there itself.
    #[error("{producer} is on {destination} already")]
    AlreadyThere {
        /// Which.
        producer: ProducerKey,
        /// Where.
        destination: RouterId,
    },
    /// The destination's channel is full or closed.
    #[error("the channel to {0} takes nothing")]
    NoRoom(RouterId),
}

/// Why a consumer could not be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The transport's router has no such producer, or it is closed.
    #[error("{0} does not exist")]
    UnknownProducer(ProducerId),
    /// No such transport, or it is closed.
    #[error("{0} does not exist")]
    UnknownTransport(TransportId),
    /// There is one of this name.
    #[error("{0} exists already")]
    Exists(ConsumerId),
    /// The transport already sends a stream from this source.
    #[error("{transport} already sends SSRC {ssrc}")]
    DuplicateSsrc {
        /// The transport.
        transport: TransportId,
        /// The source.
        ssrc: Ssrc,
    },
}

/// There is no such router, or it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} does not exist")]
pub struct UnknownRouter(pub RouterId);

/// There is no such transport, or it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} does not exist")]
pub struct UnknownTransport(pub TransportId);

/// There is no such producer, or it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} does not exist")]
pub struct UnknownProducer(pub ProducerKey);

/// There is no such consumer, or it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} does not exist")]
pub struct UnknownConsumer(pub ConsumerId);

/// Why a producer of a mirror cannot be paused or resumed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PauseProducerError {
    /// No such producer, or it is closed.
    #[error("{0} does not exist")]
    UnknownProducer(ProducerKey),
    /// It is a mirror: only its home worker changes its state.
    #[error("{0} is a mirror")]
    Mirror(ProducerKey),
}

/// Why a datagram's RTP packet went no further. The receiver counts its own reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandleRtpError {
    /// No such transport, or it is closed, or not connected.
    #[error("{0} does not exist")]
    UnknownTransport(TransportId),
    /// It is no RTP.
    #[error("no RTP packet")]
    Malformed,
    /// It belongs to no producer of the transport.
    #[error("no producer for SSRC {0}")]
    UnknownSource(Ssrc),
    /// The producer's receiver refused it.
    #[error("refused by the receiver")]
    Refused,
}
