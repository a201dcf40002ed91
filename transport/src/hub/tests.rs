use lenscast_media::LayerSet;
use lenscast_router::Upstream;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::Fingerprint;
use crate::ice::tests::{nomination, plain_check};

struct Scene {
    hubs: Vec<Hub>,
    directory: Arc<Directory>,
    wire: Recorder,
    random: StdRng,
    now: Instant,
}

#[derive(Default)]
struct Recorder(Vec<Path>);

impl Wire for Recorder {
    fn send(&mut self, path: Path, _: &[u8]) {
        self.0.push(path);
    }

    fn send_packets(&mut self, path: Path, _: &[u8], _: &[usize]) {
        self.0.push(path);
    }
}

struct NoCamera;

impl Upstream for NoCamera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}

fn path(port: u16) -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None }
}

impl Scene {
    fn new(workers: usize) -> Self {
        let now = Instant::now();
        let crypto = rtc_crypto::default_provider().unwrap();
        let directory = Arc::new(Directory::new());
        let certificate = Certificate::generate(&*crypto).unwrap();
        let hub = |index| {
            let wall = WallClock::new(now, Duration::from_secs(1));
            let mut hub =
                Hub::new(index, wall, Arc::clone(&directory), certificate.clone(), Arc::clone(&crypto), Vec::new());
            hub.produce_for_test(now, ProducerId(1), Arc::new(NoCamera));
            hub
        };
        let hubs = (0..workers).map(hub).collect();
        Self { hubs, directory, wire: Recorder::default(), random: StdRng::seed_from_u64(1), now }
    }

    fn announced(&mut self, number: u64) -> IceCredentials {
        let credentials = IceCredentials::random(&mut self.random);
        let fingerprint = Fingerprint::sha256_of(b"viewer");
        let setup = SessionSetup::for_test(number, credentials.clone(), fingerprint, self.now);
        assert!(self.directory.announce(setup, 100));
        credentials
    }

    /// As the server does it.
    fn restarted(&mut self, number: u64) -> IceCredentials {
        let fresh = IceCredentials::random(&mut self.random);
        if let crate::directory::Restart::Worker(worker) = self.directory.restart(TransportId(number), &fresh) {
            assert!(self.hubs[worker].restart_ice(TransportId(number), fresh.clone()));
        }
        fresh
    }

    /// True if the check is answered.
    fn check(&mut self, credentials: &IceCredentials, port: u16) -> bool {
        self.check_at(0, credentials, port);
        std::mem::take(&mut self.wire.0) == [path(port)]
    }

    fn check_at(&mut self, worker: usize, credentials: &IceCredentials, port: u16) {
        self.datagram_at(worker, port, &nomination(credentials));
    }

    fn datagram_at(&mut self, worker: usize, port: u16, datagram: &[u8]) {
        self.hubs[worker].handle_datagram(self.now, path(port), &mut datagram.to_vec(), &mut self.wire);
    }

    fn owner(&self, port: u16) -> Option<u64> {
        self.hubs[0].by_address.get(&path(port).remote).map(|id| id.0)
    }

    fn close(&mut self, number: u64) {
        self.hubs[0].close_session(self.now, TransportId(number), CloseCause::Requested, &mut self.wire);
        self.wire.0.clear();
    }

    fn is_empty(&self) -> bool {
        let hub = &self.hubs[0];
        hub.by_address.is_empty() && hub.by_ufrag.is_empty() && hub.deadlines.is_empty() && self.directory.ufrags() == 0
    }
}

#[test]
fn restarts_leave_nothing_behind_and_keep_what_is_in_use() {
    let mut scene = Scene::new(1);
    let first = scene.announced(1);
    assert!(scene.check(&first, 1));
    for _ in 0..20 {
        scene.restarted(1);
        assert_eq!((scene.hubs[0].by_ufrag.len(), scene.directory.ufrags()), (2, 2));
        assert!(scene.check(&first, 1), "no restart has been taken up");
    }
    let fresh = scene.restarted(1);
    assert!(scene.check(&fresh, 1));
    assert_eq!((scene.hubs[0].by_ufrag.len(), scene.directory.ufrags()), (1, 1));
    assert!(!scene.check(&first, 1));
    scene.close(1);
    assert!(scene.is_empty());
}

#[test]
fn a_restart_before_the_first_check_leaves_the_choice_to_the_viewer() {
    for (names_fresh, restarts) in [(false, 1), (true, 1), (false, 5), (true, 5)] {
        let mut scene = Scene::new(1);
        let first = scene.announced(1);
        let fresh = (0..restarts).map(|_| scene.restarted(1)).last().unwrap();
        assert_eq!(scene.directory.ufrags(), 2);
        assert!(scene.check(if names_fresh { &fresh } else { &first }, 1));
        assert!(scene.check(&fresh, 1), "it can still restart");
        scene.close(1);
        assert!(scene.is_empty());
    }
}

#[test]
fn an_address_in_use_is_not_taken_from_its_session() {
    let mut scene = Scene::new(1);
    let (first, second) = (scene.announced(1), scene.announced(2));
    scene.check(&first, 1);
    scene.now += ADDRESS_IN_USE / 2;
    assert!(scene.check(&second, 1));
    assert_eq!(scene.owner(1), Some(1));
    scene.close(2);
    assert_eq!(scene.owner(1), Some(1), "it was not the second's to give up");

    let third = scene.announced(3);
    scene.now += ADDRESS_IN_USE;
    scene.check(&third, 1);
    assert_eq!(scene.owner(1), Some(3), "the first has been silent for long");
    scene.close(1);
    assert_eq!(scene.owner(1), Some(3));
    scene.close(3);
    assert!(scene.is_empty());
}

#[test]
fn a_viewer_with_too_many_addresses_keeps_those_that_it_uses() {
    let mut scene = Scene::new(1);
    let credentials = scene.announced(1);
    // Selected, and not checked again; and checked again and again.
    assert!(scene.check(&credentials, 1));
    for port in 3..=100 {
        scene.datagram_at(0, 2, &plain_check(&credentials));
        scene.datagram_at(0, port, &plain_check(&credentials));
        assert_eq!([1, 2, port].map(|port| scene.owner(port)), [Some(1); 3]);
    }
    assert_eq!(scene.hubs[0].by_address.len(), 16);
    scene.close(1);
    assert!(scene.is_empty());
}

#[test]
fn a_viewer_that_reaches_another_worker_is_handed_over() {
    let mut scene = Scene::new(2);
    let credentials = scene.announced(1);
    assert!(scene.check(&credentials, 1), "the first worker has the session now");
    let dtls = [22, 0xFE, 0xFD];
    scene.datagram_at(1, 2, &dtls);
    assert_eq!(scene.hubs[1].dropped().unknown_address, 1);

    scene.check_at(1, &credentials, 2);
    scene.datagram_at(1, 2, &dtls);
    assert!(scene.wire.0.is_empty(), "the second worker answers nothing itself");
    for event in scene.hubs[1].poll_events().collect::<Vec<_>>() {
        let HubEvent::HandOver(0, path, datagram) = event else { panic!() };
        scene.hubs[0].handle_handed_over(scene.now, path, datagram, &mut scene.wire);
    }
    assert_eq!(scene.wire.0, [path(2)]);
    assert_eq!(scene.owner(2), Some(1));
    let dropped = scene.hubs[0].dropped();
    assert_eq!(dropped, DropStats { dtls_ignored: 1, ..DropStats::default() }, "it reached the session's DTLS");
}

#[test]
fn every_datagram_that_is_dropped_is_counted() {
    let mut scene = Scene::new(1);
    let credentials = scene.announced(1);
    scene.check(&credentials, 1);
    scene.datagram_at(0, 0, &nomination(&credentials));
    scene.datagram_at(0, 1, &[]);
    scene.datagram_at(0, 2, &[]);
    scene.datagram_at(0, 1, &[22]);
    scene.datagram_at(0, 1, &[0x80; 12]);
    let long = [&[0x80, 200][..], &[0; 1_500]].concat();
    scene.datagram_at(0, 1, &long);
    scene.datagram_at(0, 1, &long[..100]);
    let late = scene.announced(2);
    let producer = lenscast_router::ProducerKey { router: Hub::default_router(0), producer: ProducerId(1) };
    let (now, hub) = (scene.now, &mut scene.hubs[0]);
    hub.with_router(now, &mut scene.wire, |router, egress| router.close_producer(now, producer, egress)).unwrap();
    scene.check_at(0, &late, 3);
    let expected = DropStats {
        port_zero: 1,
        unknown_protocol: 1,
        unknown_address: 1,
        dtls_ignored: 1,
        rtp_unexpected: 1,
        rtcp_too_long: 1,
        before_handshake: 1,
        session_not_begun: 1,
        ..DropStats::default()
    };
    assert_eq!(scene.hubs[0].dropped(), expected);
}
