//! The engine itself. What can be done to it stands in files of their own: [`creation`], [`closing`], [`control`],
//! [`feedback`], [`padding`], [`pipes`], [`ingest`], [`reports`], [`dump`].

mod closing;
mod control;
mod creation;
mod dump;
mod feedback;
mod ingest;
mod padding;
mod pipes;
mod reports;
#[cfg(test)]
mod tests;

pub use creation::Source;
pub use dump::{ConsumerDump, EncodingDump, OutletDump, ProducerDump, RouterDump, TransportDump, WorkerDump};
pub use ingest::LOCAL_SOURCE;
pub use pipes::AttachParameters;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use lenscast_media::{Bitrate, Ssrc, WallClock};

use crate::outlet::Outlet;
use crate::producer::{Forwarding, Producer};
use crate::receive::ReceivedBurst;
use crate::rtcp::Compound;
use crate::transport_table::TransportTable;
use crate::{
    ConsumerId, ConsumerScore, ConsumerStats, Egress, Event, Inbound, Layers, OutletId, ProducerId, ProducerKey,
    ProducerStats, RouterId, Timers, TransportId, TransportKind, TransportSlot,
};

/// Everything one thread forwards: routers with their transports, producers and consumers.
///
/// Call order: whatever came in goes to a `handle_*` method, and after all packets that came in together,
/// [`Worker::end_of_batch`]; after each, [`Worker::poll_event`] until `None`; then sleep until [`Worker::poll_timeout`] and
/// call [`Worker::handle_timeout`].
///
/// **Invariants.** A consumer's producer and transport outlive it, and both are on one router. A producer's transport
/// outlives it. Whatever ends is out of every table before its event can be polled.
#[derive(Debug)]
pub struct Worker {
    wall: WallClock,
    routers: BTreeSet<RouterId>,
    transports: TransportTable<Transport>,
    producers: ProducerTable,
    consumers: BTreeMap<ConsumerId, ConsumerPlace>,
    /// The producer of each outlet, by its index.
    outlets: BTreeMap<OutletId, usize>,
    /// Outlets whose producer is gone, or that were detached, before their last state found room.
    closing_outlets: Vec<Outlet>,
    timers: Timers<Timer>,
    /// Received producers that have something to forward.
    touched: Vec<usize>,
    /// Empty but while it is forwarded: what came in one batch.
    batch: Vec<ReceivedBurst>,
    events: VecDeque<Event>,
    compound: Compound,
}

#[derive(Debug)]
struct Transport {
    id: TransportId,
    router: RouterId,
    kind: TransportKind,
    connected: bool,
    consumers: Vec<ConsumerEntry>,
    /// What it can carry; `None` for no limit.
    available: Option<Bitrate>,
    publisher: ingest::Publisher,
}

#[derive(Debug, Clone, Copy)]
struct ConsumerEntry {
    ssrc: Ssrc,
    rtx_ssrc: Option<Ssrc>,
    consumer: ConsumerId,
    /// After the available bitrate brought it down, it does not go up before this.
    holds_until: Option<Instant>,
}

/// Where a consumer is.
#[derive(Debug, Clone, Copy)]
struct ConsumerPlace {
    transport: TransportSlot,
    /// Index of its producer.
    producer: usize,
    /// Position among the producer's consumers.
    position: usize,
}

/// A consumer of video, and what goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoState {
    /// Which.
    pub consumer: ConsumerId,
    /// What it shows.
    pub producer: ProducerId,
    /// The best layers that its peer wants.
    pub preferred: Layers,
    /// What goes out; `None` while nothing does.
    pub layers: Option<Layers>,
    /// Its peer holds it up.
    pub is_paused: bool,
}

/// What has to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Report(TransportSlot),
    /// A hold ends: the bandwidth is split anew.
    Split(TransportSlot),
    /// States wait for room in a channel.
    Outlets,
    /// A publisher is to hear of all its packets.
    Feedback(TransportSlot),
    /// The producer at this index has something to do as a receiver.
    Receive(usize),
}

/// Producers by index and by name.
#[derive(Debug, Default)]
struct ProducerTable {
    slots: Vec<Option<Producer>>,
    free: Vec<usize>,
    by_key: BTreeMap<ProducerKey, usize>,
}

impl Worker {
    /// A worker with nothing in it.
    #[must_use]
    pub fn new(wall: WallClock) -> Self {
        Self {
            wall,
            routers: BTreeSet::new(),
            transports: TransportTable::default(),
            producers: ProducerTable::default(),
            consumers: BTreeMap::new(),
            outlets: BTreeMap::new(),
            closing_outlets: Vec::new(),
            timers: Timers::default(),
            touched: Vec::new(),
            batch: Vec::new(),
            events: VecDeque::new(),
            compound: Compound::new(),
        }
    }

    /// What enters a router, mirrors too.
    #[must_use]
    pub fn producers_of(&self, router: RouterId) -> Vec<ProducerKey> {
        let here = self.producers.slots.iter().flatten().filter(|producer| producer.key.router == router);
        here.map(|producer| producer.key).collect()
    }

    /// What is known of a producer; `None` if there is none of that key.
    #[must_use]
    pub fn producer_stats(&self, producer: ProducerKey) -> Option<ProducerStats> {
        self.producers.get(producer).map(Producer::stats)
    }

    /// What is known of a transport's consumers.
    pub fn consumer_stats(
        &self,
        transport: TransportId,
    ) -> impl Iterator<Item = (ConsumerId, ProducerId, &ConsumerStats)> {
        let transport = self.transports.slot(transport).and_then(|slot| self.transports.get(slot));
        transport.into_iter().flat_map(|transport| &transport.consumers).filter_map(|entry| {
            let place = self.consumers.get(&entry.consumer)?;
            let producer = self.producers.at(place.producer);
            Some((entry.consumer, producer.key.producer, &producer.consumers[place.position].stats))
        })
    }

    /// A viewer's timestamp of this instant on one of its streams; `None` before the stream has begun.
    #[must_use]
    pub fn viewer_clock(&self, consumer: ConsumerId, now: Instant) -> Option<u32> {
        let place = self.consumers.get(&consumer)?;
        Some(self.producers.at(place.producer).consumers[place.position].clock_at(now)?.0)
    }

    /// The layers that a consumer is sent now; `None` while it is sent nothing.
    #[must_use]
    pub fn consumer_layers(&self, consumer: ConsumerId) -> Option<crate::Layers> {
        let place = self.consumers.get(&consumer)?;
        self.producers.at(place.producer).consumers[place.position].layers()
    }

    /// A transport's videos, and what goes out of each.
    pub fn videos_of(&self, transport: TransportId) -> impl Iterator<Item = VideoState> {
        let transport = self.transports.slot(transport).and_then(|slot| self.transports.get(slot));
        transport.into_iter().flat_map(|transport| &transport.consumers).filter_map(|entry| {
            let place = self.consumers.get(&entry.consumer)?;
            let producer = self.producers.at(place.producer);
            let consumer = &producer.consumers[place.position];
            producer.format().key_frames.then(|| VideoState {
                consumer: entry.consumer,
                producer: producer.key.producer,
                preferred: consumer.parameters().preferred_layers,
                layers: consumer.layers(),
                is_paused: consumer.paused,
            })
        })
    }

    /// How well a consumer's stream gets through.
    #[must_use]
    pub fn consumer_score(&self, consumer: ConsumerId) -> Option<ConsumerScore> {
        let place = self.consumers.get(&consumer)?;
        let producer = self.producers.at(place.producer);
        Some(producer.consumers[place.position].score(producer.scores()))
    }

    /// What came over the worker's ordered channel. What is for a producer that is gone, which can be on its way still, is
    /// dropped.
    pub fn handle_inbound(&mut self, now: Instant, message: Inbound, egress: &mut impl Egress) {
        match message {
            Inbound::Burst { key, outlet, layer, broken, burst } => {
                let Some(index) = self.producers.index(key) else { return };
                if self.producers.at(index).origin.outlet() != outlet {
                    self.producers.at_mut(index).refuse(&burst);
                    return;
                }
                let (producer, mut with) = self.forwarding(now, index, egress);
                producer.forward(layer, broken, burst, &mut with);
                self.watch(now, index);
            }
            Inbound::Open(open) => self.open_mirror(*open),
            Inbound::State { key, outlet, state } => self.apply_state(now, key, outlet, state, egress),
            Inbound::Sending { key, sending } => self.set_sending(now, key, sending, egress),
        }
    }

    /// Time has come to [`Worker::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, egress: &mut impl Egress) {
        while let Some((due, timer)) = self.timers.take_due(now) {
            match timer {
                Timer::Report(slot) => self.report_due(now, due, slot, egress),
                Timer::Split(slot) => self.split_bandwidth(now, slot),
                Timer::Outlets => self.flush_outlets(now, egress),
                Timer::Feedback(slot) => self.feedback_due(now, slot, egress),
                Timer::Receive(index) => self.receive_due(now, index, egress),
            }
        }
    }

    /// What the driver has to pass on, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Worker::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// A producer, and what it needs to forward.
    fn forwarding<'a, E: Egress>(
        &'a mut self,
        now: Instant,
        producer: usize,
        egress: &'a mut E,
    ) -> (&'a mut Producer, Forwarding<'a, E>) {
        let with = Forwarding { now, wall: &self.wall, egress, events: &mut self.events };
        (self.producers.at_mut(producer), with)
    }

    /// A consumer's producer and its place there.
    fn consumer_mut(&mut self, id: ConsumerId) -> Option<(&mut Producer, ConsumerPlace, &mut VecDeque<Event>)> {
        let place = *self.consumers.get(&id)?;
        Some((self.producers.at_mut(place.producer), place, &mut self.events))
    }
}

impl ProducerTable {
    fn index(&self, key: ProducerKey) -> Option<usize> {
        self.by_key.get(&key).copied()
    }

    fn get(&self, key: ProducerKey) -> Option<&Producer> {
        self.index(key).map(|index| self.at(index))
    }

    fn at(&self, index: usize) -> &Producer {
        self.slots[index].as_ref().expect("an index leads to a live producer")
    }

    fn at_mut(&mut self, index: usize) -> &mut Producer {
        self.slots[index].as_mut().expect("an index leads to a live producer")
    }

    fn insert(&mut self, producer: Producer) -> usize {
        let key = producer.key;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(producer);
        self.by_key.insert(key, index);
        index
    }

    fn remove(&mut self, index: usize) -> Producer {
        let producer = self.slots[index].take().expect("an index leads to a live producer");
        self.by_key.remove(&producer.key);
        self.free.push(index);
        producer
    }

    /// In the order of their keys.
    fn iter(&self) -> impl Iterator<Item = (usize, &Producer)> {
        self.by_key.values().map(|&index| (index, self.at(index)))
    }
}
