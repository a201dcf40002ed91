//! VP8, VP9 and H.264 encoders behind one trait, made for live video: no lag, one thread each, a bitrate that can
//! change between any two frames, and key frames only when somebody needs one.
//!
//! ```text
//! EncoderSettings ─▶ build ─▶ Box<dyn VideoEncoder> ─▶ encode(picture, timing, key frame?) ─▶ EncodedFrame, or None
//!                                                   └▶ set_bitrate
//! ```
//!
//! | [`Backend`] | library | rate change | key frame on demand | lag |
//! |---|---|---|---|---|
//! | `vp8`, `vp9` | libvpx, by a wrapper of ours | in place | in place | none |
//! | `h264` | openh264 | in place | in place | none |
//! | `vpx-encode` | libvpx's VP8, by the crate `vpx-encode` | rebuilds | rebuilds | none |
//!
//! The features `vpx` and `h264` bring the libraries in, both by default. Without them the trait, the settings and the
//! errors still build, and [`build`] says which feature is missing.
//!
//! **Invariants.**
//!
//! - No input panics: not a picture of the wrong size, not a timestamp that runs backwards, not an absurd rate.
//! - The first frame that comes out is a key frame. After it a key frame comes out only because one was asked for, or
//!   because the library had to be started anew: `vpx-encode` for a new target, openh264 after a frame of over 8 bits a
//!   pixel. And `vpx-encode` makes one of its own accord after 127 frames without: the crate leaves libvpx's `kf_mode` at
//!   `VPX_KF_AUTO` and its `kf_max_dist` at 128 (`vp8/vp8_cx_iface.c`).
//! - A key frame that was asked for is the next frame that comes out, even if the rate control drops some before.
//! - Frames of the upper [`TemporalLayers`] can be left out, from the top, and what remains decodes to the same pictures.
//!
//! What it does not do: choose targets, scale pictures, or make packets.

#![deny(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod backend;
mod error;
mod frame_timing;
mod settings;
mod temporal_layers;
mod video_encoder;

#[cfg(any(feature = "vpx", feature = "h264"))]
mod frame_budget;
#[cfg(any(feature = "vpx", feature = "h264"))]
mod frame_clock;
#[cfg(feature = "h264")]
mod h264;
#[cfg(any(feature = "vpx", feature = "h264"))]
mod key_frame_size;
#[cfg(any(feature = "vpx", feature = "h264"))]
mod live_encoder;
#[cfg(feature = "vpx")]
mod vpx;
#[cfg(feature = "vpx")]
mod vpx_encode;

pub use backend::{Backend, ParseBackendError};
pub use error::{BuildEncoderError, EncodeError};
pub use frame_timing::FrameTiming;
pub use settings::{BITRATES, EncoderSettings, FRAMERATES};
pub use temporal_layers::TemporalLayers;
pub use video_encoder::{VideoEncoder, build};
