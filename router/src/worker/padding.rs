use std::time::Instant;

use lenscast_media::Ssrc;

use super::Worker;
use crate::producer::Producer;
use crate::{Egress, TransportId, TransportSlot};

/// Packets that one call makes at most.
const MAX_PACKETS: u16 = 32;

/// Fewer bytes than this are not worth a packet with payload (libwebrtc `modules/rtp_rtcp/source/rtp_sender.cc`,
/// `kMinPayloadPaddingBytes`).
const MIN_WITH_PAYLOAD: usize = 50;
/// A packet with payload may make so many times what was asked for (the same, `kMaxPaddingSizeFactor`).
const MAX_OVERSHOOT: usize = 3;
/// What a packet of padding alone holds (the same, `kMaxPaddingLength`).
const MAX_PADDING: usize = 224;

impl Worker {
    /// Sends a transport's peer about so many bytes that it has no use for, on the retransmission stream of a video that it
    /// is sent: packets that have just gone out, so that one that was lost is repaired by them, or else padding alone. At
    /// most 32 packets; none if nothing has gone out yet, or the peer takes no retransmissions. Returns the payload bytes.
    pub fn pad(&mut self, now: Instant, id: TransportId, bytes: usize, egress: &mut impl Egress) -> usize {
        let Some(slot) = self.transports.slot(id) else { return 0 };
        let Some(place) = self.padded_place(slot) else { return 0 };
        let Producer { consumers, encodings, .. } = self.producers.at_mut(place.producer);
        let consumer = &mut consumers[place.position];
        let mut left = bytes;
        for back in 0..MAX_PACKETS {
            if left == 0 {
                break;
            }
            let recent = if left < MIN_WITH_PAYLOAD { None } else { consumer.recent(back) };
            let found = recent.and_then(|(sequence, at)| {
                let (burst, position) = encodings.get(usize::from(at.layer))?.history.find(at.packet, now)?;
                (burst.payload(position).len() <= left * MAX_OVERSHOOT).then_some((sequence, at, burst))
            });
            let with_payload =
                found.and_then(|(sequence, at, burst)| consumer.pad_with(sequence, at, burst, &self.wall));
            let packets = match with_payload {
                Some(packets) => packets,
                None => {
                    let newest = encodings.iter().find_map(|encoding| encoding.history.newest());
                    let padding = left.min(MAX_PADDING) as u8;
                    let Some(packets) = newest.and_then(|burst| consumer.pad(padding, burst, &self.wall)) else {
                        break;
                    };
                    packets
                }
            };
            left = left.saturating_sub(packets.total_bytes());
            egress.send_rtp(slot, &packets);
        }
        bytes - left
    }

    /// Packets of one of a transport's streams have been dropped on their way out: it goes on with its next key frame, which
    /// is asked for. Of audio, with its next packet.
    pub fn break_off(&mut self, now: Instant, id: TransportId, ssrc: Ssrc) {
        let Some(slot) = self.transports.slot(id) else { return };
        let Some((producer, place)) = self.consumer_by_ssrc(slot, ssrc) else { return };
        let has_key_frames = producer.format().key_frames;
        let consumer = &mut producer.consumers[place.position];
        let Some(layer) = consumer.target().or(consumer.current()).filter(|_| has_key_frames) else { return };
        consumer.break_off();
        let producer = self.producers.at_mut(place.producer);
        producer.note_change(place.position, &mut self.events);
        producer.request_key_frame(now, layer, &mut self.events);
        self.watch(now, place.producer);
    }

    /// The video to pad for: one that goes out, if there is one.
    fn padded_place(&self, slot: TransportSlot) -> Option<super::ConsumerPlace> {
        let transport = self.transports.get(slot).filter(|transport| transport.connected)?;
        let places = || transport.consumers.iter().filter_map(|entry| self.consumers.get(&entry.consumer));
        let consumer = |place: &super::ConsumerPlace| &self.producers.at(place.producer).consumers[place.position];
        let goes_out = places().find(|place| consumer(place).can_pad() && consumer(place).current().is_some());
        goes_out.or_else(|| places().find(|place| consumer(place).can_pad())).copied()
    }
}
