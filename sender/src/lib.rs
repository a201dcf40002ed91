//! Tracks: from a camera's frame buffer to bursts of RTP payloads, one encode task each.
//!
//! ```text
//! FrameBuffer ─▶ encode task ─▶ VideoEncoder of each layer ─▶ Packetizer ─▶ Burst ─▶ BurstSink
//!                    ▲ TrackControl: demand, key frame requests, targets
//!                    │
//! weights, limit, estimate, demand ─▶ allocation
//! ```
//!
//! # Locks, and their only order
//!
//! [`Sender::close`] and [`Sender::remove_track`]: `Sender::ending` → `Sender::tracks` (the table) → the allocation's state.
//! An encode task: `Track::encoder` → the frame buffer's slot, `Track::stats`. An allocation: its state; then, holding
//! nothing else, `Track::encoder` of one track after the other in ascending [`TrackId`](lenscast_media::TrackId). Encode
//! tasks never take the table: each owns an `Arc` of its track.
//!
//! - **L1** Whoever holds a guard waits for nothing but a lock further down the order; `ending` alone is held across joins,
//!   and no task takes it. The table's guard is held to look up, to insert, and to start a thread; the allocation's state
//!   to compute and to publish. An encoder is built while its builder holds none. `encoder`, for reading, and the mutexes in
//!   it, which only the task takes, are held across
//!   [`VideoEncoder::encode`](lenscast_encoder::VideoEncoder::encode) and [`BurstSink::deliver`]. The first takes some
//!   milliseconds and no lock, also where it starts its library anew (openh264 after a frame that it gives up on,
//!   `vpx-encode` for a key frame); the second must not block.
//! - **L2** An encode holds `encoder` for reading from taking its frame to handing on the burst. A swap holds it for
//!   writing for a pointer exchange only. So a swap waits at most for that track's frame, and for no other track.
//! - **L3** Only a track's own encode task takes frames from its buffer and calls its encoders. No packet of a replaced
//!   encoder follows one of its successor.
//! - **L4** An allocation is all or nothing: every encoder that it needs has been built before anything changes.
//! - **L5** After [`Sender::close`] returns, no task runs, nothing is emitted, and every later call says `Closed`; tracks
//!   that another thread is removing have ended too.
//!
//! What it does not do: capture, estimate what the network carries, or send.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod adaptation;
mod allocations;
mod ceilings;
mod clock;
mod control;
mod cpu_watch;
mod encode_task;
mod failures;
mod frame_limiter;
mod health;
mod layer_task;
#[cfg(all(test, lenscast_loom))]
mod models;
mod packetizer;
mod rate_tracker;
mod scaling;
mod sender;
mod share;
mod simulcast;
mod sink;
mod source_rate;
mod stats;
mod stepping;
mod stream_clock;
mod track;

pub use adaptation::{DegradationPreference, ParseDegradationPreferenceError};
pub use allocations::{AllocationReport, AllocationRequest, AllottedTrack, OVERHEAD, SetAllocationError};
pub use control::{Demand, TrackControl};
pub use encode_task::Build;
pub use health::Health;
pub use lenscast_congestion::{MAX_LAYERS, ShareState};
pub use packetizer::{MAX_PAYLOAD, Packetizer};
pub use sender::{AddTrackError, Closed, SendFrameError, Sender};
pub use share::{DEFAULT_MIN, ShareChange, ShareError, TrackShare, WEIGHTS};
pub use sink::BurstSink;
pub use stats::{LayerStats, LimitationReason, QualityLimitation, TrackState, TrackStats};
pub use track::{Track, TrackConfig};
