//! Congestion controllers on trial.

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
