use std::time::Instant;

use crate::{Histogram, StageTimes};

/// Where the time of a track's frames goes, counted for every frame a worker has sent.
#[derive(Debug, Default)]
pub struct StageHistograms {
    /// From the capture time to the picture lying in the frame buffer: transfer, decoding, conversion.
    pub capture: Histogram,
    /// In the frame buffer: waiting for the encode task.
    pub queue: Histogram,
    /// From leaving the frame buffer to the last packet cut.
    pub encode: Histogram,
    /// From the last packet cut to the last viewer's system call done.
    pub send: Histogram,
    /// From the frame buffer to the last viewer's system call: what lenscast adds to a ready picture.
    pub ready_to_sent: Histogram,
    /// From the capture time to the last viewer's system call.
    pub capture_to_sent: Histogram,
}

impl StageHistograms {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one frame whose last packet left at `sent`.
    pub fn record(&self, times: &StageTimes, sent: Instant) {
        let StageTimes { captured, ready, taken, encoded } = *times;
        self.capture.record(ready.saturating_duration_since(captured));
        self.queue.record(taken.saturating_duration_since(ready));
        self.encode.record(encoded.saturating_duration_since(taken));
        self.send.record(sent.saturating_duration_since(encoded));
        self.ready_to_sent.record(sent.saturating_duration_since(ready));
        self.capture_to_sent.record(sent.saturating_duration_since(captured));
    }

    /// The histograms with their names, in the order of a frame's way.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &Histogram); 6] {
        [
            ("capture", &self.capture),
            ("queue", &self.queue),
            ("encode", &self.encode),
            ("send", &self.send),
            ("ready_to_sent", &self.ready_to_sent),
            ("capture_to_sent", &self.capture_to_sent),
        ]
    }
}
