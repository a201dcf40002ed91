//! A viewer's leg as whoever divides bandwidth sees it: what its path carries, what goes over it, and what it is given.
//!
//! Workers write reports to boards and find plans among their nudges; neither side waits for the other.

mod board;
mod control;
mod reporting;
mod sent_rate;

pub(crate) use board::Board;
pub(crate) use control::{DEFAULT_BOUNDS, Leaving, LegControl, PathFeedback, Waiting};

use std::time::Duration;

use lenscast_congestion::NetworkEstimate;
use lenscast_media::Bitrate;
use lenscast_router::{ConsumerId, ProducerId, TransportId};

use crate::PreferredLayers;

/// What is known of a leg whose viewer tells which packets have come, and when. Others have no report.
#[derive(Debug, Clone, PartialEq)]
pub struct LegReport {
    /// The session.
    pub id: TransportId,
    /// What its path carries.
    pub estimate: NetworkEstimate,
    /// The start is over: two seconds of feedback have come, the path has shown a limit, or it carries all that is wanted.
    /// Before that an estimate says little. False too while nothing is heard of what is sent: the viewer may have gone.
    pub is_confirmed: bool,
    /// What was sent in the last second, IP and UDP headers counted.
    pub sending: Bitrate,
    /// How long the last of the packets that wait takes to leave.
    pub pacer_queue: Duration,
    /// Its videos.
    pub media: Vec<LegMedia>,
}

/// What a leg's congestion control has counted since its session began, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegStats {
    /// Messages that told which packets have come.
    pub feedback_received: u64,
    /// Those that could not be read.
    pub feedback_malformed: u64,
    /// Those that told of more packets than there can have been.
    pub feedback_refused: u64,
    /// Probes that were begun.
    pub probes: u64,
    /// Packets that wait to leave.
    pub queued_packets: usize,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Times that there was no room for a packet, or that it would have had to wait for too long.
    pub overflows: u64,
    /// Packets that were dropped for that: videos went on with a key frame, retransmissions may be asked for again.
    pub packets_dropped: u64,
}

/// One video of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegMedia {
    /// Which.
    pub consumer: ConsumerId,
    /// What it shows.
    pub producer: ProducerId,
    /// What the viewer would have of it.
    pub preferred: PreferredLayers,
    /// The spatial layer that goes out now; `None` while nothing does.
    pub layer: Option<u8>,
    /// The viewer holds it up.
    pub paused: bool,
}

/// What a leg is given. What a plan does not name stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct LegPlan {
    /// The session.
    pub id: TransportId,
    /// Its estimate never exceeds it. What is left over of the whole is to be in somebody's limit: a leg that is sent as much
    /// as its limit cannot show that it could take more.
    pub limit: Bitrate,
    /// What it would be sent if its path carried everything: nothing beyond is worth probing for.
    pub wanted: Bitrate,
    /// Each video's layers at most, whatever the viewer prefers. `None`: it is held up, as nothing of it fits.
    pub media: Vec<(ConsumerId, Option<PreferredLayers>)>,
}
