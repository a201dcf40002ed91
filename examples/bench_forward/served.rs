//! A server with one worker and its viewers, and what serving them costs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lenscast_media::{Codec, StageHistograms, WallClock};
use lenscast_router::{ProducerId, ProducerParameters};
use lenscast_transport::{
    ForwardingCost, PlayRequest, PlayedVideo, SessionEvent, SessionState, Timeouts, TransportConfig, TransportServer,
    TransportStats, ViewerOffer,
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
    /// Each packet is a burst of its own.
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
        let stages = Arc::new(StageHistograms::new());
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
        let added = server.add_producer(PRODUCER, parameters, Arc::new(NoCamera), stages);
        let sender = runtime.block_on(added).expect("there is none");
        let memory = (processor::resident(), counting::in_use());

        let (mut viewers, offer) = Viewers::start();
        let (began, used) = (Instant::now(), processor::time_of(router));
        let offer = ViewerOffer::parse(&offer).expect("the offer is good");
        let video = PlayedVideo { producer: PRODUCER, codec: Codec::Vp8, preferred: None };
        let request = PlayRequest { stream: "bench".to_owned(), video, audio: None };
        for _ in 0..self.viewers {
            let session = server.create_session(&offer, &request, true).expect("there is room");
            viewers.invite(&session.answer);
        }
        viewers.connect();
        all_connected(&runtime, &mut events, self.viewers);
        let join = Join { elapsed: began.elapsed(), used: processor::time_of(router) - used };
        if self.feedback {
            viewers.give_feedback();
        }

        let mut frames = Frames::new(sender, self.singly);
        frames.send_for(WARM_UP);
        let mut bench = Bench { runtime: &runtime, server: &server, router, viewers: &mut viewers };
        let before = bench.reading(frames.accepted);
        let (bursts, refused) = (frames.bursts, frames.refused);
        let packets = frames.send_for(self.length) * self.viewers as u64;
        let after = bench.reading(frames.accepted);
        let memory_after = (processor::resident(), counting::in_use());
        let (bursts_after, refused_after) = (frames.bursts, frames.refused);
        bench.viewers.be_silent();
        frames.send_for(A_MOMENT);
        counting::watch(router);
        frames.send_for(Duration::from_secs(1));
        let allocations = counting::stop_watching();
        let each = |now: u64, before: u64| now.saturating_sub(before) / self.viewers as u64;
        let outcome = Outcome {
            join,
            packets,
            received: after.received.0 - before.received.0,
            repaired: after.received.1 - before.received.1,
            refused: refused_after - refused,
            send_calls: after.stats.workers[0].sockets.send_calls - before.stats.workers[0].sockets.send_calls,
            bursts: bursts_after - bursts,
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
            max_sessions: self.viewers,
            timeouts: Timeouts { connect: PATIENCE, consent: PATIENCE },
        };
        let wall = WallClock::new(Instant::now(), unix);
        TransportServer::start(config, wall, StdRng::seed_from_u64(1)).expect("it starts")
    }
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
