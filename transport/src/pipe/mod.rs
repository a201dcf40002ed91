//! Pipes to routers of other machines: a stream travels once however many viewers the other machine has.
//!
//! The *origin* has the stream and answers on its one UDP port, as for viewers; the *edge* wants it and connects from a
//! socket of its own, so that only the origin need be reachable. What DTLS is to viewers, a [`PipeOffer`] is here: it goes
//! from the origin to the edge by a channel that is secret (HTTPS), and holds ICE credentials and SRTP keys.

mod connected;
mod offer;

pub use connected::{ConnectPipeError, ConnectedPipe, CreatePipeError, PipeProducer};
pub use offer::{PipeKeys, PipeOffer, PipedEncoding, PipedProducer};

/// A stream has a video and an audio producer; a pipe may carry several streams.
pub(crate) const MAX_PIPED_PRODUCERS: usize = 16;
