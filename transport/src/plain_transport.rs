//! Plain RTP: for whatever speaks RTP over UDP without ICE, such as FFmpeg and GStreamer.

use std::net::SocketAddr;

use lenscast_router::TransportId;
use thiserror::Error;

use crate::ProtectionProfile;

/// How a plain RTP transport is set up.
#[derive(Debug, Clone)]
pub struct PlainTransportOptions {
    /// Where to listen; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Whom to send to and receive from; `None` to learn it from the first packet that is acceptable ("comedia").
    pub remote: Option<SocketAddr>,
    /// True if RTCP shares RTP's port (RFC 5761). If not, RTCP has the next one, here and there.
    pub rtcp_mux: bool,
    /// How packets are protected; `None` for not at all.
    pub srtp: Option<SrtpParameters>,
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

/// A plain RTP transport that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedPlainTransport {
    /// Which.
    pub id: TransportId,
    /// Where it receives RTP, and RTCP if multiplexed.
    pub rtp: SocketAddr,
    /// Where it receives RTCP, if not multiplexed.
    pub rtcp: Option<SocketAddr>,
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
    /// There are as many sessions as are allowed.
    #[error("all {0} sessions are in use")]
    Full(usize),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// Nothing of it but its options is there yet.
    #[error("plain RTP is not there yet")]
    NotYet,
}

impl std::fmt::Debug for SrtpParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpParameters").field("profile", &self.profile).finish_non_exhaustive()
    }
}
