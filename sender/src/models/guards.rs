//! L1 and L2's second half: nothing waits for a build, and nothing but the swap of its own encoder for an encode.

use std::cell::Cell;

use super::*;
use crate::encode_task::EncodeTask;

std::thread_local! {
    /// A build that asks is not asked again by the builds that it causes. One thread runs all of a model's.
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Asks the sender for everything that takes a lock, the track's encoder too.
fn asks_the_sender(sender: &Sender, _: usize) -> Result<(), &'static str> {
    if !ASKING.replace(true) {
        let tracks = sender.tracks().is_ok();
        let known = sender.allocation().is_ok() && sender.update_bitrate(Bitrate::from_kbps(200)).is_ok();
        let changed = known && sender.allocate(&limit(250)).is_ok();
        ASKING.set(false);
        if tracks && !changed {
            return Err("the sender was closed");
        }
    }
    Ok(())
}

/// An encoder's builder asks the sender, in the task and in an allocation: neither holds a guard meanwhile.
fn a_builder_asks_the_sender(steps: Steps) {
    explore_with(
        BOUND,
        steps,
        asks_the_sender,
        || Arc::new(|_| ()),
        |scene| {
            ASKING.set(true);
            let track = scene.track(0, Backend::VpxEncode, 1.0);
            scene.sender.allocate(&limit(100)).unwrap();
            track.swap_encoder(0, None);
            ASKING.set(false);
            loom::explore();
            scene.send(&track, 0);
            scene.log.check(scene.allocate(&limit(150)).is_ok(), "refused");
            scene.wait_until_taken(&track);
            let _ = (scene.steps.remove)(&scene.sender, track.id());
            scene.log.is_over(0);
        },
    );
}

/// A track's encoder takes its time: another's encoder starts, estimates are followed and frames are put meanwhile.
fn an_encode_holds_up_nobody_else(steps: Steps) {
    let at_frame = || -> AtFrame {
        Arc::new(|track| {
            if track == 0 {
                while !GATE.get() {
                    thread::yield_now();
                }
            }
        })
    };
    explore_with(
        BOUND,
        steps,
        |_, _| Ok(()),
        at_frame,
        |scene| {
            GATE.set(false);
            let slow = scene.track(0, Backend::Vp8, 1.0);
            let other = scene.track(1, Backend::Vp8, 0.0);
            scene.allocate(&limit(400)).unwrap();
            loom::explore();
            scene.send(&slow, 0);
            scene.wait_until_taken(&slow);
            scene.send(&slow, 1);
            scene.log.check((scene.steps.update)(&scene.sender, Bitrate::from_kbps(300)).is_ok(), "refused");
            scene.log.check(scene.allocate(&weights(vec![weight(&other, 1.0)])).is_ok(), "refused");
            scene.log.check(other.layers_with_encoder()[0], "its encoder is in place");
            scene.check_published(&[&slow, &other]);
            scene.log.check((scene.steps.remove)(&scene.sender, other.id()) == Ok(true), "it was there");
            GATE.set(true);
        },
    );
}

std::thread_local! {
    /// The slow encode may end.
    static GATE: Cell<bool> = const { Cell::new(false) };
}

const BOUND: usize = 3;

/// Without the alarm of a task that panics: where loom finds a deadlock, the unwinding must lock nothing.
const WITHOUT_ALARM: Steps =
    Steps { add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run), ..REAL };
const ALLOCATION_BUILDS_LOCKED: Steps = Steps {
    allocate: |sender, request| sender.allocate_as(request, Allocations::apply_building_locked),
    ..WITHOUT_ALARM
};
const TASK_BUILDS_LOCKED: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_building_locked),
    ..REAL
};
const REMOVE_HOLDS_THE_TABLE: Steps = Steps { remove: Sender::remove_holding_the_table, ..WITHOUT_ALARM };
const UPDATE_VISITS_ENCODERS: Steps = Steps { update: Sender::update_visiting_encoders, ..REAL };
const ALLOCATION_VISITS_ENCODERS: Steps =
    Steps { allocate: |sender, request| sender.allocate_as(request, Allocations::apply_visiting_encoders), ..REAL };

models! {
    a_builder_asks_the_sender {
        finds_a_state_held_across_a_build => ALLOCATION_BUILDS_LOCKED, "deadlock",
        finds_an_encoder_held_across_a_build => TASK_BUILDS_LOCKED, "deadlock",
        finds_a_table_held_across_a_join => REMOVE_HOLDS_THE_TABLE, "deadlock",
    }
    an_encode_holds_up_nobody_else {
        finds_an_update_that_visits_every_encoder => UPDATE_VISITS_ENCODERS, "exceeded maximum number of branches",
        finds_an_allocation_that_visits_every_encoder => ALLOCATION_VISITS_ENCODERS, "exceeded maximum number of branches",
    }
}
