//! A network in virtual time, to try congestion control on: links, and those who send over them.
//!
//! Everything is a state machine without I/O and without a clock: time is an argument, and only differences of times count. Every
//! random number comes from a seed that is handed in. The same calls give the same results to the last bit, on any machine.

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
