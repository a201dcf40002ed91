use std::sync::Arc;
use std::time::Instant;

use lenscast_media::{LayerSet, Ssrc};

use super::{ConsumerEntry, ConsumerPlace, Timer, Transport, Worker};
use crate::consumer::Consumer;
use crate::producer::{Origin, Producer, Reception};
use crate::receive::{ExtensionReader, Receiver};
use crate::worker::ingest::{LOCAL_SOURCE, Publisher};
use crate::worker::reports::first_report;
use crate::{
    ConsumeError, ConsumerParameters, CreateRouterError, CreateTransportError, ProduceError, ProducerId, ProducerKey,
    ProducerParameters, RouterId, StreamState, TransportId, TransportKind, TransportSlot, UnknownTransport, Upstream,
};

/// Where a producer's media comes from.
#[derive(Debug)]
pub enum Source {
    /// From its transport's peer, as RTP.
    Rtp,
    /// From this process, as [`Inbound::Burst`](crate::Inbound); only over a [`TransportKind::Direct`] transport.
    Local(Arc<dyn Upstream>),
}

impl Worker {
    /// Makes room for transports.
    ///
    /// # Errors
    ///
    /// If there is a router of this name.
    pub fn create_router(&mut self, router: RouterId) -> Result<(), CreateRouterError> {
        if self.routers.insert(router) { Ok(()) } else { Err(CreateRouterError::Exists(router)) }
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
        if self.transports.slot(id).is_some() {
            return Err(CreateTransportError::Exists(id));
        }
        let connected = kind == TransportKind::Direct;
        let transport = Transport {
            id,
            router,
            kind,
            connected,
            consumers: Vec::new(),
            available: None,
            publisher: Publisher::new(),
        };
        Ok(self.transports.insert(id, transport))
    }

    /// The connection is up: the transport's consumers start with the next key frame.
    ///
    /// # Errors
    ///
    /// If there is no such transport.
    pub fn connect_transport(&mut self, now: Instant, id: TransportId) -> Result<(), UnknownTransport> {
        let slot = self.transports.slot(id).ok_or(UnknownTransport(id))?;
        let transport = self.transports.get_mut(slot).ok_or(UnknownTransport(id))?;
        if transport.connected {
            return Ok(());
        }
        transport.connected = true;
        self.timers.set(Timer::Report(slot), Some(first_report(now, id)));
        let consumers: Vec<_> = transport.consumers.iter().map(|entry| entry.consumer).collect();
        for &id in &consumers {
            let (producer, place, _) = self.consumer_mut(id).expect("a transport lists live consumers only");
            producer.consumers[place.position].connected = true;
        }
        // First what there is for each, so that nobody goes for more.
        self.split_bandwidth(now, slot);
        for id in consumers {
            let (producer, place, events) = self.consumer_mut(id).expect("a transport lists live consumers only");
            producer.choose(now, place.position, events);
            self.watch(now, place.producer);
        }
        Ok(())
    }

    /// Makes a stream known that a transport's peer sends, or a source in this process. One of RTP sends no layer until
    /// packets of it come; a local source all, until it says otherwise by [`Inbound::Sending`](crate::Inbound).
    ///
    /// # Errors
    ///
    /// If the transport does not exist or is of the wrong kind, or the parameters contradict each other or what is there.
    pub fn produce(
        &mut self,
        now: Instant,
        id: TransportId,
        producer: ProducerId,
        parameters: ProducerParameters,
        source: Source,
    ) -> Result<(), ProduceError> {
        let slot = self.transports.slot(id).ok_or(ProduceError::UnknownTransport(id))?;
        let transport = self.transports.get(slot).ok_or(ProduceError::UnknownTransport(id))?;
        let key = ProducerKey { router: transport.router, producer };
        if self.producers.index(key).is_some() {
            return Err(ProduceError::Exists(key));
        }
        let layers = parameters.encodings.len();
        if !(1..=ProducerParameters::MAX_ENCODINGS).contains(&layers) {
            return Err(ProduceError::Encodings(layers));
        }
        let local = matches!(source, Source::Local(_));
        if local != (transport.kind == TransportKind::Direct) {
            return Err(ProduceError::WrongTransport(id));
        }
        if local != parameters.is_local() {
            return Err(ProduceError::PayloadType);
        }
        self.check_sources(slot, &parameters)?;
        let sending = if local { LayerSet::all(layers as u8) } else { LayerSet::EMPTY };
        let state = StreamState { version: 0, paused: false, closed: false, sending };
        let origin = match source {
            Source::Local(upstream) => Origin::Local { transport: slot, upstream },
            Source::Rtp => {
                let receiver = Receiver::new(&parameters, LOCAL_SOURCE, now)?;
                let extensions = ExtensionReader::new(&parameters.extensions);
                Origin::Rtp { transport: slot, reception: Box::new(Reception { receiver, extensions, touched: false }) }
            }
        };
        let extensions = parameters.extensions;
        let returns_reference_times = parameters.returns_reference_times;
        let index = self.producers.insert(Producer::new(key, parameters, origin, state));
        if !local {
            let publisher = &mut self.transports.get_mut(slot).expect("it was there a moment ago").publisher;
            publisher.producers.push(index);
            if extensions.transport_sequence.is_some() {
                publisher.count_all_packets(ExtensionReader::new(&extensions), now);
            }
            if returns_reference_times {
                publisher.measure_round_trip(now);
            }
            self.watch(now, index);
        }
        Ok(())
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
        let transport_id = parameters.transport;
        let slot = self.transports.slot(transport_id).ok_or(ConsumeError::UnknownTransport(transport_id))?;
        let transport = self.transports.get_mut(slot).ok_or(ConsumeError::UnknownTransport(transport_id))?;
        let key = ProducerKey { router: transport.router, producer };
        let index = self.producers.index(key).ok_or(ConsumeError::UnknownProducer(producer))?;
        let id = parameters.id;
        if self.consumers.contains_key(&id) {
            return Err(ConsumeError::Exists(id));
        }
        // Two streams of one source would protect different packets with the same key and index (RFC 3711 §9.1).
        let (ssrc, rtx_ssrc) = (parameters.ssrc, parameters.rtx.map(|rtx| rtx.ssrc));
        let used =
            |source| transport.consumers.iter().any(|entry| entry.ssrc == source || entry.rtx_ssrc == Some(source));
        let doubled = rtx_ssrc.filter(|source| used(*source) || *source == ssrc).or(used(ssrc).then_some(ssrc));
        if let Some(ssrc) = doubled {
            return Err(ConsumeError::DuplicateSsrc { transport: transport_id, ssrc });
        }
        transport.consumers.push(ConsumerEntry { ssrc, rtx_ssrc, consumer: id, holds_until: None });
        let producer = self.producers.at_mut(index);
        let mut consumer = Consumer::new(parameters, slot, producer.format(), producer.scores(), now);
        let connected = transport.connected;
        consumer.connected = connected;
        let position = producer.add_consumer(consumer);
        self.consumers.insert(id, ConsumerPlace { transport: slot, producer: index, position });
        if connected && !self.timers.is_set(Timer::Report(slot)) {
            // A direct transport, which nobody connects.
            self.timers.set(Timer::Report(slot), Some(first_report(now, transport_id)));
        }
        // First what there is for it, so that it does not go for more.
        self.split_bandwidth(now, slot);
        self.producers.at_mut(index).choose(now, position, &mut self.events);
        self.watch(now, index);
        Ok(())
    }

    /// No two of a transport's streams, and no two of a producer's encodings, can have one source or one name.
    fn check_sources(&self, slot: TransportSlot, parameters: &ProducerParameters) -> Result<(), ProduceError> {
        let sources = |parameters: &ProducerParameters| {
            let encodings = parameters.encodings.iter();
            encodings.flat_map(|encoding| encoding.ssrc.into_iter().chain(encoding.rtx_ssrc)).collect::<Vec<Ssrc>>()
        };
        let others = self.producers.iter().filter(|(_, producer)| producer.origin.transport() == Some(slot));
        let mut taken: Vec<Ssrc> = others.flat_map(|(_, producer)| sources(&producer.parameters)).collect();
        for ssrc in sources(parameters) {
            if taken.contains(&ssrc) {
                return Err(ProduceError::DuplicateSsrc(ssrc));
            }
            taken.push(ssrc);
        }
        for (position, encoding) in parameters.encodings.iter().enumerate() {
            if let Some(rid) = encoding.rid
                && parameters.encodings[..position].iter().any(|other| other.rid == Some(rid))
            {
                return Err(ProduceError::DuplicateRid(rid));
            }
        }
        Ok(())
    }
}
