use std::time::{Duration, Instant};

use super::{Timer, Worker};
use crate::{ConsumerId, Egress, TransportId, TransportSlot};

/// How often each viewer gets a sender report. libwebrtc sends video's every second (`RTCPSender`), far more often than
/// the 5 s of RFC 3550 §6.2, because receivers need it to relate timestamps to the clock.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a compound may have, so that it goes in one datagram on every path with room for SRTCP's tag and index.
pub(super) const MAX_COMPOUND: usize = 1_200;
/// What one stream adds at most: a sender report of 28 bytes, a name of up to 255 with 13 around it, a DLRR of 24, and a
/// goodbye of 8.
const MAX_ENTRY: usize = 28 + 268 + 24 + 8;

/// Spreads the viewers' reports over the interval, so that they do not all leave in one burst.
pub(super) fn first_report(now: Instant, id: TransportId) -> Instant {
    now + REPORT_INTERVAL * (id.0 % 16) as u32 / 16
}

impl Worker {
    pub(super) fn report_due(&mut self, now: Instant, due: Instant, slot: TransportSlot, egress: &mut impl Egress) {
        self.send_reports(now, slot, false, egress);
        // Keep the rhythm, but do not catch up on reports that a sleeping machine missed.
        let kept = due + REPORT_INTERVAL;
        let next = if kept > now { kept } else { now + REPORT_INTERVAL };
        self.timers.set(Timer::Report(slot), Some(next));
    }

    /// A report for each of a transport's streams, and a goodbye behind it if they end.
    pub(super) fn send_reports(&mut self, now: Instant, slot: TransportSlot, goodbye: bool, egress: &mut impl Egress) {
        let Some(transport) = self.transports.get(slot).filter(|transport| transport.connected) else { return };
        let ntp = self.wall.ntp_at(now);
        self.compound.clear();
        for entry in &transport.consumers {
            if self.compound.as_bytes().len() + MAX_ENTRY > MAX_COMPOUND {
                egress.send_rtcp(slot, self.compound.as_bytes());
                self.compound.clear();
            }
            let place = self.consumers[&entry.consumer];
            let consumer = &mut self.producers.at_mut(place.producer).consumers[place.position];
            consumer.write_report(now, ntp, &mut self.compound);
            if goodbye {
                self.compound.push_bye(entry.ssrc);
            }
        }
        if !self.compound.as_bytes().is_empty() {
            egress.send_rtcp(slot, self.compound.as_bytes());
        }
    }

    /// Tells a peer that one of its streams ends.
    pub(super) fn send_goodbye(&mut self, now: Instant, id: ConsumerId, egress: &mut impl Egress) {
        let place = self.consumers[&id];
        if !self.transports.get(place.transport).is_some_and(|transport| transport.connected) {
            return;
        }
        let consumer = &mut self.producers.at_mut(place.producer).consumers[place.position];
        self.compound.clear();
        consumer.write_report(now, self.wall.ntp_at(now), &mut self.compound);
        self.compound.push_bye(consumer.parameters().ssrc);
        egress.send_rtcp(place.transport, self.compound.as_bytes());
    }
}
