use lenscast_media::LayerSet;

/// What a producer is doing, as its home worker says it: whole and versioned, so that it can be told again and in any
/// order. The highest version wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    /// Grows with every change.
    pub version: u64,
    /// Received, but not forwarded.
    pub paused: bool,
    /// Ended. Nothing follows.
    pub closed: bool,
    /// The layers that come, or would come if they were wanted. One that is missing cannot be had now although it is
    /// wanted.
    pub sending: LayerSet,
}
