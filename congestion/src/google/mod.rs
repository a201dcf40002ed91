//! A controller in the form of Google congestion control as libwebrtc has it now (`modules/congestion_controller/goog_cc`), but
//! for how the rate follows the delay.
//!
//! Two estimates of what the path carries: one by the [`delay`], which keeps queues short, and one by the [loss], which falls
//! when more is lost than the path loses anyway. The target is the lower one. Both rise by a few percent a second;
//! [probes](probe_controller) find room quickly.
//!
//! The way of a feedback message: [`path`] measures how long its fastest packets waited, and [`standing_queue`] says what is to be
//! done about that. Its packets in the order of arrival go to [`acknowledged_rate`] (how much arrives), to
//! [`arrival_groups`] → [`trendline`] → [`overuse`] (whether queues grow), and to [`probe_estimate`]; with all of that
//! [`rate_control`] sets the estimate by the delay, in small steps by [`steering`]. Then all of them, lost ones too, go to
//! [`loss`]. Out of both comes the target, which tells [`application_limit`] what counts as little and [`probe_controller`] what is
//! worth a probe. [`backlog`] watches what leaves.
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
