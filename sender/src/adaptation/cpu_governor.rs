use std::time::{Duration, Instant};

use lenscast_media::TrackId;

use super::Adapt;

/// Shares out a lack of CPU over all tracks of the process: one of it, fed with every track's load, says who steps.
///
/// Each track alone (as in libwebrtc's `video/adaptation/overuse_frame_detector.cc`, one detector a stream) would let the
/// one that looks first give up everything while the others keep all. Here all of them are looked at together:
///
/// - **Down**: as soon as a track that can step down has been overused for two seconds, all of those that are and that have
///   taken the fewest steps take one, in the same check. If others that could use less have taken fewer still, these go
///   instead. **Invariant**: so among tracks that can step and that use more than [`LOW`], levels differ by at most one.
/// - **Up**: only while every track is below [`LOW`], one track a check, the most degraded first. One, because each that
///   goes up takes from the others, and what it took shows before the next goes.
///
/// A track may be overused because its thread is at its limit while cores idle; that cannot be told from loads. Tracks
/// below [`LOW`] are never asked to give up anything for others.
///
/// Call [`CpuGovernor::check`] about once a second, and after a step of a track [reset](super::UsageMeter::reset) its meter.
#[derive(Debug, Clone)]
pub(crate) struct CpuGovernor {
    /// Since when some track that can step down has been overused without a pause.
    over_since: Option<Instant>,
    last_down: Option<Instant>,
    /// Since the last down.
    last_up: Option<Instant>,
    ramp_up_delay: Duration,
}

/// What the governor knows of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) track: TrackId,
    /// Time spent on a frame over the source's time between frames, smoothed; above 1 it cannot keep up.
    pub(crate) usage: f64,
    /// Steps down taken for the CPU.
    pub(crate) steps: u8,
    pub(crate) can_step_down: bool,
}

/// libwebrtc `CpuOveruseOptions`, `overuse_frame_detector.cc`: `high_encode_usage_threshold_percent` 85,
/// `low_encode_usage_threshold_percent` half of it.
pub(super) const HIGH: f64 = 0.85;
pub(super) const LOW: f64 = 0.42;
/// A track goes up only if what it would then use, by the ladder's largest steps (×9/4), stays a tenth below [`HIGH`].
/// libwebrtc has [`LOW`] alone, for steps that are nominally ×5/3.
const LOW_ENOUGH_TO_GO_UP: f64 = HIGH * 0.9 * 4.0 / 9.0;
/// So long must overuse last. libwebrtc wants two checks in a row, 5 s apart (`high_threshold_consecutive_count`,
/// `kCheckForOveruseIntervalMs`): five steps would take most of a minute.
const OVERUSE_LASTS: Duration = Duration::from_secs(2);
/// After a step no verdict for so long: the meters start anew.
const SETTLE: Duration = Duration::from_secs(2);
/// libwebrtc, same file: `kStandardRampUpDelayMs`, `kMaxRampUpDelayMs`; and `kRampUpBackoffFactor` is 2. An overuse within
/// the standard delay after an up calls it a mistake.
const RAMP_UP_DELAY: Duration = Duration::from_secs(40);
const MAX_RAMP_UP_DELAY: Duration = Duration::from_secs(240);

impl CpuGovernor {
    pub(crate) const fn new() -> Self {
        Self { over_since: None, last_down: None, last_up: None, ramp_up_delay: RAMP_UP_DELAY }
    }

    /// Appends to `out` who takes a step now. The caller takes them all, or reports other `steps` next time.
    pub(crate) fn check(&mut self, now: Instant, loads: &[Load], out: &mut Vec<(TrackId, Adapt)>) {
        if loads.iter().any(Load::is_overused) {
            let since = *self.over_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= OVERUSE_LASTS && self.has_settled(now) {
                self.step_down(now, loads, out);
            }
            return;
        }
        self.over_since = None;
        if loads.iter().all(|load| load.usage < LOW) && self.may_go_up(now) {
            self.step_up(now, loads, out);
        }
    }

    fn step_down(&mut self, now: Instant, loads: &[Load], out: &mut Vec<(TrackId, Adapt)>) {
        let fewest = |of: fn(&Load) -> bool| loads.iter().filter(|load| of(load)).map(|load| load.steps).min();
        let (Some(overused), Some(sharing)) = (fewest(Load::is_overused), fewest(Load::can_share)) else { return };
        let steps = |load: &&Load| {
            if sharing < overused {
                load.can_share() && load.steps == sharing
            } else {
                load.is_overused() && load.steps == overused
            }
        };
        out.extend(loads.iter().filter(steps).map(|load| (load.track, Adapt::Down)));
        self.back_off(now);
        self.last_down = Some(now);
        self.over_since = None;
    }

    fn step_up(&mut self, now: Instant, loads: &[Load], out: &mut Vec<(TrackId, Adapt)>) {
        let degraded = loads.iter().filter(|load| load.steps > 0 && load.usage < LOW_ENOUGH_TO_GO_UP);
        // Of equals the first.
        let Some(load) = degraded.min_by_key(|load| (u8::MAX - load.steps, load.track)) else { return };
        out.push((load.track, Adapt::Up));
        self.last_up = Some(now);
    }

    fn has_settled(&self, now: Instant) -> bool {
        self.last_down.max(self.last_up).is_none_or(|at| now.saturating_duration_since(at) >= SETTLE + OVERUSE_LASTS)
    }

    fn may_go_up(&self, now: Instant) -> bool {
        let passed = |since: Option<Instant>, wait| since.is_none_or(|at| now.saturating_duration_since(at) >= wait);
        passed(self.last_down, self.ramp_up_delay) && passed(self.last_up, SETTLE)
    }

    fn back_off(&mut self, now: Instant) {
        // Each up is judged once, by the first overuse after it.
        let Some(up) = self.last_up.take() else { return };
        let held = now.saturating_duration_since(up) >= RAMP_UP_DELAY;
        self.ramp_up_delay = if held { RAMP_UP_DELAY } else { (self.ramp_up_delay * 2).min(MAX_RAMP_UP_DELAY) };
    }
}

impl Load {
    fn is_overused(&self) -> bool {
        self.can_step_down && self.usage > HIGH
    }

    fn can_share(&self) -> bool {
        self.can_step_down && self.usage > LOW
    }
}
