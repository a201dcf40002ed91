//! The estimate by the loss: the highest of a few guesses at the bandwidth that explains what was lost.
//!
//! Each quarter of a second of sending is one observation. After each, guesses a little above and below the last one, what
//! arrives, and the estimate by the delay are tried on the [model](super::loss_model). A rise after a loss is slow, in proportion
//! to what arrives; a fall is held for a while, for longer each time. After libwebrtc,
//! `modules/congestion_controller/goog_cc/loss_based_bwe_v2.cc`; names in brackets are of its configuration, whose default values
//! these are.
//!
//! **Invariants.** Never above the estimate by the delay unless less than what arrives; bounded memory: at most
//! [`LOST_MAX`] packets are remembered as lost.

use std::time::{Duration, Instant};

use super::loss_model::{Channel, LossModel, Observation, Tolerance};
use super::rate::Rate;
use crate::network::PacketReport;

/// What is sent over so much time makes an observation (`ObservationDurationLowerBound`).
const OBSERVATION: Duration = Duration::from_millis(250);
/// There is no estimate from fewer (`MinNumObservations`).
const OBSERVATIONS_MIN: usize = 3;
/// Guesses as multiples of the last estimate (`CandidateFactors`).
const FACTORS: [f64; 3] = [1.02, 1.0, 0.95];
/// After a loss: at most this multiple of what arrives (`BwRampupUpperBoundFactor`), or of that while it is below 1.3 times what
/// was held (`BwRampupUpperBoundInHoldFactor`, `BwRampupUpperBoundHoldThreshold`).
const RAMP_UP: f64 = 1.5;
const RAMP_UP_IN_HOLD: f64 = 1.2;
const HOLD_THRESHOLD: f64 = 1.3;
/// And at most this much more in so much time (`MaxIncreaseFactor`, `DelayedIncreaseWindow`), but this at least
/// (`bwe_defines.h`, `kCongestionControllerMinBitrate`).
const INCREASE_MAX: f64 = 1.3;
const INCREASE_WINDOW: Duration = Duration::from_millis(300);
const INCREASE_FLOOR: Rate = Rate::from_kbps(5);
/// Losses above the tolerance limit the estimate at once, to so many bits per second divided by what is above it
/// (`InstantUpperBoundBwBalance`).
const INSTANT_BALANCE: Rate = Rate::from_kbps(100);
/// For how long a fall is held: at first (`kInitHoldDuration`), each time longer by (`HoldDurationFactor`), at most
/// (`kMaxHoldDuration`).
const HOLD_START: Duration = Duration::from_millis(300);
const HOLD_FACTOR: u32 = 2;
const HOLD_MAX: Duration = Duration::from_secs(60);
/// For so long padding shows whether a rise is right (`PaddingDuration`).
const PADDING: Duration = Duration::from_secs(2);
/// Packets remembered as lost within one observation; more of them only count.
const LOST_MAX: usize = 1_024;

/// What limits the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossState {
    /// Not the loss.
    Unlimited,
    /// The loss, and the estimate rises again. Padding shows whether that is right.
    Increasing,
    /// The loss.
    Decreasing,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Option<Instant>,
    duration: Duration,
    rate: Rate,
}

const NO_HOLD: Hold = Hold { until: None, duration: HOLD_START, rate: Rate::UNLIMITED };

#[derive(Debug, Clone, Copy)]
struct Padding {
    since: Instant,
    rate: Rate,
}

/// The estimate and what it goes by.
#[derive(Debug)]
pub(super) struct LossEstimator {
    model: LossModel,
    partial: Partial,
    min: Rate,
    max: Rate,
    acknowledged: Option<Rate>,
    best: Option<Channel>,
    state: LossState,
    rate: Rate,
    tolerance: Tolerance,
    /// When the last packet of the last observation was sent.
    observed: Option<Instant>,
    hold: Hold,
    padding: Option<Padding>,
    /// No more than this rate until the window after this time is over.
    window: Option<(Instant, Rate)>,
}

impl LossEstimator {
    pub(super) fn new(min: Rate, max: Rate) -> Self {
        Self {
            model: LossModel::new(),
            partial: Partial::new(),
            min,
            max,
            acknowledged: None,
            best: None,
            state: LossState::Unlimited,
            rate: Rate::UNLIMITED,
            tolerance: Tolerance::USUAL,
            observed: None,
            hold: NO_HOLD,
            padding: None,
            window: None,
        }
    }

    /// What the path carries by its losses; `None` while there is too little to go by.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.is_ready().then_some(self.rate)
    }

    pub(super) fn state(&self) -> LossState {
        if self.is_ready() { self.state } else { LossState::Unlimited }
    }

    pub(super) fn set_bounds(&mut self, min: Rate, max: Rate) {
        (self.min, self.max) = (min, max);
    }

    pub(super) fn set_tolerance(&mut self, tolerance: Tolerance) {
        self.tolerance = tolerance;
    }

    /// Feedback has come. `delay` is the estimate by the delay, or while a queue is being emptied what it will be after that.
    pub(super) fn update(
        &mut self,
        reports: &[PacketReport],
        acknowledged: Option<Rate>,
        delay: Rate,
        is_application_limited: bool,
    ) {
        self.acknowledged = acknowledged.or(self.acknowledged);
        let Some(now) = self.observe(reports) else { return };
        let best = *self.best.get_or_insert_with(|| Channel::new(delay));
        if self.rate == Rate::UNLIMITED {
            self.rate = delay;
        }
        let mut guess = self.best_guess(now, best, delay, is_application_limited);
        // While more is lost than the path loses anyway, nothing rises.
        if self.model.average_loss() > guess.inherent_loss {
            guess.bandwidth = guess.bandwidth.min(best.bandwidth);
        }
        if self.state != LossState::Unlimited {
            guess.bandwidth = self.slow_rise(now, best.bandwidth, guess.bandwidth);
        }
        let lower = self.lower_bound();
        let bounded = guess.bandwidth.min(self.upper_bound()).min(delay).max(lower);
        self.best = Some(if bounded < guess.bandwidth {
            Channel { bandwidth: bounded, inherent_loss: 0.0 }
        } else {
            Channel { bandwidth: guess.bandwidth.max(lower), ..guess }
        });
        self.decide(now, bounded, delay);
    }

    fn is_ready(&self) -> bool {
        self.best.is_some() && self.model.count() >= OBSERVATIONS_MIN
    }

    /// The time of a new observation, if the reports complete one.
    fn observe(&mut self, reports: &[PacketReport]) -> Option<Instant> {
        let first = reports.iter().map(|report| report.sent.sent_at).min()?;
        let last = reports.iter().map(|report| report.sent.sent_at).max()?;
        reports.iter().for_each(|report| self.partial.add(report));
        let span = last.saturating_duration_since(*self.observed.get_or_insert(first));
        if span < OBSERVATION {
            return None;
        }
        self.observed = Some(last);
        self.model.add(self.partial.take(span));
        Some(last)
    }

    fn best_guess(&self, now: Instant, best: Channel, delay: Rate, is_application_limited: bool) -> Channel {
        let window = self.window.filter(|_| self.state != LossState::Unlimited);
        let most = window.map_or(self.max, |(_, rate)| rate).max(best.bandwidth);
        // What arrives says nothing of the path while the application limits it, unless padding fills the rest.
        let is_padded = self.padding.is_some_and(|padding| now.saturating_duration_since(padding.since) <= PADDING);
        let acknowledged = self.acknowledged.filter(|_| !is_application_limited || is_padded);
        let by_delay = Some(delay).filter(|&delay| delay > best.bandwidth);
        let factors = FACTORS.map(|factor| Some(best.bandwidth * factor));
        let mut winner = (best, f64::NEG_INFINITY);
        for bandwidth in factors.into_iter().chain([acknowledged, by_delay]).flatten() {
            let fit = self.model.fit(Channel { bandwidth: bandwidth.min(most), ..best }, self.tolerance);
            if fit.1 > winner.1 {
                winner = fit;
            }
        }
        winner.0
    }

    /// The bandwidth that may be guessed while loss limits the rate.
    fn slow_rise(&self, now: Instant, before: Rate, mut guess: Rate) -> Rate {
        if let Some((since, limit)) = self.window
            && now.saturating_duration_since(since) < INCREASE_WINDOW
        {
            guess = guess.min(limit);
        }
        let rises = self.is_rise(before, guess);
        if let Some(acknowledged) = self.acknowledged.filter(|_| rises) {
            let is_held = acknowledged < self.hold.rate * HOLD_THRESHOLD && self.hold.rate.is_finite();
            let factor = if is_held { RAMP_UP_IN_HOLD } else { RAMP_UP };
            guess = guess.min(acknowledged * factor).max(before);
            if self.state == LossState::Decreasing && guess == before {
                // So that this counts as a rise, and padding begins.
                guess = before + Rate::from_bps(1.0);
            }
        }
        guess
    }

    /// The state and the rate that follow.
    fn decide(&mut self, now: Instant, bounded: Rate, delay: Rate) {
        let is_limited = bounded < delay && bounded < self.max;
        let is_held = self.hold.until.is_some_and(|until| until > now);
        if self.state == LossState::Decreasing && is_held && bounded < delay {
            self.hold.rate = self.hold.rate.max(self.lower_bound());
            self.rate = self.hold.rate.min(bounded);
            return;
        }
        if is_limited && self.is_rise(self.rate, bounded) && self.may_go_on_rising(now, bounded) {
            if self.padding.is_none_or(|padding| bounded > padding.rate) {
                self.padding = Some(Padding { since: now, rate: bounded });
            }
            self.state = LossState::Increasing;
        } else if is_limited {
            if self.state != LossState::Decreasing {
                let duration = (self.hold.duration * HOLD_FACTOR).min(HOLD_MAX);
                self.hold = Hold { until: now.checked_add(self.hold.duration), duration, rate: bounded };
            }
            self.padding = None;
            self.state = LossState::Decreasing;
        } else {
            self.hold = NO_HOLD;
            self.padding = None;
            self.state = LossState::Unlimited;
        }
        self.rate = bounded;
        let is_over = self.window.is_none_or(|(since, _)| now.saturating_duration_since(since) > INCREASE_WINDOW);
        if self.state != LossState::Unlimited && is_over {
            let best = self.best.map_or(bounded, |best| best.bandwidth);
            self.window = Some((now, (best * INCREASE_MAX).max(INCREASE_FLOOR)));
        }
    }

    fn is_rise(&self, before: Rate, after: Rate) -> bool {
        match self.state {
            LossState::Unlimited => false,
            LossState::Increasing => after >= before,
            LossState::Decreasing => after > before,
        }
    }

    /// A rise that gets no further than where padding began is none (`CanKeepIncreasingState`).
    fn may_go_on_rising(&self, now: Instant, rate: Rate) -> bool {
        let Some(padding) = self.padding.filter(|_| self.state == LossState::Increasing) else { return true };
        now.saturating_duration_since(padding.since) <= PADDING || padding.rate < rate
    }

    fn upper_bound(&self) -> Rate {
        let above = self.model.average_loss() - self.tolerance.loss();
        if above > 0.0 { INSTANT_BALANCE * (1.0 / above) } else { self.max }
    }

    /// What arrives is carried, whatever is lost (`LowerBoundByAckedRateFactor`).
    fn lower_bound(&self) -> Rate {
        self.acknowledged.unwrap_or(Rate::ZERO).max(self.min)
    }
}

/// An observation that is not complete.
#[derive(Debug)]
struct Partial {
    bytes: f64,
    /// Sequence numbers and sizes, in ascending order.
    lost: Vec<(u64, u32)>,
    /// Bytes lost that are not in the list.
    unlisted: f64,
}

impl Partial {
    fn new() -> Self {
        Self { bytes: 0.0, lost: Vec::with_capacity(LOST_MAX), unlisted: 0.0 }
    }

    fn add(&mut self, report: &PacketReport) {
        let (sequence, size) = (report.sent.sequence, report.sent.size);
        let place = self.lost.binary_search_by_key(&sequence, |&(sequence, _)| sequence);
        match (place, report.received_at) {
            // Lost, but then it came after all.
            (Ok(place), Some(_)) => {
                self.lost.remove(place);
            }
            (Ok(_), None) => {}
            (Err(_), Some(_)) => self.bytes += f64::from(size),
            (Err(place), None) => {
                self.bytes += f64::from(size);
                if self.lost.len() < LOST_MAX {
                    self.lost.insert(place, (sequence, size));
                } else {
                    self.unlisted += f64::from(size);
                }
            }
        }
    }

    fn take(&mut self, span: Duration) -> Observation {
        let lost_bytes = self.unlisted + self.lost.iter().map(|&(_, size)| f64::from(size)).sum::<f64>();
        let observation =
            Observation { bytes: self.bytes, lost_bytes, sending_rate: Rate::from_bytes(self.bytes, span) };
        self.lost.clear();
        (self.bytes, self.unlisted) = (0.0, 0.0);
        observation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::report;

    struct Run {
        loss: LossEstimator,
        sequence: u64,
        millis: u64,
    }

    impl Run {
        fn new() -> Self {
            Self { loss: LossEstimator::new(Rate::from_kbps(10), Rate::from_kbps(100_000)), sequence: 0, millis: 0 }
        }

        /// Quarter seconds at 1 Mb/s, in packets of 1,250 bytes each 10 ms, of which each so manieth is lost.
        fn send(&mut self, quarters: u64, lost_each: u64, delay_kbps: u32) {
            for _ in 0..quarters {
                let reports: Vec<_> = (0..25)
                    .map(|n| {
                        let sent = self.millis + 10 * n;
                        let sequence = self.sequence + n;
                        report(sequence, 1_250, sent, (!sequence.is_multiple_of(lost_each)).then_some(sent + 50))
                    })
                    .collect();
                self.sequence += 25;
                self.millis += 250;
                let acknowledged = 1_000.0 * (1.0 - 1.0 / lost_each as f64);
                let acknowledged = Some(Rate::from_bps(acknowledged * 1e3));
                self.loss.update(&reports, acknowledged, Rate::from_kbps(delay_kbps), false);
            }
        }
    }

    #[test]
    fn is_not_ready_before_three_observations() {
        let mut run = Run::new();
        run.send(3, u64::MAX, 1_000);
        assert_eq!(run.loss.rate(), None);
        run.send(1, u64::MAX, 1_000);
        assert_eq!(run.loss.rate(), Some(Rate::from_kbps(1_000)));
    }

    #[test]
    fn without_loss_the_delay_decides() {
        let mut run = Run::new();
        run.send(10, u64::MAX, 1_000);
        run.send(10, u64::MAX, 3_000);
        assert_eq!(run.loss.rate(), Some(Rate::from_kbps(3_000)));
        assert_eq!(run.loss.state(), LossState::Unlimited);
    }

    #[test]
    fn half_lost_cuts_to_what_arrives_and_it_rises_again_later() {
        let mut run = Run::new();
        run.send(10, u64::MAX, 1_000);
        run.send(20, 2, 1_000);
        assert_eq!(run.loss.state(), LossState::Decreasing);
        let cut = run.loss.rate().unwrap().kbps();
        assert!((499.0..600.0).contains(&cut), "{cut}");
        run.send(60, u64::MAX, 1_000);
        assert_eq!(run.loss.rate(), Some(Rate::from_kbps(1_000)));
    }

    #[test]
    fn two_percent_are_taken_as_the_paths_own() {
        let mut run = Run::new();
        run.send(60, 50, 1_000);
        let rate = run.loss.rate().unwrap().kbps();
        assert!(rate > 950.0, "{rate}");
    }

    #[test]
    fn what_is_reported_lost_and_then_comes_was_not_lost() {
        let mut partial = Partial::new();
        partial.add(&report(1, 1_000, 0, None));
        partial.add(&report(1, 1_000, 0, None));
        partial.add(&report(2, 1_000, 10, None));
        partial.add(&report(1, 1_000, 0, Some(500)));
        let observation = partial.take(Duration::from_millis(250));
        assert_eq!((observation.bytes, observation.lost_bytes), (2_000.0, 1_000.0));
    }

    #[test]
    fn remembers_no_more_losses_than_it_may() {
        let mut partial = Partial::new();
        (0..10_000).for_each(|n| partial.add(&report(n, 1_000, 0, None)));
        assert_eq!(partial.lost.len(), LOST_MAX);
        assert_eq!(partial.take(Duration::from_secs(1)).lost_bytes, 10_000_000.0);
    }
}
