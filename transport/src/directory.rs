//! Which worker has which session: what the workers share, off the packet path.
//!
//! A session belongs to nobody until its viewer's first check arrives; the worker that receives it claims it, before it
//! knows whether the check is authentic: a forged one can decide which worker that is, and nothing else. The kernel
//! spreads viewers over the workers' sockets by their addresses and keeps each where it is, so that a viewer's packets
//! reach its own worker without a detour, as long as it does not move to another address.

use std::collections::HashMap;
use std::time::Instant;

use lenscast_media::sync::Mutex;
use lenscast_router::TransportId;

use crate::IceCredentials;
use crate::session::SessionSetup;

pub(crate) struct Directory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: HashMap<TransportId, Entry>,
    by_ufrag: HashMap<String, TransportId>,
}

struct Entry {
    place: Place,
    /// How many of the places that there are it takes.
    weight: usize,
    ufrags: Vec<String>,
}

enum Place {
    Pending(Box<SessionSetup>),
    Worker(usize),
}

/// Whose a check is.
pub(crate) enum Claim {
    /// From now on the asking worker's.
    New(Box<SessionSetup>),
    /// Another worker's, or the asking one's already.
    Worker(usize),
    Unknown,
}

/// Who has to know of a restart.
pub(crate) enum Restart {
    /// Nobody else: the session is still to begin.
    Pending,
    /// The session's worker.
    Worker(usize),
    Unknown,
}

impl Inner {
    /// Places that are taken.
    fn taken(&self) -> usize {
        self.sessions.values().map(|entry| entry.weight).sum()
    }
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner::default()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().sessions.len()
    }

    pub(crate) fn pending(&self) -> usize {
        let inner = self.inner.lock();
        inner.sessions.values().filter(|entry| matches!(entry.place, Place::Pending(_))).count()
    }

    /// User fragments that lead somewhere.
    #[cfg(test)]
    pub(crate) fn ufrags(&self) -> usize {
        let inner = self.inner.lock();
        assert_eq!(inner.by_ufrag.len(), inner.sessions.values().map(|entry| entry.ufrags.len()).sum::<usize>());
        inner.by_ufrag.len()
    }

    pub(crate) fn contains(&self, id: TransportId) -> bool {
        self.inner.lock().sessions.contains_key(&id)
    }

    /// The worker that has this session, if any has claimed it.
    pub(crate) fn worker_of(&self, id: TransportId) -> Option<usize> {
        match self.inner.lock().sessions.get(&id)?.place {
            Place::Worker(worker) => Some(worker),
            Place::Pending(_) => None,
        }
    }

    /// Announces a session. False if it takes more than what is left of `limit` places: one for each camera that it shows.
    pub(crate) fn announce(&self, setup: SessionSetup, limit: usize) -> bool {
        let mut inner = self.inner.lock();
        let weight = setup.purpose.places();
        if inner.taken() + weight > limit {
            return false;
        }
        debug_assert!(setup.restart.is_none(), "a session is announced before it can be restarted");
        let (id, ufrag) = (setup.id, setup.credentials.ufrag.clone());
        inner.by_ufrag.insert(ufrag.clone(), id);
        inner.sessions.insert(id, Entry { place: Place::Pending(Box::new(setup)), weight, ufrags: vec![ufrag] });
        true
    }

    /// Takes in a session that is a worker's from the beginning. False if there are `limit` already.
    pub(crate) fn admit(&self, id: TransportId, worker: usize, limit: usize) -> bool {
        let mut inner = self.inner.lock();
        if inner.taken() >= limit {
            return false;
        }
        inner.sessions.insert(id, Entry { place: Place::Worker(worker), weight: 1, ufrags: Vec::new() });
        true
    }

    /// A check for `ufrag` has reached `worker`.
    pub(crate) fn claim(&self, ufrag: &str, worker: usize) -> Claim {
        let mut inner = self.inner.lock();
        let Some(&id) = inner.by_ufrag.get(ufrag) else { return Claim::Unknown };
        let entry = inner.sessions.get_mut(&id).expect("every user fragment belongs to a session");
        match std::mem::replace(&mut entry.place, Place::Worker(worker)) {
            Place::Pending(setup) => Claim::New(setup),
            Place::Worker(owner) => {
                entry.place = Place::Worker(owner);
                Claim::Worker(owner)
            }
        }
    }

    /// Gives the session `fresh` credentials beside those in use: which are used, the viewer decides. They replace those
    /// of an earlier restart, here if the session is pending, else by its worker's [`Directory::forget_ufrag`].
    pub(crate) fn restart(&self, id: TransportId, fresh: &IceCredentials) -> Restart {
        let mut inner = self.inner.lock();
        let Inner { sessions, by_ufrag } = &mut *inner;
        let Some(entry) = sessions.get_mut(&id) else { return Restart::Unknown };
        by_ufrag.insert(fresh.ufrag.clone(), id);
        entry.ufrags.push(fresh.ufrag.clone());
        match &mut entry.place {
            Place::Pending(setup) => {
                if let Some(replaced) = setup.restart.replace(fresh.clone()) {
                    by_ufrag.remove(&replaced.ufrag);
                    entry.ufrags.retain(|ufrag| *ufrag != replaced.ufrag);
                }
                Restart::Pending
            }
            Place::Worker(worker) => Restart::Worker(*worker),
        }
    }

    /// A user fragment that is out of use.
    pub(crate) fn forget_ufrag(&self, id: TransportId, ufrag: &str) {
        let mut inner = self.inner.lock();
        let Inner { sessions, by_ufrag } = &mut *inner;
        let Some(entry) = sessions.get_mut(&id) else { return };
        entry.ufrags.retain(|known| known != ufrag);
        by_ufrag.remove(ufrag);
    }

    /// True if the session was there.
    pub(crate) fn remove(&self, id: TransportId) -> bool {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.sessions.remove(&id) else { return false };
        for ufrag in &entry.ufrags {
            inner.by_ufrag.remove(ufrag);
        }
        true
    }

    /// Takes out the sessions of a worker that has ended.
    pub(crate) fn remove_worker(&self, worker: usize) -> Vec<TransportId> {
        let ids: Vec<_> = {
            let inner = self.inner.lock();
            let its =
                inner.sessions.iter().filter(|(_, entry)| matches!(entry.place, Place::Worker(at) if at == worker));
            its.map(|(id, _)| *id).collect()
        };
        ids.into_iter().filter(|id| self.remove(*id)).collect()
    }

    /// Takes out the sessions whose viewers should have sent their first check by now.
    pub(crate) fn expire(&self, now: Instant) -> Vec<TransportId> {
        self.remove_pending(|setup| now >= setup.created + setup.timeouts.connect)
    }

    /// Takes out the pending sessions that `chosen` names.
    pub(crate) fn remove_pending(&self, chosen: impl Fn(&SessionSetup) -> bool) -> Vec<TransportId> {
        let mut inner = self.inner.lock();
        let Inner { sessions, by_ufrag } = &mut *inner;
        let removed = sessions.extract_if(|_, entry| match &entry.place {
            Place::Pending(setup) => chosen(setup),
            Place::Worker(_) => false,
        });
        let mut ids = Vec::new();
        for (id, entry) in removed {
            ids.push(id);
            for ufrag in &entry.ufrags {
                by_ufrag.remove(ufrag);
            }
        }
        ids
    }
}
