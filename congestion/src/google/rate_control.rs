//! The rate by the delay: in [small steps](super::steering) while the queue is our own, down while a long one is to be
//! [emptied](super::standing_queue), and up until something is lost beside who fills it anyway.
//!
//! It stands where libwebrtc has `modules/remote_bitrate_estimator/aimd_rate_control.cc`, of which the bounds are left.
//!
//! **Invariants.** Never below the minimum; never raised above 1.5 times what arrives plus 10 kb/s but by a probe, or to what the
//! link carried before.
//!
//! What it does not do: look at loss but beside who fills the queue.

use std::time::{Duration, Instant};

use super::rate::Rate;
use super::steering::{Steering, aim};

/// A mark leaves this part of what arrives at least (RFC 8511, section 3).
const MARKED_MIN: f64 = 0.85;
/// Before the round trip is known (libwebrtc, `kDefaultRtt`).
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(200);
/// Cuts before it is known what arrives are as far apart as the round trip, within these (`TimeToReduceFurther`).
const CUT_INTERVAL_MIN: Duration = Duration::from_millis(10);
const CUT_INTERVAL_MAX: Duration = Duration::from_millis(200);
/// Not above this multiple of what arrives, and this much more (`ChangeBitrate`).
const THROUGHPUT_FACTOR: f64 = 1.5;
const THROUGHPUT_EXTRA: Rate = Rate::from_kbps(10);
/// What is used of a link after its queue has been emptied, of what it carried meanwhile. Ours.
const RESUME: f64 = 0.96;
/// And of a link that carries far less than before: what an encoder makes exceeds its target longest there. Ours.
const RESUME_FALLEN: f64 = 0.9;
/// A fall to less than this is large: an encoder that follows it late leaves much to be sent. For so long what waits to be sent
/// then leaves first, at the one part of what the link carries, while the target is the other. Ours.
const LARGE_FALL: f64 = 0.66;
const BACKLOG_MAX: Duration = Duration::from_secs(2);
const BACKLOG_PACING: f64 = 0.95;
const BACKLOG_TARGET: f64 = 0.65;
/// Beside who fills the queue: three packets of 1,200 bytes more each round trip, about what CUBIC's growth comes to with queues
/// of 300 ms, and after a loss this part of the rate, once a round trip and what an encoder takes to follow. Ours.
const COMPETING_BITS: f64 = 3.0 * 1_200.0 * 8.0;
const COMPETING_BACKOFF: f64 = 0.8;
const ENCODER_LAG: Duration = Duration::from_millis(200);
/// For growth a round trip is no shorter, and one message counts for no more time.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(50);
const SPAN_MAX: Duration = Duration::from_millis(250);

/// The rate, and what it goes by.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: Rate,
    min: Rate,
    round_trip: Duration,
    changed: Instant,
    /// When the rate was last cut, if ever: a cut waits for the round trip only after another one or after a rise.
    has_changed: bool,
    drain: Option<Drain>,
    /// When something was last lost beside who fills the queue.
    lost: Option<Instant>,
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

impl Drain {
    fn is_large_fall(&self) -> bool {
        self.carried < self.before * LARGE_FALL
    }

    /// The rate once the queue is empty.
    fn resumed(&self) -> Rate {
        self.carried * if self.is_large_fall() { RESUME_FALLEN } else { RESUME }
    }
}

impl RateControl {
    pub(super) fn new(now: Instant, start: Rate, min: Rate) -> Self {
        Self {
            rate: start.max(min),
            min,
            round_trip: DEFAULT_ROUND_TRIP,
            changed: now,
            has_changed: false,
            drain: None,
            lost: None,
            steering: Steering::default(),
        }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// The rate, or if a queue is being emptied the one after that.
    pub(super) fn lasting(&self) -> Rate {
        self.drain.map_or(self.rate, |drain| self.rate.max(drain.resumed()))
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

    /// This part of the packets was marked, while so much arrives: a cut by half that part (RFC 8257, section 3.3), but never
    /// by more than at overuse (RFC 8511, section 3).
    pub(super) fn handle_marks(&mut self, now: Instant, arrives: Rate, part: f64) {
        let cut = (self.rate * (1.0 - part / 2.0)).max(arrives * MARKED_MIN);
        self.rate = self.rate.min(cut).max(self.min);
        self.changed = now;
        self.has_changed = true;
    }

    /// Whether enough time has passed since the last change for a cut to have its reasons after it.
    pub(super) fn may_cut(&self, now: Instant) -> bool {
        let interval = self.round_trip.clamp(CUT_INTERVAL_MIN, CUT_INTERVAL_MAX);
        !self.has_changed || now.saturating_duration_since(self.changed) >= interval
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
        self.changed = now;
        self.has_changed = true;
    }

    /// The queue is empty, or no longer to be emptied. False while a backlog is to leave first.
    pub(super) fn resume(&mut self, now: Instant, has_backlog: bool) -> bool {
        let Some(drain) = &mut self.drain else { return true };
        if has_backlog && drain.is_large_fall() && now.saturating_duration_since(drain.since) < BACKLOG_MAX {
            drain.pacing = drain.carried * BACKLOG_PACING;
            self.rate = (drain.carried * BACKLOG_TARGET).max(self.min);
            self.changed = now;
            return false;
        }
        let resumed = drain.resumed();
        self.drain = None;
        self.rate = self.rate.max(resumed);
        self.changed = now;
        true
    }

    /// Packets wait so long, in a queue that is our own: a small step to where they wait as long as they are meant to.
    pub(super) fn steer(&mut self, now: Instant, waits: Duration, is_calm: bool, acknowledged: Rate) {
        let span = now.saturating_duration_since(self.changed);
        let next = self.steering.step(self.rate, waits, span, is_calm);
        self.rate = next.min(self.limit(acknowledged)).max(self.min);
        self.changed = now;
        self.has_changed = true;
    }

    /// Packets wait in a queue that another fills, who gives way only when packets are lost: so does this.
    pub(super) fn compete(&mut self, now: Instant, has_lost: bool, acknowledged: Rate) {
        let pause = self.round_trip.saturating_add(ENCODER_LAG);
        if has_lost && self.lost.is_none_or(|lost| now.saturating_duration_since(lost) >= pause) {
            self.lost = Some(now);
            self.rate = (self.rate * COMPETING_BACKOFF).max(self.min);
        } else {
            let span = now.saturating_duration_since(self.changed).min(SPAN_MAX).as_secs_f64();
            let more = COMPETING_BITS / self.round_trip.max(ROUND_TRIP_MIN).as_secs_f64() * span;
            self.rate = (self.rate + Rate::from_bps(more)).min(self.limit(acknowledged)).max(self.min);
        }
        self.changed = now;
        self.has_changed = true;
    }

    /// No growth goes beyond it.
    fn limit(&self, acknowledged: Rate) -> Rate {
        (acknowledged * THROUGHPUT_FACTOR + THROUGHPUT_EXTRA).max(self.rate)
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
    fn cuts_once_a_round_trip() {
        let mut control = control(1_000);
        control.set_round_trip(Duration::from_millis(100));
        assert!(control.may_cut(start()));
        control.set_rate(start(), Rate::from_kbps(500));
        assert!(!control.may_cut(start() + Duration::from_millis(99)));
        assert!(control.may_cut(start() + Duration::from_millis(100)));
    }

    #[test]
    fn competes_by_three_packets_a_round_trip_until_something_is_lost() {
        let (mut control, ms) = (control(1_000), Duration::from_millis);
        let acknowledged = Rate::from_kbps(1_000);
        control.set_round_trip(ms(300));
        control.compete(start() + ms(100), false, acknowledged);
        assert!((kbps(&control) - 1_009.6).abs() < 1e-6, "28.8 kb in 300 ms is 9.6 kb/s more in 100 ms");
        control.compete(start() + ms(200), true, acknowledged);
        assert!((kbps(&control) - 807.68).abs() < 1e-6);
        control.compete(start() + ms(300), true, acknowledged);
        assert!(kbps(&control) > 807.68, "the same loss");
        control.compete(start() + ms(700), true, acknowledged);
        assert!(kbps(&control) < 700.0);
        for n in 0..1_000 {
            control.compete(start() + ms(800 + 50 * n), false, acknowledged);
        }
        assert_eq!(kbps(&control), 1_510.0);
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
        assert_eq!(control.lasting(), Rate::from_kbps(810), "the queue will be gone");
        assert!(control.resume(start() + ms(600), false));
        assert_eq!((kbps(&control), control.pacing()), (810.0, None), "after a fall to less than half");
        control.drain(start() + ms(700), Rate::from_kbps(800), 0.5, ms(100), false);
        assert!(control.resume(start() + ms(800), false));
        assert_eq!((kbps(&control), control.lasting()), (768.0, Rate::from_kbps(768)));
    }

    #[test]
    fn after_a_large_fall_a_backlog_leaves_first_but_not_forever() {
        let (mut control, ms) = (control(2_000), Duration::from_millis);
        control.drain(start(), Rate::from_kbps(1_000), 0.5, ms(100), false);
        assert!(!control.resume(start() + ms(1_999), true));
        assert_eq!((kbps(&control), control.pacing()), (650.0, Some(Rate::from_kbps(950))));
        assert!(control.resume(start() + ms(2_000), true));
        assert_eq!(kbps(&control), 900.0);
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
}
