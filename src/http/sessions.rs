use std::collections::{BTreeMap, HashMap};

use lenscast_media::sync::Mutex;
use lenscast_router::TransportId;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// The viewers' sessions as HTTP knows them: by the secret in their address.
pub(super) struct Sessions {
    inner: Mutex<Inner>,
}

struct Inner {
    random: StdRng,
    by_secret: HashMap<String, Session>,
    by_transport: HashMap<TransportId, String>,
}

/// One viewer's session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Which of the transport's.
    pub(super) transport: TransportId,
    /// The camera it shows.
    pub(super) camera: String,
    /// The entity tag of its ICE session (RFC 9725 §4.3.1), with quotes. Changes with every restart.
    pub(super) etag: String,
    /// The user fragment that the viewer uses.
    pub(super) remote_ufrag: String,
    /// The name of its video section.
    pub(super) mid: String,
    /// What it wants to be told of, by the name in the subscription's address.
    subscriptions: BTreeMap<u32, [bool; 4]>,
    next_subscription: u32,
}

/// Subscriptions of one session at once: a page needs one.
pub(super) const MAX_SUBSCRIPTIONS: usize = 4;

impl Sessions {
    /// None yet. `random` must be fit for secrets.
    #[must_use]
    pub(super) fn new(random: StdRng) -> Self {
        let inner = Inner { random, by_secret: HashMap::new(), by_transport: HashMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    /// Adds a session and gives it a secret of 128 random bits and an entity tag.
    pub(super) fn add(&self, transport: TransportId, camera: &str, remote_ufrag: &str, mid: &str) -> (String, Session) {
        let mut inner = self.inner.lock();
        let secret = format!("{:032x}", inner.random.random::<u128>());
        let session = Session {
            transport,
            camera: camera.to_owned(),
            etag: new_etag(&mut inner.random),
            remote_ufrag: remote_ufrag.to_owned(),
            mid: mid.to_owned(),
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
        };
        inner.by_transport.insert(transport, secret.clone());
        inner.by_secret.insert(secret.clone(), session.clone());
        (secret, session)
    }

    /// The session of this secret, if it is one of `camera`'s.
    #[must_use]
    pub(super) fn find(&self, camera: &str, secret: &str) -> Option<Session> {
        self.inner.lock().by_secret.get(secret).filter(|session| session.camera == camera).cloned()
    }

    /// The session of this secret.
    #[must_use]
    pub(super) fn find_any(&self, secret: &str) -> Option<Session> {
        self.inner.lock().by_secret.get(secret).cloned()
    }

    /// How many viewers a camera has.
    #[must_use]
    pub(super) fn viewers_of(&self, camera: &str) -> usize {
        self.inner.lock().by_secret.values().filter(|session| session.camera == camera).count()
    }

    /// The viewer restarted ICE: another fragment, and another entity tag. `None` if the session is gone.
    pub(super) fn restarted(&self, secret: &str, remote_ufrag: &str) -> Option<Session> {
        let mut inner = self.inner.lock();
        let Inner { random, by_secret, .. } = &mut *inner;
        let session = by_secret.get_mut(secret)?;
        remote_ufrag.clone_into(&mut session.remote_ufrag);
        session.etag = new_etag(random);
        Some(session.clone())
    }

    /// Remembers which kinds of events the session wants, and returns the subscription's name. `None` if the session is gone
    /// or has as many as it may.
    pub(super) fn subscribe(&self, secret: &str, kinds: [bool; 4]) -> Option<u32> {
        let mut inner = self.inner.lock();
        let session = inner.by_secret.get_mut(secret)?;
        if session.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return None;
        }
        let name = session.next_subscription;
        session.next_subscription = name.wrapping_add(1);
        session.subscriptions.insert(name, kinds);
        Some(name)
    }

    /// Which kinds of events a subscription is for. `None` if it is not there.
    #[must_use]
    pub(super) fn subscription(&self, secret: &str, name: u32) -> Option<[bool; 4]> {
        self.inner.lock().by_secret.get(secret)?.subscriptions.get(&name).copied()
    }

    /// Ends a subscription. False if it is not there.
    pub(super) fn unsubscribe(&self, secret: &str, name: u32) -> bool {
        let mut inner = self.inner.lock();
        inner.by_secret.get_mut(secret).is_some_and(|session| session.subscriptions.remove(&name).is_some())
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, transport: TransportId) {
        let mut inner = self.inner.lock();
        if let Some(secret) = inner.by_transport.remove(&transport) {
            inner.by_secret.remove(&secret);
        }
    }
}

fn new_etag(random: &mut StdRng) -> String {
    format!("\"{:016x}\"", random.next_u64())
}
