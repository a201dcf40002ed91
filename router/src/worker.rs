use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, LayerSet, Ssrc, WallClock};

use crate::consumer::{Consumer, MAX_LOOKED_UP};
use crate::producer::Producer;
use crate::rtcp::{self, Compound, Packet, ReadRtcpError};
use crate::{
    AttachError, Confirm, ConsumeError, ConsumerId, ConsumerParameters, ConsumerStats, CreateRouterError,
    CreateTransportError, Egress, EndCause, Event, HandleRtpError, Inbound, Layers, OutletId, OutletLink,
    PauseProducerError, Priority, ProduceError, ProducerId, ProducerKey, ProducerParameters, ProducerStats, RouterId,
    TransportId, TransportKind, TransportSlot, UnknownConsumer, UnknownProducer, UnknownRouter, UnknownTransport,
    Upstream,
};

/// Everything one thread forwards: producers, the transports of viewers, and the consumers between them.
///
/// Call order: whatever came in goes to a `handle_*` method; after each, [`Worker::poll_event`] until `None`; then sleep
/// until [`Worker::poll_timeout`] and call [`Worker::handle_timeout`].
#[derive(Debug)]
pub struct Worker {
    wall: WallClock,
    routers: BTreeSet<RouterId>,
    producers: BTreeMap<ProducerKey, Producer>,
    /// Where each consumer is.
    consumers: BTreeMap<ConsumerId, ProducerKey>,
    free_slots: Vec<TransportSlot>,
    transports: BTreeMap<TransportId, Transport>,
    /// When each connected transport's next report is due.
    reports_due: BTreeSet<(Instant, TransportId)>,
    events: VecDeque<Event>,
    compound: Compound,
}

#[derive(Debug)]
struct Transport {
    slot: TransportSlot,
    router: RouterId,
    kind: TransportKind,
    connected: bool,
    report_due: Option<Instant>,
    consumers: Vec<ConsumerEntry>,
}

#[derive(Debug, Clone, Copy)]
struct ConsumerEntry {
    ssrc: Ssrc,
    rtx_ssrc: Option<Ssrc>,
    consumer: ConsumerId,
    producer: ProducerKey,
}

/// Where a producer's media comes from.
#[derive(Debug)]
pub enum Source {
    /// From its transport's peer, as RTP.
    Rtp,
    /// From this process, as [`Inbound::Burst`]; only over a [`TransportKind::Direct`] transport.
    Local(Arc<dyn Upstream>),
}

/// Which mirror is attached to what.
#[derive(Debug)]
pub struct AttachParameters {
    /// What is mirrored.
    pub producer: ProducerKey,
    /// The router that gets the mirror.
    pub destination: RouterId,
    /// The way back; names the outlet.
    pub link: Arc<OutletLink>,
    /// Told by the destination once the mirror stands.
    pub created: Confirm,
}

/// How often each viewer gets a sender report. libwebrtc sends video's every second (`RTCPSender`), far more often than
/// the 5 s of RFC 3550 §6.2, because receivers need it to relate timestamps to the clock.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Worker {
    /// A worker with nothing in it.
    #[must_use]
    pub fn new(wall: WallClock) -> Self {
        Self {
            wall,
            routers: BTreeSet::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            free_slots: Vec::new(),
            transports: BTreeMap::new(),
            reports_due: BTreeSet::new(),
            events: VecDeque::new(),
            compound: Compound::new(),
        }
    }

    /// What is known of a producer.
    #[must_use]
    pub fn producer_stats(&self, producer: ProducerKey) -> Option<ProducerStats> {
        self.producers.get(&producer).map(Producer::stats)
    }

    /// What is known of a transport's consumers.
    pub fn consumer_stats(
        &self,
        transport: TransportId,
    ) -> impl Iterator<Item = (ConsumerId, ProducerId, &ConsumerStats)> {
        let entries = self.transports.get(&transport).into_iter().flat_map(|transport| &transport.consumers);
        entries.filter_map(|entry| {
            let consumer = self.producers.get(&entry.producer)?.consumer(entry.consumer)?;
            Some((entry.consumer, entry.producer.producer, consumer.stats()))
        })
    }

    /// A viewer's timestamp of this instant on one of its streams; `None` before the stream has begun.
    #[must_use]
    pub fn viewer_clock(&self, consumer: ConsumerId, now: Instant) -> Option<u32> {
        let producer = self.producers.get(self.consumers.get(&consumer)?)?;
        Some(producer.consumer(consumer)?.timestamp(producer.clock_at(now)?).0)
    }

    /// What came over the worker's ordered channel. What is for a producer that is gone, which can be on its way still, is
    /// dropped.
    pub fn handle_inbound(&mut self, now: Instant, message: Inbound, egress: &mut impl Egress) {
        match message {
            Inbound::Burst { key, burst, .. } => {
                let Some(state) = self.producers.get_mut(&key) else { return };
                if state.handle_burst(now, burst, &self.wall, egress) {
                    state.upstream().request_key_frame(0);
                }
            }
            Inbound::Open(_) | Inbound::State { .. } | Inbound::Sending { .. } => {}
        }
    }

    /// An outlet's link has been nudged: its mirror wants something else, or a key frame.
    pub fn handle_outlet(&mut self, _now: Instant, _outlet: OutletId, _egress: &mut impl Egress) {}

    /// An RTP packet, decrypted, from a transport's peer. What it makes complete is forwarded by
    /// [`Worker::end_of_batch`].
    ///
    /// # Errors
    ///
    /// If it belongs to no producer, or its producer's receiver refuses it.
    pub fn handle_rtp(&mut self, _now: Instant, transport: TransportId, _packet: &[u8]) -> Result<(), HandleRtpError> {
        Err(HandleRtpError::UnknownTransport(transport))
    }

    /// All packets that were received together have been handled: forwards what they make up.
    pub fn end_of_batch(&mut self, _now: Instant, _egress: &mut impl Egress) {}

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
        let mut room = MAX_LOOKED_UP;
        for packet in rtcp::read(compound) {
            self.handle_rtcp_packet(now, transport, packet?, &mut room, egress);
        }
        Ok(())
    }

    /// Time has come to [`Worker::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, egress: &mut impl Egress) {
        while let Some(&(due, id)) = self.reports_due.first().filter(|(due, _)| *due <= now) {
            self.reports_due.remove(&(due, id));
            self.send_reports(now, id, false, egress);
            let transport = self.transports.get_mut(&id).expect("a report is due for a live transport only");
            // Keep the rhythm, but do not catch up on reports that a sleeping machine missed.
            let kept = due + REPORT_INTERVAL;
            let next = if kept > now { kept } else { now + REPORT_INTERVAL };
            transport.report_due = Some(next);
            self.reports_due.insert((next, id));
        }
    }

    /// Makes room for transports.
    ///
    /// # Errors
    ///
    /// If there is a router of this name.
    pub fn create_router(&mut self, router: RouterId) -> Result<(), CreateRouterError> {
        if self.routers.insert(router) { Ok(()) } else { Err(CreateRouterError::Exists(router)) }
    }

    /// Ends a router with all that is in it.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn close_router(
        &mut self,
        now: Instant,
        router: RouterId,
        egress: &mut impl Egress,
    ) -> Result<(), UnknownRouter> {
        if !self.routers.remove(&router) {
            return Err(UnknownRouter(router));
        }
        let inside = self.transports.iter().filter(|(_, transport)| transport.router == router);
        for transport in inside.map(|(id, _)| *id).collect::<Vec<_>>() {
            let _ = self.close_transport(now, transport, egress);
        }
        self.events.push_back(Event::RouterClosed(router, EndCause::Requested));
        Ok(())
    }

    /// Makes room for a connection that is not up yet. One of kind [`TransportKind::Direct`] always is.
    ///
    /// # Errors
    ///
    /// If there is no such router, or a transport of this name.
    pub fn create_transport(
        &mut self,
        router: RouterId,
        id: TransportId,
        kind: TransportKind,
    ) -> Result<TransportSlot, CreateTransportError> {
        if !self.routers.contains(&router) {
            return Err(CreateTransportError::UnknownRouter(router));
        }
        if self.transports.contains_key(&id) {
            return Err(CreateTransportError::Exists(id));
        }
        let slot = self.free_slots.pop().unwrap_or(TransportSlot(self.transports.len() as u32));
        let connected = kind == TransportKind::Direct;
        let transport = Transport { slot, router, kind, connected, report_due: None, consumers: Vec::new() };
        self.transports.insert(id, transport);
        Ok(slot)
    }

    /// The connection is up: the transport's consumers start with the next key frame.
    ///
    /// # Errors
    ///
    /// If there is no such transport.
    pub fn connect_transport(&mut self, now: Instant, id: TransportId) -> Result<(), UnknownTransport> {
        let transport = self.transports.get_mut(&id).ok_or(UnknownTransport(id))?;
        if transport.connected {
            return Ok(());
        }
        transport.connected = true;
        // Spread the viewers' reports over the interval, so that they do not all leave in one burst.
        let first = now + REPORT_INTERVAL * (id.0 % 16) as u32 / 16;
        transport.report_due = Some(first);
        self.reports_due.insert((first, id));
        let entries = transport.consumers.clone();
        for entry in entries {
            self.activate(entry);
        }
        Ok(())
    }

    /// The peer is gone, or told to go: a goodbye for each of its streams, then nothing more. What it produced ends.
    ///
    /// # Errors
    ///
    /// If there is no such transport.
    pub fn close_transport(
        &mut self,
        now: Instant,
        id: TransportId,
        egress: &mut impl Egress,
    ) -> Result<(), UnknownTransport> {
        if !self.transports.contains_key(&id) {
            return Err(UnknownTransport(id));
        }
        let produced = self.producers.iter().filter(|(_, producer)| producer.transport() == id);
        for key in produced.map(|(key, _)| *key).collect::<Vec<_>>() {
            let _ = self.close_producer(now, key, egress);
        }
        self.send_reports(now, id, true, egress);
        let Some(transport) = self.transports.remove(&id) else { return Err(UnknownTransport(id)) };
        if let Some(due) = transport.report_due {
            self.reports_due.remove(&(due, id));
        }
        for entry in transport.consumers {
            self.take_from_producer(entry.producer, entry.consumer);
        }
        self.free_slots.push(transport.slot);
        self.events.push_back(Event::TransportClosed(id, EndCause::Requested));
        Ok(())
    }

    /// How much a transport can carry, as its congestion control says; `None` for no limit.
    ///
    /// # Errors
    ///
    /// If there is no such transport.
    pub fn set_available_bitrate(
        &mut self,
        _now: Instant,
        id: TransportId,
        _available: Option<Bitrate>,
    ) -> Result<(), UnknownTransport> {
        self.transports.get(&id).map(|_| ()).ok_or(UnknownTransport(id))
    }

    /// Makes a stream known that a transport's peer sends, or a source in this process.
    ///
    /// # Errors
    ///
    /// If the transport does not exist or is of the wrong kind, or the parameters contradict each other or what is there.
    pub fn produce(
        &mut self,
        _now: Instant,
        id: TransportId,
        producer: ProducerId,
        _parameters: ProducerParameters,
        source: Source,
    ) -> Result<(), ProduceError> {
        let transport = self.transports.get(&id).ok_or(ProduceError::UnknownTransport(id))?;
        let key = ProducerKey { router: transport.router, producer };
        if self.producers.contains_key(&key) {
            return Err(ProduceError::Exists(key));
        }
        let Source::Local(upstream) = source else { return Err(ProduceError::WrongTransport(id)) };
        if transport.kind != TransportKind::Direct {
            return Err(ProduceError::WrongTransport(id));
        }
        self.producers.insert(key, Producer::new(id, upstream));
        Ok(())
    }

    /// Goes on receiving a stream, but forwards it to nobody.
    ///
    /// # Errors
    ///
    /// If there is no such producer, or it is a mirror.
    pub fn pause_producer(
        &mut self,
        _now: Instant,
        key: ProducerKey,
        _egress: &mut impl Egress,
    ) -> Result<(), PauseProducerError> {
        self.producers.get(&key).map(|_| ()).ok_or(PauseProducerError::UnknownProducer(key))
    }

    /// Forwards a stream again, from its next key frame on.
    ///
    /// # Errors
    ///
    /// If there is no such producer, or it is a mirror.
    pub fn resume_producer(
        &mut self,
        _now: Instant,
        key: ProducerKey,
        _egress: &mut impl Egress,
    ) -> Result<(), PauseProducerError> {
        self.producers.get(&key).map(|_| ()).ok_or(PauseProducerError::UnknownProducer(key))
    }

    /// Ends a stream: its consumers end with it, and their viewers are told so.
    ///
    /// # Errors
    ///
    /// If there is no such producer.
    pub fn close_producer(
        &mut self,
        now: Instant,
        key: ProducerKey,
        egress: &mut impl Egress,
    ) -> Result<(), UnknownProducer> {
        let state = self.producers.get(&key).ok_or(UnknownProducer(key))?;
        for id in state.consumer_ids().collect::<Vec<_>>() {
            self.end_consumer(now, key, id, EndCause::ProducerClosed, egress);
        }
        self.producers.remove(&key);
        self.events.push_back(Event::ProducerClosed(key, EndCause::Requested));
        Ok(())
    }

    /// Attaches a mirror to a producer, in one step: the mirror begins with the state as it is now, and every later change
    /// follows on the same channel, with the packets.
    ///
    /// # Errors
    ///
    /// If there is no such producer, it is there already, or the destination's channel is full. Nothing is left then.
    pub fn attach(
        &mut self,
        _now: Instant,
        parameters: AttachParameters,
        _egress: &mut impl Egress,
    ) -> Result<(), AttachError> {
        Err(AttachError::UnknownProducer(parameters.producer))
    }

    /// Closes a mirror. False if there is no such outlet.
    pub fn detach(&mut self, _now: Instant, _outlet: OutletId, _egress: &mut impl Egress) -> bool {
        false
    }

    /// Gives a transport's peer a producer's stream; the producer, or a mirror of it, must be on the transport's router.
    ///
    /// # Errors
    ///
    /// If either does not exist, or the transport already uses one of the consumer's sources.
    pub fn consume(
        &mut self,
        now: Instant,
        producer: ProducerId,
        parameters: ConsumerParameters,
    ) -> Result<(), ConsumeError> {
        let id = parameters.transport;
        let transport = self.transports.get_mut(&id).ok_or(ConsumeError::UnknownTransport(id))?;
        let key = ProducerKey { router: transport.router, producer };
        let state = self.producers.get_mut(&key).ok_or(ConsumeError::UnknownProducer(producer))?;
        if self.consumers.contains_key(&parameters.id) {
            return Err(ConsumeError::Exists(parameters.id));
        }
        // Two streams of one source would protect different packets with the same key and index (RFC 3711 §9.1).
        let (ssrc, rtx_ssrc) = (parameters.ssrc, parameters.rtx.map(|rtx| rtx.ssrc));
        let used =
            |source| transport.consumers.iter().any(|entry| entry.ssrc == source || entry.rtx_ssrc == Some(source));
        let doubled = rtx_ssrc.filter(|source| used(*source) || *source == ssrc).or(used(ssrc).then_some(ssrc));
        if let Some(ssrc) = doubled {
            return Err(ConsumeError::DuplicateSsrc { transport: id, ssrc });
        }
        let entry = ConsumerEntry { ssrc, rtx_ssrc, consumer: parameters.id, producer: key };
        transport.consumers.push(entry);
        self.consumers.insert(parameters.id, key);
        state.add_consumer(Consumer::new(parameters, transport.slot, now));
        if transport.connected {
            self.activate(entry);
        }
        Ok(())
    }

    /// Sends a consumer nothing more until it is resumed.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn pause_consumer(&mut self, _now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        self.consumers.get(&id).map(|_| ()).ok_or(UnknownConsumer(id))
    }

    /// Goes on with the next key frame, and asks for it.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn resume_consumer(&mut self, _now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        self.consumers.get(&id).map(|_| ()).ok_or(UnknownConsumer(id))
    }

    /// Ends one stream of a peer and tells it so.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn close_consumer(
        &mut self,
        now: Instant,
        id: ConsumerId,
        egress: &mut impl Egress,
    ) -> Result<(), UnknownConsumer> {
        let key = *self.consumers.get(&id).ok_or(UnknownConsumer(id))?;
        self.end_consumer(now, key, id, EndCause::Requested, egress);
        Ok(())
    }

    /// Sends a consumer these layers while they can be had and the bandwidth allows them.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn set_preferred_layers(
        &mut self,
        _now: Instant,
        id: ConsumerId,
        _layers: Layers,
    ) -> Result<(), UnknownConsumer> {
        self.consumers.get(&id).map(|_| ()).ok_or(UnknownConsumer(id))
    }

    /// Says how much a consumer matters beside the others of its transport.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn set_priority(&mut self, _now: Instant, id: ConsumerId, _priority: Priority) -> Result<(), UnknownConsumer> {
        self.consumers.get(&id).map(|_| ()).ok_or(UnknownConsumer(id))
    }

    /// Asks for a key frame of what a consumer forwards, or waits for.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn request_key_frame(&mut self, _now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        let key = self.consumers.get(&id).ok_or(UnknownConsumer(id))?;
        self.producers[key].upstream().request_key_frame(0);
        Ok(())
    }

    /// What the driver has to pass on, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Worker::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reports_due.first().map(|(due, _)| *due)
    }

    fn handle_rtcp_packet(
        &mut self,
        now: Instant,
        id: TransportId,
        packet: Packet<'_>,
        room: &mut usize,
        egress: &mut impl Egress,
    ) {
        match packet {
            Packet::Reports(blocks) | Packet::SenderReport(rtcp::SenderReport { reports: blocks, .. }) => {
                let ntp = self.wall.ntp_at(now);
                for block in blocks {
                    if let Some((consumer, _)) = self.consumer_by_ssrc(id, block.ssrc) {
                        consumer.handle_report(ntp, &block);
                    }
                }
            }
            Packet::Nack { media, lost } => {
                if let Some((entry, transport)) = self.entry_by_ssrc(id, media)
                    && transport.connected
                    && let Some(producer) = self.producers.get_mut(&entry.producer)
                    && let Some((consumer, history)) = producer.consumer_mut(entry.consumer)
                {
                    consumer.handle_nack(now, lost.sequences(), history, room, egress);
                }
            }
            Packet::Pli { media } => {
                if let Some((consumer, producer)) = self.consumer_by_ssrc(id, media) {
                    consumer.handle_pli();
                    self.producers[&producer].upstream().request_key_frame(0);
                }
            }
            Packet::Fir(entries) => {
                for (media, command) in entries {
                    if let Some((consumer, producer)) = self.consumer_by_ssrc(id, media)
                        && consumer.handle_fir(command)
                    {
                        self.producers[&producer].upstream().request_key_frame(0);
                    }
                }
            }
            Packet::ReceiverReferenceTime { receiver, ntp } => {
                // One answer serves the whole session: it goes out with the first stream's report.
                let first = self.transports.get(&id).and_then(|transport| transport.consumers.first()).copied();
                if let Some(entry) = first
                    && let Some((consumer, _)) = self.consumer_by_ssrc(id, entry.ssrc)
                {
                    consumer.handle_reference_time(now, receiver, ntp);
                }
            }
            Packet::Names(_) | Packet::Goodbyes(_) | Packet::Application(_) | Packet::Other { .. } => {}
        }
    }

    fn entry_by_ssrc(&self, id: TransportId, ssrc: Ssrc) -> Option<(ConsumerEntry, &Transport)> {
        let transport = self.transports.get(&id)?;
        let entry = transport.consumers.iter().find(|entry| entry.ssrc == ssrc)?;
        Some((*entry, transport))
    }

    fn consumer_by_ssrc(&mut self, id: TransportId, ssrc: Ssrc) -> Option<(&mut Consumer, ProducerKey)> {
        let (entry, _) = self.entry_by_ssrc(id, ssrc)?;
        let (consumer, _) = self.producers.get_mut(&entry.producer)?.consumer_mut(entry.consumer)?;
        Some((consumer, entry.producer))
    }

    fn activate(&mut self, entry: ConsumerEntry) {
        let producer = self.producers.get_mut(&entry.producer).expect("a consumer's producer outlives it");
        let (consumer, _) = producer.consumer_mut(entry.consumer).expect("the transport lists live consumers only");
        consumer.activate();
        producer.upstream().set_wanted(LayerSet::only(0));
        producer.upstream().request_key_frame(0);
    }

    fn end_consumer(
        &mut self,
        now: Instant,
        producer: ProducerKey,
        id: ConsumerId,
        cause: EndCause,
        egress: &mut impl Egress,
    ) {
        let Some((consumer, _)) = self.producers.get_mut(&producer).and_then(|state| state.consumer_mut(id)) else {
            return;
        };
        let (transport_id, ssrc) = (consumer.parameters().transport, consumer.parameters().ssrc);
        let transport = self.transports.get_mut(&transport_id).expect("a consumer's transport outlives it");
        transport.consumers.retain(|entry| entry.consumer != id);
        if transport.connected {
            self.compound.clear();
            let ntp = self.wall.ntp_at(now);
            consumer.write_report(now, ntp, None, &mut self.compound);
            self.compound.push_bye(ssrc);
            egress.send_rtcp(transport.slot, self.compound.as_bytes());
        }
        self.take_from_producer(producer, id);
        self.events.push_back(Event::ConsumerClosed {
            consumer: id,
            transport: transport_id,
            producer: producer.producer,
            cause,
        });
    }

    fn take_from_producer(&mut self, key: ProducerKey, consumer: ConsumerId) {
        let producer = self.producers.get_mut(&key).expect("a consumer's producer outlives it");
        producer.remove_consumer(consumer);
        self.consumers.remove(&consumer);
        if producer.active_consumers() == 0 {
            producer.upstream().set_wanted(LayerSet::EMPTY);
        }
    }

    fn send_reports(&mut self, now: Instant, id: TransportId, goodbye: bool, egress: &mut impl Egress) {
        let Some(transport) = self.transports.get(&id).filter(|transport| transport.connected) else { return };
        let ntp = self.wall.ntp_at(now);
        self.compound.clear();
        for entry in &transport.consumers {
            let producer = self.producers.get_mut(&entry.producer).expect("a consumer's producer outlives it");
            let clock = producer.clock_at(now);
            let (consumer, _) = producer.consumer_mut(entry.consumer).expect("the transport lists live consumers only");
            consumer.write_report(now, ntp, clock, &mut self.compound);
            if goodbye {
                self.compound.push_bye(entry.ssrc);
            }
        }
        if !self.compound.as_bytes().is_empty() {
            egress.send_rtcp(transport.slot, self.compound.as_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::sync::Mutex;

    use lenscast_media::{Codec, RtpTime};
    use proptest::prelude::*;
    use rtc_rtp::packet::Packet as OraclePacket;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::producer::tests::burst;
    use crate::{ExtensionId, HeaderExtensions, PayloadType, RtpPackets, RtxParameters};

    const HOME: RouterId = RouterId(1);
    const CAMERA: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(1) };
    const LOCAL: TransportId = TransportId(1_000_000);

    /// A source that remembers what it was asked for.
    #[derive(Default)]
    struct Camera(Mutex<Vec<Asked>>);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Asked {
        Wanted(LayerSet),
        KeyFrame(u8),
    }

    impl Upstream for Camera {
        fn set_wanted(&self, layers: LayerSet) {
            self.0.lock().unwrap().push(Asked::Wanted(layers));
        }

        fn request_key_frame(&self, layer: u8) {
            self.0.lock().unwrap().push(Asked::KeyFrame(layer));
        }
    }

    #[derive(Default)]
    struct Recorder {
        rtp: Vec<(TransportId, OraclePacket)>,
        rtcp: Vec<(TransportId, Vec<u8>)>,
        calls: usize,
        by_slot: BTreeMap<TransportSlot, TransportId>,
    }

    impl Egress for Recorder {
        fn send_rtp(&mut self, slot: TransportSlot, packets: &RtpPackets<'_>) {
            let transport = self.by_slot[&slot];
            self.calls += 1;
            for position in 0..packets.len() {
                let mut bytes = Vec::new();
                let layout = packets.write(position, &mut bytes);
                let packet = OraclePacket::unmarshal(&mut bytes.as_slice()).unwrap();
                assert_eq!(layout.index as u16, packet.header.sequence_number);
                assert_eq!(layout.ssrc, Ssrc(packet.header.ssrc));
                assert_eq!(layout.header_len, bytes.len() - packet.payload.len());
                self.rtp.push((transport, packet));
            }
        }

        fn send_rtcp(&mut self, slot: TransportSlot, compound: &[u8]) {
            self.rtcp.push((self.by_slot[&slot], compound.to_vec()));
        }

        fn send_inbound(&mut self, _: OutletId, _: Inbound) -> bool {
            false
        }
    }

    struct Scene {
        worker: Worker,
        out: Recorder,
        camera: Arc<Camera>,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let now = Instant::now();
            let mut worker = Worker::new(WallClock::new(now, Duration::from_secs(1_000)));
            let camera = Arc::new(Camera::default());
            worker.create_router(HOME).unwrap();
            worker.create_transport(HOME, LOCAL, TransportKind::Direct).unwrap();
            let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
            let source = Source::Local(Arc::clone(&camera) as Arc<dyn Upstream>);
            worker.produce(now, LOCAL, CAMERA.producer, parameters, source).unwrap();
            Self { worker, out: Recorder::default(), camera, now }
        }

        fn viewer(mut self, number: u64) -> Self {
            let slot = self.worker.create_transport(HOME, TransportId(number), TransportKind::WebRtc).unwrap();
            self.out.by_slot.insert(slot, TransportId(number));
            self.worker.consume(self.now, CAMERA.producer, parameters(number)).unwrap();
            self
        }

        fn connected_viewer(self, number: u64) -> Self {
            let mut scene = self.viewer(number);
            scene.worker.connect_transport(scene.now, TransportId(number)).unwrap();
            scene
        }

        fn burst(&mut self, first_packet: u64, len: usize, key_frame: bool) {
            let burst = burst(first_packet, len, key_frame, self.now);
            let message = Inbound::Burst { key: CAMERA, layer: 0, broken: false, burst };
            self.worker.handle_inbound(self.now, message, &mut self.out);
        }

        fn rtcp(&mut self, number: u64, packet: &impl Marshal) {
            let bytes = packet.marshal().unwrap();
            self.worker.handle_rtcp(self.now, TransportId(number), &bytes, &mut self.out).unwrap();
        }

        fn events(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.worker.poll_event()).collect()
        }

        fn asked(&mut self) -> Vec<Asked> {
            std::mem::take(&mut self.camera.0.lock().unwrap())
        }

        fn stats(&self, number: u64) -> ConsumerStats {
            self.worker.consumer_stats(TransportId(number)).next().unwrap().2.clone()
        }

        fn sent_to(&self, number: u64) -> Vec<&OraclePacket> {
            self.out.rtp.iter().filter(|(transport, _)| transport.0 == number).map(|(_, packet)| packet).collect()
        }
    }

    fn parameters(number: u64) -> ConsumerParameters {
        ConsumerParameters {
            id: ConsumerId(number),
            transport: TransportId(number),
            ssrc: Ssrc(1_000 + number as u32),
            payload_type: PayloadType::new(96).unwrap(),
            rtx: Some(RtxParameters { ssrc: Ssrc(2_000 + number as u32), payload_type: PayloadType::new(97).unwrap() }),
            extensions: HeaderExtensions { playout_delay: ExtensionId::new(5), ..HeaderExtensions::default() },
            cname: "lenscast".into(),
            initial_sequence: 32_000,
            initial_rtx_sequence: 7,
            timestamp_offset: 500,
            preferred_layers: Layers::HIGHEST,
            priority: Priority::default(),
            paused: false,
        }
    }

    fn nack(number: u64, lost: &[u16]) -> rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
        rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: 1_000 + number as u32,
            nacks: rtc_rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(lost),
        }
    }

    fn producer_packet(packet: &OraclePacket) -> u64 {
        u64::from_be_bytes(packet.payload[..8].try_into().unwrap())
    }

    #[test]
    fn a_viewer_gets_nothing_before_it_is_connected_and_starts_with_a_key_frame() {
        let mut scene = Scene::new().viewer(1);
        scene.burst(0, 2, true);
        assert!(scene.out.rtp.is_empty());
        scene.worker.connect_transport(scene.now, TransportId(1)).unwrap();
        assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::only(0)), Asked::KeyFrame(0)]);
        scene.burst(2, 2, false);
        assert!(scene.out.rtp.is_empty());
        assert_eq!(scene.asked(), [Asked::KeyFrame(0)], "asked for again until one comes");
        scene.burst(4, 2, true);
        scene.burst(6, 2, false);
        assert!(scene.asked().is_empty());
        let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
        assert_eq!(sequences, [32_000, 32_001, 32_002, 32_003]);
        assert_eq!(scene.stats(1).frames_dropped, 1);
    }

    #[test]
    fn a_burst_goes_to_each_viewer_in_one_call_with_its_own_identity() {
        let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
        scene.burst(0, 3, true);
        assert_eq!(scene.out.calls, 2);
        for number in [1, 2] {
            let packets = scene.sent_to(number);
            assert!(packets.iter().all(|packet| packet.header.ssrc == 1_000 + number as u32));
            assert!(packets.iter().all(|packet| packet.header.timestamp == 500));
            assert_eq!(packets.iter().map(|packet| packet.header.marker).collect::<Vec<_>>(), [false, false, true]);
            assert_eq!(packets.iter().map(|packet| producer_packet(packet)).collect::<Vec<_>>(), [0, 1, 2]);
        }
    }

    #[test]
    fn extensions_come_with_key_frames_and_then_once_a_second_on_all_packets_of_a_frame() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 2, true);
        for frame in 0..40_u64 {
            scene.now += Duration::from_millis(33);
            scene.burst(2 + frame * 2, 2, false);
        }
        let packets = scene.sent_to(1);
        let extended: Vec<_> =
            packets.chunks(2).map(|frame| frame.iter().filter(|p| p.header.extension).count()).collect();
        assert!(extended.iter().all(|&count| count == 0 || count == 2), "{extended:?}");
        assert_eq!(extended.iter().filter(|&&count| count == 2).count(), 2, "{extended:?}");
    }

    #[test]
    fn a_gap_in_the_producers_packets_waits_for_a_key_frame_and_leaves_no_gap_behind() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 2, true);
        let _ = scene.asked();
        scene.burst(9, 2, false);
        assert_eq!(scene.asked(), [Asked::KeyFrame(0)]);
        scene.burst(11, 1, true);
        let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
        assert_eq!(sequences, [32_000, 32_001, 32_002]);
        assert_eq!(scene.worker.producer_stats(CAMERA).unwrap().discontinuities, 1);
    }

    #[test]
    fn a_nack_is_answered_on_the_rtx_stream_once_a_round_trip() {
        let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
        scene.burst(0, 5, true);
        scene.out.rtp.clear();
        scene.rtcp(1, &nack(1, &[32_001, 32_004, 40_000]));
        let packets = scene.sent_to(1);
        assert_eq!(packets.len(), 2);
        for (packet, (sequence, original)) in packets.iter().zip([(7, 32_001_u16), (8, 32_004)]) {
            assert_eq!((packet.header.ssrc, packet.header.payload_type), (2_001, 97));
            assert_eq!((packet.header.sequence_number, packet.header.timestamp), (sequence, 500));
            assert_eq!(packet.payload[..2], original.to_be_bytes());
            assert_eq!(u64::from_be_bytes(packet.payload[2..10].try_into().unwrap()), u64::from(original - 32_000));
            assert_eq!(packet.header.marker, original == 32_004);
        }
        assert_eq!(scene.stats(1).retransmissions_refused, 1);
        scene.rtcp(1, &nack(1, &[32_001]));
        assert_eq!(scene.stats(1).retransmitted_packets_sent, 2, "asked again within a round trip");
        scene.now += Duration::from_millis(150);
        scene.rtcp(1, &nack(1, &[32_001]));
        assert_eq!(scene.stats(1).retransmitted_packets_sent, 3);
        assert_eq!(
            scene.stats(2),
            ConsumerStats { packets_sent: 5, frames_sent: 1, bytes_sent: 540, ..Default::default() }
        );
    }

    #[test]
    fn a_nack_storm_is_answered_within_the_budget() {
        let mut scene = Scene::new().connected_viewer(1);
        for number in 0..30 {
            scene.burst(number * 10, 10, number == 0);
        }
        let media: u64 = scene.stats(1).bytes_sent;
        for _ in 0..200 {
            scene.now += Duration::from_millis(1);
            let all: Vec<u16> = (32_000..32_300).collect();
            scene.rtcp(1, &nack(1, &all));
        }
        let stats = scene.stats(1);
        assert!(stats.retransmitted_bytes_sent <= media + 12_500 + 2_500 + 108, "{stats:?}");
        assert!(stats.retransmissions_refused > 50_000);
    }

    #[test]
    fn what_one_datagram_asks_for_beyond_reason_is_refused_unseen() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 5, true);
        // Sequence numbers that were never sent, in two packets of one datagram, then one that was.
        let never: Vec<u16> = (0..300).collect();
        let mut compound = nack(1, &never).marshal().unwrap().to_vec();
        compound.extend_from_slice(&nack(1, &never).marshal().unwrap());
        compound.extend_from_slice(&nack(1, &[32_001]).marshal().unwrap());
        scene.worker.handle_rtcp(scene.now, TransportId(1), &compound, &mut scene.out).unwrap();
        let stats = scene.stats(1);
        assert_eq!((stats.retransmitted_packets_sent, stats.retransmissions_refused, stats.nack_count), (0, 601, 3));
        scene.rtcp(1, &nack(1, &[32_001]));
        assert_eq!(scene.stats(1).retransmitted_packets_sent, 1, "the next datagram is looked at again");
    }

    #[test]
    fn reports_tell_loss_jitter_and_round_trip() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 5, true);
        let sent = scene.worker.wall.ntp_at(scene.now).compact();
        scene.now += Duration::from_millis(80);
        let report = rtc_rtcp::receiver_report::ReceiverReport {
            ssrc: 1,
            reports: vec![rtc_rtcp::reception_report::ReceptionReport {
                ssrc: 1_001,
                fraction_lost: 128,
                total_lost: 12,
                last_sequence_number: 32_004,
                jitter: 900,
                last_sender_report: sent,
                delay: 65_536 * 30 / 1_000,
            }],
            ..Default::default()
        };
        scene.rtcp(1, &report);
        let stats = scene.stats(1);
        assert_eq!((stats.fraction_lost, stats.packets_lost), (Some(0.5), 12));
        assert_eq!(stats.jitter, Some(Duration::from_millis(10)));
        let round_trip = stats.round_trip_time.unwrap().as_secs_f64() * 1e3;
        assert!((round_trip - 50.0).abs() < 0.1, "{round_trip} ms");
    }

    #[test]
    fn sender_reports_tie_the_viewers_timestamps_to_the_clock() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(100, 5, true);
        let captured = scene.now;
        scene.now = scene.worker.poll_timeout().unwrap() + Duration::from_millis(500);
        scene.worker.handle_timeout(scene.now, &mut scene.out);
        let (_, compound) = &scene.out.rtcp[0];
        let mut bytes = bytes::Bytes::copy_from_slice(compound);
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        let report = packets[0].as_any().downcast_ref::<rtc_rtcp::sender_report::SenderReport>().unwrap();
        let elapsed = scene.now - captured;
        assert_eq!(report.rtp_time, 300_000 + 500 + RtpTime::from_span(elapsed).0);
        assert_eq!(report.ntp_time, scene.worker.wall.ntp_at(scene.now).0);
        assert_eq!((report.packet_count, report.octet_count), (5, 540));
        assert!(scene.worker.poll_timeout().unwrap() >= scene.now);
    }

    #[test]
    fn a_late_timer_sends_one_report() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 5, true);
        let due = scene.worker.poll_timeout().unwrap();
        scene.now = due + Duration::from_millis(200);
        scene.worker.handle_timeout(scene.now, &mut scene.out);
        assert_eq!(scene.out.rtcp.len(), 1);
        assert_eq!(scene.worker.poll_timeout(), Some(due + REPORT_INTERVAL), "the rhythm is kept");
        scene.now += Duration::from_secs(10);
        scene.worker.handle_timeout(scene.now, &mut scene.out);
        assert_eq!(scene.out.rtcp.len(), 2);
        assert_eq!(scene.worker.poll_timeout(), Some(scene.now + REPORT_INTERVAL));
    }

    #[test]
    fn bursts_that_were_queued_when_the_last_viewer_left_are_no_loss_for_the_next() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 5, true);
        scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
        scene.burst(5, 5, false);
        let mut scene = scene.connected_viewer(2);
        let _ = scene.asked();
        scene.out.rtp.clear();
        scene.burst(90, 5, true);
        assert_eq!(scene.sent_to(2).len(), 5);
        let stats = scene.worker.producer_stats(CAMERA).unwrap();
        assert_eq!((stats.discontinuities, stats.frames), (0, 3));
    }

    #[test]
    fn pli_and_new_fir_commands_ask_for_a_key_frame() {
        let mut scene = Scene::new().connected_viewer(1);
        scene.burst(0, 1, true);
        let _ = scene.asked();
        let pli = rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
            sender_ssrc: 1,
            media_ssrc: 1_001,
        };
        scene.rtcp(1, &pli);
        let fir = |sequence_number| rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest {
            sender_ssrc: 1,
            media_ssrc: 1_001,
            fir: vec![rtc_rtcp::payload_feedbacks::full_intra_request::FirEntry { ssrc: 1_001, sequence_number }],
        };
        scene.rtcp(1, &fir(1));
        scene.rtcp(1, &fir(1));
        scene.rtcp(1, &fir(2));
        assert_eq!(scene.asked(), [Asked::KeyFrame(0); 3]);
        assert_eq!((scene.stats(1).pli_count, scene.stats(1).fir_count), (1, 2));
    }

    #[test]
    fn feedback_about_a_stream_of_somebody_else_is_ignored() {
        let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
        scene.burst(0, 5, true);
        let _ = scene.asked();
        scene.out.rtp.clear();
        scene.rtcp(2, &nack(1, &[32_001]));
        assert!(scene.out.rtp.is_empty() && scene.asked().is_empty());
    }

    #[test]
    fn a_viewer_that_leaves_is_told_goodbye_and_leaves_nothing() {
        let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
        scene.burst(0, 5, true);
        let _ = scene.asked();
        scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
        assert!(scene.asked().is_empty());
        let (_, compound) = scene.out.rtcp.last().unwrap();
        assert_eq!(compound[compound.len() - 8..], [0x81, 203, 0, 1, 0, 0, 3, 0xE9]);
        scene.out.rtp.clear();
        scene.burst(5, 1, true);
        assert!(scene.sent_to(1).is_empty() && scene.sent_to(2).len() == 1);
        scene.worker.close_transport(scene.now, TransportId(2), &mut scene.out).unwrap();
        assert!(scene.worker.poll_timeout().is_none() && scene.worker.transports.len() == 1);
        assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::EMPTY)]);
    }

    #[test]
    fn a_producer_that_ends_takes_its_consumers_along() {
        let mut scene = Scene::new().connected_viewer(1).viewer(2);
        scene.burst(0, 5, true);
        scene.worker.close_producer(scene.now, CAMERA, &mut scene.out).unwrap();
        let ended = |number| Event::ConsumerClosed {
            consumer: ConsumerId(number),
            transport: TransportId(number),
            producer: CAMERA.producer,
            cause: EndCause::ProducerClosed,
        };
        assert_eq!(scene.events(), [ended(1), ended(2), Event::ProducerClosed(CAMERA, EndCause::Requested)]);
        assert_eq!(scene.out.rtcp.len(), 1, "only the connected viewer can be told");
        assert_eq!(scene.worker.consumer_stats(TransportId(1)).count(), 0);
        scene.burst(5, 5, true);
        scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
    }

    #[test]
    fn a_consumer_needs_a_producer_a_transport_and_a_source_of_its_own() {
        let mut scene = Scene::new().viewer(1);
        let mut second = parameters(2);
        let add = |scene: &mut Scene, producer, parameters: &ConsumerParameters| {
            scene.worker.consume(scene.now, producer, parameters.clone())
        };
        assert_eq!(add(&mut scene, CAMERA.producer, &second), Err(ConsumeError::UnknownTransport(TransportId(2))));
        second.transport = TransportId(1);
        assert_eq!(add(&mut scene, ProducerId(9), &second), Err(ConsumeError::UnknownProducer(ProducerId(9))));
        second.ssrc = Ssrc(1_001);
        assert_eq!(
            add(&mut scene, CAMERA.producer, &second),
            Err(ConsumeError::DuplicateSsrc { transport: TransportId(1), ssrc: Ssrc(1_001) })
        );
        for (ssrc, rtx_ssrc, doubled) in [(7, 2_001, 2_001), (2_001, 7, 2_001), (7, 1_001, 1_001), (7, 7, 7)] {
            second.ssrc = Ssrc(ssrc);
            second.rtx = Some(RtxParameters { ssrc: Ssrc(rtx_ssrc), payload_type: PayloadType::new(97).unwrap() });
            let expected = ConsumeError::DuplicateSsrc { transport: TransportId(1), ssrc: Ssrc(doubled) };
            assert_eq!(add(&mut scene, CAMERA.producer, &second), Err(expected));
        }
        second.rtx = None;
        assert_eq!(add(&mut scene, CAMERA.producer, &second), Ok(()));
    }

    proptest! {
        /// I15: whatever is lost upstream and whoever comes and goes, each viewer's sequence has no gap, its timestamps
        /// never run backwards, and what it gets after a break starts with a key frame.
        #[test]
        fn sequences_have_no_gap_and_breaks_heal_with_a_key_frame(
            steps in prop::collection::vec((0_u8..8, 1_usize..9, any::<bool>()), 1..120)
        ) {
            let mut scene = Scene::new().connected_viewer(1);
            let mut packet = 0;
            let mut key_frames = BTreeSet::new();
            for (kind, len, key_frame) in steps {
                scene.now += Duration::from_millis(33);
                if kind == 0 {
                    packet += len as u64; // lost on the way from the encode task
                    continue;
                }
                if key_frame {
                    key_frames.insert(packet);
                }
                scene.burst(packet, len, key_frame);
                packet += len as u64;
            }
            let packets = scene.sent_to(1);
            let mut previous: Option<&OraclePacket> = None;
            for packet in packets {
                let number = producer_packet(packet);
                match previous {
                    None => prop_assert!(key_frames.contains(&number)),
                    Some(previous) => {
                        prop_assert_eq!(packet.header.sequence_number, previous.header.sequence_number.wrapping_add(1));
                        prop_assert!(packet.header.timestamp.wrapping_sub(previous.header.timestamp) < 1 << 31);
                        let contiguous = number == producer_packet(previous) + 1;
                        prop_assert!(contiguous || key_frames.contains(&number));
                    }
                }
                previous = Some(packet);
            }
        }
    }
}
