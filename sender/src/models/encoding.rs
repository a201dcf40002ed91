//! L2 and L3: encode ∥ allocation.

use super::*;
use crate::encode_task::EncodeTask;

/// Encode ∥ a swap of the running encoder: none is dropped while it encodes, no two encode at once, no packet of the old one
/// follows one of the new, and no frame sees a target without the encoder that was built for it.
fn a_swap_meets_an_encode(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::VpxEncode, 1.0);
        scene.allocate(&limit(200)).unwrap();
        loom::explore();
        scene.send(&track, 0);
        let _ = scene.allocate(&limit(400));
        let target = track.control().target(0).as_kbps();
        scene.send(&track, 1);
        scene.finish(&track);
        let bursts = scene.log.bursts();
        scene.log.check(scene.log.built() == 2, "the task built an encoder although the allocation had");
        let second = bursts.iter().find(|burst| burst.frame == 1);
        scene.log.check(second.is_none_or(|burst| burst.kbps == target), "a frame after the change at the old rate");
    });
}

/// Encode ∥ from nothing to something: the encoder is there when the allocation returns, and stays; its first frame is a key
/// frame.
fn a_start_meets_an_encode(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 0.0);
        loom::explore();
        scene.send(&track, 0);
        let _ = scene.allocate(&weights(vec![weight(&track, 1.0)]));
        scene.send(&track, 1);
        scene.finish(&track);
        scene.log.check(scene.log.built() == 1, "the task built an encoder although the allocation had");
    });
}

/// Demand ∥ encode ∥ from nothing to something: whatever comes first, the second frame after both is encoded
/// at the latest.
fn a_demand_meets_a_start(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.unwanted_track(0, Backend::Vp8, 0.0).unwrap();
        loom::explore();
        let allocating = scene.spawn({
            let track = Arc::clone(&track);
            move |scene| drop(scene.allocate(&weights(vec![weight(&track, 1.0)])))
        });
        scene.send(&track, 0);
        scene.demands.push(track.control().subscribe(0));
        allocating.join().unwrap();
        // The task may have looked for demand just before: then this frame is unwanted yet, and makes it look again.
        scene.send(&track, 1);
        scene.wait_until_taken(&track);
        scene.send(&track, 2);
        scene.finish(&track);
        let bursts = scene.log.bursts();
        let came = bursts.iter().any(|burst| burst.frame == 2);
        scene.log.check(came, "a frame that was wanted did not come");
    });
}

/// A demand that goes and comes back ∥ an allocation: whatever that went by, the second frame after both is encoded at the
/// latest.
fn a_demand_that_comes_back_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.unwanted_track(0, Backend::Vp8, 1.0).unwrap();
        let demand = track.control().subscribe(0);
        scene.send(&track, 0);
        scene.wait_until_taken(&track);
        loom::explore();
        let allocating = scene.spawn(|scene| drop(scene.allocate(&limit(400))));
        drop(demand);
        scene.demands.push(track.control().subscribe(0));
        allocating.join().unwrap();
        scene.send(&track, 1);
        scene.wait_until_taken(&track);
        scene.send(&track, 2);
        scene.finish(&track);
        let came = scene.log.bursts().iter().any(|burst| burst.frame == 2);
        scene.log.check(came, "a frame that was wanted did not come");
    });
}

const BOUND: usize = 3;

const ENCODES_UNLOCKED: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_encoding_unlocked),
    ..REAL
};
const LETS_GO_BETWEEN: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_letting_go_between),
    ..REAL
};
const DROPS_WHAT_IT_SAW: Steps = Steps {
    add: |sender, config, control, sink| {
        sender.add_running(config, control, sink, EncodeTask::run_dropping_what_it_saw)
    },
    ..REAL
};
const NOTES_AFTER_TELLING: Steps = Steps {
    add: |sender, config, control, sink| {
        sender.add_running(config, control, sink, EncodeTask::run_noting_after_telling)
    },
    ..REAL
};
const REMEMBERS_ITSELF: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_remembering_itself),
    ..REAL
};
const TARGET_FIRST: Steps = Steps {
    allocate: |sender, request| {
        sender.allocate_as(request, |allocations, request, build| {
            allocations.apply_installing(request, build, |track, layer, sequence, target, encoder| {
                track.control().publish_late(layer, sequence, target);
                track.swap_encoder(layer, Some(encoder));
            })
        })
    },
    ..REAL
};

models! {
    a_swap_meets_an_encode {
        finds_an_encode_outside_the_lock => ENCODES_UNLOCKED, "the task built",
        finds_a_lock_let_go_between_target_and_encode => LETS_GO_BETWEEN, "the task built",
        finds_a_target_set_before_its_encoder => TARGET_FIRST, "the task built",
    }
    a_start_meets_an_encode {
        finds_an_encoder_dropped_that_was_just_put_in => DROPS_WHAT_IT_SAW, "the task built",
        finds_a_target_set_before_its_encoder => TARGET_FIRST, "the task built",
        finds_an_encode_outside_the_lock => ENCODES_UNLOCKED, "the task built",
    }
    a_demand_meets_a_start {
        finds_a_demand_noted_after_it_was_told => NOTES_AFTER_TELLING, "did not come",
    }
    a_demand_that_comes_back_meets_an_allocation {
        finds_a_task_that_goes_by_what_it_told_itself => REMEMBERS_ITSELF, "did not come",
    }
}
