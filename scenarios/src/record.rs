//! What is written down while a case runs, for the metrics and the series.
//!
//! Memory grows with the packets of the run: some bytes for each media packet.

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::outcome::SAMPLE;

/// The queue's delay is looked at as often as this.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);
/// Media that has not come so long after it was sent first is lost: a receiver's jitter buffer has given it up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// One media track of the run.
#[derive(Debug)]
pub(crate) struct TrackRecord {
    pub(crate) target: Vec<Bitrate>,
    /// Bytes on the wire in each sample.
    pub(crate) sent: Vec<u64>,
    pub(crate) received: Vec<u64>,
    /// Waiting in queues of what came in each sample: its sum, and of how many packets.
    pub(crate) queueing: Vec<(Duration, u32)>,
    pub(crate) delays: DelayHistogram,
    /// Video packets by their number in the track.
    media: Vec<MediaPacket>,
}

/// What became of a packet of media.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaPacket {
    pub(crate) sent_at: Duration,
    pub(crate) payload: u32,
    /// The first transmission came.
    pub(crate) came_at_once: bool,
    /// When it first came by whatever transmission.
    pub(crate) came_at: Option<Duration>,
}

/// How long packets waited, in steps of 100 µs up to 5 s.
#[derive(Debug)]
pub(crate) struct DelayHistogram {
    counts: Vec<u64>,
    sum: Duration,
    count: u64,
}

/// A link that is judged.
#[derive(Debug)]
pub(crate) struct LinkRecord {
    /// At each [`GLANCE`].
    pub(crate) queue: Vec<Duration>,
    /// At each sample: what the link carried on average.
    pub(crate) capacity: Vec<Bitrate>,
}

/// Other traffic of the run.
#[derive(Debug)]
pub(crate) struct CrossRecord {
    pub(crate) received: Vec<u64>,
}

pub(crate) fn samples(length: Duration) -> usize {
    length.as_nanos().div_ceil(SAMPLE.as_nanos()) as usize
}

fn sample(at: Duration) -> usize {
    (at.as_nanos() / SAMPLE.as_nanos()) as usize
}

fn add(series: &mut [u64], at: Duration, bytes: u32) {
    // What comes after the end is no part of the run.
    if let Some(sum) = series.get_mut(sample(at)) {
        *sum += u64::from(bytes);
    }
}

impl TrackRecord {
    pub(crate) fn new(length: Duration) -> Self {
        let samples = samples(length);
        Self {
            target: Vec::with_capacity(samples),
            sent: vec![0; samples],
            received: vec![0; samples],
            queueing: vec![(Duration::ZERO, 0); samples],
            delays: DelayHistogram::new(),
            media: Vec::new(),
        }
    }

    pub(crate) fn media(&self) -> &[MediaPacket] {
        &self.media
    }

    /// `bytes` have left, of whatever kind.
    pub(crate) fn note_sent(&mut self, at: Duration, bytes: u32) {
        add(&mut self.sent, at, bytes);
    }

    /// Media has been made, which gets the next number of the track. Its time is that at which it is handed to the pacer.
    pub(crate) fn note_made(&mut self, at: Duration, payload: u32) -> u64 {
        self.media.push(MediaPacket { sent_at: at, payload, came_at_once: false, came_at: None });
        self.media.len() as u64 - 1
    }

    /// A packet has come, of whatever kind.
    pub(crate) fn note_received(&mut self, at: Duration, bytes: u32, queueing: Duration) {
        add(&mut self.received, at, bytes);
        self.delays.add(queueing);
        if let Some((sum, count)) = self.queueing.get_mut(sample(at)) {
            *sum += queueing;
            *count += 1;
        }
    }

    /// Media has come with it.
    pub(crate) fn note_media(&mut self, at: Duration, number: u64, first_transmission: bool) {
        let Some(packet) = self.media.get_mut(number as usize) else { return };
        packet.came_at_once |= first_transmission;
        packet.came_at.get_or_insert(at);
    }
}

impl MediaPacket {
    /// It came in time to be shown.
    pub(crate) fn came_in_time(&self) -> bool {
        self.came_at.is_some_and(|at| at <= self.sent_at + DEADLINE)
    }
}

impl CrossRecord {
    pub(crate) fn new(length: Duration) -> Self {
        Self { received: vec![0; samples(length)] }
    }

    pub(crate) fn note_received(&mut self, at: Duration, bytes: u32) {
        add(&mut self.received, at, bytes);
    }
}

impl DelayHistogram {
    const STEP: Duration = Duration::from_micros(100);
    const STEPS: usize = 50_000;

    pub(crate) fn new() -> Self {
        Self { counts: vec![0; Self::STEPS], sum: Duration::ZERO, count: 0 }
    }

    pub(crate) fn add(&mut self, delay: Duration) {
        let step = (delay.as_nanos() / Self::STEP.as_nanos()) as usize;
        self.counts[step.min(Self::STEPS - 1)] += 1;
        self.sum += delay;
        self.count += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
        self.count += other.count;
    }

    pub(crate) fn mean(&self) -> Duration {
        if self.count == 0 { Duration::ZERO } else { self.sum.div_f64(self.count as f64) }
    }

    /// At most so long waited `part` of the packets.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (step, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Self::STEP * (step as u32 + 1);
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn of_a_hundred_delays_the_95th_is_the_percentile() {
        let mut delays = DelayHistogram::new();
        (1..=100).for_each(|ms| delays.add(MS * ms - Duration::from_micros(50)));
        assert_eq!(delays.percentile(0.95), MS * 95);
        assert_eq!(delays.mean(), Duration::from_micros(50_450));
    }

    #[test]
    fn media_that_comes_after_its_deadline_is_lost() {
        let mut track = TrackRecord::new(Duration::from_secs(4));
        let number = track.note_made(MS, 1_000);
        track.note_media(MS + DEADLINE, number, false);
        assert!(track.media()[0].came_in_time() && !track.media()[0].came_at_once);
        let number = track.note_made(MS, 1_000);
        track.note_media(MS * 2 + DEADLINE, number, true);
        assert!(!track.media()[1].came_in_time() && track.media()[1].came_at_once);
    }

    #[test]
    fn what_comes_after_the_end_is_not_counted() {
        let mut track = TrackRecord::new(SAMPLE);
        track.note_received(SAMPLE, 100, MS);
        track.note_received(SAMPLE - MS, 10, MS);
        assert_eq!(track.received, [10]);
    }
}
