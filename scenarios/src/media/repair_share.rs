//! How much of what is sent is sent again, so that it can be set aside.

use std::time::{Duration, Instant};

/// More than this part of media is never set aside for sending again.
const MAX_RETRANSMISSION: f64 = 0.3;

/// How much of media is sent again: over the last second or two.
#[derive(Debug)]
pub(super) struct RepairShare {
    since: Instant,
    media: u64,
    again: u64,
    share: f64,
}

impl RepairShare {
    /// Between two looks; the newest counts as much as all before it.
    const SPAN: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, media: 0, again: 0, share: 0.0 }
    }

    pub(super) fn note_media(&mut self, payload: u32) {
        self.media += u64::from(payload);
    }

    pub(super) fn note_again(&mut self, payload: u32) {
        self.again += u64::from(payload);
    }

    pub(super) fn share(&mut self, now: Instant) -> f64 {
        if now >= self.since + Self::SPAN && self.media > 0 {
            let newest = (self.again as f64 / self.media as f64).min(MAX_RETRANSMISSION);
            self.share = (self.share + newest) / 2.0;
            (self.since, self.media, self.again) = (now, 0, 0);
        }
        self.share
    }
}
