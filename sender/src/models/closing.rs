//! L5: close ∥ everything.

use super::*;
use crate::encode_task::EncodeTask;
use crate::{AddTrackError, SendFrameError};

/// Closes, and sees that it is so.
fn close(scene: &Scene, tracks: &[usize]) {
    (scene.steps.close)(&scene.sender);
    tracks.iter().for_each(|track| scene.log.is_over(*track));
}

/// Every call says so.
fn check_closed(scene: &Scene, track: &Track) {
    let sender = &scene.sender;
    let frame = Frame { picture: Arc::clone(&scene.picture), number: 9, captured: clock::now(), ready: clock::now() };
    let said = [
        sender.tracks().is_err(),
        sender.allocation() == Err(Closed),
        sender.health() == Err(Closed),
        sender.send_frame(track.id(), frame) == Err(SendFrameError::Closed(Closed)),
        sender.force_key_frame(track.id()) == Err(Closed),
        sender.remove_track(track.id()) == Err(Closed),
        sender.update_bitrate(Bitrate::from_kbps(1)) == Err(Closed),
        matches!(sender.allocate(&AllocationRequest::default()), Err(SetAllocationError::Closed(Closed))),
        matches!(sender.set_bitrate_allocation(None), Err(SetAllocationError::Closed(Closed))),
        matches!(scene.unwanted_track(9, Backend::Vp8, 1.0), Err(AddTrackError::Closed(Closed))),
    ];
    scene.log.check(said == [true; 10], &format!("a call does not say that it is closed: {said:?}"));
}

/// Close ∥ encode ∥ send a frame.
fn a_close_meets_an_encode(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 1.0);
        scene.allocate(&limit(300)).unwrap();
        loom::explore();
        let sending = scene.spawn({
            let track = Arc::clone(&track);
            move |scene| scene.send(&track, 1)
        });
        scene.send(&track, 0);
        close(scene, &[0]);
        sending.join().unwrap();
        check_closed(scene, &track);
    });
}

/// Close ∥ add: the track ends, or there is none.
fn a_close_meets_an_added_track(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 1.0);
        loom::explore();
        let adding = scene.spawn(|scene| match scene.unwanted_track(1, Backend::Vp8, 1.0) {
            Ok(added) => added.buffer().close(),
            Err(error) => scene.log.check(matches!(error, AddTrackError::Closed(_)), "refused, but not as closed"),
        });
        close(scene, &[0]);
        adding.join().unwrap();
        scene.log.is_over(1);
        check_closed(scene, &track);
    });
}

/// Close ∥ remove: it waits for the track that another takes away, too.
fn a_close_meets_a_removal(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 1.0);
        scene.allocate(&limit(300)).unwrap();
        loom::explore();
        scene.send(&track, 0);
        let id = track.id();
        let removing = scene.spawn(move |scene| {
            let removed = (scene.steps.remove)(&scene.sender, id);
            scene.log.is_over(0);
            removed
        });
        close(scene, &[0]);
        scene.log.check(matches!(removing.join().unwrap(), Ok(true) | Err(Closed)), "removed, or closed");
        check_closed(scene, &track);
    });
}

/// Close ∥ allocation: made, or told that it is closed; no encoder is left either way.
fn a_close_meets_an_allocation(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 0.0);
        loom::explore();
        let request = weights(vec![weight(&track, 1.0)]);
        let allocating = scene.spawn(move |scene| scene.allocate(&request));
        close(scene, &[0]);
        let allocated = allocating.join().unwrap();
        scene.log.check(matches!(allocated, Ok(_) | Err(SetAllocationError::Closed(_))), "made, or closed");
        scene.log.check(!track.layers_with_encoder()[0], "an encoder was put into a track that has ended");
        check_closed(scene, &track);
    });
}

/// Close ∥ close: each waits until all is over.
fn a_close_meets_another(steps: Steps) {
    explore(BOUND, steps, |scene| {
        let track = scene.track(0, Backend::Vp8, 1.0);
        scene.allocate(&limit(300)).unwrap();
        loom::explore();
        scene.send(&track, 0);
        let other = scene.spawn(|scene| close(scene, &[0]));
        close(scene, &[0]);
        other.join().unwrap();
        check_closed(scene, &track);
    });
}

const BOUND: usize = 3;

const DOES_NOT_WAIT: Steps = Steps { close: Sender::close_without_waiting, ..REAL };
const CLOSES_THE_TABLE_ONLY: Steps = Steps { close: Sender::close_the_table_only, ..REAL };
const WAITS_FOR_ITS_OWN: Steps = Steps { close: Sender::close_for_itself, ..REAL };
const REMOVES_IN_SECRET: Steps = Steps { remove: Sender::remove_in_secret, ..REAL };
const LOOKS_AND_THEN_ADDS: Steps = Steps { add: Sender::add_looking_first, ..REAL };
const ENDS_IN_SILENCE: Steps = Steps {
    add: |sender, config, control, sink| sender.add_running(config, control, sink, EncodeTask::run_ending_in_silence),
    ..REAL
};

models! {
    a_close_meets_an_encode {
        finds_a_close_that_does_not_wait => DOES_NOT_WAIT, "still runs",
        finds_an_allocation_left_open => CLOSES_THE_TABLE_ONLY, "does not say",
    }
    a_close_meets_an_added_track {
        finds_a_track_added_after_it_was_closed => LOOKS_AND_THEN_ADDS, "still runs",
    }
    a_close_meets_a_removal {
        finds_a_close_that_waits_for_its_own_tracks_only => WAITS_FOR_ITS_OWN, "still runs",
        finds_a_removal_that_tells_nobody => REMOVES_IN_SECRET, "still runs",
    }
    a_close_meets_an_allocation {
        finds_a_task_that_ends_in_silence => ENDS_IN_SILENCE, "has ended",
    }
    a_close_meets_another {
        finds_a_close_that_waits_for_its_own_tracks_only => WAITS_FOR_ITS_OWN, "still runs",
    }
}
