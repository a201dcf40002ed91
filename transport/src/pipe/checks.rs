use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

use crate::IceCredentials;

/// The edge's half of ICE (RFC 8445 §7.2.4): asks all of the origin's candidates in turn, takes the first that answers, and
/// asks that one again and again, which is also its consent (RFC 7675).
///
/// What it does not do: gather candidates of its own, or answer checks: an origin is ICE-lite and sends none.
pub(super) struct Checks {
    origin: IceCredentials,
    local_ufrag: String,
    candidates: Vec<SocketAddr>,
    crypto: Arc<dyn RTCCryptoProvider>,
    selected: Option<SocketAddr>,
    /// The candidate whose turn it is.
    turn: usize,
    sent: VecDeque<(TransactionId, SocketAddr, Instant)>,
    due: Option<Instant>,
    interval: Duration,
}

/// webrtc's 200 ms would be most of the time that a connection takes.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_millis(500);
/// More often than the 5 s of RFC 7675 §5.1, so that an origin that has gone is noticed within 5 s though a check is lost.
const CONSENT_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered checks that are remembered.
const MAX_SENT: usize = 64;

impl Checks {
    pub(super) fn new(
        origin: IceCredentials,
        local_ufrag: String,
        candidates: Vec<SocketAddr>,
        crypto: Arc<dyn RTCCryptoProvider>,
        now: Instant,
    ) -> Self {
        Self {
            origin,
            local_ufrag,
            candidates,
            crypto,
            selected: None,
            turn: 0,
            sent: VecDeque::new(),
            due: Some(now),
            interval: FIRST_INTERVAL,
        }
    }

    /// Where the origin is, once it has answered.
    pub(super) const fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// No more checks.
    pub(super) const fn stop(&mut self) {
        self.due = None;
    }

    /// The check that is due, with where it goes.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.due.filter(|due| *due <= now)?;
        let to = match self.selected {
            Some(selected) => {
                self.due = Some(now + CONSENT_INTERVAL);
                selected
            }
            None => {
                let to = *self.candidates.get(self.turn % self.candidates.len().max(1))?;
                self.turn += 1;
                self.due = Some(now + self.interval);
                if self.turn.is_multiple_of(self.candidates.len()) {
                    self.interval = (self.interval * 2).min(MAX_INTERVAL);
                }
                to
            }
        };
        let mut message = Message::new();
        message.typ = BINDING_REQUEST;
        message.new_transaction_id().ok()?;
        message.write_header();
        let user = TextAttribute::new(ATTR_USERNAME, format!("{}:{}", self.origin.ufrag, self.local_ufrag));
        user.add_to(&mut message).ok()?;
        // Of a peer-reflexive candidate (RFC 8445 §5.1.2): what we are known by is learned from the check.
        message.add(ATTR_PRIORITY, &(110_u32 << 24 | 0xFFFF << 8 | 255).to_be_bytes());
        let id = message.transaction_id;
        message.add(ATTR_ICE_CONTROLLING, &id.0[..8]);
        message.add(ATTR_USE_CANDIDATE, &[]);
        self.integrity().add_to(&mut message).ok()?;
        FINGERPRINT.add_to(&mut message).ok()?;
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((message.transaction_id, to, now));
        Some((to, message.raw))
    }

    /// The round trip, if this is an authentic answer to a check that was sent there.
    pub(super) fn handle_response(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Duration> {
        let mut message = Message::new();
        message.unmarshal_binary(datagram).ok()?;
        if message.typ != BINDING_SUCCESS {
            return None;
        }
        let position = self.sent.iter().position(|(id, to, _)| *id == message.transaction_id && *to == from)?;
        MessageIntegrity::check(&mut message, self.origin.password().as_bytes(), self.crypto.crypto()).ok()?;
        let (_, _, sent) = self.sent.remove(position)?;
        if self.selected.is_none() {
            self.selected = Some(from);
            self.due = Some(now + CONSENT_INTERVAL);
        }
        Some(now.saturating_duration_since(sent))
    }

    fn integrity(&self) -> MessageIntegrity<'_> {
        let password = self.origin.password().to_owned();
        MessageIntegrity::new_short_term_integrity_with_provider(password, self.crypto.crypto())
    }
}
