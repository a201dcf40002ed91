use crate::ProducerId;

/// What the router has to tell those who feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Event {
    /// A consumer cannot go on without a key frame. Repeats while it has none; the producer's side throttles.
    KeyFrameNeeded(ProducerId),
    /// The number of consumers that are being served, or wait only for a key frame, has changed.
    ActiveConsumers(ProducerId, usize),
}
