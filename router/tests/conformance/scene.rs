//! Two workers with a router each, a camera on the first, and viewers; messages between them arrive when told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lenscast_media::{
    Burst, BurstMeta, Codec, LayerSet, MediaCodec, PassedExtensions, Resolution, RtpTime, Ssrc, StageTimes, WallClock,
};
use lenscast_router::rtcp::Compound;
use lenscast_router::{
    AttachParameters, Confirm, ConsumerId, ConsumerParameters, Egress, EncodingParameters, Event, ExtensionId,
    HeaderExtensions, Inbound, Layers, OutletId, OutletLink, PayloadType, Priority, ProducerId, ProducerKey,
    ProducerParameters, ReceivedExtensions, RouterId, RtpPackets, Source, TransportId, TransportKind, TransportSlot,
    Upstream, Worker,
};
use rtc_rtp::packet::Packet;
use rtc_shared::marshal::Unmarshal;

pub(crate) const HOME: RouterId = RouterId(1);
pub(crate) const AWAY: RouterId = RouterId(2);
pub(crate) const CAMERA: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(1) };
pub(crate) const MIRROR: ProducerKey = ProducerKey { router: AWAY, producer: ProducerId(1) };
pub(crate) const SOURCE: TransportId = TransportId(1);
pub(crate) const PUBLISHER: TransportId = TransportId(70);
pub(crate) const STREAM: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(70) };

/// A source that remembers what it was asked for.
#[derive(Default)]
pub(crate) struct Camera(Mutex<(LayerSet, Vec<u8>)>);

impl Camera {
    pub(crate) fn wanted(&self) -> LayerSet {
        self.0.lock().unwrap().0
    }

    pub(crate) fn key_frames(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().1)
    }
}

impl Upstream for Camera {
    fn set_wanted(&self, layers: LayerSet) {
        self.0.lock().unwrap().0 = layers;
    }

    fn request_key_frame(&self, layer: u8) {
        self.0.lock().unwrap().1.push(layer);
    }
}

pub(crate) struct Scene {
    pub(crate) workers: [Worker; 2],
    pub(crate) out: Out,
    pub(crate) camera: Arc<Camera>,
    pub(crate) now: Instant,
    nudges: Arc<Mutex<Vec<OutletId>>>,
    packets: BTreeMap<u8, u64>,
}

#[derive(Default)]
pub(crate) struct Out {
    running: usize,
    slots: BTreeMap<(usize, TransportSlot), TransportId>,
    pub(crate) rtp: Vec<(TransportId, Packet)>,
    pub(crate) rtcp: Vec<(TransportId, Vec<u8>)>,
    pub(crate) channel: VecDeque<Inbound>,
}

impl Egress for Out {
    fn send_rtp(&mut self, slot: TransportSlot, packets: &RtpPackets<'_>) {
        for position in 0..packets.len() {
            let mut bytes = Vec::new();
            packets.write(position, &mut bytes);
            let packet = Packet::unmarshal(&mut bytes.as_slice()).unwrap();
            self.rtp.push((self.slots[&(self.running, slot)], packet));
        }
    }

    fn send_rtcp(&mut self, slot: TransportSlot, compound: &[u8]) {
        if let Some(transport) = self.slots.get(&(self.running, slot)) {
            self.rtcp.push((*transport, compound.to_vec()));
        }
    }

    fn send_inbound(&mut self, _: OutletId, message: Inbound) -> bool {
        self.channel.push_back(message);
        true
    }
}

pub(crate) fn id(value: u8) -> Option<ExtensionId> {
    ExtensionId::new(value)
}

impl Scene {
    /// A camera of VP8 with so many layers.
    pub(crate) fn new(layers: usize, temporal_layers: u8) -> Self {
        let now = Instant::now();
        let wall = WallClock::new(now, Duration::from_secs(1_000));
        let mut workers = [Worker::new(wall), Worker::new(wall)];
        let camera = Arc::new(Camera::default());
        workers[0].create_router(HOME).unwrap();
        workers[1].create_router(AWAY).unwrap();
        workers[0].create_transport(HOME, SOURCE, TransportKind::Direct).unwrap();
        let parameters = ProducerParameters::local(Codec::Vp8.into(), layers, temporal_layers);
        let source = Source::Local(Arc::clone(&camera) as Arc<dyn Upstream>);
        workers[0].produce(now, SOURCE, CAMERA.producer, parameters, source).unwrap();
        Self { workers, out: Out::default(), camera, now, nudges: Arc::default(), packets: BTreeMap::new() }
    }

    /// A viewer on a worker, with a transport of its own: number 10 and consumer 10, say.
    pub(crate) fn viewer(&mut self, worker: usize, number: u64) -> ConsumerId {
        self.transport(worker, number);
        self.consumer(worker, number, number, HeaderExtensions::default())
    }

    pub(crate) fn transport(&mut self, worker: usize, number: u64) {
        let (router, transport) = ([HOME, AWAY][worker], TransportId(number));
        let slot = self.workers[worker].create_transport(router, transport, TransportKind::WebRtc).unwrap();
        self.out.slots.insert((worker, slot), transport);
        self.workers[worker].connect_transport(self.now, transport).unwrap();
    }

    pub(crate) fn consumer(
        &mut self,
        worker: usize,
        transport: u64,
        number: u64,
        extensions: HeaderExtensions,
    ) -> ConsumerId {
        self.consumer_of(CAMERA.producer, worker, transport, number, extensions)
    }

    pub(crate) fn consumer_of(
        &mut self,
        producer: ProducerId,
        worker: usize,
        transport: u64,
        number: u64,
        extensions: HeaderExtensions,
    ) -> ConsumerId {
        let parameters = ConsumerParameters {
            id: ConsumerId(number),
            transport: TransportId(transport),
            ssrc: Ssrc(number as u32),
            payload_type: PayloadType::new(96).unwrap(),
            rtx: None,
            extensions,
            cname: "lenscast".to_owned(),
            initial_sequence: 100,
            initial_rtx_sequence: 7,
            timestamp_offset: 0,
            preferred_layers: Layers::HIGHEST,
            priority: Priority::LOWEST,
            paused: false,
        };
        self.workers[worker].consume(self.now, producer, parameters).unwrap();
        ConsumerId(number)
    }

    pub(crate) fn attach(&mut self, number: u64) {
        let nudges = Arc::clone(&self.nudges);
        let link = OutletLink::new(OutletId(number), move |outlet| nudges.lock().unwrap().push(outlet));
        let parameters =
            AttachParameters { producer: CAMERA, destination: AWAY, link: Arc::new(link), created: Confirm::none() };
        self.workers[0].attach(self.now, parameters, &mut self.out).unwrap();
    }

    /// Everything that is on its way between the workers arrives.
    pub(crate) fn arrive(&mut self) {
        loop {
            let nudged: Vec<_> = std::mem::take(&mut *self.nudges.lock().unwrap());
            self.out.running = 0;
            for outlet in &nudged {
                self.workers[0].handle_outlet(self.now, *outlet, &mut self.out);
            }
            self.out.running = 1;
            let messages = std::mem::take(&mut self.out.channel);
            if nudged.is_empty() && messages.is_empty() {
                return;
            }
            for message in messages {
                self.workers[1].handle_inbound(self.now, message, &mut self.out);
            }
        }
    }

    /// A frame of one packet from the camera, 33 ms after the last.
    pub(crate) fn frame(&mut self, layer: u8, temporal: u8, key_frame: bool) {
        self.frame_with(layer, temporal, key_frame, PassedExtensions::default());
    }

    pub(crate) fn frame_with(&mut self, layer: u8, temporal: u8, key_frame: bool, extensions: PassedExtensions) {
        self.now += Duration::from_millis(33);
        let next = self.packets.entry(layer).or_default();
        let at = self.now;
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Resolution::new(64, 64),
            temporal_layer: temporal,
            layer_sync: temporal > 0,
            first_packet: *next,
            rtp_time: RtpTime((*next as u32 + 1) * 3_000),
            times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
            extensions,
        });
        let picture = 0x8000_u16 | (*next as u16 & 0x7FFF);
        burst.push(&[&[0x90, 0xE0], &picture.to_be_bytes(), &[*next as u8, temporal << 6 | 0x20], &[layer; 1_000]]);
        *next += 1;
        let message = Inbound::Burst { key: CAMERA, outlet: None, layer, broken: false, burst: Arc::new(burst) };
        self.out.running = 0;
        self.workers[0].handle_inbound(at, message, &mut self.out);
        self.arrive();
    }

    /// A publisher of one stream, of source 42 and payload type 100, on the first worker.
    pub(crate) fn publish(&mut self, codec: MediaCodec, temporal_layers: u8, extensions: ReceivedExtensions) {
        self.transport(0, PUBLISHER.0);
        let parameters = ProducerParameters {
            encodings: vec![EncodingParameters { ssrc: Some(Ssrc(42)), ..EncodingParameters::default() }],
            payload_type: PayloadType::new(100),
            extensions,
            ..ProducerParameters::local(codec, 1, temporal_layers)
        };
        self.workers[0].produce(self.now, PUBLISHER, STREAM.producer, parameters, Source::Rtp).unwrap();
    }

    /// A packet of the publisher, a frame by itself, 20 ms after the last.
    pub(crate) fn receive(&mut self, sequence: u16, extensions: &[(u8, &[u8])], payload: &[u8]) {
        self.now += Duration::from_millis(20);
        let mut elements: Vec<u8> = Vec::new();
        for (id, data) in extensions {
            elements.push(id << 4 | (data.len() - 1) as u8);
            elements.extend_from_slice(data);
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        let mut packet = vec![0x90, 0x80 | 100];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&(u32::from(sequence) * 1_800).to_be_bytes());
        packet.extend_from_slice(&42_u32.to_be_bytes());
        packet.extend_from_slice(&[0xBE, 0xDE, 0, (elements.len() / 4) as u8]);
        packet.extend_from_slice(&elements);
        packet.extend_from_slice(payload);
        self.out.running = 0;
        self.workers[0].handle_rtp(self.now, PUBLISHER, &packet).unwrap();
        self.workers[0].end_of_batch(self.now, &mut self.out);
    }

    /// RTCP from a transport's peer.
    pub(crate) fn rtcp(&mut self, transport: u64, compound: &Compound) {
        self.out.running = 0;
        self.workers[0].handle_rtcp(self.now, TransportId(transport), compound.as_bytes(), &mut self.out).unwrap();
    }

    /// Time passes, and what is due at its end is done.
    pub(crate) fn wait(&mut self, span: Duration) {
        self.now += span;
        self.out.running = 0;
        self.workers[0].handle_timeout(self.now, &mut self.out);
    }

    /// The layers of the packets that one viewer got since the last call, and that their sequence has no gap.
    pub(crate) fn layers_seen(&mut self, transport: u64) -> Vec<u8> {
        let packets = self.seen(transport);
        let sequences: Vec<_> = packets.iter().map(|packet| packet.header.sequence_number).collect();
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{sequences:?}");
        packets.iter().map(|packet| *packet.payload.last().unwrap()).collect()
    }

    pub(crate) fn seen(&mut self, transport: u64) -> Vec<Packet> {
        let all = std::mem::take(&mut self.out.rtp);
        let (mine, others) = all.into_iter().partition(|(to, _)| *to == TransportId(transport));
        self.out.rtp = others;
        mine.into_iter().map(|(_, packet)| packet).collect()
    }

    pub(crate) fn events(&mut self, worker: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.workers[worker].poll_event()).collect()
    }

    /// The same without what is told of layers and scores.
    pub(crate) fn endings(&mut self, worker: usize) -> Vec<Event> {
        let events = self.events(worker);
        events
            .into_iter()
            .filter(|event| !matches!(event, Event::LayersChanged { .. } | Event::ScoreChanged { .. }))
            .collect()
    }
}
