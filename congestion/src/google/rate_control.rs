//! The rate by the delay: up while queues are as they were, down to less than what arrives when they grow.
//!
//! While the queue is known to be our own: [small steps](super::steering) near the capacity, a deep cut while a long queue is
//! [emptied](super::standing_queue). Elsewhere as libwebrtc: additive increase near the capacity at which overuse was found before, multiplicative elsewhere; a cut to 0.85 of the
//! acknowledged rate; `modules/remote_bitrate_estimator/aimd_rate_control.cc`.
//!
//! **Invariants.** Never below the minimum; never raised above 1.5 times what arrives plus 10 kb/s but by a probe.
//!
//! What it does not do: look at loss.

use std::time::{Duration, Instant};

use super::link_capacity::LinkCapacity;
use super::overuse::Usage;
use super::rate::Rate;
use super::steering::{Steering, aim};

/// What is left of the acknowledged rate after a cut (`kDefaultBackoffFactor`).
const BACKOFF: f64 = 0.85;
/// What is left where the queue is known to be short: it has nothing to drain. Ours.
const BACKOFF_SHORT: f64 = 0.95;
/// Before the round trip is known (`kDefaultRtt`).
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(200);
/// Cuts are as far apart as the round trip, within these (`TimeToReduceFurther`).
const CUT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const CUT_INTERVAL_MAX: Duration = Duration::from_millis(200);
/// Growth a second away from the known capacity, and at least at each step (`MultiplicativeRateIncrease`).
const GROWTH: f64 = 1.08;
const GROWTH_MIN: Rate = Rate::from_kbps(1);
/// Not above this multiple of what arrives, and this much more (`ChangeBitrate`).
const THROUGHPUT_FACTOR: f64 = 1.5;
const THROUGHPUT_EXTRA: Rate = Rate::from_kbps(10);
/// What is used of a link after its queue has been emptied, of what it carried meanwhile. Ours.
const RESUME: f64 = 0.96;
/// A fall to less than this is large: an encoder that follows it late leaves much to be sent. For so long what waits to be sent
/// then leaves first, at the one part of what the link carries, while the target is the other. Ours.
const LARGE_FALL: f64 = 0.66;
const BACKLOG_MAX: Duration = Duration::from_secs(2);
const BACKLOG_PACING: f64 = 0.95;
const BACKLOG_TARGET: f64 = 0.65;
/// Near the capacity: one packet of a 30 Hz frame in 1,200 byte packets per response time, which is twice the round trip and
/// 100 ms; 4 kb/s a second at least (`GetNearMaxIncreaseRateBpsPerSecond`).
const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);
const PACKET_BYTES: f64 = 1_200.0;
const DETECTION_DELAY: Duration = Duration::from_millis(100);
const ADDITIVE_MIN: f64 = 4_000.0;
/// So many times that. Ours: as cuts leave more of the rate, growth must be quicker for flows to come to equal shares.
const ADDITIVE_FACTOR: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Hold,
    Increase,
}

/// The rate, and what it goes by.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: Rate,
    min: Rate,
    acknowledged: Rate,
    direction: Direction,
    capacity: LinkCapacity,
    round_trip: Duration,
    changed: Instant,
    /// When the rate was last cut, if ever: a cut waits for the round trip only after another one or after a rise.
    has_changed: bool,
    drain: Option<Drain>,
    backoff: f64,
    steering: Steering,
}

/// A queue that is being emptied.
#[derive(Debug, Clone, Copy)]
struct Drain {
    since: Instant,
    /// The rate before.
    before: Rate,
    /// What the link carries.
    carried: Rate,
    /// How fast packets may leave.
    pacing: Rate,
}

impl RateControl {
    pub(super) fn new(now: Instant, start: Rate, min: Rate) -> Self {
        Self {
            rate: start.max(min),
            min,
            acknowledged: start,
            direction: Direction::Hold,
            capacity: LinkCapacity::new(),
            round_trip: DEFAULT_ROUND_TRIP,
            changed: now,
            has_changed: false,
            drain: None,
            backoff: BACKOFF,
            steering: Steering::default(),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// How fast packets may leave while a queue is being emptied.
    pub(super) fn pacing(&self) -> Option<Rate> {
        self.drain.map(|drain| drain.pacing)
    }

    /// How long packets are meant to wait.
    pub(super) fn aim(&self) -> Duration {
        aim(self.drain.map_or(self.rate, |drain| drain.carried))
    }

    pub(super) fn set_min(&mut self, min: Rate) {
        self.min = min;
        self.rate = self.rate.max(min);
    }

    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// The rate is known otherwise: by a probe, or because there is no acknowledged rate to go by.
    pub(super) fn set_rate(&mut self, now: Instant, rate: Rate) {
        self.rate = rate.max(self.min);
        self.changed = now;
        self.has_changed = true;
    }

    /// A queue is known to be short, or it is not.
    pub(super) fn set_short_queue(&mut self, is_short: bool) {
        self.backoff = if is_short { BACKOFF_SHORT } else { BACKOFF };
    }

    /// This part of the packets was marked, while so much arrives: a cut by half that part (RFC 8257, section 3.3), but never
    /// by more than at overuse (RFC 8511, section 3).
    pub(super) fn handle_marks(&mut self, now: Instant, arrives: Rate, part: f64) {
        let cut = (self.rate * (1.0 - part / 2.0)).max(arrives * BACKOFF);
        self.rate = self.rate.min(cut).max(self.min);
        self.direction = Direction::Hold;
        self.changed = now;
        self.has_changed = true;
    }

    /// Whether enough time has passed since the last change for a cut to have its reasons after it. A rate of which less than
    /// half arrives is cut at once.
    pub(super) fn may_cut(&self, now: Instant, acknowledged: Option<Rate>) -> bool {
        let interval = self.round_trip.clamp(CUT_INTERVAL_MIN, CUT_INTERVAL_MAX);
        !self.has_changed
            || now.saturating_duration_since(self.changed) >= interval
            || acknowledged.is_some_and(|rate| rate < self.rate * 0.5)
    }

    /// A queue in which packets wait so long is to be emptied by sending this part of what arrives. What arrives is what the link
    /// carries only while more is sent: while the queue grows, or overflows.
    pub(super) fn drain(&mut self, now: Instant, arrives: Rate, factor: f64, waits: Duration, overflows: bool) {
        let start = Drain { since: now, before: self.rate, carried: arrives, pacing: arrives };
        let has_grown = self.steering.has_grown(waits);
        let drain = self.drain.get_or_insert(start);
        if has_grown || overflows {
            drain.carried = drain.carried.min(arrives);
        }
        drain.pacing = drain.carried * factor;
        self.rate = drain.pacing.min(drain.before).max(self.min);
        self.direction = Direction::Hold;
        self.changed = now;
        self.has_changed = true;
    }

    /// The queue is empty, or no longer to be emptied. False while a backlog is to leave first.
    pub(super) fn resume(&mut self, now: Instant, has_backlog: bool) -> bool {
        let Some(drain) = &mut self.drain else { return true };
        let is_large = drain.carried < drain.before * LARGE_FALL;
        if has_backlog && is_large && now.saturating_duration_since(drain.since) < BACKLOG_MAX {
            drain.pacing = drain.carried * BACKLOG_PACING;
            self.rate = (drain.carried * BACKLOG_TARGET).max(self.min);
            self.changed = now;
            return false;
        }
        let carried = drain.carried;
        self.drain = None;
        self.capacity.reset();
        self.capacity.handle_overuse(carried);
        self.rate = self.rate.max(carried * RESUME);
        self.changed = now;
        true
    }

    /// Packets wait so long, in a queue that is our own: a small step to where they wait as long as they are meant to.
    pub(super) fn steer(&mut self, now: Instant, waits: Duration, is_calm: bool, acknowledged: Rate) {
        self.acknowledged = acknowledged;
        let span = now.saturating_duration_since(self.changed);
        let next = self.steering.step(self.rate, waits, span, is_calm);
        let limit = (acknowledged * THROUGHPUT_FACTOR + THROUGHPUT_EXTRA).max(self.rate);
        self.rate = next.min(limit).max(self.min);
        self.direction = Direction::Increase;
        self.changed = now;
        self.has_changed = true;
    }

    /// Feedback has come.
    pub(super) fn update(&mut self, now: Instant, usage: Usage, acknowledged: Option<Rate>) {
        self.acknowledged = acknowledged.unwrap_or(self.acknowledged);
        match usage {
            Usage::Over => self.cut(now),
            Usage::Under => self.direction = Direction::Hold,
            Usage::Normal if self.direction == Direction::Hold => {
                self.changed = now;
                self.direction = Direction::Increase;
                self.increase(now);
            }
            Usage::Normal => self.increase(now),
        }
    }

    fn increase(&mut self, now: Instant) {
        if self.acknowledged > self.capacity.upper_bound() {
            self.capacity.reset();
        }
        let limit = self.acknowledged * THROUGHPUT_FACTOR + THROUGHPUT_EXTRA;
        let span = now.saturating_duration_since(self.changed);
        if self.rate < limit {
            let more = if self.capacity.estimate().is_some() { self.additive(span) } else { self.multiplicative(span) };
            self.rate = (self.rate + more).min(limit).max(self.min);
        }
        self.changed = now;
        self.has_changed = true;
    }

    fn multiplicative(&self, span: Duration) -> Rate {
        let factor = GROWTH.powf(span.as_secs_f64().min(1.0)) - 1.0;
        (self.rate * factor).max(GROWTH_MIN)
    }

    fn additive(&self, span: Duration) -> Rate {
        let frame = self.rate.bytes_in(FRAME_INTERVAL);
        let packet_bits = frame / (frame / PACKET_BYTES).ceil().max(1.0) * 8.0;
        let response = self.round_trip.saturating_add(DETECTION_DELAY).as_secs_f64() * 2.0;
        let a_second = (packet_bits / response).max(ADDITIVE_MIN) * ADDITIVE_FACTOR;
        Rate::from_bps(a_second * span.as_secs_f64())
    }

    fn cut(&mut self, now: Instant) {
        let mut target = self.acknowledged * self.backoff;
        if target > self.rate
            && let Some(capacity) = self.capacity.estimate()
        {
            target = capacity * self.backoff;
        }
        if target < self.rate {
            self.rate = target.max(self.min);
        }
        if self.acknowledged < self.capacity.lower_bound() {
            self.capacity.reset();
        }
        self.capacity.handle_overuse(self.acknowledged);
        // Stay until the queues are drained.
        self.direction = Direction::Hold;
        self.changed = now;
        self.has_changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::google::tests::start;

    fn control(kbps: u32) -> RateControl {
        RateControl::new(start(), Rate::from_kbps(kbps), Rate::from_kbps(10))
    }

    fn kbps(control: &RateControl) -> f64 {
        control.rate().kbps()
    }

    #[test]
    fn grows_by_eight_percent_a_second_while_the_capacity_is_unknown() {
        let mut control = control(1_000);
        let acknowledged = Some(Rate::from_kbps(1_000));
        control.update(start(), Usage::Normal, acknowledged);
        assert_eq!(kbps(&control), 1_001.0, "1 kb/s at least");
        control.update(start() + Duration::from_secs(1), Usage::Normal, acknowledged);
        assert!((kbps(&control) - 1_081.08).abs() < 1e-6);
        // A long silence counts as a second.
        control.update(start() + Duration::from_secs(100), Usage::Normal, acknowledged);
        assert!((kbps(&control) - 1_167.566_4).abs() < 1e-6);
    }

    #[test]
    fn never_grows_above_one_and_a_half_times_what_arrives() {
        let mut control = control(1_000);
        for second in 0..100 {
            control.update(start() + Duration::from_secs(second), Usage::Normal, Some(Rate::from_kbps(1_000)));
        }
        assert_eq!(kbps(&control), 1_510.0);
    }

    #[test]
    fn cuts_below_what_arrives_and_then_grows_additively() {
        let mut control = control(1_000);
        let acknowledged = Some(Rate::from_kbps(800));
        control.update(start(), Usage::Over, acknowledged);
        assert_eq!(kbps(&control), 680.0);
        // 680 kb/s at 30 Hz: frames of 2,833 bytes in three packets of 7,556 bits; twice 200 + 100 ms.
        control.update(start() + Duration::from_millis(100), Usage::Normal, acknowledged);
        control.update(start() + Duration::from_millis(1_100), Usage::Normal, acknowledged);
        let expected = 680.0 + 2.0 * (680.0 / 30.0 / 3.0 / 0.6);
        assert!((kbps(&control) - expected).abs() < 0.5, "{} is not {expected}", kbps(&control));
    }

    #[test]
    fn cuts_once_a_round_trip_but_at_once_if_half_is_missing() {
        let mut control = control(1_000);
        control.set_round_trip(Duration::from_millis(100));
        assert!(control.may_cut(start(), None));
        control.update(start(), Usage::Over, Some(Rate::from_kbps(1_000)));
        assert!(!control.may_cut(start() + Duration::from_millis(99), Some(Rate::from_kbps(500))));
        assert!(control.may_cut(start() + Duration::from_millis(99), Some(Rate::from_kbps(400))));
        assert!(control.may_cut(start() + Duration::from_millis(100), Some(Rate::from_kbps(500))));
    }

    #[test]
    fn marks_cut_by_half_their_part_but_not_below_what_overuse_leaves() {
        let mut control = control(1_000);
        control.handle_marks(start(), Rate::from_kbps(1_000), 0.1);
        assert_eq!(kbps(&control), 950.0);
        control.handle_marks(start(), Rate::from_kbps(1_000), 1.0);
        assert_eq!(kbps(&control), 850.0);
    }

    #[test]
    fn a_queue_is_drained_and_then_almost_all_is_used_again() {
        let (mut control, ms) = (control(2_000), Duration::from_millis);
        control.drain(start(), Rate::from_kbps(1_500), 0.5, ms(100), false);
        assert_eq!((kbps(&control), control.pacing()), (750.0, Some(Rate::from_kbps(750))));
        control.drain(start() + ms(50), Rate::from_kbps(1_000), 0.5, ms(200), false);
        assert_eq!(kbps(&control), 500.0, "the queue grows: the link carries less");
        // What arrives by now is what was sent.
        control.drain(start() + ms(500), Rate::from_kbps(500), 0.8, ms(100), false);
        assert_eq!(kbps(&control), 800.0);
        control.drain(start() + ms(550), Rate::from_kbps(900), 0.5, ms(100), true);
        assert_eq!(kbps(&control), 450.0, "the queue overflows");
        assert!(control.resume(start() + ms(600), false));
        assert_eq!((kbps(&control), control.pacing()), (864.0, None));
    }

    #[test]
    fn after_a_large_fall_a_backlog_leaves_first_but_not_forever() {
        let (mut control, ms) = (control(2_000), Duration::from_millis);
        control.drain(start(), Rate::from_kbps(1_000), 0.5, ms(100), false);
        assert!(!control.resume(start() + ms(1_999), true));
        assert_eq!((kbps(&control), control.pacing()), (650.0, Some(Rate::from_kbps(950))));
        assert!(control.resume(start() + ms(2_000), true));
        assert_eq!(kbps(&control), 960.0);
        // A small one leaves little behind.
        control.drain(start() + ms(3_000), Rate::from_kbps(900), 0.5, ms(100), false);
        assert!(control.resume(start() + ms(3_100), true));
    }

    #[test]
    fn steps_go_no_further_than_what_arrives_bears_and_not_below_the_minimum() {
        let mut control = control(1_000);
        for n in 0..1_000 {
            control.steer(start() + Duration::from_millis(50 * n), Duration::ZERO, true, Rate::from_kbps(1_000));
        }
        assert_eq!(kbps(&control), 1_510.0);
        control.steer(start() + Duration::from_secs(60), Duration::ZERO, true, Rate::from_kbps(100));
        assert_eq!(kbps(&control), 1_510.0, "less that arrives is no cut");
        for n in 0..1_000 {
            let now = start() + Duration::from_secs(61) + Duration::from_millis(50 * n);
            control.steer(now, Duration::from_secs(1), false, Rate::from_kbps(1_000));
        }
        assert_eq!(kbps(&control), 10.0);
    }

    #[test]
    fn an_overuse_never_raises_the_rate_and_the_minimum_holds() {
        let mut control = control(100);
        control.update(start(), Usage::Over, Some(Rate::from_kbps(1_000)));
        assert_eq!(kbps(&control), 100.0);
        control.update(start() + Duration::from_secs(1), Usage::Over, Some(Rate::from_kbps(1)));
        assert_eq!(kbps(&control), 10.0);
    }
}
