//! Figures from what was written down: RFC 8868, section 3, as far as the table holds them.
//!
//! What a flow can use of a link is the least of the link's capacity and of what its sources make at most. Where nobody else
//! is on the link, the whole of it is compared with that; beside TCP, with the capacity.

use std::time::Duration;

use lenscast_media::Bitrate;

use crate::Case;
use crate::case::TrackPlan;
use crate::outcome::{Metrics, SAMPLE, Settling};
use crate::record::{DEADLINE, DelayHistogram, GLANCE, LinkRecord, TrackRecord};

/// A queue is drained if a packet waits less than this.
const DRAINED: Duration = Duration::from_millis(50);
/// A risen capacity is used if this part of it is.
const USED: f64 = 0.9;
/// Being used, or drained, lasts at least so long.
const LASTING: Duration = Duration::from_secs(1);
/// How long windows are over which the flows' rates are compared (RFC 8868, section 3.1).
const FAIRNESS_WINDOWS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];
/// After a change so much time belongs to it; what differs from the mean later oscillates.
const CHANGE: Duration = Duration::from_secs(10);

const SAMPLES_PER_SECOND: usize = (Duration::from_secs(1).as_millis() / SAMPLE.as_millis()) as usize;

/// A track of the case with what was written down of it.
pub(crate) struct Track<'a> {
    pub(crate) plan: &'a TrackPlan,
    pub(crate) record: &'a TrackRecord,
    /// Links that its packets go over.
    pub(crate) forward: &'a [usize],
    /// What it makes at most, headers and its sender's audio counted.
    pub(crate) wire_max: Bitrate,
}

/// A link of the case that is judged.
pub(crate) struct Link<'a> {
    pub(crate) index: usize,
    pub(crate) record: &'a LinkRecord,
}

pub(crate) fn metrics(case: &Case, links: &[Link<'_>], tracks: &[Track<'_>]) -> Metrics {
    let mut delays = DelayHistogram::new();
    tracks.iter().for_each(|track| delays.merge(&track.record.delays));
    let (lost, lost_after_repair) = losses(case, tracks);
    let uses: Vec<Use> = links.iter().map(|link| Use::of(case, link, tracks)).collect();
    Metrics {
        utilisation: mean(uses.iter().map(Use::part)),
        goodput: goodput(case, tracks),
        queueing_mean: delays.mean(),
        queueing_p95: delays.percentile(0.95),
        lost,
        lost_after_repair,
        rises: links.iter().zip(&uses).flat_map(|(link, used)| used.rises(case, link)).collect(),
        drains: links.iter().flat_map(|link| drains(case, link)).collect(),
        jain: jain(case, tracks),
        max_min: FAIRNESS_WINDOWS
            .iter()
            .filter_map(|window| Some((*window, max_min(case, tracks, *window)?)))
            .collect(),
        oscillation: mean(uses.iter().map(|used| used.oscillation(case))),
    }
}

/// What media took of a link, and what it could have taken, in bits per second for each sample.
struct Use {
    taken: Vec<f64>,
    usable: Vec<f64>,
}

impl Use {
    fn of(case: &Case, link: &Link<'_>, tracks: &[Track<'_>]) -> Self {
        let over: Vec<&Track<'_>> = tracks.iter().filter(|track| track.forward.contains(&link.index)).collect();
        let samples = link.record.capacity.len();
        let taken = |sample: usize| over.iter().map(|track| rate(track.record.received[sample])).sum();
        let usable = |sample: usize| {
            let at = SAMPLE * sample as u32;
            let active = over.iter().filter(|track| track.plan.is_active(at));
            let wanted: f64 = active.map(|track| track.wire_max.as_bps() as f64).sum();
            let capacity = link.record.capacity[sample].as_bps() as f64;
            if case.tcp.is_empty() || wanted == 0.0 { capacity.min(wanted) } else { capacity }
        };
        Self { taken: (0..samples).map(taken).collect(), usable: (0..samples).map(usable).collect() }
    }

    fn part(&self) -> f64 {
        let (taken, usable): (f64, f64) = (self.taken.iter().sum(), self.usable.iter().sum());
        if usable > 0.0 { taken / usable } else { 0.0 }
    }

    /// From the beginning, and from each rise, until [`USED`] of what can be used is taken over the second that follows.
    fn rises(&self, case: &Case, link: &Link<'_>) -> Vec<Settling> {
        if !case.tcp.is_empty() {
            return Vec::new();
        }
        let changes = case.links[link.index].capacity.changes();
        let beginning = self.usable.iter().position(|usable| *usable > 0.0).map(|sample| SAMPLE * sample as u32);
        let risen = changes.iter().filter(|(_, before, after)| after > before).map(|(at, ..)| *at);
        let until =
            |at: Duration| changes.iter().map(|(next, ..)| *next).find(|next| *next > at).unwrap_or(case.length);
        beginning.into_iter().chain(risen).map(|at| self.rise(at, until(at))).collect()
    }

    fn rise(&self, from: Duration, until: Duration) -> Settling {
        let (first, end) = (samples(from), samples(until).min(self.taken.len()));
        let is_used = |sample: usize| {
            let window = sample..sample + SAMPLES_PER_SECOND;
            let (taken, usable): (f64, f64) =
                (self.taken[window.clone()].iter().sum(), self.usable[window].iter().sum());
            // Where nobody has anything to send, nothing is shown.
            self.usable[sample + SAMPLES_PER_SECOND - 1] > 0.0 && taken >= USED * usable
        };
        let used = (first..end.saturating_sub(SAMPLES_PER_SECOND)).find(|sample| is_used(*sample));
        used.map_or(Settling::Never, |sample| Settling::After(SAMPLE * (sample - first) as u32))
    }

    fn oscillation(&self, case: &Case) -> f64 {
        let mut changes: Vec<Duration> = vec![Duration::ZERO, case.length];
        changes.extend(case.links.iter().flat_map(|link| link.capacity.changes()).map(|(at, ..)| at));
        changes.extend(
            case.senders
                .iter()
                .flat_map(|sender| &sender.tracks)
                .flat_map(|track| &track.active)
                .flat_map(|(from, to)| [*from, *to]),
        );
        changes.sort_unstable();
        let parts = changes.windows(2).filter_map(|pair| {
            let (from, to) = (samples(pair[0] + CHANGE), samples(pair[1]).min(self.taken.len()));
            let seconds: Vec<f64> = self.taken.get(from..to)?.chunks_exact(SAMPLES_PER_SECOND).map(average).collect();
            deviation(&seconds)
        });
        mean(parts)
    }
}

/// From each fall of the capacity until the queue is [`DRAINED`] and stays so for a second.
fn drains(case: &Case, link: &Link<'_>) -> Vec<Settling> {
    let changes = case.links[link.index].capacity.changes();
    if !case.tcp.is_empty() {
        return Vec::new();
    }
    let drained = |at: Duration| {
        let until = changes.iter().map(|(next, ..)| *next).find(|next| *next > at).unwrap_or(case.length);
        let (first, end) = (glances(at), glances(until).min(link.record.queue.len()));
        let lasting = glances(LASTING);
        let mut short = 0;
        for glance in first..end {
            short = if link.record.queue[glance] < DRAINED { short + 1 } else { 0 };
            if short == lasting {
                return Settling::After(GLANCE * (glance + 1 - lasting - first) as u32);
            }
        }
        Settling::Never
    };
    changes.iter().filter(|(_, before, after)| after < before).map(|(at, ..)| drained(*at)).collect()
}

/// Of media that could come in time before the end: what did not come at first, and what did not come in time at all.
fn losses(case: &Case, tracks: &[Track<'_>]) -> (f64, f64) {
    let (mut all, mut at_first, mut for_good) = (0_u64, 0_u64, 0_u64);
    for packet in tracks.iter().flat_map(|track| track.record.media()) {
        if packet.sent_at + DEADLINE > case.length {
            continue;
        }
        all += 1;
        at_first += u64::from(!packet.came_at_once);
        for_good += u64::from(!packet.came_in_time());
    }
    let part = |count: u64| if all == 0 { 0.0 } else { count as f64 / all as f64 };
    (part(at_first), part(for_good))
}

/// Of all flows together, over the time in which any is active.
fn goodput(case: &Case, tracks: &[Track<'_>]) -> Bitrate {
    let media = tracks.iter().flat_map(|track| track.record.media());
    let bytes: u64 = media.filter(|packet| packet.came_in_time()).map(|packet| u64::from(packet.payload)).sum();
    let samples = (0..samples(case.length)).map(|sample| SAMPLE * sample as u32);
    let active = samples.filter(|at| tracks.iter().any(|track| track.plan.is_active(*at))).count();
    let seconds = active as f64 / SAMPLES_PER_SECOND as f64;
    if active == 0 { Bitrate::ZERO } else { Bitrate::from_bps((bytes as f64 * 8.0 / seconds) as u64) }
}

/// Jain's index over the rates of each stretch in which all are active, each rate divided by its flow's priority.
fn jain(case: &Case, tracks: &[Track<'_>]) -> Option<f64> {
    let mut samples = all_active(case, tracks)?.into_iter().flatten().peekable();
    samples.peek()?;
    let mut rates = vec![0.0; tracks.len()];
    for sample in samples {
        for (sum, track) in rates.iter_mut().zip(tracks) {
            *sum += track.record.received[sample] as f64 / track.plan.priority;
        }
    }
    let (sum, squares) = (rates.iter().sum::<f64>(), rates.iter().map(|rate| rate * rate).sum::<f64>());
    (squares > 0.0).then(|| sum * sum / (rates.len() as f64 * squares))
}

/// The greatest ratio of two flows' rates over windows of this length, one beginning each second.
fn max_min(case: &Case, tracks: &[Track<'_>], window: Duration) -> Option<f64> {
    let window = samples(window);
    let mut worst: Option<f64> = None;
    for stretch in all_active(case, tracks)? {
        let mut first = stretch.start;
        while first + window <= stretch.end {
            let rate = |track: &Track<'_>| {
                let bytes: u64 = track.record.received[first..first + window].iter().sum();
                bytes as f64 / track.plan.priority
            };
            let rates = || tracks.iter().map(rate);
            let (max, min) = (rates().fold(0.0, f64::max), rates().fold(f64::INFINITY, f64::min));
            let ratio = if min > 0.0 { max / min } else { f64::INFINITY };
            worst = Some(worst.map_or(ratio, |worst| worst.max(ratio)));
            first += SAMPLES_PER_SECOND;
        }
    }
    worst
}

/// Stretches of samples in which all tracks are active. `None` if there is but one track.
fn all_active(case: &Case, tracks: &[Track<'_>]) -> Option<Vec<std::ops::Range<usize>>> {
    if tracks.len() < 2 {
        return None;
    }
    let mut stretches: Vec<std::ops::Range<usize>> = Vec::new();
    for sample in 0..samples(case.length) {
        if !tracks.iter().all(|track| track.plan.is_active(SAMPLE * sample as u32)) {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if last.end == sample => last.end = sample + 1,
            _ => stretches.push(sample..sample + 1),
        }
    }
    Some(stretches)
}

fn samples(span: Duration) -> usize {
    (span.as_nanos() / SAMPLE.as_nanos()) as usize
}

fn glances(span: Duration) -> usize {
    (span.as_nanos() / GLANCE.as_nanos()) as usize
}

/// Bits per second of so many bytes in a sample.
pub(crate) fn rate(bytes: u64) -> f64 {
    bytes as f64 * 8.0 * SAMPLES_PER_SECOND as f64
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

/// The standard deviation as a part of the mean. `None` of less than two values, or of none but zeros.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = average(values);
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (values.len() >= 2 && mean > 0.0).then(|| variance.sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::record::samples as samples_of;

    /// `5.4`, but with flows that get these rates in kb/s all the time.
    fn of_rates(rates: [u64; 3]) -> Metrics {
        let case = cases().into_iter().find(|case| case.name == "5.4").unwrap();
        let records: Vec<TrackRecord> = rates
            .iter()
            .map(|kbps| {
                let mut record = TrackRecord::new(case.length);
                record.received.fill(Bitrate::from_kbps(*kbps).bytes_in(SAMPLE));
                record
            })
            .collect();
        let link = link(&case, &[(Duration::ZERO, Duration::ZERO)]);
        let tracks: Vec<Track<'_>> = case
            .senders
            .iter()
            .zip(&records)
            .map(|(sender, record)| Track {
                plan: &sender.tracks[0],
                record,
                forward: &sender.forward,
                wire_max: Bitrate::from_kbps(2_000),
            })
            .collect();
        metrics(&case, &[Link { index: 0, record: &link }], &tracks)
    }

    /// A queue that is so long from each time on.
    fn link(case: &Case, queue: &[(Duration, Duration)]) -> LinkRecord {
        let crate::case::Capacity::Steps(steps) = &case.links[0].capacity else { panic!("steps") };
        let at =
            |at: Duration, steps: &mut dyn Iterator<Item = Duration>| steps.take_while(|from| *from <= at).count() - 1;
        LinkRecord {
            queue: (0..glances(case.length))
                .map(|glance| queue[at(GLANCE * glance as u32, &mut queue.iter().map(|(from, _)| *from))].1)
                .collect(),
            capacity: (0..samples_of(case.length))
                .map(|sample| steps[at(SAMPLE * sample as u32, &mut steps.iter().map(|(from, _)| *from))].1)
                .collect(),
        }
    }

    #[test]
    fn equal_rates_are_fair_and_unequal_ones_as_far_as_they_are() {
        let metrics = of_rates([1_000, 1_000, 1_000]);
        assert!((metrics.jain.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(metrics.max_min.iter().map(|(_, ratio)| *ratio).collect::<Vec<_>>(), [1.0; 3]);
        assert!(metrics.oscillation.abs() < 1e-9);
        let metrics = of_rates([2_000, 500, 500]);
        assert!((metrics.jain.unwrap() - 9.0 / 13.5).abs() < 1e-9, "{:?}", metrics.jain);
        assert_eq!(metrics.max_min.last(), Some(&(Duration::from_secs(20), 4.0)));
    }

    #[test]
    fn what_can_be_used_is_the_least_of_capacity_and_sources() {
        // For 20 s one source is there, of 2 of 3.5 Mb/s, then there are two, for 1 s none; all come to 3 Mb/s, whoever is active.
        let metrics = of_rates([1_000, 1_000, 1_000]);
        let usable = 20.0 * 2.0 + 99.0 * 3.5;
        assert!((metrics.utilisation - 120.0 * 3.0 / usable).abs() < 1e-3, "{}", metrics.utilisation);
        assert_eq!(metrics.rises, [Settling::After(Duration::ZERO)], "3 Mb/s are more than 90 % of the first 2 Mb/s");
        assert_eq!(of_rates([300, 300, 300]).rises, [Settling::Never]);
    }

    #[test]
    fn a_queue_is_drained_when_it_stays_short() {
        let case = cases().into_iter().find(|case| case.name == "fall").unwrap();
        let [short, long] = [Duration::from_millis(10), Duration::from_millis(200)];
        let at = Duration::from_secs;
        // Short again after 2 s, but for less than a second; then from 4 s on.
        let again = Duration::from_millis(22_500);
        let record = link(&case, &[(at(0), short), (at(20), long), (at(22), short), (again, long), (at(24), short)]);
        assert_eq!(drains(&case, &Link { index: 0, record: &record }), [Settling::After(at(4))]);
        let record = link(&case, &[(at(0), short), (at(20), long)]);
        assert_eq!(drains(&case, &Link { index: 0, record: &record }), [Settling::Never]);
    }
}
