use std::time::{Duration, Instant};

use lenscast_media::Ssrc;

use crate::rtcp::{Compound, PacketStatus, TransportFeedbackHead};

/// Tells a publisher when each of its packets came, by their transport-wide sequence numbers
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01): one a transport.
///
/// A packet that comes after it was reported as missing is reported again, with those behind it.
#[derive(Debug)]
pub struct TransportFeedback {
    local: Ssrc,
    /// Arrival times are counted from here.
    origin: Instant,
    /// By sequence index modulo [`WINDOW`]: when it came, in [`TICK`]s since the origin.
    arrivals: Vec<Option<i64>>,
    /// The highest index that came; indices are unwrapped sequence numbers.
    highest: Option<u64>,
    /// The index that the next feedback begins with: behind what was told, or at what came late.
    next: u64,
    /// Any of the streams: the format wants one.
    media: Ssrc,
    feedbacks: u8,
    due: Option<Instant>,
    statuses: Vec<PacketStatus>,
}

/// How often feedback is sent: libwebrtc's default (`RemoteEstimatorProxy`), and mediasoup's.
const INTERVAL: Duration = Duration::from_millis(100);
/// The unit of arrival times (§3.1.5).
const TICK: Duration = Duration::from_micros(250);
/// The unit of the reference time, 64 ms, in [`TICK`]s (§3.1).
const REFERENCE_TICKS: i64 = 256;
/// Packets one feedback tells of, so that it stays below 1,200 bytes: a chunk of two bytes for 7, and 2 bytes each.
const MAX_STATUSES: u64 = 480;
/// How many of the newest packets are remembered, and how far ahead a sequence number may jump.
const WINDOW: u64 = 2_048;
/// Indices begin above 0, because packets may come that were sent before the first.
const FIRST_INDEX: u64 = 1 << 16;

impl TransportFeedback {
    /// `local` is the SSRC that feedback comes from.
    #[must_use]
    pub fn new(local: Ssrc, now: Instant) -> Self {
        Self {
            local,
            origin: now,
            arrivals: Vec::new(),
            highest: None,
            next: 0,
            media: Ssrc(0),
            feedbacks: 0,
            due: None,
            statuses: Vec::new(),
        }
    }

    /// When [`TransportFeedback::write_due`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// A packet of `media` with this transport-wide sequence number came in at `now`.
    pub fn handle_packet(&mut self, now: Instant, media: Ssrc, sequence: u16) {
        if self.arrivals.is_empty() {
            // Only for publishers that number their packets.
            self.arrivals.resize(WINDOW as usize, None);
        }
        let Some(index) = self.place(sequence) else { return };
        let arrival = &mut self.arrivals[(index % WINDOW) as usize];
        if arrival.is_some() {
            return;
        }
        *arrival = Some((now.saturating_duration_since(self.origin).as_micros() / TICK.as_micros()) as i64);
        self.next = self.next.min(index);
        self.media = media;
        let full = self.highest.is_some_and(|highest| highest - self.next + 1 >= MAX_STATUSES);
        let due = if full { now } else { now + INTERVAL };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// Appends feedback about what has come since the last one, if it is due. There may be more than fits into a datagram:
    /// then it stays due.
    pub fn write_due(&mut self, now: Instant, compound: &mut Compound) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = None;
        let Some(highest) = self.highest else { return };
        // What was forgotten meanwhile can no longer be told.
        self.next = self.next.max((highest + 1).saturating_sub(WINDOW));
        let before = compound.as_bytes().len();
        while self.next <= highest && compound.as_bytes().len() == before {
            self.next += self.write_one(self.next, highest, compound);
        }
        if self.next <= highest {
            self.due = Some(now);
        }
    }

    /// The index of a sequence number, `None` if it is older than the window. Makes room for a new highest one.
    fn place(&mut self, sequence: u16) -> Option<u64> {
        let ahead = self.highest.map(|highest| i64::from(sequence.wrapping_sub(highest as u16) as i16));
        match (self.highest, ahead) {
            (Some(highest), Some(ahead @ ..=0)) => {
                let behind = ahead.unsigned_abs();
                return highest.checked_sub(behind).filter(|_| behind < WINDOW);
            }
            (Some(highest), Some(ahead)) if ahead.unsigned_abs() < WINDOW => {
                let index = highest + ahead.unsigned_abs();
                for between in highest + 1..=index {
                    self.arrivals[(between % WINDOW) as usize] = None;
                }
                self.highest = Some(index);
            }
            (highest, ahead) => {
                // The first, or a jump: nothing is known of what lies before it.
                let index = highest.unwrap_or(FIRST_INDEX | u64::from(sequence)) + ahead.unwrap_or(0).unsigned_abs();
                self.arrivals.fill(None);
                self.next = index;
                self.highest = Some(index);
            }
        }
        self.highest
    }

    /// Writes one feedback that begins with index `from`, and returns how many packets it tells of; at least 1.
    fn write_one(&mut self, from: u64, highest: u64, compound: &mut Compound) -> u64 {
        let end = highest.min(from + MAX_STATUSES - 1);
        let arrivals = &self.arrivals;
        let arrival = |index: u64| arrivals[(index % WINDOW) as usize];
        let Some(first) = (from..=end).find_map(arrival) else {
            // Longer than a feedback, and nothing came: the highest came, so this is not the end.
            return end - from + 1;
        };
        let reference = first.div_euclid(REFERENCE_TICKS);
        let mut last = reference * REFERENCE_TICKS;
        self.statuses.clear();
        for index in from..=end {
            let Some(ticks) = arrival(index) else {
                self.statuses.push(PacketStatus::Missing);
                continue;
            };
            let delta = ticks - last;
            self.statuses.push(match (u8::try_from(delta), i16::try_from(delta)) {
                (Ok(small), _) => PacketStatus::Small(small),
                (_, Ok(large)) => PacketStatus::Large(large),
                // Eight seconds apart: the next feedback begins here, with a time of its own.
                _ => break,
            });
            last = ticks;
        }
        let head = TransportFeedbackHead {
            sender: self.local,
            media: self.media,
            base_sequence: from as u16,
            // 24 bits, which wrap.
            reference_time: reference as u32 & 0xFF_FFFF,
            feedback_count: self.feedbacks,
        };
        compound.push_transport_feedback(&head, &self.statuses);
        self.feedbacks = self.feedbacks.wrapping_add(1);
        self.statuses.len() as u64
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
    use rtc_shared::marshal::Unmarshal;

    use super::*;

    /// Sequence number and arrival in microseconds since the origin, `None` for one that is missing.
    type Told = (u16, Option<i64>);

    /// What another stack reads.
    fn read(compound: &Compound) -> Vec<(TransportLayerCc, Vec<Told>)> {
        let mut rest = compound.as_bytes();
        let mut read = Vec::new();
        let mut read_to = 0;
        while rest.len() >= 4 {
            let len = (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1) * 4;
            assert!(len <= 1_200, "{len} bytes");
            let feedback = TransportLayerCc::unmarshal(&mut &rest[..len]).unwrap();
            rest = &rest[len..];
            let symbols = feedback.packet_chunks.iter().flat_map(|chunk| match chunk {
                PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; usize::from(run.run_length)],
                PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
            });
            let mut deltas = feedback.recv_deltas.iter();
            let mut time = i64::from(feedback.reference_time) * 64_000;
            let statuses = symbols.take(usize::from(feedback.packet_status_count)).enumerate().map(|(at, symbol)| {
                let arrival = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                    time += deltas.next().unwrap().delta;
                    time
                });
                (feedback.base_sequence_number.wrapping_add(at as u16), arrival)
            });
            let statuses: Vec<_> = statuses.collect();
            assert!(deltas.next().is_none());
            assert_eq!(statuses.len(), usize::from(feedback.packet_status_count));
            assert_eq!(read_as_sender(&compound.as_bytes()[read_to..read_to + len]), statuses);
            read_to += len;
            read.push((feedback, statuses));
        }
        read
    }

    /// What our own sending side reads.
    fn read_as_sender(packet: &[u8]) -> Vec<Told> {
        let feedback = lenscast_congestion::TransportFeedback::parse(&packet[12..]).unwrap();
        let reference = i64::from(feedback.reference_time()) * 64_000;
        let arrivals = feedback.arrivals().map(|arrival| arrival.map(|ticks| reference + ticks * 250));
        arrivals.zip(0_u16..).map(|(at, index)| (feedback.base_sequence().wrapping_add(index), at)).collect()
    }

    #[test]
    fn feedback_comes_every_tenth_of_a_second() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut feedback = TransportFeedback::new(Ssrc(1), start);
        assert_eq!(feedback.poll_timeout(), None);
        for (millis, sequence) in [(70, 65_534), (71, 65_535), (90, 2), (80, 1), (169, 3)] {
            feedback.handle_packet(at(millis), Ssrc(42), sequence);
        }
        let mut compound = Compound::new();
        feedback.write_due(at(169), &mut compound);
        assert!(compound.as_bytes().is_empty());
        assert_eq!(feedback.poll_timeout(), Some(at(170)));
        feedback.write_due(at(170), &mut compound);
        let [(told, statuses)] = &read(&compound)[..] else { panic!() };
        assert_eq!((told.sender_ssrc, told.media_ssrc, told.fb_pkt_count), (1, 42, 0));
        let ms = |millis: i64| Some(millis * 1_000);
        let expected = [(65_534, ms(70)), (65_535, ms(71)), (0, None), (1, ms(80)), (2, ms(90)), (3, ms(169))];
        assert_eq!(statuses[..], expected);

        compound.clear();
        feedback.handle_packet(at(200), Ssrc(42), 5);
        feedback.write_due(at(300), &mut compound);
        let [(told, statuses)] = &read(&compound)[..] else { panic!() };
        assert_eq!((told.fb_pkt_count, &statuses[..]), (1, &[(4, None), (5, ms(200))][..]), "4 is missing");

        compound.clear();
        feedback.handle_packet(at(310), Ssrc(42), 0);
        feedback.write_due(at(410), &mut compound);
        let [(_, statuses)] = &read(&compound)[..] else { panic!() };
        assert_eq!((statuses[0], statuses[3], statuses[4]), ((0, ms(310)), (3, ms(169)), (4, None)), "it came late");
    }

    #[test]
    fn a_jump_of_the_numbers_or_of_time_begins_anew() {
        let start = Instant::now();
        let mut feedback = TransportFeedback::new(Ssrc(1), start);
        feedback.handle_packet(start, Ssrc(42), 1);
        feedback.handle_packet(start + Duration::from_secs(20), Ssrc(42), 2);
        let mut compound = Compound::new();
        for told in 1..=2 {
            assert!(feedback.poll_timeout().is_some(), "20 s do not fit into a delta");
            feedback.write_due(start + Duration::from_secs(20), &mut compound);
            assert_eq!(read(&compound).len(), told, "each goes in a datagram of its own");
        }
        assert_eq!(feedback.poll_timeout(), None);
        compound.clear();
        feedback.handle_packet(start + Duration::from_secs(21), Ssrc(42), 20_000);
        feedback.write_due(start + Duration::from_secs(22), &mut compound);
        assert_eq!(read(&compound)[0].1, [(20_000, Some(21_000_000))]);
    }

    proptest! {
        #[test]
        fn another_stack_reads_when_each_packet_came_and_which_did_not(
            first: u16, origin in 0_u64..100_000_000,
            packets in prop::collection::vec((prop::bool::weighted(0.8), 0_u64..9_000, 0_u64..40_000), 1..1_500)
        ) {
            let start = Instant::now();
            let at = |micros: u64| start + Duration::from_micros(micros);
            let mut arrivals = Vec::new();
            let mut clock = origin;
            for (number, (arrives, gap, late)) in packets.iter().enumerate() {
                clock += if number % 40 == 0 { gap * 50 } else { gap / 9 };
                arrivals.extend(arrives.then_some((clock + late, Some(number))));
            }
            arrivals.sort_unstable();
            arrivals.push((arrivals.last().map_or(0, |last| last.0) + 1_000_000, None));
            let mut feedback = TransportFeedback::new(Ssrc(1), start);
            let mut told: BTreeMap<u16, Option<i64>> = BTreeMap::new();
            let mut count = 0_u8;
            let mut compound = Compound::new();
            for (micros, number) in &arrivals {
                if let Some(number) = number {
                    feedback.handle_packet(at(*micros), Ssrc(42), first.wrapping_add(*number as u16));
                }
                compound.clear();
                while feedback.poll_timeout().is_some_and(|due| due <= at(*micros)) {
                    feedback.write_due(at(*micros), &mut compound);
                }
                for (read, statuses) in read(&compound) {
                    prop_assert_eq!(read.fb_pkt_count, count);
                    count = count.wrapping_add(1);
                    for (sequence, arrival) in statuses {
                        let before = told.insert(sequence, arrival);
                        prop_assert!(before.flatten().is_none() || before == Some(arrival), "what was told stays true");
                    }
                }
            }
            let came: BTreeMap<usize, i64> =
                arrivals.iter().filter_map(|(at, number)| number.map(|n| (n, (*at / 250 * 250) as i64))).collect();
            let range = came.keys().next().copied().unwrap_or(1)..=came.keys().last().copied().unwrap_or(0);
            let expected: BTreeMap<u16, Option<i64>> =
                range.map(|number| (first.wrapping_add(number as u16), came.get(&number).copied())).collect();
            prop_assert_eq!(told, expected);
        }

        #[test]
        fn any_numbers_at_any_times_are_survived(packets in prop::collection::vec((any::<u16>(), 0_u64..30_000), 0..200)) {
            let start = Instant::now();
            let mut feedback = TransportFeedback::new(Ssrc(1), start);
            let mut compound = Compound::new();
            let mut now = start;
            for (sequence, gap) in packets {
                now += Duration::from_millis(gap);
                feedback.handle_packet(now, Ssrc(42), sequence);
                compound.clear();
                feedback.write_due(now, &mut compound);
                let _ = read(&compound);
            }
        }
    }
}
