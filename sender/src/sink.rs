use std::sync::Arc;

use lenscast_media::Burst;

/// Where a track's bursts go. Called from its encode task while that holds its encoder (L2): it must not block. Of the
/// [`Sender`](crate::Sender) it may ask what waits for no encoder: reports, an update of the bitrate, a key frame. An allocation
/// may exchange the very encoder that is held, and the end of a track waits for its task: either would wait for itself.
pub trait BurstSink: Send + Sync {
    /// Takes the packets of a frame of one spatial layer, 0 for the smallest. False if somebody who wanted them did not get
    /// them.
    #[must_use]
    fn deliver(&self, layer: usize, burst: &Arc<Burst>) -> bool;
}
