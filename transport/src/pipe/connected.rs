use lenscast_media::MediaCodec;
use lenscast_router::{ProducerId, TransportId};
use thiserror::Error;

/// The edge's end of a pipe. Ends by [`TransportServer::close_session`](crate::TransportServer::close_session).
///
/// Its producers outlive its connection: when that is lost, which
/// [`SessionState::Lost`](crate::SessionState::Lost) tells, they send nothing until
/// [`TransportServer::reconnect_pipe`](crate::TransportServer::reconnect_pipe) has given it another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedPipe {
    /// Which.
    pub id: TransportId,
    /// What it receives, in the order of the offer.
    pub producers: Vec<PipeProducer>,
}

/// A producer of an origin, as the edge has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PipeProducer {
    /// Its name here.
    pub id: ProducerId,
    /// Its name at the origin.
    pub origin: ProducerId,
    /// What it carries.
    pub codec: MediaCodec,
    /// Its spatial layers.
    pub layers: u8,
}

/// What there is to know of an edge's end of a pipe beside its packets: those come only while somebody wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipeState {
    /// The origin has not answered yet.
    Connecting,
    /// It is there.
    Connected {
        /// It holds its producers up.
        paused: bool,
    },
    /// Nothing comes from it any more.
    Lost,
}

/// Why an origin could not offer a pipe.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreatePipeError {
    /// No producer is named, or more than a pipe carries.
    #[error("a pipe carries 1 to {max} producers, not {0}", max = super::MAX_PIPED_PRODUCERS)]
    Producers(usize),
    /// No such producer.
    #[error("{0} does not exist")]
    UnknownProducer(ProducerId),
    /// There are as many sessions as are allowed.
    #[error("all {0} sessions are in use")]
    Full(usize),
    /// The system does not tell our addresses.
    #[error("cannot list this host's addresses: {0}")]
    Addresses(std::io::Error),
}

/// Why an edge could not take a pipe up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectPipeError {
    /// The offer cannot be used.
    #[error("the pipe's offer {0}")]
    Offer(&'static str),
    /// It offers other producers than the one before it.
    #[error("the origin's producers are others than before")]
    Changed,
    /// The pipe has ended.
    #[error("{0} does not exist")]
    Unknown(TransportId),
    /// No socket could be had.
    #[error("cannot open a UDP socket: {0}")]
    Socket(std::io::Error),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}
