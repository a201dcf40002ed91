//! At most one of each: what concurrent callers make once and share.
//!
//! # The lock
//!
//! One mutex, a leaf: while it is held nothing is created, dropped, woken or called back, so that a creation, a value's
//! drop and a woken task may come back to the registry (I14).
//!
//! - **P1** For a key there is at most one value, being made, live, or being dropped. Whoever asks meanwhile waits: for
//!   the value that is being made, to share it; for the one that is being dropped, to make another (I10).
//! - **P2** A creation that fails tells everybody who waited for it, and leaves nothing: the next one tries anew (I11).
//! - **P3** A creation whose future is dropped leaves nothing; what it had made so far is dropped with it, and the next
//!   one who waits creates in its place (I16).
//! - **P4** An entry is removed by its identity, never by its key alone: who is late removes nothing of his successor's
//!   (I12).
//! - **P5** A value that ended while it was being made is never given to anybody (I9; N3 and N5 of the reference).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use lenscast_media::sync::Mutex;
use thiserror::Error;

use crate::pipe::promise::{Awaited, Promise, promise};

/// Makes values by key, one at a time, and shares each between all who ask for it. A value is dropped with the last
/// [`Shared`] of it.
pub struct Registry<K: Ord + Clone, V, E> {
    shelf: Arc<Shelf<K, V, E>>,
}

/// A holder's part in a registry's value. The last to be dropped drops the value.
#[must_use = "the value is dropped with its last holder"]
pub struct Shared<K: Ord + Clone, V, E> {
    shelf: Arc<Shelf<K, V, E>>,
    key: K,
    entry: EntryId,
    /// There until it is dropped.
    value: Option<Arc<V>>,
}

/// The identity of what was made for a key at one time. Unique in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u64);

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ObtainError<E> {
    /// It could not be made.
    #[error(transparent)]
    Failed(E),
    /// It ended while it was being made.
    #[error("it ended while it was being made")]
    Ended,
}

struct Shelf<K: Ord + Clone, V, E> {
    entries: Mutex<Entries<K, V, E>>,
}

struct Entries<K: Ord + Clone, V, E> {
    by_key: BTreeMap<K, Entry<K, V, E>>,
    next: u64,
}

struct Entry<K: Ord + Clone, V, E> {
    id: EntryId,
    stage: Stage<V>,
    /// Who is to be told when the stage ends. Nobody while it is live.
    waiting: Vec<Promise<Outcome<K, V, E>>>,
}

enum Stage<V> {
    Creating,
    Live {
        value: Arc<V>,
        holders: usize,
    },
    /// The last holder is dropping the value.
    Closing,
}

type Outcome<K, V, E> = Result<Shared<K, V, E>, ObtainError<E>>;

impl<K: Ord + Clone, V, E: Clone> Registry<K, V, E> {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let entries = Mutex::new(Entries { by_key: BTreeMap::new(), next: 0 });
        Self { shelf: Arc::new(Shelf { entries }) }
    }

    /// Keys for which there is a value, or one is being made or dropped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf.entries.lock().by_key.len()
    }

    /// True if nothing is there nor on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value for `key`: the one there is, or the one that somebody is making, or what `create` makes. `create` is
    /// told the identity that the value will have, by which [`Registry::remove`] may end it at any time from then on.
    ///
    /// May be dropped at any moment.
    ///
    /// # Errors
    ///
    /// If the creation fails, whoever did it, or the value ended before it was finished.
    pub async fn obtain<F, C>(&self, key: K, create: F) -> Result<Shared<K, V, E>, ObtainError<E>>
    where
        F: FnOnce(EntryId) -> C,
        C: Future<Output = Result<V, E>>,
    {
        loop {
            match self.shelf.join(&key) {
                Joined::Live(shared) => return Ok(shared),
                Joined::Waiting(outcome) => {
                    if let Some(outcome) = outcome.await {
                        return outcome;
                    }
                    // Its creator gave up, or its last holder has dropped it.
                }
                Joined::Creator(creation) => {
                    return match create(creation.entry).await {
                        Ok(value) => creation.commit(value),
                        Err(error) => Err(creation.fail(error)),
                    };
                }
            }
        }
    }

    /// The value has ended by itself: whoever asks from now on gets another. False if it is not there any more.
    pub fn remove(&self, key: &K, entry: EntryId) -> bool {
        let removed = {
            let mut entries = self.shelf.entries.lock();
            match entries.by_key.get(key) {
                // Whoever is dropping it removes it, once that is done.
                Some(found) if found.id == entry && !matches!(found.stage, Stage::Closing) => {
                    entries.by_key.remove(key)
                }
                _ => None,
            }
        };
        let Some(removed) = removed else { return false };
        for waiting in removed.waiting {
            let _ = waiting.keep(Err(ObtainError::Ended));
        }
        true
    }
}

impl<K: Ord + Clone, V, E: Clone> Default for Registry<K, V, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V, E> Clone for Registry<K, V, E> {
    fn clone(&self) -> Self {
        Self { shelf: Arc::clone(&self.shelf) }
    }
}

impl<K: Ord + Clone, V, E> fmt::Debug for Registry<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl<K: Ord + Clone, V, E> Shared<K, V, E> {
    /// Which of the values that there have been for the key.
    pub const fn entry(&self) -> EntryId {
        self.entry
    }

    /// What it was asked for by.
    pub const fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Ord + Clone, V, E> Clone for Shared<K, V, E> {
    fn clone(&self) -> Self {
        if let Some(Entry { id, stage: Stage::Live { holders, .. }, .. }) =
            self.shelf.entries.lock().by_key.get_mut(&self.key)
            && *id == self.entry
        {
            *holders += 1;
        }
        Self { shelf: Arc::clone(&self.shelf), key: self.key.clone(), entry: self.entry, value: self.value.clone() }
    }
}

impl<K: Ord + Clone, V, E> Deref for Shared<K, V, E> {
    type Target = V;

    fn deref(&self) -> &V {
        self.value.as_ref().expect("there until it is dropped")
    }
}

impl<K: Ord + Clone, V: fmt::Debug, E> fmt::Debug for Shared<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("entry", &self.entry).field("value", &self.value).finish_non_exhaustive()
    }
}

impl<K: Ord + Clone, V, E> Drop for Shared<K, V, E> {
    fn drop(&mut self) {
        let own = self.value.take();
        let listed = {
            let mut entries = self.shelf.entries.lock();
            match entries.by_key.get_mut(&self.key).filter(|found| found.id == self.entry) {
                Some(found) => match &mut found.stage {
                    Stage::Live { holders, .. } if *holders > 1 => {
                        *holders -= 1;
                        return;
                    }
                    // Until the value is dropped, nobody may make another.
                    stage => match std::mem::replace(stage, Stage::Closing) {
                        Stage::Live { value, .. } => value,
                        Stage::Creating | Stage::Closing => unreachable!("it has a holder"),
                    },
                },
                // It has been removed: others make their own, whatever becomes of this one.
                None => return,
            }
        };
        drop(listed);
        drop(own);
        self.shelf.forget(&self.key, self.entry);
    }
}

/// Where somebody stands who asks.
enum Joined<'a, K: Ord + Clone, V, E> {
    Live(Shared<K, V, E>),
    Waiting(Awaited<Outcome<K, V, E>>),
    Creator(Creation<'a, K, V, E>),
}

/// The right to make the value for a key. Dropped unused, it leaves the key to the next.
struct Creation<'a, K: Ord + Clone, V, E> {
    shelf: &'a Arc<Shelf<K, V, E>>,
    key: K,
    entry: EntryId,
}

impl<K: Ord + Clone, V, E: Clone> Creation<'_, K, V, E> {
    /// The value is there, for its creator and for all who waited.
    fn commit(self, value: V) -> Outcome<K, V, E> {
        let value = Arc::new(value);
        let waiting = {
            let mut entries = self.shelf.entries.lock();
            let Some(found) = entries.by_key.get_mut(&self.key).filter(|found| found.id == self.entry) else {
                drop(entries);
                // It ended before it was finished. Dropped outside the lock.
                drop(value);
                return Err(ObtainError::Ended);
            };
            let waiting = std::mem::take(&mut found.waiting);
            found.stage = Stage::Live { value: Arc::clone(&value), holders: 1 + waiting.len() };
            waiting
        };
        for waiting in waiting {
            // Whoever gave up waiting gives his part back.
            drop(waiting.keep(Ok(self.shared(&value))));
        }
        Ok(self.shared(&value))
    }

    fn fail(self, error: E) -> ObtainError<E> {
        for waiting in self.shelf.take(&self.key, self.entry) {
            let _ = waiting.keep(Err(ObtainError::Failed(error.clone())));
        }
        ObtainError::Failed(error)
    }
}

impl<K: Ord + Clone, V, E> Creation<'_, K, V, E> {
    fn shared(&self, value: &Arc<V>) -> Shared<K, V, E> {
        Shared {
            shelf: Arc::clone(self.shelf),
            key: self.key.clone(),
            entry: self.entry,
            value: Some(Arc::clone(value)),
        }
    }
}

impl<K: Ord + Clone, V, E> Drop for Creation<'_, K, V, E> {
    fn drop(&mut self) {
        // Dropped with their promises, those who wait find out and try themselves.
        drop(self.shelf.take_creating(&self.key, self.entry));
    }
}

impl<K: Ord + Clone, V, E> Shelf<K, V, E> {
    /// In one step: the value, or a place among those who wait, or the right to create.
    fn join<'a>(self: &'a Arc<Self>, key: &K) -> Joined<'a, K, V, E> {
        let mut entries = self.entries.lock();
        match entries.by_key.get_mut(key) {
            Some(Entry { id, stage: Stage::Live { value, holders }, .. }) => {
                *holders += 1;
                let (value, entry) = (Some(Arc::clone(value)), *id);
                Joined::Live(Shared { shelf: Arc::clone(self), key: key.clone(), entry, value })
            }
            Some(entry) => {
                // Now and then, so that those who gave up do not pile up.
                if entry.waiting.len() == entry.waiting.capacity() {
                    entry.waiting.retain(Promise::is_awaited);
                }
                let (promise, awaited) = promise();
                entry.waiting.push(promise);
                Joined::Waiting(awaited)
            }
            None => {
                let id = EntryId(entries.next);
                entries.next += 1;
                entries.by_key.insert(key.clone(), Entry { id, stage: Stage::Creating, waiting: Vec::new() });
                Joined::Creator(Creation { shelf: self, key: key.clone(), entry: id })
            }
        }
    }

    /// Takes the entry out, if it is still this one, and returns who waits.
    fn take(&self, key: &K, entry: EntryId) -> Vec<Promise<Outcome<K, V, E>>> {
        let mut entries = self.entries.lock();
        match entries.by_key.get(key) {
            Some(found) if found.id == entry => {
                entries.by_key.remove(key).map(|removed| removed.waiting).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// The same of one that has not been finished.
    fn take_creating(&self, key: &K, entry: EntryId) -> Vec<Promise<Outcome<K, V, E>>> {
        let mut entries = self.entries.lock();
        match entries.by_key.get(key) {
            Some(found) if found.id == entry && matches!(found.stage, Stage::Creating) => {
                entries.by_key.remove(key).map(|removed| removed.waiting).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn forget(&self, key: &K, entry: EntryId) {
        drop(self.take(key, entry));
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "../models/broken/registry.rs"]
pub(crate) mod broken;

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::pipe::promise::promise;

    /// Counts itself as long as it lives.
    #[derive(Debug)]
    struct Counted(Arc<AtomicI32>);

    impl Counted {
        fn new(living: &Arc<AtomicI32>) -> Self {
            living.fetch_add(1, Ordering::SeqCst);
            Self(Arc::clone(living))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    type Counting = Registry<&'static str, Counted, &'static str>;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match poll(pin!(future)) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn callers_at_once_share_what_one_of_them_makes_and_the_last_drops_it() {
        let (registry, living) = (Counting::new(), Arc::new(AtomicI32::new(0)));
        let (finish, finished) = promise();
        let mut first = pin!(registry.obtain("a", async |_| {
            let made = Counted::new(&living);
            finished.await;
            Ok(made)
        }));
        assert!(poll(first.as_mut()).is_pending());
        let mut second = pin!(registry.obtain("a", async |_| unreachable!("somebody makes it")));
        assert!(poll(second.as_mut()).is_pending());
        {
            let mut gives_up = pin!(registry.obtain("a", async |_| unreachable!("somebody makes it")));
            assert!(poll(gives_up.as_mut()).is_pending());
        }
        finish.keep(()).unwrap();
        let Poll::Ready(Ok(first)) = poll(first.as_mut()) else { panic!("it is finished") };
        let Poll::Ready(Ok(second)) = poll(second.as_mut()) else { panic!("it is finished") };
        let third = ready(registry.obtain("a", async |_| unreachable!("there is one"))).unwrap();
        let other = ready(registry.obtain("b", async |_| Ok(Counted::new(&living)))).unwrap();
        assert!(first.entry() == second.entry() && second.entry() == third.entry() && other.entry() != first.entry());
        drop((first, second));
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (2, 2));
        let fourth = third.clone();
        drop(third);
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (2, 2));
        drop((fourth, other));
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (0, 0));
    }

    #[test]
    fn a_failure_is_told_to_all_who_waited_and_the_next_tries_anew() {
        let (registry, living) = (Counting::new(), Arc::new(AtomicI32::new(0)));
        let (finish, finished) = promise();
        let mut first = pin!(registry.obtain("a", async |_| {
            let _half = Counted::new(&living);
            finished.await;
            Err("no room")
        }));
        assert!(poll(first.as_mut()).is_pending());
        let mut second = pin!(registry.obtain("a", async |_| unreachable!("somebody makes it")));
        assert!(poll(second.as_mut()).is_pending());
        finish.keep(()).unwrap();
        for mut caller in [poll(first.as_mut()), poll(second.as_mut())] {
            let Poll::Ready(outcome) = &mut caller else { panic!("it is finished") };
            assert_eq!(outcome.as_ref().unwrap_err(), &ObtainError::Failed("no room"));
        }
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (0, 0));
        assert!(ready(registry.obtain("a", async |_| Ok(Counted::new(&living)))).is_ok());
    }

    #[test]
    fn who_waits_for_a_creator_that_gives_up_creates_in_its_place() {
        let (registry, living) = (Counting::new(), Arc::new(AtomicI32::new(0)));
        let mut second = pin!(registry.obtain("a", async |_| Ok(Counted::new(&living))));
        {
            let mut first = pin!(registry.obtain("a", async |_| {
                let half = Counted::new(&living);
                std::future::pending::<()>().await;
                Ok(half)
            }));
            assert!(poll(first.as_mut()).is_pending());
            assert!(poll(second.as_mut()).is_pending());
            assert_eq!(living.load(Ordering::SeqCst), 1);
        }
        assert_eq!(living.load(Ordering::SeqCst), 0, "its half is gone");
        let Poll::Ready(Ok(made)) = poll(second.as_mut()) else { panic!("nobody else makes it") };
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (1, 1));
        drop(made);
        assert!(registry.is_empty());
    }

    #[test]
    fn what_ended_is_removed_by_its_identity_before_and_after_it_was_finished() {
        let (registry, living) = (Counting::new(), Arc::new(AtomicI32::new(0)));
        let ended = ready(registry.obtain("a", async |entry| {
            assert!(registry.remove(&"a", entry));
            Ok(Counted::new(&living))
        }));
        assert_eq!(ended.unwrap_err(), ObtainError::Ended);
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (0, 0));

        let old = ready(registry.obtain("a", async |_| Ok(Counted::new(&living)))).unwrap();
        assert!(registry.remove(&"a", old.entry()));
        let new = ready(registry.obtain("a", async |_| Ok(Counted::new(&living)))).unwrap();
        assert!(!registry.remove(&"a", old.entry()), "that one is gone already");
        drop(old);
        assert_eq!((living.load(Ordering::SeqCst), registry.len()), (1, 1), "the new one stays");
        drop(new);
        assert!(registry.is_empty());
    }
}
