//! Scenarios of the allocation, each named after what it proves. `properties.rs` holds it against arbitrary input.

use lenscast_congestion::{
    Allocation, Allocator, Budget, Demand, LayerDemand, Layers, Overhead, Share, ShareState, allocate,
};
use lenscast_media::{Bitrate, TrackId};

const NO_OVERHEAD: Overhead =
    Overhead { packet_bytes: 0, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };

fn kbps(kbps: u64) -> Bitrate {
    Bitrate::from_kbps(kbps)
}

fn budget(total: u64) -> Budget {
    Budget { total: kbps(total), overhead: NO_OVERHEAD }
}

fn demand(track: u32, weight: f64, min: u64, max: u64) -> Demand {
    Demand {
        track: TrackId(track),
        weight,
        min: kbps(min),
        max: kbps(max),
        active: true,
        enforced: false,
        framerate: 30.0,
        layers: Layers::one(),
    }
}

/// libwebrtc's layers of 720p VP8 (`video/config/simulcast.cc`): 180p, 360p, 720p.
fn simulcast(track: u32) -> Demand {
    let layer = |max, target, min| LayerDemand { min: kbps(min), target: kbps(target), max: kbps(max), active: true };
    let layers = [layer(200, 150, 30), layer(700, 500, 150), layer(2_500, 2_500, 600)];
    Demand { layers: Layers::new(&layers).expect("three layers"), ..demand(track, 1.0, 30, 10_000) }
}

fn with_layer(demand: Demand, index: usize, change: impl Fn(&mut LayerDemand)) -> Demand {
    let mut layers = demand.layers.as_slice().to_vec();
    change(&mut layers[index]);
    Demand { layers: Layers::new(&layers).expect("as many layers as before"), ..demand }
}

fn fresh(total: u64, demands: &[Demand]) -> Allocation {
    allocate(&budget(total), demands, &Allocation::default())
}

fn targets(allocation: &Allocation) -> Vec<u64> {
    allocation.shares().iter().map(|share| share.target.as_kbps()).collect()
}

fn states(allocation: &Allocation) -> Vec<ShareState> {
    allocation.shares().iter().map(|share| share.state).collect()
}

fn layers(allocation: &Allocation) -> [u64; 3] {
    allocation.shares()[0].layers.map(Bitrate::as_kbps)
}

use ShareState::{Allocated, Inactive, Paused};

#[test]
fn targets_are_proportional_to_weights_where_nothing_binds() {
    let allocation = fresh(5_000, &[demand(1, 4.0, 100, 9_000), demand(2, 1.0, 100, 9_000)]);
    assert_eq!(targets(&allocation), [4_000, 1_000]);
    assert!(allocation.shares().iter().all(|share| share.limited));
}

#[test]
fn what_a_track_cannot_use_goes_to_the_others() {
    let allocation =
        fresh(5_000, &[demand(1, 4.0, 100, 2_000), demand(2, 1.0, 100, 9_000), demand(3, 1.0, 100, 9_000)]);
    assert_eq!(targets(&allocation), [2_000, 1_500, 1_500]);
    assert_eq!(allocation.shares().iter().map(|share| share.limited).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn what_a_minimum_needs_comes_from_the_others() {
    let allocation =
        fresh(3_000, &[demand(1, 1.0, 1_000, 9_000), demand(2, 4.0, 100, 9_000), demand(3, 4.0, 100, 9_000)]);
    assert_eq!(targets(&allocation), [1_000, 1_000, 1_000]);
    let both = fresh(3_000, &[demand(1, 1.0, 1_000, 9_000), demand(2, 9.0, 100, 1_200), demand(3, 1.0, 100, 9_000)]);
    assert_eq!(targets(&both), [1_000, 1_200, 800]);
}

#[test]
fn a_budget_that_nobody_can_use_is_left() {
    let allocation = fresh(9_000, &[demand(1, 1.0, 100, 2_000), demand(2, 1.0, 100, 1_000)]);
    assert_eq!(targets(&allocation), [2_000, 1_000]);
    assert_eq!(allocation.total(), kbps(3_000));
    assert!(allocation.shares().iter().all(|share| !share.limited));
}

#[test]
fn minima_go_to_the_heaviest_first_and_a_smaller_one_still_fits() {
    let demands =
        [demand(1, 1.0, 300, 900), demand(2, 3.0, 300, 900), demand(3, 2.0, 500, 900), demand(4, 0.5, 200, 900)];
    let allocation = fresh(500, &demands);
    assert_eq!(states(&allocation), [Paused, Allocated, Paused, Allocated]);
    assert_eq!(targets(&allocation), [0, 300, 0, 200]);
    assert!(allocation.shares().iter().all(|share| share.limited));
}

#[test]
fn of_equal_weights_the_lower_track_runs() {
    let allocation = fresh(300, &[demand(7, 1.0, 200, 900), demand(3, 1.0, 200, 900)]);
    assert_eq!(allocation.share(TrackId(3)).map(|share| share.state), Some(Allocated));
    assert_eq!(allocation.share(TrackId(7)).map(|share| share.state), Some(Paused));
    assert_eq!(allocation.share(TrackId(5)), None);
}

#[test]
fn an_enforced_minimum_is_given_whatever_the_budget() {
    let enforced = Demand { enforced: true, ..demand(2, 0.1, 500, 900) };
    let allocation = fresh(300, &[demand(1, 9.0, 100, 900), enforced]);
    assert_eq!(states(&allocation), [Paused, Allocated]);
    assert_eq!(targets(&allocation), [0, 500]);
    let nobody_watches = Demand { active: false, ..enforced };
    assert_eq!(states(&fresh(300, &[demand(1, 9.0, 100, 900), nobody_watches])), [Allocated, Inactive]);
}

#[test]
fn a_paused_track_that_becomes_enforced_runs_at_once() {
    let paused = fresh(199, &[demand(1, 1.0, 200, 900)]);
    let enforced = Demand { enforced: true, ..demand(1, 1.0, 200, 900) };
    assert_eq!(targets(&allocate(&budget(199), &[enforced], &paused)), [200]);
}

#[test]
fn without_weight_or_consumer_or_layer_a_track_gets_nothing() {
    let off = with_layer(with_layer(with_layer(simulcast(6), 0, switch_off), 1, switch_off), 2, switch_off);
    let demands = [
        demand(1, 0.0, 100, 900),
        demand(2, -1.0, 100, 900),
        demand(3, f64::NAN, 100, 900),
        demand(4, f64::INFINITY, 100, 900),
        Demand { active: false, ..demand(5, 1.0, 100, 900) },
        off,
        demand(7, 1.0, 0, 0),
        demand(8, 1.0, 100, 900),
    ];
    let allocation = fresh(5_000, &demands);
    assert_eq!(targets(&allocation), [0, 0, 0, 0, 0, 0, 0, 900]);
    assert_eq!(states(&allocation)[..7], [Inactive; 7]);
    assert!(allocation.shares().iter().all(|share| !share.limited));
}

fn switch_off(layer: &mut LayerDemand) {
    layer.active = false;
}

#[test]
fn a_track_without_minimum_runs_on_one_bit() {
    let bits = |total| Budget { total: Bitrate::from_bps(total), overhead: NO_OVERHEAD };
    let demands = [demand(1, 1.0, 0, 900)];
    assert_eq!(states(&allocate(&bits(0), &demands, &Allocation::default())), [Paused]);
    assert_eq!(states(&allocate(&bits(1), &demands, &Allocation::default())), [Allocated]);
}

#[test]
fn the_minimum_wins_over_a_smaller_maximum() {
    assert_eq!(targets(&fresh(5_000, &[demand(1, 1.0, 800, 300)])), [800]);
}

#[test]
fn a_paused_track_resumes_with_a_margin_only() {
    // 10 % of a minimum of 400 are 40; of a minimum of 100, 20 count.
    for (min, resumes) in [(400, 440), (100, 120)] {
        let demands = [demand(1, 1.0, min, 9_000)];
        let mut allocation = fresh(min, &demands);
        assert_eq!(states(&allocation), [Allocated]);
        allocation = allocate(&budget(min - 1), &demands, &allocation);
        assert_eq!(states(&allocation), [Paused]);
        allocation = allocate(&budget(resumes - 1), &demands, &allocation);
        assert_eq!(states(&allocation), [Paused]);
        allocation = allocate(&budget(resumes), &demands, &allocation);
        assert_eq!(targets(&allocation), [resumes]);
    }
}

#[test]
fn among_many_tracks_the_margin_is_a_sixteenth_of_the_budget() {
    let demands: Vec<Demand> = (0..16).map(|track| demand(track, 1.0, 100, 9_000)).collect();
    let paused = fresh(1_599, &demands);
    assert_eq!(paused.shares()[15].state, Paused);
    assert_eq!(allocate(&budget(1_706), &demands, &paused).shares()[15].state, Paused);
    assert_eq!(allocate(&budget(1_707), &demands, &paused).shares()[15].state, Allocated);
}

#[test]
fn a_track_that_was_switched_off_while_paused_starts_afresh() {
    let demands = [demand(1, 1.0, 400, 900)];
    let paused = fresh(399, &demands);
    let off = allocate(&budget(400), &[Demand { active: false, ..demands[0] }], &paused);
    assert_eq!(states(&off), [Inactive]);
    assert_eq!(targets(&allocate(&budget(400), &demands, &off)), [400]);
}

#[test]
fn a_small_rise_is_held_back_and_a_fall_acts_at_once() {
    let demands = [demand(1, 1.0, 100, 9_000)];
    let mut allocation = fresh(1_000, &demands);
    for (total, target) in [(1_049, 1_000), (1_050, 1_050), (1_049, 1_049), (1_100, 1_049), (1_102, 1_102)] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(targets(&allocation), [target], "at {total}");
        assert!(allocation.shares()[0].limited);
    }
}

#[test]
fn small_rises_add_up() {
    let demands = [demand(1, 1.0, 100, 9_000)];
    let mut allocation = fresh(1_000, &demands);
    for total in [1_020, 1_040, 1_049] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(targets(&allocation), [1_000]);
    }
    assert_eq!(targets(&allocate(&budget(1_060), &demands, &allocation)), [1_060]);
}

#[test]
fn a_held_track_follows_a_raised_minimum() {
    let allocation = fresh(1_000, &[demand(1, 1.0, 100, 9_000)]);
    assert_eq!(targets(&allocate(&budget(1_040), &[demand(1, 1.0, 1_030, 9_000)], &allocation)), [1_030]);
}

#[test]
fn releasing_lets_one_small_rise_through() {
    let demands = [demand(1, 1.0, 100, 9_000)];
    let mut allocation = fresh(1_000, &demands);
    allocation.release_held();
    allocation = allocate(&budget(1_001), &demands, &allocation);
    assert_eq!(targets(&allocation), [1_001]);
    allocation = allocate(&budget(1_002), &demands, &allocation);
    assert_eq!(targets(&allocation), [1_001]);
}

/// Once it was held below its maximum for ever, and was not said to be limited.
#[test]
fn a_held_track_comes_to_its_maximum_where_there_is_room_beyond_it() {
    let demands = [demand(1, 1.0, 100, 1_000)];
    let mut allocation = fresh(970, &demands);
    for (total, target) in [(1_000, 970), (1_018, 970), (1_019, 1_000), (990, 990), (1_039, 990), (100_000, 1_000)] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(targets(&allocation), [target], "at {total}");
        assert_eq!(allocation.shares()[0].limited, target < 1_000, "at {total}");
    }
}

#[test]
fn a_maximum_within_a_trembling_budget_is_not_come_to_in_turn() {
    let demands = [demand(1, 1.0, 100, 1_000)];
    let mut allocation = fresh(980, &demands);
    for total in [1_020, 1_000, 980, 1_010, 1_020] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(targets(&allocation), [980], "at {total}");
    }
}

#[test]
fn room_is_what_the_level_gives_beyond_the_maximum() {
    // At a level of 1,060 and more the first could have more than 5 % above 990, if not for its maximum.
    let demands = [demand(1, 1.0, 100, 1_000), demand(2, 1.0, 100, 2_000)];
    let mut allocation = fresh(1_980, &demands);
    assert_eq!(targets(&allocation), [990, 990]);
    allocation = allocate(&budget(2_030), &demands, &allocation);
    assert_eq!(targets(&allocation), [990, 990]);
    allocation = allocate(&budget(2_060), &demands, &allocation);
    assert_eq!(targets(&allocation), [1_000, 1_060]);
    // All fit: the second, the last to come to its maximum, still needs room beyond it, the first has it.
    let mut allocation = fresh(2_980, &[demand(1, 1.0, 100, 990), demands[1]]);
    assert_eq!(targets(&allocation), [990, 1_990]);
    for (total, given) in [(3_000, [1_000, 1_990]), (3_134, [1_000, 1_990]), (3_135, [1_000, 2_000])] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(targets(&allocation), given, "at {total}");
        assert_eq!(
            allocation.shares().iter().map(|share| share.limited).collect::<Vec<_>>(),
            [false, given[1] < 2_000]
        );
    }
}

/// Once a layer whose margin did not fit below the track's maximum stayed off for ever.
#[test]
fn a_layer_that_was_off_takes_its_margin_from_beyond_the_maximum() {
    let demands = [Demand { max: kbps(1_300), ..simulcast(1) }];
    let mut allocation = fresh(1_200, &demands);
    for (total, given, limited) in [
        (1_300, [200, 700, 0], true),
        (1_369, [200, 700, 0], true),
        (1_370, [150, 500, 650], false),
        (1_250, [150, 500, 600], true),
    ] {
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(layers(&allocation), given, "at {total}");
        assert_eq!(allocation.shares()[0].limited, limited, "at {total}");
    }
}

#[test]
fn a_maximum_between_layers_limits_not_the_budget() {
    let allocation = fresh(9_000, &[Demand { max: kbps(1_200), ..simulcast(1) }]);
    assert_eq!(layers(&allocation), [200, 700, 0]);
    assert!(!allocation.shares()[0].limited);
}

#[test]
fn a_limit_that_is_taken_back_restores_who_ran() {
    let demands: Vec<Demand> = (0..14).map(|track| demand(track, 1.0, 700, 2_500)).collect();
    let before = fresh(10_000, &demands);
    assert_eq!(states(&before), [Allocated; 14]);
    let mut allocation = before.clone();
    for total in [8_000, 10_000] {
        allocation.release_held();
        allocation = allocate(&budget(total), &demands, &allocation);
        assert_eq!(
            allocation.shares().iter().filter(|share| share.state == Paused).count(),
            if total < 10_000 { 3 } else { 0 }
        );
    }
    assert_eq!(allocation, before);
}

#[test]
fn releasing_turns_a_layer_on_without_its_margin() {
    let demands = [simulcast(1)];
    let mut allocation = fresh(1_200, &demands);
    allocation.release_held();
    assert_eq!(layers(&allocate(&budget(1_250), &demands, &allocation)), [150, 500, 600]);
}

#[test]
fn audio_comes_before_all() {
    let audio = |total| {
        let budget = Budget { total: kbps(total), overhead: Overhead { audio: true, ..NO_OVERHEAD } };
        let allocation = allocate(&budget, &[demand(1, 1.0, 1, 9_000)], &Allocation::default());
        (allocation.audio().as_kbps(), allocation.total().as_kbps())
    };
    assert_eq!(audio(5), (5, 0));
    assert_eq!(audio(100), (8, 92));
    assert_eq!(audio(400), (20, 380));
    assert_eq!(audio(2_000), (32, 1_968));
}

#[test]
fn headers_retransmission_and_fec_are_set_aside() {
    let overhead =
        Overhead { packet_bytes: 125, payload_bytes: 1_000, retransmission: 0.0625, fec: 0.0625, audio: false };
    let demands = [demand(1, 1.0, 100, 9_000), Demand { active: false, ..demand(2, 1.0, 100, 9_000) }];
    let allocation = allocate(&Budget { total: kbps(1_030), overhead }, &demands, &Allocation::default());
    // 30 partial packets a second are 30 kb/s; the rest is divided by 1.25.
    assert_eq!(targets(&allocation), [800, 0]);
    assert_eq!(allocation.overhead(), kbps(230));
}

/// Once the headers of all fourteen were set aside before it was decided who runs, and nobody ran.
#[test]
fn of_many_cameras_as_many_run_as_fit_with_their_headers() {
    let overhead = Overhead { packet_bytes: 114, payload_bytes: 1_134, retransmission: 0.02, fec: 0.0, audio: false };
    let demands: Vec<Demand> = (0..14).map(|track| demand(track, 1.0, 30, 2_500)).collect();
    let allocation = allocate(&Budget { total: kbps(400), overhead }, &demands, &Allocation::default());
    // Each takes 30 kb/s, 12 % for full packets and retransmission, and 27 kb/s for 30 partial packets: 61 kb/s.
    let running = states(&allocation).iter().filter(|state| **state == Allocated).count();
    assert_eq!(running, 6);
    assert_eq!(states(&allocation)[..6], [Allocated; 6]);
    // The headers of six: (400 - 6 * 27.36) / 1.1205... = 210.
    assert_eq!(targets(&allocation)[..6], [35; 6]);
    assert_eq!(
        allocate(&Budget { total: kbps(400), overhead }, &demands[..6], &Allocation::default()).shares(),
        &allocation.shares()[..6]
    );
}

#[test]
fn a_camera_of_few_frames_fits_where_one_of_many_does_not() {
    let overhead = Overhead { packet_bytes: 125, payload_bytes: 1_000, retransmission: 0.125, fec: 0.0, audio: false };
    // 100 kb/s take 125 kb/s on the wire; 60 frames take 60 kb/s more, 5 take 5.
    let demands =
        [Demand { framerate: 60.0, ..demand(1, 2.0, 100, 900) }, Demand { framerate: 5.0, ..demand(2, 1.0, 100, 900) }];
    let at = |total| states(&allocate(&Budget { total: kbps(total), overhead }, &demands, &Allocation::default()));
    assert_eq!(at(129), [Paused, Paused]);
    assert_eq!(at(130), [Paused, Allocated]);
    assert_eq!(at(184), [Paused, Allocated]);
    assert_eq!(at(185), [Allocated, Paused]);
    assert_eq!(at(314), [Allocated, Paused]);
    assert_eq!(at(315), [Allocated, Allocated]);
}

#[test]
fn each_active_layer_has_partial_packets_of_its_own() {
    let overhead = Overhead { packet_bytes: 125, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };
    let aside = |demand| {
        let allocation = allocate(&Budget { total: kbps(1_000), overhead }, &[demand], &Allocation::default());
        (allocation.overhead().as_kbps(), allocation.total().as_kbps())
    };
    // 30 kb/s each, also those that are not on: at 910 kb/s the third is not.
    assert_eq!(aside(simulcast(1)), (90, 900));
    assert_eq!(aside(with_layer(simulcast(1), 0, switch_off)), (60, 700));
    assert_eq!(aside(with_layer(simulcast(1), 0, |layer| layer.max = Bitrate::ZERO)), (60, 700));
    let lowest = with_layer(with_layer(simulcast(1), 1, switch_off), 2, switch_off);
    assert_eq!(aside(lowest), (30, 200));
    assert_eq!(aside(Demand { active: false, ..simulcast(1) }), (0, 0));
}

#[test]
fn demands_of_the_same_track_may_differ_in_frames_only() {
    let overhead = Overhead { packet_bytes: 125, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };
    let demands = [Demand { framerate: 60.0, ..demand(1, 1.0, 100, 900) }, demand(1, 1.0, 100, 900)];
    let at = |demands: &[Demand]| allocate(&Budget { total: kbps(160), overhead }, demands, &Allocation::default());
    assert_eq!(targets(&at(&demands)), [130, 0]);
    assert_eq!(at(&[demands[1], demands[0]]), at(&demands));
}

#[test]
fn numbers_that_are_none_set_nothing_aside() {
    for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        let overhead = Overhead { packet_bytes: 60, payload_bytes: 0, retransmission: none, fec: none, audio: false };
        let demands = [Demand { framerate: none, ..demand(1, 1.0, 100, 9_000) }];
        let allocation = allocate(&Budget { total: kbps(1_000), overhead }, &demands, &Allocation::default());
        assert_eq!((allocation.total(), allocation.overhead()), (kbps(1_000), Bitrate::ZERO), "with {none}");
    }
}

#[test]
fn a_thousandth_of_a_frame_counts() {
    let overhead = Overhead { packet_bytes: 1_000, payload_bytes: 0, retransmission: 0.0, fec: 0.0, audio: false };
    // 8,000 bits a frame; a part of a bit is set aside as a bit.
    for (framerate, aside) in [(29.97, 239_760), (0.001, 8), (0.0009, 0), (1e300, 1_000_000)] {
        let demands = [Demand { framerate, enforced: true, ..demand(1, 1.0, 100, 9_000) }];
        let allocation = allocate(&Budget { total: kbps(1_000), overhead }, &demands, &Allocation::default());
        assert_eq!(allocation.overhead().as_bps(), aside, "at {framerate}");
    }
    let overhead = Overhead { packet_bytes: 1, ..overhead };
    let demands = [Demand { framerate: 0.001, ..demand(1, 1.0, 100, 9_000) }];
    let allocation = allocate(&Budget { total: kbps(1_000), overhead }, &demands, &Allocation::default());
    assert_eq!(allocation.overhead().as_bps(), 1);
}

#[test]
fn layers_fill_to_their_targets_from_the_bottom_and_the_rest_goes_to_the_top() {
    let at = |total| layers(&fresh(total, &[simulcast(1)]));
    assert_eq!(at(100), [100, 0, 0]);
    assert_eq!(at(180), [180, 0, 0], "beyond its target where no other layer is on");
    assert_eq!(at(299), [200, 0, 0], "what is not enough for the next layer is not used");
    assert_eq!(at(300), [150, 150, 0]);
    assert_eq!(at(800), [150, 650, 0]);
    assert_eq!(at(1_249), [200, 700, 0], "what the top cannot use goes downward");
    assert_eq!(at(1_250), [150, 500, 600]);
    assert_eq!(at(3_300), [150, 650, 2_500]);
    assert_eq!(at(3_390), [190, 700, 2_500]);
    assert_eq!(at(9_000), [200, 700, 2_500]);
}

#[test]
fn no_layer_runs_above_one_that_does_not_fit() {
    let demands = [with_layer(simulcast(1), 2, |layer| layer.min = kbps(50))];
    assert_eq!(layers(&fresh(299, &demands)), [200, 0, 0]);
    assert_eq!(layers(&fresh(700, &demands)), [150, 500, 50]);
}

#[test]
fn the_lowest_active_layer_runs_below_its_minimum() {
    let demands = [with_layer(simulcast(1), 0, switch_off)];
    assert_eq!(layers(&fresh(100, &demands)), [0, 100, 0]);
    assert_eq!(layers(&fresh(9_000, &demands)), [0, 700, 2_500]);
}

#[test]
fn a_layer_without_room_counts_as_inactive() {
    let demands = [with_layer(simulcast(1), 0, |layer| layer.max = Bitrate::ZERO)];
    assert_eq!(layers(&fresh(100, &demands)), [0, 100, 0]);
}

#[test]
fn a_layer_that_was_off_needs_more_than_its_minimum() {
    let demands = [simulcast(1)];
    let mut allocation = fresh(1_250, &demands);
    assert_eq!(layers(&allocation), [150, 500, 600]);
    allocation = allocate(&budget(1_200), &demands, &allocation);
    assert_eq!(layers(&allocation), [200, 700, 0]);
    allocation = allocate(&budget(1_369), &demands, &allocation);
    assert_eq!(layers(&allocation), [200, 700, 0]);
    allocation = allocate(&budget(1_370), &demands, &allocation);
    assert_eq!(layers(&allocation), [150, 500, 720]);
}

#[test]
fn a_layer_that_was_off_needs_no_more_than_its_target() {
    let demands = [with_layer(simulcast(1), 2, |layer| layer.target = kbps(660))];
    let off = fresh(1_200, &demands);
    assert_eq!(layers(&allocate(&budget(1_310), &demands, &off)), [150, 500, 660]);
}

#[test]
fn layers_bound_what_their_track_can_use() {
    let demands = [with_layer(simulcast(1), 2, switch_off), demand(2, 1.0, 100, 9_000)];
    let allocation = fresh(5_000, &demands);
    assert_eq!(targets(&allocation), [900, 4_100]);
    assert!(!allocation.shares()[0].limited);
}

#[test]
fn one_to_three_layers_make_layers() {
    let layer = simulcast(1).layers.as_slice()[0];
    assert_eq!(Layers::new(&[]), None);
    assert_eq!(Layers::new(&[layer; 4]), None);
    assert_eq!(Layers::new(&[layer; 2]).map(|layers| layers.as_slice().len()), Some(2));
    assert_eq!(Layers::one().as_slice().len(), 1);
}

#[test]
fn tracks_may_come_and_go() {
    let demands = [demand(1, 1.0, 100, 9_000), demand(2, 1.0, 100, 9_000), demand(4, 1.0, 100, 9_000)];
    let mut allocator = Allocator::new();
    let mut allocation = Allocation::default();
    allocator.update(&budget(3_000), &demands, &mut allocation);
    let others = [demands[0], demand(3, 1.0, 100, 9_000), demands[2]];
    allocator.update(&budget(3_030), &others, &mut allocation);
    assert_eq!(targets(&allocation), [1_000, 1_010, 1_000], "the new one has nothing to hold on to");
    allocator.update(&budget(3_030), &others[1..], &mut allocation);
    assert_eq!(targets(&allocation), [1_515, 1_515]);
    allocator.update(&budget(3_030), &[], &mut allocation);
    assert_eq!(allocation.shares(), [] as [Share; 0]);
}

#[test]
fn demands_of_the_same_track_are_each_their_own() {
    let demands = [demand(1, 3.0, 100, 9_000), demand(1, 1.0, 100, 9_000)];
    let first = fresh(4_000, &demands);
    assert_eq!(targets(&first), [1_000, 3_000]);
    let swapped = [demands[1], demands[0]];
    assert_eq!(allocate(&budget(4_100), &swapped, &first), allocate(&budget(4_100), &demands, &first));
    assert_eq!(targets(&allocate(&budget(4_100), &demands, &first)), [1_000, 3_000]);
}

#[test]
fn demands_of_the_same_track_may_differ_in_layers_only() {
    let demands = [simulcast(1), with_layer(simulcast(1), 1, |layer| layer.max = kbps(600))];
    let swapped = [demands[1], demands[0]];
    for total in [700, 2_000, 9_000] {
        assert_eq!(fresh(total, &swapped), fresh(total, &demands));
    }
}

#[test]
fn a_thousand_tracks_of_the_highest_rates_fit_to_the_bit() {
    let huge = u64::MAX / 1_000;
    let demands: Vec<Demand> =
        (0..1_000).map(|track| demand(track, 1.0 + f64::from(track).sqrt() / 3.0, 0, huge)).collect();
    for total in [u64::MAX / 1_000, 99_999_999, 99_999_998, 12_345_679] {
        let allocation = fresh(total, &demands);
        let limit = kbps(total.min(100_000_000));
        assert!(allocation.total() <= limit && allocation.total().as_bps() + 1_000 > limit.as_bps());
    }
}
