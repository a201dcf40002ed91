use std::collections::{BTreeMap, HashMap};

use lenscast_media::sync::Mutex;
use lenscast_router::TransportId;
use lenscast_transport::PreferredLayers;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::resource::Protocol;

/// The viewers' and publishers' sessions as HTTP knows them: by the secret in their address.
pub(super) struct Sessions {
    inner: Mutex<Inner>,
}

struct Inner {
    random: StdRng,
    by_secret: HashMap<String, Session>,
    by_transport: HashMap<TransportId, String>,
}

/// One viewer's or publisher's session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Which way media go.
    pub(super) protocol: Protocol,
    /// Which of the transport's.
    pub(super) transport: TransportId,
    /// The camera or stream that it shows or publishes.
    pub(super) stream: String,
    /// The entity tag of its ICE session (RFC 9725 §4.3.1), with quotes. Changes with every restart.
    pub(super) etag: String,
    /// The user fragment that the peer uses.
    pub(super) remote_ufrag: String,
    /// The name of a viewer's video section, or of the publisher's first.
    pub(super) mid: String,
    /// The best layers that a viewer asked for.
    pub(super) preferred: Option<PreferredLayers>,
    /// What it wants to be told of, by the name in the subscription's address.
    subscriptions: BTreeMap<u32, [bool; KINDS]>,
    next_subscription: u32,
}

/// What is known of a session before it has an address.
pub(super) struct NewSession<'a> {
    pub(super) protocol: Protocol,
    pub(super) transport: TransportId,
    pub(super) stream: &'a str,
    pub(super) remote_ufrag: &'a str,
    pub(super) mid: &'a str,
    pub(super) preferred: Option<PreferredLayers>,
}

/// Kinds of events that there are.
pub(super) const KINDS: usize = 5;

/// Subscriptions of one session at once: a page needs one.
pub(super) const MAX_SUBSCRIPTIONS: usize = 4;

impl Sessions {
    /// None yet. `random` must be fit for secrets.
    #[must_use]
    pub(super) fn new(random: StdRng) -> Self {
        let inner = Inner { random, by_secret: HashMap::new(), by_transport: HashMap::new() };
        Self { inner: Mutex::new(inner) }
    }

    /// Adds a session and gives it a secret of 128 random bits and an entity tag. `None` if its stream has as many viewers as it
    /// may.
    pub(super) fn add(&self, new: NewSession<'_>, max_viewers: Option<usize>) -> Option<(String, Session)> {
        let mut inner = self.inner.lock();
        if max_viewers.is_some_and(|most| inner.viewers_of(new.stream) >= most) {
            return None;
        }
        let secret = format!("{:032x}", inner.random.random::<u128>());
        let session = Session {
            protocol: new.protocol,
            transport: new.transport,
            stream: new.stream.to_owned(),
            etag: new_etag(&mut inner.random),
            remote_ufrag: new.remote_ufrag.to_owned(),
            mid: new.mid.to_owned(),
            preferred: new.preferred,
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
        };
        inner.by_transport.insert(new.transport, secret.clone());
        inner.by_secret.insert(secret.clone(), session.clone());
        Some((secret, session))
    }

    /// The session of this secret, if it is one of `stream`'s.
    #[must_use]
    pub(super) fn find(&self, protocol: Protocol, stream: &str, secret: &str) -> Option<Session> {
        let inner = self.inner.lock();
        let found = inner.by_secret.get(secret);
        found.filter(|session| session.protocol == protocol && session.stream == stream).cloned()
    }

    /// The session of this secret.
    #[must_use]
    pub(super) fn find_any(&self, secret: &str) -> Option<Session> {
        self.inner.lock().by_secret.get(secret).cloned()
    }

    /// How many viewers a camera or stream has.
    #[must_use]
    pub(super) fn viewers_of(&self, stream: &str) -> usize {
        self.inner.lock().viewers_of(stream)
    }

    /// Notes which layers a viewer asked for.
    pub(super) fn prefer(&self, transport: TransportId, preferred: Option<PreferredLayers>) {
        let mut inner = self.inner.lock();
        let Inner { by_secret, by_transport, .. } = &mut *inner;
        if let Some(session) = by_transport.get(&transport).and_then(|secret| by_secret.get_mut(secret)) {
            session.preferred = preferred;
        }
    }

    /// The peer restarted ICE: another fragment, and another entity tag. `None` if the session is gone.
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
    pub(super) fn subscribe(&self, secret: &str, kinds: [bool; KINDS]) -> Option<u32> {
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
    pub(super) fn subscription(&self, secret: &str, name: u32) -> Option<[bool; KINDS]> {
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

impl Inner {
    fn viewers_of(&self, stream: &str) -> usize {
        let viewers = self.by_secret.values().filter(|session| session.protocol == Protocol::Whep);
        viewers.filter(|session| session.stream == stream).count()
    }
}

fn new_etag(random: &mut StdRng) -> String {
    format!("\"{:016x}\"", random.next_u64())
}
