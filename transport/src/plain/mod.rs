//! Plain RTP: for whatever speaks RTP over UDP without ICE, such as FFmpeg and GStreamer.
//!
//! ```text
//! UDP ─▶ receiving task ─▶ batches ─▶ Hub ─▶ PlainLeg (peer, SRTP) ─▶ router ─▶ PlainLeg ─▶ UDP
//! ```
//!
//! Each transport has a socket of its own, or two with RTCP on the next port. The task that reads them runs on its
//! worker's thread and hands over what it has read before it reads on: what comes meanwhile waits in the system's
//! buffer, which is as much as a flood can fill.

use std::net::SocketAddr;
use std::time::Duration;

use lenscast_media::{MediaCodec, Ssrc};
use lenscast_router::{ConsumeError, ConsumerId, PayloadType, ProducerId, TransportId};
use thiserror::Error;

use crate::{ProtectionProfile, PublishedProducer};

mod leg;
mod serving;
mod sockets;
#[cfg(test)]
mod tests;

pub(crate) use leg::{Heard, PlainLeg, PlainSetup};
pub(crate) use sockets::Received;

/// How a plain RTP transport is set up.
#[derive(Debug, Clone)]
pub struct PlainTransportOptions {
    /// Where to listen; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Whom to send to and receive from; `None` to learn it from the first packet that is acceptable ("comedia"), or be
    /// told by [`TransportServer::connect_plain_transport`](crate::TransportServer::connect_plain_transport).
    pub remote: Option<SocketAddr>,
    /// True if RTCP shares RTP's port (RFC 5761). If not, RTCP has the next one, here and there; a peer that is learned may
    /// send it from any.
    pub rtcp_mux: bool,
    /// How packets are protected; `None` for not at all.
    pub srtp: Option<SrtpParameters>,
    /// What the peer sends.
    pub produce: Vec<PlainProducer>,
    /// A peer that has been heard, and then is silent for this long, is gone, and the transport with it; `None` to wait
    /// for ever.
    pub silence: Option<Duration>,
}

/// A stream that the peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainProducer {
    /// What it is encoded in.
    pub codec: MediaCodec,
    /// The payload type of its packets, which no other stream of the transport has.
    pub payload_type: PayloadType,
    /// Its source; `None` for that of the first packet of the payload type.
    pub ssrc: Option<Ssrc>,
}

/// Keys of both directions, agreed on outside.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpParameters {
    /// The cipher suite.
    pub profile: ProtectionProfile,
    /// Master key and salt of what we send, one behind the other.
    pub local: Vec<u8>,
    /// Master key and salt of what the peer sends.
    pub remote: Vec<u8>,
}

/// A plain RTP transport that listens. It ends by
/// [`TransportServer::close_session`](crate::TransportServer::close_session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedPlainTransport {
    /// Which.
    pub id: TransportId,
    /// Where it receives RTP, and RTCP if multiplexed.
    pub rtp: SocketAddr,
    /// Where it receives RTCP, if not multiplexed.
    pub rtcp: Option<SocketAddr>,
    /// What the peer sends, in the order of the options. These can be played from
    /// [`SessionState::Published`](crate::SessionState::Published) on: when the first packet has come.
    pub producers: Vec<PublishedProducer>,
}

/// How a stream is sent to the peer of a plain RTP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainConsumerOptions {
    /// The stream.
    pub producer: ProducerId,
    /// The payload type that its packets get.
    pub payload_type: PayloadType,
    /// The source that they get; `None` for a random one.
    pub ssrc: Option<Ssrc>,
}

/// A stream that is sent to the peer of a plain RTP transport, once that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainConsumer {
    /// Which.
    pub id: ConsumerId,
    /// The source of its packets.
    pub ssrc: Ssrc,
}

/// Why a plain RTP transport could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreatePlainTransportError {
    /// The address could not be bound.
    #[error("cannot listen on UDP {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The keys do not fit the suite.
    #[error(transparent)]
    Keys(#[from] crate::SrtpKeyError),
    /// Nothing can be sent to the peer's address: its port is 0, or its family another than ours.
    #[error("UDP {0} cannot be sent to")]
    Remote(SocketAddr),
    /// Two streams cannot be told apart.
    #[error("payload type {0} is there twice")]
    PayloadType(PayloadType),
    /// The router does not take a stream.
    #[error(transparent)]
    Produce(#[from] lenscast_router::ProduceError),
    /// There are as many sessions as are allowed.
    #[error("all {0} sessions are in use")]
    Full(usize),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// Why a plain RTP transport was not given a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectPlainTransportError {
    /// There is no such plain transport, or it has ended.
    #[error("there is no plain transport {0:?}")]
    Unknown(TransportId),
    /// It has one.
    #[error("plain transport {0:?} has a peer, {1}")]
    Connected(TransportId, SocketAddr),
    /// Nothing can be sent there: its port is 0, or its family another than ours.
    #[error("UDP {0} cannot be sent to")]
    Remote(SocketAddr),
}

/// Why a stream is not sent over a plain RTP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConsumePlainError {
    /// There is no such plain transport, or it has ended.
    #[error("there is no plain transport {0:?}")]
    Unknown(TransportId),
    /// The router refuses.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

impl std::fmt::Debug for SrtpParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpParameters").field("profile", &self.profile).finish_non_exhaustive()
    }
}
