use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::Ssrc;

use super::twcc::REFERENCE_TICKS;
use super::{CongestionFeedback, TransportFeedback};
use crate::{PacketKind, PacketReport, ProbeId, SentPacket};

/// Numbers the packets of a path as they leave, remembers them, and turns feedback into reports about them.
///
/// What feedback has gone past is forgotten, but for packets that it did not say to have come: these may come late. So memory
/// goes with what is in flight and with what was lost lately, not with the time that packets are remembered.
#[derive(Debug, Clone, Default)]
pub struct SentHistory {
    /// Packets that no feedback has gone past; the last is `next - 1`.
    ahead: VecDeque<Record>,
    /// Packets that feedback has gone past, ascending: those that did not come, and some that came since.
    behind: VecDeque<(u64, Record)>,
    /// The next packet's number.
    next: u64,
    /// Bytes of the packets that are ahead.
    in_flight: u64,
    streams: Vec<Stream>,
    twcc_clock: TwccClock,
    ccfb_clock: CcfbClock,
}

/// A packet that left.
#[derive(Debug, Clone, Copy)]
struct Record {
    sent_at: Instant,
    size: u32,
    kind: PacketKind,
    probe: Option<ProbeId>,
    fate: Fate,
}

/// What has been reported of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Missing,
    Received,
}

/// Which packets of a stream have which numbers: feedback of RFC 8888 names RTP's.
#[derive(Debug, Clone)]
struct Stream {
    ssrc: Ssrc,
    /// The newest RTP sequence number, unwrapped.
    newest: u64,
    /// Unwrapped RTP sequence numbers and packet numbers, both ascending.
    packets: VecDeque<(u64, u64)>,
}

/// What came of one packet.
#[derive(Debug, Clone, Copy)]
struct Told {
    received_at: Option<Duration>,
    congestion_experienced: bool,
}

/// How long packets are remembered (libwebrtc, `transport_feedback_adapter.cc`, `kSendTimeHistoryWindow`).
const WINDOW: Duration = Duration::from_secs(60);
/// How many packets are remembered: half of the 16-bit numbers.
const MAX_PACKETS: usize = 1 << 15;
/// How many of them feedback has gone past: so many that came late may be reported so. It bounds what a message costs that
/// tells of everything, and with nothing new.
const MAX_BEHIND: usize = 1 << 12;
/// How many streams are known by name. A leg has two for each of its 16 cameras, and audio.
const MAX_STREAMS: usize = 64;

impl SentHistory {
    /// With nothing sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of packets that have left, and that are newer than all that feedback told of.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight
    }

    /// How many packets are remembered.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.ahead.len() + self.behind.len()
    }

    /// The packet that [`record`](Self::record) took last, for the controller; `None` once feedback has told of it.
    #[must_use]
    pub fn last(&self) -> Option<SentPacket> {
        self.ahead.back().map(|record| record.packet(self.next - 1))
    }

    /// A packet of `size` bytes leaves: its transport-wide sequence number.
    pub fn record(&mut self, kind: PacketKind, size: u32, sent_at: Instant, probe: Option<ProbeId>) -> u16 {
        self.forget_old(sent_at);
        let number = self.next;
        self.next += 1;
        self.in_flight += u64::from(size);
        self.ahead.push_back(Record { sent_at, size, kind, probe, fate: Fate::Unknown });
        number as u16
    }

    /// [`record`](Self::record) for a path whose feedback is RFC 8888's, which names packets by stream and RTP sequence number.
    ///
    /// A packet that leaves again under the same name is known by the first one.
    pub fn record_rtp(
        &mut self,
        kind: PacketKind,
        size: u32,
        sent_at: Instant,
        probe: Option<ProbeId>,
        ssrc: Ssrc,
        rtp_sequence: u16,
    ) -> u16 {
        let number = self.next;
        let sequence = self.record(kind, size, sent_at, probe);
        let oldest = self.oldest();
        let index = self.streams.iter().position(|stream| stream.ssrc == ssrc);
        let index = index.or_else(|| {
            (self.streams.len() < MAX_STREAMS).then(|| {
                self.streams.push(Stream {
                    ssrc,
                    newest: u64::from(rtp_sequence) + (1 << 16),
                    packets: VecDeque::new(),
                });
                self.streams.len() - 1
            })
        });
        if let Some(stream) = index.and_then(|index| self.streams.get_mut(index)) {
            stream.push(rtp_sequence, number, oldest);
        }
        sequence
    }

    /// A transport-wide feedback message has come: appends reports on packets that it tells news of, in ascending order.
    pub fn handle_twcc(&mut self, _now: Instant, feedback: &TransportFeedback<'_>, reports: &mut Vec<PacketReport>) {
        let reference = self.twcc_clock.unwrap(feedback.reference_time());
        let Some(first) = self.unwrap(feedback.base_sequence()) else { return };
        let mut behind = self.behind.partition_point(|(number, _)| *number < first);
        let mut passed = None;
        for (number, arrival) in (first..self.next).zip(feedback.arrivals()) {
            while self.behind.get(behind).is_some_and(|(at, _)| *at < number) {
                behind += 1;
            }
            let told = Told {
                received_at: arrival.map(|ticks| TwccClock::since_origin(reference.saturating_add(ticks))),
                congestion_experienced: false,
            };
            self.tell(number, behind, told, reports);
            passed = Some(number);
        }
        self.pass(passed);
    }

    /// A congestion control feedback message has come: appends reports on packets that it tells news of, in ascending order.
    ///
    /// Packets that left between those it tells of, and that it does not tell of, have not come either: it tells of no stream
    /// of which nothing came.
    pub fn handle_ccfb(&mut self, _now: Instant, feedback: &CongestionFeedback<'_>, reports: &mut Vec<PacketReport>) {
        let before = reports.len();
        let made_at = self.ccfb_clock.unwrap(feedback.timestamp());
        let mut range: Option<(u64, u64)> = None;
        for metric in feedback.metrics() {
            let stream = self.streams.iter().find(|stream| stream.ssrc == metric.ssrc);
            let Some(number) = stream.and_then(|stream| stream.find(metric.sequence)) else { continue };
            let behind = self.behind.partition_point(|(at, _)| *at < number);
            let told = Told {
                received_at: metric.age.map(|age| CcfbClock::since_origin(made_at, age)),
                congestion_experienced: metric.congestion_experienced,
            };
            if self.tell(number, behind, told, reports) {
                range = Some(range.map_or((number, number), |(low, high)| (low.min(number), high.max(number))));
            }
        }
        if let Some((low, high)) = range {
            let missing = Told { received_at: None, congestion_experienced: false };
            for index in self.behind.partition_point(|(at, _)| *at < low)..self.behind.len() {
                let number = self.behind[index].0;
                if number > high {
                    break;
                }
                self.tell(number, index, missing, reports);
            }
            for number in low.max(self.first_ahead())..=high {
                self.tell(number, self.behind.len(), missing, reports);
            }
            self.pass(Some(high));
        }
        reports[before..].sort_unstable_by_key(|report| (report.sent.sequence, report.received_at.is_some()));
    }

    /// Reports on a packet, if it is remembered and this is news; `behind` is where it is in `self.behind`, if it is there. Returns
    /// whether the packet is remembered and has not come before.
    fn tell(&mut self, number: u64, behind: usize, told: Told, reports: &mut Vec<PacketReport>) -> bool {
        let first_ahead = self.first_ahead();
        let record = match number.checked_sub(first_ahead) {
            Some(index) => self.ahead.get_mut(index as usize),
            None => self.behind.get_mut(behind).filter(|(at, _)| *at == number).map(|(_, record)| record),
        };
        let Some(record) = record.filter(|record| record.fate != Fate::Received) else { return false };
        let fate = if told.received_at.is_some() { Fate::Received } else { Fate::Missing };
        if record.fate != fate {
            record.fate = fate;
            reports.push(PacketReport {
                sent: record.packet(number),
                received_at: told.received_at,
                congestion_experienced: told.congestion_experienced,
            });
        }
        true
    }

    /// Feedback has told of this packet: it and all before it are no longer in flight.
    fn pass(&mut self, passed: Option<u64>) {
        let Some(passed) = passed else { return };
        while self.first_ahead() <= passed {
            let number = self.first_ahead();
            let Some(record) = self.ahead.pop_front() else { break };
            self.in_flight -= u64::from(record.size);
            if record.fate != Fate::Received {
                self.behind.push_back((number, record));
                if self.behind.len() > MAX_BEHIND {
                    self.behind.pop_front();
                }
            }
        }
        while self.behind.front().is_some_and(|(_, record)| record.fate == Fate::Received) {
            self.behind.pop_front();
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |record: &Record| now.saturating_duration_since(record.sent_at) > WINDOW;
        while self.behind.front().is_some_and(|(_, record)| is_old(record) || record.fate == Fate::Received) {
            self.behind.pop_front();
        }
        while self.behind.is_empty() && self.ahead.front().is_some_and(is_old) {
            self.forget_oldest();
        }
        if self.packets() >= MAX_PACKETS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if self.behind.pop_front().is_none() {
            self.in_flight -= self.ahead.pop_front().map_or(0, |record| u64::from(record.size));
        }
    }

    fn first_ahead(&self) -> u64 {
        self.next - self.ahead.len() as u64
    }

    fn oldest(&self) -> u64 {
        self.behind.front().map_or(self.first_ahead(), |(number, _)| *number)
    }

    /// The newest packet with this sequence number, `None` if there was none.
    fn unwrap(&self, sequence: u16) -> Option<u64> {
        let last = self.next.checked_sub(1)?;
        last.checked_sub(u64::from((last as u16).wrapping_sub(sequence)))
    }
}

impl Record {
    fn packet(&self, number: u64) -> SentPacket {
        SentPacket { sequence: number, size: self.size, sent_at: self.sent_at, kind: self.kind, probe: self.probe }
    }
}

impl Stream {
    fn push(&mut self, rtp_sequence: u16, number: u64, oldest: u64) {
        while self.packets.front().is_some_and(|(_, number)| *number < oldest) {
            self.packets.pop_front();
        }
        let ahead = rtp_sequence.wrapping_sub(self.newest as u16) as i16;
        if ahead < 0 || ahead == 0 && !self.packets.is_empty() {
            return;
        }
        self.newest += u64::from(ahead.unsigned_abs());
        self.packets.push_back((self.newest, number));
    }

    fn find(&self, rtp_sequence: u16) -> Option<u64> {
        let behind = (self.newest as u16).wrapping_sub(rtp_sequence);
        let sequence = self.newest.checked_sub(u64::from(behind))?;
        let index = self.packets.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        self.packets.get(index).map(|(_, number)| *number)
    }
}

/// Makes the reference times of transport-wide feedback, which wrap after 12 days, ascend.
#[derive(Debug, Clone, Copy, Default)]
struct TwccClock {
    /// The last one, in ticks.
    last: Option<i64>,
}

/// Where clocks begin, in seconds: so late that nothing is before their beginning, however often feedback goes back in time.
const ORIGIN: i64 = 1 << 32;

impl TwccClock {
    /// In ticks of 250 µs.
    fn unwrap(&mut self, reference: u32) -> i64 {
        const WRAP: i64 = 1 << 24;
        let reference = i64::from(reference) & (WRAP - 1);
        let unwrapped = match self.last.map(|last| last / REFERENCE_TICKS) {
            None => ORIGIN * 4_000 / REFERENCE_TICKS / WRAP * WRAP + reference,
            Some(last) => {
                let ahead = (reference - last).rem_euclid(WRAP);
                last + if ahead < WRAP / 2 { ahead } else { ahead - WRAP }
            }
        };
        let ticks = unwrapped.max(0) * REFERENCE_TICKS;
        self.last = Some(ticks);
        ticks
    }

    fn since_origin(ticks: i64) -> Duration {
        Duration::from_micros(ticks.max(0).unsigned_abs().saturating_mul(250))
    }
}

/// Makes the timestamps of congestion control feedback, which wrap after 18 hours, ascend.
#[derive(Debug, Clone, Copy, Default)]
struct CcfbClock {
    last: Option<i64>,
}

impl CcfbClock {
    /// In units of 1/65,536 s.
    fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.last {
            None => (ORIGIN << 16) + i64::from(timestamp),
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
        };
        let unwrapped = unwrapped.max(0);
        self.last = Some(unwrapped);
        unwrapped
    }

    /// `age` is in units of 1/1024 s.
    fn since_origin(made_at: i64, age: u16) -> Duration {
        let units = (made_at - i64::from(age) * 64).max(0).unsigned_abs();
        Duration::from_nanos((u128::from(units) * 1_000_000_000 / 65_536) as u64)
    }
}
