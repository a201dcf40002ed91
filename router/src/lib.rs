//! The router without its I/O: producers, consumers, transports, and the RTP and RTCP that pass between them.
//!
//! A [`Worker`] owns all of it outright and is driven by one thread: it is told what came in (`handle_*`), and writes
//! what goes out to an [`Egress`] that its driver provides. It takes no lock, reads no clock and knows no socket.
//!
//! **Invariants.**
//! - Per consumer the RTP sequence is monotone without a gap, and a consumer that starts, starts with a key frame.
//! - A consumer's packets are copies of its producer's: nothing is encoded or packetized twice.
//! - Retransmissions of all consumers come from one buffer, the producer's.
//! - What a viewer sends can cost a bounded amount of work and memory only.
//!
//! What it does not do: encrypt, choose paths, or decide how much a viewer can take.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod consumer;
mod egress;
mod event;
mod history;
mod id;
mod producer;
pub mod rtcp;
mod rtp;
pub mod rtp_parameters;
mod sequence_runs;
mod stats;
mod worker;

pub use consumer::{ConsumerParameters, RtxParameters};
pub use egress::Egress;
pub use event::Event;
pub use id::{ConsumerId, ProducerId, TransportId};
pub use rtp::{ExtensionId, HeaderExtensions, Mid, PacketLayout, PayloadType, RtpPackets};
pub use stats::{ConsumerStats, ProducerStats};
pub use worker::{AddConsumerError, Worker};
