//! Everything arrives, and then: is what is there what should be there?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lenscast_media::LayerSet;
use lenscast_router::{Inbound, ProducerKey};

use crate::world::{Checked, ConsumerModel, Lane, World, ensure};

/// Each round lets everything through that is under way; what it brings forth goes through in the next.
const ROUNDS: usize = 200;

impl World {
    /// Drains all that is under way, and checks what is left.
    pub(crate) fn come_to_rest(&mut self) -> Checked {
        self.note(|| "--- to rest".to_owned());
        self.held_attaches.clear();
        self.drain()?;
        self.check_mirrors()?;
        self.check_what_lives()?;
        self.check_media()
    }

    fn drain(&mut self) -> Checked {
        for _ in 0..ROUNDS {
            self.now += Duration::from_millis(250);
            for id in std::mem::take(&mut self.outside.unsaid) {
                let Some(source) = self.outside.sources.get(&id) else { continue };
                let (key, sending) = (source.home, source.sending);
                let lane = Lane::Source(id, self.worker_of(key.router));
                if !self.outside.push(lane, Inbound::Sending { key, sending }) {
                    self.outside.unsaid.insert(id);
                }
            }
            let lanes: Vec<_> = self.outside.channels.keys().copied().collect();
            for lane in &lanes {
                while self.outside.channels.contains_key(lane) {
                    self.deliver(*lane)?;
                }
            }
            let nudged: Vec<_> = self.outside.nudges.lock().expect("nobody panics with it").iter().copied().collect();
            for outlet in &nudged {
                self.look_at_link(*outlet)?;
            }
            self.pass_time()?;
            let quiet = lanes.is_empty() && nudged.is_empty();
            if quiet && self.outside.channels.is_empty() && self.outside.unsaid.is_empty() {
                return ensure(
                    self.outside.unsent.iter().all(|outlet| !self.model.outlets.contains_key(outlet)),
                    "I3 a state is never lost",
                    || format!("not told: {:?}", self.outside.unsent),
                );
            }
        }
        ensure(false, "all comes to rest", || format!("{} lanes still busy", self.outside.channels.len()))
    }

    /// I1, I3, I8, I10, I13: mirrors are there for live outlets only, one each, and are as what they mirror.
    fn check_mirrors(&mut self) -> Checked {
        let mut mirrors = BTreeSet::new();
        for (key, mirror) in &self.model.producers {
            let Some(outlet) = mirror.outlet else { continue };
            let from = self.model.outlets.get(&outlet);
            let origin = from.and_then(|outlet| self.model.producers.get(&outlet.from));
            let saw = || format!("{key} is {mirror:?}, mirrors {origin:?}");
            ensure(origin.is_some(), "I8 no mirror of what is closed is left", saw)?;
            let same = origin.is_some_and(|origin| origin.paused == mirror.paused);
            ensure(same, "I1 at rest a mirror is paused as its origin is", saw)?;
            let same = origin.is_some_and(|origin| origin.sending == mirror.sending);
            ensure(same, "I3 at rest a mirror knows the layers that can be had", saw)?;
            mirrors.insert(outlet);
        }
        for (outlet, known) in &self.model.outlets {
            ensure(mirrors.contains(outlet), "I8 no outlet to nothing is left, I13 siblings stay", || {
                format!("{outlet}: {known:?}")
            })?;
        }
        Ok(())
    }

    /// The engines have what the model has, and nothing else.
    fn check_what_lives(&self) -> Checked {
        let all = self.model.producers.keys().chain(&self.model.gone.producers);
        for key in all {
            let there = self.workers[self.worker_of(key.router)].producer_stats(*key).is_some();
            let should = self.model.producers.contains_key(key);
            ensure(there == should, "I8 what is there is what should be", || {
                format!("{key}: {there}, should {should}")
            })?;
        }
        for (id, transport) in &self.model.transports {
            let worker = &self.workers[self.worker_of(transport.router)];
            let there: BTreeSet<_> = worker.consumer_stats(*id).map(|(consumer, ..)| consumer).collect();
            let consumers = self.model.consumers.iter().filter(|(_, consumer)| consumer.transport == *id);
            let should: BTreeSet<_> = consumers.map(|(consumer, _)| *consumer).collect();
            ensure(there == should, "I8 consumers are where they should be", || {
                format!("{there:?}, should {should:?}")
            })?;
        }
        for id in &self.model.gone.transports {
            for worker in &self.workers {
                ensure(worker.consumer_stats(*id).next().is_none(), "I8 a closed transport has none", || {
                    id.to_string()
                })?;
            }
        }
        Ok(())
    }

    /// Who should be served is served, by asking upstream for what it needs; and nobody else costs anything.
    fn check_media(&mut self) -> Checked {
        // Whatever limited them before.
        self.outside.capacity = 64;
        let transports: Vec<_> = self.model.transports.iter().map(|(id, known)| (*id, known.router)).collect();
        for (id, router) in transports {
            let (worker, now) = (self.worker_of(router), self.now);
            let _ = self.call(worker, Vec::new(), |worker, _| worker.set_available_bitrate(now, id, None))?;
        }
        let mut served: BTreeMap<_, u64> = BTreeMap::new();
        for round in 0..8 {
            self.drain()?;
            if round == 6 {
                served = self.viewed();
            }
            let sources: Vec<_> = self.outside.sources.keys().copied().collect();
            for id in sources {
                // Upgrades wait, hence the seconds.
                self.make_frames(id, false, false, 0);
            }
            self.now += Duration::from_secs(6);
        }
        self.drain()?;
        for (id, consumer) in &self.model.consumers {
            let seen = |viewed: &BTreeMap<_, u64>| viewed.get(id).copied().unwrap_or(0);
            let grew = seen(&self.viewed()) > seen(&served);
            let should = self.is_servable(consumer);
            if !should && self.is_ready(consumer) {
                // It may go on with a layer that it preferred before.
                continue;
            }
            let check = "I6 who can be served is, having asked for it, and nobody else";
            ensure(grew == should, check, || {
                format!("{id}: {consumer:?}, served {grew}, should {should}: {:?}", self.home_of(consumer.key))
            })?;
        }
        for (id, source) in &self.outside.sources {
            // What cannot be had may be wanted all the same.
            let mut consumers = self.model.consumers.values().filter(|consumer| consumer.key.producer == *id);
            let any = consumers.any(|consumer| self.is_ready(consumer));
            let wanted = source.upstream.wanted();
            ensure(any || wanted == LayerSet::EMPTY, "I8 nothing is wanted for nobody", || {
                format!("{id}: {wanted:?}")
            })?;
        }
        Ok(())
    }

    fn viewed(&self) -> BTreeMap<lenscast_router::ConsumerId, u64> {
        let viewed = self.model.consumers.iter().filter_map(|(id, consumer)| {
            let viewer = self.outside.viewers.get(&(consumer.transport, consumer.ssrc))?;
            Some((*id, viewer.packets))
        });
        viewed.collect()
    }

    /// True if nobody between a source and a viewer has paused.
    fn is_ready(&self, consumer: &ConsumerModel) -> bool {
        let home = self.home_of(consumer.key).and_then(|home| self.model.producers.get(&home));
        let paused = home.is_none_or(|home| home.paused) || consumer.paused;
        !paused && self.model.transports[&consumer.transport].connected
    }

    fn is_servable(&self, consumer: &ConsumerModel) -> bool {
        let home = self.home_of(consumer.key).and_then(|home| self.model.producers.get(&home));
        let layer = home.and_then(|home| home.sending.highest_at_most(consumer.preferred_spatial));
        layer.is_some() && self.is_ready(consumer)
    }

    /// Where a mirror's stream comes from in the end.
    fn home_of(&self, mut key: ProducerKey) -> Option<ProducerKey> {
        for _ in 0..16 {
            match self.model.producers.get(&key)?.outlet {
                None => return Some(key),
                Some(outlet) => key = self.model.outlets.get(&outlet)?.from,
            }
        }
        None
    }
}
