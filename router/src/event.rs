use crate::{ConsumerId, ConsumerScore, Layers, OutletId, ProducerId, ProducerKey, RouterId, Trace, TransportId};

/// What the router has to tell its surroundings.
///
/// **Invariant.** Each object ends exactly once, with exactly one cause, and nothing is told of it after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Event {
    /// A router ended.
    RouterClosed(RouterId, EndCause),
    /// A transport ended.
    TransportClosed(TransportId, EndCause),
    /// A producer or a mirror ended.
    ProducerClosed(ProducerKey, EndCause),
    /// A consumer ended.
    ConsumerClosed {
        /// Which.
        consumer: ConsumerId,
        /// Where it sent to.
        transport: TransportId,
        /// What it showed.
        producer: ProducerId,
        /// Why.
        cause: EndCause,
    },
    /// The way to a mirror ended.
    OutletClosed(OutletId, EndCause),
    /// A producer or a mirror is paused from now on.
    ProducerPaused(ProducerKey),
    /// It is no longer.
    ProducerResumed(ProducerKey),
    /// A consumer forwards other layers from now on; `None` if it forwards nothing.
    LayersChanged {
        /// Which.
        consumer: ConsumerId,
        /// Where it sends to.
        transport: TransportId,
        /// What it forwards now.
        layers: Option<Layers>,
    },
    /// A consumer's score is another from now on.
    ScoreChanged {
        /// Which.
        consumer: ConsumerId,
        /// Where it sends to.
        transport: TransportId,
        /// What it is now.
        score: ConsumerScore,
    },
    /// What was asked to be traced.
    Trace(Trace),
}

/// Why an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndCause {
    /// Somebody asked for it.
    Requested,
    /// What it showed ended.
    ProducerClosed,
    /// What it went over ended.
    TransportClosed,
    /// What it was in ended.
    RouterClosed,
    /// The thread that ran it ended.
    WorkerClosed,
    /// What it mirrored ended, or lets it have no more.
    OriginClosed,
    /// What it led to ended.
    MirrorClosed,
}
