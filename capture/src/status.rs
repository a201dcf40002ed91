//! What a source is doing, readable from any thread.
//!
//! The source's thread writes a [`StatusBoard`]; everybody else reads [`SourceStatus`] snapshots of it, or waits for a
//! change. A change of state is logged here, once, whoever caused it: a source that fails in the same way a hundred
//! times logs one line.
//!
//! **Invariants.** `Stopped` is final. Counters only grow. Every change wakes every waiter.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lenscast_media::Resolution;
use tracing::{info, warn};

/// A snapshot of a source: what it is doing, and what has become of its frames since it started.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// What it is doing.
    pub state: SourceState,
    /// What has become of its frames.
    pub counters: SourceCounters,
}

/// What a source is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SourceState {
    /// No frame yet, and nothing known to be wrong.
    Starting,
    /// Frames flow.
    Live {
        /// Size of the last frame.
        resolution: Resolution,
        /// Frames a second over the last two seconds.
        frames_per_second: f64,
    },
    /// No frames, but the source keeps trying.
    Degraded {
        /// What is wrong, for a person.
        reason: String,
        /// Since when it is degraded, whatever the reason was first.
        since: Instant,
    },
    /// Stopped, or its buffer was closed.
    Stopped,
}

/// What has become of a source's frames since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounters {
    /// Frames put into the buffer.
    pub frames: u64,
    /// Frames of those that displaced one nobody had taken.
    pub evicted: u64,
    /// Frames that were too short, undecodable or of the wrong size, and were dropped.
    pub corrupt: u64,
    /// Frames that were due and never came: a paced source was late, or a camera's driver lost them.
    pub missed: u64,
    /// Times that frames ceased to come without an error.
    pub stalls: u64,
    /// Times that frames came again after the source had been degraded.
    pub reconnects: u64,
}

/// The time over which [`SourceState::Live`] measures the rate.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// Frames remembered for that: two seconds at [`FrameRate::MAX`](crate::FrameRate::MAX), and one to begin with.
const RATE_FRAMES: usize = 481;

/// Where a source's thread notes what happens.
#[derive(Debug)]
pub(crate) struct StatusBoard {
    /// The source's name, for the log.
    name: String,
    board: Mutex<Board>,
    /// Notified, with `board` changed, on every change.
    changed: Condvar,
}

#[derive(Debug)]
struct Board {
    phase: Phase,
    counters: SourceCounters,
    /// When the last frames were put, oldest first.
    recent: VecDeque<Instant>,
}

#[derive(Debug)]
enum Phase {
    Starting,
    Live(Resolution),
    Degraded { reason: String, since: Instant },
    Stopped,
}

impl StatusBoard {
    pub(crate) fn new(name: &str) -> Self {
        let board =
            Board { phase: Phase::Starting, counters: SourceCounters::default(), recent: VecDeque::with_capacity(64) };
        Self { name: name.to_owned(), board: Mutex::new(board), changed: Condvar::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn status(&self) -> SourceStatus {
        self.lock().status(Instant::now())
    }

    /// Blocks until `wanted` holds, for `bound` at most. `None` if it did not come to hold.
    pub(crate) fn wait_until(
        &self,
        bound: Duration,
        mut wanted: impl FnMut(&SourceStatus) -> bool,
    ) -> Option<SourceStatus> {
        let deadline = Instant::now().checked_add(bound);
        let mut board = self.lock();
        loop {
            let now = Instant::now();
            let status = board.status(now);
            if wanted(&status) {
                return Some(status);
            }
            let left = deadline.map_or(Duration::from_secs(3_600), |deadline| deadline.saturating_duration_since(now));
            if left.is_zero() {
                return None;
            }
            board = self.changed.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A frame of this size was put into the buffer at `now`; `evicted` says whether it displaced one.
    pub(crate) fn frame(&self, resolution: Resolution, now: Instant, evicted: bool) {
        let mut board = self.lock();
        board.counters.frames += 1;
        board.counters.evicted += u64::from(evicted);
        let live = matches!(board.phase, Phase::Live(known) if known == resolution);
        if !live && !matches!(board.phase, Phase::Stopped) {
            let again = matches!(board.phase, Phase::Degraded { .. });
            board.counters.reconnects += u64::from(again);
            board.phase = Phase::Live(resolution);
            info!(source = %self.name, %resolution, again, "frames flow");
        }
        if board.recent.len() == RATE_FRAMES {
            board.recent.pop_front();
        }
        board.recent.push_back(now);
        drop(board);
        self.changed.notify_all();
    }

    /// A frame came that is no use.
    pub(crate) fn corrupt_frame(&self) {
        self.count(|counters| counters.corrupt += 1);
    }

    /// So many frames were due and will not come.
    pub(crate) fn missed_frames(&self, missed: u64) {
        if missed > 0 {
            self.count(|counters| counters.missed += missed);
        }
    }

    /// Frames ceased to come without an error.
    pub(crate) fn stall(&self) {
        self.count(|counters| counters.stalls += 1);
    }

    /// No frames until further notice, for this reason.
    pub(crate) fn degrade(&self, reason: &str) {
        let mut board = self.lock();
        let since = match &board.phase {
            Phase::Stopped => return,
            Phase::Degraded { reason: known, .. } if known == reason => return,
            Phase::Degraded { since, .. } => *since,
            Phase::Starting | Phase::Live(_) => Instant::now(),
        };
        warn!(source = %self.name, reason, "no frames");
        board.phase = Phase::Degraded { reason: reason.to_owned(), since };
        board.recent.clear();
        drop(board);
        self.changed.notify_all();
    }

    /// There will be no frame again.
    pub(crate) fn stop(&self) {
        let mut board = self.lock();
        if !matches!(board.phase, Phase::Stopped) {
            board.phase = Phase::Stopped;
            info!(source = %self.name, "stopped");
        }
        drop(board);
        self.changed.notify_all();
    }

    fn count(&self, count: impl FnOnce(&mut SourceCounters)) {
        count(&mut self.lock().counters);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Every method leaves the board whole between two statements, so a panic elsewhere spoils nothing.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn status(&self, now: Instant) -> SourceStatus {
        let state = match &self.phase {
            Phase::Starting => SourceState::Starting,
            Phase::Live(resolution) => {
                SourceState::Live { resolution: *resolution, frames_per_second: frames_per_second(&self.recent, now) }
            }
            Phase::Degraded { reason, since } => SourceState::Degraded { reason: reason.clone(), since: *since },
            Phase::Stopped => SourceState::Stopped,
        };
        SourceStatus { state, counters: self.counters }
    }
}

/// The rate of the frames in the last [`RATE_WINDOW`] before `now`: intervals over the time they span, so that a source
/// that began a moment ago shows its true rate. The time since the last frame counts once it exceeds an interval.
fn frames_per_second(recent: &VecDeque<Instant>, now: Instant) -> f64 {
    let in_window = recent.iter().filter(|at| now.saturating_duration_since(**at) <= RATE_WINDOW);
    let (mut first, mut last, mut count) = (None, None, 0_u32);
    for at in in_window {
        first = first.or(Some(*at));
        last = Some(*at);
        count += 1;
    }
    let (Some(first), Some(last)) = (first, last) else { return 0.0 };
    let intervals = count - 1;
    let span = last.saturating_duration_since(first).as_secs_f64();
    if intervals == 0 || span <= 0.0 {
        return 0.0;
    }
    let silence = now.saturating_duration_since(last).as_secs_f64();
    let interval = span / f64::from(intervals);
    f64::from(intervals) / (span + (silence - interval).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size() -> Resolution {
        Resolution::new(64, 64).unwrap()
    }

    fn rate_of(board: &StatusBoard, now: Instant) -> f64 {
        match board.lock().status(now).state {
            SourceState::Live { frames_per_second, .. } => frames_per_second,
            other => panic!("not live: {other:?}"),
        }
    }

    #[test]
    fn the_rate_is_measured_from_the_first_second_on_and_falls_when_frames_cease() {
        let start = Instant::now();
        let board = StatusBoard::new("test");
        let at = |millis| start + Duration::from_millis(millis);
        for number in 0..=10 {
            board.frame(size(), at(number * 40), false);
        }
        assert!((rate_of(&board, at(400)) - 25.0).abs() < 0.01);
        assert!((rate_of(&board, at(430)) - 25.0).abs() < 0.01, "the next frame is not late yet");
        assert!(rate_of(&board, at(1_400)) < 10.0);
        assert_eq!(rate_of(&board, at(10_000)), 0.0);
        for number in 0..2_000 {
            board.frame(size(), at(10_000 + number * 4), false);
        }
        assert!((rate_of(&board, at(10_000 + 1_999 * 4)) - 250.0).abs() < 1.0);
        assert!(board.lock().recent.len() <= RATE_FRAMES);
    }

    #[test]
    fn coming_back_counts_as_a_reconnect_and_the_first_start_does_not() {
        let board = StatusBoard::new("test");
        board.degrade("not there yet");
        let since = match board.status().state {
            SourceState::Degraded { since, .. } => since,
            other => panic!("{other:?}"),
        };
        board.degrade("still not there");
        assert_eq!(
            board.status().state,
            SourceState::Degraded { reason: "still not there".into(), since },
            "degraded since the first reason"
        );
        board.frame(size(), Instant::now(), false);
        assert_eq!(board.status().counters.reconnects, 1);
        board.frame(size(), Instant::now(), true);
        let counters = board.status().counters;
        assert_eq!((counters.frames, counters.evicted, counters.reconnects), (2, 1, 1));
    }

    #[test]
    fn stopped_is_final() {
        let board = StatusBoard::new("test");
        board.stop();
        board.degrade("too late");
        board.frame(size(), Instant::now(), false);
        assert_eq!(board.status().state, SourceState::Stopped);
    }

    #[test]
    fn a_waiter_wakes_on_a_change_and_gives_up_at_its_bound() {
        let board = StatusBoard::new("test");
        assert_eq!(board.wait_until(Duration::ZERO, |status| status.counters.stalls > 0), None);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| board.wait_until(Duration::from_secs(60), |status| status.counters.stalls > 0));
            board.stall();
            assert_eq!(waiter.join().unwrap().map(|status| status.counters.stalls), Some(1));
        });
    }
}
