use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Timer, Worker};
use crate::outlet::Outlet;
use crate::producer::{Origin, Producer};
use crate::{
    AttachError, Confirm, Egress, EndCause, Event, Inbound, Open, OpenMirrorError, OutletId, OutletLink, ProducerKey,
    RouterId, StreamState,
};

/// Which mirror is attached to what.
#[derive(Debug)]
pub struct AttachParameters {
    /// What is mirrored. May be a mirror itself.
    pub producer: ProducerKey,
    /// The router that gets the mirror.
    pub destination: RouterId,
    /// The way back; names the outlet.
    pub link: Arc<OutletLink>,
    /// Told by the destination once the mirror stands.
    pub created: Confirm,
}

/// How often a state that found a channel full is tried again, if nothing else goes that way.
const RETRY: Duration = Duration::from_millis(20);

impl Worker {
    /// Attaches a mirror to a producer, in one step: the mirror begins with the state as it is now, and every later change
    /// follows on the same channel, with the packets. Ends with the producer, the mirror, or [`Worker::detach`].
    ///
    /// A ring of pipes cannot be made: its last mirror would be on a router that has the producer, which the destination
    /// refuses.
    ///
    /// # Errors
    ///
    /// If there is no such producer, it is there already, or the destination's channel is full. Nothing is left then.
    pub fn attach(
        &mut self,
        _now: Instant,
        parameters: AttachParameters,
        egress: &mut impl Egress,
    ) -> Result<(), AttachError> {
        let AttachParameters { producer: key, destination, link, created } = parameters;
        let id = link.outlet();
        let index = self.producers.index(key).ok_or(AttachError::UnknownProducer(key))?;
        let producer = self.producers.at_mut(index);
        if self.outlets.contains_key(&id) || self.closing_outlets.iter().any(|outlet| outlet.id == id) {
            return Err(AttachError::Exists(id));
        }
        let there = key.router == destination
            || producer.outlets.iter().any(|outlet| outlet.destination() == destination && !outlet.link.is_closed());
        if there {
            return Err(AttachError::AlreadyThere { producer: key, destination });
        }
        let outlet = Outlet::new(destination, key.producer, Arc::clone(&link));
        // The mirror that was there before hears of its end first.
        let mut before = self.closing_outlets.iter_mut().filter(|before| before.mirror() == outlet.mirror());
        if !before.all(|before| before.flush(egress)) {
            return Err(AttachError::NoRoom(destination));
        }
        self.closing_outlets.retain(Outlet::is_behind);
        let producer = self.producers.at_mut(index);
        let open = Open {
            key: outlet.mirror(),
            outlet: Some(id),
            parameters: producer.parameters.clone(),
            snapshot: producer.state,
            upstream: link,
            created,
        };
        if !egress.send_inbound(id, Inbound::Open(Box::new(open))) {
            return Err(AttachError::NoRoom(destination));
        }
        producer.outlets.push(outlet);
        self.outlets.insert(id, index);
        Ok(())
    }

    /// Ends a mirror from its origin's side. False if there is no such outlet.
    pub fn detach(&mut self, now: Instant, outlet: OutletId, egress: &mut impl Egress) -> bool {
        self.end_outlet(now, outlet, EndCause::Requested, egress)
    }

    /// Ends a mirror whose origin has gone without a word, as if it had said that it ended. `outlet` is that of
    /// [`Open::outlet`]; a mirror that another one feeds stays.
    pub fn lose_origin(&mut self, now: Instant, key: ProducerKey, outlet: Option<OutletId>, egress: &mut impl Egress) {
        let Some(index) = self.producers.index(key) else { return };
        let origin = &self.producers.at(index).origin;
        if origin.is_mirror() && origin.outlet() == outlet {
            self.end_producer(now, index, EndCause::OriginClosed, egress);
        }
    }

    /// An outlet's link has been nudged: its mirror wants something else, or a key frame, or is gone.
    pub fn handle_outlet(&mut self, now: Instant, id: OutletId, egress: &mut impl Egress) {
        let Some(&index) = self.outlets.get(&id) else { return };
        let producer = self.producers.at_mut(index);
        let outlet = producer.outlets.iter_mut().find(|outlet| outlet.id == id);
        let outlet = outlet.expect("the table of outlets leads to their producers");
        if outlet.link.is_closed() {
            self.end_outlet(now, id, EndCause::MirrorClosed, egress);
            return;
        }
        let key_frames = outlet.link.take_key_frame_requests();
        outlet.flush(egress);
        producer.settle(now, key_frames.intersection(outlet_layers(producer)), &mut self.events);
        self.watch(now, index);
    }

    /// After anything that can leave a producer with something to do later.
    pub(super) fn watch(&mut self, now: Instant, index: usize) {
        let producer = self.producers.at(index);
        if producer.outlets.iter().any(Outlet::is_behind) && !self.timers.is_set(Timer::Outlets) {
            self.timers.set(Timer::Outlets, Some(now + RETRY));
        }
        if let Some(reception) = producer.origin.reception() {
            self.timers.set(Timer::Receive(index), Some(reception.receiver.poll_timeout()));
        }
    }

    pub(super) fn flush_outlets(&mut self, now: Instant, egress: &mut impl Egress) {
        self.closing_outlets.retain_mut(|outlet| !outlet.flush(egress));
        let mut behind = !self.closing_outlets.is_empty();
        for producer in self.producers.slots.iter_mut().flatten() {
            for outlet in &mut producer.outlets {
                behind |= !outlet.flush(egress);
            }
        }
        self.timers.set(Timer::Outlets, behind.then_some(now + RETRY));
    }

    /// Keeps what is left of an outlet until its last state has gone.
    pub(super) fn keep_until_sent(&mut self, now: Instant, outlet: Outlet) {
        if outlet.is_behind() {
            self.closing_outlets.push(outlet);
            if !self.timers.is_set(Timer::Outlets) {
                self.timers.set(Timer::Outlets, Some(now + RETRY));
            }
        }
    }

    fn end_outlet(&mut self, now: Instant, id: OutletId, cause: EndCause, egress: &mut impl Egress) -> bool {
        let Some(index) = self.outlets.remove(&id) else { return false };
        let producer = self.producers.at_mut(index);
        let position = producer.outlets.iter().position(|outlet| outlet.id == id);
        let mut outlet = producer.outlets.remove(position.expect("the table of outlets leads to their producers"));
        producer.settle(now, lenscast_media::LayerSet::EMPTY, &mut self.events);
        if cause != EndCause::MirrorClosed {
            let state = StreamState { version: producer.state.version + 1, closed: true, ..producer.state };
            outlet.send_state(state, egress);
            self.keep_until_sent(now, outlet);
        }
        self.watch(now, index);
        self.events.push_back(Event::OutletClosed(id, cause));
        true
    }

    /// The other side of [`Worker::attach`].
    pub(super) fn open_mirror(&mut self, open: Open) {
        let Open { key, outlet, parameters, snapshot, upstream, created } = open;
        let refusal = if !self.routers.contains(&key.router) {
            Some(OpenMirrorError::UnknownRouter(key.router))
        } else if self.producers.index(key).is_some() {
            Some(OpenMirrorError::Exists(key))
        } else if snapshot.closed || parameters.encodings.is_empty() {
            Some(OpenMirrorError::Closed(key.producer))
        } else {
            None
        };
        if let Some(error) = refusal {
            // So that the origin does not feed what is not there.
            upstream.close();
            created.tell(Err(error));
            return;
        }
        self.producers.insert(Producer::new(key, parameters, Origin::Mirror { upstream, outlet }, snapshot));
        created.tell(Ok(()));
    }

    pub(super) fn apply_state(
        &mut self,
        now: Instant,
        key: ProducerKey,
        outlet: Option<OutletId>,
        state: StreamState,
        egress: &mut impl Egress,
    ) {
        let Some(index) = self.producers.index(key) else { return };
        let producer = self.producers.at_mut(index);
        if !producer.origin.is_mirror() || producer.origin.outlet() != outlet {
            return;
        }
        let paused = producer.state.paused;
        if !producer.apply(state) {
            return;
        }
        if state.closed {
            self.end_producer(now, index, EndCause::OriginClosed, egress);
            return;
        }
        if state.paused != paused {
            self.note_paused(key, state.paused);
        }
        self.state_applied(now, index, egress);
    }
}

fn outlet_layers(producer: &Producer) -> lenscast_media::LayerSet {
    if producer.state.paused {
        return lenscast_media::LayerSet::EMPTY;
    }
    lenscast_media::LayerSet::all(producer.format().layers)
}
