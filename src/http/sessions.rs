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
    /// How many viewers each camera or stream has; none is there with zero.
    viewers: HashMap<String, usize>,
    /// Of pipes to other servers: what they fetch.
    pipes: HashMap<TransportId, String>,
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
    /// It did so after the session was made.
    has_preferred: bool,
    /// What it wants to be told of, by the name in the subscription's address.
    subscriptions: BTreeMap<u32, Subscription>,
    next_subscription: u32,
}

/// What a viewer wants to be told of.
#[derive(Debug, Clone, Copy)]
struct Subscription {
    kinds: [bool; KINDS],
    /// Streams of its events that were opened so far: the newest is the one that goes on.
    opened: u32,
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
        let inner = Inner {
            random,
            by_secret: HashMap::new(),
            by_transport: HashMap::new(),
            viewers: HashMap::new(),
            pipes: HashMap::new(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Adds a session and gives it a secret of 128 random bits and an entity tag. `None` if its stream has as many viewers as it
    /// may.
    pub(super) fn add(&self, new: NewSession<'_>, max_viewers: Option<usize>) -> Option<(String, Session)> {
        let mut inner = self.inner.lock();
        if max_viewers.is_some_and(|most| inner.receivers_of(new.stream) >= most) {
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
            has_preferred: false,
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
        };
        inner.by_transport.insert(new.transport, secret.clone());
        inner.by_secret.insert(secret.clone(), session.clone());
        if new.protocol == Protocol::Whep {
            *inner.viewers.entry(new.stream.to_owned()).or_default() += 1;
        }
        Some((secret, session))
    }

    /// Notes that another server fetches a stream. False if the stream has as many viewers as it may: it counts as one.
    pub(super) fn add_pipe(&self, transport: TransportId, stream: &str, max_viewers: Option<usize>) -> bool {
        let mut inner = self.inner.lock();
        if max_viewers.is_some_and(|most| inner.receivers_of(stream) >= most) {
            return false;
        }
        inner.pipes.insert(transport, stream.to_owned());
        true
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
        self.inner.lock().viewers.get(stream).copied().unwrap_or(0)
    }

    /// Notes which layers a viewer asked for.
    pub(super) fn prefer(&self, transport: TransportId, preferred: Option<PreferredLayers>) {
        let mut inner = self.inner.lock();
        let Inner { by_secret, by_transport, .. } = &mut *inner;
        if let Some(session) = by_transport.get(&transport).and_then(|secret| by_secret.get_mut(secret)) {
            session.preferred = preferred;
            session.has_preferred = true;
        }
    }

    /// Which layers a viewer asked for after its session was made; `None` if it did not.
    #[must_use]
    pub(super) fn preferred_since(&self, transport: TransportId) -> Option<Option<PreferredLayers>> {
        let inner = self.inner.lock();
        let session = inner.by_secret.get(inner.by_transport.get(&transport)?)?;
        session.has_preferred.then_some(session.preferred)
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
        session.subscriptions.insert(name, Subscription { kinds, opened: 0 });
        Some(name)
    }

    /// Begins a stream of a subscription's events, and ends the one before it: whoever comes again may have lost that one, and
    /// we not know yet. Returns its number; `None` if the subscription is not there.
    pub(super) fn open_events(&self, secret: &str, name: u32) -> Option<u32> {
        let mut inner = self.inner.lock();
        let subscription = inner.by_secret.get_mut(secret)?.subscriptions.get_mut(&name)?;
        subscription.opened = subscription.opened.wrapping_add(1);
        Some(subscription.opened)
    }

    /// Which kinds of events a subscription is for. `None` if it is not there, or another stream of it than this one was
    /// opened last.
    #[must_use]
    pub(super) fn subscription(&self, secret: &str, name: u32, opened: u32) -> Option<[bool; KINDS]> {
        let inner = self.inner.lock();
        let subscription = inner.by_secret.get(secret)?.subscriptions.get(&name)?;
        (subscription.opened == opened).then_some(subscription.kinds)
    }

    /// Ends a subscription. False if it is not there.
    pub(super) fn unsubscribe(&self, secret: &str, name: u32) -> bool {
        let mut inner = self.inner.lock();
        inner.by_secret.get_mut(secret).is_some_and(|session| session.subscriptions.remove(&name).is_some())
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, transport: TransportId) {
        let mut inner = self.inner.lock();
        inner.pipes.remove(&transport);
        let Some(secret) = inner.by_transport.remove(&transport) else { return };
        let Some(session) = inner.by_secret.remove(&secret) else { return };
        if session.protocol != Protocol::Whep {
            return;
        }
        match inner.viewers.get_mut(&session.stream) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                inner.viewers.remove(&session.stream);
            }
        }
    }
}

impl Inner {
    /// Viewers, and other servers that fetch it.
    fn receivers_of(&self, stream: &str) -> usize {
        let pipes = self.pipes.values().filter(|fetched| *fetched == stream).count();
        self.viewers.get(stream).copied().unwrap_or(0) + pipes
    }
}

fn new_etag(random: &mut StdRng) -> String {
    format!("\"{:016x}\"", random.next_u64())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn viewers_and_pipes_share_a_streams_places_and_publishers_take_none() {
        let sessions = Sessions::new(StdRng::seed_from_u64(1));
        let add = |protocol, id| {
            let stream = "robot";
            let transport = TransportId(id);
            let new = NewSession { protocol, transport, stream, remote_ufrag: "u", mid: "0", preferred: None };
            sessions.add(new, Some(2)).is_some()
        };
        assert!(add(Protocol::Whip, 1) && add(Protocol::Whep, 2));
        assert!(sessions.add_pipe(TransportId(3), "robot", Some(2)) && sessions.add_pipe(TransportId(4), "b", Some(2)));
        assert!(!add(Protocol::Whep, 5) && !sessions.add_pipe(TransportId(6), "robot", Some(2)));
        assert_eq!(sessions.viewers_of("robot"), 1);
        sessions.remove(TransportId(3));
        assert!(add(Protocol::Whep, 5));
        for id in [1, 2, 5, 5, 7] {
            sessions.remove(TransportId(id));
        }
        assert_eq!(sessions.viewers_of("robot"), 0);
        assert!(sessions.inner.lock().viewers.is_empty() && add(Protocol::Whep, 8));
    }
}
