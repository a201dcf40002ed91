use std::sync::Arc;

use lenscast_media::{Burst, LayerSet};

use crate::encoding::Continuity;
use crate::{Egress, Inbound, OutletId, OutletLink, ProducerId, ProducerKey, RouterId, StreamState};

/// The way from a producer to one mirror of it.
///
/// **Invariants.** States arrive in order, and the newest always arrives: one that finds the channel full is sent before
/// anything else. Bursts that find it full are gone and counted, and the next of that layer says so.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) id: OutletId,
    key: ProducerKey,
    pub(crate) link: Arc<OutletLink>,
    unsent: Option<StreamState>,
    /// Layers of which bursts were lost since the last that got through.
    broken: LayerSet,
    pub(crate) stats: OutletStats,
}

/// What is known of the way to one mirror.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutletStats {
    /// Bursts that went.
    pub bursts: u64,
    /// Bursts that found the channel full.
    pub bursts_refused: u64,
    /// Changes of state that went.
    pub states: u64,
    /// Times that a state found the channel full, and had to be sent again.
    pub states_refused: u64,
}

impl Outlet {
    pub(crate) fn new(destination: RouterId, producer: ProducerId, link: Arc<OutletLink>) -> Self {
        Self {
            id: link.outlet(),
            key: ProducerKey { router: destination, producer },
            link,
            unsent: None,
            broken: LayerSet::EMPTY,
            stats: OutletStats::default(),
        }
    }

    pub(crate) const fn destination(&self) -> RouterId {
        self.key.router
    }

    pub(crate) const fn mirror(&self) -> ProducerKey {
        self.key
    }

    /// True if a state waits for room.
    pub(crate) const fn is_behind(&self) -> bool {
        self.unsent.is_some()
    }

    /// Sends a state, or keeps it until there is room. An unsent older one is of no use any more.
    pub(crate) fn send_state(&mut self, state: StreamState, egress: &mut impl Egress) {
        self.unsent = Some(state);
        self.flush(egress);
    }

    /// Tries again. True if nothing is left to be sent.
    pub(crate) fn flush(&mut self, egress: &mut impl Egress) -> bool {
        let Some(state) = self.unsent else { return true };
        if !egress.send_inbound(self.id, Inbound::State { key: self.key, outlet: Some(self.id), state }) {
            self.stats.states_refused += 1;
            return false;
        }
        self.stats.states += 1;
        self.unsent = None;
        true
    }

    /// Sends a burst if the mirror wants its layer.
    pub(crate) fn send_burst(
        &mut self,
        layer: u8,
        continuity: Continuity,
        burst: &Arc<Burst>,
        egress: &mut impl Egress,
    ) {
        if continuity == Continuity::Breaks {
            self.broken = self.broken.with(layer);
        }
        if !self.link.wanted().contains(layer) {
            return;
        }
        if continuity == Continuity::Late && self.broken.contains(layer) {
            // It fills a gap before the break, where nobody can go on, and the break is not where it is.
            self.stats.bursts_refused += 1;
            return;
        }
        let message = Inbound::Burst {
            key: self.key,
            outlet: Some(self.id),
            layer,
            broken: self.broken.contains(layer),
            burst: Arc::clone(burst),
        };
        if self.flush(egress) && egress.send_inbound(self.id, message) {
            self.broken = self.broken.without(layer);
            self.stats.bursts += 1;
        } else {
            self.broken = self.broken.with(layer);
            self.stats.bursts_refused += 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::producer::tests::burst;
    use crate::{RtpPackets, TransportSlot, Upstream};

    /// Room for some messages, and those that took it.
    #[derive(Default)]
    struct Channel {
        room: usize,
        sent: Vec<(u64, bool)>,
    }

    impl Egress for Channel {
        fn send_rtp(&mut self, _: TransportSlot, _: &RtpPackets<'_>) {}

        fn send_rtcp(&mut self, _: TransportSlot, _: &[u8]) {}

        fn send_inbound(&mut self, _: OutletId, message: Inbound) -> bool {
            let Some(room) = self.room.checked_sub(1) else { return false };
            self.room = room;
            if let Inbound::Burst { broken, burst, .. } = message {
                self.sent.push((burst.meta().first_packet, broken));
            }
            true
        }
    }

    const FOLLOWS: Continuity = Continuity::Follows { missing: 0 };

    #[test]
    fn a_late_burst_is_of_no_use_behind_a_break() {
        let link = Arc::new(OutletLink::new(OutletId(1), |_| {}));
        link.set_wanted(LayerSet::only(0));
        let mut outlet = Outlet::new(RouterId(2), ProducerId(1), link);
        let mut channel = Channel::default();
        let now = Instant::now();
        let mut send =
            |first: u64, fits: Continuity| outlet.send_burst(0, fits, &burst(first, 1, false, now), &mut channel);
        send(5, FOLLOWS);
        send(3, Continuity::Late);
        channel.room = 9;
        let mut send =
            |first: u64, fits: Continuity| outlet.send_burst(0, fits, &burst(first, 1, false, now), &mut channel);
        send(4, Continuity::Late);
        send(6, FOLLOWS);
        send(2, Continuity::Late);
        assert_eq!(channel.sent, [(6, true), (2, false)]);
        assert_eq!((outlet.stats.bursts, outlet.stats.bursts_refused), (2, 3));
    }
}
