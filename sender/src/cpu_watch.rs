use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// A leaf: nothing is locked while it is held.
    governor: Mutex<CpuGovernor>,
}

/// How often the governor is asked. It decides in its own, longer, periods.
const PERIOD: Duration = Duration::from_millis(500);

impl CpuWatch {
    pub(crate) fn new(started: Instant) -> Self {
        Self { started, due_ms: AtomicU64::new(0), governor: Mutex::new(CpuGovernor::new()) }
    }

    /// True for one caller a period.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let now_ms = millis(now.saturating_duration_since(self.started));
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now_ms.saturating_add(millis(PERIOD));
        now_ms >= due && self.due_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Lets the governor decide over these tracks, which are in ascending order.
    pub(crate) fn check(&self, now: Instant, tracks: &[Arc<Track>]) {
        let wanted = tracks.iter().filter(|track| track.control().is_any_wanted());
        let loads: Vec<Load> = wanted.map(|track| load(track)).collect();
        let mut steps = Vec::new();
        self.governor.lock().check(now, &loads, &mut steps);
        for (id, step) in steps {
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

fn load(track: &Track) -> Load {
    let control = track.control();
    let Usage { busy, can_step_down } = control.cpu_usage();
    Load { track: track.id(), usage: busy, steps: control.cpu_steps(), can_step_down }
}
