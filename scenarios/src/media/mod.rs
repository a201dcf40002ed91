//! Media from a sender to its receiver, as lenscast sends it to a viewer.

mod missing;
mod packet;
mod receiver;
mod repair;
mod report;
mod sender;

pub(crate) use packet::{Addressed, FeedbackFormat, Message};
pub(crate) use receiver::Receiver;
pub(crate) use sender::{Checks, Sender, wire_max};
