//! Who ends with whom, after mediasoup's `doc/Closures.md`:
//!
//! | call | what ends, in order |
//! |---|---|
//! | [`Worker::close_consumer`] | the consumer, `Requested` |
//! | [`Worker::close_producer`] | the producer, `Requested`; its consumers, `ProducerClosed`; its outlets, `ProducerClosed`: their mirrors end with `OriginClosed` |
//! | [`Worker::close_transport`] | its producers, `TransportClosed`; its consumers, `TransportClosed`; the consumers elsewhere and the outlets of those producers, `ProducerClosed`; the transport, `Requested` |
//! | [`Worker::close_router`] | the same for each transport, which ends with `RouterClosed`; its mirrors, `RouterClosed`; the router, `Requested` |
//! | [`Worker::close`] | each router, `WorkerClosed`, and then what is in it as above |
//! | a mirror's origin ends | the mirror, `OriginClosed`; its consumers and outlets, `ProducerClosed` |
//!
//! **Invariants.** Each object ends once, with one cause: whatever ends is taken out of the tables first. A consumer
//! whose producer is on its own transport ends with `TransportClosed`.

use std::time::Instant;

use super::{Timer, Worker};
use crate::producer::{Origin, Producer};
use crate::{
    ConsumerId, Egress, EndCause, Event, ProducerKey, RouterId, TransportId, TransportSlot, UnknownConsumer,
    UnknownProducer, UnknownRouter, UnknownTransport,
};

impl Worker {
    /// Ends everything.
    pub fn close(&mut self, now: Instant, egress: &mut impl Egress) {
        while let Some(router) = self.routers.pop_first() {
            self.events.push_back(Event::RouterClosed(router, EndCause::WorkerClosed));
            self.close_inside(now, router, egress);
        }
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
        self.close_inside(now, router, egress);
        self.events.push_back(Event::RouterClosed(router, EndCause::Requested));
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
        let slot = self.transports.slot(id).ok_or(UnknownTransport(id))?;
        self.end_transport(now, slot, EndCause::Requested, egress);
        Ok(())
    }

    /// Ends a stream: its consumers end with it, and their viewers are told so. A mirror ends here only; its origin stops
    /// sending.
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
        let index = self.producers.index(key).ok_or(UnknownProducer(key))?;
        self.end_producer(now, index, EndCause::Requested, egress);
        Ok(())
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
        let place = self.consumers.get(&id).ok_or(UnknownConsumer(id))?;
        let slot = place.transport;
        self.send_goodbye(now, id, egress);
        self.end_consumer(now, id, EndCause::Requested);
        self.split_bandwidth(now, slot);
        Ok(())
    }

    fn close_inside(&mut self, now: Instant, router: RouterId, egress: &mut impl Egress) {
        let inside = self.transports.iter().filter(|(_, transport)| transport.router == router);
        for slot in inside.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.end_transport(now, slot, EndCause::RouterClosed, egress);
        }
        let mirrors = self.producers.iter().filter(|(_, producer)| producer.key.router == router);
        for index in mirrors.map(|(index, _)| index).collect::<Vec<_>>() {
            self.end_producer(now, index, EndCause::RouterClosed, egress);
        }
    }

    fn end_transport(&mut self, now: Instant, slot: TransportSlot, cause: EndCause, egress: &mut impl Egress) {
        // The goodbyes first: they need all that is there.
        self.send_reports(now, slot, true, egress);
        let produced = self.producers.iter().filter(|(_, producer)| producer.origin.transport() == Some(slot));
        let mut ended = Vec::new();
        for index in produced.map(|(index, _)| index).collect::<Vec<_>>() {
            let producer = self.producers.at_mut(index);
            producer.state.closed = true;
            self.events.push_back(Event::ProducerClosed(producer.key, EndCause::TransportClosed));
            ended.push(index);
        }
        let transport = self.transports.get(slot).expect("the caller found it");
        let id = transport.id;
        for consumer in transport.consumers.iter().map(|entry| entry.consumer).collect::<Vec<_>>() {
            self.end_consumer(now, consumer, EndCause::TransportClosed);
        }
        for index in ended {
            self.release_producer(now, index, egress);
        }
        self.transports.remove(id);
        self.timers.set(Timer::Report(slot), None);
        self.timers.set(Timer::Split(slot), None);
        self.timers.set(Timer::Feedback(slot), None);
        self.events.push_back(Event::TransportClosed(id, cause));
    }

    pub(super) fn end_producer(&mut self, now: Instant, index: usize, cause: EndCause, egress: &mut impl Egress) {
        let producer = self.producers.at_mut(index);
        producer.state.closed = true;
        self.events.push_back(Event::ProducerClosed(producer.key, cause));
        self.release_producer(now, index, egress);
    }

    /// Ends what depends on a producer that has ended, and forgets it.
    fn release_producer(&mut self, now: Instant, index: usize, egress: &mut impl Egress) {
        let mut consumers: Vec<_> = self.producers.at(index).consumers.iter().map(|consumer| consumer.id()).collect();
        consumers.sort_unstable();
        for id in consumers {
            self.send_goodbye(now, id, egress);
            let slot = self.consumers[&id].transport;
            self.end_consumer(now, id, EndCause::ProducerClosed);
            self.split_bandwidth(now, slot);
        }
        let Producer { origin, outlets, state, .. } = self.producers.remove(index);
        self.timers.set(Timer::Receive(index), None);
        self.touched.retain(|touched| *touched != index);
        for mut outlet in outlets {
            self.outlets.remove(&outlet.id);
            self.events.push_back(Event::OutletClosed(outlet.id, EndCause::ProducerClosed));
            outlet.send_state(crate::StreamState { version: state.version + 1, closed: true, ..state }, egress);
            self.keep_until_sent(now, outlet);
        }
        match origin {
            Origin::Local { upstream, .. } | Origin::Mirror { upstream, .. } => upstream.close(),
            Origin::Rtp { transport, .. } => {
                if let Some(transport) = self.transports.get_mut(transport) {
                    transport.publisher.producers.retain(|produced| *produced != index);
                }
            }
        }
    }

    /// Takes a consumer out of all tables.
    fn end_consumer(&mut self, now: Instant, id: ConsumerId, cause: EndCause) {
        let Some(place) = self.consumers.remove(&id) else { return };
        let producer = self.producers.at_mut(place.producer);
        let name = producer.key.producer;
        let removed = producer.remove_consumer(now, place.position, &mut self.events);
        if let Some(moved) = producer.consumers.get(place.position) {
            let moved = self.consumers.get_mut(&moved.id()).expect("a producer's consumers are in the table");
            moved.position = place.position;
        }
        let transport = self.transports.get_mut(place.transport).expect("a consumer's transport outlives it");
        transport.consumers.retain(|entry| entry.consumer != id);
        self.events.push_back(Event::ConsumerClosed {
            consumer: id,
            transport: removed.parameters().transport,
            producer: name,
            cause,
        });
    }
}
