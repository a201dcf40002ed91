//! What fuzz targets need of the inside. Compiled for them only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Codec, LayerSet, Ssrc, WallClock};
use lenscast_router::{
    ConsumerId, ConsumerParameters, EncodingParameters, HeaderExtensions, Layers, PacketLayout, PayloadType, Priority,
    ProducerId, ProducerParameters, Stamps, TransportId,
};
use rtc_crypto::RTCCryptoProvider;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
use rtc_stun::textattrs::TextAttribute;

use crate::answer::LocalDescription;
use crate::answer::publisher::answer as answer_publisher;
use crate::answer::viewer::{Shown, Sources, answer};
use crate::directory::Directory;
use crate::hub::{Hub, Wire};
use crate::ice::{BindingRequest, IceCredentials, IceLite};
use crate::leg::Board;
use crate::publishing::parameters;
use crate::purpose::{PlannedView, Purpose};
use crate::session::{Security, SessionSetup, Timeouts};
use crate::{
    Certificate, Fingerprint, Path, PipeKeys, ProtectionProfile, PublisherOffer, Upstream, ViewerOffer, master_keys,
    server_keys,
};

/// Feeds a hub with one session datagrams cut from `data`: a length byte pair, a byte that says from whom, the datagram.
///
/// # Panics
///
/// If the hub does.
pub fn datagrams(mut data: &[u8]) {
    thread_local! {
        static CERTIFICATE: Certificate =
            Certificate::generate(&*rtc_crypto::default_provider().expect("a provider")).expect("randomness");
    }
    let crypto = rtc_crypto::default_provider().expect("a provider is compiled in");
    let mut now = Instant::now();
    let directory = Arc::new(Directory::new());
    let wall = WallClock::new(now, Duration::from_secs(1));
    let certificate = CERTIFICATE.with(Clone::clone);
    let mut hub =
        Hub::new(0, wall, Arc::clone(&directory), certificate, Arc::clone(&crypto), Vec::new(), Board::alone());
    hub.produce_for_test(now, ProducerId(1), Arc::new(NoCamera));
    let setup = setup(now);
    let credentials = setup.credentials.clone();
    assert!(directory.announce(setup, 10));

    let path = |port: u16| Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None };
    hub.handle_datagram(now, path(1), &mut nomination(&credentials, &*crypto), &mut Nowhere);

    while let Some((&[high, low, from], rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([high, low])) % 1_500;
        let (datagram, rest) = rest.split_at(len.min(rest.len()));
        data = rest;
        let mut datagram = datagram.to_vec();
        // An even byte is the proved address, so that most of what is made up gets past the first gate.
        hub.handle_datagram(now, path(1 + u16::from(from & 1)), &mut datagram, &mut Nowhere);
        now += Duration::from_millis(u64::from(from));
        hub.handle_timeout(now, &mut Nowhere);
    }
}

/// Reads an offer and answers it in every codec it has.
///
/// # Panics
///
/// If reading or answering does.
pub fn offer(text: &str) {
    for cameras in 1..=3 {
        let Ok(offer) = ViewerOffer::parse_for(text, cameras) else { continue };
        for codec in Codec::ALL {
            answer_in(&offer, cameras, codec);
        }
    }
}

fn answer_in(offer: &ViewerOffer, cameras: usize, codec: Codec) {
    let credentials = IceCredentials { ufrag: "abcdefgh".into(), password: "abcdefghabcdefghabcdefgh".into() };
    let local = LocalDescription {
        session: 1,
        credentials: &credentials,
        fingerprint: &Fingerprint::sha256_of(&[]),
        candidates: &[],
        streams: &["front"],
    };
    let shown = (0..cameras as u32).map(|camera| {
        let source = |number| Ssrc(3 * camera + number);
        let sources = Sources { cname: "cname", video: source(0), rtx: source(1), audio: Some(source(2)) };
        Shown { stream: "front", codec, sources }
    });
    let shown: Vec<_> = shown.collect();
    let lacking = (0..cameras).find(|camera| offer.codecs(*camera).all(|offered| offered != codec));
    assert_eq!(answer(offer, &shown, &local).err(), lacking);
}

/// Reads a publisher's offer and answers it.
///
/// # Panics
///
/// If reading or answering does, or what was read breaks its own promises.
pub fn publisher_offer(text: &str) {
    let Ok(offer) = PublisherOffer::parse(text) else { return };
    assert!((1..=4).contains(&offer.layers()));
    let credentials = IceCredentials { ufrag: "abcdefgh".into(), password: "abcdefghabcdefghabcdefgh".into() };
    let local = LocalDescription {
        session: 1,
        credentials: &credentials,
        fingerprint: &Fingerprint::sha256_of(&[]),
        candidates: &[],
        streams: &["front"],
    };
    let (agreement, _) = answer_publisher(&offer, &Codec::ALL, None, &local).expect("it has a codec of ours");
    let _ = parameters(&offer.video, &agreement.video);
    assert_eq!(agreement.audio.is_some(), offer.has_audio());
}

/// Feeds a hub with a publisher's session authentic packets with contents cut from `data`: a length byte, a byte of which
/// the last bit says RTCP, the content.
///
/// # Panics
///
/// If the hub does.
pub fn published(mut data: &[u8]) {
    thread_local! {
        static CERTIFICATE: Certificate =
            Certificate::generate(&*rtc_crypto::default_provider().expect("a provider")).expect("randomness");
    }
    let crypto = rtc_crypto::default_provider().expect("a provider is compiled in");
    let mut now = Instant::now();
    let directory = Arc::new(Directory::new());
    let wall = WallClock::new(now, Duration::from_secs(1));
    let certificate = CERTIFICATE.with(Clone::clone);
    let mut hub =
        Hub::new(0, wall, Arc::clone(&directory), certificate, Arc::clone(&crypto), Vec::new(), Board::alone());
    let keys = PipeKeys { origin: [1; 28], edge: [2; 28] };
    let (mut sender, _) =
        master_keys(ProtectionProfile::AeadAes128Gcm, &keys.edge, &keys.origin).expect("the length fits");
    let producers = [Codec::Vp8, Codec::Vp9, Codec::H264].into_iter().zip(0..);
    let producers = producers.map(|(codec, number)| (ProducerId(10 + u64::from(number)), track(codec, number)));
    let purpose = Purpose::Publisher(producers.collect());
    let setup = SessionSetup { security: Security::Keys(keys), purpose, ..setup(now) };
    let check = nomination(&setup.credentials, &*crypto);
    assert!(directory.announce(setup, 10));
    let path = Path { remote: SocketAddr::from(([192, 0, 2, 1], 1)), local: None };
    hub.handle_datagram(now, path, &mut check.clone(), &mut Nowhere);

    let mut sequence = 0_u16;
    while let Some((&[len, kind], rest)) = data.split_first_chunk::<2>() {
        let (content, rest) = rest.split_at(usize::from(len).min(rest.len()));
        data = rest;
        let mut packet = Vec::new();
        if kind & 1 == 1 {
            packet.extend_from_slice(&[0x80, 200 + (kind >> 1) % 8, 0, 1, 0, 0, 0, 1]);
            packet.extend_from_slice(content);
            sender.seal_rtcp(&mut packet);
        } else {
            // Of each track, its retransmissions, and one that does not exist.
            let number = (kind >> 1) % 7;
            sequence = sequence.wrapping_add(1 + u16::from(kind >> 5));
            packet.extend_from_slice(&[0x80 | kind & 0x20, 96 + number]);
            packet.extend_from_slice(&sequence.to_be_bytes());
            packet.extend_from_slice(&u32::from(sequence / 3).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 100 + number]);
            packet.extend_from_slice(content);
            let layout = PacketLayout {
                header_len: 12,
                ssrc: Ssrc(u32::from(100 + number)),
                index: u64::from(sequence),
                stamps: Stamps::default(),
            };
            sender.seal_rtp(&mut packet, 0, &layout);
        }
        hub.handle_datagram(now, path, &mut packet, &mut Nowhere);
        if kind & 0x40 != 0 {
            hub.end_of_batch(now, &mut Nowhere);
            now += Duration::from_millis(u64::from(kind));
            hub.handle_timeout(now, &mut Nowhere);
        }
    }
}

/// Reads a STUN message as a check, and as the answer to one.
///
/// # Panics
///
/// If reading does, or one that nobody signed is taken.
pub fn stun(data: &[u8]) {
    let crypto = rtc_crypto::default_provider().expect("a provider is compiled in");
    let credentials = setup(Instant::now()).credentials;
    let from = SocketAddr::from(([192, 0, 2, 1], 1));
    if let Ok(request) = BindingRequest::parse(data) {
        let mut ice = IceLite::new(credentials.clone(), None);
        let path = Path { remote: from, local: None };
        assert!(ice.handle_request(Instant::now(), request, path, &*crypto).is_err());
    }
    assert!(!crate::pipe::is_answered(credentials, from, data, crypto));
}

/// Reads what the ends of a pipe tell each other, as it is within an authentic packet.
///
/// # Panics
///
/// If reading does, or what was read is written otherwise.
pub fn pipe_control(data: &[u8]) {
    crate::pipe::read_control(data);
}

fn track(codec: Codec, number: u8) -> ProducerParameters {
    let source = |payload_type: u8| Some(Ssrc(u32::from(payload_type) + 4));
    let payload_type = 96 + 2 * number;
    ProducerParameters {
        encodings: vec![EncodingParameters {
            ssrc: source(payload_type),
            rtx_ssrc: source(payload_type + 1),
            rid: None,
        }],
        payload_type: PayloadType::new(payload_type),
        rtx_payload_type: PayloadType::new(payload_type + 1),
        ..ProducerParameters::local(codec.into(), 1, 1)
    }
}

/// A check that selects the path it comes on.
fn nomination(credentials: &IceCredentials, crypto: &dyn RTCCryptoProvider) -> Vec<u8> {
    let mut check = Message::new();
    check.typ = BINDING_REQUEST;
    check.write_header();
    check.add(ATTR_USE_CANDIDATE, &[]);
    let user = TextAttribute::new(ATTR_USERNAME, format!("{}:viewer", credentials.ufrag));
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(credentials.password().to_owned(), crypto.crypto());
    user.add_to(&mut check).and_then(|()| integrity.add_to(&mut check)).expect("it fits");
    FINGERPRINT.add_to(&mut check).expect("it fits");
    check.raw
}

/// Opens what nobody sealed.
///
/// # Panics
///
/// If it is taken for authentic.
pub fn srtp(data: &[u8]) {
    for profile in ProtectionProfile::ALL {
        let (_, mut receiver) = server_keys(profile, &vec![7; profile.keying_material_len()]).expect("the length fits");
        // Of 32 bits a fuzzer may guess the tag.
        let forged = receiver.open_rtp(&mut data.to_vec()).is_ok() && profile != ProtectionProfile::Aes128CmHmacSha1_32;
        assert!(!forged && receiver.open_rtcp(&mut data.to_vec()).is_err());
    }
}

fn setup(now: Instant) -> SessionSetup {
    SessionSetup {
        id: TransportId(1),
        credentials: IceCredentials { ufrag: "abcdefgh".into(), password: "abcdefghabcdefghabcdefgh".into() },
        restart: None,
        security: Security::Dtls(Fingerprint::sha256_of(&[])),
        purpose: Purpose::Viewer(vec![PlannedView {
            video: (
                ProducerId(1),
                ConsumerParameters {
                    id: ConsumerId(1),
                    transport: TransportId(1),
                    ssrc: Ssrc(1),
                    payload_type: PayloadType::new(96).expect("it is one"),
                    rtx: None,
                    extensions: HeaderExtensions::default(),
                    cname: "cname".to_owned(),
                    initial_sequence: 0,
                    initial_rtx_sequence: 0,
                    timestamp_offset: 0,
                    preferred_layers: Layers::HIGHEST,
                    priority: Priority::default(),
                    paused: false,
                },
            ),
            audio: None,
        }]),
        feedback: None,
        created: now,
        timeouts: Timeouts { connect: Duration::from_secs(3_600), consent: Duration::from_secs(3_600) },
    }
}

struct Nowhere;

impl Wire for Nowhere {
    fn now(&self, entered: Instant) -> Instant {
        entered
    }

    fn send(&mut self, _: Path, _: &[u8]) {}

    fn send_packets(&mut self, _: Path, _: &[u8], _: &[usize]) {}
}

struct NoCamera;

impl Upstream for NoCamera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}
