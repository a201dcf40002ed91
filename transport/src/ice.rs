//! ICE-lite (RFC 8445 §2.5, §7.3): answers connectivity checks, remembers which path the viewer nominated and when it
//! last consented to receive (RFC 7675).
//!
//! **Invariants.** Here, only an authentic request changes anything; that a check, authentic or not, is what makes a
//! worker take a session on is the [`Directory`](crate::directory::Directory)'s affair. A restart that is never taken up
//! changes nothing. Once a path is selected, only checks that come from its remote address renew consent: consent is to
//! receive there (RFC 7675 §5.1).
//!
//! What it does not do: send checks of its own, which a lite agent never does, and TURN. So whoever has a session's
//! credentials could forge checks from somebody else's address and have media sent there for as long as it goes on
//! forging; a check from the server before media moves, as RFC 7675 has full agents send them, would prevent that.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, CODE_UNKNOWN_ATTRIBUTE};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc_stun::uattrs::UnknownAttributes;
use rtc_stun::xoraddr::XorMappedAddress;
use thiserror::Error;

/// A user fragment and password (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Tells sessions on one port apart. Not a secret.
    pub ufrag: String,
    /// Never logged.
    pub(crate) password: String,
}

impl IceCredentials {
    /// Fresh ones: 8 and 24 characters of 6 random bits each, where 24 and 128 bits are required (RFC 8445 §5.3).
    pub fn random(random: &mut impl CryptoRng) -> Self {
        let mut text = |len: usize| (0..len).map(|_| ICE_CHARACTERS[random.random_range(0..64)] as char).collect();
        Self { ufrag: text(8), password: text(24) }
    }

    /// Those of somebody else. `None` if they are not of the form that RFC 8839 §5.4 gives them.
    #[must_use]
    pub fn new(ufrag: &str, password: &str) -> Option<Self> {
        let is_text = |text: &str, min: usize| {
            (min..=256).contains(&text.len()) && text.bytes().all(|byte| ICE_CHARACTERS.contains(&byte))
        };
        (is_text(ufrag, 4) && is_text(password, 22))
            .then(|| Self { ufrag: ufrag.to_owned(), password: password.to_owned() })
    }

    /// The secret half.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// `ice-char` of RFC 8839 §5.4.
const ICE_CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Where a viewer is, and under which of our addresses it knows us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The viewer's address as we see it.
    pub remote: SocketAddr,
    /// Our address that it sends to: answers must come from there. `None` where the system does not tell.
    pub local: Option<IpAddr>,
}

/// A connectivity check that has been read, but whose authenticity is still open.
pub(crate) struct BindingRequest {
    message: Message,
    pub(crate) local_ufrag: String,
}

/// Why a STUN message was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum StunError {
    #[error("not a STUN message")]
    Malformed,
    #[error("not a binding request")]
    NotARequest,
    #[error("a binding request without a USERNAME")]
    NoUsername,
    #[error("a FINGERPRINT or MESSAGE-INTEGRITY that does not fit")]
    NotAuthentic,
}

impl BindingRequest {
    /// Reads a message and takes the user fragment from it that says which session it is for.
    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, StunError> {
        let mut message = Message::new();
        message.unmarshal_binary(datagram).map_err(|_| StunError::Malformed)?;
        if message.typ != BINDING_REQUEST {
            return Err(StunError::NotARequest);
        }
        let username = message.get(ATTR_USERNAME).map_err(|_| StunError::NoUsername)?;
        let username = String::from_utf8(username).map_err(|_| StunError::NoUsername)?;
        let (local, _) = username.split_once(':').ok_or(StunError::NoUsername)?;
        let local_ufrag = local.to_owned();
        Ok(Self { message, local_ufrag })
    }
}

/// What a check led to.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The answer, to be sent back the way the check came.
    pub(crate) response: Vec<u8>,
    /// False for an error response: the check proves nothing then.
    pub(crate) accepted: bool,
    /// The credentials that a restart has just replaced.
    pub(crate) replaced: Option<IceCredentials>,
}

/// Our side of a session's ICE.
pub(crate) struct IceLite {
    current: IceCredentials,
    /// Offered by a restart and not yet used by the viewer.
    restarting: Option<IceCredentials>,
    selected: Option<Selected>,
    last_consent: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Selected {
    path: Path,
    priority: u32,
    nominated_at: Instant,
}

/// Attributes that must be understood, and are: USERNAME, MESSAGE-INTEGRITY, PRIORITY, USE-CANDIDATE. A check with any
/// other is an error (RFC 8489 §6.3.1). MESSAGE-INTEGRITY-SHA256 is none of them: nobody in WebRTC sends it.
const UNDERSTOOD: [u16; 4] = [0x0006, 0x0008, 0x0024, 0x0025];

/// How long a nomination of a better path keeps one of a worse from taking over: browsers that nominate aggressively
/// (RFC 5245 §8.1.1.2) do so on all pairs at once, and the best is to win.
const NOMINATION_CONTEST: Duration = Duration::from_secs(1);

impl IceLite {
    /// `restarting` are credentials that a restart has offered already.
    pub(crate) const fn new(credentials: IceCredentials, restarting: Option<IceCredentials>) -> Self {
        Self { current: credentials, restarting, selected: None, last_consent: None }
    }

    pub(crate) fn path(&self) -> Option<Path> {
        self.selected.map(|selected| selected.path)
    }

    /// When the viewer last proved that it wants to receive, on the selected path if there is one.
    pub(crate) const fn last_consent(&self) -> Option<Instant> {
        self.last_consent
    }

    /// The user fragments that checks may name now.
    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.restarting).map(|credentials| credentials.ufrag.as_str())
    }

    /// A check that names one of our user fragments, from `path`.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        mut request: BindingRequest,
        path: Path,
        crypto: &dyn RTCCryptoProvider,
    ) -> Result<Checked, StunError> {
        let restarts = self.restarting.as_ref().is_some_and(|fresh| fresh.ufrag == request.local_ufrag);
        let credentials = match &self.restarting {
            Some(fresh) if restarts => fresh.clone(),
            _ => self.current.clone(),
        };
        let message = &mut request.message;
        MessageIntegrity::check(message, credentials.password.as_bytes(), crypto.crypto())
            .map_err(|_| StunError::NotAuthentic)?;
        FINGERPRINT.check(message).map_err(|_| StunError::NotAuthentic)?;
        drop_unauthenticated_attributes(message);

        let unknown = unknown_attributes(message);
        if !unknown.is_empty() {
            let details = UnknownAttributes(unknown);
            return Ok(respond(
                message,
                BINDING_ERROR,
                &[&CODE_UNKNOWN_ATTRIBUTE, &details],
                &credentials,
                crypto,
                false,
            ));
        }
        if message.contains(ATTR_ICE_CONTROLLED) {
            // A lite agent never controls (RFC 8445 §6.1.1): the viewer has to.
            return Ok(respond(message, BINDING_ERROR, &[&CODE_ROLE_CONFLICT], &credentials, crypto, false));
        }
        let replaced = match self.restarting.take_if(|_| restarts) {
            Some(fresh) => Some(std::mem::replace(&mut self.current, fresh)),
            None => None,
        };
        if message.contains(ATTR_USE_CANDIDATE) {
            self.nominate(now, path, priority_of(message));
        }
        if self.selected.is_none_or(|selected| selected.path.remote == path.remote) {
            self.last_consent = Some(now);
        }
        let mapped = XorMappedAddress { ip: path.remote.ip(), port: path.remote.port() };
        let checked = respond(message, BINDING_SUCCESS, &[&mapped], &credentials, crypto, true);
        Ok(Checked { replaced, ..checked })
    }

    /// Accepts `fresh` beside the current credentials until the viewer uses them (RFC 9725 §4.3.3). Returns those of an
    /// earlier restart that were never used.
    pub(crate) const fn restart(&mut self, fresh: IceCredentials) -> Option<IceCredentials> {
        self.restarting.replace(fresh)
    }

    fn nominate(&mut self, now: Instant, path: Path, priority: u32) {
        let contest = self.selected.filter(|selected| {
            selected.path != path
                && selected.priority > priority
                && now.saturating_duration_since(selected.nominated_at) < NOMINATION_CONTEST
        });
        if contest.is_none() {
            self.selected = Some(Selected { path, priority, nominated_at: now });
        }
    }
}

/// What stands behind MESSAGE-INTEGRITY could be anybody's (RFC 8489 §14.5).
fn drop_unauthenticated_attributes(message: &mut Message) {
    let attributes = &mut message.attributes.0;
    let covered = attributes.iter().position(|attribute| attribute.typ == ATTR_MESSAGE_INTEGRITY);
    attributes.truncate(covered.map_or(0, |position| position + 1));
}

fn unknown_attributes(message: &Message) -> Vec<AttrType> {
    let required = message.attributes.0.iter().map(|attribute| attribute.typ).filter(AttrType::required);
    required.filter(|kind| !UNDERSTOOD.contains(&kind.value())).take(8).collect()
}

fn priority_of(message: &Message) -> u32 {
    let bytes = message.get(ATTR_PRIORITY).ok().and_then(|value| <[u8; 4]>::try_from(value).ok());
    bytes.map_or(0, u32::from_be_bytes)
}

fn respond(
    request: &Message,
    kind: rtc_stun::message::MessageType,
    attributes: &[&dyn Setter],
    credentials: &IceCredentials,
    crypto: &dyn RTCCryptoProvider,
    accepted: bool,
) -> Checked {
    let mut response = Message::new();
    response.typ = kind;
    response.transaction_id = request.transaction_id;
    response.write_header();
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(credentials.password.clone(), crypto.crypto());
    let added = attributes
        .iter()
        .try_for_each(|attribute| attribute.add_to(&mut response))
        .and_then(|()| integrity.add_to(&mut response))
        .and_then(|()| FINGERPRINT.add_to(&mut response));
    added.expect("a fresh response has room for its attributes");
    Checked { response: response.raw, accepted, replaced: None }
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rtc_stun::attributes::ATTR_ICE_CONTROLLING;
    use rtc_stun::error_code::ErrorCodeAttribute;
    use rtc_stun::message::Getter;
    use rtc_stun::textattrs::TextAttribute;

    use super::*;

    /// A check that nominates the path it is sent on.
    pub(crate) fn nomination(credentials: &IceCredentials) -> Vec<u8> {
        let crypto = rtc_crypto::default_provider().unwrap();
        signed(credentials, &*crypto, |message| message.add(ATTR_USE_CANDIDATE, &[]))
    }

    /// A check that proves an address and nominates nothing.
    pub(crate) fn plain_check(credentials: &IceCredentials) -> Vec<u8> {
        signed(credentials, &*rtc_crypto::default_provider().unwrap(), |_| {})
    }

    fn signed(
        credentials: &IceCredentials,
        crypto: &dyn RTCCryptoProvider,
        extra: impl FnOnce(&mut Message),
    ) -> Vec<u8> {
        let mut message = Message::new();
        message.typ = BINDING_REQUEST;
        message.new_transaction_id().unwrap();
        message.write_header();
        TextAttribute::new(ATTR_USERNAME, format!("{}:viewer", credentials.ufrag)).add_to(&mut message).unwrap();
        extra(&mut message);
        MessageIntegrity::new_short_term_integrity_with_provider(credentials.password.clone(), crypto.crypto())
            .add_to(&mut message)
            .unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    struct Scene {
        ice: IceLite,
        credentials: IceCredentials,
        crypto: std::sync::Arc<dyn RTCCryptoProvider>,
        now: Instant,
    }

    struct Check<'a> {
        credentials: &'a IceCredentials,
        path: Path,
        nominate: bool,
        priority: u32,
    }

    fn path(port: u16) -> Path {
        Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None }
    }

    impl Scene {
        fn new() -> Self {
            let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
            let crypto = rtc_crypto::default_provider().unwrap();
            Self { ice: IceLite::new(credentials.clone(), None), credentials, crypto, now: Instant::now() }
        }

        fn message(&self, credentials: &IceCredentials, extra: impl FnOnce(&mut Message)) -> Vec<u8> {
            signed(credentials, &*self.crypto, extra)
        }

        fn handle(&mut self, datagram: &[u8], path: Path) -> Result<Checked, StunError> {
            let request = BindingRequest::parse(datagram)?;
            self.ice.handle_request(self.now, request, path, &*self.crypto)
        }

        fn check(&mut self, check: &Check<'_>) -> Result<Checked, StunError> {
            let datagram = self.message(check.credentials, |message| {
                message.add(ATTR_PRIORITY, &check.priority.to_be_bytes());
                message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
                if check.nominate {
                    message.add(ATTR_USE_CANDIDATE, &[]);
                }
            });
            self.handle(&datagram, check.path)
        }

        fn nominate(&mut self, port: u16, priority: u32) {
            let credentials = self.credentials.clone();
            let check = Check { credentials: &credentials, path: path(port), nominate: true, priority };
            assert!(self.check(&check).unwrap().accepted);
        }
    }

    fn decoded(response: &[u8]) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(response).unwrap();
        message
    }

    #[test]
    fn a_check_is_answered_with_the_address_it_came_from_and_our_integrity() {
        let mut scene = Scene::new();
        let credentials = scene.credentials.clone();
        let check = Check { credentials: &credentials, path: path(4_000), nominate: false, priority: 1 };
        let checked = scene.check(&check).unwrap();
        let mut response = decoded(&checked.response);
        assert_eq!(response.typ, BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&response).unwrap();
        assert_eq!((mapped.ip, mapped.port), (path(4_000).remote.ip(), 4_000));
        FINGERPRINT.check(&response).unwrap();
        MessageIntegrity::check(&mut response, credentials.password.as_bytes(), scene.crypto.crypto()).unwrap();
        assert_eq!(scene.ice.path(), None, "a check alone selects nothing");
        assert_eq!(scene.ice.last_consent(), Some(scene.now));
    }

    #[test]
    fn the_last_nomination_wins_and_among_simultaneous_ones_the_best() {
        let mut scene = Scene::new();
        scene.nominate(1, 100);
        scene.nominate(2, 50);
        assert_eq!(scene.ice.path(), Some(path(1)));
        scene.nominate(3, 200);
        assert_eq!(scene.ice.path(), Some(path(3)));
        scene.now += Duration::from_secs(2);
        scene.nominate(2, 50);
        assert_eq!(scene.ice.path(), Some(path(2)), "the viewer moved to another network");
    }

    #[test]
    fn only_checks_from_the_selected_path_renew_consent() {
        let mut scene = Scene::new();
        let start = scene.now;
        let credentials = scene.credentials.clone();
        let alive = |port| Check { credentials: &credentials, path: path(port), nominate: false, priority: 1 };
        scene.check(&alive(1)).unwrap();
        assert_eq!(scene.ice.last_consent(), Some(start), "nothing is selected: any will do");
        scene.nominate(1, 1);
        scene.now += Duration::from_secs(10);
        scene.check(&alive(2)).unwrap();
        assert_eq!(scene.ice.last_consent(), Some(start));
        scene.check(&alive(1)).unwrap();
        assert_eq!(scene.ice.last_consent(), Some(scene.now));
        scene.now += Duration::from_secs(10);
        scene.nominate(2, 1);
        assert_eq!(scene.ice.last_consent(), Some(scene.now));
    }

    #[test]
    fn a_check_that_is_not_authentic_changes_nothing() {
        let mut scene = Scene::new();
        let mut wrong = scene.credentials.clone();
        wrong.password.push('x');
        let check = Check { credentials: &wrong, path: path(1), nominate: true, priority: 1 };
        assert_eq!(scene.check(&check).unwrap_err(), StunError::NotAuthentic);
        let credentials = scene.credentials.clone();
        let datagram = scene.message(&credentials, |message| message.add(ATTR_USE_CANDIDATE, &[]));
        for position in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[position] ^= 0x40;
            assert!(scene.handle(&forged, path(1)).is_err(), "byte {position}");
            assert!(scene.handle(&datagram[..position], path(1)).is_err());
        }
        assert_eq!((scene.ice.path(), scene.ice.last_consent()), (None, None));
    }

    #[test]
    fn what_stands_behind_the_integrity_is_ignored() {
        let mut scene = Scene::new();
        let mut message = Message::new();
        let credentials = scene.credentials.clone();
        let mut datagram = scene.message(&credentials, |_| {});
        // Replace the fingerprint by a nomination with a fingerprint of its own: anybody on the way could.
        datagram.truncate(datagram.len() - 8);
        let length = (datagram.len() - 20) as u16;
        datagram[2..4].copy_from_slice(&length.to_be_bytes());
        message.unmarshal_binary(&datagram).unwrap();
        message.add(ATTR_USE_CANDIDATE, &[]);
        FINGERPRINT.add_to(&mut message).unwrap();
        let _ = scene.handle(&message.raw, path(1));
        assert_eq!(scene.ice.path(), None);
    }

    #[test]
    fn a_viewer_that_does_not_control_is_told_so() {
        let mut scene = Scene::new();
        let credentials = scene.credentials.clone();
        let datagram = scene.message(&credentials, |message| message.add(ATTR_ICE_CONTROLLED, &[1; 8]));
        let checked = scene.handle(&datagram, path(1)).unwrap();
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&decoded(&checked.response)).unwrap();
        assert_eq!((error.code.0, checked.accepted), (CODE_ROLE_CONFLICT.0, false));
        assert_eq!(scene.ice.last_consent(), None);
    }

    #[test]
    fn an_attribute_that_must_be_understood_and_is_not_is_named() {
        let mut scene = Scene::new();
        let credentials = scene.credentials.clone();
        // Unknown to all, and MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6).
        for kind in [0x7FFF, 0x001C] {
            let datagram = scene.message(&credentials, |message| message.add(AttrType(kind), &[1, 2, 3]));
            let response = decoded(&scene.handle(&datagram, path(1)).unwrap().response);
            let mut unknown = UnknownAttributes(Vec::new());
            unknown.get_from(&response).unwrap();
            assert_eq!(unknown.0, [AttrType(kind)]);
        }
    }

    #[test]
    fn a_restart_takes_over_with_its_first_check_and_not_before() {
        let mut scene = Scene::new();
        scene.nominate(1, 1);
        let fresh = IceCredentials::random(&mut StdRng::seed_from_u64(2));
        let unused = IceCredentials::random(&mut StdRng::seed_from_u64(4));
        assert_eq!(scene.ice.restart(unused.clone()), None);
        assert_eq!(scene.ice.restart(fresh.clone()), Some(unused));
        assert_eq!(scene.ice.ufrags().count(), 2);
        scene.nominate(1, 1);
        let check = Check { credentials: &fresh, path: path(9), nominate: true, priority: 1 };
        scene.now += Duration::from_secs(2);
        assert_eq!(scene.check(&check).unwrap().replaced, Some(scene.credentials.clone()));
        assert_eq!(scene.check(&check).unwrap().replaced, None);
        assert_eq!((scene.ice.path(), scene.ice.ufrags().next()), (Some(path(9)), Some(fresh.ufrag.as_str())));
        let old = scene.credentials.clone();
        let check = Check { credentials: &old, path: path(1), nominate: true, priority: 1 };
        assert_eq!(scene.check(&check).unwrap_err(), StunError::NotAuthentic, "the old credentials are gone");
    }

    #[test]
    fn credentials_have_the_randomness_that_ice_requires() {
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(3));
        assert_eq!((credentials.ufrag.len(), credentials.password.len()), (8, 24));
        assert!(!format!("{credentials:?}").contains(&credentials.password), "the password is never printed");
    }
}
