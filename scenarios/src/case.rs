//! What a case consists of: links, who sends media over them, and who else is there.
//!
//! A case is data: nothing here runs. Times count from the beginning of the run, capacities and delays are those of one
//! direction.

use std::time::Duration;

use lenscast_media::Bitrate;

/// A case to run a controller through.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Tells cases apart, such as `5.1` for what RFC 8867 has in section 5.1.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// How long it takes in virtual time.
    pub length: Duration,
    pub(crate) links: Vec<LinkPlan>,
    pub(crate) senders: Vec<SenderPlan>,
    pub(crate) tcp: Vec<TcpPlan>,
    /// Media packets say that they can be marked, and receivers answer as RFC 8888 says, whose reports carry marks.
    pub(crate) ecn: bool,
}

/// One direction of a link.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinkPlan {
    pub(crate) name: &'static str,
    pub(crate) capacity: Capacity,
    pub(crate) delay: Duration,
    pub(crate) jitter: JitterPlan,
    /// The part of packets that is lost whatever the queue is, 0 to 1.
    pub(crate) loss: f64,
    /// How long a packet waits at most: the queue drops those at its tail that would wait longer.
    pub(crate) queue: Duration,
    /// So many bytes pass at once after a pause: a token bucket shapes it.
    pub(crate) burst: u64,
    /// Packets that would wait longer than this are marked.
    pub(crate) mark: Option<Duration>,
    /// It is judged: its queue and how much of it is used.
    pub(crate) bottleneck: bool,
}

/// What a link carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Capacity {
    /// From each time on so much. The first time is zero.
    Steps(Vec<(Duration, Bitrate)>),
    /// As a cell of a mobile network, with this mean.
    Cellular(Bitrate),
}

/// How much packets are delayed at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JitterPlan {
    None,
    /// As in RFC 8868, section 4.5.
    Gaussian,
}

/// One sender, which has one controller and one pacer for all that it sends to its receiver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SenderPlan {
    pub(crate) tracks: Vec<TrackPlan>,
    /// A source of 20 kb/s (RFC 8867, section 4.3).
    pub(crate) audio: bool,
    /// Links by their index in the case.
    pub(crate) forward: Vec<usize>,
    pub(crate) back: Vec<usize>,
    /// Where the estimate begins.
    pub(crate) start: Bitrate,
}

/// One video.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrackPlan {
    /// Its weight beside the sender's other tracks.
    pub(crate) priority: f64,
    pub(crate) min: Bitrate,
    pub(crate) max: Bitrate,
    /// When it sends, each from and to.
    pub(crate) active: Vec<(Duration, Duration)>,
}

/// TCP from the same end of the links as media.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TcpPlan {
    pub(crate) load: TcpLoad,
    pub(crate) forward: Vec<usize>,
    pub(crate) back: Vec<usize>,
}

/// What a TCP connection has to send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TcpLoad {
    /// As much as it can, from and to.
    Long(Duration, Duration),
    /// One download after the other with pauses between, of the sizes of web pages' parts (RFC 8868, section 5.1). Whether it
    /// begins with one, or with a pause.
    Web(bool),
    /// The same with larger ones.
    Files(bool),
}

impl TrackPlan {
    /// The track sends at this time.
    pub(crate) fn is_active(&self, at: Duration) -> bool {
        self.active.iter().any(|(from, to)| (*from..*to).contains(&at))
    }
}

impl Capacity {
    /// When it changes after the beginning, from and to what. Nothing for a cell's, which always changes.
    pub(crate) fn changes(&self) -> Vec<(Duration, Bitrate, Bitrate)> {
        match self {
            Self::Steps(steps) => steps.windows(2).map(|pair| (pair[1].0, pair[0].1, pair[1].1)).collect(),
            Self::Cellular(_) => Vec::new(),
        }
    }
}
