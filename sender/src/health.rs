use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use crate::{Track, TrackState};

/// Whether a track does what it is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nobody wants its frames, or nothing is allotted to it.
    Idle,
    /// It is to encode, since less than two seconds, and no frame has come out yet.
    Starting,
    /// It is to encode, and a frame came out within the last two seconds.
    Encoding,
    /// It is to encode, and no frame has come out for this long.
    Stalled(Duration),
    /// Its encoder cannot be built or keeps failing, or its task has panicked.
    Failed(String),
}

/// A track is stalled after this long without a frame.
const STALLED: Duration = Duration::from_secs(2);

impl Track {
    /// Whether it does what it is to do.
    #[must_use]
    pub fn health(&self, now: Instant) -> Health {
        let control = self.control();
        let wanted = control.is_any_wanted();
        let allotted = (0..self.config().layers).any(|layer| control.target(layer) > Bitrate::ZERO);
        let mut health = Health::Idle;
        self.record(|stats| {
            // Without a frame, a track that somebody begins to watch does not even ask for its share.
            let expected = wanted && (allotted || *stats.state() != TrackState::Paused);
            let since = stats.expect_frames(now, expected);
            let recent = |at: Instant| now.saturating_duration_since(at) < STALLED;
            health = match (stats.state(), since) {
                (TrackState::Failed { reason }, _) => Health::Failed(reason.clone()),
                (_, None) => Health::Idle,
                (_, Some(_)) if stats.last_frame().is_some_and(recent) => Health::Encoding,
                (_, Some(since)) if recent(since) => Health::Starting,
                (_, Some(since)) => Health::Stalled(now.saturating_duration_since(since)),
            };
        });
        health
    }
}
