//! Where frames' time went lately. A camera's histograms count since its start: after an hour they hardly show a change
//! any more, and after a bad first second they show that for an hour.
//!
//! What was counted at two earlier moments is remembered for each camera, and what came since the older one is recent.
//! The moments move on when somebody asks, so what is recent covers [`WINDOW`] to twice that while somebody asks now and
//! then, and otherwise the time since somebody last did.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lenscast_media::sync::Mutex;
use lenscast_media::{HistogramSnapshot, StageHistograms};
use lenscast_router::ProducerId;

const WINDOW: Duration = Duration::from_secs(10);
const STAGES: usize = 6;

pub(super) struct RecentLatency {
    marks: Mutex<HashMap<ProducerId, Marks>>,
}

struct Marks {
    older: [HistogramSnapshot; STAGES],
    newer: [HistogramSnapshot; STAGES],
    newer_at: Instant,
}

impl RecentLatency {
    pub(super) fn new() -> Self {
        Self { marks: Mutex::new(HashMap::new()) }
    }

    /// The stages of `producer`, whose histograms are `stages`, with what was counted lately, in a frame's order.
    pub(super) fn read(
        &self,
        producer: ProducerId,
        stages: &StageHistograms,
        now: Instant,
    ) -> [(&'static str, HistogramSnapshot); STAGES] {
        let named = stages.named().map(|(name, histogram)| (name, histogram.snapshot()));
        let mut marks = self.marks.lock();
        let nothing = || [const { HistogramSnapshot::empty() }; STAGES];
        let marks =
            marks.entry(producer).or_insert_with(|| Marks { older: nothing(), newer: nothing(), newer_at: now });
        if now.saturating_duration_since(marks.newer_at) >= WINDOW {
            let newest = named.clone().map(|(_, snapshot)| snapshot);
            marks.older = std::mem::replace(&mut marks.newer, newest);
            marks.newer_at = now;
        }
        let mut older = marks.older.iter();
        named.map(|(name, snapshot)| (name, snapshot.since(older.next().expect("as many as there are stages"))))
    }

    /// Forgets cameras that are gone.
    pub(super) fn retain(&self, is_there: impl Fn(ProducerId) -> bool) {
        self.marks.lock().retain(|&producer, _| is_there(producer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_long_ago() {
        let (recent, stages, start) = (RecentLatency::new(), StageHistograms::new(), Instant::now());
        let encodes = |seconds| {
            let [_, _, (name, snapshot), ..] =
                recent.read(ProducerId(1), &stages, start + Duration::from_secs(seconds));
            assert_eq!(name, "encode");
            snapshot.count()
        };
        stages.encode.record(Duration::from_secs(1));
        assert_eq!(encodes(0), 1, "all there is is recent at first");
        assert_eq!(encodes(9), 1);
        stages.encode.record(Duration::from_millis(1));
        assert_eq!(encodes(10), 2);
        stages.encode.record(Duration::from_millis(1));
        assert_eq!(encodes(19), 3);
        assert_eq!(encodes(20), 1, "only what came after the tenth second");
        assert_eq!(encodes(31), 0);
    }

    #[test]
    fn keeps_nothing_of_cameras_that_are_gone() {
        let (recent, stages, now) = (RecentLatency::new(), StageHistograms::new(), Instant::now());
        for producer in 0..10 {
            recent.read(ProducerId(producer), &stages, now);
        }
        recent.retain(|ProducerId(producer)| producer == 3);
        assert_eq!(recent.marks.lock().len(), 1);
    }
}
