use std::sync::Arc;

use lenscast_media::Burst;

/// Where a track's bursts go. Called from its encode task: it must not block.
pub trait BurstSink: Send + Sync {
    /// Takes a frame's packets. False if somebody who wanted them did not get them.
    #[must_use]
    fn deliver(&self, burst: &Arc<Burst>) -> bool;
}
