//! A controller that believes what it is told at the beginning. It shows what the network does without one.

use std::time::Instant;

use lenscast_congestion::{EstimateBounds, NetworkController, NetworkEstimate, PacketReport, ProbeCluster, SentPacket};
use lenscast_media::Bitrate;

/// Always the start rate.
pub(crate) struct Fixed {
    estimate: NetworkEstimate,
}

impl Fixed {
    pub(crate) fn new(_now: Instant, bounds: EstimateBounds) -> Self {
        let target = bounds.start;
        Self {
            estimate: NetworkEstimate {
                target,
                pacing: Bitrate::from_bps(target.as_bps() * 5 / 2),
                padding: Bitrate::ZERO,
                round_trip: None,
                loss: 0.0,
                queue_delay: std::time::Duration::ZERO,
                application_limited: false,
            },
        }
    }
}

impl NetworkController for Fixed {
    fn handle_sent(&mut self, _packet: SentPacket) {}

    fn handle_feedback(&mut self, _now: Instant, _reports: &[PacketReport]) {}

    fn set_wanted(&mut self, _now: Instant, _wanted: Bitrate) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn estimate(&self) -> NetworkEstimate {
        self.estimate
    }
}
