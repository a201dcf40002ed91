//! What a link carries over time.

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::random::Random;
use crate::time::{Nanos, nanos};

/// Bits times a billion: what a rate in bits a second carries in so many nanoseconds, without rounding.
pub(crate) type Work = u128;

/// A capacity that is constant but for steps. After its last step it stays as it is, or, if it has a period, it begins anew.
///
/// **Invariants.** There is at least one step; the first is at 0; times rise strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    steps: Vec<(Nanos, Bitrate)>,
    period: Option<Period>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    length: Nanos,
    /// What a whole period carries; never zero.
    work: Work,
}

impl Trace {
    /// Always the same.
    #[must_use]
    pub fn constant(capacity: Bitrate) -> Self {
        Self { steps: vec![(0, capacity)], period: None }
    }

    /// From each of these times on, that capacity; before the first, the first's. Of two at one time the later in the list counts.
    /// Without any steps, nothing is ever carried.
    #[must_use]
    pub fn steps(steps: &[(Duration, Bitrate)]) -> Self {
        let mut sorted: Vec<(Nanos, Bitrate)> = steps.iter().map(|(at, capacity)| (nanos(*at), *capacity)).collect();
        sorted.sort_by_key(|(at, _)| *at);
        let mut steps: Vec<(Nanos, Bitrate)> = Vec::with_capacity(sorted.len().max(1));
        for step in sorted {
            match steps.last_mut() {
                Some(last) if last.0 == step.0 => *last = step,
                _ => steps.push(step),
            }
        }
        match steps.first_mut() {
            Some(first) => first.0 = 0,
            None => steps.push((0, Bitrate::ZERO)),
        }
        Self { steps, period: None }
    }

    /// The same, but beginning anew after each `length`. A length of zero, or one in which nothing is carried, repeats nothing.
    #[must_use]
    pub fn repeated(mut self, length: Duration) -> Self {
        let length = nanos(length);
        self.steps.retain(|(at, _)| *at < length.max(1));
        let ends = self.steps.iter().skip(1).map(|(at, _)| *at).chain([length]);
        let work = self.steps.iter().zip(ends).map(|((at, capacity), end)| work(*capacity, end - *at)).sum();
        self.period = (work > 0).then_some(Period { length, work });
        self
    }

    /// What a phone on the move might see of a cell: another capacity every 100 ms, with deep fades.
    ///
    /// The model: a first-order autoregression (a correlation of 0.95 a step, so it forgets in two seconds) with a
    /// deviation of 0.4 around 1, kept within 0.25 and 2; every ten seconds on average it fades for 0.3 to 1.5 seconds to
    /// 5 to 15 % of that. All is then scaled so that the mean is `mean`. After `length` (at least one step) it begins anew.
    #[must_use]
    pub fn lte_like(seed: u64, mean: Bitrate, length: Duration) -> Self {
        const STEP: Duration = Duration::from_millis(100);
        const CORRELATION: f64 = 0.95;
        const DEVIATION: f64 = 0.4;
        const FADES_PER_STEP: f64 = 0.01;
        const LONGEST: u128 = 36_000 * 24;

        let mut random = Random::new(seed);
        let count = (length.as_nanos() / STEP.as_nanos()).clamp(1, LONGEST) as u32;
        let innovation = DEVIATION * (1.0 - CORRELATION * CORRELATION).sqrt();
        let mut deviation = DEVIATION * random.normal();
        let mut fade: (u32, f64) = (0, 1.0);
        let mut gains = Vec::with_capacity(count as usize);
        for _ in 0..count {
            deviation = CORRELATION * deviation + innovation * random.normal();
            if fade.0 > 0 {
                fade.0 -= 1;
            } else if random.chance(FADES_PER_STEP) {
                fade = (random.between(3.0, 16.0) as u32 - 1, random.between(0.05, 0.15));
            } else {
                fade = (0, 1.0);
            }
            gains.push((1.0 + deviation).clamp(0.25, 2.0) * fade.1);
        }
        let scale = mean.as_bps() as f64 * f64::from(count) / gains.iter().sum::<f64>();
        let steps: Vec<_> =
            (0..count).zip(gains).map(|(i, gain)| (STEP * i, Bitrate::from_bps((gain * scale) as u64))).collect();
        Self::steps(&steps).repeated(STEP * count)
    }

    /// The capacity so long after the beginning.
    #[must_use]
    pub fn capacity_at(&self, time: Duration) -> Bitrate {
        self.piece_at(nanos(time)).0
    }

    /// How many bytes are carried between two times, rounded down: what utilisation is measured against.
    #[must_use]
    pub fn bytes_between(&self, from: Duration, to: Duration) -> u64 {
        u64::try_from(self.work_between(nanos(from), nanos(to)) / work_of(1)).unwrap_or(u64::MAX)
    }

    /// What is carried between two times.
    pub(crate) fn work_between(&self, mut time: Nanos, to: Nanos) -> Work {
        let mut sum: Work = 0;
        while time < to {
            let (capacity, until) = self.piece_at(time);
            let until = until.unwrap_or(to).min(to);
            sum = sum.saturating_add(work(capacity, until - time));
            time = until;
        }
        sum
    }

    pub(crate) fn capacity(&self, time: Nanos) -> Bitrate {
        self.piece_at(time).0
    }

    /// When so many bytes are through if they begin at `start`, rounded up to the nanosecond; `None` if that never happens.
    #[cfg(test)]
    fn finish(&self, start: Nanos, bytes: u64) -> Option<Nanos> {
        self.finish_work(start, work_of(bytes))
    }

    /// When so much is through if it begins at `start`, rounded up to the nanosecond; `None` if that never happens.
    pub(crate) fn finish_work(&self, start: Nanos, mut need: Work) -> Option<Nanos> {
        let mut time = start;
        if let Some(period) = self.period
            && need > period.work
        {
            // Whole periods at once; the last bit is left, for it tells when in a period the end is.
            let whole = (need - 1) / period.work;
            time = time.checked_add(Nanos::try_from(whole).ok()?.checked_mul(period.length)?)?;
            need -= whole * period.work;
        }
        loop {
            let (capacity, until) = self.piece_at(time);
            match until.map(|until| (until, work(capacity, until - time))) {
                Some((until, carried)) if carried < need => {
                    need -= carried;
                    time = until;
                }
                Some(_) | None => return time.checked_add(span_of(need, capacity)?),
            }
        }
    }

    /// The capacity at a time, and until when it stays so.
    fn piece_at(&self, time: Nanos) -> (Bitrate, Option<Nanos>) {
        let (begin, time) = match self.period {
            Some(period) => (time / period.length * period.length, time % period.length),
            None => (0, time),
        };
        let index = self.steps.partition_point(|(at, _)| *at <= time);
        let capacity = self.steps[index - 1].1;
        let until = self.steps.get(index).map(|(at, _)| *at).or(self.period.map(|period| period.length));
        // An end beyond what time can express is no end.
        (capacity, until.and_then(|until| begin.checked_add(until)))
    }
}

pub(crate) fn work_of(bytes: u64) -> Work {
    Work::from(bytes) * 8 * 1_000_000_000
}

fn work(capacity: Bitrate, span: Nanos) -> Work {
    Work::from(capacity.as_bps()) * Work::from(span)
}

/// How long a capacity takes, rounded up; `None` if for ever.
fn span_of(need: Work, capacity: Bitrate) -> Option<Nanos> {
    if need == 0 {
        return Some(0);
    }
    if capacity == Bitrate::ZERO {
        return None;
    }
    match u64::try_from(need) {
        // The usual case: 128 bits are slow to divide.
        Ok(need) => Some(need.div_ceil(capacity.as_bps())),
        Err(_) => Nanos::try_from(need.div_ceil(Work::from(capacity.as_bps()))).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn kbps(kbps: u64) -> Bitrate {
        Bitrate::from_kbps(kbps)
    }

    #[test]
    fn a_packet_across_a_step_is_served_at_both_rates() {
        let trace = Trace::steps(&[(ms(0), kbps(800)), (ms(100), kbps(80)), (ms(200), kbps(8_000))]);
        // 1,000 bytes are 8,000 bits: 10 ms at 800 kb/s.
        assert_eq!(trace.finish(0, 1_000), Some(10 * MS));
        // 5 ms before the step 4,000 bits are through, the other 4,000 take 50 ms.
        assert_eq!(trace.finish(95 * MS, 1_000), Some(150 * MS));
        // 800,000 bits a second for 5 ms, 80,000 for 100 ms: 12,000 bits; 4,000 more take 0.5 ms.
        assert_eq!(trace.finish(95 * MS, 2_000), Some(200 * MS + MS / 2));
        // Ending with the step, not after it.
        assert_eq!(trace.finish(90 * MS, 1_000), Some(100 * MS));
    }

    #[test]
    fn what_is_interrupted_goes_on_and_what_never_comes_back_never_ends() {
        let trace = Trace::steps(&[(ms(0), kbps(800)), (ms(5), Bitrate::ZERO), (ms(1_000), kbps(800))]);
        assert_eq!(trace.finish(0, 1_000), Some(1_005 * MS));
        assert_eq!(Trace::constant(Bitrate::ZERO).finish(0, 1), None);
        assert_eq!(Trace::steps(&[]).finish(0, 1), None);
        assert_eq!(Trace::constant(Bitrate::ZERO).finish(3, 0), Some(3));
        assert_eq!(Trace::constant(Bitrate::UNLIMITED).finish(7, 1_000), Some(8));
        assert_eq!(Trace::constant(Bitrate::from_bps(1)).finish(Nanos::MAX - 1, 1_000), None);
    }

    #[test]
    fn a_period_begins_anew() {
        let trace = Trace::steps(&[(ms(0), kbps(800)), (ms(10), Bitrate::ZERO)]).repeated(ms(20));
        assert_eq!(trace.capacity_at(ms(25)), kbps(800));
        assert_eq!(trace.capacity_at(ms(35)), Bitrate::ZERO);
        // 10 ms of each 20 carry 1,000 bytes.
        assert_eq!(trace.finish(0, 1_000), Some(10 * MS));
        assert_eq!(trace.finish(0, 10_000), Some(190 * MS));
        assert_eq!(trace.finish(5 * MS, 1_000), Some(25 * MS));
        assert_eq!(trace.finish(5 * MS, 2_000), Some(45 * MS));
        assert_eq!(trace.bytes_between(ms(5), ms(45)), 2_000);
        assert_eq!(Trace::constant(Bitrate::ZERO).repeated(ms(5)).finish(0, 1), None);
        assert_eq!(Trace::constant(kbps(800)).repeated(Duration::ZERO).finish(0, 1_000), Some(10 * MS));
    }

    #[test]
    fn steps_may_come_in_any_order() {
        let sorted = Trace::steps(&[(ms(0), kbps(2)), (ms(10), kbps(1))]);
        assert_eq!(Trace::steps(&[(ms(10), kbps(3)), (ms(5), kbps(2)), (ms(10), kbps(1))]), sorted);
    }

    #[test]
    fn lte_has_the_mean_that_was_asked_for_and_fades() {
        let trace = Trace::lte_like(1, kbps(20_000), Duration::from_secs(300));
        let bytes = trace.bytes_between(Duration::ZERO, Duration::from_secs(300));
        assert!((bytes as f64 / (20e6 / 8.0 * 300.0) - 1.0).abs() < 0.001, "{bytes}");
        let capacities: Vec<u64> = (0..3_000).map(|i| trace.capacity_at(ms(100) * i).as_kbps()).collect();
        assert!(*capacities.iter().min().unwrap() < 2_500);
        assert!(*capacities.iter().max().unwrap() > 30_000);
        assert_eq!(trace, Trace::lte_like(1, kbps(20_000), Duration::from_secs(300)));
        assert_ne!(trace, Trace::lte_like(2, kbps(20_000), Duration::from_secs(300)));
        let _ = Trace::lte_like(1, Bitrate::ZERO, Duration::ZERO).finish(0, 1_000);
    }
}
