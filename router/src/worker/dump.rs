use std::time::Instant;

use lenscast_media::{Bitrate, LayerSet, Ssrc};

use super::Worker;
use crate::{
    ConsumerId, ConsumerScore, ConsumerStats, Layers, MediaKind, OutletId, OutletStats, Priority, ProducerId,
    ProducerKey, ProducerStats, RouterId, StreamState, TransportId, TransportKind,
};

/// Everything that a worker has, as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerDump {
    /// In the order of their identifiers, as everything here.
    pub routers: Vec<RouterDump>,
    /// Outlets whose last word has found no room yet.
    pub closing_outlets: Vec<OutletId>,
    /// Events that nobody has polled.
    pub events: usize,
}

/// A router.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterDump {
    /// Which.
    pub id: RouterId,
    /// What is connected to it.
    pub transports: Vec<TransportDump>,
    /// What enters it, mirrors too.
    pub producers: Vec<ProducerDump>,
}

/// A transport.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportDump {
    /// Which.
    pub id: TransportId,
    /// What is on its other side.
    pub kind: TransportKind,
    /// Packets can go.
    pub connected: bool,
    /// What it can carry; `None` for no limit.
    pub available: Option<Bitrate>,
    /// What goes out over it, in the order in which it was asked for.
    pub consumers: Vec<ConsumerId>,
}

/// A producer, or a mirror.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerDump {
    /// Which.
    pub key: ProducerKey,
    /// Sound or pictures.
    pub kind: MediaKind,
    /// The transport that it comes over; `None` for a mirror.
    pub transport: Option<TransportId>,
    /// What it is doing.
    pub state: StreamState,
    /// The layers that somebody has a use for.
    pub wanted: LayerSet,
    /// Its spatial layers, the smallest first.
    pub encodings: Vec<EncodingDump>,
    /// Who gets it.
    pub consumers: Vec<ConsumerDump>,
    /// The ways to its mirrors.
    pub outlets: Vec<OutletDump>,
    /// Its counters.
    pub stats: ProducerStats,
}

/// A spatial layer.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodingDump {
    /// What it took in the last second, all temporal layers together.
    pub bitrate: Bitrate,
    /// Packets kept for retransmission.
    pub kept_packets: usize,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerDump {
    /// Which.
    pub id: ConsumerId,
    /// What it gets.
    pub producer: ProducerId,
    /// Where it sends to.
    pub transport: TransportId,
    /// Its source.
    pub ssrc: Ssrc,
    /// By itself, whatever its producer is.
    pub paused: bool,
    /// How much it matters.
    pub priority: Priority,
    /// What it is to have.
    pub preferred: Layers,
    /// What it forwards.
    pub current: Option<Layers>,
    /// The spatial layer that it forwards or waits for.
    pub target: Option<u8>,
    /// How well it gets through.
    pub score: ConsumerScore,
    /// Its counters.
    pub stats: ConsumerStats,
}

/// The way to a mirror.
#[derive(Debug, Clone, PartialEq)]
pub struct OutletDump {
    /// Which.
    pub id: OutletId,
    /// Where the mirror is.
    pub destination: RouterId,
    /// What the mirror has a use for.
    pub wanted: LayerSet,
    /// Its counters.
    pub stats: OutletStats,
}

impl Worker {
    /// What there is.
    #[must_use]
    pub fn dump(&self, now: Instant) -> WorkerDump {
        let routers = self.routers.iter().map(|&id| RouterDump {
            id,
            transports: self.dump_transports(id),
            producers: self
                .producers
                .iter()
                .filter(|(_, producer)| producer.key.router == id)
                .map(|(index, _)| self.dump_producer(index, now))
                .collect(),
        });
        WorkerDump {
            routers: routers.collect(),
            closing_outlets: self.closing_outlets.iter().map(|outlet| outlet.id).collect(),
            events: self.events.len(),
        }
    }

    fn dump_transports(&self, router: RouterId) -> Vec<TransportDump> {
        let inside = self.transports.iter().filter(|(_, transport)| transport.router == router);
        let dumps = inside.map(|(_, transport)| TransportDump {
            id: transport.id,
            kind: transport.kind,
            connected: transport.connected,
            available: transport.available,
            consumers: transport.consumers.iter().map(|entry| entry.consumer).collect(),
        });
        dumps.collect()
    }

    fn dump_producer(&self, index: usize, now: Instant) -> ProducerDump {
        let producer = self.producers.at(index);
        let transport = producer.origin.transport().and_then(|slot| self.transports.get(slot));
        let encodings = producer.encodings.iter().map(|encoding| EncodingDump {
            bitrate: (0..4)
                .map(|layer| encoding.bitrate(now, layer))
                .fold(Bitrate::ZERO, |sum, bitrate| Bitrate::from_bps(sum.as_bps() + bitrate.as_bps())),
            kept_packets: encoding.history.len(),
        });
        let mut consumers: Vec<_> = producer
            .consumers
            .iter()
            .map(|consumer| ConsumerDump {
                id: consumer.id(),
                producer: producer.key.producer,
                transport: consumer.parameters().transport,
                ssrc: consumer.parameters().ssrc,
                paused: consumer.paused,
                priority: consumer.parameters().priority,
                preferred: consumer.parameters().preferred_layers,
                current: consumer.layers(),
                target: consumer.target(),
                score: consumer.score(producer.scores()),
                stats: consumer.stats.clone(),
            })
            .collect();
        consumers.sort_by_key(|consumer| consumer.id);
        ProducerDump {
            key: producer.key,
            kind: producer.parameters.kind(),
            transport: transport.map(|transport| transport.id),
            state: producer.state,
            wanted: producer.wanted(),
            encodings: encodings.collect(),
            consumers,
            outlets: producer
                .outlets
                .iter()
                .map(|outlet| OutletDump {
                    id: outlet.id,
                    destination: outlet.destination(),
                    wanted: outlet.link.wanted(),
                    stats: outlet.stats,
                })
                .collect(),
            stats: producer.stats(),
        }
    }
}
