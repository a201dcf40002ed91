use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use super::debt::Debt;
use crate::{ProbeCluster, ProbeId};

/// Says when which bytes of a probe leave: small bursts, so spaced that all of them together have the probe's rate
/// (libwebrtc, `modules/pacing/bitrate_prober.cc`).
#[derive(Debug)]
pub(super) struct Prober {
    clusters: VecDeque<Running>,
    /// When the last cluster's bytes have had the time that they take: the next one begins no earlier.
    free_at: Option<Instant>,
    /// Nothing is there to fill a probe with until a packet comes that is worth it.
    waits_for_packet: bool,
}

/// A cluster, and how far it is.
#[derive(Debug)]
struct Running {
    cluster: ProbeCluster,
    requested_at: Instant,
    started_at: Option<Instant>,
    bytes: u64,
    packets: u32,
    /// What is missing of the burst that is under way.
    burst: u64,
}

/// What one burst takes at the probe's rate (`bitrate_prober.cc`, `min_probe_delta`).
const MIN_PROBE_DELTA: Duration = Duration::from_millis(2);
/// How late a burst may be; then the cluster would show a lower rate than it is for (`bitrate_prober.cc`, `max_probe_delay`).
const MAX_PROBE_DELAY: Duration = Duration::from_millis(10);
/// How long a cluster may wait for its first packet (`bitrate_prober.cc`, `kProbeClusterTimeout`).
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(5);
/// The least packet that begins a probe, unless a burst is even less: not audio (`bitrate_prober.cc`, `min_packet_size`).
const MIN_FIRST_PACKET: u32 = 200;
/// Bytes of one burst at most (`pacing_controller.h`, `kMaxBurstSize`).
const MAX_BURST: u64 = 63_000;
/// Clusters that wait at most; the oldest gives way (`bitrate_prober.cc`, `kMaxPendingProbeClusters`).
const MAX_CLUSTERS: usize = 5;

impl Prober {
    pub(super) fn new() -> Self {
        Self { clusters: VecDeque::new(), free_at: None, waits_for_packet: true }
    }

    /// Some cluster has not had all of its packets, and there is something to fill it with.
    pub(super) fn is_probing(&self) -> bool {
        !self.waits_for_packet && !self.clusters.is_empty()
    }

    /// Some cluster has not had all of its packets, and is not too late.
    pub(super) fn has_clusters(&mut self, now: Instant) -> bool {
        self.drop_late(now);
        !self.clusters.is_empty()
    }

    /// When the next burst is to leave: `None` if there is none, or nothing to fill it with.
    pub(super) fn next_time(&self, now: Instant) -> Option<Instant> {
        let front = self.clusters.front().filter(|_| !self.waits_for_packet)?;
        Some(self.burst_time(front).unwrap_or(now))
    }

    /// Clusters without a rate are nothing to send.
    pub(super) fn add(&mut self, now: Instant, cluster: ProbeCluster) {
        if cluster.bitrate == Bitrate::ZERO {
            return;
        }
        self.drop_late(now);
        if self.clusters.len() == MAX_CLUSTERS {
            self.clusters.pop_front();
        }
        let running = Running { cluster, requested_at: now, started_at: None, bytes: 0, packets: 0, burst: 0 };
        self.clusters.push_back(running);
    }

    /// A packet of `size` is there to be sent: enough to begin a probe with?
    pub(super) fn handle_packet(&mut self, size: u32) {
        if self.waits_for_packet {
            let burst = self.clusters.front().map_or(u64::MAX, Running::burst_size);
            self.waits_for_packet = u64::from(size) < burst.min(u64::from(MIN_FIRST_PACKET));
        }
    }

    /// Something has left that padding can be made of.
    pub(super) fn handle_first_media(&mut self) {
        self.waits_for_packet = false;
    }

    /// There was nothing to fill the burst with: the probe goes on with the next packet, if that is not too late.
    pub(super) fn stall(&mut self) {
        self.waits_for_packet = true;
        if let Some(front) = self.clusters.front_mut() {
            front.burst = 0;
        }
    }

    /// What is to leave now, and of which probe; what has become too late is dropped.
    pub(super) fn due(&mut self, now: Instant) -> Option<(ProbeId, u64)> {
        self.drop_late(now);
        if self.next_time(now)? > now {
            return None;
        }
        let front = self.clusters.front_mut()?;
        if front.burst == 0 {
            front.burst = front.burst_size();
        }
        Some((front.cluster.id, front.burst))
    }

    /// A packet of the probe that was due has left.
    pub(super) fn handle_sent(&mut self, now: Instant, probe: ProbeId, bytes: u64) {
        let Some(front) = self.clusters.front_mut().filter(|front| front.cluster.id == probe) else { return };
        front.started_at.get_or_insert(now);
        front.bytes = front.bytes.saturating_add(bytes);
        front.packets = front.packets.saturating_add(1);
        front.burst = front.burst.saturating_sub(bytes);
        if front.bytes >= front.cluster.min_bytes && front.packets >= front.cluster.min_packets {
            self.free_at = front.burst_end();
            self.clusters.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.clusters.clear();
    }

    /// When the next burst of the first cluster is to leave, `None` if that is at once.
    fn burst_time(&self, front: &Running) -> Option<Instant> {
        match front.started_at {
            _ if front.burst > 0 => None,
            Some(_) => front.burst_end(),
            None => self.free_at,
        }
    }

    /// Drops clusters that waited too long for their first packet, and those whose next burst is too late.
    fn drop_late(&mut self, now: Instant) {
        let is_late = |running: &Running| match running.started_at {
            None => now.saturating_duration_since(running.requested_at) > CLUSTER_TIMEOUT,
            Some(_) => running.burst_end().is_none_or(|end| now.saturating_duration_since(end) > MAX_PROBE_DELAY),
        };
        while self.clusters.front().is_some_and(is_late) {
            self.clusters.pop_front();
        }
    }
}

impl Running {
    fn burst_size(&self) -> u64 {
        self.cluster.bitrate.bytes_in(MIN_PROBE_DELTA).clamp(1, MAX_BURST)
    }

    /// When all that has left of it has had the time that it takes; `None` if nothing has, or if that is never.
    fn burst_end(&self) -> Option<Instant> {
        self.started_at?.checked_add(Debt::of_bytes(self.bytes).time_at(self.cluster.bitrate)?)
    }
}
