use std::time::Duration;

/// When a frame was captured, and when the next is expected.
///
/// The rate control shares bits out by these times. What makes no sense in them is put right, never refused:
///
/// - a timestamp that stands still or runs backwards counts as one nominal frame interval after the last;
/// - a duration of zero counts as one nominal interval;
/// - a step or a duration is at least an eighth of the nominal interval and at most a second, or as long as the target
///   needs for 8 Mbit if that is shorter.
///
/// So a source that runs at more than eight times its nominal rate gets more bits than its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTiming {
    /// Capture time since the track's start.
    pub timestamp: Duration,
    /// Expected time to the next frame.
    pub duration: Duration,
}
