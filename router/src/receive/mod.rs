//! Receives RTP from publishers.
mod bit_reader;
mod extensions;
mod h264;
mod key_frame_request;
mod nack_generator;
mod publisher_clock;
mod reception;
mod rtp_packet;
mod sequence_window;
mod transport_feedback;
mod vp9;

pub use extensions::{Elements, ExtensionReader, ExtensionValues, HeaderExtensionBytes};
pub use publisher_clock::PublisherClock;
pub use rtp_packet::{ReadRtpError, RtpPacket};
pub use transport_feedback::TransportFeedback;
