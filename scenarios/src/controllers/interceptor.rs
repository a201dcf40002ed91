//! The controller of the crate `rtc-interceptor` on trial: `Gcc`, behind the same trait as ours.
//!
//! It is driven as the crate's own `CongestionControlInterceptor` drives it: departures go into its `History`, feedback is
//! matched there, and what comes out goes to `Gcc`, packets that never arrived included; records are dropped after the
//! crate's two seconds. It takes start and bounds as arguments, and nothing else of it can be set. It neither probes nor
//! pads nor knows what is wanted, and reads no marks.
//!
//! Its best configuration, by trial: packets leave at 1.5 times the target. The crate's own pacer has no headroom, by which
//! half of the media waits more than a second at the sender once some of it is sent again; libwebrtc's 2.5 lets bursts
//! overrun the queues that this estimator keeps full, and takes a tenth less of a link.

use std::time::{Duration, Instant};

use lenscast_congestion::{EstimateBounds, NetworkController, NetworkEstimate, PacketReport, ProbeCluster, SentPacket};
use lenscast_media::Bitrate;
use rtc_interceptor::{Acknowledgement, BandwidthEstimator, CONGESTION_CONTROL_DEFAULT_PRUNE_HORIZON, Gcc, History};

/// The only stream.
const SSRC: u32 = 1;
/// What Pion's pacer has, whose estimator this is a port of (the crate's `src/gcc/estimator.rs` says so).
const PACING_FACTOR: f64 = 1.5;

/// The crate's estimator with its memory of what was sent.
pub(crate) struct Interceptor {
    gcc: Gcc,
    history: History,
    round_trip: Option<Duration>,
}

impl Interceptor {
    pub(crate) fn new(bounds: EstimateBounds) -> Self {
        let bps = |bitrate: Bitrate| bitrate.as_bps() as f64;
        Self {
            gcc: Gcc::new(bps(bounds.start), bps(bounds.min), bps(bounds.max)),
            history: History::new(),
            round_trip: None,
        }
    }
}

impl NetworkController for Interceptor {
    fn handle_sent(&mut self, packet: SentPacket) {
        // As on the wire: transport-wide numbers have 16 bits.
        let sequence = packet.sequence as u16;
        self.history.add_outgoing(SSRC, sequence, true, sequence, packet.size as usize, packet.sent_at);
    }

    fn handle_feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        for report in reports {
            let mut acknowledgement = Acknowledgement::lost(report.sent.sequence as u16);
            acknowledgement.arrived = report.received_at.is_some();
            acknowledgement.arrival = report.received_at;
            if let Some(round_trip) = self.history.on_twcc_feedback(now, acknowledgement)
                && report.received_at.is_some()
            {
                self.round_trip = Some(round_trip);
            }
        }
        let reports = self.history.take_reports();
        self.gcc.on_reports(now, &reports);
        if let Some(cutoff) = now.checked_sub(CONGESTION_CONTROL_DEFAULT_PRUNE_HORIZON) {
            self.history.prune_before(cutoff);
        }
    }

    fn set_wanted(&mut self, _now: Instant, _wanted: Bitrate) {}

    fn handle_timeout(&mut self, now: Instant) {
        self.gcc.handle_timeout(now);
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.gcc.poll_timeout()
    }

    fn estimate(&self) -> NetworkEstimate {
        let target = self.gcc.target_bitrate();
        NetworkEstimate {
            target: Bitrate::from_bps(target as u64),
            pacing: Bitrate::from_bps((target * PACING_FACTOR) as u64),
            padding: Bitrate::ZERO,
            round_trip: self.round_trip,
            loss: self.gcc.stats().packet_loss.unwrap_or(0.0),
            // It does not say.
            queue_delay: Duration::ZERO,
            application_limited: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lenscast_congestion::PacketKind;

    /// A path of 1 Mb/s with 50 ms either way and a queue of 300 ms; feedback each 100 ms. Returns the targets, one each 100 ms.
    fn run(seconds: u32, loses: impl Fn(u64) -> bool) -> Vec<u64> {
        #[expect(clippy::disallowed_methods, reason = "a test is a driver")]
        let start = Instant::now();
        let bounds = EstimateBounds {
            min: Bitrate::from_bps(50_000),
            start: Bitrate::from_bps(300_000),
            max: Bitrate::from_bps(5_000_000),
        };
        let mut controller = Interceptor::new(bounds);
        let (mut sequence, mut free_at, mut budget) = (0, start, 0.0);
        let (mut waiting, mut targets) = (Vec::new(), Vec::new());
        for step in 0..seconds * 100 {
            let now = start + step * Duration::from_millis(10);
            budget += controller.estimate().target.as_bps() as f64 / 8.0 * 0.01;
            while budget >= 1200.0 {
                budget -= 1200.0;
                let sent = SentPacket { sequence, size: 1200, sent_at: now, kind: PacketKind::Video, probe: None };
                controller.handle_sent(sent);
                let is_full = free_at > now + Duration::from_millis(300);
                if !is_full {
                    free_at = free_at.max(now) + Duration::from_micros(9_600);
                }
                let arrival = free_at + Duration::from_millis(50);
                let received_at = (!is_full && !loses(sequence)).then(|| arrival - start);
                waiting.push((arrival, PacketReport { sent, received_at, congestion_experienced: false }));
                sequence += 1;
            }
            if step % 10 == 9 {
                let come = waiting.partition_point(|(arrival, _)| *arrival + Duration::from_millis(50) <= now);
                let reports: Vec<_> = waiting.drain(..come).map(|(_, report)| report).collect();
                controller.handle_feedback(now, &reports);
                targets.push(controller.estimate().target.as_bps());
            }
        }
        targets
    }

    #[test]
    fn it_finds_a_steady_link_in_its_own_time() {
        let targets = run(60, |_| false);
        let late = &targets[400..];
        let mean = late.iter().sum::<u64>() / late.len() as u64;
        assert!((500_000..1_300_000).contains(&mean), "{mean} b/s on 1 Mb/s");
    }

    #[test]
    fn it_gives_way_to_heavy_loss() {
        let targets = run(30, |sequence| sequence.is_multiple_of(4));
        let last = *targets.last().unwrap();
        assert!(last < 300_000, "{last} b/s at 25 % loss");
    }

    #[test]
    fn it_stays_within_its_bounds_whatever_comes() {
        for target in run(120, |sequence| sequence.is_multiple_of(2)) {
            assert!((50_000..=5_000_000).contains(&target), "{target} b/s");
        }
    }
}
