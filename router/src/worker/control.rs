use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, LayerSet};

use super::{Timer, Worker};
use crate::bandwidth_split::{ConsumerDemand, split};
use crate::consumer::Limit;
use crate::producer::Producer;
use crate::{
    ConsumerId, Egress, Event, Layers, PauseProducerError, Priority, ProducerKey, TransportId, TransportSlot,
    UnknownConsumer, UnknownProducer, UnknownTransport,
};

/// After the available bitrate brought a consumer down it stays there this long (mediasoup
/// `RTC/SimulcastConsumer.cpp`, `BweDowngradeConservativeMs`).
const HOLD: Duration = Duration::from_secs(10);

impl Worker {
    /// Goes on receiving a stream, but forwards it to nobody, until it is resumed.
    ///
    /// # Errors
    ///
    /// If there is no such producer, or it is a mirror.
    pub fn pause_producer(
        &mut self,
        now: Instant,
        key: ProducerKey,
        egress: &mut impl Egress,
    ) -> Result<(), PauseProducerError> {
        self.set_producer_paused(now, key, true, egress)
    }

    /// Forwards a stream again, from its next key frame on.
    ///
    /// # Errors
    ///
    /// If there is no such producer, or it is a mirror.
    pub fn resume_producer(
        &mut self,
        now: Instant,
        key: ProducerKey,
        egress: &mut impl Egress,
    ) -> Result<(), PauseProducerError> {
        self.set_producer_paused(now, key, false, egress)
    }

    /// Sends a consumer nothing more until it is resumed.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn pause_consumer(&mut self, now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        self.change_consumer(now, id, |producer, position| producer.consumers[position].paused = true)
    }

    /// Goes on with the next key frame, and asks for it.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn resume_consumer(&mut self, now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        self.change_consumer(now, id, |producer, position| producer.consumers[position].paused = false)
    }

    /// Sends a consumer these layers while they can be had and the bandwidth allows them.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn set_preferred_layers(
        &mut self,
        now: Instant,
        id: ConsumerId,
        layers: Layers,
    ) -> Result<(), UnknownConsumer> {
        self.change_consumer(now, id, |producer, position| {
            producer.consumers[position].parameters_mut().preferred_layers = layers;
        })
    }

    /// What a consumer is given at most, whatever it prefers, because somebody who knows what its peer's path carries has
    /// divided that: these layers, or nothing for the time being. Holds until the next call.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn set_layer_ceiling(
        &mut self,
        now: Instant,
        id: ConsumerId,
        ceiling: Option<Layers>,
    ) -> Result<(), UnknownConsumer> {
        let ceiling = ceiling.map_or(Limit::Nothing, Limit::Layers);
        self.change_consumer(now, id, |producer, position| producer.consumers[position].set_ceiling(ceiling))
    }

    /// Says how much a consumer matters beside the others of its transport.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn set_priority(&mut self, now: Instant, id: ConsumerId, priority: Priority) -> Result<(), UnknownConsumer> {
        self.change_consumer(now, id, |producer, position| {
            producer.consumers[position].parameters_mut().priority = priority;
        })
    }

    /// Asks for a key frame of what a consumer forwards, or waits for.
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn request_key_frame(&mut self, now: Instant, id: ConsumerId) -> Result<(), UnknownConsumer> {
        let (producer, place, events) = self.consumer_mut(id).ok_or(UnknownConsumer(id))?;
        let consumer = &producer.consumers[place.position];
        if let Some(layer) = consumer.target().or(consumer.current())
            && producer.format().key_frames
        {
            producer.request_key_frame(now, layer, events);
        }
        self.watch(now, place.producer);
        Ok(())
    }

    /// How much a transport can carry, as its congestion control says; `None` for no limit.
    ///
    /// # Errors
    ///
    /// If there is no such transport.
    pub fn set_available_bitrate(
        &mut self,
        now: Instant,
        id: TransportId,
        available: Option<Bitrate>,
    ) -> Result<(), UnknownTransport> {
        let slot = self.transports.slot(id).ok_or(UnknownTransport(id))?;
        let transport = self.transports.get_mut(slot).ok_or(UnknownTransport(id))?;
        let was_limited = transport.available.is_some();
        transport.available = available;
        if available.is_none() && was_limited {
            for entry in &mut transport.consumers {
                entry.holds_until = None;
            }
            let consumers: Vec<_> = transport.consumers.iter().map(|entry| entry.consumer).collect();
            for id in consumers {
                self.limit_consumer(now, id, Limit::None);
            }
            self.timers.set(Timer::Split(slot), None);
        }
        self.split_bandwidth(now, slot);
        Ok(())
    }

    /// Tells of what happens to a producer, or no longer, by [`Event::Trace`].
    ///
    /// # Errors
    ///
    /// If there is no such producer.
    pub fn trace_producer(&mut self, key: ProducerKey, traced: bool) -> Result<(), UnknownProducer> {
        let index = self.producers.index(key).ok_or(UnknownProducer(key))?;
        self.producers.at_mut(index).traced = traced;
        Ok(())
    }

    /// Tells of what happens to a consumer, or no longer, by [`Event::Trace`].
    ///
    /// # Errors
    ///
    /// If there is no such consumer.
    pub fn trace_consumer(&mut self, id: ConsumerId, traced: bool) -> Result<(), UnknownConsumer> {
        let (producer, place, _) = self.consumer_mut(id).ok_or(UnknownConsumer(id))?;
        producer.consumers[place.position].traced = traced;
        Ok(())
    }

    /// A source says which layers can be had.
    pub(super) fn set_sending(&mut self, now: Instant, key: ProducerKey, sending: LayerSet, egress: &mut impl Egress) {
        let Some(index) = self.producers.index(key) else { return };
        let producer = self.producers.at_mut(index);
        let sending = sending.intersection(LayerSet::all(producer.format().layers));
        if producer.origin.is_mirror() || producer.state.sending == sending {
            return;
        }
        producer.state.sending = sending;
        self.state_changed(now, index, egress);
    }

    /// Only the home worker gets here: it is the one writer of the state.
    fn set_producer_paused(
        &mut self,
        now: Instant,
        key: ProducerKey,
        paused: bool,
        egress: &mut impl Egress,
    ) -> Result<(), PauseProducerError> {
        let index = self.producers.index(key).ok_or(PauseProducerError::UnknownProducer(key))?;
        let producer = self.producers.at_mut(index);
        if producer.origin.is_mirror() {
            return Err(PauseProducerError::Mirror(key));
        }
        if producer.state.paused == paused {
            return Ok(());
        }
        producer.state.paused = paused;
        self.note_paused(key, paused);
        self.state_changed(now, index, egress);
        Ok(())
    }

    pub(super) fn note_paused(&mut self, key: ProducerKey, paused: bool) {
        self.events.push_back(if paused { Event::ProducerPaused(key) } else { Event::ProducerResumed(key) });
    }

    /// A new version of a state that is ours to change: mirrors hear of it, consumers choose anew.
    fn state_changed(&mut self, now: Instant, index: usize, egress: &mut impl Egress) {
        let producer = self.producers.at_mut(index);
        producer.state.version += 1;
        self.state_applied(now, index, egress);
    }

    /// Passes a state on that has changed.
    pub(super) fn state_applied(&mut self, now: Instant, index: usize, egress: &mut impl Egress) {
        let producer = self.producers.at_mut(index);
        for outlet in &mut producer.outlets {
            outlet.send_state(producer.state, egress);
        }
        producer.choose_all(now, &mut self.events);
        producer.update_scores(&mut self.events);
        self.watch(now, index);
        let mut slots: Vec<_> = self.producers.at(index).consumers.iter().map(|consumer| consumer.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            self.split_bandwidth(now, slot);
        }
    }

    fn change_consumer(
        &mut self,
        now: Instant,
        id: ConsumerId,
        change: impl FnOnce(&mut Producer, usize),
    ) -> Result<(), UnknownConsumer> {
        let (producer, place, events) = self.consumer_mut(id).ok_or(UnknownConsumer(id))?;
        change(producer, place.position);
        if !producer.consumers[place.position].is_ready() {
            // What it had is free.
            producer.choose(now, place.position, events);
        }
        self.split_bandwidth(now, place.transport);
        self.producers.at_mut(place.producer).choose(now, place.position, &mut self.events);
        self.watch(now, place.producer);
        Ok(())
    }

    /// Splits what a transport can carry among its consumers. Does nothing to one without a limit.
    pub(super) fn split_bandwidth(&mut self, now: Instant, slot: TransportSlot) {
        let Some(transport) = self.transports.get(slot) else { return };
        let Some(available) = transport.available.filter(|_| transport.connected) else { return };
        let (mut demands, mut ids) = (Vec::new(), Vec::new());
        for entry in &transport.consumers {
            let place = self.consumers[&entry.consumer];
            let producer = self.producers.at(place.producer);
            let consumer = &producer.consumers[place.position];
            if !consumer.is_ready() || producer.state.paused {
                continue;
            }
            demands.push(ConsumerDemand {
                priority: consumer.parameters().priority,
                preferred: consumer.parameters().preferred_layers,
                bitrates: producer.bitrates(now),
                sending: producer.state.sending,
                current: consumer.layers(),
                holds: entry.holds_until.is_some_and(|until| until > now),
            });
            ids.push(entry.consumer);
        }
        for (id, given) in ids.into_iter().zip(split(available, &demands)) {
            self.limit_consumer(now, id, given.map_or(Limit::Nothing, Limit::Layers));
        }
        let entries = self.transports.get(slot).map_or(&[][..], |transport| &transport.consumers);
        let next = entries.iter().filter_map(|entry| entry.holds_until).filter(|until| *until > now).min();
        self.timers.set(Timer::Split(slot), next);
    }

    fn limit_consumer(&mut self, now: Instant, id: ConsumerId, limit: Limit) {
        let (producer, place, _) = self.consumer_mut(id).expect("a transport lists live consumers only");
        let consumer = &mut producer.consumers[place.position];
        if consumer.limit() == limit {
            return;
        }
        let before = consumer.current();
        consumer.set_limit(limit);
        let down = match (before, limit) {
            (Some(before), Limit::Layers(layers)) => layers.spatial < before && producer.state.sending.contains(before),
            (Some(_), Limit::Nothing) => true,
            _ => false,
        };
        let (producer, place, events) = self.consumer_mut(id).expect("it was there a moment ago");
        producer.choose(now, place.position, events);
        self.watch(now, place.producer);
        if down && let Some(transport) = self.transports.get_mut(place.transport) {
            let entry = transport.consumers.iter_mut().find(|entry| entry.consumer == id);
            entry.expect("a transport lists its consumers").holds_until = Some(now + HOLD);
        }
    }
}
