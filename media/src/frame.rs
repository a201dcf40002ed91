use std::sync::Arc;
use std::time::Instant;

use crate::Picture;

/// One picture of a camera, with the times that say how old it is.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The pixels. Shared: a frame is cloned without copying them.
    pub picture: Arc<Picture>,
    /// Counts the source's frames from zero; a gap is a frame that the source lost.
    pub number: u64,
    /// When the light fell: the device's own time where it gives one.
    pub captured: Instant,
    /// When the picture, converted to I420, was put into the frame buffer.
    pub ready: Instant,
}

/// Where a frame's time went, stage by stage. `sent` is not here: each worker learns it for itself.
#[derive(Debug, Clone, Copy)]
pub struct StageTimes {
    /// See [`Frame::captured`].
    pub captured: Instant,
    /// See [`Frame::ready`].
    pub ready: Instant,
    /// When the encode task took the frame out of the frame buffer.
    pub taken: Instant,
    /// When the last packet of the frame had been cut.
    pub encoded: Instant,
}
