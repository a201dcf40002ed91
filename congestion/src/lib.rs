//! How fast to send what: logic without I/O and without a clock.
//!
//! - [`allocate`] divides a budget among tracks by weight, minimum and maximum, and each track's share among its layers.
//!   [`plan_legs`] does so for each viewer's connection by what that one carries, and says what encoders that viewers share are
//!   to make.
//! - [`Pacer`] says when which packet leaves, [`SentHistory`] numbers what leaves and reads feedback about it.
//! - [`GoogleController`] estimates from that what a path carries.
//!
//! **Invariants.**
//! - What is given to tracks and what is set aside never exceed the budget together, but for minima marked enforced.
//! - A track that pauses costs the others nothing: they get what they would get without it.
//! - With room for all, every track has all that it can use, whatever it had before.
//! - Every function is total: no input panics, whatever its numbers are.
//! - The same input gives the same output; the order of demands makes no difference.
//!
//! What it does not do: send, change an encoder's rate, or forward anything.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocation;
mod allocator;
mod budget;
mod demand;
mod feedback;
#[cfg(fuzzing)]
pub mod fuzzing;
mod google;
mod layers;
mod network;
mod pacer;
mod plan;

pub use allocation::{Allocation, Share, ShareState};
pub use allocator::{Allocator, allocate};
pub use budget::{Budget, Overhead};
pub use demand::Demand;
pub use feedback::{CongestionFeedback, FeedbackError, PacketMetric, SentHistory, TransportFeedback};
pub use google::GoogleController;
pub use layers::{LayerDemand, Layers, MAX_LAYERS};
pub use network::{
    EstimateBounds, NetworkController, NetworkEstimate, PacketKind, PacketReport, ProbeCluster, ProbeId, SentPacket,
};
pub use pacer::{Paced, PacedContent, Pacer};
pub use plan::{
    Ceilings, FixedRates, HighestLayers, LayerRates, LegDemand, LegId, MediaDemand, Plan, PlanRequest, PlannedLeg,
    PlannedMedia, SourceDemand, SourceId, SourceRates, plan_legs,
};
