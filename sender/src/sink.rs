use std::sync::Arc;

use lenscast_media::Burst;

/// Where a track's bursts go. Called from its encode task while that holds its encoder (L2): it must neither block nor ask
/// anything of the [`Sender`](crate::Sender).
pub trait BurstSink: Send + Sync {
    /// Takes the packets of a frame of one spatial layer, 0 for the smallest. False if somebody who wanted them did not get
    /// them.
    #[must_use]
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool;
}
