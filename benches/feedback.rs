//! What a viewer's word on which packets have come costs a leg's congestion control.
//!
//! `feedback/N` is one message of transport-wide feedback that tells of N packets, from its bytes to the new estimate and pacing:
//! parsed, matched with what was sent, given to the controller. 3 packets each 50 ms are 0.5 Mb/s, 100 are 20 Mb/s. `sent` is what
//! a packet costs as it leaves. Packets and messages follow each other as on a path of 30 ms with a queue that comes and goes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lenscast_congestion::{
    EstimateBounds, GoogleController, NetworkController, PacketKind, PacketReport, SentHistory, TransportFeedback,
};
use lenscast_media::{Bitrate, Ssrc};
use lenscast_router::receive;
use lenscast_router::rtcp::{self, Compound, Packet};

const MEDIA: Ssrc = Ssrc(1);
const SIZE: u32 = 1_200;
const BETWEEN_MESSAGES: Duration = Duration::from_millis(50);
/// Messages that the controller has seen when it is measured: ten seconds.
const WARM_UP: u32 = 200;

/// Both ends of a path.
struct Scene {
    packets: u32,
    now: Instant,
    controller: GoogleController,
    history: SentHistory,
    reports: Vec<PacketReport>,
    receiver: receive::TransportFeedback,
    rounds: u32,
}

impl Scene {
    fn new(packets: u32) -> Self {
        let now = Instant::now();
        let bounds =
            EstimateBounds { min: Bitrate::from_kbps(30), start: Bitrate::from_kbps(1_000), max: Bitrate::UNLIMITED };
        let mut scene = Self {
            packets,
            now,
            controller: GoogleController::new(now, bounds),
            history: SentHistory::new(),
            reports: Vec::new(),
            receiver: receive::TransportFeedback::new(Ssrc(2), now),
            rounds: 0,
        };
        for _ in 0..WARM_UP {
            let message = scene.next_message();
            scene.handle(&message);
        }
        scene
    }

    /// Sends the next packets, and returns what the other end says of them.
    fn next_message(&mut self) -> Vec<u8> {
        let waits = Duration::from_micros(u64::from(self.rounds % 20) * 400);
        self.rounds += 1;
        let mut message = Compound::new();
        for packet in 0..self.packets {
            let sent = self.now + BETWEEN_MESSAGES * packet / self.packets;
            let number = self.send(sent);
            self.receiver.handle_packet(sent + Duration::from_millis(30) + waits, MEDIA, number);
        }
        self.now += BETWEEN_MESSAGES;
        message.push_receiver_report(Ssrc(2));
        self.receiver.write_due(self.now + Duration::from_secs(1), &mut message);
        message.as_bytes().to_vec()
    }

    fn send(&mut self, now: Instant) -> u16 {
        let number = self.history.record(PacketKind::Video, SIZE, now, None);
        if let Some(sent) = self.history.last() {
            self.controller.handle_sent(sent);
        }
        number
    }

    fn handle(&mut self, message: &[u8]) -> usize {
        let mut told = 0;
        for packet in rtcp::read(message).flatten() {
            let Packet::TransportWide(said) = packet else { continue };
            let feedback = TransportFeedback::parse(said).expect("the other end writes it");
            self.reports.clear();
            self.history.handle_twcc(self.now, &feedback, &mut self.reports);
            told += self.reports.len();
            self.controller.handle_feedback(self.now, &self.reports);
        }
        while self.controller.poll_probe().is_some() {}
        black_box(self.controller.estimate());
        told
    }
}

fn feedback(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("feedback");
    for packets in [3, 10, 25, 100] {
        let mut scene = Scene::new(packets);
        let message = scene.next_message();
        assert_eq!(scene.handle(&message), packets as usize, "a message tells of each packet");
        group.throughput(Throughput::Elements(u64::from(packets)));
        let scene = std::cell::RefCell::new(scene);
        group.bench_function(BenchmarkId::from_parameter(packets), |bencher| {
            bencher.iter_batched(
                || scene.borrow_mut().next_message(),
                |message| scene.borrow_mut().handle(&message),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    let mut scene = Scene::new(25);
    criterion.bench_function("sent", |bencher| {
        bencher.iter(|| {
            scene.now += Duration::from_micros(500);
            scene.send(scene.now)
        });
    });
}

criterion_group!(benches, feedback);
criterion_main!(benches);
