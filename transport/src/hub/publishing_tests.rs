//! From a publisher's SRTP to a viewer's. Both have their keys from outside, as pipes have: the handshake is tested
//! elsewhere.

use lenscast_media::{Codec, MediaCodec, Ssrc};
use lenscast_router::{
    ConsumerId, ConsumerParameters, EncodingParameters, HeaderExtensions, Layers, PacketLayout, PayloadType, Priority,
    ProducerParameters, ReceivedExtensions, Stamps,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::ice::tests::nomination;
use crate::session::{Security, Timeouts};
use crate::{PipeKeys, ProtectionProfile, SrtpReceiver, SrtpSender, master_keys};

const PUBLISHER: u64 = 1;
const VIEWER: u64 = 2;
const TRACK: ProducerId = ProducerId(50);
const SOURCE: u32 = 0xABCD;

struct Scene {
    hub: Hub,
    directory: Arc<Directory>,
    wire: Recorder,
    random: StdRng,
    now: Instant,
    sender: SrtpSender,
    viewer: SrtpReceiver,
}

/// Packets by the port that they were sent to.
#[derive(Default)]
struct Recorder(Vec<(u16, Vec<u8>)>);

impl Wire for Recorder {
    fn now(&self, entered: Instant) -> Instant {
        entered
    }

    fn send(&mut self, path: Path, datagram: &[u8]) {
        self.0.push((path.remote.port(), datagram.to_vec()));
    }

    fn send_packets(&mut self, path: Path, buffer: &[u8], ends: &[usize]) {
        let mut start = 0;
        for &end in ends {
            self.send(path, &buffer[start..end]);
            start = end;
        }
    }
}

fn path(port: u64) -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, 1], port as u16)), local: None }
}

fn keys(number: u64) -> PipeKeys {
    PipeKeys { origin: [number as u8; 28], edge: [number as u8 + 100; 28] }
}

/// A peer's side of them.
fn peer_keys(number: u64) -> (SrtpSender, SrtpReceiver) {
    let PipeKeys { origin, edge } = keys(number);
    master_keys(ProtectionProfile::AeadAes128Gcm, &edge, &origin).unwrap()
}

fn payload_type(value: u8) -> PayloadType {
    PayloadType::new(value).unwrap()
}

fn track(ssrc: Option<u32>) -> ProducerParameters {
    ProducerParameters {
        codec: MediaCodec::Video(Codec::Vp8),
        clock_rate: 90_000,
        encodings: vec![EncodingParameters { ssrc: ssrc.map(Ssrc), ..EncodingParameters::default() }],
        temporal_layers: 1,
        payload_type: Some(payload_type(96)),
        rtx_payload_type: Some(payload_type(97)),
        mid: None,
        returns_reference_times: false,
        extensions: ReceivedExtensions::default(),
    }
}

fn consumer() -> ConsumerParameters {
    ConsumerParameters {
        id: ConsumerId(VIEWER),
        transport: TransportId(VIEWER),
        ssrc: Ssrc(7),
        payload_type: payload_type(100),
        rtx: None,
        extensions: HeaderExtensions::default(),
        cname: "cname".to_owned(),
        initial_sequence: 5,
        initial_rtx_sequence: 0,
        timestamp_offset: 0,
        preferred_layers: Layers::HIGHEST,
        priority: Priority::LOWEST,
        paused: false,
    }
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let crypto = rtc_crypto::default_provider().unwrap();
        let directory = Arc::new(Directory::new());
        let certificate = Certificate::generate(&*crypto).unwrap();
        let wall = WallClock::new(now, Duration::from_secs(1));
        let hub = Hub::new(0, wall, Arc::clone(&directory), certificate, crypto, Vec::new(), Board::alone());
        let (sender, viewer) = (peer_keys(PUBLISHER).0, peer_keys(VIEWER).1);
        let random = StdRng::seed_from_u64(1);
        Self { hub, directory, wire: Recorder::default(), random, now, sender, viewer }
    }

    /// Announces a session and has its peer send its first check, from the port of its number.
    fn connect(&mut self, number: u64, purpose: Purpose) {
        let credentials = IceCredentials::random(&mut self.random);
        let timeout = Duration::from_secs(30);
        let setup = SessionSetup {
            id: TransportId(number),
            credentials: credentials.clone(),
            restart: None,
            security: Security::Keys(keys(number)),
            purpose,
            feedback: None,
            created: self.now,
            timeouts: Timeouts { connect: timeout, consent: timeout },
        };
        assert!(self.directory.announce(setup, 10));
        self.receive(number, nomination(&credentials));
    }

    fn with_publisher_and_viewer(mut self) -> Self {
        self.connect(PUBLISHER, Purpose::Publisher(vec![(TRACK, track(Some(SOURCE)))]));
        self.connect(VIEWER, Purpose::Viewer(vec![PlannedView { video: (TRACK, consumer()), audio: None }]));
        self.wire.0.clear();
        self
    }

    fn receive(&mut self, port: u64, mut datagram: Vec<u8>) {
        self.hub.handle_datagram(self.now, path(port), &mut datagram, &mut self.wire);
        self.hub.end_of_batch(self.now, &mut self.wire);
    }

    /// A key frame of one packet, as the publisher would send it.
    fn packet(&self, sequence: u16, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 0x80 | 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&(u32::from(sequence) * 3_000).to_be_bytes());
        packet.extend_from_slice(&ssrc.to_be_bytes());
        // RFC 7741 §4.2 with S set, then RFC 6386 §9.1: a key frame of 64×64.
        packet.extend_from_slice(&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 64, 0, 64, 0, sequence as u8]);
        let layout =
            PacketLayout { header_len: 12, ssrc: Ssrc(ssrc), index: u64::from(sequence), stamps: Stamps::default() };
        self.sender.seal_rtp(&mut packet, 0, &layout);
        packet
    }

    /// The RTP that the viewer has got since the last call: sequence number and last byte of each packet.
    fn seen(&mut self) -> Vec<(u16, u8)> {
        let mut seen = Vec::new();
        for (port, mut datagram) in std::mem::take(&mut self.wire.0) {
            if u64::from(port) == VIEWER
                && matches!(protocol_of(&datagram), Protocol::Rtp)
                && let Ok(packet) = self.viewer.open_rtp(&mut datagram)
            {
                assert_eq!(packet[1] & 0x7F, 100, "the viewer's own payload type");
                seen.push((u16::from_be_bytes([packet[2], packet[3]]), *packet.last().unwrap()));
            }
        }
        seen
    }
}

#[test]
fn what_a_publisher_sends_reaches_a_viewer_under_its_own_keys() {
    let mut scene = Scene::new().with_publisher_and_viewer();
    for sequence in 10..14 {
        let packet = scene.packet(sequence, SOURCE);
        scene.receive(PUBLISHER, packet);
        assert_eq!(scene.seen(), [(sequence - 5, sequence as u8)]);
    }
    assert_eq!(scene.hub.dropped(), DropStats::default());
}

#[test]
fn a_publishers_producers_are_announced_and_end_with_it_and_so_do_their_viewers() {
    let mut scene = Scene::new().with_publisher_and_viewer();
    let published = PublishedProducer { id: TRACK, codec: MediaCodec::Video(Codec::Vp8), layers: 1 };
    let told: Vec<_> = scene.hub.poll_events().collect();
    assert!(matches!(&told[0], HubEvent::Produced(TransportId(PUBLISHER), tracks) if *tracks == [published]));
    assert!(matches!(told[1], HubEvent::Connected(TransportId(PUBLISHER))));
    scene.hub.close_session(scene.now, TransportId(PUBLISHER), CloseCause::Requested, &mut scene.wire);
    let ended = scene.hub.poll_events().filter_map(|event| match event {
        HubEvent::Closed(id, cause) => Some((id.0, cause)),
        _ => None,
    });
    let ended: Vec<_> = ended.collect();
    assert!(ended.contains(&(PUBLISHER, CloseCause::Requested)));
    assert!(ended.contains(&(VIEWER, CloseCause::ProducerClosed)));
    assert_eq!(ended.len(), 2);
}

#[test]
fn tracks_that_contradict_each_other_are_refused() {
    let mut scene = Scene::new();
    let doubled = vec![(TRACK, track(Some(SOURCE))), (ProducerId(51), track(Some(SOURCE)))];
    scene.connect(PUBLISHER, Purpose::Publisher(doubled));
    let told: Vec<_> = scene.hub.poll_events().collect();
    assert!(matches!(&told[..], [HubEvent::Closed(TransportId(PUBLISHER), CloseCause::TracksRefused)]));
    assert_eq!(scene.hub.dropped(), DropStats { session_not_begun: 1, ..DropStats::default() });
}

#[test]
fn replayed_forged_and_strangers_rtp_goes_no_further_and_is_counted() {
    let mut scene = Scene::new().with_publisher_and_viewer();
    let packet = scene.packet(10, SOURCE);
    scene.receive(PUBLISHER, packet.clone());
    assert_eq!(scene.seen().len(), 1);

    scene.receive(PUBLISHER, packet);
    let mut forged = scene.packet(11, SOURCE);
    *forged.last_mut().unwrap() ^= 1;
    scene.receive(PUBLISHER, forged);
    let fresh = scene.packet(12, SOURCE);
    scene.receive(99, fresh.clone());
    scene.receive(VIEWER, fresh);
    scene.receive(PUBLISHER, [&[0x80, 96][..], &[0; 1_500]].concat());
    let unknown = scene.packet(13, 0xEEEE);
    scene.receive(PUBLISHER, unknown);
    assert_eq!(scene.seen(), []);
    let expected = DropStats {
        srtp_replayed: 1,
        srtp_refused: 1,
        unknown_address: 1,
        rtp_unexpected: 1,
        rtp_too_long: 1,
        rtp_refused: 1,
        ..DropStats::default()
    };
    assert_eq!(scene.hub.dropped(), expected);
    let next = scene.packet(14, SOURCE);
    scene.receive(PUBLISHER, next);
    assert_eq!(scene.seen().len(), 1, "the stream goes on");
}

#[test]
fn a_flood_is_cut_off_before_it_is_decrypted() {
    let mut scene = Scene::new().with_publisher_and_viewer();
    for _ in 0..20_000 {
        scene.receive(PUBLISHER, vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    let dropped = scene.hub.dropped();
    assert_eq!((dropped.srtp_refused, dropped.rtp_flood), (1_000, 19_000));
    scene.now += Duration::from_secs(1);
    let packet = scene.packet(10, SOURCE);
    scene.receive(PUBLISHER, packet);
    assert_eq!(scene.hub.dropped(), dropped, "the next second is another");
}

#[test]
fn a_viewer_is_shown_audio_beside_its_video_and_does_without_where_there_is_none() {
    let mut scene = Scene::new();
    scene.connect(PUBLISHER, Purpose::Publisher(vec![(TRACK, track(Some(SOURCE)))]));
    let audio = ConsumerParameters { id: ConsumerId(3), ssrc: Ssrc(8), ..consumer() };
    scene.connect(
        VIEWER,
        Purpose::Viewer(vec![PlannedView { video: (TRACK, consumer()), audio: Some((ProducerId(51), audio)) }]),
    );
    assert_eq!(scene.hub.session_stats(scene.now, TransportId(VIEWER)).unwrap().consumers.len(), 1);
}

/// A second track of the publisher's.
const OTHER: ProducerId = ProducerId(51);

fn of_two() -> Scene {
    let mut scene = Scene::new();
    let tracks = vec![(TRACK, track(Some(SOURCE))), (OTHER, track(Some(SOURCE + 1)))];
    scene.connect(PUBLISHER, Purpose::Publisher(tracks));
    let second = ConsumerParameters { id: ConsumerId(3), ssrc: Ssrc(8), ..consumer() };
    let views = vec![
        PlannedView { video: (TRACK, consumer()), audio: None },
        PlannedView { video: (OTHER, second), audio: None },
    ];
    scene.connect(VIEWER, Purpose::Viewer(views));
    scene.wire.0.clear();
    scene
}

impl Scene {
    /// The sources of what the viewer is sent of a key frame of each track.
    fn sources_of_both(&mut self, sequence: u16) -> BTreeSet<u32> {
        self.wire.0.clear();
        for source in [SOURCE, SOURCE + 1] {
            let packet = self.packet(sequence, source);
            self.receive(PUBLISHER, packet);
        }
        let sent = self.wire.0.iter().filter(|(port, packet)| *port == VIEWER as u16 && packet[1] & 0x7F == 100);
        sent.map(|(_, packet)| u32::from_be_bytes(packet[8..12].try_into().unwrap())).collect()
    }

    fn end(&mut self, producer: ProducerId) {
        let key = ProducerKey { router: self.hub.home, producer };
        self.hub
            .with_router(self.now, &mut self.wire, |router, egress| router.close_producer(Instant::now(), key, egress))
            .unwrap();
    }

    fn has_viewer(&self) -> bool {
        self.hub.session_stats(self.now, TransportId(VIEWER)).is_some()
    }
}

#[test]
fn a_viewer_of_two_cameras_is_sent_both_and_told_which_is_which() {
    let mut scene = of_two();
    assert_eq!(scene.sources_of_both(1), BTreeSet::from([7, 8]));
    let stats = scene.hub.session_stats(scene.now, TransportId(VIEWER)).unwrap();
    let cameras: Vec<_> = stats.consumers.iter().map(|consumer| (consumer.producer, consumer.camera)).collect();
    assert_eq!(cameras, [(TRACK, Some(0)), (OTHER, Some(1))]);
}

#[test]
fn one_camera_of_a_session_is_paused_and_resumed_and_the_other_plays_on() {
    let mut scene = of_two();
    let id = TransportId(VIEWER);
    assert_eq!(scene.sources_of_both(1), BTreeSet::from([7, 8]));
    assert!(scene.hub.set_paused(scene.now, id, 0, true, &mut scene.wire));
    assert_eq!(scene.sources_of_both(2), BTreeSet::from([8]));
    assert!(scene.hub.set_paused(scene.now, id, 0, false, &mut scene.wire));
    assert_eq!(scene.sources_of_both(3), BTreeSet::from([7, 8]));
    assert!(!scene.hub.set_paused(scene.now, id, 2, true, &mut scene.wire), "it has two");
    assert!(!scene.hub.set_preferred_layers(scene.now, id, 2, None, &mut scene.wire));
}

#[test]
fn a_session_ends_with_the_last_of_its_cameras() {
    let mut scene = of_two();
    scene.end(TRACK);
    assert_eq!((scene.has_viewer(), scene.sources_of_both(1)), (true, BTreeSet::from([8])));
    assert!(!scene.hub.set_paused(scene.now, TransportId(VIEWER), 0, true, &mut scene.wire), "it has ended");
    let stats = scene.hub.session_stats(scene.now, TransportId(VIEWER)).unwrap();
    let cameras: Vec<_> = stats.consumers.iter().map(|consumer| consumer.camera).collect();
    assert_eq!(cameras, [Some(1)], "the others keep their places");
    scene.end(OTHER);
    assert!(!scene.has_viewer());
    let closed = |event: &HubEvent| matches!(event, HubEvent::Closed(TransportId(VIEWER), CloseCause::ProducerClosed));
    assert_eq!(scene.hub.poll_events().filter(closed).count(), 1);
}

#[test]
fn a_camera_that_went_before_the_first_check_is_done_without_unless_it_was_the_last() {
    let view = |producer| PlannedView { video: (producer, consumer()), audio: None };
    for (gone, there) in [(OTHER, true), (TRACK, false)] {
        let mut scene = Scene::new();
        if there {
            scene.connect(PUBLISHER, Purpose::Publisher(vec![(TRACK, track(Some(SOURCE)))]));
        }
        scene.connect(VIEWER, Purpose::Viewer(vec![view(gone), view(TRACK)]));
        assert_eq!(scene.has_viewer(), there);
    }
}
