//! Writes feedback as receivers do: the bytes that the sender's parsers read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lenscast_media::Ssrc;

/// A packet that has come and of which the sender does not know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Transport-wide.
    pub(super) transport_sequence: u16,
    pub(super) ssrc: Ssrc,
    pub(super) sequence: u16,
    pub(super) at: Instant,
    pub(super) marked: bool,
}

/// What a receiver's clock shows at the beginning: something else than nothing.
const CLOCK: Duration = Duration::from_secs(86_400);

/// Of a delta, and of the reference time (draft-holmer-rmcat-transport-wide-cc-extensions-01, sections 3.1.5 and 3.1).
const TICK: Duration = Duration::from_micros(250);
const REFERENCE_TICKS: u64 = 256;

/// Statuses (section 3.1.1): as many as their deltas have bytes.
const MISSING: u8 = 0;
const SMALL: u8 = 1;
const LARGE: u8 = 2;

/// How many packets chunks tell of (sections 3.1.3 and 3.1.4).
const RUN: usize = (1 << 13) - 1;
const BITS: usize = 14;
const PAIRS: usize = 7;

/// The FCI of a transport-wide feedback message on `arrivals`, which ascend and are not empty, and on those from `base` on
/// that are not among them.
pub(super) fn transport_wide(start: Instant, base: u16, message: u8, arrivals: &[Arrival]) -> Vec<u8> {
    let ticks = |arrival: &Arrival| ((CLOCK + (arrival.at - start)).as_nanos() / TICK.as_nanos()) as u64;
    let reference = arrivals.first().map_or(0, ticks) / REFERENCE_TICKS;
    let mut statuses = Vec::new();
    let mut deltas = Vec::new();
    let mut last = reference * REFERENCE_TICKS;
    for arrival in arrivals {
        let index = usize::from(arrival.transport_sequence.wrapping_sub(base));
        statuses.resize(index, MISSING);
        let delta = ticks(arrival) - last;
        last += delta;
        match u8::try_from(delta) {
            Ok(delta) => {
                statuses.push(SMALL);
                deltas.push(delta);
            }
            Err(_) => {
                statuses.push(LARGE);
                deltas.extend((delta.min(i16::MAX as u64) as u16).to_be_bytes());
            }
        }
    }
    let mut fci = Vec::with_capacity(8 + statuses.len() + deltas.len());
    fci.extend(base.to_be_bytes());
    fci.extend((statuses.len() as u16).to_be_bytes());
    fci.extend(&((reference as u32) & 0xff_ffff).to_be_bytes()[1..]);
    fci.push(message);
    write_chunks(&statuses, &mut fci);
    fci.extend(deltas);
    fci.resize(fci.len().next_multiple_of(4), 0);
    fci
}

fn write_chunks(mut statuses: &[u8], fci: &mut Vec<u8>) {
    while let Some(first) = statuses.first() {
        let run = statuses.iter().take(RUN).take_while(|status| *status == first).count();
        let bits = statuses.iter().take(BITS).take_while(|status| **status != LARGE).count();
        let (chunk, taken) = if run > PAIRS {
            (u16::from(*first) << 13 | run as u16, run)
        } else if bits == BITS.min(statuses.len()) {
            let bit = |chunk, index| chunk << 1 | statuses.get(index).map_or(0, |status| u16::from(*status));
            (1 << 15 | (0..BITS).fold(0, bit), bits)
        } else {
            let pair = |chunk, index| chunk << 2 | statuses.get(index).map_or(0, |status| u16::from(*status));
            (1 << 15 | 1 << 14 | (0..PAIRS).fold(0, pair), PAIRS.min(statuses.len()))
        };
        fci.extend(chunk.to_be_bytes());
        statuses = &statuses[taken..];
    }
}

/// A packet came, with this mark, so long before the message was made (RFC 8888, section 3.1).
const CAME: u16 = 1 << 15;
const MARKED: u16 = 3 << 13;
/// ECT(1), as it was sent.
const UNMARKED: u16 = 1 << 13;
/// The oldest that can be told: more is told as "more".
const MAX_AGE: u128 = 0x1ffe;

/// The FCI of an RFC 8888 message on `arrivals`. `bases` has the first number of each stream that no message has told of yet.
pub(super) fn rfc8888(start: Instant, now: Instant, bases: &mut BTreeMap<Ssrc, u16>, arrivals: &[Arrival]) -> Vec<u8> {
    let mut streams: BTreeMap<Ssrc, Vec<u16>> = BTreeMap::new();
    for arrival in arrivals {
        let base = *bases.entry(arrival.ssrc).or_insert(arrival.sequence);
        let metrics = streams.entry(arrival.ssrc).or_default();
        metrics.resize(usize::from(arrival.sequence.wrapping_sub(base)), 0);
        let age = ((now - arrival.at).as_nanos() * 1_024 / 1_000_000_000).min(MAX_AGE) as u16;
        metrics.push(CAME | if arrival.marked { MARKED } else { UNMARKED } | age);
    }
    let mut fci = Vec::new();
    for (ssrc, metrics) in streams {
        let base = bases.get_mut(&ssrc).map_or(0, |base| {
            let next = base.wrapping_add(metrics.len() as u16);
            std::mem::replace(base, next)
        });
        fci.extend(ssrc.0.to_be_bytes());
        fci.extend(base.to_be_bytes());
        fci.extend((metrics.len() as u16).to_be_bytes());
        fci.extend(metrics.iter().flat_map(|metric| metric.to_be_bytes()));
        fci.resize(fci.len().next_multiple_of(4), 0);
    }
    let clock = (CLOCK + (now - start)).as_nanos() * 65_536 / 1_000_000_000;
    fci.extend((clock as u32).to_be_bytes());
    fci
}

#[cfg(test)]
mod tests {
    use lenscast_congestion::{CongestionFeedback, TransportFeedback};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> Instant {
        crate::run::origin()
    }

    fn arrival(sequence: u16, at: Instant) -> Arrival {
        Arrival { transport_sequence: sequence, ssrc: Ssrc(7), sequence, at, marked: sequence.is_multiple_of(3) }
    }

    #[test]
    fn the_parser_reads_what_a_receiver_writes() {
        let start = start();
        // Gaps of all lengths, deltas small and large, around the wrap.
        let numbers = [65_530, 65_531, 2, 3, 4, 5, 40, 41, 43, 45, 47, 49, 300, 301, 302];
        for count in 1..=numbers.len() {
            let arrivals: Vec<Arrival> = (0..count)
                .map(|index| {
                    arrival(numbers[index], start + MS * (index as u32 * 13 + if index > 4 { 100 } else { 0 }))
                })
                .collect();
            let fci = transport_wide(start, 65_529, 9, &arrivals);
            let read = TransportFeedback::parse(&fci).unwrap();
            assert_eq!(read.base_sequence(), 65_529);
            let base = u64::from(read.reference_time()) * REFERENCE_TICKS;
            let came: Vec<(u16, u64)> = read
                .arrivals()
                .zip(0_u16..)
                .filter_map(|(ticks, index)| Some((65_529_u16.wrapping_add(index), base + u64::try_from(ticks?).ok()?)))
                .collect();
            let sent: Vec<(u16, u64)> = arrivals
                .iter()
                .map(|arrival| (arrival.sequence, (CLOCK + (arrival.at - start)).as_micros() as u64 / 250))
                .collect();
            assert_eq!(came, sent);
        }
    }

    #[test]
    fn marks_pass_through_rfc_8888() {
        let start = start();
        let arrivals: Vec<Arrival> =
            [1, 2, 3, 6].map(|number| arrival(number, start + MS * u32::from(number))).to_vec();
        let mut bases = BTreeMap::new();
        let fci = rfc8888(start, start + MS * 100, &mut bases, &arrivals);
        let read = CongestionFeedback::parse(&fci).unwrap();
        let metrics: Vec<_> = read
            .metrics()
            .map(|metric| (metric.sequence, metric.age.is_some(), metric.congestion_experienced))
            .collect();
        let none = |number| (number, false, false);
        assert_eq!(metrics, [(1, true, false), (2, true, false), (3, true, true), none(4), none(5), (6, true, true)]);
        assert_eq!(bases[&Ssrc(7)], 7);
    }
}
