//! Congestion controllers on trial: cases, media over a simulated network, and what came of it.
//!
//! [`cases`] are data: links, senders of media, TCP. [`run`] puts each sender and receiver at the ends of the network and lets
//! virtual time pass; packets, feedback in the bytes of its formats and requests for what is missing go through the same queues.
//! [`table`], [`summary`] and [`plot`] tell of the [`Outcome`]s.
//!
//! **Invariants.**
//! - The same case, controller and seed give the same outcome, whatever runs beside it.
//! - Every controller meets the same links, sources, receivers and seeds.
//!
//! What it does not do: I/O, or encode. A source is RFC 8593's model of an encoder that follows the real allocation.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod case;
mod cases;
mod controllers;
mod media;
mod metrics;
mod outcome;
mod plot;
mod record;
mod run;
mod summary;
mod table;

pub use case::Case;
pub use cases::cases;
pub use controllers::Controller;
pub use outcome::{BottleneckSeries, CrossSeries, FlowSeries, Invariants, Metrics, Outcome, SAMPLE, Settling};
pub use plot::plot;
pub use run::{run, run_all};
pub use summary::summary;
pub use table::table;
