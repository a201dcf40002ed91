//! Congestion controllers on trial.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]
