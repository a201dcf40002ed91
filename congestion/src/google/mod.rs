//! Google congestion control, after libwebrtc's current form (`modules/congestion_controller/goog_cc`).
//!
//! Two estimates of what the path carries, one by the delay and one by the loss; the lower one is the target. Probes find
//! room quickly, and the rest is growth by a few percent a second.

#![allow(dead_code)]

mod acknowledged_rate;
mod arrival_groups;
mod controller;
mod delay;
mod link_capacity;
mod overuse;
mod rate;
mod rate_control;
#[cfg(test)]
mod tests;
mod trendline;

pub use controller::GoogleController;
