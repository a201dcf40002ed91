//! Behaviours of mediasoup that the router keeps, asked of its public interface. docs/conformance.md lists them.
#![allow(clippy::disallowed_methods)]

mod closing;
mod forwarding;
mod received;
mod scene;
mod scores;
mod traces;
