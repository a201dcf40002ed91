//! The estimate by the delay: groups of packets, the slope of their delay, what it means, and the rate that follows.
//!
//! After libwebrtc, `modules/congestion_controller/goog_cc/delay_based_bwe.cc`.

use std::time::{Duration, Instant};

use super::arrival_groups::ArrivalGroups;
use super::overuse::{OveruseDetector, Usage};
use super::rate::Rate;
use super::rate_control::RateControl;
use super::standing_queue::QueueAdvice;
use super::trendline::Trendline;

/// After so long without a packet the path counts as a new one (`kStreamTimeOut`).
const SILENCE: Duration = Duration::from_secs(2);

/// What a feedback message has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DelayUpdate {
    /// The rate.
    Rate,
    /// The rate, to what a probe found.
    Probed,
}

/// What else a feedback message has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Findings {
    /// How much arrives of what is sent.
    pub(super) acknowledged: Option<Rate>,
    /// How fast the last packets arrived that had waited; `None` if those are too few: then nothing can be told of the link.
    pub(super) arrives: Option<Rate>,
    /// What a probe has found.
    pub(super) probed: Option<Rate>,
    /// What is to be done about the queue.
    pub(super) queue: QueueAdvice,
    /// How long the fastest packets wait.
    pub(super) waits: Duration,
    /// There has been no queue for a while.
    pub(super) is_calm: bool,
    /// Something was lost.
    pub(super) has_lost: bool,
    /// The queue overflows.
    pub(super) overflows: bool,
    /// Packets wait to be sent.
    pub(super) has_backlog: bool,
}

/// The estimate and all that it goes by.
#[derive(Debug)]
pub(super) struct DelayEstimator {
    groups: ArrivalGroups,
    trendline: Trendline,
    detector: OveruseDetector,
    control: RateControl,
    /// When the last packet was heard of.
    heard: Option<Instant>,
    has_recovered: bool,
}

impl DelayEstimator {
    pub(super) fn new(now: Instant, start: Rate, min: Rate) -> Self {
        Self {
            groups: ArrivalGroups::default(),
            trendline: Trendline::new(),
            detector: OveruseDetector::new(),
            control: RateControl::new(now, start, min),
            heard: None,
            has_recovered: false,
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.control.rate()
    }

    pub(super) fn usage(&self) -> Usage {
        self.detector.usage()
    }

    pub(super) fn control(&self) -> &RateControl {
        &self.control
    }

    pub(super) fn control_mut(&mut self) -> &mut RateControl {
        &mut self.control
    }

    /// A packet has arrived; packets come in the order of their arrival.
    pub(super) fn handle_packet(&mut self, now: Instant, sent: Instant, received: Duration) {
        if self.heard.is_some_and(|heard| now.saturating_duration_since(heard) > SILENCE) {
            self.groups = ArrivalGroups::default();
            self.trendline = Trendline::new();
            self.detector = OveruseDetector::new();
        }
        self.heard = Some(now);
        let before = self.detector.usage();
        if let Some(delta) = self.groups.add(sent, received, now) {
            let slope = self.trendline.add(delta, received);
            self.detector.add(slope, delta.sent_ms, received);
        }
        self.has_recovered |= before == Usage::Under && self.detector.usage() == Usage::Normal;
    }

    /// All packets of a feedback message have been handled.
    pub(super) fn update(&mut self, now: Instant, findings: &Findings) -> DelayUpdate {
        let Findings { acknowledged, arrives, probed, queue, waits, is_calm, has_lost, overflows, has_backlog } =
            *findings;
        match (queue, arrives) {
            (QueueAdvice::Drain(factor), Some(arrives)) => {
                self.control.drain(now, arrives, factor, waits, overflows);
                return DelayUpdate::Rate;
            }
            (QueueAdvice::Empty, _) if !self.control.resume(now, has_backlog) => return DelayUpdate::Rate,
            (QueueAdvice::Foreign, _) => _ = self.control.resume(now, false),
            (QueueAdvice::Empty | QueueAdvice::Drain(_) | QueueAdvice::Hold, _) => {}
        }
        let Some(acknowledged) = acknowledged else {
            // Overuse before it is known what arrives: half.
            if self.usage() == Usage::Over && self.control.may_cut(now) {
                let half = self.control.rate() * 0.5;
                self.control.set_rate(now, half);
            }
            return DelayUpdate::Rate;
        };
        if queue == QueueAdvice::Foreign {
            self.control.compete(now, has_lost, acknowledged);
            return DelayUpdate::Rate;
        }
        if let Some(probed) = probed.filter(|&probed| probed > self.control.rate() && queue == QueueAdvice::Empty) {
            self.control.set_rate(now, probed);
            return DelayUpdate::Probed;
        }
        self.control.steer(now, waits, is_calm, acknowledged);
        DelayUpdate::Rate
    }

    /// Whether queues have drained since this was last asked: time to see what the path carries now.
    pub(super) fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.has_recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn findings(acknowledged: Option<Rate>, probed: Option<Rate>) -> Findings {
        Findings {
            acknowledged,
            arrives: acknowledged,
            probed,
            queue: QueueAdvice::Empty,
            waits: Duration::ZERO,
            is_calm: false,
            has_lost: false,
            overflows: false,
            has_backlog: false,
        }
    }

    /// A group each 10 ms that takes `extra_us` longer than the one before it.
    fn send(delay: &mut DelayEstimator, from: u64, count: u64, base_us: u64, extra_us: i64) {
        for n in 0..count {
            let sent = start() + ms(10 * (from + n));
            let received = (base_us + 10_000 * (from + n)).saturating_add_signed(extra_us * n as i64);
            delay.handle_packet(sent + ms(50), sent, Duration::from_micros(received));
        }
    }

    #[test]
    fn goes_by_what_is_to_be_done_about_the_queue() {
        let mut delay = DelayEstimator::new(start(), Rate::from_kbps(1_000), Rate::from_kbps(10));
        let still = findings(Some(Rate::from_kbps(1_000)), None);
        assert_eq!(delay.update(start() + ms(100), &still), DelayUpdate::Rate);
        let steered = delay.rate();
        assert!(steered > Rate::from_kbps(1_000));
        let foreign = Findings { queue: QueueAdvice::Foreign, ..still };
        delay.update(start() + ms(200), &foreign);
        assert!(delay.rate() > steered + Rate::from_kbps(10));
        let full = Findings { queue: QueueAdvice::Drain(0.5), ..still };
        delay.update(start() + ms(300), &full);
        assert_eq!(delay.rate(), Rate::from_kbps(500));
        delay.update(start() + ms(400), &still);
        assert!(delay.rate() >= Rate::from_kbps(960));
    }

    #[test]
    fn a_probe_is_believed_unless_there_is_a_queue() {
        let mut delay = DelayEstimator::new(start(), Rate::from_kbps(1_000), Rate::from_kbps(10));
        let probed = findings(Some(Rate::from_kbps(1_000)), Some(Rate::from_kbps(3_000)));
        let full = Findings { queue: QueueAdvice::Hold, ..probed };
        assert_eq!(delay.update(start() + ms(100), &full), DelayUpdate::Rate);
        assert!(delay.rate() < Rate::from_kbps(1_100));
        assert_eq!(delay.update(start() + ms(200), &probed), DelayUpdate::Probed);
        assert_eq!(delay.rate(), Rate::from_kbps(3_000));
    }

    #[test]
    fn halves_where_it_is_not_known_what_arrives() {
        let mut delay = DelayEstimator::new(start(), Rate::from_kbps(1_000), Rate::from_kbps(10));
        send(&mut delay, 0, 60, 50_000, 2_000);
        delay.update(start() + ms(650), &findings(None, None));
        assert_eq!(delay.rate(), Rate::from_kbps(500));
    }

    #[test]
    fn tells_when_queues_have_drained() {
        let mut delay = DelayEstimator::new(start(), Rate::from_kbps(1_000), Rate::from_kbps(10));
        send(&mut delay, 0, 100, 250_000, 0);
        send(&mut delay, 100, 30, 250_000, -2_000);
        assert_eq!(delay.usage(), Usage::Under);
        assert!(!delay.take_recovered());
        send(&mut delay, 130, 100, 190_000, 0);
        assert!(delay.take_recovered());
        assert!(!delay.take_recovered());
    }
}
