use std::net::SocketAddr;
use std::time::Instant;

use lenscast_router::{ConsumerId, ConsumerScore, ConsumerStats, ProducerId, ProducerStats, TransportId};

use crate::{ForwardingCost, LegReport, LegStats, ProtectionProfile};

/// A reading of everything that the workers count.
#[derive(Debug, Clone, Default)]
pub struct TransportStats {
    /// Each worker's counters.
    pub workers: Vec<WorkerStats>,
    /// Every session that a worker has, in the order of their identifiers.
    pub sessions: Vec<SessionStats>,
    /// Sessions whose viewer has not sent its first check.
    pub pending_sessions: usize,
    /// What was dropped of the streams that are fetched from other machines.
    pub pipes: PipeDropStats,
}

/// What the edges' ends of pipes have dropped since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipeDropStats {
    /// Datagrams that came in and were not the origin's: forged, replayed, malformed, or of something else.
    pub refused: u64,
    /// Bursts that a mirror's worker had no room for.
    pub bursts_refused: u64,
    /// Datagrams that the system did not take.
    pub unsent: u64,
}

/// One worker's counters since it started.
#[derive(Debug, Clone, Default)]
pub struct WorkerStats {
    /// What its socket did.
    pub sockets: SocketStats,
    /// What it dropped of what came in.
    pub dropped: DropStats,
    /// What the parts of forwarding cost.
    pub forwarding: ForwardingCost,
    /// Its producers.
    pub producers: Vec<(ProducerId, ProducerStats)>,
    /// How much it has of everything.
    pub objects: ObjectCounts,
}

/// How much a worker has of everything that comes and goes: what stays when nobody is there any more has leaked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    /// Viewers, publishers and pipes to other machines.
    pub sessions: usize,
    /// Streams that its sessions are sent.
    pub consumers: usize,
    /// Sources that it is the home of.
    pub producers: usize,
    /// Sources of other workers and machines, as it has them.
    pub mirrors: usize,
    /// Ways from its sources to mirrors of them.
    pub outlets: usize,
    /// Addresses that lead to its sessions.
    pub addresses: usize,
    /// What somebody else in the process waits for the end of.
    pub followed: usize,
}

impl ObjectCounts {
    /// The counts with their names.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, usize); 7] {
        [
            ("session", self.sessions),
            ("consumer", self.consumers),
            ("producer", self.producers),
            ("mirror", self.mirrors),
            ("outlet", self.outlets),
            ("address", self.addresses),
            ("followed", self.followed),
        ]
    }
}

/// System calls and what went wrong with them, plain RTP transports' included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// System calls that sent them.
    pub send_calls: u64,
    /// Datagrams not sent because the system had no room for them for too long.
    pub send_would_block: u64,
    /// Datagrams not sent for another reason.
    pub send_errors: u64,
    /// Datagrams of ours that can leave in one call; 1 if the kernel has no segmentation, or once it was refused for what
    /// then went out one by one.
    pub max_segments: u64,
}

impl SocketStats {
    /// Both together, with the limits of the first.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            sent: self.sent + other.sent,
            send_calls: self.send_calls + other.send_calls,
            send_would_block: self.send_would_block + other.send_would_block,
            send_errors: self.send_errors + other.send_errors,
            max_segments: self.max_segments,
        }
    }
}

macro_rules! drop_stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Datagrams that came in and were dropped, by reason.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct DropStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl DropStats {
            /// The counters with their names.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

drop_stats! {
    /// From an address that no authentic check has come from.
    unknown_address,
    /// From port 0, which nothing can be sent to (RFC 768 has it for senders that want no answer).
    port_zero,
    /// STUN that cannot be read, or is no binding request.
    stun_malformed,
    /// A connectivity check for no session of ours.
    stun_unknown_user,
    /// A connectivity check whose session could not begin: its camera has gone, for example.
    session_not_begun,
    /// A connectivity check whose integrity does not fit.
    stun_not_authentic,
    /// Neither STUN nor DTLS nor RTP nor RTCP (RFC 7983 §7).
    unknown_protocol,
    /// DTLS that is malformed, or nothing that could matter then, or more than any viewer sends.
    dtls_ignored,
    /// RTP from a session that has nothing to send: a viewer's.
    rtp_unexpected,
    /// RTP that is longer than what can be forwarded.
    rtp_too_long,
    /// RTP of a session that sends more packets than any stream has.
    rtp_flood,
    /// For a plain RTP transport, from somebody else than its peer.
    plain_stranger,
    /// SRTP that came before, or is too old to tell.
    srtp_replayed,
    /// SRTP that is not authentic or malformed.
    srtp_refused,
    /// RTP that is authentic but malformed.
    rtp_malformed,
    /// RTP that belongs to no track that was agreed on, or to none that is known yet.
    rtp_unknown_source,
    /// RTP that its track's receiver had no use for; that one counts why.
    rtp_refused,
    /// RTP or RTCP before the handshake was done.
    before_handshake,
    /// SRTCP that is not authentic, or a replay.
    srtcp_refused,
    /// RTCP that is longer than any viewer's.
    rtcp_too_long,
    /// RTCP that is authentic but malformed.
    rtcp_malformed,
    /// Forwarded by another worker for a session that had just ended, or while this worker was behind.
    worker_hand_over,
}

/// One session.
#[derive(Debug, Clone)]
pub struct SessionStats {
    /// Which.
    pub id: TransportId,
    /// When its answer was made.
    pub created: Instant,
    /// When its handshake was done.
    pub connected: Option<Instant>,
    /// Where its viewer is.
    pub remote: Option<SocketAddr>,
    /// How its packets are protected.
    pub profile: Option<ProtectionProfile>,
    /// What it is sent.
    pub consumers: Vec<SessionConsumer>,
    /// What its path carries; `None` if its peer does not tell which packets have come.
    pub leg: Option<LegReport>,
    /// What its congestion control has counted, if it has any.
    pub leg_stats: Option<LegStats>,
}

/// One stream of a session.
#[derive(Debug, Clone)]
pub struct SessionConsumer {
    /// Which.
    pub id: ConsumerId,
    /// Which of a viewer's cameras this is the video of, by the order of its offer; `None` of audio, and of what no viewer's
    /// session sends.
    pub camera: Option<usize>,
    /// What it shows.
    pub producer: ProducerId,
    /// Its counters.
    pub stats: ConsumerStats,
    /// How well it gets through.
    pub score: ConsumerScore,
    /// The spatial layer that it is sent now; `None` while it is sent nothing.
    pub layer: Option<u8>,
    /// The viewer's RTP timestamp that belongs to [`SessionConsumer::read_at`], so that a viewer can turn a frame's
    /// timestamp into its capture time. `None` before the stream has begun.
    pub rtp_clock: Option<u32>,
    /// When this was read.
    pub read_at: Instant,
}
