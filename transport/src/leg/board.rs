use std::collections::BTreeMap;
use std::sync::Arc;

use lenscast_media::sync::Mutex;
use lenscast_router::TransportId;
use tokio::sync::watch;

use super::LegReport;

/// Where one worker writes down what it knows of its legs. The lock is held to put one report in, or to take hold of all.
pub(crate) struct Board {
    reports: Mutex<BTreeMap<TransportId, Arc<LegReport>>>,
    /// All workers' one, which counts changes that matter.
    changes: Arc<watch::Sender<u64>>,
}

impl Board {
    pub(crate) fn new(changes: Arc<watch::Sender<u64>>) -> Self {
        Self { reports: Mutex::default(), changes }
    }

    /// One that nobody waits at.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn alone() -> Arc<Self> {
        Arc::new(Self::new(Arc::new(watch::Sender::new(0))))
    }

    pub(crate) fn reports(&self) -> Vec<Arc<LegReport>> {
        self.reports.lock().values().cloned().collect()
    }

    pub(crate) fn report_of(&self, id: TransportId) -> Option<Arc<LegReport>> {
        self.reports.lock().get(&id).cloned()
    }

    /// Puts a leg's newest report up.
    pub(crate) fn put(&self, report: LegReport) {
        let before = self.reports.lock().insert(report.id, Arc::new(report));
        // Outside the lock.
        drop(before);
    }

    /// Takes a leg's report down. True if there was one.
    pub(crate) fn take_down(&self, id: TransportId) -> bool {
        let removed = self.reports.lock().remove(&id);
        removed.is_some()
    }

    /// Tells whoever waits that a report has changed by what matters.
    pub(crate) fn announce(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }
}
