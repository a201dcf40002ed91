//! Many viewers on one thread, each with a UDP socket, ICE and DTLS of its own: just enough of a browser to be served.
//!
//! They take what they are sent, count it, and decrypt none of it: on a machine with few cores the viewers must not cost
//! what is to be measured of the server. For the same reason they look at their sockets from time to time rather than sleep
//! on them: on a loopback it is the sender who pays for waking a receiver, which over a network it never does.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lenscast_media::Codec;
use lenscast_router::PacketLayout;
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
    srtp: Option<SrtpSender>,
}

/// Connected viewers, taking what they are sent on a thread of their own.
pub(crate) struct Seated {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the viewers' thread tells, and is told.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) received: AtomicU64,
    pub(crate) repaired: AtomicU64,
    feedback: AtomicBool,
    silent: AtomicBool,
    stop: AtomicBool,
}

/// What the offers call media and its retransmissions.
const MEDIA: u8 = 96;
const RTX: u8 = 97;
const BOUND: Duration = Duration::from_secs(60);
/// How often a check is repeated until it is answered (RFC 8445 §14.3 has 500 ms for a network it knows nothing of).
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often each viewer renews its consent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(5);
/// Between two looks at the sockets. Their buffers hold some 400 ms of a 2 Mb/s stream.
const NAP: Duration = Duration::from_millis(1);
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

    /// Connects all viewers, and goes on receiving for them.
    pub(crate) fn seat(&self, viewers: Vec<Viewer>) -> Seated {
        let mut viewers = viewers;
        let deadline = Instant::now() + BOUND;
        while !viewers.iter().all(Viewer::is_connected) {
            assert!(Instant::now() < deadline, "not all viewers could connect");
            viewers.iter_mut().for_each(Viewer::drive);
        }
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("viewers".to_owned())
            .spawn(move || receive(viewers, &ours))
            .expect("the system gives a thread");
        Seated { shared, thread: Some(thread) }
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

    /// Protects an RTP packet and sends it, for whoever publishes.
    #[allow(dead_code, reason = "a publisher is only in the soak")]
    pub(crate) fn send_rtp(&self, packet: &mut Vec<u8>, layout: &PacketLayout) {
        self.srtp.as_ref().expect("it is connected").seal_rtp(packet, 0, layout);
        self.send(packet);
    }

    fn send(&self, datagram: &[u8]) {
        // A full buffer is a loss like any other.
        let _ = self.socket.send_to(datagram, self.server);
    }
}

impl Seated {
    /// Packets of media received so far by all together.
    pub(crate) fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Packets received again, because a NACK asked for them.
    #[allow(dead_code, reason = "not every bench has feedback")]
    pub(crate) fn repaired(&self) -> u64 {
        self.shared.repaired.load(Ordering::Relaxed)
    }

    /// Begins or ends to report, and to ask for packets again that were not lost.
    #[allow(dead_code, reason = "not every bench has feedback")]
    pub(crate) fn give_feedback(&self, give: bool) {
        self.shared.feedback.store(give, Ordering::Relaxed);
    }

    /// Sends nothing any more, so that the server does nothing but forward.
    #[allow(dead_code, reason = "not every bench wants that")]
    pub(crate) fn be_silent(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the viewers' thread does not panic");
        }
    }
}

/// A connected viewer.
pub(crate) struct Watching {
    pub(crate) viewer: Viewer,
    consent_due: Instant,
    feedback_due: Instant,
    turn: u64,
    /// Of the latest packet of media.
    ssrc: [u8; 4],
    sequence: u16,
}

fn receive(viewers: Vec<Viewer>, shared: &Shared) {
    let (start, count) = (Instant::now(), viewers.len() as u32);
    let watching = viewers.into_iter().zip(0..).map(|(viewer, number)| {
        let (consent, feedback) = (CONSENT * number / count, FEEDBACK_TURN * number / count);
        Watching {
            consent_due: start + consent,
            feedback_due: start + feedback,
            turn: u64::from(number),
            ..Watching::new(viewer)
        }
    });
    let mut watching: Vec<_> = watching.collect();
    let mut sealed = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let feedback = shared.feedback.load(Ordering::Relaxed);
        let silent = shared.silent.load(Ordering::Relaxed);
        let now = Instant::now();
        for watching in &mut watching {
            watching.take(shared);
            if !silent {
                watching.speak(now, feedback, &mut sealed);
            }
        }
        std::thread::sleep(NAP);
    }
}

impl Watching {
    pub(crate) fn new(viewer: Viewer) -> Self {
        let now = Instant::now();
        Self { viewer, consent_due: now, feedback_due: now, turn: 0, ssrc: [0; 4], sequence: 0 }
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
    pub(crate) fn take(&mut self, shared: &Shared) {
        let mut buffer = [0; 2_048];
        while self.viewer.socket.recv(&mut buffer).is_ok() {
            if !(128..192).contains(&buffer[0]) {
                continue;
            }
            match buffer[1] & 0x7F {
                MEDIA => {
                    shared.received.fetch_add(1, Ordering::Relaxed);
                    self.sequence = u16::from_be_bytes([buffer[2], buffer[3]]);
                    self.ssrc.copy_from_slice(&buffer[8..12]);
                }
                RTX => _ = shared.repaired.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    fn report(&mut self, sealed: &mut Vec<u8>) {
        /// Our own source.
        const OURS: [u8; 4] = [0, 0, 0, 1];
        sealed.clear();
        if self.turn % FEEDBACK_TURNS == 0 {
            // A receiver report with one block (RFC 3550 §6.4.2) that says nothing but the highest sequence number.
            sealed.extend_from_slice(&[0x81, 201, 0, 7]);
            sealed.extend_from_slice(&OURS);
            sealed.extend_from_slice(&self.ssrc);
            sealed.extend_from_slice(&[0; 6]);
            sealed.extend_from_slice(&self.sequence.to_be_bytes());
            sealed.extend_from_slice(&[0; 12]);
        } else {
            // A generic NACK of one packet (RFC 4585 §6.2.1), some frames old, another one each time.
            let lost = self.sequence.wrapping_sub(40);
            sealed.extend_from_slice(&[0x81, 205, 0, 3]);
            sealed.extend_from_slice(&OURS);
            sealed.extend_from_slice(&self.ssrc);
            sealed.extend_from_slice(&lost.to_be_bytes());
            sealed.extend_from_slice(&[0; 2]);
        }
        self.turn += 1;
        self.viewer.srtp.as_mut().expect("it is connected").seal_rtcp(sealed);
        self.viewer.send(sealed);
    }
}
