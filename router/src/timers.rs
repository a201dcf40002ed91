use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What is due when: each thing at most once.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    by_time: BTreeSet<(Instant, T)>,
    by_thing: BTreeMap<T, Instant>,
}

impl<T: Ord + Copy> Timers<T> {
    /// When the first of all is due.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Sets when `thing` is due, whatever was set before; `None` for never.
    pub(crate) fn set(&mut self, thing: T, due: Option<Instant>) {
        if let Some(before) = self.by_thing.remove(&thing) {
            self.by_time.remove(&(before, thing));
        }
        if let Some(due) = due {
            self.by_thing.insert(thing, due);
            self.by_time.insert((due, thing));
        }
    }

    pub(crate) fn is_set(&self, thing: T) -> bool {
        self.by_thing.contains_key(&thing)
    }

    /// Takes the first that is due by `now`, with the time it was due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let &(due, thing) = self.by_time.first().filter(|(due, _)| *due <= now)?;
        self.set(thing, None);
        Some((due, thing))
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_thing: BTreeMap::new() }
    }
}
