//! What a sender has to send.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::PAYLOAD_BYTES;
use crate::random::Random;

/// How much there is to send, and when.
#[derive(Debug, Clone, PartialEq)]
pub enum Workload {
    /// Without end.
    Endless,
    /// One download after the other.
    OnOff(Downloads),
}

/// Downloads with pauses between; each begins as a new connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Downloads {
    /// Between which sizes, evenly distributed, rounded up to whole segments.
    pub bytes: RangeInclusive<u64>,
    /// How long the pauses are on average, exponentially distributed.
    pub mean_pause: Duration,
    /// Whether a download begins at once, or after a first pause.
    pub starts_on: bool,
    /// Where the random numbers begin.
    pub seed: u64,
}

impl Downloads {
    /// Parts of web pages, as RFC 8868, section 5.1, models short flows: 30 to 50 kB, pauses of 10 s on average.
    #[must_use]
    pub fn web(seed: u64, starts_on: bool) -> Self {
        Self { bytes: 30_000..=50_000, mean_pause: Duration::from_secs(10), starts_on, seed }
    }

    /// Files, as libwebrtc's simulation of case 5.7 reads it (`bwe_test.cc`, `GetFileSizesBytes`): 100 to 1,000 kB.
    #[must_use]
    pub fn files(seed: u64, starts_on: bool) -> Self {
        Self { bytes: 100_000..=1_000_000, ..Self::web(seed, starts_on) }
    }
}

/// A workload as it goes on.
#[derive(Debug)]
pub(super) struct Progress {
    downloads: Option<(Downloads, Random)>,
    /// Segments that there are up to now, sent or not.
    pub(super) available: u64,
    /// When more comes.
    pub(super) resumes_at: Option<Instant>,
    pub(super) finished: u64,
}

impl Progress {
    pub(super) fn new(start: Instant, workload: Workload) -> Self {
        match workload {
            Workload::Endless => Self { downloads: None, available: u64::MAX, resumes_at: None, finished: 0 },
            Workload::OnOff(downloads) => {
                let random = Random::new(downloads.seed);
                let starts_on = downloads.starts_on;
                let mut progress =
                    Self { downloads: Some((downloads, random)), available: 0, resumes_at: Some(start), finished: 0 };
                if !starts_on {
                    progress.pause(start);
                }
                progress
            }
        }
    }

    /// Begins the next download if it is time. True if one has begun.
    pub(super) fn resume(&mut self, now: Instant) -> bool {
        let Some((downloads, random)) = &mut self.downloads else { return false };
        if self.resumes_at.is_none_or(|at| at > now) {
            return false;
        }
        self.resumes_at = None;
        let bytes = random.between(*downloads.bytes.start() as f64, *downloads.bytes.end() as f64).max(1.0) as u64;
        self.available = self.available.saturating_add(bytes.div_ceil(u64::from(PAYLOAD_BYTES)));
        true
    }

    /// So many segments have arrived: if those are all, a pause begins.
    pub(super) fn handle_arrived(&mut self, now: Instant, arrived: u64) {
        if self.downloads.is_some() && self.resumes_at.is_none() && arrived >= self.available {
            self.finished += 1;
            self.pause(now);
        }
    }

    fn pause(&mut self, now: Instant) {
        let Some((downloads, random)) = &mut self.downloads else { return };
        let pause = downloads.mean_pause.as_secs_f64() * random.exponential();
        self.resumes_at = Duration::try_from_secs_f64(pause).ok().and_then(|pause| now.checked_add(pause));
    }
}
