//! Pipes to routers of other machines: a stream travels once however many viewers the other machine has.
//!
//! The *origin* has the stream and answers on its one UDP port, as for viewers; the *edge* wants it and connects from a
//! socket of its own, so that only the origin need be reachable. What DTLS is to viewers, a [`PipeOffer`] is here: it goes
//! from the origin to the edge by a channel that is secret (HTTPS), and holds ICE credentials and SRTP keys.

mod connected;
mod control;
mod layer_sender;
mod offer;
mod origin;

use lenscast_router::{ExtensionId, Rid};

pub use connected::{ConnectPipeError, ConnectedPipe, CreatePipeError, PipeProducer};
pub(crate) use layer_sender::WritePacket;
pub use offer::{PipeKeys, PipeOffer, PipedEncoding, PipedProducer};
pub(crate) use origin::{PipeOrigin, PipeSetup};

/// A stream has a video and an audio producer; a pipe may carry several streams.
pub(crate) const MAX_PIPED_PRODUCERS: usize = 16;

/// The extensions that name a packet's layer (RFC 8852), beside the one that an offer names. A restarted origin has other
/// sources, but the same layers.
const RID_EXTENSION: ExtensionId = extension(13);
const REPAIRED_RID_EXTENSION: ExtensionId = extension(14);

const fn extension(id: u8) -> ExtensionId {
    ExtensionId::new(id).expect("it is one of 1 to 14")
}

/// The name of a layer in a pipe's packets.
fn layer_rid(layer: u8) -> Rid {
    Rid::new(&layer.to_string()).expect("digits make a name")
}
