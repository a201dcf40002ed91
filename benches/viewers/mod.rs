//! Many viewers on one thread, each with a UDP socket, ICE and DTLS of its own: just enough of a browser to be served.
//!
//! They take what they are sent, count it, and decrypt none of it: on a machine with few cores the viewers must not cost
//! what is to be measured of the server.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lenscast_media::Codec;
use lenscast_transport::{Fingerprint, ProtectionProfile, SrtpSender, client_keys};
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
use rtc_stun::textattrs::TextAttribute;

/// What all viewers share: a certificate is expensive to make, and nobody looks at it.
pub(crate) struct Audience {
    crypto: Arc<dyn RTCCryptoProvider>,
    config: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

/// A viewer on its way to being served.
pub(crate) struct Viewer {
    socket: UdpSocket,
    server: SocketAddr,
    endpoint: Endpoint,
    check: Vec<u8>,
    check_due: Instant,
    pub(crate) srtp: Option<SrtpSender>,
}

/// What viewers have received, all together.
#[derive(Default)]
pub(crate) struct Received {
    /// Packets of media.
    pub(crate) media: AtomicU64,
    /// Packets that came again, because a NACK asked for them.
    pub(crate) again: AtomicU64,
}

/// A connected viewer.
pub(crate) struct Watching {
    pub(crate) viewer: Viewer,
    consent_due: Instant,
    feedback_due: Instant,
    turn: u64,
    /// Of the latest packet of media.
    ssrc: [u8; 4],
    sequence: Option<u16>,
    /// The first packet that is missing, and which of the 16 behind it are (RFC 4585 §6.2.1).
    missing: Option<(u16, u16)>,
}

/// What the offers call media and its retransmissions.
const MEDIA: u8 = 96;
const RTX: u8 = 97;
/// How often a check is repeated until it is answered (RFC 8445 §14.3 has 500 ms for a network it knows nothing of).
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often each viewer renews its consent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(5);
/// A viewer's turns of feedback are a second in sum: a receiver report, and as many NACKs of one packet as there are turns
/// left. Of 208 packets a second that is a loss of 1 %.
const FEEDBACK_TURN: Duration = Duration::from_millis(1_000 / FEEDBACK_TURNS);
const FEEDBACK_TURNS: u64 = 3;

impl Audience {
    pub(crate) fn new() -> Self {
        let crypto = rtc_crypto::default_provider().expect("a provider is compiled in");
        let certificate = Certificate::generate_self_signed(vec!["viewer".to_owned()], crypto.crypto())
            .expect("the system gives randomness");
        let fingerprint = Fingerprint::sha256_of(&certificate.certificate[0]);
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&crypto))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_insecure_skip_verify(true)
            .build(true, None)
            .expect("the configuration is complete");
        Self { crypto, config: Arc::new(config), fingerprint }
    }

    /// What a viewer of this codec offers. All offer the same: what tells them apart is the answer's user fragment.
    pub(crate) fn offer_of(&self, codec: Codec) -> String {
        let parameters = match codec {
            Codec::Vp8 => "",
            Codec::Vp9 => "a=fmtp:96 profile-id=0\r\n",
            Codec::H264 => "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
             a=ice-ufrag:view\r\na=ice-pwd:viewviewviewviewviewview\r\na=setup:active\r\na=fingerprint:{}\r\n\
             a=rtpmap:96 {codec}/90000\r\n{parameters}a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
             a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
            self.fingerprint
        )
    }

    /// A viewer that will go by this answer.
    pub(crate) fn viewer(&self, answer: &str) -> Viewer {
        let line = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)).expect("the answer has it");
        let (ufrag, password) = (line("a=ice-ufrag:"), line("a=ice-pwd:"));
        let candidate: Vec<&str> = line("a=candidate:").split(' ').collect();
        let server = format!("{}:{}", candidate[4], candidate[5]).parse().expect("a candidate has an address");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut endpoint = Endpoint::new(server, TransportProtocol::UDP, None);
        endpoint.connect(Instant::now(), server, Arc::clone(&self.config), None).expect("a first flight");
        Viewer { check: self.check(ufrag, password), check_due: Instant::now(), socket, server, endpoint, srtp: None }
    }

    fn check(&self, ufrag: &str, password: &str) -> Vec<u8> {
        let mut message = Message::new();
        message.typ = BINDING_REQUEST;
        message.new_transaction_id().expect("the system gives randomness");
        message.write_header();
        message.add(ATTR_PRIORITY, &[0x7E, 0, 0, 0xFF]);
        message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
        message.add(ATTR_USE_CANDIDATE, &[]);
        let crypto = self.crypto.crypto();
        TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:view")).add_to(&mut message).expect("it fits");
        MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)
            .add_to(&mut message)
            .expect("it fits");
        FINGERPRINT.add_to(&mut message).expect("it fits");
        message.raw
    }
}

impl Viewer {
    pub(crate) fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// One step towards being connected.
    pub(crate) fn drive(&mut self) {
        if self.is_connected() {
            return;
        }
        let now = Instant::now();
        let mut buffer = [0; 2_048];
        while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            match buffer[0] {
                0..=3 => self.check_due = now + CONSENT,
                20..=63 => {
                    let datagram = BytesMut::from(&buffer[..len]);
                    let events = self.endpoint.read(now, self.server, None, datagram).unwrap_or_default();
                    if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                        self.srtp = Some(self.keys());
                    }
                }
                _ => {}
            }
        }
        if now >= self.check_due {
            self.send(&self.check);
            self.check_due = now + CHECK_INTERVAL;
        }
        // Nothing is lost on loopback but what overflows; retransmission takes care of that.
        let _ = self.endpoint.handle_timeout(self.server, now);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.send(&transmit.message);
        }
    }

    /// What this side protects its RTCP with.
    fn keys(&self) -> SrtpSender {
        let state = self.endpoint.get_connection_state(self.server).expect("the handshake is complete");
        let profile = ProtectionProfile::AeadAes128Gcm;
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], profile.keying_material_len());
        let material = material.expect("the handshake is complete").into_bytes();
        client_keys(profile, &material).expect("it has its length").0
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        // A full buffer is a loss like any other.
        let _ = self.socket.send_to(datagram, self.server);
    }
}

impl Watching {
    /// Viewer `number` of `count`, who take turns in what they say.
    pub(crate) fn new(viewer: Viewer, number: u32, count: u32) -> Self {
        let now = Instant::now();
        Self {
            viewer,
            consent_due: now + CONSENT * number / count,
            feedback_due: now + FEEDBACK_TURN * number / count,
            turn: u64::from(number),
            ssrc: [0; 4],
            sequence: None,
            missing: None,
        }
    }

    /// Says what is due by now.
    pub(crate) fn speak(&mut self, now: Instant, feedback: bool, sealed: &mut Vec<u8>) {
        if now >= self.consent_due {
            self.consent_due += CONSENT;
            self.viewer.send(&self.viewer.check);
        }
        if now >= self.feedback_due {
            self.feedback_due += FEEDBACK_TURN;
            if feedback {
                self.report(sealed);
            }
        }
    }

    /// Takes what has come.
    pub(crate) fn take(&mut self, received: &Received) {
        let mut buffer = [0; 2_048];
        while self.viewer.socket.recv(&mut buffer).is_ok() {
            if !(128..192).contains(&buffer[0]) {
                continue;
            }
            match buffer[1] & 0x7F {
                MEDIA => {
                    received.media.fetch_add(1, Ordering::Relaxed);
                    self.note(u16::from_be_bytes([buffer[2], buffer[3]]));
                    self.ssrc.copy_from_slice(&buffer[8..12]);
                }
                RTX => _ = received.again.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    /// A packet of media has come: those between it and the one before are missing.
    fn note(&mut self, sequence: u16) {
        if let Some(before) = self.sequence {
            let gap = sequence.wrapping_sub(before).wrapping_sub(1);
            // Beyond that it is an old one that comes late.
            if gap > 0 && gap < 1 << 15 {
                let behind = (1_u32 << u32::from((gap - 1).min(16))) - 1;
                self.missing = Some((before.wrapping_add(1), behind as u16));
            }
            if gap >= 1 << 15 {
                return;
            }
        }
        self.sequence = Some(sequence);
    }

    fn report(&mut self, sealed: &mut Vec<u8>) {
        /// Our own source.
        const OURS: [u8; 4] = [0, 0, 0, 1];
        let Some(sequence) = self.sequence else { return };
        sealed.clear();
        if self.turn.is_multiple_of(FEEDBACK_TURNS) {
            // A receiver report with one block (RFC 3550 §6.4.2) that says nothing but the highest sequence number.
            sealed.extend_from_slice(&[0x81, 201, 0, 7]);
            sealed.extend_from_slice(&OURS);
            sealed.extend_from_slice(&self.ssrc);
            sealed.extend_from_slice(&[0; 6]);
            sealed.extend_from_slice(&sequence.to_be_bytes());
            sealed.extend_from_slice(&[0; 12]);
        } else {
            // A generic NACK (RFC 4585 §6.2.1) of what is missing, or of one packet some frames old, another one each time.
            let (lost, behind) = self.missing.take().unwrap_or((sequence.wrapping_sub(40), 0));
            sealed.extend_from_slice(&[0x81, 205, 0, 3]);
            sealed.extend_from_slice(&OURS);
            sealed.extend_from_slice(&self.ssrc);
            sealed.extend_from_slice(&lost.to_be_bytes());
            sealed.extend_from_slice(&behind.to_be_bytes());
        }
        self.turn += 1;
        self.viewer.srtp.as_mut().expect("it is connected").seal_rtcp(sealed);
        self.viewer.send(sealed);
    }
}
