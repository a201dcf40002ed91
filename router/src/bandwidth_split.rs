//! How a transport's bandwidth is split among its consumers: which layers each of them is to send.
//!
//! Layer by layer, after mediasoup (`Transport::DistributeAvailableOutgoingBitrate`, `SimulcastConsumer::IncreaseLayer`): a
//! first pass offers each consumer one step, in order of priority, so that as many as possible send something at all; every
//! later pass offers each as many steps as its priority says, until nobody can take another. A step is the next temporal
//! layer, or behind the last of them the base of the next spatial layer that is being sent. A step that does not fit is not
//! taken, and the next consumer is asked.
//!
//! **Invariants.**
//! - What is given out is never more than the budget, which is never less than [`MIN_AVAILABLE`].
//! - Nobody gets more than the preferred layers, or a layer that is not being sent.
//! - Of two that want the same, the one of higher priority gets no less.
//! - With more budget, whoever is first in order and has something in one case only has it with more.
//!
//! **Deviations from mediasoup.** It gives a consumer a layer above the preferred one if no lower one is being sent; here
//! it gets none. Of equal priority it serves the last first; here the order is that of the list.
//!
//! What it does not do: measure. What layers take, and whether an upgrade must wait, is told by the caller.

use lenscast_media::{Bitrate, LayerSet};

use crate::{Layers, Priority};

/// What a transport is taken to carry before its congestion control has said anything (mediasoup's
/// `initialAvailableOutgoingBitrate`).
pub const INITIAL_AVAILABLE: Bitrate = Bitrate::from_kbps(600);

/// What a transport is taken to carry at least: with less, nothing could ever be measured
/// (`TransportCongestionControlClient`, `MinBitrate`).
pub const MIN_AVAILABLE: Bitrate = Bitrate::from_kbps(30);

/// One consumer's part in a split.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerDemand {
    /// How much it matters: the steps it may take in each pass but the first.
    pub priority: Priority,
    /// The most it is to get.
    pub preferred: Layers,
    /// What its layers take.
    pub bitrates: LayerBitrates,
    /// The spatial layers that can be had.
    pub sending: LayerSet,
    /// What it forwards now.
    pub current: Option<Layers>,
    /// True for a while after it had to come down: it is not to go above the current spatial layer while it can have that
    /// or a lower one.
    pub holds: bool,
}

/// What each layer of a stream takes: a spatial layer with the temporal layers up to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBitrates {
    cumulative: [[Bitrate; Self::MAX_TEMPORAL]; Self::MAX_SPATIAL],
    spatial: u8,
    temporal: u8,
}

impl LayerBitrates {
    /// Spatial layers of a stream at most.
    pub const MAX_SPATIAL: usize = crate::ProducerParameters::MAX_ENCODINGS;
    /// Temporal layers of a stream at most: what WebRTC's scalability modes and VP8's 2-bit identifier allow.
    pub const MAX_TEMPORAL: usize = 4;

    /// A stream with this many layers, at least one of each, that take nothing yet.
    #[must_use]
    pub fn new(spatial: u8, temporal: u8) -> Self {
        Self {
            cumulative: [[Bitrate::ZERO; Self::MAX_TEMPORAL]; Self::MAX_SPATIAL],
            spatial: spatial.clamp(1, Self::MAX_SPATIAL as u8),
            temporal: temporal.clamp(1, Self::MAX_TEMPORAL as u8),
        }
    }

    /// Says what `layers.spatial` takes with the temporal layers up to and including `layers.temporal`: what was measured,
    /// or, of a layer that nobody has had yet, what is expected. Layers that the stream does not have are ignored.
    pub fn set(&mut self, layers: Layers, bitrate: Bitrate) {
        if layers.spatial < self.spatial && layers.temporal < self.temporal {
            self.cumulative[usize::from(layers.spatial)][usize::from(layers.temporal)] = bitrate;
        }
    }

    /// The same for building one.
    #[must_use]
    pub fn with(mut self, layers: Layers, bitrate: Bitrate) -> Self {
        self.set(layers, bitrate);
        self
    }

    /// What forwarding these layers takes; nothing if there are none such.
    #[must_use]
    pub fn of(&self, layers: Layers) -> Bitrate {
        let row = self.cumulative.get(usize::from(layers.spatial));
        row.and_then(|row| row.get(usize::from(layers.temporal))).copied().unwrap_or(Bitrate::ZERO)
    }
}

/// The layers that each consumer is to forward, in the order of `demands`; `None` for nothing.
#[must_use]
pub fn split(available: Bitrate, demands: &[ConsumerDemand]) -> Vec<Option<Layers>> {
    let mut given: Vec<Option<Layers>> = vec![None; demands.len()];
    let mut left = available.max(MIN_AVAILABLE);
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(demands[index].priority));
    let mut first_pass = true;
    loop {
        let mut took = false;
        for &index in &order {
            let demand = &demands[index];
            let steps = if first_pass { 1 } else { demand.priority.value() };
            for _ in 0..steps {
                let Some((layers, cost)) = demand.next_step(given[index]).filter(|(_, cost)| *cost <= left) else {
                    break;
                };
                given[index] = Some(layers);
                left = Bitrate::from_bps(left.as_bps() - cost.as_bps());
                took = true;
            }
        }
        if !took {
            return given;
        }
        first_pass = false;
    }
}

impl ConsumerDemand {
    /// The next layers above `given`, and what they take beyond it.
    fn next_step(&self, given: Option<Layers>) -> Option<(Layers, Bitrate)> {
        let next = match given {
            None => Layers { spatial: self.spatial_from(0, false)?, temporal: 0 },
            Some(given) if given.temporal < self.highest_temporal(given.spatial) => {
                Layers { temporal: given.temporal + 1, ..given }
            }
            Some(given) => Layers { spatial: self.spatial_from(given.spatial + 1, self.holds)?, temporal: 0 },
        };
        let before = given.map_or(0, |given| self.bitrates.of(given).as_bps());
        // A base layer may take less than the whole of the layer below. Nothing is given back for it: what is left never
        // grows, and so nobody of lower priority can have what was denied to somebody before.
        Some((next, Bitrate::from_bps(self.bitrates.of(next).as_bps().saturating_sub(before))))
    }

    /// The lowest spatial layer from `lowest` on that can be had.
    fn spatial_from(&self, lowest: u8, holds: bool) -> Option<u8> {
        let held = self.current.filter(|_| holds).map_or(u8::MAX, |current| current.spatial);
        let highest = self.preferred.spatial.min(self.bitrates.spatial - 1).min(held);
        self.sending.iter().find(|layer| (lowest..=highest).contains(layer))
    }

    /// The preferred number of frames counts for the preferred size; of smaller sizes all frames are sent before a larger
    /// one is tried.
    fn highest_temporal(&self, spatial: u8) -> u8 {
        let all = self.bitrates.temporal - 1;
        if spatial >= self.preferred.spatial.min(self.bitrates.spatial - 1) {
            self.preferred.temporal.min(all)
        } else {
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn layers(spatial: u8, temporal: u8) -> Layers {
        Layers { spatial, temporal }
    }

    fn kbps(kbps: u64) -> Bitrate {
        Bitrate::from_kbps(kbps)
    }

    /// Two sizes with two frame rates each: 100, 150, 400 and 600 kb/s.
    fn camera(priority: u8) -> ConsumerDemand {
        ConsumerDemand {
            priority: Priority::new(priority).unwrap(),
            preferred: Layers::HIGHEST,
            bitrates: LayerBitrates::new(2, 2)
                .with(layers(0, 0), kbps(100))
                .with(layers(0, 1), kbps(150))
                .with(layers(1, 0), kbps(400))
                .with(layers(1, 1), kbps(600)),
            sending: LayerSet::all(2),
            current: None,
            holds: false,
        }
    }

    #[test]
    fn everybody_gets_one_layer_before_anybody_gets_two() {
        let given = split(kbps(220), &[camera(1), camera(255)]);
        assert_eq!(given, [Some(layers(0, 0)), Some(layers(0, 0))]);
    }

    #[test]
    fn the_first_layer_goes_by_priority() {
        assert_eq!(split(kbps(120), &[camera(1), camera(2)]), [None, Some(layers(0, 0))]);
        assert_eq!(split(kbps(120), &[camera(2), camera(2)]), [Some(layers(0, 0)), None], "of equals the first");
    }

    #[test]
    fn later_passes_offer_as_many_layers_as_the_priority_says() {
        // After the first pass 600 are left. Priority 3 takes three steps at once: 50, 250 and 200.
        assert_eq!(split(kbps(800), &[camera(1), camera(3)]), [Some(layers(0, 1)), Some(layers(1, 1))]);
        // With priority 1 each they take turns: 50 each, then 250 each.
        assert_eq!(split(kbps(800), &[camera(1), camera(1)]), [Some(layers(1, 0)), Some(layers(1, 0))]);
    }

    #[test]
    fn enough_for_all_gives_all_what_they_prefer() {
        let some = ConsumerDemand { preferred: layers(1, 0), ..camera(1) };
        assert_eq!(split(kbps(1_000), &[camera(1), some]), [Some(layers(1, 1)), Some(layers(1, 0))]);
    }

    #[test]
    fn what_is_not_being_sent_is_skipped() {
        let only_large = ConsumerDemand { sending: LayerSet::only(1), ..camera(1) };
        assert_eq!(split(kbps(450), &[only_large]), [Some(layers(1, 0))]);
        assert_eq!(split(kbps(350), &[only_large]), [None]);
        let small = ConsumerDemand { preferred: layers(0, 1), ..only_large };
        assert_eq!(split(kbps(1_000), &[small]), [None], "nothing above what is preferred");
        assert_eq!(split(kbps(1_000), &[ConsumerDemand { sending: LayerSet::EMPTY, ..camera(1) }]), [None]);
    }

    #[test]
    fn after_a_downgrade_the_larger_layer_waits() {
        let held = ConsumerDemand { current: Some(layers(0, 1)), holds: true, ..camera(1) };
        assert_eq!(split(kbps(1_000), &[held]), [Some(layers(0, 1))]);
        assert_eq!(split(kbps(1_000), &[ConsumerDemand { holds: false, ..held }]), [Some(layers(1, 1))]);
        let gone = ConsumerDemand { sending: LayerSet::only(1), ..held };
        assert_eq!(split(kbps(1_000), &[gone]), [Some(layers(1, 1))], "but it is better than nothing");
    }

    #[test]
    fn there_are_never_less_than_thirty_kilobits() {
        let thin = ConsumerDemand { bitrates: LayerBitrates::new(1, 1).with(layers(0, 0), kbps(30)), ..camera(1) };
        assert_eq!(split(Bitrate::ZERO, &[thin]), [Some(layers(0, 0))]);
        assert_eq!(split(Bitrate::ZERO, &[thin, thin]), [Some(layers(0, 0)), None]);
    }

    #[test]
    fn nobody_wants_anything() {
        assert_eq!(split(kbps(600), &[]), []);
    }

    fn any_demand() -> impl Strategy<Value = ConsumerDemand> {
        let shape = (1_u8..=4, 1_u8..=4);
        let rates = prop::collection::vec(0_u64..400, LayerBitrates::MAX_SPATIAL * LayerBitrates::MAX_TEMPORAL);
        let current = prop::option::of((0_u8..4, 0_u8..4));
        let rest = (1_u8..=6, (0_u8..5, 0_u8..5), 0_u8..16, current, any::<bool>());
        (shape, rates, rest).prop_map(|((spatial, temporal), rates, (priority, preferred, sending, current, holds))| {
            let mut bitrates = LayerBitrates::new(spatial, temporal);
            for (index, rate) in (0_u8..).zip(rates) {
                bitrates.set(layers(index / 4, index % 4), kbps(rate));
            }
            ConsumerDemand {
                priority: Priority::new(priority).unwrap(),
                preferred: layers(preferred.0, preferred.1),
                bitrates,
                sending: LayerSet::from_bits(sending),
                current: current.map(|(spatial, temporal)| layers(spatial, temporal)),
                holds,
            }
        })
    }

    fn demands() -> impl Strategy<Value = Vec<ConsumerDemand>> {
        prop::collection::vec(any_demand(), 0..8)
    }

    fn total(demands: &[ConsumerDemand], given: &[Option<Layers>]) -> u64 {
        let taken =
            demands.iter().zip(given).filter_map(|(demand, given)| Some(demand.bitrates.of((*given)?).as_bps()));
        taken.sum()
    }

    /// The same with each layer taking more than all below it.
    fn rising(demand: ConsumerDemand) -> ConsumerDemand {
        let mut bitrates = demand.bitrates;
        let mut sum = 0;
        for spatial in 0..bitrates.spatial {
            for temporal in 0..bitrates.temporal {
                sum += bitrates.of(layers(spatial, temporal)).as_kbps();
                bitrates.set(layers(spatial, temporal), kbps(sum));
            }
        }
        ConsumerDemand { bitrates, ..demand }
    }

    proptest! {
        #[test]
        fn the_budget_is_kept_and_nobody_gets_what_it_cannot_have(demands in demands(), available in 0_u64..5_000) {
            let given = split(kbps(available), &demands);
            prop_assert!(total(&demands, &given) <= kbps(available).max(MIN_AVAILABLE).as_bps());
            for (demand, given) in demands.iter().zip(&given) {
                let Some(given) = given else { continue };
                prop_assert!(demand.sending.contains(given.spatial) && given.spatial <= demand.preferred.spatial);
                prop_assert!(given.spatial < demand.bitrates.spatial && given.temporal < demand.bitrates.temporal);
                prop_assert!(given.spatial < demand.preferred.spatial.min(demand.bitrates.spatial - 1) || given.temporal <= demand.preferred.temporal);
            }
            prop_assert_eq!(split(kbps(available), &demands), given, "the same again");
        }

        /// Where each step takes more than the one before, what is left is too little for anybody's next.
        #[test]
        fn nothing_is_left_that_somebody_could_have(demands in demands(), available in 0_u64..5_000) {
            let demands: Vec<_> = demands.into_iter().map(rising).collect();
            let given = split(kbps(available), &demands);
            let left = kbps(available).max(MIN_AVAILABLE).as_bps() - total(&demands, &given);
            for (demand, given) in demands.iter().zip(&given) {
                prop_assert!(demand.next_step(*given).is_none_or(|(_, cost)| cost.as_bps() > left));
            }
        }

        #[test]
        fn with_more_budget_one_consumer_gets_no_less(demand in any_demand(), less in 0_u64..3_000, more in 0_u64..3_000) {
            let with_less = split(kbps(less), &[demand])[0];
            let with_more = split(kbps(less + more), &[demand])[0];
            prop_assert!(with_more >= with_less);
        }

        /// Of many, each single one may get less with more budget, because one before it now gets more. But the first in
        /// order who has something in one case only has it with more.
        #[test]
        fn with_more_budget_the_first_who_gains_or_loses_gains(demands in demands(), less in 0_u64..3_000, more in 0_u64..3_000) {
            let with_less = split(kbps(less), &demands);
            let with_more = split(kbps(less + more), &demands);
            let mut order: Vec<usize> = (0..demands.len()).collect();
            order.sort_by_key(|&index| std::cmp::Reverse(demands[index].priority));
            let first = order.into_iter().find(|&index| with_less[index].is_some() != with_more[index].is_some());
            prop_assert!(first.is_none_or(|index| with_more[index].is_some()));
        }

        #[test]
        fn of_two_that_want_the_same_the_more_important_gets_no_less(
            others in demands(), demand in any_demand(), low in 1_u8..6, above in 1_u8..6, available in 0_u64..5_000
        ) {
            let with = |priority| ConsumerDemand { priority: Priority::new(priority).unwrap(), ..demand };
            let mut demands = others;
            demands.push(with(low));
            demands.push(with(low + above));
            let given = split(kbps(available), &demands);
            prop_assert!(given[demands.len() - 1] >= given[demands.len() - 2]);
        }

        #[test]
        fn enough_for_all_gives_all_the_best_they_can_have(demands in demands()) {
            let demands: Vec<_> = demands.into_iter().map(|demand| ConsumerDemand { holds: false, ..demand }).collect();
            for (demand, given) in demands.iter().zip(split(Bitrate::UNLIMITED, &demands)) {
                let highest = demand.preferred.spatial.min(demand.bitrates.spatial - 1);
                let spatial = demand.sending.highest_at_most(highest);
                prop_assert_eq!(given, spatial.map(|spatial| layers(spatial, demand.highest_temporal(spatial))));
            }
        }
    }
}
