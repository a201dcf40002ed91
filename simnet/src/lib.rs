//! A network in virtual time, to try congestion control on: links, and those who send over them.
//!
//! Everything is a state machine without I/O and without a clock: time is an argument, and only differences of times count. Every
//! random number comes from a seed that is handed in. A driver moves time from one event to the next, so an hour takes as
//! long as its packets do, about half a microsecond each.
//!
//! - [`Network`] puts links one after the other and lets flows cross. A link has a capacity over time ([`Trace`]), a drop-tail
//!   queue limited in time or bytes ([`QueueLimit`]), a delay with [`Jitter`], [`Loss`], and marks if it is told to ([`Ecn`]).
//! - [`video::VideoSource`] is RFC 8593's statistical encoder, [`audio::Source`] audio at a constant rate.
//! - [`tcp`] is what media have to share links with: Reno and CUBIC, without end or in downloads.
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use lenscast_media::Bitrate;
//! use lenscast_simnet::{EcnCodepoint, FlowId, LinkConfig, Network, Packet, Route, Trace};
//!
//! let start = Instant::now();
//! let mut network = Network::new(start);
//! // 1 Mb/s for ten seconds, then half of it; 50 ms one way, and 300 ms of queue.
//! let capacity = Trace::steps(&[
//!     (Duration::ZERO, Bitrate::from_kbps(1_000)),
//!     (Duration::from_secs(10), Bitrate::from_kbps(500)),
//! ]);
//! let link = network.add_link(LinkConfig::new(capacity));
//! let route = Route::new(&[link]);
//! network.send(start, &route, Packet { flow: FlowId(0), size: 1_250, ecn: EcnCodepoint::NotEct, payload: "hello" });
//! while let Some(at) = network.poll_timeout() {
//!     network.handle_timeout(at);
//!     while let Some(delivered) = network.poll_delivered() {
//!         assert_eq!(delivered.arrived_at - start, Duration::from_millis(10 + 50));
//!     }
//! }
//! ```
//!
//! **Invariants.**
//! - The same calls give the same results to the last bit, in any build and on any machine: nothing is used of floating point
//!   that IEEE 754 does not fix, and no map whose order is not.
//! - What was offered to a link or by a flow was delivered, dropped or lost, or is under way ([`Counters`]).
//! - A link keeps the order of packets, and its queue its limit.
//! - What becomes of a packet does not depend on anything that happens later.
//! - Memory is bounded by the queues' limits and by what is on the wires.
//!
//! Where it is simpler than a network: a link serves one queue, first come, first served, and drops at its tail; it has neither
//! priorities nor active queue management but the marking above a threshold, no retransmission of its own, no cross
//! traffic in bursts below a packet. A packet belongs to the queue until all of it has left. Loss spends capacity,
//! as it does on the air.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod audio;
mod counters;
mod link;
mod loss;
mod network;
mod packet;
mod random;
pub mod tcp;
mod time;
mod trace;
pub mod video;

pub use counters::{Counters, Tally};
pub use link::{Ecn, Jitter, LinkConfig, QueueLimit};
pub use loss::Loss;
pub use network::{LinkId, Network, Route};
pub use packet::{Delivered, EcnCodepoint, FlowId, Packet};
pub use random::Random;
pub use trace::Trace;
