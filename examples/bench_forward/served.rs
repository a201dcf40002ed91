//! A server with one worker and its viewers, and what serving them costs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lenscast_media::{Codec, StageHistograms, WallClock};
use lenscast_router::{ProducerId, ProducerParameters};
use lenscast_transport::{
    ForwardingCost, PlayRequest, PlayedVideo, PublishRequest, PublisherOffer, SessionEvent, SessionState, Timeouts,
    TransportConfig, TransportServer, TransportStats, ViewerOffer,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::audience::Viewers;
use crate::counting;
use crate::frames::{Frames, NoCamera};
use crate::processor::{self, MEASURED, pin, thread_named};

const PRODUCER: ProducerId = ProducerId(1);
const PATIENCE: Duration = Duration::from_secs(120);
/// Caches and pools fill; the retransmission buffer holds two seconds.
const WARM_UP: Duration = Duration::from_millis(2_500);

/// For what is under way to arrive.
const A_MOMENT: Duration = Duration::from_millis(200);

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) viewers: usize,
    pub(crate) feedback: bool,
    /// From a publisher, each packet by itself.
    pub(crate) singly: bool,
    pub(crate) length: Duration,
}

/// What it came to.
pub(crate) struct Outcome {
    pub(crate) join: Join,
    /// Of media, to all viewers together.
    pub(crate) packets: u64,
    pub(crate) received: u64,
    pub(crate) repaired: u64,
    /// Bursts that found the router's queue full.
    pub(crate) refused: u64,
    pub(crate) send_calls: u64,
    pub(crate) bursts: u64,
    pub(crate) elapsed: Duration,
    /// Processor time of the router's thread.
    pub(crate) used: Duration,
    /// What its parts took, sampled.
    pub(crate) cost: ForwardingCost,
    /// Memory allocations of the router's thread in a second in which it did nothing but forward and report.
    pub(crate) allocations: u64,
    /// Bytes that a viewer takes: resident, and asked for of the allocator.
    pub(crate) resident: u64,
    pub(crate) allocated: u64,
}

/// From the first offer to the last handshake.
pub(crate) struct Join {
    pub(crate) elapsed: Duration,
    /// Processor time of the router's thread.
    pub(crate) used: Duration,
}

impl Case {
    pub(crate) fn measure(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (server, mut events) = self.server();
        let router = thread_named("router-0");
        pin(router, &[MEASURED]);
        let (mut viewers, [viewer_offer, publisher_offer]) = Viewers::start();
        let mut source = if self.singly {
            publish(&runtime, &server, &mut events, &mut viewers, &publisher_offer)
        } else {
            let stages = Arc::new(StageHistograms::new());
            let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
            let added = server.add_producer(PRODUCER, parameters, Arc::new(NoCamera), stages);
            Source::Camera(Box::new(Frames::new(runtime.block_on(added).expect("there is none"))))
        };
        let memory = (processor::resident(), counting::in_use());

        let (began, used) = (Instant::now(), processor::time_of(router));
        let offer = ViewerOffer::parse(&viewer_offer).expect("the offer is good");
        let video = PlayedVideo { producer: source.producer(), codec: Codec::Vp8, preferred: None };
        let request = PlayRequest { stream: "bench".to_owned(), video, audio: None };
        for _ in 0..self.viewers {
            let session = server.create_session(&offer, std::slice::from_ref(&request), true).expect("there is room");
            viewers.invite(&session.answer);
        }
        viewers.connect();
        all_connected(&runtime, &mut events, self.viewers);
        let join = Join { elapsed: began.elapsed(), used: processor::time_of(router) - used };
        if self.feedback {
            viewers.give_feedback();
        }

        source.send_for(WARM_UP, &mut viewers);
        let mut bench = Bench { runtime: &runtime, server: &server, router, viewers: &mut viewers };
        let sent = source.sent();
        let before = bench.reading(sent.packets);
        let packets = source.send_for(self.length, bench.viewers) * self.viewers as u64;
        let sent_after = source.sent();
        let after = bench.reading(sent_after.packets);
        let memory_after = (processor::resident(), counting::in_use());
        bench.viewers.be_silent();
        source.send_for(A_MOMENT, bench.viewers);
        counting::watch(router);
        source.send_for(Duration::from_secs(1), bench.viewers);
        let allocations = counting::stop_watching();
        let each = |now: u64, before: u64| now.saturating_sub(before) / self.viewers as u64;
        let outcome = Outcome {
            join,
            packets,
            received: after.received.0 - before.received.0,
            repaired: after.received.1 - before.received.1,
            refused: sent_after.refused - sent.refused,
            send_calls: after.stats.workers[0].sockets.send_calls - before.stats.workers[0].sockets.send_calls,
            bursts: sent_after.bursts - sent.bursts,
            elapsed: after.at - before.at,
            used: after.used - before.used,
            cost: after.stats.workers[0].forwarding.since(&before.stats.workers[0].forwarding),
            allocations,
            resident: each(memory_after.0, memory.0),
            allocated: each(memory_after.1, memory.1),
        };
        drop(viewers);
        runtime.block_on(server.shutdown());
        outcome
    }

    fn server(self) -> (TransportServer, mpsc::UnboundedReceiver<SessionEvent>) {
        let unix = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
        let config = TransportConfig {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            public_addresses: Vec::new(),
            workers: 1,
            // And one publisher.
            max_sessions: self.viewers + 1,
            timeouts: Timeouts { connect: PATIENCE, consent: PATIENCE },
        };
        let wall = WallClock::new(Instant::now(), unix);
        TransportServer::start(config, wall, StdRng::seed_from_u64(1)).expect("it starts")
    }
}

/// Where the packets come from.
enum Source {
    Camera(Box<Frames>),
    /// In the viewers' process; packets that it has sent.
    Publisher(ProducerId, u64),
}

/// What a source has sent so far.
struct Sent {
    /// That the router took.
    packets: u64,
    bursts: u64,
    refused: u64,
}

impl Source {
    const fn producer(&self) -> ProducerId {
        match self {
            Self::Camera(_) => PRODUCER,
            Self::Publisher(producer, _) => *producer,
        }
    }

    /// Returns how many packets.
    fn send_for(&mut self, length: Duration, viewers: &mut Viewers) -> u64 {
        match self {
            Self::Camera(frames) => frames.send_for(length),
            Self::Publisher(_, sent) => {
                let packets = viewers.send_for(length);
                *sent += packets;
                packets
            }
        }
    }

    fn sent(&self) -> Sent {
        match self {
            Self::Camera(frames) => Sent { packets: frames.accepted, bursts: frames.bursts, refused: frames.refused },
            // One packet by itself is one burst.
            Self::Publisher(_, sent) => Sent { packets: *sent, bursts: *sent, refused: 0 },
        }
    }
}

/// Has somebody publish, who sends nothing yet.
fn publish(
    runtime: &Runtime,
    server: &TransportServer,
    events: &mut mpsc::UnboundedReceiver<SessionEvent>,
    viewers: &mut Viewers,
    offer: &str,
) -> Source {
    let offer = PublisherOffer::parse(offer).expect("the offer is good");
    let request = PublishRequest { stream: "bench".to_owned(), codecs: vec![Codec::Vp8], max_bitrate: None };
    let created = server.create_publisher(&offer, &request, true).expect("there is room");
    viewers.publish(&created.answer);
    while runtime.block_on(events.recv()).expect("the server runs").state != SessionState::Connected {}
    Source::Publisher(created.producers[0].id, 0)
}

fn all_connected(runtime: &Runtime, events: &mut mpsc::UnboundedReceiver<SessionEvent>, count: usize) {
    for _ in 0..count {
        let event = runtime.block_on(events.recv()).expect("the server runs");
        assert_eq!(event.state, SessionState::Connected);
    }
}

/// Where the numbers come from.
struct Bench<'a> {
    runtime: &'a Runtime,
    server: &'a TransportServer,
    router: u32,
    viewers: &'a mut Viewers,
}

struct Reading {
    stats: TransportStats,
    used: Duration,
    received: (u64, u64),
    at: Instant,
}

impl Bench<'_> {
    /// Once the router is through with so many packets, and the viewers have what it sent.
    fn reading(&mut self, packets: u64) -> Reading {
        let deadline = Instant::now() + PATIENCE;
        let stats = loop {
            let stats = self.runtime.block_on(self.server.stats());
            if stats.workers[0].producers[0].1.packets == packets {
                break stats;
            }
            assert!(Instant::now() < deadline, "the router is not through with what it was sent");
            std::thread::sleep(Duration::from_millis(5));
        };
        let (at, used) = (Instant::now(), processor::time_of(self.router));
        let mut received = self.viewers.received();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.viewers.received();
            if now.0 == received.0 {
                return Reading { stats, used, received: now, at };
            }
            received = now;
        }
    }
}
