//! When to probe, and at which rate.
//!
//! At the start at three and six times the rate, and on at twice the result while that exceeds 0.7 of the probe (less and with
//! more care where one has misled); every 5 s at
//! twice the estimate while the application sends less than it might; and after a large fall. After libwebrtc,
//! `modules/congestion_controller/goog_cc/probe_controller.cc`; names in brackets are of `ProbeControllerConfig`.
//!
//! **Invariants.** No probe exceeds the upper bound or [`WANTED_FACTOR`] times what is wanted; none is sent while nothing is
//! wanted, before a first packet was sent, or while queues grow; at most [`PENDING_MAX`] wait to be polled.
//!
//! What it does not do: look at what becomes of a probe; that is [`probe_estimate`](super::probe_estimate).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rate::Rate;
use crate::network::{ProbeCluster, ProbeId};

/// Multiples of the rate that are probed at the start (`first_exponential_probe_scale`, `second_exponential_probe_scale`).
const START_FACTORS: [f64; 2] = [3.0, 6.0];
/// Multiple of a result that is probed next (`further_exponential_probe_scale`), if the result is more than this part of the
/// probe (`further_probe_threshold`).
const FURTHER_FACTOR: f64 = 2.0;
const FURTHER_THRESHOLD: f64 = 0.7;
/// While the application limits the rate: so often, and at this multiple (`alr_probing_interval`, `alr_probe_scale`).
const LIMITED_INTERVAL: Duration = Duration::from_secs(5);
const LIMITED_FACTOR: f64 = 2.0;
/// While there is no queue though the application uses what it may, or is to use more: after so long at first, twice as long after each probe
/// that has not shown this much more, at most so long; at the same multiple. Ours; libwebrtc waits for growth by a few percent
/// a second.
const CALM_INTERVAL: Duration = Duration::from_secs(1);
const CALM_INTERVAL_MAX: Duration = Duration::from_secs(4);
const CALM_SUCCESS: f64 = 1.2;
/// More that is allowed or wanted is looked for at once if it is more by this factor than at the last probe, and that was
/// [`CALM_INTERVAL`] ago at least. Ours: who divides bandwidth sets both anew with nearly every estimate of anybody's.
const RISE: f64 = 1.2;
/// While loss limits the rate, no probe is above this multiple of it (`loss_limited_probe_scale`).
const LOSS_LIMITED_FACTOR: f64 = 1.5;
/// A probe takes so many packets and so much time at least (`min_probe_packets_sent`, `min_probe_duration`).
const PACKETS_MIN: u32 = 5;
const DURATION: Duration = Duration::from_millis(15);
/// For so long a result is waited for (`kMaxWaitingTimeForProbingResult`).
const RESULT_WAIT: Duration = Duration::from_secs(1);
/// A fall to less than this is large (`kBitrateDropThreshold`). For so long after it (`kBitrateDropTimeout`) this part of the
/// rate before it is worth a probe (`kProbeFractionAfterDrop`), unless that is about the estimate anyway (`kProbeUncertainty`),
/// and not more often than this (`kMinTimeBetweenAlrProbes`).
const LARGE_FALL: f64 = 0.66;
const FALL_TIMEOUT: Duration = Duration::from_secs(5);
const FALL_FACTOR: f64 = 0.85;
const UNCERTAINTY: f64 = 0.05;
const FALL_INTERVAL: Duration = Duration::from_secs(5);
/// For so long after the application no longer limits the rate it counts as if it did (`kAlrEndedTimeout`).
const LIMITED_ENDED: Duration = Duration::from_secs(3);
/// A probe that shows this multiple of the estimate has to prove right: it does if its result stands for so long…
const LARGE_RAISE: f64 = 1.5;
const CONFIRMED: Duration = Duration::from_secs(3);
/// …and it has misled if delay takes that back before, to less than this multiple of the estimate before the probe, but not to so
/// little that it is a [`LARGE_FALL`] from there: the path lets short bursts through faster than it carries, as token buckets do.
/// Not at the start, where others who share the path take back what they had. This and what follows is ours.
const MISLED: f64 = 1.2;
const START: Duration = Duration::from_secs(3);
/// From then on probes are so many times as long, and only what arrives of their second half counts. They are no higher than this
/// multiple of the estimate, and more follows a result above this part of them.
const CAREFUL_LENGTH: u32 = 8;
const CAREFUL_FACTOR: f64 = 1.5;
const CAREFUL_THRESHOLD: f64 = 0.9;
/// That lasts so long; the next time twice as long, at most so long, unless a probe of the usual length has proved right.
const CAREFUL_TIME: Duration = Duration::from_secs(30);
const CAREFUL_TIME_MAX: Duration = Duration::from_secs(600);
/// What is wanted times this is the most that is probed. Ours: libwebrtc takes 2, but what is wanted here includes overhead,
/// and what is needed beyond it is only that a result, which is lower than its probe, still covers it.
pub(super) const WANTED_FACTOR: f64 = 1.25;
/// Probes that have not been polled yet; the oldest makes room.
const PENDING_MAX: usize = 4;

/// What limits the estimate, as far as it matters to probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The delay.
    Delay,
    /// The loss, and the estimate rises.
    LossIncreasing,
    /// The loss.
    Loss,
    /// Queues grow or drain, or nothing is heard: a probe would make it worse and say nothing.
    Queue,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Nothing has been probed.
    Init,
    /// A result above this is followed by another probe.
    Waiting {
        further: Rate,
    },
    Complete,
}

#[derive(Debug, Clone, Copy)]
struct Fall {
    at: Instant,
    before: Rate,
}

/// A probe's result, as long as it is neither confirmed nor taken back.
#[derive(Debug, Clone, Copy)]
struct Raise {
    at: Instant,
    before: Rate,
}

/// The plan of probes.
#[derive(Debug)]
pub(super) struct ProbeController {
    state: State,
    max: Rate,
    /// Unlimited until it is said.
    wanted: Rate,
    estimate: Rate,
    cause: Cause,
    limited_since: Option<Instant>,
    limited_until: Option<Instant>,
    /// When the first packet was sent.
    began: Option<Instant>,
    probed: Option<Instant>,
    fall: Option<Fall>,
    fall_probed: Option<Instant>,
    raise: Option<Raise>,
    /// Until then probes are longer.
    careful_until: Option<Instant>,
    /// For how long that is to be when a probe misleads next.
    careful_time: Duration,
    /// What was allowed and wanted at the last probe.
    probed_max: Rate,
    probed_wanted: Rate,
    /// There is no queue, nor has been for a while.
    is_calm: bool,
    calm_interval: Duration,
    /// The estimate at the last probe for calm.
    calm_estimate: Rate,
    /// And of which only the second half counts.
    pending: VecDeque<(ProbeCluster, bool)>,
    next: u32,
}

impl ProbeController {
    pub(super) fn new(start: Rate, max: Rate) -> Self {
        Self {
            state: State::Init,
            max,
            wanted: Rate::UNLIMITED,
            estimate: start,
            cause: Cause::Delay,
            limited_since: None,
            limited_until: None,
            began: None,
            probed: None,
            fall: None,
            fall_probed: None,
            raise: None,
            careful_until: None,
            careful_time: CAREFUL_TIME,
            probed_max: max,
            probed_wanted: Rate::UNLIMITED,
            is_calm: false,
            calm_interval: CALM_INTERVAL,
            calm_estimate: Rate::UNLIMITED,
            pending: VecDeque::with_capacity(PENDING_MAX),
            next: 0,
        }
    }

    /// A packet has been sent: from the first on there is a path to probe.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        if self.state == State::Init && self.wanted > Rate::ZERO {
            self.began = Some(now);
            let rates = START_FACTORS.map(|factor| self.estimate * factor);
            self.probe(now, &rates, true);
        }
    }

    /// The estimate is another one, or limited by something else.
    pub(super) fn handle_estimate(&mut self, now: Instant, estimate: Rate, cause: Cause) {
        self.cause = cause;
        if estimate < self.estimate * LARGE_FALL {
            self.fall = Some(Fall { at: now, before: self.estimate });
            self.calm_interval = CALM_INTERVAL;
        }
        self.judge_raise(now, estimate);
        self.estimate = estimate;
        if let State::Waiting { further } = self.state
            && estimate > further
        {
            self.probe(now, &[estimate * FURTHER_FACTOR], true);
        }
    }

    /// What a probe has shown, before [`handle_estimate`](Self::handle_estimate).
    pub(super) fn handle_result(&mut self, now: Instant, rate: Rate) {
        let is_at_start = self.began.is_none_or(|began| now.saturating_duration_since(began) < START);
        if is_at_start || rate < self.estimate * LARGE_RAISE {
            return;
        }
        // Of several in a row, the estimate before the first counts.
        let before = self.raise.map_or(self.estimate, |raise| raise.before);
        self.raise = Some(Raise { at: now, before });
    }

    fn judge_raise(&mut self, now: Instant, estimate: Rate) {
        let Some(raise) = self.raise else { return };
        if self.is_over(now, Some(raise.at), CONFIRMED) {
            self.raise = None;
            if !self.is_careful(raise.at) {
                self.careful_time = CAREFUL_TIME;
            }
        } else if self.is_by_delay() && estimate < (raise.before * MISLED).min(self.max) {
            self.raise = None;
            if estimate < raise.before * LARGE_FALL {
                // The path really carries less now.
                return;
            }
            self.careful_until = now.checked_add(self.careful_time);
            self.careful_time = (self.careful_time * 2).min(CAREFUL_TIME_MAX);
            // It has not fallen from anything that was there.
            self.fall = None;
        }
    }

    fn is_by_delay(&self) -> bool {
        matches!(self.cause, Cause::Delay | Cause::Queue)
    }

    /// The application limits the rate since then, or does not.
    pub(super) fn handle_application_limit(&mut self, now: Instant, since: Option<Instant>) {
        if self.limited_since.is_some() && since.is_none() {
            self.limited_until = Some(now);
        }
        self.limited_since = since;
    }

    /// There has been no queue for a while, or there is one.
    pub(super) fn handle_calm(&mut self, is_calm: bool) {
        self.is_calm = is_calm;
    }

    /// Queues have drained.
    pub(super) fn handle_recovery(&mut self, now: Instant) {
        let is_recent = |at: Option<Instant>, span| at.is_some_and(|at| now.saturating_duration_since(at) < span);
        let is_limited = self.limited_since.is_some() || self.is_calm || is_recent(self.limited_until, LIMITED_ENDED);
        let Some(fall) = self.fall else { return };
        let rate = fall.before * FALL_FACTOR;
        if is_limited
            && self.state == State::Complete
            && rate * (1.0 - UNCERTAINTY) > self.estimate
            && is_recent(Some(fall.at), FALL_TIMEOUT)
            && !is_recent(self.fall_probed, FALL_INTERVAL)
        {
            self.fall_probed = Some(now);
            self.probe(now, &[rate], false);
        }
    }

    /// No more than so much is allowed. If that is much more than it was, it is looked for at once.
    pub(super) fn set_max(&mut self, now: Instant, max: Rate) {
        let before = std::mem::replace(&mut self.max, max);
        if self.has_risen(now, self.probed_max, before, max) && self.estimate < max {
            self.probe(now, &[self.estimate * LIMITED_FACTOR], true);
        }
    }

    /// So much is wanted. If that is much more than it was, and the application limits the rate, it is looked for at once.
    pub(super) fn set_wanted(&mut self, now: Instant, wanted: Rate) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        // The first that is said is more than nothing said.
        let before = if before == Rate::UNLIMITED { Rate::ZERO } else { before };
        let probed = if self.probed_wanted == Rate::UNLIMITED { Rate::ZERO } else { self.probed_wanted };
        if self.has_risen(now, probed, before, wanted) && self.limited_since.is_some() && self.estimate < wanted {
            self.probe(now, &[self.estimate * LIMITED_FACTOR], true);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting { .. }) && self.is_over(now, self.probed, RESULT_WAIT) {
            self.state = State::Complete;
        }
        if self.state != State::Complete {
            return;
        }
        if self.next_limited().is_some_and(|next| next <= now) {
            self.probe(now, &[self.estimate * LIMITED_FACTOR], true);
        } else if self.next_calm().is_some_and(|next| next <= now) {
            if self.estimate >= self.calm_estimate * CALM_SUCCESS {
                self.calm_interval = CALM_INTERVAL;
            } else {
                self.calm_interval = (self.calm_interval * 2).min(CALM_INTERVAL_MAX);
            }
            self.calm_estimate = self.estimate;
            self.probe(now, &[self.estimate * LIMITED_FACTOR], true);
        }
    }

    /// A probe, and whether only its second half counts.
    pub(super) fn poll_probe(&mut self) -> Option<(ProbeCluster, bool)> {
        self.pending.pop_front()
    }

    fn is_careful(&self, now: Instant) -> bool {
        self.careful_until.is_some_and(|until| now < until)
    }

    /// When there is something to do at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Init => None,
            State::Waiting { .. } => self.probed?.checked_add(RESULT_WAIT),
            // Until the cause is another one nothing happens.
            State::Complete if self.is_blocked() || self.most() <= self.estimate => None,
            State::Complete => self.next_limited().into_iter().chain(self.next_calm()).min(),
        }
    }

    /// A limit has become so much higher than at the last probe that it is worth another one. After a while without a probe
    /// it is enough if it is so much higher than just before.
    fn has_risen(&self, now: Instant, probed: Rate, before: Rate, limit: Rate) -> bool {
        let known = if self.is_over(now, self.probed, LIMITED_INTERVAL) { probed.min(before) } else { probed };
        self.state == State::Complete
            && limit > before
            && limit >= known * RISE
            && self.is_over(now, self.probed, CALM_INTERVAL)
    }

    fn is_over(&self, now: Instant, since: Option<Instant>, span: Duration) -> bool {
        since.is_none_or(|since| now.saturating_duration_since(since) >= span)
    }

    fn next_limited(&self) -> Option<Instant> {
        let since = self.limited_since?;
        self.probed.map_or(since, |probed| probed.max(since)).checked_add(LIMITED_INTERVAL)
    }

    fn next_calm(&self) -> Option<Instant> {
        // What is wanted, and not known to be there, is worth as much as what is used.
        let is_missing = self.wanted < Rate::UNLIMITED && self.wanted > self.estimate;
        let is_used = self.is_calm && (self.limited_since.is_none() || is_missing);
        self.probed.filter(|_| is_used)?.checked_add(self.calm_interval)
    }

    fn is_blocked(&self) -> bool {
        matches!(self.cause, Cause::Queue | Cause::Loss)
    }

    fn most(&self) -> Rate {
        self.max.min(self.wanted * WANTED_FACTOR)
    }

    fn probe(&mut self, now: Instant, rates: &[Rate], mut further: bool) {
        if self.is_blocked() {
            return;
        }
        self.probed = Some(now);
        self.probed_max = self.max;
        self.probed_wanted = self.wanted;
        self.state = State::Complete;
        let limit = if self.cause == Cause::LossIncreasing { LOSS_LIMITED_FACTOR } else { f64::INFINITY };
        let most = self.most().min(self.estimate * limit);
        let is_careful = self.is_careful(now);
        let mut last = Rate::ZERO;
        for &rate in rates {
            let rate = if is_careful { rate.min(self.estimate * CAREFUL_FACTOR) } else { rate };
            further &= rate < most;
            let rate = rate.min(most);
            // Nothing to learn from what is known, or from the same again.
            if rate > self.estimate && rate > last {
                self.add(now, rate);
                last = rate;
            }
        }
        if further {
            let threshold = if is_careful { CAREFUL_THRESHOLD } else { FURTHER_THRESHOLD };
            self.state = State::Waiting { further: last * threshold };
        }
    }

    fn add(&mut self, now: Instant, rate: Rate) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        let id = ProbeId(self.next);
        self.next = self.next.wrapping_add(1);
        let is_careful = self.is_careful(now);
        let duration = if is_careful { DURATION * CAREFUL_LENGTH } else { DURATION };
        let min_bytes = rate.bytes_in(duration) as u64;
        let probe = ProbeCluster { id, bitrate: rate.to_bitrate(), min_packets: PACKETS_MIN, min_bytes };
        self.pending.push_back((probe, is_careful));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    const fn kbps(kbps: u32) -> Rate {
        Rate::from_kbps(kbps)
    }

    fn at(millis: u64) -> Instant {
        start() + Duration::from_millis(millis)
    }

    fn polled(controller: &mut ProbeController) -> Vec<u64> {
        std::iter::from_fn(|| controller.poll_probe()).map(|(probe, _)| probe.bitrate.as_kbps()).collect()
    }

    fn started() -> ProbeController {
        let mut controller = ProbeController::new(kbps(300), kbps(100_000));
        controller.set_wanted(at(0), kbps(10_000));
        controller.handle_sent(at(0));
        controller
    }

    /// As [`started`], with the start over and the application limiting the rate.
    fn limited() -> ProbeController {
        let mut controller = started();
        polled(&mut controller);
        controller.handle_timeout(at(1_000));
        controller.handle_estimate(at(1_000), kbps(1_000), Cause::Delay);
        controller.handle_application_limit(at(1_000), Some(at(1_000)));
        controller
    }

    #[test]
    fn probes_are_longer_for_a_while_after_one_that_misled() {
        let mut controller = limited();
        let probe = |controller: &mut ProbeController, second: u64, further: u64| {
            controller.handle_timeout(at(second * 1_000));
            let (probe, _) = controller.poll_probe().unwrap();
            controller.handle_result(at(second * 1_000 + 100), kbps(1_500));
            controller.handle_estimate(at(second * 1_000 + 100), kbps(1_500), Cause::Delay);
            // Which asks for the next one.
            assert_eq!(polled(controller), [further]);
            (probe.bitrate.as_kbps(), probe.min_bytes)
        };
        assert_eq!(probe(&mut controller, 6, 3_000), (2_000, 3_750), "15 ms");
        controller.handle_estimate(at(7_000), kbps(1_000), Cause::Queue);
        assert!(controller.is_careful(at(7_000)) && controller.fall.is_none(), "there is nothing to come back to");
        controller.handle_estimate(at(7_100), kbps(1_000), Cause::Delay);
        controller.handle_timeout(at(7_200));
        assert_eq!(probe(&mut controller, 13, 2_250), (1_500, 22_500), "120 ms");
        controller.handle_estimate(at(16_200), kbps(1_490), Cause::Delay);
        assert!(controller.is_careful(at(16_200)), "that a long one was right says nothing of short ones");
        assert!(!controller.is_careful(at(37_000)));
        // A little more than was known is taken back by any queue: that says nothing of bursts.
        controller.handle_result(at(37_000), kbps(1_700));
        controller.handle_estimate(at(37_000), kbps(1_700), Cause::Delay);
        controller.handle_estimate(at(37_500), kbps(1_400), Cause::Queue);
        assert!(!controller.is_careful(at(37_500)));
        // Misled again: for twice as long.
        controller.handle_estimate(at(38_000), kbps(1_000), Cause::Delay);
        controller.handle_result(at(38_000), kbps(1_600));
        controller.handle_estimate(at(38_100), kbps(1_600), Cause::Delay);
        controller.handle_estimate(at(38_200), kbps(1_000), Cause::Queue);
        assert!(controller.is_careful(at(98_199)) && !controller.is_careful(at(98_200)));
    }

    #[test]
    fn begins_with_three_and_six_times_the_start_and_goes_on_at_twice_the_result() {
        let mut controller = started();
        let (probe, _) = *controller.pending.front().unwrap();
        assert_eq!((probe.min_packets, probe.min_bytes), (5, 1_687), "15 ms of 900 kb/s");
        assert_eq!(polled(&mut controller), [900, 1_800]);
        controller.handle_estimate(at(200), kbps(1_260), Cause::Delay);
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.handle_estimate(at(200), kbps(1_700), Cause::Delay);
        assert_eq!(polled(&mut controller), [3_400]);
        controller.handle_estimate(at(400), kbps(2_000), Cause::Delay);
        assert_eq!(polled(&mut controller), [0; 0]);
    }

    #[test]
    fn what_is_wanted_beyond_the_estimate_is_looked_for_soon_though_less_is_sent() {
        let mut controller = limited();
        controller.handle_calm(true);
        controller.set_wanted(at(1_100), kbps(900));
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.handle_timeout(at(2_500));
        assert_eq!(polled(&mut controller), [0; 0], "it is all there");
        controller.set_wanted(at(2_600), kbps(1_100));
        assert_eq!(controller.poll_timeout().map(|due| due <= at(2_600)), Some(true));
        controller.handle_timeout(at(2_600));
        assert_eq!(polled(&mut controller), [1_375]);
        assert_eq!(controller.poll_timeout(), Some(at(4_600)), "and then less often");
    }

    #[test]
    fn waits_a_second_for_a_result() {
        let mut controller = started();
        polled(&mut controller);
        assert_eq!(controller.poll_timeout(), Some(at(1_000)));
        controller.handle_timeout(at(1_000));
        controller.handle_estimate(at(1_001), kbps(1_700), Cause::Delay);
        assert_eq!(polled(&mut controller), [0; 0]);
    }

    #[test]
    fn no_probe_exceeds_what_is_wanted() {
        let mut controller = ProbeController::new(kbps(300), kbps(100_000));
        controller.set_wanted(at(0), Rate::ZERO);
        controller.handle_sent(at(0));
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.set_wanted(at(10), kbps(1_000));
        controller.handle_sent(at(10));
        assert_eq!(polled(&mut controller), [900, 1_250]);
        controller.handle_estimate(at(200), kbps(1_200), Cause::Delay);
        assert_eq!(polled(&mut controller), [0; 0], "no more is needed");
    }

    #[test]
    fn probes_every_five_seconds_while_the_application_limits() {
        let mut controller = limited();
        assert_eq!(controller.poll_timeout(), Some(at(6_000)));
        controller.handle_timeout(at(5_999));
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.handle_timeout(at(6_000));
        assert_eq!(polled(&mut controller), [2_000]);
        controller.handle_timeout(at(10_999));
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.handle_timeout(at(11_000));
        assert_eq!(polled(&mut controller), [2_000]);
    }

    #[test]
    fn probes_less_and_less_often_while_there_is_no_queue_but_no_more_either() {
        let mut controller = limited();
        controller.handle_application_limit(at(1_000), None);
        controller.handle_calm(true);
        let mut found = Vec::new();
        for second in 1..40 {
            controller.handle_timeout(at(1_000 * second));
            if !polled(&mut controller).is_empty() {
                found.push(second);
            }
        }
        assert_eq!(found, [1, 3, 7, 11, 15, 19, 23, 27, 31, 35, 39]);
        controller.handle_estimate(at(40_000), kbps(2_000), Cause::Delay);
        controller.handle_timeout(at(43_000));
        controller.handle_timeout(at(44_000));
        assert_eq!(polled(&mut controller), [4_000, 4_000], "more was found: soon again");
    }

    #[test]
    fn never_probes_while_queues_grow_and_carefully_after_losses() {
        let mut controller = limited();
        controller.handle_estimate(at(1_100), kbps(1_000), Cause::Queue);
        controller.handle_timeout(at(6_000));
        assert_eq!(polled(&mut controller), [0; 0]);
        assert_eq!(controller.poll_timeout(), None, "there is nothing to do until something changes");
        controller.handle_estimate(at(6_000), kbps(1_000), Cause::LossIncreasing);
        controller.handle_timeout(at(6_010));
        assert_eq!(polled(&mut controller), [1_500]);
    }

    #[test]
    fn looks_for_the_old_rate_after_a_large_fall() {
        let mut controller = limited();
        controller.handle_estimate(at(2_000), kbps(500), Cause::Delay);
        controller.handle_recovery(at(3_000));
        assert_eq!(polled(&mut controller), [850]);
        controller.handle_recovery(at(3_100));
        assert_eq!(polled(&mut controller), [0; 0], "once in five seconds");
    }

    #[test]
    fn looks_at_once_for_more_that_is_wanted() {
        let mut controller = limited();
        controller.set_wanted(at(2_000), kbps(20_000));
        assert_eq!(polled(&mut controller), [2_000]);
    }

    #[test]
    fn a_limit_that_trembles_is_no_reason_to_probe() {
        let mut controller = ProbeController::new(kbps(1_000), kbps(1_500));
        controller.set_wanted(at(0), kbps(10_000));
        controller.handle_sent(at(0));
        controller.handle_timeout(at(1_000));
        controller.handle_application_limit(at(1_000), Some(at(1_000)));
        polled(&mut controller);
        let mut probes = 0;
        for step in 0..300 {
            let now = at(1_000 + 50 * step);
            controller.set_max(now, if step % 2 == 0 { kbps(1_530) } else { kbps(1_500) });
            controller.set_wanted(now, if step % 2 == 0 { kbps(9_000) } else { kbps(9_100) });
            controller.handle_timeout(now);
            probes += polled(&mut controller).len();
        }
        assert!(probes <= 3, "{probes} in 15 s: as often as without");
    }

    #[test]
    fn a_limit_that_swings_is_a_reason_each_five_seconds_at_most() {
        let mut controller = limited();
        controller.handle_application_limit(at(1_000), None);
        let mut probes = 0;
        for step in 0..300 {
            controller.set_max(at(1_000 + 50 * step), if step % 2 == 0 { kbps(5_000) } else { kbps(1_200) });
            probes += polled(&mut controller).len();
            controller.handle_timeout(at(1_000 + 50 * step));
        }
        assert!((1..=3).contains(&probes), "{probes}");
    }

    #[test]
    fn looks_at_once_for_what_a_limit_that_has_risen_by_a_fifth_allows() {
        let mut controller = ProbeController::new(kbps(300), kbps(1_000));
        controller.set_wanted(at(0), kbps(10_000));
        controller.handle_sent(at(0));
        controller.handle_timeout(at(1_000));
        polled(&mut controller);
        controller.set_max(at(1_100), kbps(1_100));
        assert_eq!(polled(&mut controller), [0; 0]);
        controller.set_max(at(1_200), kbps(1_200));
        assert_eq!(polled(&mut controller), [600]);
        controller.handle_estimate(at(1_300), kbps(300), Cause::Delay);
        controller.set_max(at(1_300), kbps(5_000));
        assert_eq!(polled(&mut controller), [0; 0], "not so soon again");
    }
}
