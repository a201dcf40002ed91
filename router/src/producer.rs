use std::sync::Arc;
use std::time::Instant;

use lenscast_media::{Burst, RtpTime, WallClock};

use crate::consumer::Consumer;
use crate::history::History;
use crate::{ConsumerId, Egress, ProducerStats, TransportId, Upstream};

/// One stream that enters the router, with all consumers it has on this worker.
#[derive(Debug)]
pub(crate) struct Producer {
    upstream: Arc<dyn Upstream>,
    transport: TransportId,
    consumers: Vec<Consumer>,
    history: History,
    /// Index that the next burst's first packet should have.
    expected_packet: Option<u64>,
    /// RTP time and capture time of the last burst: what ties the stream's clock to ours.
    clock: Option<(RtpTime, Instant)>,
    stats: ProducerStats,
}

impl Producer {
    pub(crate) fn new(transport: TransportId, upstream: Arc<dyn Upstream>) -> Self {
        Self {
            upstream,
            transport,
            consumers: Vec::new(),
            history: History::default(),
            expected_packet: None,
            clock: None,
            stats: ProducerStats::default(),
        }
    }

    pub(crate) const fn transport(&self) -> TransportId {
        self.transport
    }

    pub(crate) fn upstream(&self) -> &dyn Upstream {
        &*self.upstream
    }

    pub(crate) fn stats(&self) -> ProducerStats {
        ProducerStats {
            active_consumers: self.active_consumers(),
            consumers: self.consumers.len(),
            ..self.stats.clone()
        }
    }

    pub(crate) fn active_consumers(&self) -> usize {
        self.consumers.iter().filter(|consumer| consumer.is_active()).count()
    }

    pub(crate) fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.iter().find(|consumer| consumer.parameters().id == id)
    }

    pub(crate) fn consumer_ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.consumers.iter().map(|consumer| consumer.parameters().id)
    }

    /// The stream's RTP time at `now`, if it has sent anything.
    pub(crate) fn clock_at(&self, now: Instant) -> Option<RtpTime> {
        let (time, captured) = self.clock?;
        Some(time.wrapping_add(RtpTime::from_span(now.saturating_duration_since(captured)).0))
    }

    /// Forwards a burst to every consumer that can use it. True if any of them now waits for a key frame.
    #[must_use]
    pub(crate) fn handle_burst(
        &mut self,
        now: Instant,
        burst: Arc<Burst>,
        wall: &WallClock,
        egress: &mut impl Egress,
    ) -> bool {
        let meta = burst.meta();
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(meta.key_frame);
        self.stats.packets += burst.len() as u64;
        self.stats.bytes += burst.payload_bytes() as u64;
        self.stats.resolution = meta.resolution.or(self.stats.resolution);
        self.stats.codec = Some(meta.codec);
        if self.active_consumers() == 0 {
            // It was queued when the last one left. What comes next is not what follows it.
            return false;
        }
        if self.expected_packet.is_some_and(|expected| expected != meta.first_packet) {
            self.stats.discontinuities += 1;
            self.consumers.iter_mut().for_each(Consumer::handle_discontinuity);
        }
        self.expected_packet = Some(burst.packets().end);
        self.clock = Some((meta.rtp_time, meta.times.captured));

        let mut waiting = false;
        for consumer in &mut self.consumers {
            if let Some(packets) = consumer.handle_burst(now, &burst, wall) {
                egress.send_rtp(consumer.slot(), &packets);
            }
            waiting |= consumer.awaits_key_frame();
        }
        self.history.push(burst, now);
        waiting
    }

    pub(crate) fn add_consumer(&mut self, consumer: Consumer) {
        self.consumers.push(consumer);
    }

    pub(crate) fn remove_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        let index = self.consumers.iter().position(|consumer| consumer.parameters().id == id)?;
        let removed = self.consumers.swap_remove(index);
        if self.active_consumers() == 0 {
            self.history.clear();
            // A producer without active consumers may stop, or send elsewhere only: a gap then is no loss.
            self.expected_packet = None;
        }
        Some(removed)
    }

    /// The consumer and the history that its retransmissions come from.
    pub(crate) fn consumer_mut(&mut self, id: ConsumerId) -> Option<(&mut Consumer, &History)> {
        let consumer = self.consumers.iter_mut().find(|consumer| consumer.parameters().id == id)?;
        Some((consumer, &self.history))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) mod tests {
    use super::*;
    use lenscast_media::{BurstMeta, Codec, PassedExtensions, Resolution, StageTimes};

    /// A burst of `len` packets whose payloads say which packet of the producer they are.
    pub(crate) fn burst(first_packet: u64, len: usize, key_frame: bool, at: Instant) -> Arc<Burst> {
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(Resolution::new(64, 64).unwrap()),
            temporal_layer: 0,
            layer_sync: false,
            first_packet,
            rtp_time: RtpTime((first_packet * 3_000) as u32),
            times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
            extensions: PassedExtensions::default(),
        });
        for packet in 0..len as u64 {
            burst.push(&[&(first_packet + packet).to_be_bytes(), &[0; 100]]);
        }
        Arc::new(burst)
    }
}
