//! Everything that is needed to receive RTP from a publisher.
//!
//! ```text
//! datagram ─▶ RtpPacket::read ─▶ ExtensionReader::read ─▶ Receiver::handle_rtp ─▶ Receiver::take_bursts ─▶ router
//!                                        └▶ TransportFeedback                └▶ NACK, PLI, reports (write_feedback)
//! ```
//!
//! **Invariants.** No clock and no I/O; no allocation for a packet once a stream runs steadily; bounded memory; nothing that
//! comes in can make it panic. What is not taken is counted.
//!
//! What it does not do: decrypt, find out which producer a packet belongs to before its source is known, or pace.

mod bit_reader;
mod extensions;
mod gatherer;
mod h264;
mod key_frame_request;
mod nack_generator;
mod payload;
mod publisher_clock;
mod received_stream;
mod receiver;
mod reception;
mod rtp_packet;
mod sequence_window;
mod stats;
mod transport_feedback;
mod vp9;

#[cfg(fuzzing)]
pub(crate) use h264::H264Payload;
#[cfg(fuzzing)]
pub(crate) use vp9::Vp9Descriptor;

pub use extensions::{Elements, ExtensionReader, ExtensionValues, HeaderExtensionBytes};
pub use publisher_clock::PublisherClock;
pub(crate) use receiver::CNAME;
pub use receiver::{ReceivedBurst, Receiver, Refused};
pub use rtp_packet::{ReadRtpError, RtpPacket};
pub use stats::{ReceivedLayerStats, RefusedCounts};
pub use transport_feedback::TransportFeedback;

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
