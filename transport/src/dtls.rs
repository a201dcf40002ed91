//! The DTLS 1.2 server that a viewer's keys come from (RFC 5764): a thin layer over `rtc-dtls` that checks the
//! viewer's certificate against its offer and bounds what a handshake may cost.
//!
//! **Invariants.** Keys are exported only after the viewer has proved to own the certificate whose fingerprint its offer
//! carried. The memory a peer can make us hold is bounded by [`MAX_HANDSHAKE_BYTES`], the work by [`MAX_PIECES`] and
//! [`MAX_ALERTS_PER_SECOND`]. What is not a DTLS record, or not one that could matter now, changes nothing (RFC 6347
//! §4.1.2.7): addresses can be forged.
//!
//! What it does not do: data channels, DTLS 1.3, the client's role.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate as DtlsCertificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use thiserror::Error;

use crate::dtls_record::{Record, records};
use crate::{Fingerprint, ProtectionProfile};

/// The certificate that this server shows to every viewer: self-signed, ECDSA on P-256, made at the start.
#[derive(Clone)]
pub struct Certificate {
    inner: DtlsCertificate,
    fingerprint: Fingerprint,
}

/// No certificate could be made.
#[derive(Debug, Clone, Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct MakeCertificateError(String);

impl Certificate {
    /// A fresh one.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn generate(crypto: &dyn RTCCryptoProvider) -> Result<Self, MakeCertificateError> {
        let inner = DtlsCertificate::generate_self_signed(vec!["lenscast".to_owned()], crypto.crypto())
            .map_err(|error| MakeCertificateError(error.to_string()))?;
        let der = inner.certificate.first().ok_or_else(|| MakeCertificateError("it came out empty".to_owned()))?;
        let fingerprint = Fingerprint::sha256_of(der);
        Ok(Self { inner, fingerprint })
    }

    /// What the answer tells viewers to expect.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// Why a handshake failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DtlsError {
    /// The handshake itself: a protocol error, a certificate that is not the offer's, or too many retransmissions.
    #[error("DTLS handshake failed: {0}")]
    Handshake(String),
    /// No handshake is that long.
    #[error("DTLS handshake of more than {MAX_HANDSHAKE_BYTES} bytes or {MAX_PIECES} pieces")]
    TooLong,
    /// The viewer offers neither of our SRTP profiles.
    #[error("DTLS peer agreed to no SRTP protection profile of ours")]
    NoProfile,
}

/// What a datagram led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DtlsEvent {
    /// The handshake is done; these are the keys.
    Connected { profile: ProtectionProfile, keying_material: Vec<u8> },
    /// The viewer said goodbye, or gave up with an error.
    Closed,
    /// The datagram is dropped: it is not DTLS, or nothing that could matter now, or too much.
    Ignored,
}

/// One viewer's association.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    received: Received,
    connected: bool,
    /// Retransmissions of the current flight.
    retransmissions: u32,
    fallback: Option<Fallback>,
}

/// What a peer has sent: of its handshake, and from the end of that on of repetitions, as long as the session lasts.
#[derive(Debug, Default)]
struct Received {
    bytes: usize,
    pieces: usize,
    /// Alerts in the second that began then.
    alerts: usize,
    alerts_since: Option<Instant>,
}

/// What it takes to start over with every profile allowed.
///
/// `rtc-dtls` takes the client's first profile that the server knows, and browsers name AES-CM first because its tag is
/// shorter, though GCM costs a third of the time. So the first attempt knows GCM only; a client that does not offer it
/// is found out by its first flight, before anything was sent, and that flight is read again.
struct Fallback {
    config: Arc<HandshakeConfig>,
    first_flight: Vec<BytesMut>,
}

/// A browser's flights take 2 to 4 KB, a few times over when they are lost; a chain of large certificates could take 20.
pub const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// Records and fragments of messages in a handshake. A browser's takes a dozen, a few times over when they are lost.
/// `rtc-dtls` searches all fragments of a message for each that arrives, one stack frame deeper for each that it finds.
const MAX_PIECES: usize = 256;

/// The longest datagram that is looked at. Nobody's are longer than an Ethernet frame's 1,500 bytes: flights are cut to
/// the path's MTU (RFC 6347 §4.1.1).
const MAX_DATAGRAM: usize = 2_048;

/// Encrypted alerts that are looked at once connected: the peer's goodbye is one, and others can be forged to come before
/// it.
const MAX_ALERTS_PER_SECOND: usize = 32;

/// RFC 6347 §4.2.4.1 starts at a second, for a network it knows nothing of; by the time DTLS starts, ICE has just seen a
/// round trip. Chromium starts at 50 ms, libwebrtc's `DtlsTransport` likewise.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(200);

/// RFC 5764 §4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The association does not care where its peer is: ICE decides, and may move it. The endpoint wants an address, so all
/// sessions use this one, and each has an endpoint to itself.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

impl Dtls {
    pub(crate) fn server(
        certificate: &Certificate,
        expected: Fingerprint,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, DtlsError> {
        let preferred = handshake_config(certificate, expected.clone(), crypto.clone(), &PROFILES[..1])?;
        let config = Arc::new(handshake_config(certificate, expected, crypto, &PROFILES)?);
        Ok(Self {
            endpoint: server_endpoint(Arc::new(preferred)),
            received: Received::default(),
            connected: false,
            retransmissions: 0,
            fallback: Some(Fallback { config, first_flight: Vec::new() }),
        })
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<DtlsEvent>, DtlsError> {
        let Some(datagram) = self.admit(now, datagram)? else { return Ok(Some(DtlsEvent::Ignored)) };
        self.retransmissions = 0;
        if let Some(fallback) = &mut self.fallback {
            fallback.first_flight.push(datagram.clone());
        }
        match self.endpoint.read(now, PEER, None, datagram) {
            Ok(events) => self.handle_events(&events),
            Err(rtc_shared::error::Error::ErrServerNoMatchingSrtpProfile) => self.start_over(now),
            // Once connected, alerts get this far only under the peer's keys.
            Err(rtc_shared::error::Error::ErrAlertFatalOrClose) if self.connected => Ok(Some(DtlsEvent::Closed)),
            Err(_) if self.connected => Ok(Some(DtlsEvent::Ignored)),
            Err(error) => Err(DtlsError::Handshake(error.to_string())),
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.retransmissions += 1;
            self.endpoint.handle_timeout(PEER, now).map_err(|error| DtlsError::Handshake(error.to_string()))?;
        }
        Ok(())
    }

    /// Says goodbye to the viewer.
    pub(crate) fn close(&mut self, now: Instant) {
        // The connection it returns is done with; an error can only mean that there was none.
        drop(self.endpoint.close(now));
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
        let transmit = self.endpoint.poll_transmit()?;
        // Once something is on its way, the profiles are settled.
        self.fallback = None;
        Some(transmit.message)
    }

    /// When the current flight is to be sent again: the intervals double (RFC 6347 §4.2.4.1). `rtc-dtls` keeps them
    /// constant and gives up after seven, which with a first interval this short would be too soon.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let doubled = FLIGHT_INTERVAL * ((1 << self.retransmissions.min(10)) - 1);
        Some(self.endpoint.poll_timeout(&PEER)? + doubled)
    }

    /// The records of a datagram that the association is to see, if there are any.
    fn admit(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<BytesMut>, DtlsError> {
        let Some(records) = (datagram.len() <= MAX_DATAGRAM).then(|| records(datagram)).flatten() else {
            return Ok(None);
        };
        let mut admitted = BytesMut::with_capacity(datagram.len());
        for record in records {
            if self.admits(now, &record)? {
                admitted.extend_from_slice(record.bytes());
            }
        }
        Ok((!admitted.is_empty()).then_some(admitted))
    }

    fn admits(&mut self, now: Instant, record: &Record<'_>) -> Result<bool, DtlsError> {
        if self.connected {
            return Ok(record.fits_a_connection()
                && if record.is_handshake() { self.received.admits(record) } else { self.received.admits_alert(now) });
        }
        if !record.fits_a_handshake() {
            return Ok(false);
        }
        self.received.admits(record).then_some(true).ok_or(DtlsError::TooLong)
    }

    fn start_over(&mut self, now: Instant) -> Result<Option<DtlsEvent>, DtlsError> {
        let Fallback { config, first_flight } = self.fallback.take().ok_or(DtlsError::NoProfile)?;
        self.endpoint = server_endpoint(config);
        for datagram in first_flight {
            self.endpoint.read(now, PEER, None, datagram).map_err(|error| match error {
                rtc_shared::error::Error::ErrServerNoMatchingSrtpProfile => DtlsError::NoProfile,
                other => DtlsError::Handshake(other.to_string()),
            })?;
        }
        Ok(None)
    }

    fn handle_events(&mut self, events: &[EndpointEvent]) -> Result<Option<DtlsEvent>, DtlsError> {
        // Application data would be data channels, which we do not offer: dropped.
        let mut result = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => result = Some(self.connected()?),
                EndpointEvent::PeerClosed => return Ok(Some(DtlsEvent::Closed)),
                _ => {}
            }
        }
        Ok(result)
    }

    fn connected(&mut self) -> Result<DtlsEvent, DtlsError> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(DtlsError::NoProfile)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            _ => return Err(DtlsError::NoProfile),
        };
        let material = state
            .export_keying_material(EXPORTER_LABEL, &[], profile.keying_material_len())
            .map_err(|error| DtlsError::Handshake(error.to_string()))?;
        self.connected = true;
        self.received = Received::default();
        Ok(DtlsEvent::Connected { profile, keying_material: material.into_bytes() })
    }
}

impl Received {
    fn admits(&mut self, record: &Record<'_>) -> bool {
        self.bytes = self.bytes.saturating_add(record.bytes().len());
        self.pieces = self.pieces.saturating_add(record.pieces());
        self.bytes <= MAX_HANDSHAKE_BYTES && self.pieces <= MAX_PIECES
    }

    fn admits_alert(&mut self, now: Instant) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.alerts_since.is_none_or(over) {
            self.alerts_since = Some(now);
            self.alerts = 0;
        }
        self.alerts += 1;
        self.alerts <= MAX_ALERTS_PER_SECOND
    }
}

/// Best first.
const PROFILES: [SrtpProtectionProfile; 2] =
    [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];

fn server_endpoint(config: Arc<HandshakeConfig>) -> Endpoint {
    Endpoint::new(PEER, TransportProtocol::UDP, Some(config))
}

fn handshake_config(
    certificate: &Certificate,
    expected: Fingerprint,
    crypto: Arc<dyn RTCCryptoProvider>,
    profiles: &[SrtpProtectionProfile],
) -> Result<HandshakeConfig, DtlsError> {
    let verify = move |certificates: &[Vec<u8>], _: &[_]| match certificates.first() {
        Some(certificate) if expected.matches(certificate) => Ok(()),
        _ => Err(rtc_shared::error::Error::Other("the certificate is not the one of the offer".to_owned())),
    };
    ConfigBuilder::default()
        .with_crypto_provider(crypto)
        .with_certificates(vec![certificate.inner.clone()])
        .with_srtp_protection_profiles(profiles.to_vec())
        // Certificates are self-signed: it is the fingerprint that counts, not a chain of trust.
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_verify_peer_certificate(Some(Arc::new(verify)))
        .with_flight_interval(FLIGHT_INTERVAL)
        .build(false, None)
        .map_err(|error| DtlsError::Handshake(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dtls_record::tests::{fragment, record};

    /// A viewer's side.
    pub(crate) struct Client {
        endpoint: Endpoint,
        certificate: DtlsCertificate,
    }

    impl Client {
        pub(crate) fn fingerprint(&self) -> Fingerprint {
            Fingerprint::sha256_of(&self.certificate.certificate[0])
        }

        pub(crate) fn read(&mut self, now: Instant, datagram: &[u8]) {
            self.endpoint.read(now, PEER, None, BytesMut::from(datagram)).unwrap();
        }

        pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
            Some(self.endpoint.poll_transmit()?.message)
        }
    }

    /// One that has just begun its handshake.
    pub(crate) fn client(now: Instant) -> Client {
        client_with(now, BOTH.to_vec())
    }

    fn crypto() -> Arc<dyn RTCCryptoProvider> {
        rtc_crypto::default_provider().unwrap()
    }

    fn client_with(now: Instant, profiles: Vec<SrtpProtectionProfile>) -> Client {
        let certificate = DtlsCertificate::generate_self_signed(vec!["viewer".to_owned()], crypto().crypto()).unwrap();
        let config = ConfigBuilder::default()
            .with_crypto_provider(crypto())
            .with_certificates(vec![certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            .with_insecure_skip_verify(true)
            .build(true, None)
            .unwrap();
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        endpoint.connect(now, PEER, Arc::new(config), None).unwrap();
        Client { endpoint, certificate }
    }

    /// Carries datagrams to and fro until nothing moves; `lose` says which of the client's are lost.
    fn run(
        now: &mut Instant,
        client: &mut Client,
        server: &mut Dtls,
        lose: impl Fn(usize) -> bool,
    ) -> Result<Option<DtlsEvent>, DtlsError> {
        let mut sent = 0;
        for _ in 0..200 {
            while let Some(transmit) = client.endpoint.poll_transmit() {
                sent += 1;
                if !lose(sent)
                    && let Some(event) = server.handle_datagram(*now, &transmit.message)?
                    && event != DtlsEvent::Ignored
                {
                    return Ok(Some(event));
                }
            }
            while let Some(datagram) = server.poll_transmit() {
                let _ = client.endpoint.read(*now, PEER, None, datagram);
            }
            *now += Duration::from_millis(250);
            server.handle_timeout(*now)?;
            let _ = client.endpoint.handle_timeout(PEER, *now);
        }
        Ok(None)
    }

    fn server_for(client: &Client) -> Dtls {
        let server_certificate = Certificate::generate(&*crypto()).unwrap();
        Dtls::server(&server_certificate, client.fingerprint(), crypto()).unwrap()
    }

    const BOTH: [SrtpProtectionProfile; 2] =
        [SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];

    #[test]
    fn agrees_on_keys_and_prefers_gcm() {
        let mut now = Instant::now();
        for (offered, expected) in
            [(BOTH.to_vec(), ProtectionProfile::AeadAes128Gcm), (vec![BOTH[0]], ProtectionProfile::Aes128CmHmacSha1_80)]
        {
            let mut client = client_with(now, offered);
            let mut server = server_for(&client);
            let Ok(Some(DtlsEvent::Connected { profile, keying_material })) =
                run(&mut now, &mut client, &mut server, |_| false)
            else {
                panic!("no keys");
            };
            assert_eq!(profile, expected);
            assert_eq!(keying_material.len(), profile.keying_material_len());
        }
    }

    #[test]
    fn survives_lost_flights() {
        let mut now = Instant::now();
        let mut client = client(now);
        let mut server = server_for(&client);
        let event = run(&mut now, &mut client, &mut server, |number| number * 7_919 % 5 < 2).expect("a handshake");
        assert!(matches!(event, Some(DtlsEvent::Connected { .. })));
    }

    #[test]
    fn a_certificate_that_is_not_the_offers_fails() {
        let mut now = Instant::now();
        let mut client = client(now);
        let server_certificate = Certificate::generate(&*crypto()).unwrap();
        let mut server = Dtls::server(&server_certificate, Fingerprint::sha256_of(b"another"), crypto()).unwrap();
        let error = run(&mut now, &mut client, &mut server, |_| false).unwrap_err();
        assert!(matches!(error, DtlsError::Handshake(_)), "{error}");
    }

    #[test]
    fn a_peer_without_our_profiles_fails() {
        let mut now = Instant::now();
        let mut client = client_with(now, vec![SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm]);
        let mut server = server_for(&client);
        let error = run(&mut now, &mut client, &mut server, |_| false).unwrap_err();
        assert_eq!(error, DtlsError::NoProfile);
    }

    /// A viewer and a server that are connected, with nothing on its way.
    fn connected(now: &mut Instant) -> (Client, Dtls) {
        let mut client = client(*now);
        let mut server = server_for(&client);
        let event = run(now, &mut client, &mut server, |_| false).unwrap();
        assert!(matches!(event, Some(DtlsEvent::Connected { .. })));
        while let Some(datagram) = server.poll_transmit() {
            client.endpoint.read(*now, PEER, None, datagram).unwrap();
        }
        (client, server)
    }

    #[test]
    fn a_goodbye_is_noticed_and_ours_is_sent() {
        let mut now = Instant::now();
        let (mut client, mut server) = connected(&mut now);
        client.endpoint.close(now).unwrap();
        assert_eq!(run(&mut now, &mut client, &mut server, |_| false).unwrap(), Some(DtlsEvent::Closed));

        let (mut client, mut server) = connected(&mut now);
        server.close(now);
        let goodbye = server.poll_transmit().expect("a close_notify");
        let events = client.endpoint.read(now, PEER, None, goodbye).unwrap();
        assert!(matches!(events[..], [EndpointEvent::PeerClosed]));
    }

    #[test]
    fn a_fatal_alert_under_the_viewers_keys_ends_the_session() {
        let mut now = Instant::now();
        let (mut client, mut server) = connected(&mut now);
        // What the viewer cannot decode it answers with a fatal alert.
        let undecodable = BytesMut::from(record(20, 1, 77, &[9]).as_slice());
        assert!(client.endpoint.read(now, PEER, None, undecodable).is_err());
        let alert = client.endpoint.poll_transmit().expect("an alert").message;
        assert_eq!(server.handle_datagram(now, &alert), Ok(Some(DtlsEvent::Closed)));
    }

    #[test]
    fn an_endless_handshake_is_cut_off() {
        let now = Instant::now();
        let client = client(now);
        // A message that never completes, in large pieces and in small ones.
        for len in [1_024, 1] {
            let mut server = server_for(&client);
            let mut fragment = vec![1, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, (len >> 8) as u8, len as u8];
            fragment.resize(12 + len, 0);
            let outcome = (0..1_000).find_map(|number| {
                let datagram = record(22, 0, number, &fragment);
                server.handle_datagram(now, &datagram).err().map(|error| (number, error))
            });
            let limit = (MAX_HANDSHAKE_BYTES / (25 + len)).min(MAX_PIECES) as u64;
            assert_eq!(outcome, Some((limit, DtlsError::TooLong)));
        }
    }

    /// `rtc-dtls` took seconds for such a datagram, and did so again for the next.
    #[test]
    fn a_datagram_of_many_small_records_is_not_looked_at() {
        let mut now = Instant::now();
        let fragments: Vec<u8> = (0..2_620).flat_map(|number| record(22, 0, number, &fragment(0)[..12])).collect();
        let client = client(now);
        assert_eq!(server_for(&client).handle_datagram(now, &fragments), Ok(Some(DtlsEvent::Ignored)));
        let (_, mut server) = connected(&mut now);
        assert_eq!(server.handle_datagram(now, &fragments), Ok(Some(DtlsEvent::Ignored)));
    }

    #[test]
    fn junk_does_not_end_a_handshake() {
        let mut now = Instant::now();
        let mut client = client(now);
        let mut server = server_for(&client);
        let junk = [
            vec![0x16],
            vec![0x16; 40],
            record(24, 0, 0, &[1, 2, 3]),
            record(63, 0, 0, &[0; 60]),
            record(23, 0, 0, &[0; 60]),
            record(20, 0, 0, &[7]),
            record(21, 0, 0, &[2]),
            vec![0x16; 3_000],
        ];
        for datagram in junk {
            assert_eq!(server.handle_datagram(now, &datagram), Ok(Some(DtlsEvent::Ignored)), "{datagram:?}");
        }
        let event = run(&mut now, &mut client, &mut server, |_| false).expect("a handshake");
        assert!(matches!(event, Some(DtlsEvent::Connected { .. })));
    }

    /// Each of these was enough that the viewer's goodbye went unheard.
    #[test]
    fn a_goodbye_is_noticed_after_any_amount_of_forgeries() {
        let mut now = Instant::now();
        let handshake = [fragment(0).as_slice(), &[0; 900]].concat();
        let forgeries = [
            ("handshake", (22, 0, handshake.clone())),
            ("handshake under keys", (22, 1, handshake)),
            ("data", (23, 1, vec![0; 900])),
            ("alerts in the clear", (21, 0, vec![2, 40])),
            ("alerts under keys", (21, 1, vec![0; 900])),
            ("a change to keys that nobody has", (20, 1, vec![1])),
        ];
        for (name, (kind, epoch, body)) in forgeries {
            let (mut client, mut server) = connected(&mut now);
            for number in 0..1_000 {
                let event = server.handle_datagram(now, &record(kind, epoch, 1_000 + number, &body)).unwrap();
                assert_ne!(event, Some(DtlsEvent::Closed), "{name}");
            }
            now += Duration::from_secs(1);
            client.endpoint.close(now).unwrap();
            assert_eq!(run(&mut now, &mut client, &mut server, |_| false), Ok(Some(DtlsEvent::Closed)), "{name}");
        }
    }
}
