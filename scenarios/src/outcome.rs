//! What a run showed: series at [`SAMPLE`] to draw, and the figures of RFC 8868 that the table holds.

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::Controller;

/// How long each sample of a series is (RFC 8868, section 3.1: rates at 200 ms).
pub const SAMPLE: Duration = Duration::from_millis(200);

/// One run of a case with a controller.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The case's name, such as `5.1`.
    pub case: &'static str,
    /// What the case is about.
    pub title: &'static str,
    /// Who was on trial.
    pub controller: Controller,
    /// Where all randomness came from.
    pub seed: u64,
    /// How long it took in virtual time.
    pub length: Duration,
    /// The links whose queue can fill, each over time.
    pub bottlenecks: Vec<BottleneckSeries>,
    /// The media flows, each over time.
    pub flows: Vec<FlowSeries>,
    /// The other traffic, such as TCP, each over time.
    pub cross: Vec<CrossSeries>,
    /// What the table says of it.
    pub metrics: Metrics,
    /// What holds whatever the controller does.
    pub invariants: Invariants,
}

/// A link over time, a value for each [`SAMPLE`].
#[derive(Debug, Clone, PartialEq)]
pub struct BottleneckSeries {
    /// Such as `A-B`.
    pub name: &'static str,
    /// What the link carries.
    pub capacity: Vec<Bitrate>,
    /// How long a packet waits that joins the queue now: the longest in the sample.
    pub queue: Vec<Duration>,
}

/// A media flow over time, a value for each [`SAMPLE`].
#[derive(Debug, Clone, PartialEq)]
pub struct FlowSeries {
    /// Such as `flow 1`.
    pub name: String,
    /// What the controller allows.
    pub target: Vec<Bitrate>,
    /// What left the sender, headers and all.
    pub sent: Vec<Bitrate>,
    /// What came at the receiver, headers and all.
    pub received: Vec<Bitrate>,
    /// What came of media, each packet counted once, without headers.
    pub goodput: Vec<Bitrate>,
    /// What packets waited in queues on their way, on average: of those that came in the sample. `None` if none came.
    pub queueing: Vec<Option<Duration>>,
    /// The part of the sample's first transmissions that did not come.
    pub lost: Vec<f64>,
    /// The part of them that did not come by any transmission.
    pub lost_after_repair: Vec<f64>,
}

/// Other traffic over time, a value for each [`SAMPLE`].
#[derive(Debug, Clone, PartialEq)]
pub struct CrossSeries {
    /// Such as `TCP 1`.
    pub name: String,
    /// What came at the receiver, headers and all.
    pub received: Vec<Bitrate>,
}

/// Figures of a whole run, over all its media flows together unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// The part of the capacity that media flows took, headers and repair and padding counted.
    pub utilisation: f64,
    /// Media that came.
    pub goodput: Bitrate,
    /// Waiting in queues: mean of all packets that came.
    pub queueing_mean: Duration,
    /// Waiting in queues: as long as 95 of 100 packets waited at most.
    pub queueing_p95: Duration,
    /// The part of first transmissions of media that did not come.
    pub lost: f64,
    /// The part of media that did not come within a second, repair included.
    pub lost_after_repair: f64,
    /// From each rise of the capacity, the beginning included, until 90 % of it are used.
    pub rises: Vec<Settling>,
    /// From each fall of the capacity until the queue is drained: less than 50 ms.
    pub drains: Vec<Settling>,
    /// Jain's index of the flows' rates while all are active.
    pub jain: Option<f64>,
    /// The greatest ratio of two flows' rates while all are active, each divided by its priority: over windows of 1, 5 and 20 s,
    /// as far as all are active for so long.
    pub max_min: Vec<(Duration, f64)>,
    /// How much the rates of single seconds differ from their mean while nothing changes: their standard deviation as a part
    /// of the mean.
    pub oscillation: f64,
}

/// Whether and when a path came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Settling {
    /// After so long.
    After(Duration),
    /// Not before the next change, or the end.
    Never,
}

/// What was watched in all senders together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Invariants {
    /// How often an estimate was outside its bounds.
    pub estimates_out_of_bounds: u64,
    /// How often more had left within a span than the pacing rate allows, probes and audio aside.
    pub over_pacing: u64,
    /// The longest that a pacer's queue would have taken to leave.
    pub longest_pacer_queue: Duration,
    /// Packets that a pacer gave back because its queue was full.
    pub rejected: u64,
    /// Feedback that could not be read.
    pub unreadable: u64,
}
