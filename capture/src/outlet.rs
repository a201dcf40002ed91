use std::time::Instant;

use lenscast_media::sync::Arc;
use lenscast_media::{Frame, Picture};

use crate::status::StatusBoard;
use crate::{Closed, FrameBuffer, Put};

/// Where a source's frames go, and where it says so.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    buffer: Arc<FrameBuffer<Frame>>,
    board: Arc<StatusBoard>,
}

impl Outlet {
    pub(crate) const fn new(buffer: Arc<FrameBuffer<Frame>>, board: Arc<StatusBoard>) -> Self {
        Self { buffer, board }
    }

    pub(crate) fn board(&self) -> &StatusBoard {
        &self.board
    }

    /// Puts a picture into the buffer and notes it.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the buffer was closed: the source is to end.
    pub(crate) fn deliver(
        &self,
        picture: std::sync::Arc<Picture>,
        number: u64,
        captured: Instant,
    ) -> Result<(), Closed> {
        let resolution = picture.resolution();
        let ready = Instant::now();
        let put = self.buffer.put(Frame { picture, number, captured, ready })?;
        self.board.frame(resolution, ready, put == Put::Evicted);
        Ok(())
    }
}
