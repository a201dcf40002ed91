use std::mem::ManuallyDrop;

use super::{Arc, Creation, Entry, EntryId, Future, Joined, ObtainError, Outcome, Registry, Shared, Stage};

/// What [`Registry::obtain_with`] does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A creation that failed stays, as in mediasoup (N4 of the reference).
    KeepsFailures,
    /// A creation whose future is dropped stays.
    KeepsItsPlace,
    /// What was made is put in, whether or not it has ended meanwhile (N3, N5).
    PutsInUnseen,
}

impl<K: Ord + Clone, V, E: Clone> Registry<K, V, E> {
    /// Looks whether there is one, and then makes one.
    pub(crate) async fn obtain_looking_first<C: Future<Output = Result<V, E>>>(
        &self,
        key: K,
        create: impl FnOnce(EntryId) -> C,
    ) -> Outcome<K, V, E> {
        if self.shelf.entries.lock().by_key.contains_key(&key) {
            return self.obtain(key, create).await;
        }
        let entry = self.next_entry();
        let value = create(entry).await.map_err(ObtainError::Failed)?;
        Ok(self.put_in(key, entry, value))
    }

    pub(crate) async fn obtain_with<C: Future<Output = Result<V, E>>>(
        &self,
        mistake: Mistake,
        key: K,
        create: impl FnOnce(EntryId) -> C,
    ) -> Outcome<K, V, E> {
        loop {
            match self.shelf.join(&key) {
                Joined::Live(shared) => return Ok(shared),
                Joined::Waiting(outcome) => {
                    if let Some(outcome) = outcome.await {
                        return outcome;
                    }
                }
                Joined::Creator(creation) => {
                    // Not cleaned up when the future is dropped.
                    let creation = ManuallyDrop::new(creation);
                    let made = create(creation.entry).await;
                    let creation: Creation<'_, K, V, E> = ManuallyDrop::into_inner(creation);
                    return match made {
                        Ok(value) if mistake == Mistake::PutsInUnseen => {
                            let entry = creation.entry;
                            drop(creation);
                            Ok(self.put_in(key, entry, value))
                        }
                        Ok(value) => creation.commit(value),
                        Err(error) if mistake == Mistake::KeepsFailures => {
                            let _ = ManuallyDrop::new(creation);
                            Err(ObtainError::Failed(error))
                        }
                        Err(error) => Err(creation.fail(error)),
                    };
                }
            }
        }
    }

    /// Removes whatever is there now.
    pub(crate) fn remove_by_key(&self, key: &K, _: EntryId) -> bool {
        let removed = self.shelf.entries.lock().by_key.remove(key);
        removed.is_some()
    }

    fn next_entry(&self) -> EntryId {
        let mut entries = self.shelf.entries.lock();
        entries.next += 1;
        EntryId(entries.next - 1)
    }

    fn put_in(&self, key: K, entry: EntryId, value: V) -> Shared<K, V, E> {
        let value = Arc::new(value);
        let stage = Stage::Live { value: Arc::clone(&value), holders: 1 };
        let put = Entry { id: entry, stage, waiting: Vec::new() };
        let replaced = self.shelf.entries.lock().by_key.insert(key.clone(), put);
        drop(replaced);
        Shared { shelf: Arc::clone(&self.shelf), key, entry, value: Some(value) }
    }
}

impl<K: Ord + Clone, V, E> Shared<K, V, E> {
    /// Takes the value out of the registry, and then drops it.
    pub(crate) fn forget_first(mut self) {
        let own = self.value.take();
        self.shelf.forget(&self.key, self.entry);
        drop(own);
        let _ = ManuallyDrop::new(self);
    }

    /// Drops the value while the registry is locked.
    pub(crate) fn drop_under_the_lock(mut self) {
        let mut entries = self.shelf.entries.lock();
        entries.by_key.remove(&self.key);
        drop(self.value.take());
        drop(entries);
        let _ = ManuallyDrop::new(self);
    }
}
