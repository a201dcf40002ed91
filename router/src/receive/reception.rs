use std::time::{Duration, Instant};

use lenscast_media::{RtpTime, Ssrc};

use super::publisher_clock::SenderReportTimes;
use crate::rtcp::ReportBlock;

/// What receiver reports tell of one stream (RFC 3550 §6.4.1), counted as its appendices A.3 and A.8 do.
///
/// Duplicates and retransmissions do not count as received: they would hide what the path lost.
#[derive(Debug, Clone)]
pub(crate) struct Reception {
    clock_rate: u32,
    /// Arrival times are counted from here.
    origin: Instant,
    /// The index and number of the first packet, and the highest index.
    first: Option<(u64, u16)>,
    highest: u64,
    received: u64,
    /// What had been expected and received at the last report.
    reported: (u64, u64),
    transit: Option<u32>,
    /// In 1/16 tick.
    jitter: u32,
}

impl Reception {
    pub(crate) fn new(clock_rate: u32, now: Instant) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            origin: now,
            first: None,
            highest: 0,
            received: 0,
            reported: (0, 0),
            transit: None,
            jitter: 0,
        }
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, index: u64, sequence: u16, timestamp: RtpTime) {
        match &mut self.first {
            None => (self.first, self.highest) = (Some((index, sequence)), index),
            Some((first, number)) if index < *first => {
                *number = number.wrapping_sub((*first - index) as u16);
                *first = index;
            }
            Some(_) => self.highest = self.highest.max(index),
        }
        self.received += 1;
        let arrival = self.ticks(now.saturating_duration_since(self.origin));
        let transit = arrival.wrapping_sub(timestamp.0);
        if let Some(before) = self.transit.replace(transit) {
            // Bounded, so that a timestamp out of all order does not spoil the estimate for good.
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs().min(self.clock_rate);
            self.jitter = self.jitter - ((self.jitter + 8) >> 4) + change;
        }
    }

    /// Packets that should have come.
    pub(crate) fn expected(&self) -> u64 {
        self.first.map_or(0, |(first, _)| self.highest - first + 1)
    }

    /// Packets that came.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Variation of the time between packets (RFC 3550 §6.4.1).
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.jitter >> 4) / f64::from(self.clock_rate))
    }

    /// A report block, and the beginning of the next report's interval. `None` before the first packet.
    pub(crate) fn take_block(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        sender_report: Option<&SenderReportTimes>,
    ) -> Option<ReportBlock> {
        let (first, number) = self.first?;
        let expected = self.expected();
        let (expected_before, received_before) = std::mem::replace(&mut self.reported, (expected, self.received));
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(self.received - received_before);
        // RFC 3550 A.3; all lost is 256/256, which 8 bits do not hold.
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let lost = expected as i64 - self.received as i64;
        // Since the first packet's number, so that its wraps are counted as the sender's.
        let highest = u64::from(number) + (self.highest - first);
        let since = |report: &SenderReportTimes| {
            let delay = now.saturating_duration_since(report.received).as_secs_f64() * 65_536.0;
            (report.ntp.compact(), delay as u32)
        };
        let (last_sender_report, delay_since_last_sender_report) = sender_report.map_or((0, 0), since);
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            // 24 bits, signed.
            cumulative_lost: lost.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: highest as u32,
            jitter: self.jitter >> 4,
            last_sender_report,
            delay_since_last_sender_report,
        })
    }

    fn ticks(&self, span: Duration) -> u32 {
        let whole = span.as_secs().wrapping_mul(u64::from(self.clock_rate));
        let part = u64::from(span.subsec_nanos()) * u64::from(self.clock_rate) / 1_000_000_000;
        whole.wrapping_add(part) as u32
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use lenscast_media::NtpTime;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn loss_is_told_for_the_interval_and_since_the_beginning() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, start);
        assert_eq!(reception.take_block(start, Ssrc(1), None), None);
        for index in (100..200_u64).filter(|index| index % 4 != 1) {
            reception.handle_packet(start, index, (index + 65_400) as u16, RtpTime(0));
        }
        let block = reception.take_block(start, Ssrc(1), None).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (64, 25));
        assert_eq!(block.highest_sequence, 65_400 + 199, "with one wrap");
        for index in 200..300_u64 {
            reception.handle_packet(start, index, (index + 65_400) as u16, RtpTime(0));
        }
        let times = SenderReportTimes { ntp: NtpTime(0x1234_5678_9ABC_DEF0), rtp: RtpTime(0), received: start };
        let block = reception.take_block(start + 500 * MS, Ssrc(1), Some(&times)).unwrap();
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 25));
        assert_eq!((block.last_sender_report, block.delay_since_last_sender_report), (0x5678_9ABC, 32_768));
    }

    #[test]
    fn packets_sent_before_the_first_are_expected_too() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, start);
        reception.handle_packet(start, 100, 2, RtpTime(0));
        reception.handle_packet(start, 97, 65_535, RtpTime(0));
        let block = reception.take_block(start, Ssrc(1), None).unwrap();
        assert_eq!((block.cumulative_lost, block.highest_sequence), (2, 65_538));
    }

    #[test]
    fn jitter_grows_by_a_sixteenth_of_the_change() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, start);
        reception.handle_packet(start, 1, 1, RtpTime(0));
        reception.handle_packet(start + 10 * MS, 2, 2, RtpTime(0));
        assert_eq!(reception.jitter >> 4, 900 / 16);
        for index in 3..300 {
            reception.handle_packet(start + 10 * MS * index, u64::from(index), 0, RtpTime(900 * index));
        }
        assert_eq!(reception.jitter(), Duration::ZERO, "a steady stream has none");
    }
}
