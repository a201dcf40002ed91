use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use super::{LegMedia, LegReport};

/// When a leg's report is put up, and when that is worth telling of.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    told: Option<Told>,
    /// When the report was put up last.
    put: Option<Instant>,
}

/// What was told of last, and when.
#[derive(Debug)]
struct Told {
    at: Instant,
    target: Bitrate,
    is_confirmed: bool,
    media: Vec<LegMedia>,
}

/// What is to become of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Put it up and tell of it.
    Telling,
    /// Put it up.
    Reading,
    /// Nothing yet: it is to be made anew then, at the latest.
    Waiting(Instant),
    Nothing,
}

/// Between two changes that are told of: several at once are one.
const BETWEEN_CHANGES: Duration = Duration::from_millis(20);
/// What does not matter is put up this often.
const BETWEEN_READINGS: Duration = Duration::from_millis(200);

impl Reporting {
    pub(super) fn judge(&mut self, now: Instant, report: &LegReport) -> Worth {
        let matters = self.told.as_ref().is_none_or(|told| told.differs(report));
        let after = |at: Option<Instant>, span| at.is_none_or(|at| now.saturating_duration_since(at) >= span);
        let told_at = self.told.as_ref().map(|told| told.at);
        if matters && after(told_at, BETWEEN_CHANGES) {
            let LegReport { is_confirmed, ref media, .. } = *report;
            self.told = Some(Told { at: now, target: report.estimate.target, is_confirmed, media: media.clone() });
            self.put = Some(now);
            return Worth::Telling;
        }
        match told_at {
            Some(at) if matters => Worth::Waiting(at + BETWEEN_CHANGES),
            _ if after(self.put, BETWEEN_READINGS) => {
                self.put = Some(now);
                Worth::Reading
            }
            _ => Worth::Nothing,
        }
    }
}

impl Told {
    fn differs(&self, report: &LegReport) -> bool {
        let (before, target) = (self.target.as_bps(), report.estimate.target.as_bps());
        // A fiftieth.
        let moved = u128::from(before.abs_diff(target)) * 50 > u128::from(before);
        moved || self.is_confirmed != report.is_confirmed || self.media != report.media
    }
}

#[cfg(test)]
mod tests {
    use lenscast_congestion::NetworkEstimate;
    use lenscast_router::TransportId;

    use super::*;

    fn report(kbps: u64, is_confirmed: bool) -> LegReport {
        let estimate = NetworkEstimate {
            target: Bitrate::from_kbps(kbps),
            pacing: Bitrate::ZERO,
            padding: Bitrate::ZERO,
            round_trip: None,
            loss: 0.0,
            queue_delay: Duration::ZERO,
            application_limited: false,
        };
        LegReport {
            id: TransportId(1),
            estimate,
            is_confirmed,
            sending: Bitrate::ZERO,
            pacer_queue: Duration::ZERO,
            media: Vec::new(),
        }
    }

    #[test]
    fn what_matters_is_told_of_at_once_and_then_each_20_ms_at_most() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut reporting = Reporting::default();
        assert_eq!(reporting.judge(at(0), &report(1_000, false)), Worth::Telling);
        assert_eq!(reporting.judge(at(1), &report(1_020, false)), Worth::Nothing, "a fiftieth is no more than that");
        assert_eq!(reporting.judge(at(2), &report(1_021, false)), Worth::Waiting(at(20)));
        assert_eq!(reporting.judge(at(20), &report(1_021, false)), Worth::Telling);
        assert_eq!(reporting.judge(at(21), &report(1_021, true)), Worth::Waiting(at(40)));
        assert_eq!(reporting.judge(at(22), &report(1_021, false)), Worth::Nothing, "it is as it was");
        assert_eq!(reporting.judge(at(220), &report(1_021, false)), Worth::Reading);
        assert_eq!(reporting.judge(at(221), &report(1_021, false)), Worth::Nothing);
        let media = LegMedia {
            consumer: lenscast_router::ConsumerId(1),
            producer: lenscast_router::ProducerId(1),
            preferred: crate::PreferredLayers { spatial: 0, temporal: None },
            layer: None,
            paused: false,
        };
        let with_media = LegReport { media: vec![media], ..report(1_021, false) };
        assert_eq!(reporting.judge(at(222), &with_media), Worth::Telling);
    }
}
