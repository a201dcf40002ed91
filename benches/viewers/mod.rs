//! Many viewers on one thread, each with a UDP socket, ICE and DTLS of its own: just enough of a browser to be served.
//!
//! They take what they are sent, count it, and decrypt none of it: on a machine with few cores the viewers must not cost
//! what is to be measured of the server.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use lenscast_media::Codec;
use lenscast_transport::Fingerprint;
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
use rustix::event::epoll;

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
    connected: bool,
}

/// Connected viewers, taking what they are sent on a thread of their own.
pub(crate) struct Seated {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

const BOUND: Duration = Duration::from_secs(60);

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
        Viewer { check: self.check(ufrag, password), socket, server, endpoint, connected: false }
    }

    /// Connects all viewers, and goes on receiving for them.
    pub(crate) fn seat(&self, viewers: Vec<Viewer>) -> Seated {
        let mut viewers = viewers;
        let deadline = Instant::now() + BOUND;
        while !viewers.iter().all(|viewer| viewer.connected) {
            assert!(Instant::now() < deadline, "not all viewers could connect");
            viewers.iter_mut().for_each(Viewer::drive);
        }
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&received), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("viewers".to_owned())
            .spawn(move || receive(&viewers, &count, &stopped))
            .expect("the system gives a thread");
        Seated { received, stop, thread: Some(thread) }
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
    /// One step towards being connected.
    fn drive(&mut self) {
        if self.connected {
            return;
        }
        let now = Instant::now();
        let mut buffer = [0; 2_048];
        let mut checked = false;
        while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
            match buffer[0] {
                0..=3 => checked = true,
                20..=63 => {
                    let datagram = BytesMut::from(&buffer[..len]);
                    let events = self.endpoint.read(now, self.server, None, datagram).unwrap_or_default();
                    self.connected |= events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
                }
                _ => {}
            }
        }
        if !checked {
            self.send(&self.check);
        }
        // Nothing is lost on loopback but what overflows; retransmission takes care of that.
        let _ = self.endpoint.handle_timeout(self.server, now);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.send(&transmit.message);
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A full buffer is a loss like any other.
        let _ = self.socket.send_to(datagram, self.server);
    }
}

impl Seated {
    /// Datagrams received so far by all together.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the viewers' thread does not panic");
        }
    }
}

/// How often each viewer renews its consent (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(5);

fn receive(viewers: &[Viewer], received: &AtomicU64, stopped: &AtomicBool) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the system gives an epoll");
    let by_key: BTreeMap<u64, &Viewer> = (0..).zip(viewers).collect();
    for (key, viewer) in &by_key {
        let data = epoll::EventData::new_u64(*key);
        epoll::add(&poll, &viewer.socket, data, epoll::EventFlags::IN).expect("a socket can be polled");
    }
    let mut events = Vec::with_capacity(256);
    let mut buffer = [0; 2_048];
    let mut consent = Instant::now() + CONSENT;
    while !stopped.load(Ordering::Relaxed) {
        events.clear();
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        if epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)).is_err() {
            continue;
        }
        for event in &events {
            let viewer = by_key[&event.data.u64()];
            while viewer.socket.recv(&mut buffer).is_ok() {
                let is_rtp = buffer[0] >= 128 && !(192..=223).contains(&buffer[1]);
                received.fetch_add(u64::from(is_rtp), Ordering::Relaxed);
            }
        }
        if Instant::now() >= consent {
            consent = Instant::now() + CONSENT;
            viewers.iter().for_each(|viewer| viewer.send(&viewer.check));
        }
    }
}
