//! What a controller is told of a path, and what it says of it: the words that sender, pacer and controller share.

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

/// What a packet is for; packets of a lower kind leave first (libwebrtc, `modules/pacing/prioritized_packet_queue.cc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketKind {
    /// Audio, and its retransmissions.
    Audio,
    /// A video packet once more.
    Retransmission,
    /// A video packet, for the first time.
    Video,
    /// Forward error correction.
    Fec,
    /// Bytes that are only there to be measured.
    Padding,
}

/// Tells probes apart. Never used twice by a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// Some packets to be sent at a rate of their own, so that the path shows whether it carries that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCluster {
    /// Which probe.
    pub id: ProbeId,
    /// How fast its packets leave.
    pub bitrate: Bitrate,
    /// Packets at least.
    pub min_packets: u32,
    /// Bytes at least.
    pub min_bytes: u64,
}

/// A packet that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPacket {
    /// Its transport-wide number, without wrapping around: each packet of a path has the next one.
    pub sequence: u64,
    /// Bytes on the wire, IP and UDP headers counted.
    pub size: u32,
    /// When it left.
    pub sent_at: Instant,
    /// What it is for.
    pub kind: PacketKind,
    /// The probe that it is part of.
    pub probe: Option<ProbeId>,
}

/// What the other side says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// The packet as it left.
    pub sent: SentPacket,
    /// When it came, by the receiver's clock, whose beginning is unknown. `None` if it has not come.
    pub received_at: Option<Duration>,
    /// It came with Congestion Experienced (RFC 3168).
    pub congestion_experienced: bool,
}

/// What a controller says of its path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NetworkEstimate {
    /// What may be sent, all packets with their IP and UDP headers counted.
    pub target: Bitrate,
    /// How fast packets leave while there are any.
    pub pacing: Bitrate,
    /// How much is sent at least, with padding where there is nothing else.
    pub padding: Bitrate,
    /// From sending a packet to hearing of it.
    pub round_trip: Option<Duration>,
    /// The part of the packets that does not arrive, 0 to 1.
    pub loss: f64,
    /// How much longer packets take than those that took the least lately: what waits in the path's queues.
    pub queue_delay: Duration,
    /// Less is being sent than might be.
    pub application_limited: bool,
}

/// Between which bounds an estimate stays, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimateBounds {
    /// Never less.
    pub min: Bitrate,
    /// Before anything is known.
    pub start: Bitrate,
    /// Never more.
    pub max: Bitrate,
}

/// Finds out what a path carries from what becomes of the packets that are sent over it.
///
/// Clock-free: every call brings its time, and times never go back. Order of calls: `handle_*` as things happen, then
/// [`poll_probe`](Self::poll_probe) until it has nothing, then [`estimate`](Self::estimate); at the latest at
/// [`poll_timeout`](Self::poll_timeout) comes [`handle_timeout`](Self::handle_timeout).
pub trait NetworkController {
    /// A packet has left.
    fn handle_sent(&mut self, packet: SentPacket);

    /// A feedback message has come; the packets it tells of for the first time, in ascending order of their numbers.
    fn handle_feedback(&mut self, now: Instant, reports: &[PacketReport]);

    /// How much there would be to send if the path carried everything, or at least how much is asked for:
    /// nothing beyond it is worth probing for. [`Bitrate::ZERO`] if nobody wants anything.
    fn set_wanted(&mut self, now: Instant, wanted: Bitrate);

    /// Time has come to [`poll_timeout`](Self::poll_timeout).
    fn handle_timeout(&mut self, now: Instant);

    /// What is to be sent to learn more, if anything is.
    fn poll_probe(&mut self) -> Option<ProbeCluster>;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    fn poll_timeout(&self) -> Option<Instant>;

    /// What is known now.
    fn estimate(&self) -> NetworkEstimate;
}
