use std::collections::{BTreeMap, HashMap};

use lenscast_media::sync::Mutex;
use lenscast_router::{ProducerId, TransportId};
use lenscast_transport::PreferredLayers;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use thiserror::Error;

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
    /// What its address says that it shows or publishes: a name, or several with commas between.
    pub(super) name: String,
    /// The entity tag of its ICE session (RFC 9725 §4.3.1), with quotes. Changes with every restart.
    pub(super) etag: String,
    /// The user fragment that the peer uses.
    pub(super) remote_ufrag: String,
    /// What it shows or publishes, in the order of its name. At least one.
    pub(super) media: Vec<Medium>,
    /// What it wants to be told of, by the name in the subscription's address.
    subscriptions: BTreeMap<u32, Subscription>,
    next_subscription: u32,
}

/// One camera or stream of a session.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) stream: String,
    /// The name of a viewer's video section, or of the publisher's first.
    pub(super) mid: String,
    /// Whose video a viewer is shown: not that of the stream's next publisher.
    pub(super) producer: Option<ProducerId>,
    /// The best layers that a viewer asked for.
    pub(super) preferred: Option<PreferredLayers>,
    /// The viewer wants nothing of it for now.
    pub(super) paused: bool,
    /// It asked for layers or a pause after the session was made.
    has_asked: bool,
}

impl Session {
    /// The name of the section that comes first.
    pub(super) fn mid(&self) -> &str {
        self.media.first().map_or("", |medium| medium.mid.as_str())
    }
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
    pub(super) name: &'a str,
    pub(super) remote_ufrag: &'a str,
    pub(super) media: Vec<NewMedium>,
}

/// A [`Medium`] of a [`NewSession`].
pub(super) struct NewMedium {
    pub(super) stream: String,
    pub(super) mid: String,
    pub(super) producer: Option<ProducerId>,
    pub(super) preferred: Option<PreferredLayers>,
    /// Viewers of it that there may be at once.
    pub(super) max_viewers: Option<usize>,
}

/// A stream has as many viewers as it may.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("camera {stream:?} has its {max_viewers} viewers")]
pub(super) struct StreamFull {
    stream: String,
    max_viewers: usize,
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

    /// Adds a session and gives it a secret of 128 random bits and an entity tag. An error if one of its streams has as many
    /// viewers as it may.
    pub(super) fn add(&self, new: NewSession<'_>) -> Result<(String, Session), StreamFull> {
        let mut inner = self.inner.lock();
        for medium in &new.media {
            if let Some(max_viewers) = medium.max_viewers.filter(|most| inner.receivers_of(&medium.stream) >= *most) {
                return Err(StreamFull { stream: medium.stream.clone(), max_viewers });
            }
        }
        let secret = format!("{:032x}", inner.random.random::<u128>());
        let session = Session {
            protocol: new.protocol,
            transport: new.transport,
            name: new.name.to_owned(),
            etag: new_etag(&mut inner.random),
            remote_ufrag: new.remote_ufrag.to_owned(),
            media: new.media.into_iter().map(Medium::from).collect(),
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
        };
        inner.by_transport.insert(new.transport, secret.clone());
        inner.by_secret.insert(secret.clone(), session.clone());
        if new.protocol == Protocol::Whep {
            for medium in &session.media {
                *inner.viewers.entry(medium.stream.clone()).or_default() += 1;
            }
        }
        Ok((secret, session))
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

    /// The session of this secret, if its address names it by `name`.
    #[must_use]
    pub(super) fn find(&self, protocol: Protocol, name: &str, secret: &str) -> Option<Session> {
        let inner = self.inner.lock();
        let found = inner.by_secret.get(secret);
        found.filter(|session| session.protocol == protocol && session.name == name).cloned()
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

    /// Notes what a viewer asked for of one of its cameras, by their order, if it asked for that.
    pub(super) fn ask(&self, transport: TransportId, camera: usize, asked: Asked) {
        let mut inner = self.inner.lock();
        let Inner { by_secret, by_transport, .. } = &mut *inner;
        let session = by_transport.get(&transport).and_then(|secret| by_secret.get_mut(secret));
        if let Some(medium) = session.and_then(|session| session.media.get_mut(camera)) {
            medium.preferred = asked.preferred.unwrap_or(medium.preferred);
            medium.paused = asked.paused.unwrap_or(medium.paused);
            medium.has_asked = true;
        }
    }

    /// What a viewer asked for after its session was made, and of which of its cameras.
    #[must_use]
    pub(super) fn asked_since(&self, transport: TransportId) -> Vec<(usize, Asked)> {
        let inner = self.inner.lock();
        let session = inner.by_transport.get(&transport).and_then(|secret| inner.by_secret.get(secret));
        let media = session.into_iter().flat_map(|session| session.media.iter().enumerate());
        let asked = media.filter(|(_, medium)| medium.has_asked);
        asked
            .map(|(camera, Medium { preferred, paused, .. })| {
                (camera, Asked { preferred: Some(*preferred), paused: Some(*paused) })
            })
            .collect()
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
        for Medium { stream, .. } in &session.media {
            match inner.viewers.get_mut(stream) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    inner.viewers.remove(stream);
                }
            }
        }
    }
}

/// What a viewer asks for of a camera while it plays; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The best layers; within, `None` for the best there are.
    pub(super) preferred: Option<Option<PreferredLayers>>,
    pub(super) paused: Option<bool>,
}

impl From<NewMedium> for Medium {
    fn from(NewMedium { stream, mid, producer, preferred, .. }: NewMedium) -> Self {
        Self { stream, mid, producer, preferred, paused: false, has_asked: false }
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

    fn add(
        sessions: &Sessions,
        protocol: Protocol,
        id: u64,
        streams: &[&str],
        max_viewers: usize,
    ) -> Result<(String, Session), StreamFull> {
        let media = streams.iter().zip(0..).map(|(stream, mid)| NewMedium {
            stream: (*stream).to_owned(),
            mid: mid.to_string(),
            producer: None,
            preferred: None,
            max_viewers: Some(max_viewers),
        });
        let (transport, name) = (TransportId(id), streams.join(","));
        sessions.add(NewSession { protocol, transport, name: &name, remote_ufrag: "u", media: media.collect() })
    }

    #[test]
    fn a_session_of_several_takes_a_place_of_each_or_none() {
        let sessions = Sessions::new(StdRng::seed_from_u64(1));
        let play = |id, streams: &[&str]| add(&sessions, Protocol::Whep, id, streams, 1);
        play(1, &["b"]).unwrap();
        let full = play(2, &["a", "b"]).unwrap_err();
        assert_eq!(full.to_string(), "camera \"b\" has its 1 viewers");
        assert_eq!(sessions.viewers_of("a"), 0, "nothing is taken of what is not had whole");
        sessions.remove(TransportId(1));
        let (secret, _) = play(3, &["a", "b"]).unwrap();
        assert_eq!((sessions.viewers_of("a"), sessions.viewers_of("b")), (1, 1));
        assert!(sessions.find(Protocol::Whep, "a", &secret).is_none(), "its name is the whole");
        assert!(sessions.find(Protocol::Whep, "a,b", &secret).is_some());
        sessions.remove(TransportId(3));
        assert_eq!((sessions.viewers_of("a"), sessions.viewers_of("b")), (0, 0));
    }

    #[test]
    fn what_a_viewer_asks_for_holds_for_one_camera_and_leaves_the_rest_of_it() {
        let sessions = Sessions::new(StdRng::seed_from_u64(1));
        let id = TransportId(1);
        add(&sessions, Protocol::Whep, 1, &["a", "b"], 1).unwrap();
        assert_eq!(sessions.asked_since(id), []);
        let lowest = Some(PreferredLayers { spatial: 0, temporal: None });
        sessions.ask(id, 1, Asked { preferred: Some(lowest), paused: None });
        sessions.ask(id, 1, Asked { preferred: None, paused: Some(true) });
        sessions.ask(id, 2, Asked { preferred: None, paused: Some(true) });
        assert_eq!(sessions.asked_since(id), [(1, Asked { preferred: Some(lowest), paused: Some(true) })]);
    }

    #[test]
    fn viewers_and_pipes_share_a_streams_places_and_publishers_take_none() {
        let sessions = Sessions::new(StdRng::seed_from_u64(1));
        let add = |protocol, id| add(&sessions, protocol, id, &["robot"], 2).is_ok();
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
