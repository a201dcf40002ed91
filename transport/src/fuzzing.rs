//! What fuzz targets need of the inside. Compiled for them only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Codec, LayerSet, Ssrc, WallClock};
use lenscast_router::{
    ConsumerId, ConsumerParameters, HeaderExtensions, Layers, PayloadType, Priority, ProducerId, TransportId,
};
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter};
use rtc_stun::textattrs::TextAttribute;

use crate::answer::LocalDescription;
use crate::answer::viewer::{Sources, answer};
use crate::directory::Directory;
use crate::hub::{Hub, Wire};
use crate::ice::IceCredentials;
use crate::purpose::Purpose;
use crate::session::{Security, SessionSetup, Timeouts};
use crate::{Certificate, Fingerprint, Path, ProtectionProfile, Upstream, ViewerOffer, server_keys};

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
    let mut hub = Hub::new(0, wall, Arc::clone(&directory), certificate, Arc::clone(&crypto), Vec::new());
    hub.produce_for_test(now, ProducerId(1), Arc::new(NoCamera));
    let setup = setup(now);
    let credentials = setup.credentials.clone();
    assert!(directory.announce(setup, 10));

    let path = |port: u16| Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None };
    let mut check = Message::new();
    check.typ = BINDING_REQUEST;
    check.write_header();
    check.add(ATTR_USE_CANDIDATE, &[]);
    let user = TextAttribute::new(ATTR_USERNAME, format!("{}:viewer", credentials.ufrag));
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(credentials.password().to_owned(), crypto.crypto());
    user.add_to(&mut check).and_then(|()| integrity.add_to(&mut check)).expect("it fits");
    FINGERPRINT.add_to(&mut check).expect("it fits");
    hub.handle_datagram(now, path(1), &mut check.raw.clone(), &mut Nowhere);

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
    let Ok(offer) = ViewerOffer::parse(text) else { return };
    for codec in Codec::ALL {
        let credentials = IceCredentials { ufrag: "abcdefgh".into(), password: "abcdefghabcdefghabcdefgh".into() };
        let local = LocalDescription {
            session: 1,
            credentials: &credentials,
            fingerprint: &Fingerprint::sha256_of(&[]),
            candidates: &[],
            stream: "front",
        };
        let sources = Sources { cname: "cname", video: Ssrc(1), rtx: Ssrc(2), audio: Some(Ssrc(3)) };
        assert_eq!(answer(&offer, codec, &local, &sources).is_some(), offer.codecs().any(|offered| offered == codec));
    }
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
        purpose: Purpose::Viewer(vec![(
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
        )]),
        created: now,
        timeouts: Timeouts { connect: Duration::from_secs(3_600), consent: Duration::from_secs(3_600) },
    }
}

struct Nowhere;

impl Wire for Nowhere {
    fn send(&mut self, _: Path, _: &[u8]) {}

    fn send_packets(&mut self, _: Path, _: &[u8], _: &[usize]) {}
}

struct NoCamera;

impl Upstream for NoCamera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}
