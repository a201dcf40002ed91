//! What a worker does for the congestion control of its viewers' legs.
//!
//! **Invariant.** The list of those that press is empty after each call that can fill it.

use std::time::Instant;

use lenscast_congestion::EstimateBounds;
use lenscast_router::TransportId;

use super::{Hub, Wire};
use crate::leg::{LegControl, LegMedia};
use crate::{LegPlan, PreferredLayers};

impl Hub {
    /// What a leg is given from now on. What has ended needs nothing.
    pub(super) fn apply_plan(&mut self, now: Instant, plan: &LegPlan) {
        let Some(control) = self.legs.control_mut(plan.id) else { return };
        control.set_plan(now, plan.limit, plan.wanted);
        let Some(leg) = self.legs.sessions.get(&plan.id) else { return };
        for (consumer, layers) in &plan.media {
            if leg.role.consumers().any(|own| own == *consumer) {
                let ceiling = layers.map(|layers| PreferredLayers::or_highest(Some(layers)));
                // One that has ended needs none.
                let _ = self.router.set_layer_ceiling(now, *consumer, ceiling);
            }
        }
        self.legs.pressing.push(plan.id);
    }

    /// Between which bounds all legs' estimates stay from now on.
    pub(super) fn set_bounds(&mut self, now: Instant, bounds: EstimateBounds) {
        self.bounds = bounds;
        for control in self.legs.controls.iter_mut().flatten() {
            control.set_bounds(now, bounds);
        }
        self.legs.pressing.extend(self.legs.sessions.keys());
    }

    /// Looks at all that press.
    pub(super) fn attend_all(&mut self, now: Instant, wire: &mut impl Wire) {
        if self.legs.pressing.is_empty() {
            return;
        }
        self.legs.outbox.begin();
        while let Some(leg) = self.legs.pressing.pop() {
            self.attend(now, leg, wire);
        }
        self.legs.outbox.flush(wire);
    }

    /// Sends what of a leg is due, with padding where that is missing, notes when it is to be looked at again, and reports.
    fn attend(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) {
        let Some(control) = self.legs.control_mut(id) else { return };
        // What has just left, left after what led here came in.
        let now = wire.now(now);
        control.attend(now);
        while let Some(bytes) = self.legs.queue_due(now, id, wire) {
            self.router.pad(now, id, bytes, &mut self.legs.on(now, wire));
            if let Some(control) = self.legs.control_mut(id) {
                control.end_padding();
            }
        }
        self.report(now, id);
        let due = self.legs.control(id).and_then(LegControl::poll_timeout);
        self.legs.attention.set(id, due);
    }

    /// A leg has ended, and its report with it.
    pub(super) fn forget_report(&self, id: TransportId) {
        if self.board.take_down(id) {
            self.board.announce();
        }
    }

    /// Puts up what is known of a leg, once it is connected.
    fn report(&mut self, now: Instant, id: TransportId) {
        if self.legs.sessions.get(&id).is_none_or(|leg| leg.session.connected().is_none()) {
            return;
        }
        let media = self.router.videos_of(id).map(|video| LegMedia {
            consumer: video.consumer,
            producer: video.producer,
            preferred: PreferredLayers::from_router(video.preferred),
            layer: video.layers.map(|layers| layers.spatial),
            paused: video.is_paused,
        });
        let media = media.collect();
        let round_trip = self.router.consumer_stats(id).filter_map(|(_, _, stats)| stats.round_trip_time).min();
        let Some(control) = self.legs.control_mut(id) else { return };
        if let Some((report, is_told)) = control.report(now, id, media, round_trip) {
            self.board.put(report);
            if is_told {
                self.board.announce();
            }
        }
    }
}
