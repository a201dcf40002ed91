use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations in buckets that grow by a quarter of an octave, from 16 µs to 17 s. Lock-free, never allocates.
///
/// A quantile read from it is off by at most a bucket's width, 19 %.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

const BUCKETS_PER_OCTAVE: usize = 4;
/// 20 octaves above [`FIRST_BOUND`], and one bucket for all that is longer.
const BUCKETS: usize = 20 * BUCKETS_PER_OCTAVE + 2;
const FIRST_BOUND: f64 = 16e-6;

/// A reading of a [`Histogram`].
#[derive(Debug, Clone)]
pub struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn record(&self, span: Duration) {
        self.buckets[bucket_of(span)].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl HistogramSnapshot {
    /// Nothing counted.
    #[must_use]
    pub const fn empty() -> Self {
        Self { buckets: [0; BUCKETS], sum: Duration::ZERO }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// The duration below which a share `q` (0 to 1) of them lie, taking those of one bucket to be spread evenly over it;
    /// `None` while empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|&in_bucket| {
            below += in_bucket;
            below >= rank
        })?;
        below -= self.buckets[bucket];
        if bucket == BUCKETS - 1 {
            // It could be any length: that it is past the last bound, is all that can be said.
            return Some(upper_bound(BUCKETS - 2));
        }
        let lower = if bucket == 0 { Duration::ZERO } else { upper_bound(bucket - 1) };
        let share = (rank - below) as f64 / self.buckets[bucket] as f64;
        Some(lower + (upper_bound(bucket) - lower).mul_f64(share))
    }

    /// Upper bound and count of each octave, for exposition; durations past the last bound are in [`Self::count`] only.
    pub fn octaves(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let bounds = (0..BUCKETS - 1).step_by(BUCKETS_PER_OCTAVE);
        bounds.map(|last| {
            let first = if last == 0 { 0 } else { last - BUCKETS_PER_OCTAVE + 1 };
            (upper_bound(last), self.buckets[first..=last].iter().sum())
        })
    }

    /// Adds another reading to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    /// What was counted after an `earlier` reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (mine, earlier) in since.buckets.iter_mut().zip(earlier.buckets) {
            *mine = mine.saturating_sub(earlier);
        }
        since.sum = since.sum.saturating_sub(earlier.sum);
        since
    }
}

fn bucket_of(span: Duration) -> usize {
    let octaves = (span.as_secs_f64() / FIRST_BOUND).log2();
    // Below the first bound `octaves` is negative (or minus infinity for zero): the cast saturates to 0.
    let bucket = (octaves * BUCKETS_PER_OCTAVE as f64).ceil() as usize;
    bucket.min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST_BOUND * 2_f64.powf(bucket as f64 / BUCKETS_PER_OCTAVE as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_within_a_bucket() {
        let histogram = Histogram::new();
        for millis in 1..=100 {
            histogram.record(Duration::from_millis(millis));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 100);
        assert_eq!(snapshot.sum(), Duration::from_millis(5_050));
        // The last bucket is not full: its values lie closer to its lower bound than is supposed.
        for (q, millis, off) in [(0.5, 50.0, 0.02), (0.9, 90.0, 0.02), (1.0, 100.0, 0.19)] {
            let read = snapshot.quantile(q).unwrap().as_secs_f64() * 1e3;
            assert!((read / millis - 1.0).abs() < off, "p{q}: {read} ms, not {millis}");
        }
    }

    #[test]
    fn nothing_falls_outside() {
        let histogram = Histogram::new();
        for span in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(3_600), Duration::MAX] {
            histogram.record(span);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 4);
        assert_eq!(snapshot.octaves().map(|(_, count)| count).sum::<u64>(), 2, "two are past the last bound");
        assert!(HistogramSnapshot::empty().quantile(0.5).is_none());
    }

    #[test]
    fn what_came_since_is_what_was_recorded_since() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_secs(1));
        let earlier = histogram.snapshot();
        histogram.record(Duration::from_millis(1));
        histogram.record(Duration::from_millis(2));
        let since = histogram.snapshot().since(&earlier);
        assert_eq!((since.count(), since.sum()), (2, Duration::from_millis(3)));
        assert!(since.quantile(1.0).unwrap() < Duration::from_millis(3));
        let longest = Histogram::new();
        for seconds in [15, 15, 3_600] {
            longest.record(Duration::from_secs(seconds));
        }
        let (p50, p100) = (longest.snapshot().quantile(0.5).unwrap(), longest.snapshot().quantile(1.0).unwrap());
        assert!(p50 <= p100 && p100 > Duration::from_secs(16), "{p50:?} {p100:?}");
        assert_eq!(earlier.since(&histogram.snapshot()).count(), 0, "the other way round there is nothing");
    }

    #[test]
    fn octaves_count_each_duration_once() {
        let histogram = Histogram::new();
        for micros in (10..1_000_000).step_by(997) {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        let mut cumulative = 0;
        for (bound, count) in snapshot.octaves() {
            cumulative += count;
            let below = (10..1_000_000).step_by(997).filter(|&micros| Duration::from_micros(micros) <= bound).count();
            assert_eq!(cumulative, below as u64, "up to {bound:?}");
        }
        assert_eq!(cumulative, snapshot.count());
    }
}
