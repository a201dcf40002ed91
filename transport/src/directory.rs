//! Which worker has which session: what the workers share, off the packet path.
//!
//! A session belongs to nobody until its viewer's first check arrives; the worker that receives it claims it. The kernel
//! spreads viewers over the workers' sockets by their addresses and keeps each where it is, so that a viewer's packets
//! reach its own worker without a detour, as long as it does not move to another address.

use std::collections::HashMap;
use std::time::Instant;

use lenscast_media::sync::Mutex;
use lenscast_router::TransportId;

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

    /// Announces a session. False if there are `limit` already.
    pub(crate) fn announce(&self, setup: SessionSetup, limit: usize) -> bool {
        let mut inner = self.inner.lock();
        if inner.sessions.len() >= limit {
            return false;
        }
        let (id, ufrag) = (setup.id, setup.credentials.ufrag.clone());
        inner.by_ufrag.insert(ufrag.clone(), id);
        inner.sessions.insert(id, Entry { place: Place::Pending(Box::new(setup)), ufrags: vec![ufrag] });
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

    /// A restart gives the session another user fragment. The older ones stay: which is used, the viewer decides.
    pub(crate) fn add_ufrag(&self, id: TransportId, ufrag: &str) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.sessions.get_mut(&id) else { return };
        entry.ufrags.push(ufrag.to_owned());
        let forgotten = (entry.ufrags.len() > MAX_UFRAGS).then(|| entry.ufrags.remove(0));
        if let Some(forgotten) = forgotten {
            inner.by_ufrag.remove(&forgotten);
        }
        inner.by_ufrag.insert(ufrag.to_owned(), id);
    }

    /// Gives a session's pending setup new credentials: a restart before the viewer's first check.
    pub(crate) fn with_pending<T>(&self, id: TransportId, change: impl FnOnce(&mut SessionSetup) -> T) -> Option<T> {
        let mut inner = self.inner.lock();
        match &mut inner.sessions.get_mut(&id)?.place {
            Place::Pending(setup) => Some(change(setup)),
            Place::Worker(_) => None,
        }
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

/// The one in use, one offered by a restart, and those of viewers that restart over and over.
const MAX_UFRAGS: usize = 4;
