//! Camera, pattern and file sources, and the frame buffer they feed.
//!
//! A source captures on its own thread, stamps each frame with its capture time, converts it to I420 and puts it into a
//! [`FrameBuffer`], where the newest wins. See [`Source::start`].
//!
//! **Invariants.** Nothing here blocks on whoever takes the frames. Trouble with a device, file or helper program
//! degrades a source, never ends it, and never touches another. No frame is lost without being counted.
//!
//! What it does not do: encode, or know of tracks and viewers.

#![warn(clippy::print_stdout, clippy::print_stderr)]

// A loom model needs the frame buffer alone, and builds faster without the rest.
#[cfg(not(lenscast_loom))]
mod backoff;
#[cfg(not(lenscast_loom))]
mod burn_in;
#[cfg(all(feature = "camera", not(lenscast_loom)))]
mod camera;
mod camera_config;
#[cfg(not(lenscast_loom))]
mod ffmpeg;
#[cfg(not(lenscast_loom))]
mod file_source;
mod frame_buffer;
mod frame_rate;
#[cfg(not(lenscast_loom))]
mod outlet;
#[cfg(not(lenscast_loom))]
mod pattern;
#[cfg(not(lenscast_loom))]
mod pattern_source;
#[cfg(not(lenscast_loom))]
mod range;
#[cfg(not(lenscast_loom))]
mod scaler;
#[cfg(not(lenscast_loom))]
mod schedule;
#[cfg(not(lenscast_loom))]
mod source;
#[cfg(not(lenscast_loom))]
mod status;
#[cfg(not(lenscast_loom))]
mod stop_signal;
#[cfg(not(lenscast_loom))]
mod y4m;

#[cfg(all(feature = "camera", not(lenscast_loom)))]
pub use camera::{
    CameraListing, DecodeFrameError, Interval, IntervalRange, ListedFormat, ListedSize, MjpegDecoder, SizeRange, Steps,
    list_cameras, nv12_to_i420, yuyv_to_i420,
};
pub use camera_config::{CameraConfig, CameraSelector, ParseCameraSelectorError, PixelFormat};
pub use frame_buffer::{Closed, FrameBuffer, FrameBufferCounters, Put};
pub use frame_rate::FrameRate;
#[cfg(not(lenscast_loom))]
pub use {
    burn_in::BurnIn,
    pattern::Pattern,
    scaler::Scaler,
    source::{Source, SourceConfig, SourceHandle, StartSourceError},
    status::{SourceCounters, SourceState, SourceStatus},
    y4m::{OpenY4mError, ReadY4mFrameError, Y4mHeader, Y4mReader},
};
