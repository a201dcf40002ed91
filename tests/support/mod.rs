//! What the tests of the server as a whole share: the real binary as a child process, clients of it, and a network
//! between them that can lose, record and break.
//!
//! Every wait is bounded, and by an event rather than by time passing. Processes are found by their own handles only.

// Each test binary uses its own part of it.
#![allow(dead_code)]

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod event_stream;
pub(crate) mod frames;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod namespace;
pub(crate) mod offer;
pub(crate) mod relay;
pub(crate) mod resources;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod wait;
