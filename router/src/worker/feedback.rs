use std::time::Instant;

use lenscast_media::{NtpTime, Ssrc};

use super::ingest::LOCAL_SOURCE;
use super::{ConsumerPlace, Worker};
use crate::producer::{Producer, note_score, trace};
use crate::resend::{MAX_LOOKED_UP, Refusal};
use crate::rtcp::{self, ExtendedBlock, Packet, ReadRtcpError};
use crate::{Egress, Trace, TransportId, TransportSlot};

impl Worker {
    /// A compound RTCP packet, decrypted, from a transport's peer.
    ///
    /// # Errors
    ///
    /// If it is malformed; what came before the fault has taken effect.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        transport: TransportId,
        compound: &[u8],
        egress: &mut impl Egress,
    ) -> Result<(), ReadRtcpError> {
        let Some(slot) = self.transports.slot(transport) else { return Ok(()) };
        let mut room = MAX_LOOKED_UP;
        for packet in rtcp::read(compound) {
            self.handle_rtcp_packet(now, slot, packet?, &mut room, egress);
        }
        Ok(())
    }

    fn handle_rtcp_packet(
        &mut self,
        now: Instant,
        slot: TransportSlot,
        packet: Packet<'_>,
        room: &mut usize,
        egress: &mut impl Egress,
    ) {
        match packet {
            Packet::SenderReport(report) => {
                self.handle_report_blocks(now, slot, report.reports);
                self.handle_sender_report(now, slot, report.sender, report.ntp, report.rtp);
            }
            Packet::Reports(blocks) => self.handle_report_blocks(now, slot, blocks),
            Packet::Nack { media, lost } => self.handle_nack(now, slot, media, lost.sequences(), room, egress),
            Packet::Pli { media } => {
                if let Some((producer, place)) = self.consumer_by_ssrc(slot, media) {
                    producer.consumers[place.position].handle_pli();
                    self.key_frame_wanted(now, place);
                }
            }
            Packet::Fir(entries) => {
                for (media, command) in entries {
                    if let Some((producer, place)) = self.consumer_by_ssrc(slot, media)
                        && producer.consumers[place.position].handle_fir(command)
                    {
                        self.key_frame_wanted(now, place);
                    }
                }
            }
            Packet::Extended { sender, blocks } => {
                for block in blocks {
                    match block {
                        ExtendedBlock::ReferenceTime(ntp) => self.handle_reference_time(now, slot, sender, ntp),
                        ExtendedBlock::Returned { receiver: LOCAL_SOURCE, last_report, delay } => {
                            self.handle_returned_time(now, slot, last_report, delay);
                        }
                        ExtendedBlock::Returned { .. } => {}
                    }
                }
            }
            Packet::Goodbyes(sources) => {
                for ssrc in sources {
                    self.handle_goodbye(now, slot, ssrc, egress);
                }
            }
            // Whoever drives this reads congestion control feedback.
            Packet::TransportWide(_) | Packet::CongestionControl(_) => {}
            Packet::Names(_) | Packet::Application(_) | Packet::Other { .. } => {}
        }
    }

    /// A viewer wants its time back.
    fn handle_reference_time(&mut self, now: Instant, slot: TransportSlot, receiver: Ssrc, ntp: NtpTime) {
        // One answer serves the whole session: it goes out with the first stream's report.
        let first = self.transports.get(slot).and_then(|transport| transport.consumers.first()).copied();
        if let Some(entry) = first
            && let Some((producer, place)) = self.consumer_by_ssrc(slot, entry.ssrc)
        {
            producer.consumers[place.position].handle_reference_time(now, receiver, ntp);
        }
    }

    fn handle_report_blocks(&mut self, now: Instant, slot: TransportSlot, blocks: rtcp::ReportBlocks<'_>) {
        let ntp = self.wall.ntp_at(now);
        for block in blocks {
            if let Some((producer, place)) = self.consumer_by_ssrc(slot, block.ssrc) {
                let scores = producer.scores();
                let consumer = &mut self.producers.at_mut(place.producer).consumers[place.position];
                consumer.handle_report(ntp, &block);
                note_score(consumer, scores, &mut self.events);
            }
        }
    }

    /// A viewer cannot decode: what it is sent, or is to be sent, has to begin anew.
    fn key_frame_wanted(&mut self, now: Instant, place: ConsumerPlace) {
        let producer = self.producers.at_mut(place.producer);
        let consumer = &producer.consumers[place.position];
        if consumer.traced {
            trace(&mut self.events, Trace::Pli { consumer: consumer.id() });
        }
        if let Some(layer) = consumer.current().or(consumer.target())
            && producer.format().key_frames
        {
            producer.request_key_frame(now, layer, &mut self.events);
            self.watch(now, place.producer);
        }
    }

    /// Sends again what is still there of the packets asked for. `room` is how many may still be looked up for this
    /// datagram; what is beyond it is refused unseen.
    fn handle_nack(
        &mut self,
        now: Instant,
        slot: TransportSlot,
        media: Ssrc,
        mut lost: impl Iterator<Item = u16>,
        room: &mut usize,
        egress: &mut impl Egress,
    ) {
        let connected = self.transports.get(slot).is_some_and(|transport| transport.connected);
        let Some((_, place)) = self.consumer_by_ssrc(slot, media).filter(|_| connected) else { return };
        let Producer { consumers, encodings, .. } = self.producers.at_mut(place.producer);
        let consumer = &mut consumers[place.position];
        consumer.stats.nack_count += 1;
        if !consumer.is_ready() {
            return;
        }
        let mut asked = 0;
        if consumer.parameters().rtx.is_some() {
            while *room > 0
                && let Some(sequence) = lost.next()
            {
                *room -= 1;
                asked += 1;
                let found = consumer.place_of(sequence).and_then(|at| {
                    let (burst, _) = encodings.get(usize::from(at.layer))?.history.find(at.packet, now)?;
                    Some((at, burst))
                });
                let resent = found.map(|(at, burst)| consumer.resend(now, sequence, at, burst, &self.wall));
                match resent {
                    Some(Ok(packets)) => egress.send_rtp(slot, &packets),
                    Some(Err(Refusal::Exhausted)) => {
                        consumer.stats.retransmissions_refused += 1;
                        break;
                    }
                    Some(Err(Refusal::JustResent)) | None => consumer.stats.retransmissions_refused += 1,
                }
            }
        }
        let unseen = lost.count();
        consumer.stats.retransmissions_refused += unseen as u64;
        if consumer.traced {
            let packets = asked + unseen as u32;
            trace(&mut self.events, Trace::Nack { consumer: consumer.id(), packets });
        }
    }

    pub(super) fn consumer_by_ssrc(
        &mut self,
        slot: TransportSlot,
        ssrc: Ssrc,
    ) -> Option<(&mut Producer, ConsumerPlace)> {
        let entry = self.transports.get(slot)?.consumers.iter().find(|entry| entry.ssrc == ssrc)?;
        let place = *self.consumers.get(&entry.consumer)?;
        Some((self.producers.at_mut(place.producer), place))
    }
}
