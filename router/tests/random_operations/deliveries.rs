//! What is on its way between the engines arrives, in any order but that of its lane.

use lenscast_router::{Inbound, OutletId, ProducerKey, StreamState};

use crate::faults::Fault;
use crate::judge::{Expected, Object};
use crate::operations::{WITH_MIRROR, WITH_ORIGIN, WITH_PRODUCER};
use crate::world::reached::{CHAINED, FLIPPED, FOR_ANOTHER, MIRRORED, REFUSED, REFUSED_TWICE};
use crate::world::{Checked, Lane, ProducerModel, World, ensure};

impl World {
    pub(crate) fn deliver_some(&mut self) -> Checked {
        for _ in 0..=self.rng.below(3) {
            let lanes: Vec<_> = self.outside.channels.keys().copied().collect();
            let Some(lane) = self.rng.pick(&lanes) else { return Ok(()) };
            self.deliver(lane)?;
        }
        Ok(())
    }

    pub(crate) fn deliver(&mut self, lane: Lane) -> Checked {
        let Some(message) = self.outside.take(lane) else { return Ok(()) };
        let worker = lane.to();
        self.note(|| match &message {
            Inbound::Burst { key, layer, broken, burst, .. } => {
                let first = burst.meta().first_packet;
                format!("{lane:?}: a burst of {key}, layer {layer}, from packet {first}, broken {broken}")
            }
            Inbound::Open(open) => format!("{lane:?}: open {} with {:?}", open.key, open.snapshot),
            other => format!("{lane:?}: {other:?}"),
        });
        match &message {
            Inbound::Open(open) => {
                let (key, snapshot) = (open.key, open.snapshot);
                let outlet = open.outlet.expect("mirrors here are fed by outlets");
                return self.deliver_open(worker, key, outlet, snapshot, message);
            }
            Inbound::State { key, outlet, state } => {
                let (key, outlet, state) = (*key, *outlet, *state);
                let expected = self.apply_state(outlet, key, state);
                self.hand_in(worker, expected, message)?;
                if self.fault == Fault::StaleVersion && self.rng.one_in(3) {
                    let stale = StreamState { version: state.version + 1, paused: !state.paused, ..state };
                    let expected = self.apply_state(outlet, key, stale);
                    self.hand_in(worker, expected, Inbound::State { key, outlet, state: stale })?;
                }
                return Ok(());
            }
            Inbound::Sending { key, sending } => {
                let (key, sending) = (*key, *sending);
                if let Some(producer) = self.model.producers.get_mut(&key) {
                    producer.sending = sending;
                }
            }
            Inbound::Burst { key, burst, .. } => {
                if let Lane::Source(..) = lane {
                    let producer = self.model.producers.get(key);
                    let let_in = producer.is_some_and(|producer| !producer.paused);
                    self.outside.bursts[number_of(burst)].let_in = Some(let_in);
                    if self.fault == Fault::NotGated && !let_in {
                        self.leak(message)?;
                        return Ok(());
                    }
                }
            }
        }
        self.hand_in(worker, Vec::new(), message)
    }

    fn hand_in(&mut self, worker: usize, expected: Vec<Expected>, message: Inbound) -> Checked {
        let now = self.now;
        self.call(worker, expected, |worker, outside| worker.handle_inbound(now, message, outside))
    }

    fn deliver_open(
        &mut self,
        worker: usize,
        key: ProducerKey,
        outlet: OutletId,
        snapshot: StreamState,
        message: Inbound,
    ) -> Checked {
        let made = self.model.routers.contains_key(&key.router)
            && !self.model.producers.contains_key(&key)
            && !snapshot.closed;
        let there = self.model.producers.contains_key(&key);
        if made {
            let from = self.model.outlets.get(&outlet).and_then(|outlet| self.model.producers.get(&outlet.from));
            self.outside.reach(if from.is_some_and(|from| from.outlet.is_some()) { CHAINED } else { MIRRORED });
            let audio = self.outside.sources.get(&key.producer).is_some_and(|source| source.audio);
            let mirror = ProducerModel {
                transport: None,
                outlet: Some(outlet),
                paused: snapshot.paused,
                version: snapshot.version,
                sending: snapshot.sending,
                audio,
            };
            self.model.producers.insert(key, mirror);
        }
        self.hand_in(worker, Vec::new(), message)?;
        let told: Vec<_> = self.outside.confirmed.lock().expect("nobody panics with it").drain(..).collect();
        let right = matches!(&told[..], [(of, result)] if *of == outlet && result.is_ok() == made);
        ensure(right, "I9 a mirror is confirmed once, and is what was confirmed", || format!("{told:?}, made {made}"))?;
        if !made {
            self.outside.reach(if there { REFUSED_TWICE } else { REFUSED });
            self.model.closed_links.insert(outlet);
        }
        Ok(())
    }

    /// What a state changes in the model of a mirror.
    fn apply_state(&mut self, outlet: Option<OutletId>, key: ProducerKey, state: StreamState) -> Vec<Expected> {
        let mut expected = Vec::new();
        let Some(mirror) = self.model.producers.get_mut(&key) else { return expected };
        // What is meant for another mirror of that name says nothing of this one.
        if mirror.outlet != outlet {
            self.outside.reach(FOR_ANOTHER);
            return expected;
        }
        if state.version <= mirror.version {
            return expected;
        }
        mirror.version = state.version;
        mirror.sending = state.sending;
        if state.closed {
            self.end_producer(key, &mut expected, WITH_ORIGIN, WITH_PRODUCER);
        } else if mirror.paused != state.paused {
            mirror.paused = state.paused;
            self.outside.reach(FLIPPED);
            expected.push(if state.paused { Expected::Paused(key) } else { Expected::Resumed(key) });
            self.forget_decoders(|consumer| consumer.key == key);
        }
        expected
    }

    /// A paused producer's packets at its mirrors, as if nobody had stopped them.
    fn leak(&mut self, message: Inbound) -> Checked {
        let Inbound::Burst { key, layer, broken, burst, .. } = message else { return Ok(()) };
        let all = self.model.producers.iter().filter(|(known, _)| known.producer == key.producer);
        let mirrors: Vec<_> = all.map(|(key, mirror)| (*key, mirror.outlet)).collect();
        for (key, outlet) in mirrors {
            let burst = std::sync::Arc::clone(&burst);
            self.hand_in(self.worker_of(key.router), Vec::new(), Inbound::Burst { key, outlet, layer, broken, burst })?;
        }
        Ok(())
    }

    /// The owners of nudged links look at what their mirrors want.
    pub(crate) fn look_at_links(&mut self) -> Checked {
        let nudged: Vec<_> = self.outside.nudges.lock().expect("nobody panics with it").iter().copied().collect();
        let Some(outlet) = self.rng.pick(&nudged) else { return Ok(()) };
        self.look_at_link(outlet)
    }

    pub(crate) fn look_at_link(&mut self, outlet: OutletId) -> Checked {
        self.outside.nudges.lock().expect("nobody panics with it").remove(&outlet);
        self.note(|| format!("the owner of {outlet} looks at its link"));
        let ended = self.model.closed_links.contains(&outlet);
        if self.fault == Fault::LostWish && !ended || self.fault == Fault::LostEnd && ended {
            return Ok(());
        }
        let (Some(Lane::Workers(owner, _)), now) = (self.outside.lanes.get(&outlet).copied(), self.now) else {
            return Ok(());
        };
        let mut expected = Vec::new();
        if ended && self.model.outlets.remove(&outlet).is_some() {
            self.model.gone.outlets.push(outlet);
            expected.push(Expected::End(Object::Outlet(outlet), WITH_MIRROR));
        }
        self.call(owner, expected, |worker, outside| worker.handle_outlet(now, outlet, outside))
    }
}

fn number_of(burst: &lenscast_media::Burst) -> usize {
    let payload = burst.payload(0);
    let tail = &payload[payload.len() - 10..];
    u64::from_be_bytes(tail[..8].try_into().expect("eight bytes")) as usize
}
