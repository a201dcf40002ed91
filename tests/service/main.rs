//! The binary as a service: command line, configuration, logs, health, metrics, signals, reload, and what systemd is told.
//! docs/conformance-http.md says which test stands for which of the conventions.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod configuration;
mod health;
mod logging;
mod metrics;
mod reload;
mod stopping;
mod systemd;
