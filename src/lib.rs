//! lenscast: each camera captured once, encoded once, watched by any number of browsers.
//!
//! This crate is the binary's inside: configuration, command line, the agent that ties cameras to the router, and all that
//! speaks HTTP. The parts that do the work are crates of their own; `docs/architecture.md` shows how they hang together.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod agent;
pub mod allocation;
pub mod camera;
pub mod cli;
pub mod config;
pub mod feed;
pub mod http;
pub mod ingress;
mod listening;
pub mod listing;
pub mod logging;
mod pipe_message;
mod pull;
pub mod service;
pub mod simulate;
pub mod stream;
pub mod uplink;
