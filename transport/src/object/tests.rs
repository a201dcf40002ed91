//! Objects on real threads: what several workers make of commands, packets and drops. Every wait is for an event, and has a
//! bound.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lenscast_media::{
    Burst, BurstMeta, Codec, LayerSet, PassedExtensions, RtpTime, Ssrc, StageHistograms, StageTimes, WallClock,
};
use lenscast_router::{
    ConsumerId, ConsumerParameters, EndCause, HeaderExtensions, Layers, PayloadType, Priority, ProducerId,
    ProducerParameters, TransportId, Upstream,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::*;
use crate::{BurstSender, Timeouts, TransportConfig, TransportServer};

/// Nothing here takes longer, on a busy machine either.
const BOUND: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {BOUND:?}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(within("the test", future))
}

fn server(workers: usize) -> TransportServer {
    let config = TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        public_addresses: Vec::new(),
        workers,
        max_sessions: 10,
        timeouts: Timeouts { connect: Duration::from_secs(30), consent: Duration::from_secs(30) },
    };
    let wall = WallClock::new(Instant::now(), Duration::from_secs(1));
    TransportServer::start(config, wall, StdRng::seed_from_u64(1)).unwrap().0
}

/// A source that tells what is wanted of it.
struct Camera {
    wanted: watch::Sender<(LayerSet, u64)>,
}

impl Camera {
    fn new() -> (Arc<Self>, watch::Receiver<(LayerSet, u64)>) {
        let (wanted, told) = watch::channel((LayerSet::EMPTY, 0));
        (Arc::new(Self { wanted }), told)
    }
}

impl Upstream for Camera {
    fn set_wanted(&self, layers: LayerSet) {
        self.wanted.send_modify(|told| told.0 = layers);
    }

    fn request_key_frame(&self, _: u8) {
        self.wanted.send_modify(|told| told.1 += 1);
    }
}

fn parameters() -> ProducerParameters {
    ProducerParameters::local(Codec::H264.into(), 1, 1)
}

fn consumer(number: u64) -> ConsumerParameters {
    ConsumerParameters {
        id: ConsumerId(number),
        transport: TransportId(0),
        ssrc: Ssrc(number as u32),
        payload_type: PayloadType::new(96).unwrap(),
        rtx: None,
        extensions: HeaderExtensions::default(),
        cname: "test".to_owned(),
        initial_sequence: 0,
        initial_rtx_sequence: 0,
        timestamp_offset: 0,
        preferred_layers: Layers::HIGHEST,
        priority: Priority::default(),
        paused: false,
    }
}

/// Bursts of one packet each, numbered.
struct Film {
    sender: BurstSender,
    next: u64,
}

impl Film {
    fn new(sender: BurstSender) -> Self {
        Self { sender, next: 0 }
    }

    /// Sends a key frame and returns its number.
    fn send(&mut self) -> u64 {
        let (number, at) = (self.next, Instant::now());
        self.next += 1;
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::H264.into(),
            key_frame: true,
            begins_frame: true,
            ends_frame: true,
            resolution: None,
            temporal_layer: 0,
            layer_sync: false,
            first_packet: number,
            rtp_time: RtpTime((number * 3_000) as u32),
            times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
            extensions: PassedExtensions::default(),
        });
        burst.push(&[&[0x65], &number.to_be_bytes()]);
        let _ = self.sender.send(0, &Arc::new(burst));
        number
    }
}

/// A viewer in this process: a direct transport of a worker's default router, and a consumer on it.
struct Viewer {
    consumer: Consumer,
    _transport: Transport,
    packets: DirectReceiver,
}

impl Viewer {
    async fn new(worker: &WorkerHandle, producer: ProducerId) -> Self {
        let id = worker.names.next();
        let (transport, packets) =
            Transport::create_direct(worker, worker.default_router(), TransportId(id), 64).await.unwrap();
        let consumer = transport.consume(producer, consumer(id)).await.unwrap();
        Self { consumer, _transport: transport, packets }
    }

    /// The number of the next burst.
    async fn next(&mut self) -> Option<u64> {
        loop {
            match self.packets.recv().await? {
                DirectPackets::Rtp(packets) => {
                    let packet = packets.last().unwrap();
                    return Some(u64::from_be_bytes(packet[packet.len() - 8..].try_into().unwrap()));
                }
                DirectPackets::Rtcp(_) => {}
            }
        }
    }

    /// Waits for burst `number`, of which everything before may be missing.
    async fn until(&mut self, number: u64) {
        while self.next().await.expect("it is open") < number {}
    }
}

async fn wanted(told: &mut watch::Receiver<(LayerSet, u64)>, wanted: bool) {
    told.wait_for(|told| told.0.is_empty() != wanted).await.unwrap();
}

/// Nothing is left on any worker but what a server begins with.
async fn check_empty(server: &TransportServer) {
    for worker in server.workers() {
        let left = worker.port.call(|hub, _, _| hub.left()).await.unwrap();
        assert_eq!(left, (0, 0, 0), "of worker {}: lives, mirrors, outlets", worker.index());
    }
}

#[test]
fn a_cameras_viewers_on_each_worker_get_its_packets_pauses_and_end() {
    block_on(async {
        let server = server(3);
        for number in 0..3 {
            let (camera, mut told) = Camera::new();
            let producer = ProducerId(100 + number);
            let stages = Arc::new(StageHistograms::new());
            let sender = server.add_producer(producer, parameters(), camera, stages).await.unwrap();
            let mut film = Film::new(sender.clone());
            assert!(told.borrow_and_update().0.is_empty(), "nobody watches");

            let mut viewers = Vec::new();
            for worker in server.workers() {
                viewers.push(Viewer::new(worker, producer).await);
            }
            wanted(&mut told, true).await;
            for viewer in &mut viewers {
                // Packets flow once its worker's wish has arrived: frames come again and again, as a camera's do.
                loop {
                    let number = film.send();
                    let next = tokio::time::timeout(Duration::from_millis(20), viewer.until(number)).await;
                    if next.is_ok() {
                        break;
                    }
                }
            }

            sender.pause().await.unwrap();
            let unseen = film.send();
            // It comes by another way than the resume: that must not overtake it.
            let came = async || {
                let mut most = 0;
                for worker in server.workers() {
                    let stats = worker.port.call(|hub, _, _| hub.producer_stats()).await.unwrap();
                    let own = stats.iter().filter(|(id, _)| *id == producer);
                    most = own.map(|(_, stats)| stats.frames).chain([most]).max().unwrap_or(0);
                }
                most
            };
            while came().await <= unseen {
                tokio::task::yield_now().await;
            }
            sender.resume().await.unwrap();
            for viewer in &mut viewers {
                // Until its worker's wish has arrived anew.
                loop {
                    film.send();
                    match tokio::time::timeout(Duration::from_millis(20), viewer.next()).await {
                        Ok(Some(number)) if number > unseen => break,
                        Ok(number) => {
                            assert!(number.is_some_and(|number| number < unseen), "forwarded while it was paused")
                        }
                        Err(_) => {}
                    }
                }
            }

            server.remove_producer(producer).await;
            for viewer in &mut viewers {
                assert_eq!(viewer.consumer.closed().await, EndCause::ProducerClosed);
            }
            assert!(sender.pause().await.is_err(), "it has ended");
            drop(viewers);
            check_empty(&server).await;
        }
        server.shutdown().await;
    });
}

#[test]
fn the_source_stops_when_the_last_viewer_anywhere_has_gone() {
    block_on(async {
        let server = server(2);
        let (camera, mut told) = Camera::new();
        let stages = Arc::new(StageHistograms::new());
        let _sender = server.add_producer(ProducerId(100), parameters(), camera, stages).await.unwrap();
        let mut viewers = Vec::new();
        for worker in server.workers() {
            viewers.push(Viewer::new(worker, ProducerId(100)).await);
        }
        wanted(&mut told, true).await;
        viewers.pop();
        // Whichever is the home's: the other one still watches.
        for worker in server.workers() {
            worker.port.call(|_, _, _| ()).await.unwrap();
        }
        wanted(&mut told, true).await;
        viewers.pop();
        wanted(&mut told, false).await;
        server.shutdown().await;
    });
}

#[test]
fn a_hundred_callers_at_once_share_one_pipe() {
    block_on(async {
        let server = Arc::new(server(2));
        let [home, away] = server.workers() else { panic!("two") };
        let router = home.create_router().await.unwrap();
        let (transport, _packets) = router.create_direct_transport(4).await.unwrap();
        let (camera, _told) = Camera::new();
        let producer = Arc::new(transport.produce(parameters(), camera).await.unwrap());
        let destination = Arc::new(away.create_router().await.unwrap());
        let callers = (0..100).map(|_| {
            let (producer, destination) = (Arc::clone(&producer), Arc::clone(&destination));
            tokio::spawn(async move { producer.pipe_to_router(&destination).await.unwrap() })
        });
        let callers: Vec<_> = callers.collect();
        let mut pipes = Vec::new();
        for caller in callers {
            pipes.push(caller.await.unwrap());
        }
        let outlets: BTreeSet<_> = pipes.iter().map(Pipe::outlet).collect();
        assert_eq!(outlets.len(), 1);
        let left = home.port.call(|hub, _, _| hub.left()).await.unwrap();
        assert_eq!(left.2, 1, "one outlet");

        let last = pipes.pop().unwrap();
        drop(pipes);
        let mirror = away.port.call(|hub, _, _| hub.left()).await.unwrap();
        assert_eq!(mirror.1, 1, "somebody has it still");
        let closed = last.clone();
        let ends = tokio::spawn(async move { (closed.closed().await, closed.mirror_closed().await) });
        drop(producer);
        assert_eq!(ends.await.unwrap(), (EndCause::ProducerClosed, EndCause::OriginClosed));
        drop((last, destination, transport, router));
        check_empty(&server).await;
        server.shutdown().await;
    });
}

#[test]
fn a_pipe_that_is_dropped_can_be_made_again_at_once() {
    block_on(async {
        let server = server(2);
        let [home, away] = server.workers() else { panic!("two") };
        let router = home.create_router().await.unwrap();
        let (transport, _packets) = router.create_direct_transport(4).await.unwrap();
        let (camera, _told) = Camera::new();
        let producer = transport.produce(parameters(), camera).await.unwrap();
        let destination = away.create_router().await.unwrap();
        for _ in 0..200 {
            drop(producer.pipe_to_router(&destination).await.unwrap());
        }
        let ended = away.create_router().await.unwrap();
        let id = ended.id();
        drop(ended);
        away.port.call(|_, _, _| ()).await.unwrap();
        let refused = super::pipe_to_router(&away.pipes, producer.origin(), &away.port, id, &away.names).await;
        assert!(matches!(refused, Err(PipeToRouterError::Open(_))), "{refused:?}");
        drop((producer, destination, transport, router));
        check_empty(&server).await;
        server.shutdown().await;
    });
}

#[test]
fn futures_that_are_dropped_at_any_moment_leave_nothing() {
    let seed = std::env::var("LENSCAST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    block_on(async move {
        let server = server(2);
        let [home, away] = server.workers() else { panic!("two") };
        let mut random = StdRng::seed_from_u64(seed);
        let finished = AtomicU64::new(0);
        for _ in 0..300 {
            let polls = random.random_range(0..14);
            let all = async {
                let router = home.create_router().await.unwrap();
                let (transport, _packets) = router.create_direct_transport(4).await.unwrap();
                let (camera, _told) = Camera::new();
                let producer = transport.produce(parameters(), camera).await.unwrap();
                let destination = away.create_router().await.unwrap();
                let pipe = producer.pipe_to_router(&destination).await.unwrap();
                let other = producer.pipe_to_router(&destination).await.unwrap();
                assert_eq!(pipe.outlet(), other.outlet());
                let (there, _packets) = destination.create_direct_transport(4).await.unwrap();
                let _consumer = there.consume(producer.id(), consumer(home.names.next())).await.unwrap();
                finished.fetch_add(1, Ordering::Relaxed);
            };
            give_up_after(polls, all).await;
        }
        let _ = finished;
        check_empty(&server).await;
        server.shutdown().await;
    });
}

/// Polls a future this many times, and drops it.
async fn give_up_after(polls: u32, future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context)
    })
    .await;
}

#[test]
fn a_direct_consumer_that_does_not_read_loses_bursts_and_they_are_counted() {
    block_on(async {
        let server = server(1);
        let worker = &server.workers()[0];
        let (camera, mut told) = Camera::new();
        let stages = Arc::new(StageHistograms::new());
        let sender = server.add_producer(ProducerId(100), parameters(), camera, stages).await.unwrap();
        let mut film = Film::new(sender);
        let viewer = Viewer::new(worker, ProducerId(100)).await;
        wanted(&mut told, true).await;
        for _ in 0..100 {
            film.send();
            // Through the worker, so that its channel does not overflow.
            worker.port.call(|_, _, _| ()).await.unwrap();
        }
        while viewer.packets.dropped() == 0 {
            film.send();
            worker.port.call(|_, _, _| ()).await.unwrap();
        }
        server.shutdown().await;
    });
}

#[test]
fn a_worker_that_dies_takes_its_own_along_and_nothing_hangs() {
    block_on(async {
        let server = server(2);
        let [dying, staying] = server.workers() else { panic!("two") };
        let router = dying.create_router().await.unwrap();
        let (transport, _packets) = router.create_direct_transport(4).await.unwrap();
        let (camera, _told) = Camera::new();
        let producer = transport.produce(parameters(), camera).await.unwrap();
        let there = staying.create_router().await.unwrap();
        let (there_transport, _there_packets) = there.create_direct_transport(4).await.unwrap();
        let pipe = producer.pipe_to_router(&there).await.unwrap();
        let shown = there_transport.consume(producer.id(), consumer(1)).await.unwrap();
        // And the other way: what leads to the one that dies.
        let (camera, mut told) = Camera::new();
        let own = there_transport.produce(parameters(), camera).await.unwrap();
        let back = own.pipe_to_router(&router).await.unwrap();
        let watching = transport.consume(own.id(), consumer(2)).await.unwrap();
        wanted(&mut told, true).await;

        dying.port.release(|_, _, _| panic!("as the test wants it"));
        assert_eq!(dying.died().await, EndCause::WorkerClosed);
        assert_eq!(router.closed().await, EndCause::WorkerClosed);
        assert_eq!(transport.closed().await, EndCause::WorkerClosed);
        assert_eq!(producer.closed().await, EndCause::WorkerClosed);
        assert_eq!(watching.closed().await, EndCause::WorkerClosed);
        assert_eq!(pipe.closed().await, EndCause::WorkerClosed);
        assert_eq!(pipe.mirror_closed().await, EndCause::OriginClosed);
        assert_eq!(shown.closed().await, EndCause::ProducerClosed);
        assert!(back.mirror_closed().await == EndCause::WorkerClosed && back.closed().await == EndCause::Requested);
        wanted(&mut told, false).await;

        assert!(dying.create_router().await.is_err() && producer.pause().await.is_err());
        assert!(own.pipe_to_router(&router).await.is_err());
        // What is made from now on lives on the other.
        let (camera, _told) = Camera::new();
        let stages = Arc::new(StageHistograms::new());
        for number in 0..3 {
            let camera = Arc::clone(&camera) as Arc<dyn Upstream>;
            let added = server.add_producer(ProducerId(200 + number), parameters(), camera, Arc::clone(&stages)).await;
            assert!(added.is_ok());
        }
        drop((pipe, back, shown, watching, own, producer, there_transport, transport, there, router));
        server.shutdown().await;
    });
}
