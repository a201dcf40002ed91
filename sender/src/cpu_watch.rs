use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::TrackId;
use lenscast_media::sync::Mutex;
use lenscast_media::sync::atomic::{AtomicU64, Ordering};

use crate::Track;
use crate::adaptation::{Adapt, CpuGovernor, Load};

/// What a track takes of the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// Time spent on a frame in relation to the time between the source's frames. Zero while it does not encode.
    pub(crate) busy: f64,
    /// There is a cheaper way to encode it.
    pub(crate) can_step_down: bool,
}

/// Runs the [`CpuGovernor`] over all tracks, on whichever encode task notices first that it is time.
pub(crate) struct CpuWatch {
    started: Instant,
    /// Milliseconds after `started` at which the next check is due.
    due_ms: AtomicU64,
    /// A leaf: nothing is called while it is held. Taken out for a check, so that its memory is used again.
    check: Mutex<Option<Check>>,
}

/// The governor, and room for what a check needs.
struct Check {
    governor: CpuGovernor,
    tracks: Vec<Arc<Track>>,
    loads: Vec<Load>,
    steps: Vec<(TrackId, Adapt)>,
}

/// How often the governor is asked. It decides in its own, longer, periods.
const PERIOD: Duration = Duration::from_secs(1);

impl CpuWatch {
    pub(crate) fn new(started: Instant) -> Self {
        let check = Check { governor: CpuGovernor::new(), tracks: Vec::new(), loads: Vec::new(), steps: Vec::new() };
        Self { started, due_ms: AtomicU64::new(0), check: Mutex::new(Some(check)) }
    }

    /// True for one caller a period.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let now_ms = millis(now.saturating_duration_since(self.started));
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now_ms.saturating_add(millis(PERIOD));
        now_ms >= due && self.due_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Lets the governor decide over the tracks that `list` gives, in ascending order.
    pub(crate) fn check(&self, now: Instant, list: impl FnOnce(&mut Vec<Arc<Track>>)) {
        // Another task may still be at a check that was due long ago.
        let Some(check) = self.check.lock().take() else { return };
        let mut check = PutBack { watch: self, check: Some(check) };
        let Some(Check { governor, tracks, loads, steps }) = &mut check.check else { return };
        list(tracks);
        // Of the others nothing is known: a camera that stalls must not stand in the way of those that do not.
        loads.extend(tracks.iter().filter(|track| track.takes_frames(now)).map(|track| load(track)));
        governor.check(now, loads, steps);
        for (id, step) in steps.drain(..) {
            let Some(track) = tracks.iter().find(|track| track.id() == id) else { continue };
            let taken = track.control().cpu_steps();
            let taken = match step {
                Adapt::Down => taken.saturating_add(1),
                Adapt::Up => taken.saturating_sub(1),
            };
            track.control().set_cpu_steps(taken);
            tracing::info!(track = %id, steps = taken, ?step, "the CPU's load changes how it is encoded");
        }
    }
}

/// Puts a [`Check`] back, also while a panic goes through.
struct PutBack<'a> {
    watch: &'a CpuWatch,
    check: Option<Check>,
}

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        if let Some(check) = &mut self.check {
            check.loads.clear();
            check.steps.clear();
            check.tracks.clear();
        }
        *self.watch.check.lock() = self.check.take();
    }
}

fn load(track: &Track) -> Load {
    let control = track.control();
    let Usage { busy, can_step_down } = control.cpu_usage();
    Load { track: track.id(), usage: busy, steps: control.cpu_steps(), can_step_down }
}
