//! The I/O around the router: one UDP port, ICE-lite, DTLS, SRTP, and the SDP that sets a viewer's session up.
//!
//! ```text
//! offer ─▶ ViewerOffer ─▶ TransportServer::create_session ─▶ answer          (any thread)
//!                               │ Directory: pending until the first check
//! UDP ─▶ Sockets ─▶ Hub ─▶ Session (ICE, DTLS, SRTP) ─▶ router ─▶ Hub ─▶ Sockets ─▶ UDP   (one thread a worker)
//! encode task ─▶ BurstSender ─────────────────────────────▶ ┘
//! ```
//!
//! **Invariants.** Only a viewer that has proved, by an authentic check, to own the session's credentials is answered
//! more than an error, and only one that has proved to own the offer's certificate is sent media. No lock is taken on
//! the packet path, but for checks that name a user fragment their worker does not know. Every datagram that is dropped is counted by its reason.
//!
//! What it does not do: gather candidates, ICE over TCP, media from viewers, divide bandwidth among viewers (it reports what
//! each path carries, and does as it is told), and sending again over plain RTP what was lost on its way out.

#![deny(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod background;
mod candidate;
mod catalog;
mod directory;
mod dtls;
mod dtls_record;
mod elsewhere;
mod fingerprint;
mod flood_guard;
mod forwarding_cost;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hub;
mod ice;
mod leg;
mod nudges;
pub mod object;
mod offer;
mod outbox;
mod pipe;
mod plain;
mod play_request;
mod playing;
mod port;
mod publish_request;
mod publishing;
mod purpose;
mod send_batch;
mod server;
mod session;
mod socket;
mod source;
mod srtp;
mod stats;
mod time_slice;
mod worker;

pub use candidate::Candidate;
pub use dtls::{Certificate, DtlsError, MAX_HANDSHAKE_BYTES, MakeCertificateError};
pub use fingerprint::{Fingerprint, ParseFingerprintError};
pub use forwarding_cost::ForwardingCost;
pub use ice::{IceCredentials, Path};
pub use leg::{LegMedia, LegPlan, LegReport, LegStats};
pub use lenscast_router::Upstream;
pub use offer::{MAX_CAMERAS, MAX_OFFER_BYTES, OfferError, PublisherOffer, ViewerOffer};
pub use pipe::{
    ConnectPipeError, ConnectedPipe, CreatePipeError, PipeKeys, PipeOffer, PipeProducer, PipeState, PipedEncoding,
    PipedProducer,
};
pub use plain::{
    ConnectPlainTransportError, ConsumePlainError, CreatePlainTransportError, CreatedPlainTransport, PlainConsumer,
    PlainConsumerOptions, PlainProducer, PlainTransportOptions, SrtpParameters,
};
pub use play_request::{PlayRequest, PlayedVideo, PreferredLayers};
pub use playing::CreateSessionError;
pub use port::WorkerGone;
pub use publish_request::{CreatePublisherError, CreatedPublisher, PublishRequest, PublishedProducer};
pub use server::{
    CreatedSession, IceRestart, SessionEvent, SessionState, StartTransportError, TransportConfig, TransportServer,
};
pub use session::{CloseCause, Timeouts};
pub use source::BurstSender;
pub use srtp::{
    OpenSrtcpError, OpenSrtpError, ProtectionProfile, RtpSealer, SrtpKeyError, SrtpReceiver, SrtpSender, client_keys,
    master_keys, server_keys,
};
pub use stats::{
    DropStats, ObjectCounts, PipeDropStats, SessionConsumer, SessionStats, SocketStats, TransportStats, WorkerStats,
};
