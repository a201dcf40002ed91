//! Pipes to routers of other machines: a stream travels once however many viewers the other machine has.
//!
//! The *origin* has the stream and answers on its one UDP port, as for viewers; the *edge* wants it and connects from a
//! socket of its own, so that only the origin need be reachable. What DTLS is to viewers, a [`PipeOffer`] is here: it goes
//! from the origin to the edge by a channel that is secret (HTTPS), and holds ICE credentials and SRTP keys.

mod checks;
mod client;
mod connected;
mod control;
mod drops;
mod edge;
mod layer_sender;
mod offer;
mod origin;
mod serving;
#[cfg(test)]
mod tests;

use lenscast_router::{ExtensionId, Rid};

pub use connected::{ConnectPipeError, ConnectedPipe, CreatePipeError, PipeProducer, PipeState};
pub(crate) use drops::PipeDrops;
pub(crate) use layer_sender::WritePacket;
pub use offer::{PipeKeys, PipeOffer, PipedEncoding, PipedProducer};
pub(crate) use origin::{PipeOrigin, PipeSetup};
pub(crate) use serving::Edges;

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

/// For fuzzing: true if `data` is taken for the answer to a check.
#[cfg(fuzzing)]
pub(crate) fn is_answered(
    credentials: crate::IceCredentials,
    from: std::net::SocketAddr,
    data: &[u8],
    crypto: std::sync::Arc<dyn rtc_crypto::RTCCryptoProvider>,
) -> bool {
    let now = std::time::Instant::now();
    let mut checks = checks::Checks::new(credentials, "edge".to_owned(), vec![from], crypto, now);
    checks.poll(now).expect("the first is due at once");
    checks.handle_response(now, from, data).is_some()
}

/// For fuzzing: reads a message and writes it again.
#[cfg(fuzzing)]
pub(crate) fn read_control(data: &[u8]) {
    use lenscast_router::rtcp::{self, Compound, Packet};
    for packet in rtcp::read(data).map_while(Result::ok) {
        let Packet::Application(application) = packet else { continue };
        let Some(control) = control::Control::read(&application) else { continue };
        let mut compound = Compound::new();
        control.write(lenscast_media::Ssrc(1), &mut compound);
        let Some(Ok(Packet::Application(written))) = rtcp::read(compound.as_bytes()).next() else { panic!() };
        assert_eq!(control::Control::read(&written), Some(control));
    }
}
