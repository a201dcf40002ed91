//! How fast to send what: logic without I/O and without a clock.
//!
//! For now it holds the allocation only: [`allocate`] divides a budget among tracks by weight, minimum and maximum, and each
//! track's share among its layers. The estimator, the pacer and the prober are to follow.
//!
//! **Invariants.**
//! - What is given to tracks and what is set aside never exceed the budget together, but for minima marked enforced.
//! - A track that pauses costs the others nothing: they get what they would get without it.
//! - With room for all, every track has all that it can use, whatever it had before.
//! - Every function is total: no input panics, whatever its numbers are.
//! - The same input gives the same output; the order of demands makes no difference.
//!
//! What it does not do: estimate the budget, change an encoder's rate, or choose what a viewer gets to see.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod allocation;
mod allocator;
mod budget;
mod demand;
mod layers;

pub use allocation::{Allocation, Share, ShareState};
pub use allocator::{Allocator, allocate};
pub use budget::{Budget, Overhead};
pub use demand::Demand;
pub use layers::{LayerDemand, Layers, MAX_LAYERS};
