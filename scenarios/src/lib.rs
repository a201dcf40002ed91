//! Congestion controllers on trial.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[expect(dead_code, reason = "the runner is to follow")]
mod controllers;
mod outcome;
mod plot;

pub use controllers::Controller;
pub use outcome::{BottleneckSeries, CrossSeries, FlowSeries, Metrics, Outcome, SAMPLE, Settling};
pub use plot::plot;
