//! Media from a sender to its receiver, as lenscast sends it to a viewer, or over str0m's peers.

mod ends;
mod missing;
mod packet;
mod peers;
mod receiver;
mod repair;
mod repair_share;
mod report;
mod sender;
mod sources;

pub(crate) use ends::Ends;
pub(crate) use packet::{Addressed, FeedbackFormat, Message};
pub(crate) use sender::{Checks, wire_max};
