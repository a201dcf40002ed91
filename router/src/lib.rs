//! The router without its I/O: producers, consumers, transports, and the RTP and RTCP that pass between them.
//!
//! A [`Worker`] owns all of it outright and is driven by one thread: it is told what came in (`handle_*`), and writes
//! what goes out to an [`Egress`] that its driver provides. It takes no lock, reads no clock and knows no socket.
//!
//! **Invariants.**
//! - Per consumer the RTP sequence is monotone, without a gap but for what was lost on the way here, and a consumer that
//!   starts or changes its spatial layer does so with a key frame.
//! - A consumer's packets are copies of its producer's: nothing is encoded or packetized twice.
//! - Retransmissions of all consumers come from one buffer for each of the producer's layers.
//! - Only a producer's home changes its state; a mirror begins with a snapshot of it and applies newer versions only.
//! - What a viewer sends can cost a bounded amount of work and memory only.
//!
//! What it does not do: encrypt, choose paths, or estimate how much a viewer can take.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bandwidth_split;
mod consumer;
mod consumer_parameters;
mod consumer_score;
mod egress;
mod encoding;
mod error;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod history;
mod id;
mod inbound;
mod layer_rates;
mod layers;
#[cfg(all(test, lenscast_loom))]
mod models;
mod outlet;
mod outlet_link;
pub mod pipe;
mod producer;
mod producer_parameters;
pub mod receive;
mod resend;
mod rewrite;
mod round_trip;
pub mod rtcp;
mod rtp;
pub mod rtp_parameters;
pub mod score;
mod sequence_map;
mod stats;
mod stream_state;
mod timers;
mod trace;
mod transport;
mod transport_table;
mod upstream;
mod vp8;
mod worker;

pub use consumer_parameters::{ConsumerParameters, RtxParameters};
pub use consumer_score::{ConsumerScore, LayerScores};
pub use egress::Egress;
pub use error::{
    AttachError, ConsumeError, CreateRouterError, CreateTransportError, HandleRtpError, OpenMirrorError,
    PauseProducerError, ProduceError, UnknownConsumer, UnknownProducer, UnknownRouter, UnknownTransport,
};
pub use event::{EndCause, Event};
pub use id::{ConsumerId, OutletId, ProducerId, ProducerKey, RouterId, TransportId, TransportSlot};
pub use inbound::{Confirm, Inbound, Open};
pub use layers::{Layers, Priority};
pub use outlet::OutletStats;
pub use outlet_link::OutletLink;
pub use producer_parameters::{EncodingParameters, MediaKind, ProducerParameters, ReceivedExtensions};
pub use rtp::{ExtensionId, HeaderExtensions, MAX_HEADER, Mid, PacketLayout, PayloadType, Rid, RtpPackets, Stamps};
pub use stats::{ConsumerStats, ProducerLayerStats, ProducerStats};
pub use stream_state::StreamState;
pub use timers::Timers;
pub use trace::Trace;
pub use transport::TransportKind;
pub use upstream::Upstream;
pub use worker::{
    AttachParameters, ConsumerDump, EncodingDump, LOCAL_SOURCE, OutletDump, ProducerDump, RouterDump, Source,
    TransportDump, VideoState, Worker, WorkerDump,
};
