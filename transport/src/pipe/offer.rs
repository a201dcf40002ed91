use std::fmt;
use std::net::SocketAddr;

use lenscast_media::{MediaCodec, Ssrc};
use lenscast_router::{ExtensionId, PayloadType, ProducerId, TransportId};

use crate::IceCredentials;

/// What an edge must know to receive producers of an origin. Good for one edge and one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeOffer {
    /// The origin's session: what it is closed by.
    pub session: TransportId,
    /// Drawn by the origin at its start: its state's versions mean nothing to those who know it under another.
    pub epoch: u64,
    /// The origin's ICE credentials.
    pub credentials: IceCredentials,
    /// How packets are protected, both ways.
    pub keys: PipeKeys,
    /// Where the origin can be reached, best first.
    pub candidates: Vec<SocketAddr>,
    /// What it will send.
    pub producers: Vec<PipedProducer>,
}

/// Master keys and salts of `SRTP_AEAD_AES_128_GCM` (RFC 7714), 16 and 12 bytes each. Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PipeKeys {
    /// Of what the origin sends.
    pub origin: [u8; 28],
    /// Of what the edge sends.
    pub edge: [u8; 28],
}

/// One producer of a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipedProducer {
    /// Its name in the origin, which control messages use.
    pub id: ProducerId,
    /// What it carries.
    pub codec: MediaCodec,
    /// How the pipe's packets name the codec.
    pub payload_type: PayloadType,
    /// How they name retransmissions (RFC 4588); `None` for audio.
    pub rtx_payload_type: Option<PayloadType>,
    /// Its spatial layers, the smallest first.
    pub encodings: Vec<PipedEncoding>,
    /// Temporal layers of each.
    pub temporal_layers: u8,
    /// The identifier of the extension `abs-capture-time`.
    pub absolute_capture_time: ExtensionId,
}

/// One spatial layer of a piped producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipedEncoding {
    /// The source of its packets.
    pub ssrc: Ssrc,
    /// The source of its retransmissions; `None` for audio.
    pub rtx_ssrc: Option<Ssrc>,
}

impl fmt::Debug for PipeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeKeys").finish_non_exhaustive()
    }
}
