//! L4, and what two changes at once come to: allocation ∥ allocation, estimate, add, remove.

use super::*;
use crate::MAX_LAYERS;
use crate::encode_task::EncodeTask;

/// A build that fails ∥ encode ∥ a report: nothing has changed, at any moment.
fn a_failed_build_changes_nothing(steps: Steps) {
    let at_build: AtBuild = |_, track| if track == 1 { Err("as the model wants it") } else { Ok(()) };
    explore_with(
        BOUND,
        steps,
        at_build,
        || Arc::new(|_| ()),
        |scene| {
            let tracks = [0, 1].map(|number| scene.track(number, Backend::Vp8, 0.0));
            let before = scene.sender.allocation().unwrap();
            loom::explore();
            let reporting = scene.spawn(|scene| scene.sender.allocation());
            scene.send(&tracks[0], 0);
            let shares = tracks.iter().map(|track| weight(track, 1.0)).collect();
            let failed = scene.allocate(&AllocationRequest { limit: Some(Bitrate::from_kbps(300)), ..weights(shares) });
            scene.log.check(matches!(failed, Err(SetAllocationError::Encoder { .. })), "the failure is told");
            let meanwhile = reporting.join().unwrap();
            scene.log.check(meanwhile.as_ref() == Ok(&before), "somebody saw a change");
            scene.log.check(scene.sender.allocation().as_ref() == Ok(&before), "something has changed");
            let idle = tracks.iter().all(|track| !track.layers_with_encoder()[0]);
            scene.log.check(idle, "an encoder is left");
            scene.finish(&tracks[0]);
            scene.log.check(scene.log.bursts().is_empty(), "something was sent");
        },
    );
}

/// Two changes that go by the same version: one is made, and the other is told of it.
fn of_two_that_expect_one_version_one_wins(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 0.0);
        let version = scene.sender.allocation().unwrap().version;
        let expecting = move |scene: &Scene, kbps, id| {
            let change = ShareChange { weight: Some(1.0), ..ShareChange::default() };
            scene.allocate(&AllocationRequest {
                expected_version: Some(version),
                shares: vec![(id, change)],
                ..limit(kbps)
            })
        };
        loom::explore();
        let id = track.id();
        let other = scene.spawn(move |scene| expecting(scene, 200, id));
        let results = [expecting(scene, 300, id), other.join().unwrap()];
        let won = results.iter().filter(|result| matches!(result, Ok(now) if *now == version + 1)).count();
        let lost = results.iter().filter(|result| {
            matches!(result, Err(SetAllocationError::Conflict { expected, current }) if (*expected, *current) == (version, version + 1))
        });
        scene.log.check((won, lost.count()) == (1, 1), "one wins, and one is told");
        let limit = if results[0].is_ok() { 300 } else { 200 };
        scene.log.check(scene.sender.allocation().unwrap().limit == Bitrate::from_kbps(limit), "the winner's stands");
        scene.check_published(&[&track]);
    });
}

/// Two changes that each need an encoder: the later version's target stands, with its encoder, wherever the older one's
/// exchange comes.
fn of_two_the_later_stands(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::VpxEncode, 1.0);
        scene.allocate(&limit(100)).unwrap();
        loom::explore();
        let other = scene.spawn(|scene| scene.allocate(&limit(200)).unwrap());
        let own = scene.allocate(&limit(300)).unwrap();
        let other = other.join().unwrap();
        let later = if own > other { 300 } else { 200 };
        scene
            .log
            .check(scene.sender.allocation().unwrap().limit == Bitrate::from_kbps(later), "the later one's stands");
        scene.check_published(&[&track]);
        let built = scene.log.built();
        scene.send(&track, 0);
        scene.finish(&track);
        scene.log.check(scene.log.built() == built, "the later one's encoder was displaced");
        scene.log.check(scene.log.bursts().len() == 1, "the frame came out");
    });
}

/// Two changes of different tracks: both stand.
fn two_of_different_tracks_both_stand(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let tracks = [0, 1].map(|number| scene.track(number, Backend::Vp8, 0.0));
        scene.allocate(&limit(1_000)).unwrap();
        loom::explore();
        let request = weights(vec![weight(&tracks[1], 2.0)]);
        let other = scene.spawn(move |scene| scene.allocate(&request).unwrap());
        scene.allocate(&weights(vec![weight(&tracks[0], 3.0)])).unwrap();
        other.join().unwrap();
        let report = scene.sender.allocation().unwrap();
        let weights: Vec<_> = report.tracks.iter().map(|allotted| allotted.share.weight).collect();
        scene.log.check(weights == [3.0, 2.0], "a change was lost");
        scene.check_published(&[&tracks[0], &tracks[1]]);
        scene.log.check(tracks.iter().all(|track| track.layers_with_encoder()[0]), "an encoder is missing");
    });
}

/// The estimate's change ∥ allocation: both stand, and a late exchange does not undo the newer target.
fn an_estimate_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::VpxEncode, 1.0);
        scene.allocate(&limit(100)).unwrap();
        loom::explore();
        let other = scene.spawn(|scene| (scene.steps.update)(&scene.sender, Bitrate::from_kbps(200)));
        scene.allocate(&limit(300)).unwrap();
        scene.log.check(other.join().unwrap().is_ok(), "it is open");
        let report = scene.sender.allocation().unwrap();
        let (limit, estimate) = (report.limit.as_kbps(), report.estimate.as_kbps());
        scene.log.check((limit, estimate) == (300, 200), "a change was lost");
        scene.check_published(&[&track]);
    });
}

/// What a viewer's path carries ∥ allocation: both stand, and a late exchange does not undo the newer target.
fn a_ceiling_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::VpxEncode, 1.0);
        scene.allocate(&limit(100)).unwrap();
        loom::explore();
        let id = track.id();
        let other = scene.spawn(move |scene| scene.sender.set_ceilings(&[(id, [Bitrate::from_kbps(60); MAX_LAYERS])]));
        scene.allocate(&limit(300)).unwrap();
        scene.log.check(other.join().unwrap().is_ok(), "it is open");
        let report = scene.sender.allocation().unwrap();
        let target = report.tracks[0].target;
        scene.log.check(report.limit.as_kbps() == 300 && target <= Bitrate::from_kbps(60), "a change was lost");
        scene.check_published(&[&track]);
    });
}

/// Add ∥ allocation: the new track has its share of what the allocation leaves.
fn an_added_track_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let first = scene.track(0, Backend::Vp8, 0.0);
        scene.allocate(&limit(1_000)).unwrap();
        let version = scene.sender.allocation().unwrap().version;
        loom::explore();
        let request = AllocationRequest { limit: Some(Bitrate::from_kbps(400)), ..weights(vec![weight(&first, 1.0)]) };
        let other = scene.spawn(move |scene| scene.allocate(&request).unwrap());
        let second = scene.track(1, Backend::Vp8, 1.0);
        other.join().unwrap();
        let report = scene.sender.allocation().unwrap();
        let tracks: Vec<_> = report.tracks.iter().map(|allotted| (allotted.track, allotted.share.weight)).collect();
        scene.log.check(tracks == [(first.id(), 1.0), (second.id(), 1.0)], "a track or a weight is missing");
        scene.log.check(report.version == version + 2, "each counts");
        scene.check_published(&[&first, &second]);
        // What its first frame does: it tells what is wanted.
        scene.send(&second, 0);
        scene.wait_until_taken(&second);
        let report = scene.sender.allocation().unwrap();
        let shared = report.tracks.iter().all(|allotted| allotted.target > Bitrate::from_kbps(100));
        scene.log.check(shared, "each has its part");
        scene.check_published(&[&first, &second]);
        let _ = scene.sender.remove_track(second.id());
    });
}

/// Remove ∥ allocation: what is left has everything, and the removed track no encoder.
fn a_removed_track_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let tracks = [0, 1].map(|number| scene.track(number, Backend::Vp8, 0.0));
        scene.allocate(&limit(400)).unwrap();
        loom::explore();
        let request = weights(tracks.iter().map(|track| weight(track, 1.0)).collect());
        let other = scene.spawn(move |scene| scene.allocate(&request));
        scene.log.check((scene.steps.remove)(&scene.sender, tracks[0].id()) == Ok(true), "it was there");
        scene.log.is_over(0);
        let allocated = other.join().unwrap();
        scene.log.check(
            matches!(allocated, Ok(_) | Err(SetAllocationError::UnknownTrack(_))),
            "made, or refused for the track that is gone",
        );
        let report = scene.sender.allocation().unwrap();
        let [left] = report.tracks[..] else { return scene.log.check(false, "one is left") };
        let expected = if allocated.is_ok() { 1.0 } else { 0.0 };
        scene.log.check((left.track, left.share.weight) == (tracks[1].id(), expected), "all or nothing");
        let all = Bitrate::from_kbps(if allocated.is_ok() { 300 } else { 0 });
        scene.log.check(left.target >= all, "it has what the other had");
        scene.check_published(&[&tracks[1]]);
        scene.log.check(!tracks[0].layers_with_encoder()[0], "an encoder was put into a track that has ended");
    });
}

/// Equal shares for all ∥ remove: those who are left get them, and nobody hears of a track that he did not name.
fn equal_shares_meet_a_removal(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let tracks = [0, 1].map(|number| scene.track(number, Backend::Vp8, 2.0));
        scene.allocate(&limit(400)).unwrap();
        loom::explore();
        let id = tracks[0].id();
        let other = scene.spawn(move |scene| (scene.steps.remove)(&scene.sender, id));
        let equal = (scene.steps.equal)(&scene.sender);
        scene.log.check(equal.is_ok(), "refused");
        let _ = other.join().unwrap();
        let report = scene.sender.allocation().unwrap();
        scene.log.check(report.tracks.iter().all(|allotted| allotted.share.weight == 1.0), "not equal");
        scene.check_published(&[&tracks[1]]);
    });
}

const BOUND: usize = 3;

const CHANGES_BEFORE_IT_BUILDS: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_before_building), ..REAL };
const PUTS_IN_ONE_BY_ONE: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_one_by_one), ..REAL };
const COMPARES_FIRST: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_comparing_first), ..REAL };
const STALE_SHARES: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_with_stale_shares), ..REAL };
const STALE_SUMS: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_with_stale_sums), ..REAL };
const UNNUMBERED: Steps = Steps {
    allocate: |sender, request| {
        sender.allocate_as(request, |allocations, request, build| {
            allocations.apply_installing(request, build, |track, layer, sequence, target, encoder| {
                let publish = |control: &TrackControl| control.publish_unnumbered(layer, sequence, target);
                track.install_publishing(layer, encoder, publish);
            })
        })
    },
    ..REAL
};
const COMPARES_AND_THEN_STORES: Steps = Steps {
    allocate: |sender, request| {
        sender.allocate_as(request, |allocations, request, build| {
            allocations.apply_installing(request, build, |track, layer, sequence, target, encoder| {
                let publish = |control: &TrackControl| control.publish_in_two_steps(layer, sequence, target);
                track.install_publishing(layer, encoder, publish);
            })
        })
    },
    ..REAL
};
const LATE_ENCODER_DISPLACES: Steps = Steps {
    allocate: |sender, request| {
        sender.allocate_as(request, |allocations, request, build| {
            allocations.apply_installing(request, build, |track, layer, sequence, target, encoder| {
                track.install_publishing(layer, encoder, |control| _ = control.publish_late(layer, sequence, target));
            })
        })
    },
    ..REAL
};
const LEAVES_ITS_SHARE: Steps = Steps { remove: Sender::remove_from_the_table_only, ..REAL };
const ENDS_IN_SILENCE: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_ending_in_silence),
    ..REAL
};
const NAMES_ALL_TRACKS: Steps = Steps { equal: Sender::equal_by_name, ..REAL };

models! {
    a_failed_build_changes_nothing {
        finds_a_change_before_the_builds => CHANGES_BEFORE_IT_BUILDS, "somebody saw a change",
        finds_encoders_put_in_as_they_are_built => PUTS_IN_ONE_BY_ONE, "an encoder is left",
    }
    of_two_that_expect_one_version_one_wins {
        finds_a_version_compared_outside_the_lock => COMPARES_FIRST, "one wins, and one is told",
        finds_shares_from_before_the_builds => STALE_SHARES, "one wins, and one is told",
    }
    of_two_the_later_stands {
        finds_targets_without_numbers => UNNUMBERED, "published",
        finds_a_late_encoder_that_displaces_a_newer => LATE_ENCODER_DISPLACES, "displaced",
    }
    two_of_different_tracks_both_stand {
        finds_shares_from_before_the_builds => STALE_SHARES, "a change was lost",
    }
    an_estimate_meets_an_allocation {
        finds_targets_without_numbers => UNNUMBERED, "published",
        finds_numbers_compared_before_the_store => COMPARES_AND_THEN_STORES, "published",
        finds_sums_from_before => STALE_SUMS, "b/s of",
    }
    a_ceiling_meets_an_allocation {
        finds_targets_without_numbers => UNNUMBERED, "published",
        finds_sums_from_before => STALE_SUMS, "a change was lost",
    }
    an_added_track_meets_an_allocation {
        finds_sums_from_before => STALE_SUMS, "a track or a weight is missing",
    }
    a_removed_track_meets_an_allocation {
        finds_sums_from_before => STALE_SUMS, "all or nothing",
        finds_a_share_that_stays => LEAVES_ITS_SHARE, "one is left",
        finds_a_task_that_ends_in_silence => ENDS_IN_SILENCE, "has ended",
    }
    equal_shares_meet_a_removal {
        finds_tracks_named_from_a_list_of_before => NAMES_ALL_TRACKS, "refused",
    }
}
