//! Small steps of the rate towards a queue that is short, but not empty.
//!
//! Ours, after the gradual update of NADA (RFC 8698, section 4.3): the rate rises while packets wait for less than they are
//! meant to and falls while they wait for longer, and both the more the faster the queue grows or drains. How long they are meant
//! to wait is in inverse proportion to the flow's own rate. So flows that share a queue, which all find the same wait there, come
//! to rest only at equal rates, whatever their round trips; and as nothing is drained on the way, nothing is left unused.
//!
//! What it does not do: empty a queue that is far too long, which is [`standing_queue`](super::standing_queue)'s part, or find
//! out that a link carries far more, which is for probes.

use std::time::Duration;

use super::rate::Rate;

/// What of a flow is meant to wait, in bits: RFC 8698 has 10 ms (`XREF`) at 1.5 Mb/s (`RMAX`).
const WAITING_BITS: f64 = 15_000.0;
/// Bounds of the wait: no less than can be told from jitter, no more than a viewer should have of it.
const AIM_MIN: f64 = 0.005;
const AIM_MAX: f64 = 0.025;
/// How much of the rate a second too long or too short a wait changes in a second. As in RFC 8698: `KAPPA` / `TAU`², 0.5 / 0.25.
const GAIN: f64 = 2.0;
/// How much of the rate a second of growth of the queue takes. Half of what RFC 8698 has, `KAPPA` · `ETA` / `TAU`, as it tells
/// changes of 15 samples and here there are fewer.
const DAMPING: f64 = 1.0;
/// A wait below this is none, and then growth is as where the capacity is not known
/// (libwebrtc, `aimd_rate_control.cc`, `MultiplicativeRateIncrease`).
const NO_WAIT: f64 = 0.005;
const GROWTH: f64 = 0.08;
/// One message changes the rate by no more than this part, and counts for no more time than this.
const STEP_MAX: f64 = 0.1;
const SPAN_MAX: f64 = 0.25;
/// No queue is longer.
const WAIT_MAX: f64 = 1.0;

/// How long packets are meant to wait at this rate.
pub(super) fn aim(rate: Rate) -> Duration {
    Duration::from_secs_f64((WAITING_BITS / rate.bps().max(1.0)).clamp(AIM_MIN, AIM_MAX))
}

/// How long packets waited when last looked at.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// Seconds.
    waited: f64,
}

impl Steering {
    /// Takes note of a wait: whether the queue has grown beyond what jitter does.
    pub(super) fn has_grown(&mut self, waits: Duration) -> bool {
        let waits = waits.as_secs_f64().min(WAIT_MAX);
        let before = std::mem::replace(&mut self.waited, waits);
        waits > before + AIM_MIN
    }

    /// What becomes of the rate after `span`. There has been no queue for a while if it `is_calm`.
    pub(super) fn step(&mut self, rate: Rate, waits: Duration, span: Duration, is_calm: bool) -> Rate {
        let (waits, span) = (waits.as_secs_f64().min(WAIT_MAX), span.as_secs_f64().min(SPAN_MAX));
        let growth = waits - std::mem::replace(&mut self.waited, waits);
        let short = aim(rate).as_secs_f64() - waits;
        let mut change = GAIN * short * span - DAMPING * growth;
        if is_calm && waits < NO_WAIT {
            change = change.max(GROWTH * span);
        }
        rate * (1.0 + change.clamp(-STEP_MAX, STEP_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_faster_flow_is_to_wait_less() {
        assert_eq!(aim(Rate::from_kbps(100)), ms(25));
        assert_eq!(aim(Rate::from_kbps(1_500)), ms(10));
        assert_eq!(aim(Rate::from_kbps(100_000)), ms(5));
        assert_eq!(aim(Rate::ZERO), ms(25));
        assert_eq!(aim(Rate::UNLIMITED), ms(5));
    }

    #[test]
    fn rises_while_packets_wait_too_little_and_falls_while_they_wait_too_long() {
        let rate = Rate::from_kbps(1_500);
        let mut steering = Steering { waited: 0.005 };
        // 2 × 5 ms × 0.1 s.
        assert!((steering.step(rate, ms(5), ms(100), false).kbps() - 1_501.5).abs() < 1e-6);
        let mut steering = Steering { waited: 0.02 };
        assert!((steering.step(rate, ms(20), ms(100), false).kbps() - 1_497.0).abs() < 1e-6);
        // A queue that has just grown by 15 ms more.
        assert!(steering.step(rate, ms(35), ms(100), false).kbps() < 1_500.0 * 0.985);
        // One step is bounded.
        assert_eq!(steering.step(rate, ms(5_000), ms(100), false).kbps(), 1_350.0);
    }

    #[test]
    fn grows_as_it_may_where_there_is_no_queue() {
        let rate = Rate::from_kbps(1_000);
        let step = |is_calm| Steering::default().step(rate, ms(1), ms(100), is_calm).kbps();
        assert!((step(true) - 1_008.0).abs() < 1e-6);
        assert!(step(false) < 1_005.0);
    }

    #[test]
    fn two_flows_of_one_queue_come_to_equal_rates() {
        // A link of 3 Mb/s that both find out about 200 ms late.
        let (mut rates, mut queue) = ([Rate::from_kbps(2_400), Rate::from_kbps(400)], [0.0_f64; 5]);
        let mut steering = [Steering::default(), Steering::default()];
        for step in 0..2_000 {
            let sum = rates[0].bps() + rates[1].bps();
            queue[step % 5] = (queue[(step + 4) % 5] + (sum / 3e6 - 1.0) * 0.05).max(0.0);
            let waits = Duration::from_secs_f64(queue[(step + 1) % 5]);
            for (rate, steering) in rates.iter_mut().zip(&mut steering) {
                *rate = steering.step(*rate, waits, ms(50), false);
            }
        }
        assert!(rates[0].bps() / rates[1].bps() < 1.25, "{rates:?}");
        assert!((rates[0].kbps() + rates[1].kbps() - 3_000.0).abs() < 60.0, "{rates:?}");
    }

    #[test]
    fn growth_is_what_exceeds_jitter() {
        let mut steering = Steering::default();
        assert!(steering.has_grown(ms(20)));
        assert!(!steering.has_grown(ms(24)));
        assert!(!steering.has_grown(ms(10)));
    }
}
