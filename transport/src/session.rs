use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_router::{PacketLayout, TransportId};
use rtc_crypto::RTCCryptoProvider;

use crate::dtls::{Dtls, DtlsEvent};
use crate::ice::{BindingRequest, IceLite, StunError};
use crate::leg::PathFeedback;
use crate::purpose::Purpose;
use crate::srtp::{self, RtpSealer, SrtpReceiver, SrtpSender};
use crate::{
    Certificate, DtlsError, Fingerprint, IceCredentials, OpenSrtcpError, OpenSrtpError, Path, PipeKeys,
    ProtectionProfile,
};

/// What it takes to serve a viewer or a publisher, agreed on by offer and answer.
pub(crate) struct SessionSetup {
    pub(crate) id: TransportId,
    pub(crate) credentials: IceCredentials,
    /// Offered by a restart before the viewer's first check: it may name either.
    pub(crate) restart: Option<IceCredentials>,
    pub(crate) security: Security,
    pub(crate) purpose: Purpose,
    /// How the viewer tells which packets have come, if it does.
    pub(crate) feedback: Option<PathFeedback>,
    pub(crate) created: Instant,
    pub(crate) timeouts: Timeouts,
}

/// How the peer is known, and packets are protected.
pub(crate) enum Security {
    /// By the certificate that it uses in DTLS.
    Dtls(Fingerprint),
    /// By keys that it was told outside, with [`ProtectionProfile::AeadAes128Gcm`]: a pipe.
    Keys(PipeKeys),
}

#[cfg(test)]
impl SessionSetup {
    /// What a viewer of producer 1 agrees on.
    pub(crate) fn for_test(
        number: u64,
        credentials: IceCredentials,
        remote_fingerprint: Fingerprint,
        created: Instant,
    ) -> Self {
        use crate::purpose::PlannedView;
        use lenscast_media::Ssrc;
        use lenscast_router::{
            ConsumerId, ConsumerParameters, HeaderExtensions, Layers, PayloadType, Priority, ProducerId,
        };
        let consumer = ConsumerParameters {
            id: ConsumerId(number),
            transport: TransportId(number),
            ssrc: Ssrc(number as u32),
            payload_type: PayloadType::new(96).unwrap(),
            rtx: None,
            extensions: HeaderExtensions::default(),
            cname: "cname".to_owned(),
            initial_sequence: 0,
            initial_rtx_sequence: 0,
            timestamp_offset: 0,
            preferred_layers: Layers::HIGHEST,
            priority: Priority::LOWEST,
            paused: false,
        };
        Self {
            id: TransportId(number),
            credentials,
            restart: None,
            security: Security::Dtls(remote_fingerprint),
            purpose: Purpose::Viewer(vec![PlannedView { video: (ProducerId(1), consumer), audio: None }]),
            feedback: None,
            created,
            timeouts: Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) },
        }
    }
}

/// How long a viewer may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the answer to the end of the DTLS handshake.
    pub connect: Duration,
    /// From one authentic connectivity check to the next: a viewer that stops sending them has withdrawn its consent
    /// (RFC 7675 §5.1, 30 s).
    pub consent: Duration,
}

/// Why a session ended. Every session ends exactly once, with exactly one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// Whoever set it up asked for it.
    Requested,
    /// The viewer said goodbye.
    PeerClosed,
    /// The viewer stopped sending connectivity checks.
    ConsentExpired,
    /// The viewer never connected.
    ConnectTimeout,
    /// The handshake failed.
    Dtls(DtlsError),
    /// The stream that it showed is gone.
    ProducerClosed,
    /// The router does not take a publisher's tracks: two say that they are of one source, for example.
    TracksRefused,
    /// The thread that served it has ended.
    WorkerDied,
    /// The server stops.
    Shutdown,
}

impl CloseCause {
    /// A word for it, for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::PeerClosed => "peer_closed",
            Self::ConsentExpired => "consent_expired",
            Self::ConnectTimeout => "connect_timeout",
            Self::Dtls(_) => "dtls_failed",
            Self::ProducerClosed => "producer_closed",
            Self::TracksRefused => "tracks_refused",
            Self::WorkerDied => "worker_died",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtls(error) => error.fmt(f),
            other => f.write_str(other.name()),
        }
    }
}

/// One peer's connection without its socket: ICE-lite, DTLS, SRTP.
pub(crate) struct Session {
    ice: IceLite,
    /// `None` where keys were agreed on outside.
    dtls: Option<Dtls>,
    crypto: Arc<dyn RTCCryptoProvider>,
    srtp: Option<(SrtpSender, SrtpReceiver)>,
    profile: Option<ProtectionProfile>,
    /// Where the last DTLS datagram came from: flights go back there, and media too until ICE has nominated a path.
    dtls_path: Option<Path>,
    transmits: VecDeque<(Path, Vec<u8>)>,
    created: Instant,
    connected: Option<Instant>,
    timeouts: Timeouts,
    /// Addresses that authentic checks came from and when the last one did, the latest last.
    addresses: VecDeque<(SocketAddr, Instant)>,
}

/// What an authentic check led to.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// True if it proved that the viewer is where the check came from.
    pub(crate) address: bool,
    /// Forgotten for it, as the viewer uses too many.
    pub(crate) forgotten: Option<SocketAddr>,
    /// The user fragment that a restart has replaced.
    pub(crate) replaced: Option<String>,
    /// True if this is all that the connection was waiting for: there is no handshake.
    pub(crate) connected: bool,
}

/// What a datagram or the passing of time led to.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum SessionEvent {
    Connected,
    Closed(CloseCause),
    /// The datagram is dropped.
    Ignored,
}

/// A browser has one per network interface and family, and a few more after it moved.
const MAX_ADDRESSES: usize = 16;

impl Session {
    pub(crate) fn new(
        setup: &SessionSetup,
        certificate: &Certificate,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, DtlsError> {
        let (dtls, keys) = match &setup.security {
            Security::Dtls(fingerprint) => {
                (Some(Dtls::server(certificate, fingerprint.clone(), Arc::clone(&crypto))?), None)
            }
            Security::Keys(PipeKeys { origin, edge }) => {
                let keys = srtp::master_keys(ProtectionProfile::AeadAes128Gcm, origin, edge);
                (None, Some(keys.expect("a pipe's keys are as long as its profile needs")))
            }
        };
        Ok(Self {
            ice: IceLite::new(setup.credentials.clone(), setup.restart.clone()),
            dtls,
            crypto,
            profile: keys.is_some().then_some(ProtectionProfile::AeadAes128Gcm),
            srtp: keys,
            dtls_path: None,
            transmits: VecDeque::new(),
            created: setup.created,
            connected: None,
            timeouts: setup.timeouts,
            addresses: VecDeque::new(),
        })
    }

    /// Where media goes.
    pub(crate) fn path(&self) -> Option<Path> {
        self.ice.path().or(self.dtls_path)
    }

    pub(crate) const fn connected(&self) -> Option<Instant> {
        self.connected
    }

    pub(crate) const fn created(&self) -> Instant {
        self.created
    }

    pub(crate) const fn profile(&self) -> Option<ProtectionProfile> {
        self.profile
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// When the last authentic check came from there.
    pub(crate) fn last_check_from(&self, address: SocketAddr) -> Option<Instant> {
        self.addresses.iter().find(|(known, _)| *known == address).map(|(_, at)| *at)
    }

    pub(crate) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.ufrags()
    }

    /// A connectivity check that names one of our user fragments.
    pub(crate) fn handle_check(
        &mut self,
        now: Instant,
        request: BindingRequest,
        path: Path,
    ) -> Result<Proof, StunError> {
        let checked = self.ice.handle_request(now, request, path, &*self.crypto)?;
        self.transmits.push_back((path, checked.response));
        if !checked.accepted {
            return Ok(Proof::default());
        }
        self.addresses.retain(|(known, _)| *known != path.remote);
        let forgotten = if self.addresses.len() == MAX_ADDRESSES { self.forget_an_address() } else { None };
        self.addresses.push_back((path.remote, now));
        let connected = self.dtls.is_none() && self.connected.is_none();
        if connected {
            self.connected = Some(now);
        }
        let replaced = checked.replaced.map(|credentials| credentials.ufrag);
        Ok(Proof { address: true, forgotten, replaced, connected })
    }

    pub(crate) fn handle_dtls(&mut self, now: Instant, datagram: &[u8], path: Path) -> Option<SessionEvent> {
        let Some(dtls) = &mut self.dtls else { return Some(SessionEvent::Ignored) };
        let result = dtls.handle_datagram(now, datagram);
        if result != Ok(Some(DtlsEvent::Ignored)) {
            self.dtls_path = Some(path);
        }
        self.collect_dtls();
        match result {
            Ok(None) => None,
            Ok(Some(DtlsEvent::Ignored)) => Some(SessionEvent::Ignored),
            Ok(Some(DtlsEvent::Closed)) => Some(SessionEvent::Closed(CloseCause::PeerClosed)),
            Ok(Some(DtlsEvent::Connected { profile, keying_material })) => {
                let keys = srtp::server_keys(profile, &keying_material);
                self.srtp = Some(keys.expect("the exporter was asked for what the profile needs"));
                self.profile = Some(profile);
                self.connected = Some(now);
                Some(SessionEvent::Connected)
            }
            Err(error) => Some(SessionEvent::Closed(CloseCause::Dtls(error))),
        }
    }

    /// Decrypts in place. `None` before the handshake is done.
    pub(crate) fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Option<Result<&'a [u8], OpenSrtcpError>> {
        let (_, receiver) = self.srtp.as_mut()?;
        Some(receiver.open_rtcp(packet))
    }

    /// Decrypts in place. `None` before the handshake is done.
    pub(crate) fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Option<Result<&'a [u8], OpenSrtpError>> {
        let (_, receiver) = self.srtp.as_mut()?;
        Some(receiver.open_rtp(packet))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<SessionEvent> {
        if let Some(Err(error)) = self.dtls.as_mut().map(|dtls| dtls.handle_timeout(now)) {
            return Some(SessionEvent::Closed(CloseCause::Dtls(error)));
        }
        self.collect_dtls();
        let (deadline, cause) = self.silence();
        (now >= deadline).then_some(SessionEvent::Closed(cause))
    }

    /// Offers the viewer a restart of ICE; see [`IceLite::restart`].
    pub(crate) const fn restart_ice(&mut self, fresh: IceCredentials) -> Option<IceCredentials> {
        self.ice.restart(fresh)
    }

    pub(crate) fn close(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.collect_dtls();
    }

    /// What protects the packets of media. `None` before the handshake is done.
    pub(crate) fn rtp_sealer(&self) -> Option<RtpSealer> {
        self.srtp.as_ref().map(|(sender, _)| sender.rtp())
    }

    /// Appends the tag to the RTP packet that `buffer` holds from `start`. False before the handshake is done.
    pub(crate) fn seal_rtp(&self, buffer: &mut Vec<u8>, start: usize, layout: &PacketLayout) -> bool {
        let Some((sender, _)) = &self.srtp else { return false };
        sender.seal_rtp(buffer, start, layout);
        true
    }

    /// Protects the compound RTCP packet that `buffer` holds. False before the handshake is done.
    pub(crate) fn seal_rtcp(&mut self, buffer: &mut Vec<u8>) -> bool {
        let Some((sender, _)) = &mut self.srtp else { return false };
        sender.seal_rtcp(buffer);
        true
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let (deadline, _) = self.silence();
        self.dtls.as_ref().and_then(Dtls::poll_timeout).map_or(deadline, |due| due.min(deadline))
    }

    /// When the viewer will have been silent for too long, and what that means.
    fn silence(&self) -> (Instant, CloseCause) {
        match self.connected {
            Some(connected) => {
                let last = self.ice.last_consent().map_or(connected, |consent| consent.max(connected));
                (last + self.timeouts.consent, CloseCause::ConsentExpired)
            }
            None => (self.created + self.timeouts.connect, CloseCause::ConnectTimeout),
        }
    }

    /// The one that has been silent for longest, but not the one that media goes to.
    fn forget_an_address(&mut self) -> Option<SocketAddr> {
        let selected = self.ice.path().map(|path| path.remote);
        let position = self.addresses.iter().position(|(address, _)| Some(*address) != selected)?;
        self.addresses.remove(position).map(|(address, _)| address)
    }

    /// A flight goes back to where the last one came from; once connected, the viewer is where ICE says, which may be
    /// somewhere else by now.
    fn collect_dtls(&mut self) {
        let path = if self.connected.is_some() { self.path() } else { self.dtls_path.or(self.ice.path()) };
        while let Some(datagram) = self.dtls.as_mut().and_then(Dtls::poll_transmit) {
            if let Some(path) = path {
                self.transmits.push_back((path, datagram.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::dtls::tests::client;
    use crate::ice::tests::nomination;

    #[test]
    fn a_goodbye_goes_to_where_the_viewer_has_moved() {
        let mut now = Instant::now();
        let crypto = rtc_crypto::default_provider().unwrap();
        let mut viewer = client(now);
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let setup = SessionSetup::for_test(1, credentials.clone(), viewer.fingerprint(), now);
        let mut session = Session::new(&setup, &Certificate::generate(&*crypto).unwrap(), crypto).unwrap();
        let path = |port| Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None };
        let check = |session: &mut Session, now, port| {
            let request = BindingRequest::parse(&nomination(&credentials)).unwrap();
            assert!(session.handle_check(now, request, path(port)).unwrap().address);
            assert_eq!(session.poll_transmit().unwrap().0, path(port));
        };
        check(&mut session, now, 1);
        while session.connected().is_none() {
            while let Some(datagram) = viewer.poll_transmit() {
                let event = session.handle_dtls(now, &datagram, path(1));
                assert!(!matches!(event, Some(SessionEvent::Closed(_))), "{event:?}");
            }
            while let Some((to, datagram)) = session.poll_transmit() {
                assert_eq!(to, path(1));
                viewer.read(now, &datagram);
            }
        }
        now += Duration::from_secs(5);
        check(&mut session, now, 2);
        session.close(now);
        assert_eq!(session.poll_transmit().expect("a goodbye").0, path(2));
    }
}
