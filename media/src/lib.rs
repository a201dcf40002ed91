//! The vocabulary that every part of lenscast shares: frames on their way in, bursts of packets on their way out, and
//! the bitrates, identifiers and times they carry.
//!
//! **Invariants.** Nothing here does I/O, starts a thread or reads a clock. No bare integer stands for a bitrate, an
//! identifier or a time outside this crate.
//!
//! What it does not do: encode, packetize or send. It only names what passes between those who do.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod bitrate;
mod burst;
mod codec;
mod encoded_frame;
mod frame;
mod histogram;
mod id;
mod layer_set;
mod picture;
mod resolution;
mod stages;
pub mod sync;
mod time;

pub use bitrate::Bitrate;
pub use burst::{Burst, BurstMeta, BurstPool, OpenBurst, PassedExtensions};
pub use codec::{Codec, MediaCodec};
pub use encoded_frame::EncodedFrame;
pub use frame::{Frame, StageTimes};
pub use histogram::{Histogram, HistogramSnapshot};
pub use id::{Ssrc, TrackId};
pub use layer_set::LayerSet;
pub use picture::{Picture, PicturePool, Planes, PlanesMut};
pub use resolution::Resolution;
pub use stages::StageHistograms;
pub use time::{NtpTime, RtpTime, VIDEO_CLOCK_RATE, WallClock};
