//! Cameras over V4L2.
//!
//! A camera is opened, set to the nearest mode it offers, and read until it fails, stalls, is unplugged, or is to stop.
//! Then it is closed and opened again, looked up anew by what it was selected by: it comes back by itself, also under
//! another number.
//!
//! **Invariants.** No camera disturbs another, whatever it does: what panics underneath is contained. A device that stalls
//! is left after [`session`]'s bounds. Waiting for a frame ends at once when the source is stopped; a single request to
//! the driver ends when the kernel says so, after 5 s at most for a USB camera.
//!
//! What it does not do: controls (exposure, focus), cameras that only media-controller graphs can set up (Raspberry Pi's
//! own; libcamera is for those), multi-planar formats.

mod abi;
mod backend;
mod decode;
mod device;
mod listing;
mod mjpeg;
mod mode;
mod raw;
mod session;
mod stream;

use std::path::PathBuf;

use lenscast_media::PicturePool;
use lenscast_media::sync::Arc;

pub use decode::DecodeFrameError;
pub use listing::{CameraListing, ListedFormat, ListedSize, list_cameras};
pub use mjpeg::MjpegDecoder;
pub use mode::{Interval, IntervalRange, SizeRange, Steps};
pub use raw::{nv12_to_i420, yuyv_to_i420};

use crate::backoff::Backoff;
use crate::camera::session::{Sessions, Stopped};
use crate::outlet::Outlet;
use crate::stop_signal::StopSignal;
use crate::{CameraConfig, CameraSelector};

/// Captures from a camera until stopped, or until the buffer is closed.
pub(crate) fn run(config: &CameraConfig, outlet: &Outlet, stop: &Arc<StopSignal>) {
    let mut sessions = Sessions { config, outlet, stop, pool: PicturePool::new(), next_number: 0 };
    let mut backoff = Backoff::new();
    loop {
        let before = sessions.next_number;
        let error = match sessions.run() {
            Ok(Stopped) => return,
            Err(error) => error,
        };
        if error.is_stall() {
            outlet.board().stall();
        }
        outlet.board().degrade(&error.to_string());
        if sessions.next_number > before {
            backoff.reset();
        }
        let pause = if error.is_missing() { Backoff::FIRST } else { backoff.after_failure() };
        if stop.wait_for(pause) {
            return;
        }
    }
}

impl CameraSelector {
    /// The path to open. Symbolic links in it are followed when it is opened.
    fn path(&self) -> PathBuf {
        match self {
            Self::Index(index) => PathBuf::from(format!("/dev/video{index}")),
            Self::Path(path) => path.clone(),
            Self::ById(name) => PathBuf::from(listing::BY_ID).join(name),
        }
    }
}
