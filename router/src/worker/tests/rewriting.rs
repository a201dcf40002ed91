//! I15: whatever is lost, late, left out, switched or paused, a consumer's numbers go on.

use lenscast_media::{Burst, BurstMeta, PassedExtensions, StageTimes};

use super::*;
use crate::vp8::Vp8Descriptor;
use crate::{Confirm, EncodingParameters, Open, ReceivedExtensions, StreamState};

const LAYERS: u8 = 3;
const MIRROR: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(7) };

#[derive(Debug, Clone)]
enum Step {
    /// A frame of each layer: packets, key frames by layer, and the fate of each packet.
    Frames {
        packets: usize,
        key_frames: u8,
        fates: Vec<Fate>,
    },
    Prefer(Layers),
    Pause,
    Resume,
    PauseProducer,
    ResumeProducer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    Lost,
    /// Comes this many frames later.
    Late(usize),
}

fn steps(lossy: bool) -> impl Strategy<Value = Vec<Step>> {
    let fate = if lossy {
        prop_oneof![12 => Just(Fate::Delivered), 1 => Just(Fate::Lost), 1 => (1_usize..4).prop_map(Fate::Late)].boxed()
    } else {
        Just(Fate::Delivered).boxed()
    };
    let key_frames = prop_oneof![3 => Just(0_u8), 1 => 0_u8..8];
    let frames = (1_usize..5, key_frames, prop::collection::vec(fate, 12))
        .prop_map(|(packets, key_frames, fates)| Step::Frames { packets, key_frames, fates });
    let prefer = (0..LAYERS, 0_u8..3).prop_map(|(spatial, temporal)| Step::Prefer(Layers { spatial, temporal }));
    let step = prop_oneof![
        20 => frames,
        2 => prefer,
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::PauseProducer),
        2 => Just(Step::ResumeProducer),
    ];
    prop::collection::vec(step, 1..150)
}

/// One layer's encoder.
struct Encoder {
    packet: u64,
    rtp_time: u32,
    picture_id: u16,
    base_layer_index: u8,
    frame: u64,
    /// Packets that were lost, or came late: maybe after a break, where they have no place any more.
    undelivered: BTreeSet<u64>,
}

/// What every packet says of itself behind its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    layer: u8,
    packet: u64,
    key_frame: bool,
    begins_frame: bool,
    temporal: u8,
    frame: u64,
}

impl Tag {
    fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0] = self.layer;
        bytes[1] = u8::from(self.key_frame);
        bytes[2] = u8::from(self.begins_frame);
        bytes[3] = self.temporal;
        bytes[4..12].copy_from_slice(&self.packet.to_be_bytes());
        bytes[12..].copy_from_slice(&self.frame.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        Self {
            layer: bytes[0],
            key_frame: bytes[1] == 1,
            begins_frame: bytes[2] == 1,
            temporal: bytes[3],
            packet: u64::from_be_bytes(bytes[4..12].try_into().unwrap()),
            frame: u64::from_be_bytes(bytes[12..20].try_into().unwrap()),
        }
    }
}

impl Encoder {
    fn new(layer: u8) -> Self {
        Self {
            packet: 1_000 * u64::from(layer),
            // All wrap soon.
            rtp_time: u32::MAX - 30_000 * (u32::from(layer) + 1),
            picture_id: 0x7FFF - 20 * (u16::from(layer) + 1),
            base_layer_index: 250 - layer,
            frame: 0,
            undelivered: BTreeSet::new(),
        }
    }

    /// The packets of the next frame, each a burst.
    fn frame(&mut self, layer: u8, packets: usize, key_frame: bool, at: Instant) -> Vec<Arc<Burst>> {
        // Three temporal layers: 0 2 1 2.
        let temporal = if key_frame { 0 } else { [0, 2, 1, 2][(self.frame % 4) as usize] };
        if key_frame {
            self.frame = 0;
        }
        self.frame += 1;
        self.rtp_time = self.rtp_time.wrapping_add(3_000);
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        self.base_layer_index = self.base_layer_index.wrapping_add(u8::from(temporal == 0));
        let bursts = (0..packets).map(|position| {
            let (begins_frame, ends_frame) = (position == 0, position + 1 == packets);
            let mut burst = Burst::new(BurstMeta {
                codec: Codec::Vp8.into(),
                key_frame,
                begins_frame,
                ends_frame,
                resolution: None,
                temporal_layer: temporal,
                layer_sync: temporal > 0,
                first_packet: self.packet + position as u64,
                rtp_time: RtpTime(self.rtp_time),
                times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
                extensions: PassedExtensions::default(),
            });
            let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
            let start = if begins_frame { 0x10 } else { 0 };
            let packet = self.packet + position as u64;
            let frame = u64::from(self.rtp_time);
            let tag = Tag { layer, packet, key_frame, begins_frame, temporal, frame };
            let sync = u8::from(temporal > 0) << 5;
            burst.push(&[&[0x80 | start, 0xE0, high, low, self.base_layer_index, temporal << 6 | sync], &tag.bytes()]);
            Arc::new(burst)
        });
        let bursts = bursts.collect();
        self.packet += packets as u64;
        bursts
    }
}

struct Bench {
    scene: Scene,
    encoders: Vec<Encoder>,
    late: Vec<(usize, u8, Arc<Burst>)>,
    version: u64,
    producer_paused: bool,
}

impl Bench {
    fn new() -> Self {
        let mut scene = Scene::new();
        let parameters = ProducerParameters {
            encodings: vec![EncodingParameters::default(); LAYERS.into()],
            payload_type: PayloadType::new(100),
            temporal_layers: 3,
            extensions: ReceivedExtensions::default(),
            ..ProducerParameters::local(Codec::Vp8.into(), 3, 3)
        };
        let open = Open {
            key: MIRROR,
            outlet: None,
            parameters,
            snapshot: StreamState { version: 0, paused: false, closed: false, sending: LayerSet::all(LAYERS) },
            upstream: Arc::clone(&scene.camera) as Arc<dyn Upstream>,
            created: Confirm::none(),
        };
        scene.worker.handle_inbound(scene.now, Inbound::Open(Box::new(open)), &mut scene.out);
        let slot = scene.worker.create_transport(HOME, TransportId(1), TransportKind::WebRtc).unwrap();
        scene.out.by_slot.insert(slot, TransportId(1));
        scene.worker.consume(scene.now, MIRROR.producer, parameters_of(1)).unwrap();
        scene.worker.connect_transport(scene.now, TransportId(1)).unwrap();
        let encoders = (0..LAYERS).map(Encoder::new).collect();
        Self { scene, encoders, late: Vec::new(), version: 0, producer_paused: false }
    }

    fn run(&mut self, step: Step) {
        let Self { scene, .. } = self;
        let (now, id) = (scene.now, ConsumerId(1));
        match step {
            Step::Frames { packets, key_frames, fates } => self.frames(packets, key_frames, &fates),
            Step::Prefer(layers) => scene.worker.set_preferred_layers(now, id, layers).unwrap(),
            Step::Pause => scene.worker.pause_consumer(now, id).unwrap(),
            Step::Resume => scene.worker.resume_consumer(now, id).unwrap(),
            Step::PauseProducer => self.set_producer_paused(true),
            Step::ResumeProducer => self.set_producer_paused(false),
        }
    }

    fn set_producer_paused(&mut self, paused: bool) {
        self.version += 1;
        self.producer_paused = paused;
        let state = StreamState { version: self.version, paused, closed: false, sending: LayerSet::all(LAYERS) };
        let message = Inbound::State { key: MIRROR, outlet: None, state };
        self.scene.worker.handle_inbound(self.scene.now, message, &mut self.scene.out);
    }

    fn frames(&mut self, packets: usize, key_frames: u8, fates: &[Fate]) {
        self.scene.now += Duration::from_micros(33_333);
        for (frames_left, layer, burst) in std::mem::take(&mut self.late) {
            if frames_left > 1 {
                self.late.push((frames_left - 1, layer, burst));
            } else {
                self.deliver(layer, burst);
            }
        }
        for layer in 0..LAYERS {
            let at = usize::from(layer);
            let bursts = self.encoders[at].frame(layer, packets, key_frames >> layer & 1 == 1, self.scene.now);
            for (position, burst) in bursts.into_iter().enumerate() {
                match fates[at * 4 + position] {
                    Fate::Delivered => self.deliver(layer, burst),
                    Fate::Lost => {
                        self.encoders[at].undelivered.insert(burst.meta().first_packet);
                    }
                    Fate::Late(frames) => {
                        self.encoders[at].undelivered.insert(burst.meta().first_packet);
                        self.late.push((frames, layer, burst));
                    }
                }
            }
        }
    }

    fn deliver(&mut self, layer: u8, burst: Arc<Burst>) {
        let sent = self.scene.out.rtp.len();
        let message = Inbound::Burst { key: MIRROR, outlet: None, layer, broken: false, burst };
        self.scene.worker.handle_inbound(self.scene.now, message, &mut self.scene.out);
        assert!(self.scene.out.rtp.len() == sent || !self.producer_paused, "I5: it is paused");
    }

    fn check(&self, lossy: bool) -> Result<(), TestCaseError> {
        let mut sent: Vec<_> = self.scene.sent_to(1).into_iter().zip(&self.scene.out.indices).collect();
        let in_order: Vec<u64> = sent.iter().map(|(_, index)| **index).collect();
        sent.sort_by_key(|(_, index)| **index);
        let doubled = sent.windows(2).any(|pair| pair[0].1 == pair[1].1);
        // Those only fill a gap.
        sent.retain(|(packet, _)| !packet.payload.is_empty());
        prop_assert!(!doubled, "an index goes out once: {in_order:?}");
        prop_assert!(lossy || in_order.is_sorted());
        let mut previous: Option<(Tag, u64, u32, Vp8Descriptor)> = None;
        for (packet, index) in sent {
            let descriptor = Vp8Descriptor::read(&packet.payload).unwrap();
            let tag = Tag::read(&packet.payload[6..]);
            let timestamp = packet.header.timestamp;
            let Some((before, before_index, before_timestamp, last)) =
                previous.replace((tag, *index, timestamp, descriptor))
            else {
                prop_assert!(tag.key_frame && tag.begins_frame, "I6: {tag:?}");
                continue;
            };
            let id = |descriptor: &Vp8Descriptor| descriptor.picture_id.unwrap().value;
            let pictures = id(&descriptor).wrapping_sub(id(&last)) & 0x7FFF;
            let base_layers =
                descriptor.base_layer_index.unwrap().value.wrapping_sub(last.base_layer_index.unwrap().value);
            let same_frame = (tag.layer, tag.frame) == (before.layer, before.frame);
            let ticks = timestamp.wrapping_sub(before_timestamp) as i32;
            prop_assert!(if same_frame { ticks == 0 } else { ticks > 0 }, "{before:?} {tag:?} {ticks}");
            // No more than the time that passed: 150 steps of a frame each at most, and a tick where clocks are joined.
            prop_assert!(ticks <= 150 * 3_001, "{before:?} {tag:?} {ticks}");
            let missing = index - before_index - 1;
            if tag.layer != before.layer {
                prop_assert!(tag.key_frame && tag.begins_frame, "{before:?} {tag:?}");
            } else {
                prop_assert!(tag.packet > before.packet);
                let lost = self.encoders[usize::from(tag.layer)].undelivered.range(before.packet + 1..tag.packet);
                prop_assert!(missing <= lost.count() as u64, "{before:?} {tag:?}: {missing} missing");
            }
            prop_assert!(missing == 0 || lossy);
            if same_frame {
                prop_assert_eq!((pictures, base_layers), (0, 0));
            } else if !lossy {
                prop_assert_eq!(pictures, 1, "{:?} {:?}", before, tag);
                prop_assert_eq!(base_layers, u8::from(tag.temporal == 0), "{:?} {:?}", before, tag);
                let decodable = tag.key_frame && tag.begins_frame || tag.layer == before.layer;
                prop_assert!(decodable, "{before:?} {tag:?}");
            } else {
                prop_assert!((1..1 << 14).contains(&pictures), "{before:?} {tag:?} {pictures}");
            }
        }
        Ok(())
    }
}

fn parameters_of(number: u64) -> ConsumerParameters {
    // Wraps within the test.
    ConsumerParameters { initial_sequence: 32_700, ..parameters(number) }
}

proptest! {
    #[test]
    fn numbers_go_on_without_a_gap_when_nothing_is_lost(steps in steps(false)) {
        let mut bench = Bench::new();
        steps.into_iter().for_each(|step| bench.run(step));
        bench.check(false)?;
    }

    #[test]
    fn only_what_is_lost_leaves_a_gap_and_what_comes_late_fills_it(steps in steps(true)) {
        let mut bench = Bench::new();
        steps.into_iter().for_each(|step| bench.run(step));
        bench.check(true)?;
    }
}

#[test]
fn what_comes_late_of_a_frame_that_was_left_out_fills_its_gap_with_nothing() {
    let mut bench = Bench::new();
    bench.run(Step::Prefer(Layers { spatial: 0, temporal: 0 }));
    // Of the temporal layers 0, 2, 1, 2 and 0: the second frame's first packet is lost at first, so that it could be of any.
    let all = vec![Fate::Delivered; 12];
    let one_late = [&[Fate::Late(2), Fate::Delivered, Fate::Delivered][..], &all].concat();
    for (key_frames, fates) in [(7, &all), (0, &one_late), (0, &all), (0, &all), (0, &all)] {
        bench.run(Step::Frames { packets: 3, key_frames, fates: fates.clone() });
    }
    let mut indices = bench.scene.out.indices.clone();
    indices.sort_unstable();
    assert!(indices.windows(2).all(|pair| pair[1] == pair[0] + 1), "{indices:?}");
    let sent = bench.scene.sent_to(1);
    let [filling] = sent.iter().filter(|packet| packet.payload.is_empty()).collect::<Vec<_>>()[..] else { panic!() };
    assert!(!filling.header.marker);
    let asked = filling.header.sequence_number;

    let mut compound = Compound::new();
    compound.push_nack(Ssrc(9), parameters_of(1).ssrc, [asked]);
    bench.scene.worker.handle_rtcp(bench.scene.now, TransportId(1), compound.as_bytes(), &mut bench.scene.out).unwrap();
    let again = bench.scene.sent_to(1).pop().unwrap().clone();
    assert_eq!(again.payload, asked.to_be_bytes()[..], "nor is its content sent when it is asked for");
}

#[test]
fn sequences_wrap_and_late_packets_find_their_places_across_the_wrap() {
    let mut bench = Bench::new();
    bench.run(Step::Frames { packets: 4, key_frames: 7, fates: vec![Fate::Delivered; 12] });
    for _ in 0..10_000 {
        bench.run(Step::Frames { packets: 4, key_frames: 0, fates: vec![Fate::Delivered; 12] });
        if bench.scene.out.rtp.len() % 2_000 < 4 {
            let fates = [Fate::Delivered, Fate::Late(1), Fate::Delivered, Fate::Delivered];
            bench.run(Step::Frames { packets: 4, key_frames: 0, fates: fates.repeat(3) });
        }
    }
    let stats = bench.scene.worker.producer_stats(MIRROR).unwrap();
    assert_eq!(stats.packets_missing, stats.packets_late);
    assert!(stats.packets_late > 10);
    bench.run(Step::Frames { packets: 4, key_frames: 0, fates: vec![Fate::Delivered; 12] });
    bench.check(true).unwrap();
    let indices: BTreeSet<_> = bench.scene.out.indices.iter().copied().collect();
    assert_eq!(indices.len() as u64, indices.last().unwrap() - indices.first().unwrap() + 1, "no gap is left");
    assert!(*indices.last().unwrap() > 1 << 16);
}
