use std::sync::Arc;

use lenscast_media::Burst;

/// Where a track's bursts go. Called from its encode task while that holds its encoder (L2): it must neither block nor ask
/// anything of the [`Sender`](crate::Sender).
pub trait BurstSink: Send + Sync {
    /// Takes a frame's packets. False if somebody who wanted them did not get them.
    #[must_use]
    fn deliver(&self, burst: &Arc<Burst>) -> bool;
}
