//! What a probe has found: how fast its packets left and how fast they arrived.
//!
//! After libwebrtc, `modules/congestion_controller/goog_cc/probe_bitrate_estimator.cc`.
//!
//! **Invariants.** A result is never above the rate at which the probe was sent. At most [`CLUSTERS_MAX`] probes are looked at
//! at a time; the oldest makes room.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rate::Rate;
use crate::network::{PacketReport, ProbeCluster};

/// Probes that may be under way: two at the start, and any that follow before those are forgotten.
const CLUSTERS_MAX: usize = 8;
/// The part of the packets and of the bytes that must have arrived (`kMinReceivedProbesRatio`, `kMinReceivedBytesRatio`).
const ARRIVED_MIN: f64 = 0.8;
/// Packets may arrive faster than they left, but not by more than this (`kMaxValidRatio`).
const RATIO_MAX: f64 = 2.0;
/// If less than this of the rate arrives, the link is full (`kMinRatioForUnsaturatedLink`)…
const RATIO_UNSATURATED: f64 = 0.9;
/// …and this much of what arrives is to be used of it (`kTargetUtilizationFraction`).
const UTILISATION: f64 = 0.95;
/// A probe neither leaves nor arrives over a longer time (`kMaxProbeInterval`), and is forgotten when packets arrive that much
/// later (`kMaxClusterHistory`).
const SPAN_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Cluster {
    probe: ProbeCluster,
    packets: u32,
    bytes: f64,
    arrived: Option<Arrived>,
    /// Only what arrives of the second half counts.
    is_careful: bool,
    /// When the first packet of the second half arrived, and the bytes up to and with it.
    half: Option<(Duration, f64)>,
}

/// First and last, by either clock, with the sizes that do not count between them.
#[derive(Debug)]
struct Arrived {
    first_sent: Instant,
    last_sent: Instant,
    last_sent_size: u32,
    first_received: Duration,
    first_received_size: u32,
    last_received: Duration,
}

/// The probes that are under way.
#[derive(Debug)]
pub(super) struct ProbeEstimator {
    clusters: VecDeque<Cluster>,
}

impl ProbeEstimator {
    pub(super) fn new() -> Self {
        Self { clusters: VecDeque::with_capacity(CLUSTERS_MAX) }
    }

    /// A probe is to be sent. Of a careful one only the second half counts: the first may go through a token bucket, which shows
    /// nothing of what the path carries.
    pub(super) fn begin(&mut self, probe: ProbeCluster, is_careful: bool) {
        if self.clusters.len() >= CLUSTERS_MAX {
            self.clusters.pop_front();
        }
        self.clusters.push_back(Cluster { probe, packets: 0, bytes: 0.0, arrived: None, is_careful, half: None });
    }

    /// A packet has arrived. If it was part of a probe of which enough has arrived: what that probe has found so far.
    pub(super) fn handle_packet(&mut self, report: &PacketReport) -> Option<Rate> {
        let (probe, received) = (report.sent.probe?, report.received_at?);
        self.clusters.retain(|cluster| {
            let arrived = cluster.arrived.as_ref();
            arrived.is_none_or(|arrived| received.saturating_sub(arrived.last_received) <= SPAN_MAX)
        });
        let cluster = self.clusters.iter_mut().find(|cluster| cluster.probe.id == probe)?;
        cluster.add(report.sent.sent_at, received, report.sent.size);
        cluster.rate()
    }
}

impl Cluster {
    fn add(&mut self, sent: Instant, received: Duration, size: u32) {
        self.packets = self.packets.saturating_add(1);
        let is_second_half = self.bytes >= self.probe.min_bytes as f64 / 2.0;
        self.bytes += f64::from(size);
        if self.half.is_none() && is_second_half {
            self.half = Some((received, self.bytes));
        }
        let Some(arrived) = &mut self.arrived else {
            self.arrived = Some(Arrived {
                first_sent: sent,
                last_sent: sent,
                last_sent_size: size,
                first_received: received,
                first_received_size: size,
                last_received: received,
            });
            return;
        };
        arrived.first_sent = arrived.first_sent.min(sent);
        if sent > arrived.last_sent {
            (arrived.last_sent, arrived.last_sent_size) = (sent, size);
        }
        if received < arrived.first_received {
            (arrived.first_received, arrived.first_received_size) = (received, size);
        }
        arrived.last_received = arrived.last_received.max(received);
    }

    fn rate(&self) -> Option<Rate> {
        let enough_packets = f64::from(self.packets) >= f64::from(self.probe.min_packets) * ARRIVED_MIN;
        let enough_bytes = self.bytes >= self.probe.min_bytes as f64 * ARRIVED_MIN;
        if !enough_packets || !enough_bytes {
            return None;
        }
        let arrived = self.arrived.as_ref()?;
        let sent_span = arrived.last_sent.saturating_duration_since(arrived.first_sent);
        let received_span = arrived.last_received.saturating_sub(arrived.first_received);
        let is_valid = |span: Duration| !span.is_zero() && span <= SPAN_MAX;
        if !is_valid(sent_span) || !is_valid(received_span) {
            return None;
        }
        let sent = Rate::from_bytes(self.bytes - f64::from(arrived.last_sent_size), sent_span);
        let received = Rate::from_bytes(self.bytes - f64::from(arrived.first_received_size), received_span);
        let received = if self.is_careful { received.min(self.second_half()?) } else { received };
        if sent == Rate::ZERO || received > sent * RATIO_MAX {
            return None;
        }
        let is_saturated = received < sent * RATIO_UNSATURATED;
        Some(if is_saturated { received * UTILISATION } else { received.min(sent) })
    }

    /// How fast what came behind the first half's packets has arrived.
    fn second_half(&self) -> Option<Rate> {
        let ((since, bytes), arrived) = (self.half?, self.arrived.as_ref()?);
        let span = arrived.last_received.saturating_sub(since);
        (!span.is_zero()).then(|| Rate::from_bytes(self.bytes - bytes, span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::report;
    use crate::network::ProbeId;
    use lenscast_media::Bitrate;

    fn probe(id: u32) -> ProbeCluster {
        ProbeCluster { id: ProbeId(id), bitrate: Bitrate::from_kbps(1_000), min_packets: 5, min_bytes: 5_000 }
    }

    /// Packets of 1,000 bytes, `sent_ms` and `received_ms` apart.
    fn run(count: u64, sent_ms: u64, received_ms: u64) -> Option<f64> {
        let mut estimator = ProbeEstimator::new();
        estimator.begin(probe(7), false);
        let reports = (0..count).map(|n| {
            let mut report = report(n, 1_000, sent_ms * n, Some(50 + received_ms * n));
            report.sent.probe = Some(ProbeId(7));
            report
        });
        reports.filter_map(|report| estimator.handle_packet(&report)).last().map(|rate| rate.kbps().round())
    }

    #[test]
    fn an_empty_link_carries_what_was_sent() {
        assert_eq!(run(5, 8, 8), Some(1_000.0));
        assert_eq!(run(5, 8, 7), Some(1_000.0), "never more than was sent");
    }

    #[test]
    fn of_a_full_link_a_little_less_is_used() {
        assert_eq!(run(5, 8, 16), Some(475.0), "0.95 of 500");
    }

    #[test]
    fn needs_four_fifths_and_sane_times() {
        assert_eq!(run(3, 8, 8), None);
        assert_eq!(run(4, 8, 8), Some(1_000.0));
        assert_eq!(run(5, 8, 3), None, "they cannot have arrived so much faster");
        assert_eq!(run(5, 0, 8), None);
        assert_eq!(run(5, 8, 0), None);
        assert_eq!(run(5, 400, 400), None);
    }

    #[test]
    fn a_careful_probe_looks_past_a_token_bucket() {
        let find = |is_careful: bool| {
            let mut estimator = ProbeEstimator::new();
            estimator.begin(ProbeCluster { min_packets: 5, min_bytes: 12_000, ..probe(7) }, is_careful);
            // Sent at 1 Mb/s; the first five at once, the others at 400 kb/s.
            let reports = (0..12).map(|n: u64| {
                let mut report = report(n, 1_000, 8 * n, Some(50 + 8 * n + 12 * n.saturating_sub(4)));
                report.sent.probe = Some(ProbeId(7));
                report
            });
            reports.filter_map(|report| estimator.handle_packet(&report)).last().map(|rate| rate.kbps().round())
        };
        assert_eq!(find(false), Some(486.0));
        assert_eq!(find(true), Some(380.0), "0.95 of 400");
    }

    #[test]
    fn knows_its_own_probes_only_and_not_too_many() {
        let mut estimator = ProbeEstimator::new();
        let mut stranger = report(0, 1_000, 0, Some(50));
        stranger.sent.probe = Some(ProbeId(1));
        assert_eq!(estimator.handle_packet(&stranger), None);
        for id in 0..100 {
            estimator.begin(probe(id), false);
        }
        assert_eq!(estimator.clusters.len(), CLUSTERS_MAX);
    }
}
