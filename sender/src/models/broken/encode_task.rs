use super::{Arc, Bitrate, EncodeTask, MAX_LAYERS};
use crate::control::Basis;
use crate::models::Kept;

impl EncodeTask {
    /// Takes the encoders out, lets the lock go, encodes, and puts them back.
    pub(crate) fn run_encoding_unlocked(self) {
        self.run_as(
            |task, _| task.announce(),
            |task| {
                let track = Arc::clone(&task.track);
                let slot = std::mem::take(&mut *track.encoder().write());
                let work = task.take_locked().map(|mut work| {
                    task.encode(&slot, &mut work);
                    work
                });
                *track.encoder().write() = slot;
                if let Some(work) = work {
                    task.handle(work);
                }
            },
        );
    }

    /// Lets the lock go between reading the targets and encoding at them.
    pub(crate) fn run_letting_go_between(self) {
        self.run_as(
            |task, _| task.announce(),
            |task| {
                let track = Arc::clone(&task.track);
                let guard = track.encoder().read();
                let work = task.take_locked();
                drop(guard);
                if let Some(mut work) = work {
                    task.encode(&track.encoder().read(), &mut work);
                    task.handle(work);
                }
            },
        );
    }

    /// Builds missing encoders under the lock.
    pub(crate) fn run_building_locked(self) {
        self.run_as(
            |task, _| task.announce(),
            |task| {
                let track = Arc::clone(&task.track);
                let built = {
                    let slot = Kept::new(track.encoder().read());
                    let Some(work) = task.take_locked() else { return };
                    let size = work.size.filter(|_| slot.encoder(0).is_none());
                    size.map(|size| (task.build)(&track.encoder_settings(0, size, work.targets[0])))
                };
                if let Some(Ok(encoder)) = built {
                    track.swap_encoder(0, Some(encoder));
                }
            },
        );
    }

    /// Drops the encoder of a track that had no target, whatever it has by now.
    pub(crate) fn run_dropping_what_it_saw(self) {
        self.run_as(
            |task, _| task.announce(),
            |task| {
                let Some(work) = task.take_and_encode() else { return };
                if work.targets == [Bitrate::ZERO; MAX_LAYERS] {
                    task.track.swap_encoder(0, None);
                } else {
                    task.handle(work);
                }
            },
        );
    }

    /// Notes what is wanted after it has told of it: what came in between is never told.
    pub(crate) fn run_noting_after_telling(self) {
        let announce = |task: &mut Self, noted: &mut Option<Basis>| {
            let control = Arc::clone(task.track.control());
            if Some(control.basis()) != *noted {
                task.allocations.refresh();
                *noted = Some(control.basis());
            }
        };
        self.run_as(announce, Self::handle_next);
    }

    /// Goes by what it told last, whatever others have told since.
    pub(crate) fn run_remembering_itself(self) {
        let announce = |task: &mut Self, told: &mut Option<Basis>| {
            let basis = task.track.control().basis();
            if told.replace(basis) != Some(basis) {
                task.allocations.refresh();
            }
        };
        self.run_as(announce, Self::handle_next);
    }

    /// Ends without telling those who would put an encoder in.
    pub(crate) fn run_ending_in_silence(mut self) {
        while self.track.buffer().wait().is_ok() {
            self.announce();
            self.handle_next();
        }
        self.track.end_encoding_in_silence();
    }

    fn run_as(mut self, announce: fn(&mut Self, &mut Option<Basis>), handle_next: fn(&mut Self)) {
        let mut noted = None;
        while self.track.buffer().wait().is_ok() {
            announce(&mut self, &mut noted);
            handle_next(&mut self);
        }
        self.track.end_encoding();
    }
}
