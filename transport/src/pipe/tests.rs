//! Two servers, and a pipe between them over loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lenscast_media::{
    Burst, BurstMeta, Codec, LayerSet, MediaCodec, PassedExtensions, RtpTime, Ssrc, StageHistograms, StageTimes,
    WallClock,
};
use lenscast_router::{
    ConsumerId, ConsumerParameters, HeaderExtensions, Layers, PayloadType, Priority, ProducerId, ProducerParameters,
    TransportId, Upstream,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use crate::object::{DirectPackets, DirectReceiver, Transport};
use crate::{
    BurstSender, CloseCause, ConnectPipeError, CreatePipeError, SessionEvent, SessionState, Timeouts, TransportConfig,
    TransportServer,
};

const CAMERA: ProducerId = ProducerId(7_000);
const CODEC: MediaCodec = MediaCodec::Video(Codec::Vp8);
const LIMIT: Duration = Duration::from_secs(20);

fn server(seed: u64, workers: usize) -> (TransportServer, mpsc::UnboundedReceiver<SessionEvent>) {
    let config = TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        public_addresses: Vec::new(),
        workers,
        max_sessions: 4,
        timeouts: Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) },
    };
    let wall = WallClock::new(Instant::now(), Duration::from_secs(1_000));
    TransportServer::start(config, wall, StdRng::seed_from_u64(seed)).unwrap()
}

#[derive(Default)]
struct Camera {
    wanted: AtomicU8,
    key_frames: AtomicUsize,
}

impl Upstream for Camera {
    fn set_wanted(&self, layers: LayerSet) {
        self.wanted.store(layers.bits(), Ordering::SeqCst);
    }

    fn request_key_frame(&self, _: u8) {
        self.key_frames.fetch_add(1, Ordering::SeqCst);
    }
}

/// A camera whose frames come when they are asked for, each a key frame of two packets.
struct Source {
    camera: Arc<Camera>,
    sender: BurstSender,
    packets: u64,
}

impl Source {
    async fn add(server: &TransportServer) -> Self {
        let camera = Arc::new(Camera::default());
        let stages = Arc::new(StageHistograms::new());
        let parameters = ProducerParameters::local(CODEC, 1, 1);
        let sender = server.add_producer(CAMERA, parameters, Arc::<Camera>::clone(&camera), stages).await.unwrap();
        Self { camera, sender, packets: 0 }
    }

    fn send_frame(&mut self) {
        let now = Instant::now();
        let mut burst = Burst::new(BurstMeta {
            codec: CODEC,
            key_frame: true,
            begins_frame: true,
            ends_frame: true,
            resolution: None,
            temporal_layer: 0,
            layer_sync: false,
            first_packet: self.packets,
            rtp_time: RtpTime(self.packets as u32 * 1_500),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        });
        // RFC 7741 §4.2 with S set, then RFC 6386 §9.1: a key frame of 64×64.
        burst.push(&[&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 64, 0, 64, 0], &[7; 500]]);
        burst.push(&[&[0x00], &[8; 400]]);
        self.packets += 2;
        assert!(self.sender.send(0, &Arc::new(burst)));
    }
}

/// Sees a producer of a server's first worker as a viewer does.
struct Watcher {
    _transport: Transport,
    _consumer: crate::object::Consumer,
    packets: DirectReceiver,
}

impl Watcher {
    async fn watch(server: &TransportServer, producer: ProducerId, worker: usize) -> Self {
        let worker = &server.workers()[worker];
        let id = TransportId(server.new_id());
        let (transport, packets) = Transport::create_direct(worker, worker.default_router(), id, 64).await.unwrap();
        let parameters = ConsumerParameters {
            id: ConsumerId(server.new_id()),
            transport: id,
            ssrc: Ssrc(1),
            payload_type: PayloadType::new(100).unwrap(),
            rtx: None,
            extensions: HeaderExtensions::default(),
            cname: "cname".to_owned(),
            initial_sequence: 0,
            initial_rtx_sequence: 0,
            timestamp_offset: 0,
            preferred_layers: Layers::HIGHEST,
            priority: Priority::LOWEST,
            paused: false,
        };
        let consumer = transport.consume(producer, parameters).await.unwrap();
        Self { _transport: transport, _consumer: consumer, packets }
    }

    /// The sizes of the next frame's packets, while `source` sends.
    async fn next_frame(&mut self, source: &mut Source) -> Vec<usize> {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let mut sizes = Vec::new();
        let receive = async {
            loop {
                tokio::select! {
                    _ = tick.tick() => source.send_frame(),
                    packets = self.packets.recv() => {
                        if let DirectPackets::Rtp(packets) = packets.expect("the transport is open") {
                            let ended = packets.iter().any(|packet| packet[1] & 0x80 != 0);
                            sizes.extend(packets.iter().map(|packet| packet.len() - 12));
                            if ended {
                                return;
                            }
                        }
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, receive).await.expect("a frame");
        sizes
    }
}

async fn next_event(events: &mut mpsc::UnboundedReceiver<SessionEvent>) -> SessionState {
    tokio::time::timeout(LIMIT, events.recv()).await.expect("an event").expect("a server").state
}

#[tokio::test]
async fn a_stream_is_watched_on_the_other_side_on_whatever_worker() {
    for workers in [1, 2] {
        let (origin, mut origin_events) = server(1, workers);
        let (edge, mut edge_events) = server(2, workers);
        let mut source = Source::add(&origin).await;
        let offer = origin.create_pipe_source(&[CAMERA], true).await.unwrap();
        let pipe = edge.connect_pipe(offer).await.unwrap();
        assert_eq!((pipe.producers[0].origin, pipe.producers[0].codec, pipe.producers[0].layers), (CAMERA, CODEC, 1));
        assert_eq!(next_event(&mut edge_events).await, SessionState::Connected);
        assert_eq!(next_event(&mut origin_events).await, SessionState::Connected);
        for worker in 0..workers {
            let mut watcher = Watcher::watch(&edge, pipe.producers[0].id, worker).await;
            assert_eq!(watcher.next_frame(&mut source).await, [511, 401]);
            assert_eq!(watcher.next_frame(&mut source).await, [511, 401]);
        }
        assert!(source.camera.key_frames.load(Ordering::SeqCst) > 0);
        assert!(edge.close_session(pipe.id).await);
        assert_eq!(next_event(&mut edge_events).await, SessionState::Closed(CloseCause::Requested));
        edge.shutdown().await;
        origin.shutdown().await;
    }
}

#[tokio::test]
async fn a_pause_at_the_origin_is_one_at_the_edge_and_an_end_too() {
    let (origin, _origin_events) = server(1, 1);
    let (edge, mut edge_events) = server(2, 1);
    let mut source = Source::add(&origin).await;
    let pipe = edge.connect_pipe(origin.create_pipe_source(&[CAMERA], true).await.unwrap()).await.unwrap();
    assert_eq!(next_event(&mut edge_events).await, SessionState::Connected);
    let mut watcher = Watcher::watch(&edge, pipe.producers[0].id, 0).await;
    watcher.next_frame(&mut source).await;
    source.sender.pause().await.unwrap();
    source.sender.resume().await.unwrap();
    watcher.next_frame(&mut source).await;
    origin.remove_producer(CAMERA).await;
    // A pause that is over before it could be told may be told, or not.
    let end = loop {
        match next_event(&mut edge_events).await {
            SessionState::Held => {}
            other => break other,
        }
    };
    assert_eq!(end, SessionState::Closed(CloseCause::ProducerClosed));
    edge.shutdown().await;
    origin.shutdown().await;
}

#[tokio::test]
async fn viewers_go_on_watching_when_their_origin_is_another_one() {
    let (first, _first_events) = server(1, 1);
    let (second, _second_events) = server(3, 1);
    let (edge, mut edge_events) = server(2, 1);
    let mut source = Source::add(&first).await;
    let pipe = edge.connect_pipe(first.create_pipe_source(&[CAMERA], true).await.unwrap()).await.unwrap();
    assert_eq!(next_event(&mut edge_events).await, SessionState::Connected);
    let mut watcher = Watcher::watch(&edge, pipe.producers[0].id, 0).await;
    watcher.next_frame(&mut source).await;
    first.shutdown().await;

    let mut source = Source::add(&second).await;
    edge.reconnect_pipe(pipe.id, second.create_pipe_source(&[CAMERA], true).await.unwrap()).await.unwrap();
    assert_eq!(next_event(&mut edge_events).await, SessionState::Connected);
    for _ in 0..3 {
        assert_eq!(watcher.next_frame(&mut source).await, [511, 401]);
    }
    edge.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_piped_is_refused() {
    let (origin, _events) = server(1, 1);
    let (edge, _edge_events) = server(2, 1);
    let _source = Source::add(&origin).await;
    let unknown = origin.create_pipe_source(&[ProducerId(1)], true).await;
    assert!(matches!(unknown, Err(CreatePipeError::UnknownProducer(ProducerId(1)))));
    assert!(matches!(origin.create_pipe_source(&[], true).await, Err(CreatePipeError::Producers(0))));
    let offer = origin.create_pipe_source(&[CAMERA], true).await.unwrap();
    let mut nowhere = offer.clone();
    nowhere.candidates.clear();
    assert!(matches!(edge.connect_pipe(nowhere).await, Err(ConnectPipeError::Offer(_))));
    let mut twice = offer.clone();
    twice.producers.push(offer.producers[0].clone());
    assert!(matches!(edge.connect_pipe(twice).await, Err(ConnectPipeError::Offer(_))));
    let gone = edge.reconnect_pipe(TransportId(1), offer.clone()).await;
    assert!(matches!(gone, Err(ConnectPipeError::Unknown(_))));
    let pipe = edge.connect_pipe(offer.clone()).await.unwrap();
    let mut other = offer;
    other.producers[0].codec = MediaCodec::Video(Codec::Vp9);
    assert!(matches!(edge.reconnect_pipe(pipe.id, other).await, Err(ConnectPipeError::Changed)));
    edge.shutdown().await;
    origin.shutdown().await;
}
