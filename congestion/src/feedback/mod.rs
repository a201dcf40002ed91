//! What the other side says of the packets that left: two formats, and the memory of what left.
//!
//! [`TransportFeedback`] and [`CongestionFeedback`] read messages, [`SentHistory`] numbers packets as they leave and turns
//! messages into reports about them.
//!
//! **Invariants.** Reading is total and allocates nothing. A packet is reported missing at most once, and received at most
//! once; never missing after it was received. The memory of what left is bounded in packets and in time.
//!
//! What it does not do: read RTCP's own headers, or draw conclusions.

mod ccfb;
mod history;
mod twcc;

pub use ccfb::{CongestionFeedback, PacketMetric};
pub use history::SentHistory;
pub use twcc::{FeedbackError, TransportFeedback};
