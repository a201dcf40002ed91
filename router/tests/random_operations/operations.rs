//! What is done to the engines, each time to the model first.

use std::sync::Arc;
use std::time::Duration;

use lenscast_media::{Bitrate, Codec, LayerSet, MediaCodec, Ssrc};
use lenscast_router::{
    AttachError, AttachParameters, Confirm, ConsumerId, ConsumerParameters, EndCause, HeaderExtensions, Inbound,
    Layers, OutletId, OutletLink, PayloadType, Priority, ProducerId, ProducerKey, ProducerParameters, RouterId, Source,
    TransportId, TransportKind,
};

use crate::faults::Fault;
use crate::judge::{Expected, Object};
use crate::world::{
    self, Checked, ConsumerModel, Lane, OutletModel, ProducerModel, SourceLayer, TransportModel, World, ensure, reached,
};

const REQUESTED: &[EndCause] = &[EndCause::Requested];
pub(crate) const WITH_PRODUCER: &[EndCause] = &[EndCause::ProducerClosed];
const WITH_TRANSPORT: &[EndCause] = &[EndCause::TransportClosed];
const WITH_WORKER: &[EndCause] = &[EndCause::WorkerClosed];
const WITH_ROUTER: &[EndCause] = &[EndCause::RouterClosed];
/// What its owner's link says is gone.
pub(crate) const WITH_MIRROR: &[EndCause] = &[EndCause::MirrorClosed];
pub(crate) const WITH_ORIGIN: &[EndCause] = &[EndCause::OriginClosed];
/// Whichever of its transport and its producer's the router closes first.
const WITH_EITHER: &[EndCause] = &[EndCause::ProducerClosed, EndCause::TransportClosed];

const RIGHT: &str = "I9 a call does what the model says";

impl World {
    /// Something to begin with: routers on all workers, a camera on the first, a pipe and viewers.
    pub(crate) fn begin(&mut self) -> Checked {
        for _ in 0..=self.workers.len() + self.rng.below(2) {
            self.create_router()?;
        }
        for _ in 0..4 + self.rng.below(4) {
            self.create_transport()?;
        }
        for _ in 0..2 {
            self.connect_transport()?;
            self.produce()?;
            self.attach()?;
        }
        self.deliver_some()?;
        for _ in 0..self.rng.below(5) {
            self.consume()?;
        }
        Ok(())
    }

    /// One thing at random. Weights are such that much is there, and most of it changes.
    pub(crate) fn step(&mut self) -> Checked {
        match self.rng.below(100) {
            0 => self.create_router(),
            1 if self.rng.one_in(4) => self.close_worker(),
            1 => self.close_router(),
            2..=6 => self.create_transport(),
            7..=8 => self.connect_transport(),
            9 => self.close_transport(),
            10..=12 => self.produce(),
            13..=17 => self.set_producer_paused(true),
            18..=22 => self.set_producer_paused(false),
            23 => self.close_producer(),
            24..=30 => self.consume(),
            31..=33 => self.set_consumer_paused(true),
            34..=36 => self.set_consumer_paused(false),
            37 => self.close_consumer(),
            38..=40 => self.prefer(),
            41..=46 => self.attach(),
            47..=48 => self.detach(),
            49..=50 => self.say_sending(),
            51..=66 => self.produce_frames(),
            67..=92 => self.deliver_some(),
            93..=97 => self.look_at_links(),
            _ => self.pass_time(),
        }
    }

    fn create_router(&mut self) -> Checked {
        let again = self.rng.one_in(8);
        let live: Vec<_> = self.model.routers.keys().copied().collect();
        let worker = self.rng.below(self.workers.len());
        let id = match self.rng.pick(&live) {
            Some(live) if again => live,
            _ if live.len() >= 5 => return Ok(()),
            _ => self.router_id(worker),
        };
        let worker = self.worker_of(id);
        self.note(|| format!("create {id} on worker {worker}"));
        let made = self.call(worker, Vec::new(), |worker, _| worker.create_router(id))?;
        let expected = !self.model.routers.contains_key(&id);
        ensure(made.is_ok() == expected, RIGHT, || format!("create_router: {made:?}"))?;
        self.model.routers.insert(id, worker);
        Ok(())
    }

    fn close_router(&mut self) -> Checked {
        let live: Vec<_> = self.model.routers.keys().copied().collect();
        let Some(id) = self.pick_or_gone(&live, |gone| &gone.routers) else { return Ok(()) };
        self.note(|| format!("close {id}"));
        let mut expected = Vec::new();
        self.end_router(id, &mut expected, REQUESTED);
        let (there, now) = (!expected.is_empty(), self.now);
        let worker = self.worker_of(id);
        let closed = self.call(worker, expected, |worker, outside| worker.close_router(now, id, outside))?;
        self.forget_places();
        ensure(closed.is_ok() == there, RIGHT, || format!("close_router: {closed:?}"))
    }

    /// All that one worker has ends; it can be used again.
    fn close_worker(&mut self) -> Checked {
        let worker = self.rng.below(self.workers.len());
        self.note(|| format!("close worker {worker}"));
        let routers: Vec<_> = self.model.routers.keys().copied().filter(|id| self.worker_of(*id) == worker).collect();
        let mut expected = Vec::new();
        for id in routers {
            self.end_router(id, &mut expected, WITH_WORKER);
        }
        let now = self.now;
        self.call(worker, expected, |worker, outside| worker.close(now, outside))?;
        self.forget_places();
        Ok(())
    }

    fn forget_places(&mut self) {
        let transports = &self.model.transports;
        self.outside.slots.retain(|_, transport| transports.contains_key(transport));
    }

    fn end_router(&mut self, id: RouterId, expected: &mut Vec<Expected>, causes: &'static [EndCause]) {
        if self.model.routers.remove(&id).is_none() {
            return;
        }
        self.model.gone.routers.push(id);
        let inside = self.model.transports.iter().filter(|(_, transport)| transport.router == id);
        for transport in inside.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_transport(transport, expected, WITH_ROUTER, WITH_EITHER);
        }
        let mirrors = self.model.producers.keys().filter(|key| key.router == id);
        for key in mirrors.copied().collect::<Vec<_>>() {
            self.end_producer(key, expected, WITH_ROUTER, WITH_EITHER);
        }
        expected.push(Expected::End(Object::Router(id), causes));
    }

    fn create_transport(&mut self) -> Checked {
        let live: Vec<_> = self.model.routers.keys().copied().collect();
        let Some(router) = self.pick_or_gone(&live, |gone| &gone.routers) else { return self.create_router() };
        let transports: Vec<_> = self.model.transports.keys().copied().collect();
        let id = match self.rng.pick(&transports) {
            Some(taken)
                if self.rng.one_in(10)
                    && self.worker_of(self.model.transports[&taken].router) == self.worker_of(router) =>
            {
                taken
            }
            _ if transports.len() >= 10 => return Ok(()),
            _ => TransportId(self.id()),
        };
        let kinds = [TransportKind::Direct, TransportKind::WebRtc, TransportKind::WebRtc, TransportKind::Plain];
        let kind = kinds[self.rng.below(kinds.len())];
        self.note(|| format!("create {id} of kind {kind:?} on {router}"));
        let expected = self.model.routers.contains_key(&router) && !self.model.transports.contains_key(&id);
        let worker = self.worker_of(router);
        let made = self.call(worker, Vec::new(), |worker, _| worker.create_transport(router, id, kind))?;
        ensure(made.is_ok() == expected, RIGHT, || format!("create_transport: {made:?}"))?;
        if let Ok(slot) = made {
            let connected = kind == TransportKind::Direct;
            self.model.transports.insert(id, TransportModel { router, kind, connected });
            let before = self.outside.slots.insert((worker, slot), id);
            ensure(before.is_none(), "a place is given to one transport", || {
                format!("{slot:?} of {before:?} and {id}")
            })?;
        }
        Ok(())
    }

    fn connect_transport(&mut self) -> Checked {
        let waiting: Vec<_> =
            self.model.transports.iter().filter(|(_, transport)| !transport.connected).map(|(id, _)| *id).collect();
        let Some(id) = self.pick_or_gone(&waiting, |gone| &gone.transports) else { return Ok(()) };
        self.note(|| format!("connect {id}"));
        let Some(transport) = self.model.transports.get_mut(&id) else {
            let now = self.now;
            let result = self.call(0, Vec::new(), |worker, _| worker.connect_transport(now, id))?;
            return ensure(result.is_err(), RIGHT, || "connect_transport of what is gone".to_owned());
        };
        transport.connected = true;
        let (worker, now) = (transport.router, self.now);
        let worker = self.worker_of(worker);
        let result = self.call(worker, Vec::new(), |worker, _| worker.connect_transport(now, id))?;
        ensure(result.is_ok(), RIGHT, || format!("connect_transport: {result:?}"))
    }

    fn close_transport(&mut self) -> Checked {
        let live: Vec<_> = self.model.transports.keys().copied().collect();
        let Some(id) = self.pick_or_gone(&live, |gone| &gone.transports) else { return Ok(()) };
        self.note(|| format!("close {id}"));
        let worker = self.model.transports.get(&id).map_or(0, |transport| self.worker_of(transport.router));
        let mut expected = Vec::new();
        self.end_transport(id, &mut expected, REQUESTED, WITH_PRODUCER);
        let (there, now) = (!expected.is_empty(), self.now);
        let closed = self.call(worker, expected, |worker, outside| worker.close_transport(now, id, outside))?;
        self.outside.slots.retain(|_, transport| *transport != id);
        ensure(closed.is_ok() == there, RIGHT, || format!("close_transport: {closed:?}"))
    }

    fn produce(&mut self) -> Checked {
        let direct: Vec<_> = self
            .model
            .transports
            .iter()
            .filter(|(_, transport)| transport.kind == TransportKind::Direct)
            .map(|(id, _)| *id)
            .collect();
        let Some(transport) = self.pick_or_gone(&direct, |gone| &gone.transports) else { return Ok(()) };
        let live: Vec<_> = self.model.producers.keys().map(|key| key.producer).collect();
        let id = match self.rng.pick(&live) {
            // A name that is taken; elsewhere than on that router it cannot be, as names are unique in the process.
            Some(taken) if self.rng.one_in(10) && self.is_on(transport, taken) => taken,
            _ if self.outside.sources.len() >= 6 => return Ok(()),
            _ => ProducerId(self.id()),
        };
        let codec = [Codec::H264.into(), Codec::Vp8.into(), Codec::Vp8.into(), MediaCodec::Opus][self.rng.below(4)];
        let audio = codec == MediaCodec::Opus;
        let layers = if audio { 1 } else { 1 + self.rng.below(3) };
        let temporal_layers = if audio { 1 } else { 1 + self.rng.below(2) as u8 };
        self.note(|| format!("produce {id} of {layers} layers over {transport}"));
        let router = self.model.transports.get(&transport).map(|transport| transport.router);
        let key = router.map(|router| ProducerKey { router, producer: id });
        let expected = key.is_some_and(|key| !self.model.producers.contains_key(&key));
        let upstream: Arc<world::Wishes> = Arc::default();
        let source = Source::Local(Arc::<world::Wishes>::clone(&upstream));
        let parameters = ProducerParameters::local(codec, layers, temporal_layers);
        let (worker, now) = (router.map_or(0, |router| self.worker_of(router)), self.now);
        let made = self.call(worker, Vec::new(), |worker, _| worker.produce(now, transport, id, parameters, source))?;
        ensure(made.is_ok() == expected, RIGHT, || format!("produce: {made:?}"))?;
        if let (Ok(()), Some(home)) = (made, key) {
            let sending = LayerSet::all(layers as u8);
            self.model.producers.insert(
                home,
                ProducerModel { transport: Some(transport), outlet: None, paused: false, version: 0, sending, audio },
            );
            let layers = vec![SourceLayer::default(); layers];
            self.outside
                .sources
                .insert(id, world::Source { home, audio, upstream, layers, sending, codec, temporal_layers });
        }
        Ok(())
    }

    fn is_on(&self, transport: TransportId, producer: ProducerId) -> bool {
        let Some(transport) = self.model.transports.get(&transport) else { return false };
        self.model.producers.contains_key(&ProducerKey { router: transport.router, producer })
    }

    fn set_producer_paused(&mut self, paused: bool) -> Checked {
        let live: Vec<_> = self.model.producers.keys().copied().collect();
        let Some(key) = self.pick_or_gone(&live, |gone| &gone.producers) else { return Ok(()) };
        self.note(|| format!("{} {key}", if paused { "pause" } else { "resume" }));
        let mut expected = Vec::new();
        let mut allowed = false;
        if let Some(producer) = self.model.producers.get_mut(&key).filter(|producer| producer.outlet.is_none()) {
            allowed = true;
            if producer.paused != paused {
                producer.paused = paused;
                expected.push(if paused { Expected::Paused(key) } else { Expected::Resumed(key) });
                self.forget_decoders(|consumer| consumer.key == key);
            }
        }
        let (worker, now) = (self.worker_of(key.router), self.now);
        let result = self.call(worker, expected, |worker, outside| {
            if paused { worker.pause_producer(now, key, outside) } else { worker.resume_producer(now, key, outside) }
        })?;
        ensure(result.is_ok() == allowed, RIGHT, || format!("pause or resume of {key}: {result:?}"))
    }

    fn close_producer(&mut self) -> Checked {
        let live: Vec<_> = self.model.producers.keys().copied().collect();
        let Some(key) = self.pick_or_gone(&live, |gone| &gone.producers) else { return Ok(()) };
        self.note(|| format!("close {key}"));
        let mut expected = Vec::new();
        self.end_producer(key, &mut expected, REQUESTED, WITH_PRODUCER);
        let (there, now, worker) = (!expected.is_empty(), self.now, self.worker_of(key.router));
        let closed = self.call(worker, expected, |worker, outside| worker.close_producer(now, key, outside))?;
        ensure(closed.is_ok() == there, RIGHT, || format!("close_producer: {closed:?}"))
    }

    fn consume(&mut self) -> Checked {
        let live: Vec<_> = self.model.transports.keys().copied().collect();
        let Some(transport) = self.pick_or_gone(&live, |gone| &gone.transports) else { return Ok(()) };
        let known = self.model.transports.get(&transport).copied();
        let here: Vec<_> = self
            .model
            .producers
            .keys()
            .filter(|key| known.is_some_and(|known| known.router == key.router))
            .map(|key| key.producer)
            .collect();
        let id = match self.rng.one_in(12) {
            true => self.rng.pick(&self.model.consumers.keys().copied().collect::<Vec<_>>()),
            false => None,
        };
        // Names are unique in the process, so one that is taken can be taken on this worker only.
        let id = id.filter(|id| {
            self.worker_of(self.model.consumers[id].key.router) == known.map_or(0, |known| self.worker_of(known.router))
        });
        if id.is_none() && self.model.consumers.len() >= 10 {
            return Ok(());
        }
        let id = id.unwrap_or_else(|| ConsumerId(self.id()));
        let producer = match self.rng.pick(&here) {
            Some(producer) if !self.rng.one_in(15) => producer,
            _ => ProducerId(self.id()),
        };
        let (ssrc, paused, preferred) = (Ssrc(self.id() as u32), self.rng.one_in(4), self.rng.below(4) as u8);
        self.note(|| {
            format!("consume {producer} as {id} over {transport}, at most layer {preferred}, paused {paused}")
        });
        let parameters = ConsumerParameters {
            id,
            transport,
            ssrc,
            payload_type: PayloadType::new(96).expect("96 is one"),
            rtx: None,
            extensions: HeaderExtensions::default(),
            cname: String::new(),
            initial_sequence: 0xFFF0_u16.wrapping_add(id.0 as u16),
            initial_rtx_sequence: 0,
            timestamp_offset: u32::MAX - 5_000,
            preferred_layers: Layers { spatial: preferred, temporal: 1 },
            priority: Priority::LOWEST,
            paused,
        };
        let key = known.map(|known| ProducerKey { router: known.router, producer });
        let expected =
            key.is_some_and(|key| self.model.producers.contains_key(&key)) && !self.model.consumers.contains_key(&id);
        if let Some(key) = key.filter(|_| expected) {
            self.model.consumers.insert(
                id,
                ConsumerModel {
                    key,
                    transport,
                    ssrc,
                    paused,
                    preferred_spatial: preferred,
                    highest_spatial: preferred,
                },
            );
        }
        let (worker, now) = (known.map_or(0, |known| self.worker_of(known.router)), self.now);
        let made = self.call(worker, Vec::new(), |worker, _| worker.consume(now, producer, parameters))?;
        ensure(made.is_ok() == expected, RIGHT, || format!("consume: {made:?}"))
    }

    fn set_consumer_paused(&mut self, paused: bool) -> Checked {
        let live: Vec<_> = self.model.consumers.keys().copied().collect();
        let Some(id) = self.pick_or_gone(&live, |gone| &gone.consumers) else { return Ok(()) };
        self.note(|| format!("{} {id}", if paused { "pause" } else { "resume" }));
        let known = self.model.consumers.get_mut(&id);
        let there = known.is_some();
        let router = known.map(|consumer| {
            consumer.paused = paused;
            consumer.key.router
        });
        if let Some(consumer) = self.model.consumers.get(&id).copied() {
            self.forget_decoders(|known| known.ssrc == consumer.ssrc && paused);
        }
        let (worker, now) = (router.map_or(0, |router| self.worker_of(router)), self.now);
        let result = self.call(worker, Vec::new(), |worker, _| {
            if paused { worker.pause_consumer(now, id) } else { worker.resume_consumer(now, id) }
        })?;
        ensure(result.is_ok() == there, RIGHT, || format!("pause or resume of {id}: {result:?}"))
    }

    fn close_consumer(&mut self) -> Checked {
        let live: Vec<_> = self.model.consumers.keys().copied().collect();
        let Some(id) = self.pick_or_gone(&live, |gone| &gone.consumers) else { return Ok(()) };
        self.note(|| format!("close {id}"));
        let mut expected = Vec::new();
        let worker = self.model.consumers.get(&id).map_or(0, |consumer| self.worker_of(consumer.key.router));
        self.end_consumer(id, &mut expected, REQUESTED);
        let (there, now) = (!expected.is_empty(), self.now);
        let closed = self.call(worker, expected, |worker, outside| worker.close_consumer(now, id, outside))?;
        ensure(closed.is_ok() == there, RIGHT, || format!("close_consumer: {closed:?}"))
    }

    fn prefer(&mut self) -> Checked {
        let live: Vec<_> = self.model.consumers.keys().copied().collect();
        let Some(id) = self.pick_or_gone(&live, |gone| &gone.consumers) else { return Ok(()) };
        let layers = Layers { spatial: self.rng.below(4) as u8, temporal: self.rng.below(2) as u8 };
        let kind = self.rng.below(4);
        let now = self.now;
        let known = self.model.consumers.get(&id).copied();
        let worker = known.map_or(0, |consumer| self.worker_of(consumer.key.router));
        self.note(|| format!("{id} prefers {layers} ({kind})"));
        match kind {
            0 | 1 => {
                let result = self.call(worker, Vec::new(), |worker, _| worker.set_preferred_layers(now, id, layers))?;
                if let Some(consumer) = self.model.consumers.get_mut(&id) {
                    consumer.preferred_spatial = layers.spatial;
                    consumer.highest_spatial = layers.spatial.max(consumer.highest_spatial);
                }
                ensure(result.is_ok() == known.is_some(), RIGHT, || format!("set_preferred_layers: {result:?}"))
            }
            2 => {
                let result = self.call(worker, Vec::new(), |worker, _| worker.request_key_frame(now, id))?;
                ensure(result.is_ok() == known.is_some(), RIGHT, || format!("request_key_frame: {result:?}"))
            }
            _ => {
                let Some(known) = known else { return Ok(()) };
                let available =
                    [None, Some(Bitrate::from_kbps(10)), Some(Bitrate::from_kbps(5_000))][self.rng.below(3)];
                let transport = known.transport;
                let result =
                    self.call(worker, Vec::new(), |worker, _| worker.set_available_bitrate(now, transport, available))?;
                ensure(result.is_ok(), RIGHT, || format!("set_available_bitrate: {result:?}"))
            }
        }
    }

    pub(crate) fn attach(&mut self) -> Checked {
        if self.fault == Fault::CheckThenSubscribe
            && let Some((key, to, paused)) = self.held_attaches.pop()
        {
            return self.attach_now(key, to, Some(paused));
        }
        let producers: Vec<_> = self.model.producers.keys().copied().collect();
        let Some(key) = self.pick_or_gone(&producers, |gone| &gone.producers) else { return Ok(()) };
        let routers: Vec<_> = self.model.routers.keys().copied().collect();
        let Some(to) = self.pick_or_gone(&routers, |gone| &gone.routers) else { return Ok(()) };
        if self.fault == Fault::CheckThenSubscribe
            && let Some(producer) = self.model.producers.get(&key)
        {
            self.held_attaches.push((key, to, producer.paused));
            return Ok(());
        }
        self.attach_now(key, to, None)
    }

    fn attach_now(&mut self, key: ProducerKey, to: RouterId, stale: Option<bool>) -> Checked {
        let outlet = OutletId(self.id());
        self.note(|| format!("attach {outlet} from {key} to {to}"));
        let (from, now) = (self.worker_of(key.router), self.now);
        let lane = Lane::Workers(from, self.worker_of(to));
        let mut siblings = self.model.outlets.iter().filter(|(_, known)| known.from == key && known.to == to);
        let there = siblings.any(|(sibling, _)| !self.model.closed_links.contains(sibling)) || key.router == to;
        let (full, waited_for) = (self.outside.is_full(lane), self.outside.is_waited_for(lane));
        self.outside.lanes.insert(outlet, lane);
        self.outside.stale_snapshot = stale;
        let known = self.model.producers.contains_key(&key);
        if known && !there && !full {
            self.model.outlets.insert(outlet, OutletModel { from: key, to });
        }
        let nudges = Arc::clone(&self.outside.nudges);
        let link = OutletLink::new(outlet, move |outlet| {
            nudges.lock().expect("nobody panics with it").insert(outlet);
        });
        let confirmed = Arc::clone(&self.outside.confirmed);
        let created =
            Confirm::new(move |result| confirmed.lock().expect("nobody panics with it").push((outlet, result)));
        let parameters = AttachParameters { producer: key, destination: to, link: Arc::new(link), created };
        let result = self.call(from, Vec::new(), |worker, outside| worker.attach(now, parameters, outside))?;
        self.outside.stale_snapshot = None;
        let right = match result {
            Ok(()) => known && !there && !full,
            Err(AttachError::UnknownProducer(_)) => !known,
            Err(AttachError::AlreadyThere { .. }) => known && there,
            Err(AttachError::NoRoom(_)) => known && !there && (full || waited_for),
            Err(_) => false,
        };
        if result.is_err() {
            self.model.outlets.remove(&outlet);
            if matches!(result, Err(AttachError::NoRoom(_))) {
                self.outside.reach(reached::NO_ROOM);
            }
        } else if !self.piped.insert((key, to)) {
            self.outside.reach(reached::AGAIN);
        }
        ensure(right, "I10 one pipe for a producer and a destination, I11 failures are not kept", || {
            format!("attach: {result:?}; known {known}, there {there}, full {full}")
        })
    }

    fn detach(&mut self) -> Checked {
        let live: Vec<_> = self.model.outlets.keys().copied().collect();
        let Some(outlet) = self.pick_or_gone(&live, |gone| &gone.outlets) else { return Ok(()) };
        self.detach_now(outlet)
    }

    pub(crate) fn detach_now(&mut self, outlet: OutletId) -> Checked {
        self.note(|| format!("detach {outlet}"));
        let Some(&lane) = self.outside.lanes.get(&outlet) else { return Ok(()) };
        let Lane::Workers(worker, _) = lane else { return Ok(()) };
        let mut expected = Vec::new();
        if self.model.outlets.remove(&outlet).is_some() {
            self.model.gone.outlets.push(outlet);
            expected.push(Expected::End(Object::Outlet(outlet), REQUESTED));
        }
        let (there, now) = (!expected.is_empty(), self.now);
        let result = self.call(worker, expected, |worker, outside| worker.detach(now, outlet, outside))?;
        ensure(result == there, RIGHT, || format!("detach: {result}"))
    }

    fn say_sending(&mut self) -> Checked {
        let sources: Vec<_> = self.outside.sources.keys().copied().collect();
        let Some(id) = self.rng.pick(&sources) else { return Ok(()) };
        let source = self.outside.sources.get_mut(&id).expect("it was picked from them");
        let all = LayerSet::all(source.layers.len() as u8);
        let sending =
            LayerSet::from_bits(self.rng.next() as u8).union(LayerSet::only(self.rng.below(3) as u8)).intersection(all);
        let key = source.home;
        source.sending = sending;
        self.note(|| format!("{id} can send {sending:?}"));
        let lane = Lane::Source(id, self.worker_of(key.router));
        if !self.outside.push(lane, Inbound::Sending { key, sending }) {
            self.outside.unsaid.insert(id);
        }
        Ok(())
    }

    fn produce_frames(&mut self) -> Checked {
        let sources: Vec<_> = self.outside.sources.keys().copied().collect();
        let Some(id) = self.rng.pick(&sources) else { return Ok(()) };
        let (key_frame, even_if_unwanted) = (self.rng.one_in(6), self.rng.one_in(10));
        let temporal = self.rng.below(2) as u8;
        self.now += Duration::from_millis(self.rng.below(40) as u64);
        self.note(|| format!("{id} makes a frame, a key frame if asked for or {key_frame}"));
        self.make_frames(id, key_frame, even_if_unwanted, temporal);
        Ok(())
    }

    /// A frame of each layer that is of use and can be had.
    pub(crate) fn make_frames(&mut self, id: ProducerId, key_frame: bool, even_if_unwanted: bool, temporal: u8) {
        let source = &self.outside.sources[&id];
        let all = LayerSet::all(source.layers.len() as u8);
        let of_use = if even_if_unwanted { all } else { source.upstream.wanted().intersection(all) };
        let temporal = temporal.min(source.temporal_layers - 1);
        for layer in of_use.intersection(source.sending).iter() {
            self.outside.produce_frame(self.now, id, layer, key_frame, temporal);
        }
    }

    pub(crate) fn pass_time(&mut self) -> Checked {
        self.now += Duration::from_millis(100 + self.rng.below(1_000) as u64);
        self.note(|| "time passes".to_owned());
        let now = self.now;
        for worker in 0..self.workers.len() {
            if self.workers[worker].poll_timeout().is_some_and(|due| due <= now) {
                self.call(worker, Vec::new(), |worker, outside| worker.handle_timeout(now, outside))?;
            }
        }
        Ok(())
    }

    /// One of what is there, or sometimes of what is gone.
    fn pick_or_gone<T: Copy>(&mut self, live: &[T], gone: impl Fn(&world::Gone) -> &Vec<T>) -> Option<T> {
        if self.rng.one_in(12) {
            let gone = gone(&self.model.gone).clone();
            return self.rng.pick(&gone);
        }
        self.rng.pick(live)
    }

    /// The viewers of these consumers need a key frame.
    pub(crate) fn forget_decoders(&mut self, which: impl Fn(&ConsumerModel) -> bool) {
        for consumer in self.model.consumers.values().filter(|consumer| which(consumer)) {
            if let Some(viewer) = self.outside.viewers.get_mut(&(consumer.transport, consumer.ssrc)) {
                viewer.base = None;
            }
        }
    }

    pub(crate) fn end_consumer(&mut self, id: ConsumerId, expected: &mut Vec<Expected>, causes: &'static [EndCause]) {
        if let Some(consumer) = self.model.consumers.remove(&id) {
            self.model.gone.consumers.push(id);
            self.outside.viewers.remove(&(consumer.transport, consumer.ssrc));
            expected.push(Expected::End(Object::Consumer(id), causes));
        }
    }

    /// A producer or mirror ends for one of `causes`, and its consumers for one of `consumers_causes`.
    pub(crate) fn end_producer(
        &mut self,
        key: ProducerKey,
        expected: &mut Vec<Expected>,
        causes: &'static [EndCause],
        consumers_causes: &'static [EndCause],
    ) {
        let Some(producer) = self.model.producers.remove(&key) else { return };
        self.model.gone.producers.push(key);
        let consumers = self.model.consumers.iter().filter(|(_, consumer)| consumer.key == key);
        for id in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_consumer(id, expected, consumers_causes);
        }
        let outlets = self.model.outlets.iter().filter(|(_, outlet)| outlet.from == key);
        for id in outlets.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.model.outlets.remove(&id);
            self.model.gone.outlets.push(id);
            expected.push(Expected::End(Object::Outlet(id), WITH_PRODUCER));
        }
        match producer.outlet {
            // Its link tells its owner.
            Some(outlet) => {
                self.model.closed_links.insert(outlet);
            }
            None => {
                self.outside.sources.remove(&key.producer);
            }
        }
        expected.push(Expected::End(Object::Producer(key), causes));
    }

    /// A transport ends for one of `causes`; consumers of its producers that are elsewhere for one of `elsewhere`.
    fn end_transport(
        &mut self,
        id: TransportId,
        expected: &mut Vec<Expected>,
        causes: &'static [EndCause],
        elsewhere: &'static [EndCause],
    ) {
        if self.model.transports.remove(&id).is_none() {
            return;
        }
        self.model.gone.transports.push(id);
        let own = if causes == WITH_ROUTER { WITH_EITHER } else { WITH_TRANSPORT };
        let consumers = self.model.consumers.iter().filter(|(_, consumer)| consumer.transport == id);
        for consumer in consumers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_consumer(consumer, expected, own);
        }
        let producers = self.model.producers.iter().filter(|(_, producer)| producer.transport == Some(id));
        for key in producers.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.end_producer(key, expected, WITH_TRANSPORT, elsewhere);
        }
        expected.push(Expected::End(Object::Transport(id), causes));
    }
}
