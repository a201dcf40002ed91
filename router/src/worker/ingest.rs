use std::time::{Duration, Instant};

use lenscast_media::{NtpTime, RtpTime, Ssrc};

use super::{Timer, Worker};
use crate::producer::{Origin, Reception};
use crate::receive::{PublisherClock, ReceivedLayerStats, RtpPacket, TransportFeedback};
use crate::round_trip::round_trip;
use crate::rtcp::Compound;
use crate::score::Score;
use crate::{Egress, HandleRtpError, ProducerKey, TransportId, TransportSlot};

/// What a transport keeps of its peer as a publisher.
#[derive(Debug)]
pub(super) struct Publisher {
    /// Indices of what it produces.
    pub(super) producers: Vec<usize>,
    clock: PublisherClock,
    /// When it is to hear our time again, to return it; `None` if it does not return it.
    reference_time_due: Option<Instant>,
    /// If its packets are counted over all its streams.
    feedback: Option<TransportFeedback>,
}

/// The source that feedback to publishers comes from; libwebrtc has the same for receivers without a stream of their own.
pub const LOCAL_SOURCE: Ssrc = Ssrc(1);

/// How often the round trip to a publisher is measured: with every report on video.
const REFERENCE_TIME_INTERVAL: Duration = Duration::from_secs(1);

/// Timers of receivers that are due at once come no more often than this.
const RESOLUTION: Duration = Duration::from_millis(1);

impl Publisher {
    pub(super) const fn new() -> Self {
        Self { producers: Vec::new(), clock: PublisherClock::new(), reference_time_due: None, feedback: None }
    }

    pub(super) fn count_all_packets(&mut self, now: Instant) {
        self.feedback.get_or_insert_with(|| TransportFeedback::new(LOCAL_SOURCE, now));
    }

    pub(super) fn measure_round_trip(&mut self, now: Instant) {
        self.reference_time_due.get_or_insert(now);
    }

    /// Adds our time to what is said anyway, if it is due.
    fn write_reference_time(&mut self, now: Instant, ntp: NtpTime, compound: &mut Compound) {
        if let Some(due) = self.reference_time_due.as_mut().filter(|due| **due <= now) {
            *due = now + REFERENCE_TIME_INTERVAL;
            compound.push_receiver_reference_time(LOCAL_SOURCE, ntp);
        }
    }
}

impl Worker {
    /// What is known of a received producer's layers, the smallest first; nothing of another.
    pub fn received_stats(&self, producer: ProducerKey) -> impl Iterator<Item = ReceivedLayerStats> {
        let reception = self.producers.get(producer).and_then(|producer| producer.origin.reception());
        reception.into_iter().flat_map(|reception| reception.receiver.stats())
    }

    /// How well a received producer gets here; `None` for another.
    #[must_use]
    pub fn producer_score(&self, producer: ProducerKey) -> Option<Score> {
        Some(self.producers.get(producer)?.origin.reception()?.receiver.score())
    }

    /// An RTP packet, decrypted, from a transport's peer. What it makes complete is forwarded by
    /// [`Worker::end_of_batch`].
    ///
    /// # Errors
    ///
    /// If it belongs to no producer, or its producer's receiver refuses it.
    pub fn handle_rtp(&mut self, now: Instant, id: TransportId, packet: &[u8]) -> Result<(), HandleRtpError> {
        let slot = self.transports.slot(id).ok_or(HandleRtpError::UnknownTransport(id))?;
        let packet = RtpPacket::read(packet).map_err(|_| HandleRtpError::Malformed)?;
        let index = self.producer_of(slot, &packet).ok_or(HandleRtpError::UnknownSource(packet.ssrc))?;
        let transport = self.transports.get_mut(slot).expect("it has a slot");
        let producer = self.producers.at_mut(index);
        let reception = producer.origin.reception_mut().expect("publishers have received producers only");
        let extensions = reception.extensions.read(packet.extensions);
        if let (Some(feedback), Some(sequence)) = (&mut transport.publisher.feedback, extensions.transport_sequence) {
            feedback.handle_packet(now, packet.ssrc, sequence);
            self.timers.set(Timer::Feedback(slot), feedback.poll_timeout());
        }
        if !reception.touched {
            reception.touched = true;
            self.touched.push(index);
        }
        let taken = reception.receiver.handle_rtp(now, &packet, &extensions, &transport.publisher.clock);
        taken.map_err(|_| HandleRtpError::Refused)
    }

    /// All packets that were received together have been handled: forwards what they make up.
    pub fn end_of_batch(&mut self, now: Instant, egress: &mut impl Egress) {
        while let Some(index) = self.touched.pop() {
            // It may have ended since, and its place taken by another.
            let Some(producer) = self.producers.slots[index].as_mut() else { continue };
            let Some(reception) = producer.origin.reception_mut() else { continue };
            reception.touched = false;
            let mut bursts = std::mem::take(&mut self.batch);
            bursts.extend(reception.receiver.take_bursts());
            self.sending_may_have_changed(now, index, egress);
            let (producer, mut with) = self.forwarding(now, index, egress);
            for received in bursts.drain(..) {
                producer.forward(received.layer, received.broken, received.burst, &mut with);
            }
            self.batch = bursts;
            self.watch(now, index);
        }
    }

    pub(super) fn handle_sender_report(
        &mut self,
        now: Instant,
        slot: TransportSlot,
        ssrc: Ssrc,
        ntp: NtpTime,
        rtp: RtpTime,
    ) {
        let Some(transport) = self.transports.get_mut(slot) else { return };
        transport.publisher.clock.handle_sender_report(now, ntp);
        for &index in &transport.publisher.producers {
            if let Some(reception) = self.producers.at_mut(index).origin.reception_mut() {
                reception.receiver.handle_sender_report(now, ssrc, ntp, rtp);
            }
        }
    }

    /// A publisher returns our time: what it sends again takes that long to come.
    pub(super) fn handle_returned_time(&mut self, now: Instant, slot: TransportSlot, sent: u32, held: u32) {
        let Some(measured) = round_trip(self.wall.ntp_at(now), sent, held) else { return };
        let Some(transport) = self.transports.get(slot) else { return };
        for &index in &transport.publisher.producers {
            if let Some(reception) = self.producers.at_mut(index).origin.reception_mut() {
                reception.receiver.set_round_trip(measured);
            }
        }
    }

    pub(super) fn handle_goodbye(&mut self, now: Instant, slot: TransportSlot, ssrc: Ssrc, egress: &mut impl Egress) {
        let Some(transport) = self.transports.get(slot) else { return };
        for index in transport.publisher.producers.clone() {
            if let Some(reception) = self.producers.at_mut(index).origin.reception_mut() {
                reception.receiver.handle_goodbye(now, ssrc);
                self.sending_may_have_changed(now, index, egress);
            }
        }
    }

    /// A receiver has something to say, or wants to look at the time.
    pub(super) fn receive_due(&mut self, now: Instant, index: usize, egress: &mut impl Egress) {
        let Origin::Rtp { transport: slot, reception } = &mut self.producers.at_mut(index).origin else { return };
        let slot = *slot;
        reception.receiver.handle_timeout(now);
        self.compound.clear();
        reception.receiver.write_feedback(now, &mut self.compound);
        let next = reception.receiver.poll_timeout().max(now + RESOLUTION);
        self.timers.set(Timer::Receive(index), Some(next));
        if let Some(transport) = self.transports.get_mut(slot).filter(|transport| transport.connected)
            && !self.compound.is_empty()
        {
            transport.publisher.write_reference_time(now, self.wall.ntp_at(now), &mut self.compound);
            egress.send_rtcp(slot, self.compound.as_bytes());
        }
        self.sending_may_have_changed(now, index, egress);
        self.producers.at_mut(index).update_scores(&mut self.events);
    }

    pub(super) fn feedback_due(&mut self, now: Instant, slot: TransportSlot, egress: &mut impl Egress) {
        let Some(transport) = self.transports.get_mut(slot) else { return };
        let Some(feedback) = &mut transport.publisher.feedback else { return };
        self.compound.clear();
        feedback.write_due(now, &mut self.compound);
        self.timers.set(Timer::Feedback(slot), feedback.poll_timeout().map(|due| due.max(now + RESOLUTION)));
        if transport.connected && !self.compound.is_empty() {
            egress.send_rtcp(slot, self.compound.as_bytes());
        }
    }

    /// By SSRC, then by MID, then by payload type.
    fn producer_of(&self, slot: TransportSlot, packet: &RtpPacket<'_>) -> Option<usize> {
        let producers = &self.transports.get(slot)?.publisher.producers;
        let receptions = || {
            producers.iter().filter_map(|&index| {
                let producer = self.producers.at(index);
                Some((index, producer, producer.origin.reception()?))
            })
        };
        let known = receptions().find(|(_, _, reception)| reception.receiver.has_source(packet.ssrc));
        if let Some((index, ..)) = known {
            return Some(index);
        }
        let named = receptions().find(|(_, producer, reception)| {
            let extensions = reception.extensions.read(packet.extensions);
            producer.parameters.mid.is_some_and(|mid| extensions.mid == Some(mid.as_bytes()))
        });
        let typed = || {
            receptions().find(|(_, producer, _)| {
                let parameters = &producer.parameters;
                [parameters.payload_type, parameters.rtx_payload_type].contains(&Some(packet.payload_type))
            })
        };
        named.or_else(typed).map(|(index, ..)| index)
    }

    fn sending_may_have_changed(&mut self, now: Instant, index: usize, egress: &mut impl Egress) {
        let producer = self.producers.at_mut(index);
        let key = producer.key;
        let change =
            producer.origin.reception_mut().and_then(|Reception { receiver, .. }| receiver.take_sending_change());
        if let Some(sending) = change {
            self.set_sending(now, key, sending, egress);
        }
    }
}
