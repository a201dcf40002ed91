//! Google congestion control, after libwebrtc's current form (`modules/congestion_controller/goog_cc`).
//!
//! Two estimates of what the path carries: one by the [delay](delay), which falls when queues begin to grow, and one by the
//! [loss], which falls when more is lost than the path loses anyway. The target is the lower one. Both rise by a few percent a
//! second; [probes](probe_controller) find room quickly.
//!
//! The way of a feedback message: its packets in the order of arrival go to [`acknowledged_rate`] (how much arrives), to
//! [`arrival_groups`] → [`trendline`] → [`overuse`] → [`rate_control`] (the estimate by the delay), and to [`probe_estimate`];
//! then all of them, lost ones too, to [`loss`]. Out of both comes the target, which tells [`application_limit`] what counts as
//! little and [`probe_controller`] what is worth a probe.
//!
//! **Invariants.**
//! - The target is between the bounds, whatever comes in; all functions are total: times that go back, packets twice, empty
//!   messages and gaps of years included.
//! - The same calls give the same answers: there is no clock, no randomness and no order of a hash map.
//! - Memory is bounded by constants and the longest message; in steady state nothing is allocated.
//!
//! What it does not do: send anything, read feedback from packets, or divide the target. Where it differs from libwebrtc, and
//! why, is in `docs/congestion.md`.

mod acknowledged_rate;
mod application_limit;
mod arrival_groups;
mod backlog;
mod controller;
mod delay;
mod loss;
mod loss_model;
mod overuse;
mod path;
mod probe_controller;
mod probe_estimate;
mod rate;
mod rate_control;
mod silence;
mod standing_queue;
mod steering;
#[cfg(test)]
mod tests;
mod trendline;

pub use controller::GoogleController;
