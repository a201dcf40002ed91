//! What holds for every allocation, whatever the demands.

use lenscast_congestion::{
    Allocation, Allocator, Budget, Demand, LayerDemand, Layers, MAX_LAYERS, Overhead, Share, ShareState, allocate,
};
use lenscast_media::{Bitrate, TrackId};
use proptest::prelude::*;

/// Rates as cameras have them, and the ends of what can be said.
fn any_rate() -> impl Strategy<Value = Bitrate> {
    prop_oneof![
        8 => (0_u64..5_000_000).prop_map(Bitrate::from_bps),
        1 => any::<u64>().prop_map(Bitrate::from_bps),
        1 => prop::sample::select(vec![0, 1, 99_999_999_999, 100_000_000_000, u64::MAX - 1, u64::MAX]).prop_map(Bitrate::from_bps),
    ]
}

fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.01_f64..50.0, 1 => prop::num::f64::ANY, 1 => Just(1.0), 1 => Just(0.0)]
}

fn any_layers() -> impl Strategy<Value = Layers> {
    let layer = (any_rate(), any_rate(), any_rate(), prop::bool::weighted(0.8))
        .prop_map(|(min, target, max, active)| LayerDemand { min, target, max, active });
    let several = prop::collection::vec(layer, 1..=MAX_LAYERS);
    prop_oneof![Just(Layers::one()), several.prop_map(|layers| Layers::new(&layers).expect("one to three layers"))]
}

prop_compose! {
    fn any_demand()(
        track in 0_u32..12,
        weight in any_number(),
        (min, max) in (any_rate(), any_rate()),
        active in prop::bool::weighted(0.9),
        enforced in prop::bool::weighted(0.1),
        framerate in any_number(),
        layers in any_layers(),
    ) -> Demand {
        Demand { track: TrackId(track), weight, min, max, active, enforced, framerate, layers }
    }
}

prop_compose! {
    fn any_budget()(
        total in any_rate(),
        packet_bytes in prop_oneof![4 => 0_u32..100, 1 => any::<u32>()],
        payload_bytes in prop_oneof![4 => 500_u32..1_500, 1 => any::<u32>(), 1 => Just(0)],
        retransmission in prop_oneof![4 => 0.0..0.3, 1 => prop::num::f64::ANY],
        fec in prop_oneof![4 => 0.0..0.3, 1 => prop::num::f64::ANY],
        audio in any::<bool>(),
    ) -> Budget {
        Budget { total, overhead: Overhead { packet_bytes, payload_bytes, retransmission, fec, audio } }
    }
}

/// Budgets, each with the demands of that moment.
fn any_history() -> impl Strategy<Value = Vec<(Budget, Vec<Demand>)>> {
    let demands = || prop::collection::vec(any_demand(), 0..10);
    let same = (demands(), prop::collection::vec(any_budget(), 1..6))
        .prop_map(|(demands, budgets)| budgets.into_iter().map(|budget| (budget, demands.clone())).collect());
    prop_oneof![prop::collection::vec((any_budget(), demands()), 1..6), same]
}

/// Demands without enforced minima and with minima that their lowest layer can use, as cameras have them.
fn camera_demands() -> impl Strategy<Value = Vec<Demand>> {
    let layers = prop_oneof![
        2 => Just(None),
        1 => prop::collection::vec((1_u64..800, 1_u64..1_500, 1_u64..1_500), 1..=MAX_LAYERS).prop_map(Some),
    ];
    let demand = (prop_oneof![0.1_f64..10.0, Just(1.0)], 1_u64..600, 0_u64..3_000, layers);
    prop::collection::vec(demand, 1..12).prop_map(|demands| {
        let demands = demands.into_iter().enumerate().map(|(index, (weight, min, span, layers))| {
            let kbps = Bitrate::from_kbps;
            let layer = |&(min, target, span): &(u64, u64, u64)| LayerDemand {
                min: kbps(min),
                target: kbps(min + target),
                max: kbps(min + target + span),
                active: true,
            };
            let layers = layers.map(|layers| layers.iter().map(layer).collect::<Vec<_>>());
            let min = layers.as_ref().map_or(min, |layers| layers[0].max.as_kbps().min(min));
            Demand {
                track: TrackId(index as u32),
                weight,
                min: kbps(min),
                max: kbps(min + span),
                active: true,
                enforced: false,
                framerate: 30.0,
                layers: layers.map_or(Layers::one(), |layers| Layers::new(&layers).expect("one to three layers")),
            }
        });
        demands.collect()
    })
}

fn camera_overhead() -> impl Strategy<Value = Overhead> {
    (0_u32..100, 0.0..0.3, any::<bool>()).prop_map(|(packet_bytes, retransmission, audio)| Overhead {
        packet_bytes,
        payload_bytes: 1_150,
        retransmission,
        fec: 0.0,
        audio,
    })
}

/// What `demand` can use, by its bounds and those of its layers.
fn usable(demand: &Demand) -> u64 {
    let layers = demand.layers.as_slice().iter().filter(|layer| layer.active);
    let layers = layers.fold(0_u64, |sum, layer| sum.saturating_add(layer.max.as_bps()));
    demand.max.max(demand.min).as_bps().min(layers)
}

/// The demand of each share; the tests that use it have one demand a track.
fn demand_of<'a>(share: &Share, demands: &'a [Demand]) -> &'a Demand {
    demands.iter().find(|demand| demand.track == share.track).expect("a share has a demand")
}

fn one_a_track(mut demands: Vec<Demand>) -> Vec<Demand> {
    for (index, demand) in demands.iter_mut().enumerate() {
        demand.track = TrackId(index as u32);
    }
    demands
}

/// What targets take on the wire with all headers, in bits per second: partial packets come to a whole bit.
fn on_the_wire(targets: impl Iterator<Item = (u64, Demand)>, overhead: &Overhead) -> f64 {
    let (mut media, mut partial) = (0, 0);
    for (target, demand) in targets {
        let active = demand.layers.as_slice().iter().filter(|layer| layer.active && layer.max > Bitrate::ZERO).count();
        media += target;
        partial += (demand.framerate * 1_000.0) as u64 * active as u64 * u64::from(overhead.packet_bytes) * 8;
    }
    let headers = f64::from(overhead.packet_bytes) / f64::from(overhead.payload_bytes);
    media as f64 * (1.0 + headers + overhead.retransmission + overhead.fec) + partial.div_ceil(1_000) as f64
}

fn used(allocation: &Allocation, demands: &[Demand], overhead: &Overhead) -> f64 {
    let running = allocation.shares().iter().filter(|share| share.state == ShareState::Allocated);
    on_the_wire(running.map(|share| (share.target.as_bps(), *demand_of(share, demands))), overhead)
}

/// What holds from a budget to a greater one, with nothing held or paused before.
fn check_rise(
    less: &Allocation,
    more: &Allocation,
    demands: &[Demand],
    overhead: &Overhead,
) -> Result<(), TestCaseError> {
    let mut shares = less.shares().iter().zip(more.shares());
    if shares.clone().all(|(less, more)| less.state == more.state) {
        prop_assert!(shares.all(|(less, more)| less.target <= more.target));
    }
    prop_assert!(used(less, demands, overhead) <= used(more, demands, overhead) + 1e-3);
    Ok(())
}

proptest! {
    #[test]
    fn never_gives_more_than_there_is(history in any_history()) {
        let mut allocation = Allocation::default();
        for (budget, demands) in history {
            allocation = allocate(&budget, &demands, &allocation);
            let aside = allocation.audio().as_bps() + allocation.overhead().as_bps();
            prop_assert!(aside <= budget.total.as_bps());
            let enforced: u64 =
                demands.iter().filter(|demand| demand.enforced).map(|demand| usable(demand).min(demand.min.as_bps().clamp(1, 100_000_000_000))).sum();
            let free = (budget.total.as_bps() - aside).max(enforced);
            prop_assert!(allocation.total().as_bps() <= free, "{} of {free}", allocation.total().as_bps());
        }
    }

    #[test]
    fn every_share_keeps_its_bounds_and_its_layers_sum_to_it(history in any_history()) {
        let mut allocation = Allocation::default();
        for (budget, demands) in history {
            let demands = one_a_track(demands);
            allocation = allocate(&budget, &demands, &allocation);
            prop_assert_eq!(allocation.shares().len(), demands.len());
            prop_assert!(allocation.shares().is_sorted_by(|a, b| a.track < b.track));
            for share in allocation.shares() {
                let demand = demand_of(share, &demands);
                let target = share.target.as_bps();
                let asks = demand.active && demand.weight > 0.0 && demand.weight.is_finite() && usable(demand) > 0;
                prop_assert_eq!(share.state == ShareState::Inactive, !asks);
                prop_assert_eq!(share.state == ShareState::Allocated, target > 0);
                prop_assert!(target <= usable(demand));
                let lowest = demand.layers.as_slice().iter().find(|layer| layer.active && layer.max > Bitrate::ZERO);
                if share.state == ShareState::Allocated {
                    let lowest = lowest.expect("a track that runs has a layer").max.as_bps();
                    prop_assert!(target >= demand.min.as_bps().min(lowest).min(100_000_000_000).min(usable(demand)));
                }
                prop_assert_eq!(share.layers.iter().map(|rate| rate.as_bps()).sum::<u64>(), target);
                for (index, rate) in share.layers.iter().enumerate() {
                    let max = demand.layers.as_slice().get(index).filter(|layer| layer.active).map_or(0, |layer| layer.max.as_bps());
                    prop_assert!(rate.as_bps() <= max);
                }
            }
        }
    }

    /// While the same tracks run nobody's target falls. Where others begin to run their headers may take media from the sum,
    /// but nothing from what all take on the wire.
    #[test]
    fn a_greater_budget_never_gives_less_in_all(
        demands in camera_demands(), overhead in camera_overhead(), totals in prop::collection::vec(0_u64..20_000_000, 2..20),
    ) {
        let mut totals = totals;
        totals.extend(totals.clone().iter().map(|total| total + 1));
        totals.sort_unstable();
        let given = |total: &u64| allocate(&Budget { total: Bitrate::from_bps(*total), overhead }, &demands, &Allocation::default());
        for pair in totals.windows(2) {
            check_rise(&given(&pair[0]), &given(&pair[1]), &demands, &overhead)?;
        }
    }

    /// At the budgets where one more track begins to run, too, which arbitrary ones miss.
    #[test]
    fn a_greater_budget_never_gives_less_where_tracks_change(
        demands in camera_demands(), overhead in camera_overhead(), chosen in any::<u16>(), headers in any::<bool>(),
    ) {
        let packet_bytes = if headers { overhead.packet_bytes } else { 0 };
        let overhead = Overhead { packet_bytes, audio: false, ..overhead };
        let chosen: Vec<&Demand> =
            demands.iter().enumerate().filter(|(index, _)| chosen & (1 << index) != 0).map(|(_, demand)| demand).collect();
        let edge = on_the_wire(chosen.iter().map(|demand| (demand.min.as_bps(), **demand)), &overhead) as u64;
        let given = |total| allocate(&Budget { total: Bitrate::from_bps(total), overhead }, &demands, &Allocation::default());
        for total in edge.saturating_sub(3)..edge + 3 {
            let (less, more) = (given(total), given(total + 1));
            check_rise(&less, &more, &demands, &overhead)?;
            prop_assert!(headers || less.total() <= more.total());
        }
    }

    /// What runs fits on the wire with all its headers.
    #[test]
    fn headers_fit_too(demands in camera_demands(), overhead in camera_overhead(), total in 0_u64..20_000_000) {
        let budget = Budget { total: Bitrate::from_bps(total), overhead };
        let allocation = allocate(&budget, &demands, &Allocation::default());
        let taken = used(&allocation, &demands, &overhead) + allocation.audio().as_bps() as f64;
        prop_assert!(taken <= total as f64 + 1e-3, "{taken} of {total}");
    }

    /// Without a track that paused, everything is as it was with it. Neither its minimum nor its headers take anything.
    #[test]
    fn who_pauses_costs_the_others_nothing(
        history in any_history(), cameras in camera_demands(), overhead in camera_overhead(), total in 0_u64..3_000_000,
    ) {
        let mut history = history;
        let budget = Budget { total: Bitrate::from_bps(total), overhead };
        history.extend([(budget, cameras.clone()), (Budget { total: Bitrate::from_bps(total * 2), ..budget }, cameras)]);
        let mut before = Allocation::default();
        for (budget, demands) in history {
            let demands = one_a_track(demands);
            let with = allocate(&budget, &demands, &before);
            let is_paused = |demand: &Demand| with.share(demand.track).is_some_and(|share| share.state == ShareState::Paused);
            let one = demands.iter().find(|demand| is_paused(demand)).map(|demand| demand.track);
            let keeps: [&dyn Fn(&Demand) -> bool; 2] = [&|demand| Some(demand.track) != one, &|demand| !is_paused(demand)];
            for keeps in keeps {
                let rest: Vec<Demand> = demands.iter().copied().filter(keeps).collect();
                let without = allocate(&budget, &rest, &before);
                prop_assert_eq!(with.overhead(), without.overhead());
                for demand in rest {
                    prop_assert_eq!(with.share(demand.track), without.share(demand.track));
                }
            }
            before = with;
        }
    }

    /// All but rounding of the budget is used, or nobody can use more. With one layer a track nothing lies between layers.
    #[test]
    fn uses_the_budget_up(demands in camera_demands(), overhead in camera_overhead(), total in 0_u64..20_000_000) {
        let demands: Vec<Demand> = demands.into_iter().map(|demand| Demand { layers: Layers::one(), ..demand }).collect();
        let budget = Budget { total: Bitrate::from_bps(total), overhead };
        let allocation = allocate(&budget, &demands, &Allocation::default());
        let left = total - allocation.audio().as_bps() - allocation.overhead().as_bps() - allocation.total().as_bps();
        for share in allocation.shares() {
            let demand = demand_of(share, &demands);
            match share.state {
                ShareState::Allocated => {
                    let at_max = share.target == demand.max;
                    prop_assert!(at_max || left < demands.len() as u64, "{left} left");
                    prop_assert_eq!(share.limited, !at_max);
                }
                // The others' minima and headers leave less than its own need.
                ShareState::Paused => {
                    let running = allocation.shares().iter().filter(|other| other.state == ShareState::Allocated)
                        .map(|other| demand_of(other, &demands));
                    let all = running.chain([demand]).map(|demand| (demand.min.as_bps(), *demand));
                    let video = total - allocation.audio().as_bps();
                    prop_assert!(on_the_wire(all, &overhead) > video as f64 - 1e-3);
                }
                ShareState::Inactive => prop_assert!(false, "every demand asks"),
            }
        }
    }

    #[test]
    fn targets_are_proportional_to_weights_between_bounds(demands in camera_demands(), total in 0_u64..20_000_000) {
        let demands: Vec<Demand> = demands.into_iter().map(|demand| Demand { layers: Layers::one(), ..demand }).collect();
        let overhead = Overhead { packet_bytes: 0, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };
        let budget = Budget { total: Bitrate::from_bps(total), overhead };
        let allocation = allocate(&budget, &demands, &Allocation::default());
        let running = || allocation.shares().iter().filter(|share| share.state == ShareState::Allocated);
        // Each track's target allows the levels from one rounding to the next; bounds open the side that they bind.
        let level = |share: &Share, bits: u64| bits as f64 / demand_of(share, &demands).weight;
        let least = |share: &Share| {
            if share.target == demand_of(share, &demands).min { 0.0 } else { level(share, share.target.as_bps()) }
        };
        let most = |share: &Share| {
            if share.target == demand_of(share, &demands).max { f64::INFINITY } else { level(share, share.target.as_bps() + 1) }
        };
        for one in running() {
            for other in running() {
                prop_assert!(least(one) <= most(other) * (1.0 + 1e-9), "no level gives both {one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn the_order_of_demands_makes_no_difference(
        (demands, shuffled) in prop::collection::vec(any_demand(), 0..10).prop_flat_map(|demands| (Just(demands.clone()), Just(demands).prop_shuffle())),
        budgets in prop::collection::vec(any_budget(), 1..5),
    ) {
        let (mut one, mut other) = (Allocation::default(), Allocation::default());
        for budget in budgets {
            one = allocate(&budget, &demands, &one);
            other = allocate(&budget, &shuffled, &other);
            prop_assert_eq!(&one, &other);
        }
    }

    /// What an allocator keeps makes no difference.
    #[test]
    fn an_update_gives_what_allocate_gives(history in any_history(), release in any::<bool>()) {
        let mut allocator = Allocator::new();
        let mut updated = Allocation::default();
        for (budget, demands) in history {
            if release {
                updated.release_held();
            }
            let allocated = allocate(&budget, &demands, &updated);
            allocator.update(&budget, &demands, &mut updated);
            prop_assert_eq!(&allocated, &updated);
        }
    }

    /// The budget trembles by up to ±3 % in a pattern that repeats. Each round can settle one more track at least; then
    /// nobody pauses or resumes any more.
    #[test]
    fn nobody_flaps_where_the_budget_trembles(
        demands in camera_demands(), overhead in camera_overhead(), level in 1_u64..10_000_000,
        noise in prop::collection::vec(-0.03..=0.03, 0..12),
    ) {
        let noise: Vec<f64> = noise.into_iter().chain([-0.03, 0.03]).collect();
        let mut allocation = Allocation::default();
        let mut round = || {
            let mut changes = 0;
            for part in &noise {
                let total = Bitrate::from_bps((level as f64 * (1.0 + part)) as u64);
                let next = allocate(&Budget { total, overhead }, &demands, &allocation);
                let states = |of: &Allocation| of.shares().iter().map(|share| share.state).collect::<Vec<_>>();
                changes += usize::from(states(&next) != states(&allocation));
                allocation = next;
            }
            changes
        };
        for _ in 0..=demands.len() {
            round();
        }
        prop_assert_eq!(round(), 0);
    }

    /// A steady budget settles at once: the second allocation is the first.
    #[test]
    fn the_same_again_gives_the_same(demands in prop::collection::vec(any_demand(), 0..10), budget in any_budget()) {
        let first = allocate(&budget, &demands, &Allocation::default());
        let second = allocate(&budget, &demands, &first);
        prop_assert_eq!(&allocate(&budget, &demands, &second), &second);
        prop_assert_eq!(first.shares(), second.shares());
    }

    /// A target rises by 5 % or more, or to all that its bounds or the layers that are on can use, or not at all.
    #[test]
    fn no_target_rises_a_little(demands in camera_demands(), totals in prop::collection::vec(500_000_u64..5_000_000, 2..20)) {
        let overhead = Overhead { packet_bytes: 0, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };
        let mut allocation = Allocation::default();
        for total in totals {
            let next = allocate(&Budget { total: Bitrate::from_bps(total), overhead }, &demands, &allocation);
            for (before, now) in allocation.shares().iter().zip(next.shares()) {
                let demand = demand_of(now, &demands);
                let on = demand.layers.as_slice().iter().zip(&now.layers).filter(|(_, rate)| **rate > Bitrate::ZERO);
                let most = on.map(|(layer, _)| layer.max.as_bps()).fold(0, u64::saturating_add).min(demand.max.as_bps());
                let (before, now) = (before.target.as_bps(), now.target.as_bps());
                prop_assert!(now <= before || before == 0 || now * 20 >= before * 21 || now == most);
            }
            allocation = next;
        }
    }

    /// Whatever was before: where there is room for all, everyone has all that it can use, and nobody is said to be limited.
    #[test]
    fn nobody_is_held_where_there_is_room_for_all(
        demands in camera_demands(), overhead in camera_overhead(), totals in prop::collection::vec(0_u64..20_000_000, 1..10),
        others in prop::collection::vec(0.9_f64..1.0, 12),
    ) {
        let mut before = Allocation::default();
        for total in totals {
            before = allocate(&Budget { total: Bitrate::from_bps(total), overhead }, &demands, &before);
        }
        // And those who had a maximum a little lower.
        let lower = demands.iter().zip(others).map(|(demand, part)| {
            let max = Bitrate::from_bps((demand.max.as_bps() as f64 * part) as u64);
            Demand { max: max.max(demand.min), ..*demand }
        });
        let plenty = Budget { total: Bitrate::UNLIMITED, overhead };
        let lower = allocate(&plenty, &lower.collect::<Vec<_>>(), &Allocation::default());
        let all = allocate(&plenty, &demands, &Allocation::default());
        for before in [before, lower] {
            let after = allocate(&plenty, &demands, &before);
            prop_assert_eq!(after.shares(), all.shares());
            prop_assert!(after.shares().iter().all(|share| !share.limited));
        }
    }

    /// Where nothing but the budget limits, a track that has less than it can use is said to be limited, and no other.
    #[test]
    fn limited_is_who_has_less_than_with_room_for_all(
        demands in camera_demands(), overhead in camera_overhead(), totals in prop::collection::vec(0_u64..20_000_000, 1..10),
    ) {
        let all = allocate(&Budget { total: Bitrate::UNLIMITED, overhead }, &demands, &Allocation::default());
        let mut allocation = Allocation::default();
        for total in totals {
            allocation = allocate(&Budget { total: Bitrate::from_bps(total), overhead }, &demands, &allocation);
            for (share, most) in allocation.shares().iter().zip(all.shares()) {
                prop_assert_eq!(share.limited, share.target < most.target);
            }
        }
    }

    /// What a person asks for depends on nothing before it.
    #[test]
    fn a_released_allocation_is_a_fresh_one(history in any_history(), budget in any_budget(), demands in prop::collection::vec(any_demand(), 0..10)) {
        let (last, mut before) = (history.last().map(|(_, demands)| demands.clone()), Allocation::default());
        for (budget, demands) in history {
            before = allocate(&budget, &demands, &before);
        }
        before.release_held();
        for demands in [Some(demands), last].into_iter().flatten() {
            prop_assert_eq!(allocate(&budget, &demands, &before), allocate(&budget, &demands, &Allocation::default()));
        }
    }
}
