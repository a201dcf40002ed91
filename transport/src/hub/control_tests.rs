//! A camera's frames over a narrow path to a viewer who says which packets have come, in virtual time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use lenscast_media::{Bitrate, Burst, BurstMeta, Codec, LayerSet, PassedExtensions, RtpTime, Ssrc, StageTimes};
use lenscast_router::receive::TransportFeedback;
use lenscast_router::rtcp::Compound;
use lenscast_router::{
    ConsumerId, ConsumerParameters, ExtensionId, HeaderExtensions, Inbound, Layers, PayloadType, Priority,
    RtxParameters, Upstream,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::*;
use crate::ice::tests::nomination;
use crate::leg::PathFeedback;
use crate::session::{Security, Timeouts};
use crate::{LegPlan, PipeKeys, ProtectionProfile, SrtpReceiver, SrtpSender, master_keys};

const CAMERA: ProducerKey = ProducerKey { router: Hub::default_router(0), producer: ProducerId(1) };
const VIEWER: TransportId = TransportId(2);
const VIDEO: ConsumerId = ConsumerId(3);
const SOURCE: Ssrc = Ssrc(7);
const REPAIR: Ssrc = Ssrc(8);
const STEP: Duration = Duration::from_millis(1);
const DELAY: Duration = Duration::from_millis(20);
/// What the link's queue holds.
const QUEUE: Duration = Duration::from_millis(300);
const FRAME_INTERVAL: Duration = Duration::from_millis(40);

/// Counts the key frames that it is asked for.
#[derive(Default)]
struct Camera(AtomicUsize);

impl Upstream for Camera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The link: when the last packet that it has taken is through.
struct Link {
    capacity: Bitrate,
    delay: Duration,
    busy_until: Instant,
    clock: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    dropped: u64,
}

impl Wire for Link {
    fn now(&self, entered: Instant) -> Instant {
        entered
    }

    fn send(&mut self, _: Path, datagram: &[u8]) {
        let size = datagram.len() as u64 + 28;
        let begins = self.busy_until.max(self.clock);
        if begins - self.clock > QUEUE {
            self.dropped += 1;
            return;
        }
        self.busy_until = begins + Duration::from_nanos(size * 8 * 1_000_000_000 / self.capacity.as_bps());
        self.under_way.push_back((self.busy_until + self.delay, datagram.to_vec()));
    }

    fn send_packets(&mut self, path: Path, buffer: &[u8], ends: &[usize]) {
        let mut start = 0;
        for &end in ends {
            self.send(path, &buffer[start..end]);
            start = end;
        }
    }
}

/// A packet as the viewer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    at: Instant,
    ssrc: Ssrc,
    /// The transport-wide number.
    number: u16,
    has_padding_bit: bool,
    payload: usize,
}

struct Scene {
    hub: Hub,
    link: Link,
    camera: Arc<Camera>,
    board: Arc<Board>,
    changes: Arc<watch::Sender<u64>>,
    credentials: IceCredentials,
    /// Where the viewer is.
    path: Path,
    viewer: (SrtpSender, SrtpReceiver),
    feedback: TransportFeedback,
    /// The viewer's RTCP on its way.
    answers: VecDeque<(Instant, Vec<u8>)>,
    answers_get_through: bool,
    now: Instant,
    start: Instant,
    next_frame: Instant,
    frames: u64,
    packets: u64,
    /// What the camera encodes for; `None` for what the leg's report says.
    rate: Option<Bitrate>,
    seen: Vec<Seen>,
}

fn path() -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, 1], 2)), local: None }
}

impl Scene {
    fn new(capacity: Bitrate, feedback: Option<PathFeedback>) -> Self {
        let now = Instant::now();
        let crypto = rtc_crypto::default_provider().unwrap();
        let directory = Arc::new(Directory::new());
        let certificate = Certificate::generate(&*crypto).unwrap();
        let wall = WallClock::new(now, Duration::from_secs(1));
        let (camera, changes) = (Arc::new(Camera::default()), Arc::new(watch::Sender::new(0)));
        let board = Arc::new(Board::new(Arc::clone(&changes)));
        let shared = Arc::clone(&directory);
        let mut hub = Hub::new(0, wall, shared, certificate, crypto, Vec::new(), Arc::clone(&board));
        hub.produce_for_test(now, CAMERA.producer, Arc::<Camera>::clone(&camera));
        let credentials = IceCredentials::random(&mut StdRng::seed_from_u64(1));
        let keys = PipeKeys { origin: [1; 28], edge: [2; 28] };
        let viewer = master_keys(ProtectionProfile::AeadAes128Gcm, &keys.edge, &keys.origin).unwrap();
        let for_ever = Duration::from_secs(1 << 20);
        let setup = SessionSetup {
            id: VIEWER,
            credentials: credentials.clone(),
            restart: None,
            security: Security::Keys(keys),
            purpose: Purpose::Viewer(vec![PlannedView { video: (CAMERA.producer, consumer()), audio: None }]),
            feedback,
            created: now,
            timeouts: Timeouts { connect: for_ever, consent: for_ever },
        };
        assert!(directory.announce(setup, 10));
        let mut link =
            Link { capacity, delay: DELAY, busy_until: now, clock: now, under_way: VecDeque::new(), dropped: 0 };
        hub.handle_datagram(now, path(), &mut nomination(&credentials), &mut link);
        link.under_way.clear();
        Self {
            hub,
            link,
            camera,
            board,
            changes,
            credentials,
            path: path(),
            viewer,
            feedback: TransportFeedback::new(Ssrc(1), now),
            answers: VecDeque::new(),
            answers_get_through: true,
            now,
            start: now,
            next_frame: now,
            frames: 0,
            packets: 0,
            rate: None,
            seen: Vec::new(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            self.link.clock = self.now;
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        while self.link.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (at, datagram) = self.link.under_way.pop_front().unwrap();
            self.receive(at, datagram);
        }
        if self.feedback.poll_timeout().is_some_and(|due| due <= now) {
            let mut compound = Compound::new();
            compound.push_receiver_report(Ssrc(1));
            self.feedback.write_due(now, &mut compound);
            let mut packet = compound.as_bytes().to_vec();
            self.viewer.0.seal_rtcp(&mut packet);
            if self.answers_get_through {
                self.answers.push_back((now + DELAY, packet));
            }
        }
        while self.answers.front().is_some_and(|(at, _)| *at <= now) {
            let (_, mut packet) = self.answers.pop_front().unwrap();
            self.hub.handle_datagram(now, self.path, &mut packet, &mut self.link);
        }
        if self.next_frame <= now {
            self.next_frame += FRAME_INTERVAL;
            let target = self.report().map_or(Bitrate::from_kbps(1_000), |report| report.estimate.target);
            // A tenth is for headers and tags.
            let bytes = self.rate.unwrap_or(target).bytes_in(FRAME_INTERVAL) as usize * 9 / 10;
            let packets = bytes.div_ceil(1_000).max(1);
            self.frame(packets, (bytes / packets).max(20));
        }
        if self.hub.poll_timeout().is_some_and(|due| due <= now) {
            self.hub.handle_timeout(now, &mut self.link);
        }
    }

    /// A frame of so many packets with payloads of this size.
    fn frame(&mut self, packets: usize, size: usize) {
        let key_frame = self.camera.0.swap(0, Ordering::SeqCst) > 0;
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: None,
            temporal_layer: 0,
            layer_sync: false,
            first_packet: self.packets,
            rtp_time: RtpTime(self.frames as u32 * 3_600),
            times: StageTimes { captured: self.now, ready: self.now, taken: self.now, encoded: self.now },
            extensions: PassedExtensions::default(),
        });
        for _ in 0..packets {
            burst.push(&[&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 64, 0, 64, 0], &vec![0; size - 11]]);
        }
        self.packets += packets as u64;
        self.frames += 1;
        let message = Inbound::Burst { key: CAMERA, outlet: None, layer: 0, broken: false, burst: Arc::new(burst) };
        let incoming = Incoming { from: 0, message, life: None };
        let now = self.now;
        self.hub.handle_incoming(now, incoming, &mut self.link, || now);
    }

    fn receive(&mut self, at: Instant, mut datagram: Vec<u8>) {
        if !matches!(protocol_of(&datagram), Protocol::Rtp) {
            return;
        }
        let packet = self.viewer.1.open_rtp(&mut datagram).expect("it is authentic, and no replay");
        let ssrc = Ssrc(u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]));
        let mut number = None;
        let mut payload = 12;
        if packet[0] & 0x10 != 0 {
            let end = 16 + 4 * usize::from(u16::from_be_bytes([packet[14], packet[15]]));
            let mut at = 16;
            while at < end {
                let (id, len) = (packet[at] >> 4, usize::from(packet[at] & 15) + 1);
                match id {
                    0 => at += 1,
                    id => {
                        if id == 5 {
                            number = Some(u16::from_be_bytes([packet[at + 1], packet[at + 2]]));
                        }
                        at += 1 + len;
                    }
                }
            }
            payload = end;
        }
        let has_padding_bit = packet[0] & 0x20 != 0;
        if has_padding_bit {
            assert_eq!(usize::from(*packet.last().unwrap()), packet.len() - payload, "nothing but padding");
        }
        let number = number.unwrap_or(0);
        self.seen.push(Seen { at, ssrc, number, has_padding_bit, payload: packet.len() - payload });
        self.feedback.handle_packet(at, ssrc, number);
    }

    fn report(&self) -> Option<Arc<crate::LegReport>> {
        self.board.report_of(VIEWER)
    }

    fn target(&self) -> u64 {
        self.report().expect("a report").estimate.target.as_kbps()
    }

    fn stats(&self) -> crate::LegStats {
        self.hub.session_stats(self.now, VIEWER).unwrap().leg_stats.unwrap()
    }

    fn plan(&mut self, limit: Bitrate, layers: Option<PreferredLayers>) {
        self.plan_wanted(limit, Bitrate::from_kbps(8_000), layers);
    }

    fn plan_wanted(&mut self, limit: Bitrate, wanted: Bitrate, layers: Option<PreferredLayers>) {
        let plan = LegPlan { id: VIEWER, limit, wanted, media: vec![(VIDEO, layers)] };
        let pending = Pending { plans: [(VIEWER, plan)].into(), ..Pending::default() };
        self.hub.handle_nudges(self.now, pending, &mut self.link);
    }
}

fn consumer() -> ConsumerParameters {
    let payload_type = |value| PayloadType::new(value).unwrap();
    ConsumerParameters {
        id: VIDEO,
        transport: VIEWER,
        ssrc: SOURCE,
        payload_type: payload_type(96),
        rtx: Some(RtxParameters { ssrc: REPAIR, payload_type: payload_type(97) }),
        extensions: HeaderExtensions {
            transport_sequence: ExtensionId::new(5),
            absolute_send_time: ExtensionId::new(6),
            ..HeaderExtensions::default()
        },
        cname: "cname".to_owned(),
        initial_sequence: 65_000,
        initial_rtx_sequence: 1_000,
        timestamp_offset: 0,
        preferred_layers: Layers::HIGHEST,
        priority: Priority::LOWEST,
        paused: false,
    }
}

const HIGHEST: Option<PreferredLayers> = Some(PreferredLayers { spatial: 255, temporal: None });

#[test]
fn over_a_narrow_path_the_estimate_falls_to_it_and_every_packet_is_counted_once() {
    let mut scene = Scene::new(Bitrate::from_kbps(500), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    let report = scene.report().unwrap();
    assert!((250..=550).contains(&scene.target()), "{report:?}");
    assert!(report.is_confirmed && report.estimate.round_trip.is_some());
    assert!(report.sending <= Bitrate::from_kbps(700) && report.sending >= Bitrate::from_kbps(150), "{report:?}");
    scene.seen.clear();
    scene.link.dropped = 0;
    scene.run(Duration::from_secs(10));
    assert_eq!(scene.link.dropped, 0);
    let numbers: Vec<u16> = scene.seen.iter().map(|seen| seen.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "one after the other, as they left");
    let (stats, dropped) = (scene.stats(), scene.hub.dropped());
    assert_eq!((stats.feedback_malformed, stats.feedback_refused, stats.overflows), (0, 0, 0));
    assert_eq!(dropped, DropStats::default());
}

#[test]
fn a_wide_path_is_found_by_probes_that_begin_with_the_first_frame() {
    let mut scene = Scene::new(Bitrate::from_kbps(20_000), Some(PathFeedback::TransportWide));
    scene.rate = Some(Bitrate::from_kbps(300));
    scene.next_frame += Duration::from_secs(1);
    scene.run(Duration::from_millis(900));
    assert!(scene.seen.is_empty(), "nothing is measured before there is something to see");
    assert!(!scene.report().unwrap().is_confirmed);
    scene.run(Duration::from_secs(3));
    assert_eq!(scene.seen[0].ssrc, SOURCE);
    let padding = scene.seen.iter().filter(|seen| seen.ssrc == REPAIR);
    let (empty, again): (Vec<_>, Vec<_>) = padding.partition(|seen| seen.has_padding_bit);
    assert!(!again.is_empty(), "packets again");
    assert!(empty.iter().all(|seen| seen.payload <= 224));
    assert!(scene.stats().probes >= 2, "{:?}", scene.stats());
    assert!(scene.target() > 2_000, "{}", scene.target());
}

#[test]
fn what_does_not_fit_at_once_leaves_at_the_paths_pace() {
    let mut scene = Scene::new(Bitrate::from_kbps(100_000), Some(PathFeedback::TransportWide));
    scene.rate = Some(Bitrate::from_kbps(100));
    scene.run(Duration::from_millis(20));
    scene.next_frame += Duration::from_secs(100);
    scene.run(Duration::from_millis(100));
    scene.seen.clear();
    scene.frame(200, 1_000);
    assert!(scene.stats().queued_packets > 100);
    scene.run(Duration::from_secs(2));
    let media: Vec<_> = scene.seen.iter().filter(|seen| seen.ssrc == SOURCE).collect();
    assert_eq!(media.len(), 200);
    let taken = media[199].at - media[0].at;
    assert!((50..=700).contains(&taken.as_millis()), "{taken:?}, which the link alone does in 17 ms");
    assert_eq!(scene.stats().queued_packets, 0);
}

#[test]
fn a_pacer_without_room_drops_counts_and_goes_on_with_a_key_frame() {
    let mut scene = Scene::new(Bitrate::from_kbps(100_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_millis(100));
    scene.next_frame += Duration::from_secs(100);
    scene.link.under_way.clear();
    scene.frame(20_000, 100);
    assert_eq!(scene.camera.0.load(Ordering::SeqCst), 1, "a key frame");
    let stats = scene.stats();
    assert_eq!((stats.overflows, stats.queued_packets), (1, 0));
    let left = scene.link.under_way.iter().filter(|(_, datagram)| datagram[8..12] == SOURCE.0.to_be_bytes()).count();
    assert_eq!(stats.packets_dropped + left as u64, 20_000, "{stats:?}");
    scene.camera.0.store(0, Ordering::SeqCst);
    scene.frame(1, 100);
    assert_eq!(scene.stats().queued_packets, 0, "nothing goes out before it");
    scene.run(Duration::from_millis(500));
    scene.camera.0.store(1, Ordering::SeqCst);
    scene.seen.clear();
    scene.frame(3, 100);
    scene.run(Duration::from_secs(1));
    assert_eq!(scene.seen.iter().filter(|seen| seen.ssrc == SOURCE).count(), 3);
}

#[test]
fn after_a_steep_fall_what_waits_for_too_long_gives_way_to_a_key_frame_once() {
    let mut scene = Scene::new(Bitrate::from_kbps(4_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    assert!(scene.target() > 2_500, "{}", scene.target());
    assert_eq!(scene.stats().overflows, 0);
    // The encoder goes on as before.
    (scene.link.capacity, scene.rate) = (Bitrate::from_kbps(400), Some(Bitrate::from_kbps(3_000)));
    let fallen = scene.now;
    while scene.now < fallen + Duration::from_secs(3) && scene.stats().overflows == 0 {
        scene.run(STEP);
    }
    assert_eq!(scene.camera.0.load(Ordering::SeqCst), 1, "a key frame is asked for");
    let stats = scene.stats();
    assert!((stats.overflows, stats.queued_packets) == (1, 0) && stats.packets_dropped > 30, "{stats:?}");
    // From here on it follows; what is still on its way is of before.
    scene.rate = None;
    let (fell, next) = (scene.now, scene.packets);
    scene.run(Duration::from_secs(2));
    assert_eq!(scene.stats().overflows, 1);
    let came: Vec<&Seen> =
        scene.seen.iter().filter(|seen| seen.ssrc == SOURCE && seen.at > fell + QUEUE + DELAY).collect();
    let sent = (scene.packets - next) as usize;
    assert!(came.len() > 20 && came.len() + 40 > sent, "{} of {sent} came", came.len());
    // Where the camera cannot make less, it is not tried again and again: each 3 s.
    scene.rate = Some(Bitrate::from_kbps(3_000));
    scene.run(Duration::from_secs(12));
    assert!((3..=5).contains(&scene.stats().overflows), "{:?}", scene.stats());
}

#[test]
fn a_key_frame_is_sent_whole_however_long_it_takes() {
    let mut scene = Scene::new(Bitrate::from_kbps(400), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    let before = scene.stats();
    scene.camera.0.store(1, Ordering::SeqCst);
    scene.frame(80, 1_000);
    scene.run(Duration::from_millis(200));
    let waiting = scene.stats().queued_packets;
    assert!(waiting > 40, "{waiting} packets wait");
    scene.run(Duration::from_secs(3));
    assert_eq!(scene.stats().packets_dropped, before.packets_dropped, "neither it nor what follows it is dropped");
}

#[test]
fn on_another_path_the_estimate_begins_anew_and_numbers_go_on() {
    let mut scene = Scene::new(Bitrate::from_kbps(3_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    let (before, changes) = (scene.target(), *scene.changes.borrow());
    let first = scene.seen.len();
    assert!(before > 1_500 && scene.report().unwrap().is_confirmed, "{before}");
    // A longer way: by what is known of the old one, there would be a queue of 100 ms.
    scene.path.remote.set_port(3);
    (scene.link.delay, scene.link.capacity) = (DELAY + Duration::from_millis(100), Bitrate::from_kbps(2_000));
    let mut check = nomination(&scene.credentials);
    scene.hub.handle_datagram(scene.now, scene.path, &mut check, &mut scene.link);
    let report = scene.report().unwrap();
    assert!(!report.is_confirmed && *scene.changes.borrow() > changes);
    assert_eq!(scene.target(), (before / 2).min(1_000));
    scene.plan(Bitrate::from_kbps(20_000), HIGHEST);
    assert_eq!(scene.target(), (before / 2).min(1_000), "a plan does not have it begin higher");
    let mut check = nomination(&scene.credentials);
    scene.run(Duration::from_millis(1_500));
    let report = scene.report().unwrap();
    assert!(report.estimate.queue_delay < Duration::from_millis(60), "{report:?}");
    let probes = scene.stats().probes;
    scene.hub.handle_datagram(scene.now, scene.path, &mut check, &mut scene.link);
    assert_eq!(scene.stats().probes, probes, "the same path once more is no other one");
    scene.run(Duration::from_secs(8));
    let report = scene.report().unwrap();
    assert!(report.is_confirmed && (1_200..=2_200).contains(&scene.target()), "{report:?}");
    let numbers: Vec<u16> = scene.seen[first - 1..].iter().map(|seen| seen.number).collect();
    let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count() as u64;
    assert!(gaps <= scene.link.dropped, "{gaps} gaps, {} dropped", scene.link.dropped);
}

#[test]
fn nothing_more_of_a_broken_stream_goes_out_before_the_router_has_heard_of_it() {
    let mut scene = Scene::new(Bitrate::from_kbps(100_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_millis(100));
    scene.next_frame += Duration::from_secs(100);
    scene.run(Duration::from_millis(500));
    scene.seen.clear();
    scene.hub.legs.broken.push((VIEWER, SOURCE));
    scene.frame(3, 100);
    assert_eq!(scene.stats().packets_dropped, 3);
    assert!(scene.hub.legs.broken.is_empty(), "now it has");
    assert_eq!(scene.camera.0.load(Ordering::SeqCst), 1, "a key frame");
    scene.frame(3, 100);
    scene.run(Duration::from_millis(500));
    assert_eq!(scene.seen.iter().filter(|seen| seen.ssrc == SOURCE).count(), 3);
}

#[test]
fn who_falls_silent_is_sent_less_and_less_and_more_again_when_heard() {
    let mut scene = Scene::new(Bitrate::from_kbps(3_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    let before = scene.target();
    assert!(before > 1_500, "{before}");
    scene.answers_get_through = false;
    scene.run(Duration::from_secs(15));
    let silent = scene.target();
    assert!(silent < before / 4, "{silent} of {before}");
    scene.run(Duration::from_secs(60));
    assert!(scene.target() >= 30);
    scene.answers_get_through = true;
    scene.run(Duration::from_secs(20));
    assert!(scene.target() > before / 2, "{} of {before}", scene.target());
}

#[test]
fn who_falls_silent_has_no_say_before_its_estimate_falls() {
    let mut scene = Scene::new(Bitrate::from_kbps(3_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(10));
    scene.answers_get_through = false;
    scene.run(Duration::from_secs(2));
    let before = scene.target();
    assert!(scene.report().unwrap().is_confirmed);
    while scene.report().unwrap().is_confirmed {
        assert!(scene.target() * 10 > before * 9, "{} of {before}", scene.target());
        let changes = *scene.changes.borrow();
        scene.run(STEP);
        assert!(scene.report().unwrap().is_confirmed || *scene.changes.borrow() > changes, "it is told of");
    }
    scene.run(Duration::from_secs(5));
    assert!(!scene.report().unwrap().is_confirmed);
    scene.answers_get_through = true;
    scene.run(Duration::from_millis(500));
    assert!(scene.report().unwrap().is_confirmed);
    scene.next_frame += Duration::from_secs(3_600);
    scene.run(Duration::from_secs(10));
    assert!(scene.report().unwrap().is_confirmed, "who is sent nothing has nothing to answer");
}

#[test]
fn a_leg_gets_no_more_than_its_plan_says_and_nothing_while_it_is_held_up() {
    let mut scene = Scene::new(Bitrate::from_kbps(20_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_secs(3));
    assert!(scene.target() > 1_000);
    scene.plan(Bitrate::from_kbps(400), HIGHEST);
    assert_eq!(scene.target(), 400);
    scene.run(Duration::from_secs(3));
    assert!(scene.target() <= 400);
    assert_eq!(scene.report().unwrap().media[0].layer, Some(0));
    scene.plan(Bitrate::from_kbps(400), None);
    scene.run(Duration::from_millis(500));
    assert_eq!(scene.report().unwrap().media[0].layer, None);
    scene.seen.clear();
    scene.run(Duration::from_millis(500));
    assert!(scene.seen.iter().all(|seen| seen.ssrc == REPAIR));
    scene.plan(Bitrate::from_kbps(20_000), HIGHEST);
    scene.run(Duration::from_secs(5));
    assert_eq!(scene.report().unwrap().media[0].layer, Some(0));
    assert!(scene.target() > 1_000, "{}", scene.target());
}

#[test]
fn a_limit_that_trembles_is_no_reason_to_probe() {
    let mut scene = Scene::new(Bitrate::from_kbps(20_000), Some(PathFeedback::TransportWide));
    scene.rate = Some(Bitrate::from_kbps(300));
    scene.run(Duration::from_secs(3));
    let before = scene.stats().probes;
    for step in 0..300 {
        scene.plan(Bitrate::from_kbps(if step % 2 == 0 { 1_530 } else { 1_500 }), HIGHEST);
        scene.run(Duration::from_millis(50));
    }
    let probes = scene.stats().probes - before;
    assert!(probes <= 6, "{probes} in 15 s");
}

#[test]
fn a_part_of_the_uplink_confirms_nothing_but_all_that_is_wanted_does() {
    let limit = Bitrate::from_kbps(400);
    let confirmed = |wanted| {
        let mut scene = Scene::new(Bitrate::from_kbps(20_000), Some(PathFeedback::TransportWide));
        scene.run(Duration::from_millis(500));
        scene.plan_wanted(limit, wanted, HIGHEST);
        scene.run(Duration::from_millis(500));
        assert_eq!(scene.target(), 400);
        let before = scene.report().unwrap().is_confirmed;
        scene.run(Duration::from_secs(2));
        (before, scene.report().unwrap().is_confirmed)
    };
    assert_eq!(confirmed(Bitrate::from_kbps(8_000)), (false, true));
    assert_eq!(confirmed(limit), (true, true));
}

#[test]
fn a_viewer_that_tells_nothing_has_no_report_and_waits_for_nothing() {
    let mut scene = Scene::new(Bitrate::from_kbps(100_000), None);
    scene.run(Duration::from_millis(20));
    scene.next_frame += Duration::from_secs(1);
    scene.run(Duration::from_millis(100));
    scene.seen.clear();
    scene.frame(200, 1_000);
    scene.run(Duration::from_millis(50));
    assert_eq!(scene.seen.len(), 200);
    assert!(scene.report().is_none() && scene.hub.session_stats(scene.now, VIEWER).unwrap().leg_stats.is_none());
}

#[test]
fn a_report_ends_with_its_session() {
    let mut scene = Scene::new(Bitrate::from_kbps(1_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_millis(100));
    assert!(scene.report().is_some());
    scene.hub.close_session(scene.now, VIEWER, CloseCause::Requested, &mut scene.link);
    assert!(scene.report().is_none());
    assert_eq!(scene.hub.legs.attention.first(), None);
    scene.run(Duration::from_secs(1));
    assert!(scene.start < scene.now);
}

#[test]
fn nonsense_about_packets_is_counted_and_does_no_harm() {
    let mut scene = Scene::new(Bitrate::from_kbps(1_000), Some(PathFeedback::TransportWide));
    scene.run(Duration::from_millis(500));
    let say = |scene: &mut Scene, said: &[u8]| {
        let mut packet = vec![0x8F, 205, 0, (said.len() / 4 + 2) as u8, 0, 0, 0, 1, 0, 0, 0, 7];
        packet.extend_from_slice(said);
        scene.viewer.0.seal_rtcp(&mut packet);
        scene.hub.handle_datagram(scene.now, path(), &mut packet, &mut scene.link);
    };
    say(&mut scene, &[0; 8]);
    say(&mut scene, &[0, 0, 0, 9]);
    assert_eq!(scene.stats().feedback_malformed, 2);
    // Nobody has sent 65,535 packets: they are said to be missing, again and again.
    let mut everything = vec![0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
    everything.extend([[0x1F, 0xFF]; 9].concat());
    everything.extend([0; 2]);
    for _ in 0..10 {
        say(&mut scene, &everything);
    }
    assert!(scene.stats().feedback_refused >= 8, "{:?}", scene.stats());
    scene.run(Duration::from_secs(5));
    assert!(scene.target() > 100);
}
