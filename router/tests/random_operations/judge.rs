//! Whether what an engine did in one call is what it should have done.

use lenscast_router::{ConsumerId, EndCause, Event, OutletId, ProducerKey, RouterId, TransportId, Worker};

use crate::faults::Fault;
use crate::world::reached::{HIGHER_LAYER, KEY_FRAME_AGAIN, SERVED_BY_MIRROR};
use crate::world::{Checked, Outside, Violation, World, ensure};

/// Something that can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Router(RouterId),
    Transport(TransportId),
    Producer(ProducerKey),
    Consumer(ConsumerId),
    Outlet(OutletId),
}

/// An event that a call must bring forth, exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// For one of these causes; more than one where it is a matter of order.
    End(Object, &'static [EndCause]),
    Paused(ProducerKey),
    Resumed(ProducerKey),
}

impl World {
    /// Calls an engine, and judges its events, packets and states by what is `expected` and by the model as it is now.
    pub(crate) fn call<R>(
        &mut self,
        worker: usize,
        mut expected: Vec<Expected>,
        call: impl FnOnce(&mut Worker, &mut Outside) -> R,
    ) -> Result<R, Violation> {
        self.outside.running = worker;
        let result = call(&mut self.workers[worker], &mut self.outside);
        while let Some(event) = self.workers[worker].poll_event() {
            let times = match (self.fault, ending(event)) {
                (Fault::ClosedTwice, Some((Object::Consumer(_), _))) => 2,
                (Fault::NeverClosed, Some((Object::Consumer(id), _))) if id.0.is_multiple_of(3) => 0,
                _ => 1,
            };
            for _ in 0..times {
                self.judge_event(event, &mut expected)?;
            }
        }
        ensure(expected.is_empty(), "I7 each object ends, I4 each pause is told", || {
            format!("not told: {expected:?}")
        })?;
        self.judge_packets()?;
        self.judge_states()?;
        Ok(result)
    }

    fn judge_event(&mut self, event: Event, expected: &mut Vec<Expected>) -> Checked {
        self.note(|| format!("        {event:?}"));
        let position = match event {
            Event::ProducerPaused(key) => expected.iter().position(|known| *known == Expected::Paused(key)),
            Event::ProducerResumed(key) => expected.iter().position(|known| *known == Expected::Resumed(key)),
            Event::LayersChanged { consumer, .. } => {
                let live = self.model.consumers.contains_key(&consumer)
                    || expected
                        .iter()
                        .any(|known| matches!(known, Expected::End(Object::Consumer(id), _) if *id == consumer));
                return ensure(live, "I7 nothing is told after the end", || format!("{event:?}"));
            }
            _ => {
                let Some((object, cause)) = ending(event) else { return Ok(()) };
                expected.iter().position(
                    |known| matches!(known, Expected::End(ended, causes) if *ended == object && causes.contains(&cause)),
                )
            }
        };
        let check = if ending(event).is_some() {
            "I7 each object ends once, with one cause"
        } else {
            "I4 pauses and resumes alternate, none after the end"
        };
        let Some(position) = position else {
            return Err(Violation { check, saw: format!("{event:?}, expected {expected:?}") });
        };
        expected.swap_remove(position);
        Ok(())
    }

    fn judge_packets(&mut self) -> Checked {
        for sent in std::mem::take(&mut self.outside.sent) {
            let Some(transport) = sent.transport.filter(|id| self.model.transports.contains_key(id)) else {
                return Err(Violation { check: "I8 nothing is sent over what is closed", saw: format!("{sent:?}") });
            };
            let consumer =
                self.model.consumers.values().find(|known| known.transport == transport && known.ssrc == sent.ssrc);
            let Some(consumer) = consumer else {
                return Err(Violation { check: "I8 nothing is sent for what is closed", saw: format!("{sent:?}") });
            };
            let burst = self.outside.bursts[sent.burst];
            let saw = || format!("{sent:?} of {burst:?} to {consumer:?}");
            let connected = self.model.transports[&transport].connected;
            ensure(connected && !consumer.paused, "I5 nothing is forwarded to a paused consumer", saw)?;
            ensure(burst.let_in == Some(true), "I5 nothing that came during a pause is forwarded", saw)?;
            let producer = &self.model.producers[&consumer.key];
            ensure(!producer.paused, "I5 a paused mirror forwards nothing", saw)?;
            ensure(burst.producer == consumer.key.producer, "I12 packets go to their producer's consumers", saw)?;
            ensure(burst.layer <= consumer.highest_spatial || producer.audio, "no layer above the preferred", saw)?;

            let viewer = self.outside.viewers.entry((transport, sent.ssrc)).or_default();
            let follows = viewer.sequence.is_none_or(|last| sent.sequence == last.wrapping_add(1));
            ensure(follows, "I15 the sequence has no gap", || format!("{} after {viewer:?}", saw()))?;
            let forward = viewer.timestamp.is_none_or(|last| sent.timestamp.wrapping_sub(last) < 1 << 31);
            ensure(forward, "I15 the timestamp never runs backwards", || format!("{} after {viewer:?}", saw()))?;
            let again = viewer.packets > 0 && viewer.base.is_none() && burst.key_frame && !producer.audio;
            let reaches = [
                (producer.outlet.is_some(), SERVED_BY_MIRROR),
                (burst.layer > 0, HIGHER_LAYER),
                (again, KEY_FRAME_AGAIN),
            ];
            for (_, what) in reaches.into_iter().filter(|(is_so, _)| *is_so) {
                *self.outside.reached.entry(what).or_default() += 1;
            }
            viewer.sequence = Some(sent.sequence);
            viewer.timestamp = Some(sent.timestamp);
            viewer.packets += 1;
            let next = viewer.open.map_or(0, |(_, next)| next);
            let whole = sent.packet == next && viewer.open.is_none_or(|(open, _)| open == sent.burst);
            ensure(whole, "I15 frames are forwarded whole and once", || format!("{} after {viewer:?}", saw()))?;
            let last = sent.packet + 1 == sent.of;
            ensure(sent.marker == last, "I15 the marker is on the last packet of a frame", saw)?;
            viewer.open = (!last).then_some((sent.burst, sent.packet + 1));
            if sent.packet == 0 && !producer.audio {
                let decodable = burst.key_frame || viewer.base.is_some() && viewer.base == burst.needs;
                ensure(decodable, "I6 what needs a key frame begins with one", || {
                    format!("{} after {viewer:?}", saw())
                })?;
                if burst.base {
                    viewer.base = Some(sent.burst);
                }
            }
        }
        for transport in std::mem::take(&mut self.outside.reported) {
            ensure(transport.is_some(), "I8 nothing is reported over what is closed", || format!("{transport:?}"))?;
        }
        Ok(())
    }

    /// What is told to a mirror must be what is so.
    fn judge_states(&mut self) -> Checked {
        for (outlet, state, opening) in std::mem::take(&mut self.outside.told) {
            self.note(|| format!("        {outlet} is told {state:?}"));
            let lane = self.outside.lanes[&outlet];
            let last = self.outside.versions.insert(outlet, state.version);
            let saw = || format!("{outlet} over {lane:?} is told {state:?} after version {last:?}");
            ensure(
                opening && last.is_none() || last.is_some_and(|last| state.version > last),
                "I2 versions grow",
                saw,
            )?;
            let Some(outlet) = self.model.outlets.get(&outlet) else {
                ensure(state.closed, "I8 a mirror of what is closed is told that it is", saw)?;
                continue;
            };
            let producer = self.model.producers.get(&outlet.from);
            ensure(!state.closed && producer.is_some(), "I3 what lives is not told that it is closed", saw)?;
            ensure(producer.is_some_and(|known| known.paused == state.paused), "I3 what is told is so", || {
                format!("{}, is {producer:?}", saw())
            })?;
        }
        Ok(())
    }
}

/// What ended with an event, and why.
pub(crate) fn ending(event: Event) -> Option<(Object, EndCause)> {
    match event {
        Event::RouterClosed(id, cause) => Some((Object::Router(id), cause)),
        Event::TransportClosed(id, cause) => Some((Object::Transport(id), cause)),
        Event::ProducerClosed(key, cause) => Some((Object::Producer(key), cause)),
        Event::ConsumerClosed { consumer, cause, .. } => Some((Object::Consumer(consumer), cause)),
        Event::OutletClosed(id, cause) => Some((Object::Outlet(id), cause)),
        _ => None,
    }
}
