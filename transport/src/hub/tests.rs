use std::sync::atomic::{AtomicUsize, Ordering};

use lenscast_media::{Burst, BurstMeta, LayerSet, PassedExtensions, RtpTime, StageTimes};
use lenscast_router::{OutletLink, Upstream};
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
    /// What has been sent to the workers.
    channels: Vec<mpsc::Receiver<Incoming>>,
    camera: Arc<Camera>,
}

/// Messages that fit into a worker's channel.
const ROOM: usize = 2;

#[derive(Default)]
struct Recorder(Vec<Path>);

impl Wire for Recorder {
    fn now(&self, entered: Instant) -> Instant {
        entered
    }

    fn send(&mut self, path: Path, _: &[u8]) {
        self.0.push(path);
    }

    fn send_packets(&mut self, path: Path, _: &[u8], _: &[usize]) {
        self.0.push(path);
    }
}

const CAMERA: ProducerKey = ProducerKey { router: Hub::default_router(0), producer: ProducerId(1) };

/// Counts the key frames that it is asked for.
#[derive(Default)]
struct Camera(AtomicUsize);

impl Upstream for Camera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
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
        let camera = Arc::new(Camera::default());
        let (senders, channels): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ROOM)).unzip();
        let hub = |index| {
            let wall = WallClock::new(now, Duration::from_secs(1));
            let (directory, crypto) = (Arc::clone(&directory), Arc::clone(&crypto));
            let (certificate, channels) = (certificate.clone(), senders.clone());
            let mut hub = Hub::new(index, wall, directory, certificate, crypto, channels, Board::alone());
            hub.produce_for_test(now, ProducerId(1), Arc::<Camera>::clone(&camera));
            hub
        };
        let hubs = (0..workers).map(hub).collect();
        Self { hubs, directory, wire: Recorder::default(), random: StdRng::seed_from_u64(1), now, channels, camera }
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
        assert!(self.directory.contains(TransportId(number)), "until its end is told");
        self.hubs[0].poll_events().for_each(drop);
        self.wire.0.clear();
    }

    /// Makes the first worker's camera known in a router of the second; the outlet gets this number.
    fn pipe(&mut self, number: u64) -> watch::Receiver<Life> {
        let (mirror, life) = watch::channel(Life::default());
        let permit = self.hubs[0].workers[1].clone().try_reserve_owned().unwrap();
        let parameters = AttachParameters {
            producer: CAMERA,
            destination: RouterId(100 + number),
            link: Arc::new(OutletLink::new(OutletId(number), |_| {})),
            created: Confirm::none(),
        };
        let opening = Opening { permit, mirror };
        self.hubs[0].attach(self.now, parameters, 1, opening, &mut self.wire).unwrap();
        life
    }

    /// What the second worker finds in its channel.
    fn carried(&mut self) -> Vec<Inbound> {
        std::iter::from_fn(|| self.channels[1].try_recv().ok()).map(|incoming| incoming.message).collect()
    }

    fn end_camera(&mut self) {
        let now = self.now;
        let close = |router: &mut Router, egress: &mut LegsOnWire<'_, _>| router.close_producer(now, CAMERA, egress);
        self.hubs[0].with_router(now, &mut self.wire, close).unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.hubs[0].handle_timeout(self.now, &mut self.wire);
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

#[test]
fn a_mirror_hears_of_its_end_once_there_is_room() {
    let mut scene = Scene::new(2);
    let _lives = [scene.pipe(1), scene.pipe(2)];
    scene.end_camera();
    assert_eq!(scene.hubs[0].left().2, 2, "the channel is full of the two beginnings");
    scene.pass(Duration::from_millis(20));
    assert_eq!(scene.carried().len(), ROOM);
    scene.pass(Duration::from_millis(20));
    let ends = scene.carried();
    assert!(ends.iter().all(|message| matches!(message, Inbound::State { state, .. } if state.closed)), "{ends:?}");
    assert_eq!((ends.len(), scene.hubs[0].left().2, scene.hubs[0].poll_timeout()), (2, 0, None));
}

#[test]
fn an_outlet_that_its_mirror_ended_leads_nowhere_at_once() {
    let mut scene = Scene::new(2);
    let _life = scene.pipe(1);
    let Inbound::Open(open) = scene.carried().remove(0) else { panic!() };
    open.upstream.close();
    let pending = Pending { outlets: [OutletId(1)].into(), ..Pending::default() };
    scene.hubs[0].handle_nudges(scene.now, pending, &mut scene.wire);
    assert_eq!((scene.hubs[0].left().2, scene.hubs[0].poll_timeout()), (0, None));
    assert!(scene.carried().is_empty());
}

#[test]
fn nothing_is_kept_for_a_worker_that_died() {
    for told in [true, false] {
        let mut scene = Scene::new(2);
        let _lives = [scene.pipe(1), scene.pipe(2)];
        scene.channels[1].close();
        if told {
            scene.hubs[0].handle_worker_died(scene.now, 1, &mut scene.wire);
        } else {
            scene.end_camera();
        }
        assert_eq!((scene.hubs[0].left().2, scene.hubs[0].poll_timeout()), (0, None));
    }
}

#[test]
fn a_mirror_ends_with_its_home_and_so_does_its_own() {
    let mut scene = Scene::new(2);
    let life = scene.pipe(1);
    let opened = scene.channels[1].try_recv().unwrap();
    assert!(matches!(&opened.message, Inbound::Open(open) if open.key.router == RouterId(101)));
    scene.hubs[1].create_router(RouterId(101)).unwrap();
    scene.hubs[1].handle_incoming(scene.now, opened, &mut scene.wire, Instant::now);
    assert_eq!((life.borrow().ended, scene.hubs[1].left().1), (None, 1));
    // The mirror has one itself, in a third router.
    let (mirror, _its_life) = watch::channel(Life::default());
    let opening = Opening { permit: scene.hubs[1].workers[0].clone().try_reserve_owned().unwrap(), mirror };
    let parameters = AttachParameters {
        producer: ProducerKey { router: RouterId(101), producer: CAMERA.producer },
        destination: RouterId(102),
        link: Arc::new(OutletLink::new(OutletId(9), |_| {})),
        created: Confirm::none(),
    };
    scene.hubs[1].attach(scene.now, parameters, 0, opening, &mut scene.wire).unwrap();
    scene.hubs[1].handle_worker_died(scene.now, 0, &mut scene.wire);
    assert_eq!((life.borrow().ended, scene.hubs[1].left().1), (Some(EndCause::OriginClosed), 0));
    let _open = scene.channels[0].try_recv().unwrap();
    let end = scene.channels[0].try_recv().unwrap();
    assert!(matches!(end.message, Inbound::State { state, .. } if state.closed && state.version == 1));
}

#[test]
fn what_a_dead_worker_had_sent_begins_no_mirror() {
    let mut scene = Scene::new(2);
    let life = scene.pipe(1);
    scene.hubs[1].create_router(RouterId(101)).unwrap();
    scene.hubs[1].handle_worker_died(scene.now, 0, &mut scene.wire);
    let opened = scene.channels[1].try_recv().unwrap();
    scene.hubs[1].handle_incoming(scene.now, opened, &mut scene.wire, Instant::now);
    assert_eq!(scene.hubs[1].left().1, 0);
    assert!(life.has_changed().is_err(), "whoever waits for its end is not to wait for ever");
}

/// An edge that may have the camera, and wants it.
fn edge(scene: &mut Scene) {
    let credentials = IceCredentials::random(&mut scene.random);
    let mut setup = SessionSetup::for_test(100, credentials.clone(), Fingerprint::sha256_of(b"edge"), scene.now);
    setup.security = crate::session::Security::Keys(crate::PipeKeys { origin: [1; 28], edge: [2; 28] });
    let piped = crate::PipedProducer {
        id: CAMERA.producer,
        codec: lenscast_media::Codec::Vp8.into(),
        payload_type: lenscast_router::PayloadType::new(96).unwrap(),
        rtx_payload_type: None,
        encodings: vec![crate::PipedEncoding { ssrc: lenscast_media::Ssrc(1), rtx_ssrc: None }],
        temporal_layers: 1,
        absolute_capture_time: lenscast_router::ExtensionId::new(1).unwrap(),
    };
    setup.purpose = Purpose::Pipe(Box::new(crate::pipe::PipeSetup {
        wall: WallClock::new(scene.now, Duration::from_secs(1)),
        epoch: 1,
        ssrc: lenscast_media::Ssrc(2),
        producers: vec![(piped, OutletId(1))],
        first_sequence: 0,
    }));
    assert!(scene.directory.announce(setup, 100));
    scene.check_at(0, &credentials, 1);
    assert_eq!(scene.hubs[0].legs.pipes.len(), 1);
}

#[test]
fn a_closed_pipe_leaves_nothing_to_be_told() {
    let mut scene = Scene::new(1);
    edge(&mut scene);
    scene.close(100);
    assert_eq!(scene.hubs[0].poll_timeout(), None);
    assert!(scene.is_empty() && scene.hubs[0].legs.pipes.is_empty());
}

#[test]
fn a_break_on_the_way_to_an_edge_asks_the_source_for_a_key_frame() {
    let mut scene = Scene::new(1);
    edge(&mut scene);
    let leg = scene.hubs[0].legs.sessions.get_mut(&TransportId(100)).unwrap();
    let Role::Pipe(pipe) = &mut leg.role else { panic!() };
    pipe.set_wanted_for_test(LayerSet::all(1));
    let pending = Pending { outlets: [OutletId(1)].into(), ..Pending::default() };
    scene.hubs[0].handle_nudges(scene.now, pending, &mut scene.wire);
    let now = scene.now;
    let mut asked = |key_frame, first_packet, broken| {
        let mut burst = Burst::new(BurstMeta {
            codec: lenscast_media::Codec::Vp8.into(),
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: None,
            temporal_layer: 0,
            layer_sync: false,
            first_packet,
            rtp_time: RtpTime(first_packet as u32 * 3_000),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        });
        burst.push(&[&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 64, 0, 64, 0]]);
        let message = Inbound::Burst { key: CAMERA, outlet: None, layer: 0, broken, burst: Arc::new(burst) };
        let incoming = Incoming { from: 0, message, life: None };
        scene.hubs[0].handle_incoming(now, incoming, &mut scene.wire, Instant::now);
        scene.camera.0.swap(0, Ordering::SeqCst)
    };
    asked(true, 0, false);
    assert_eq!(asked(false, 1, false), 0);
    assert!(asked(false, 3, true) > 0);
    assert_eq!(asked(true, 4, false), 0);
}
