//! What it costs to forward a packet: one producer, N viewers, real loopback sockets, AEAD_AES_128_GCM.
//!
//! Each burst is a frame of 7 packets of 1,200 bytes, about 30 a second, 208 packets a second and viewer: a 2 Mb/s stream.
//! The cost is the processor time of the router's own thread, which does everything from the burst's arrival to the last
//! system call; the viewers receive on the other core. Beside it stands, from the same run, the limit: a bare loop that
//! seals seven packets with AES-GCM and sends them with one segmented system call.
//!
//! ```text
//! cargo bench --bench forward             1, 50, 200 and 800 viewers, 5 s each
//! cargo bench --bench forward -- 2000 10  2,000 viewers, 10 s
//! ```

mod viewers;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lenscast_media::{
    Burst, BurstMeta, Codec, LayerSet, PassedExtensions, Resolution, RtpTime, StageHistograms, StageTimes, WallClock,
};
use lenscast_router::{ProducerId, ProducerParameters};
use lenscast_transport::{
    BurstSender, PlayRequest, PlayedVideo, Timeouts, TransportConfig, TransportServer, Upstream, ViewerOffer,
};
use quinn_udp::{Transmit, UdpSocketState};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::thread::CpuSet;

use viewers::{Audience, Seated};

const PACKETS_PER_BURST: usize = 7;
/// With 12 bytes of header and 16 of tag, 1,200 on the wire.
const PAYLOAD: usize = 1_200 - 12 - 16;
const BURSTS_PER_SECOND: f64 = 208.0 / PACKETS_PER_BURST as f64;
const PRODUCER: ProducerId = ProducerId(1);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    // `cargo test --benches` only wants to know that it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (counts, seconds) = match numbers[..] {
        _ if quick => (vec![2], 1),
        [] => (vec![1, 50, 200, 800], 5),
        [count] => (vec![count as usize], 5),
        [count, seconds, ..] => (vec![count as usize], seconds),
    };
    // The router's thread has processor 0 to itself; everything else shares the others.
    pin_to_others();
    let limit = limit(Duration::from_secs(if quick { 1 } else { 3 }));
    println!("limit loop (AES-GCM, one GSO call per {PACKETS_PER_BURST} packets): {limit:.3} us a packet");
    println!(" viewers    packets/s       lost  us/packet    x limit  calls/burst    core");
    for count in counts {
        let run = forward(count, Duration::from_secs(seconds));
        let micros = run.cpu.as_secs_f64() * 1e6 / run.packets as f64;
        println!(
            "{count:>8} {:>12.0} {:>10} {micros:>10.3} {:>10.2} {:>12.2} {:>6.1}%",
            run.packets as f64 / run.elapsed.as_secs_f64(),
            run.packets as i64 - run.received as i64,
            micros / limit,
            run.calls as f64 / (run.bursts * count as u64) as f64,
            run.cpu.as_secs_f64() / run.elapsed.as_secs_f64() * 100.0,
        );
    }
}

/// What one measurement came to.
struct Run {
    bursts: u64,
    packets: u64,
    received: u64,
    calls: u64,
    cpu: Duration,
    elapsed: Duration,
}

fn forward(count: usize, length: Duration) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let unix = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
    let config = TransportConfig {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        public_addresses: Vec::new(),
        workers: 1,
        max_sessions: count,
        timeouts: Timeouts { connect: Duration::from_secs(120), consent: Duration::from_secs(120) },
    };
    let wall = WallClock::new(Instant::now(), unix);
    let (server, _events) = TransportServer::start(config, wall, StdRng::seed_from_u64(1)).expect("it starts");
    let router = thread_named("router-0");
    pin(router, &[0]);
    let stages = Arc::new(StageHistograms::new());
    let sender = {
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
        let added = server.add_producer(PRODUCER, parameters, Arc::new(NoCamera), stages);
        runtime.block_on(added).expect("there is none")
    };

    let audience = Audience::new();
    let offer = ViewerOffer::parse(&audience.offer_of(Codec::Vp8)).expect("the offer is good");
    let video = PlayedVideo { producer: PRODUCER, codec: Codec::Vp8, preferred: None };
    let request = PlayRequest { stream: "bench".to_owned(), video, audio: None };
    let viewers = (0..count).map(|_| {
        let session = server.create_session(&offer, &request, true).expect("there is room");
        audience.viewer(&session.answer)
    });
    let seated = audience.seat(viewers.collect());

    let mut frames = Frames { sender, first_packet: 0, number: 0 };
    // The first frames go out with extensions, and caches fill.
    frames.send_paced(10);
    let bench = Bench { runtime: &runtime, server: &server, router, seated: &seated };
    let before = bench.reading(frames.number);
    let bursts = (length.as_secs_f64() * BURSTS_PER_SECOND) as u64;
    frames.send_paced(bursts);
    let after = bench.reading(frames.number);
    let run = Run {
        bursts,
        packets: bursts * (PACKETS_PER_BURST * count) as u64,
        received: after.received - before.received,
        calls: after.calls - before.calls,
        cpu: after.cpu - before.cpu,
        elapsed: after.at - before.at,
    };
    drop(seated);
    runtime.block_on(server.shutdown());
    run
}

/// Where the numbers come from.
struct Bench<'a> {
    runtime: &'a tokio::runtime::Runtime,
    server: &'a TransportServer,
    router: u32,
    seated: &'a Seated,
}

struct Reading {
    calls: u64,
    cpu: Duration,
    received: u64,
    at: Instant,
}

impl Bench<'_> {
    /// Once the router is through with `frames` of them, and the viewers have what it sent.
    fn reading(&self, frames: u64) -> Reading {
        let deadline = Instant::now() + Duration::from_secs(30);
        let stats = loop {
            let stats = self.runtime.block_on(self.server.stats());
            if stats.workers[0].producers[0].1.frames == frames {
                break stats;
            }
            assert!(Instant::now() < deadline, "the router is not through with what it was sent");
            std::thread::sleep(Duration::from_millis(5));
        };
        let (at, cpu) = (Instant::now(), cpu_of(self.router));
        let mut received = self.seated.received();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let now = self.seated.received();
            if now == received {
                break;
            }
            received = now;
        }
        Reading { calls: stats.workers[0].sockets.send_calls, cpu, received, at }
    }
}

/// The frames of a camera that is not there.
struct Frames {
    sender: BurstSender,
    first_packet: u64,
    number: u64,
}

impl Frames {
    fn send_paced(&mut self, bursts: u64) {
        let start = Instant::now();
        for number in 0..bursts {
            let due = start + Duration::from_secs_f64(number as f64 / BURSTS_PER_SECOND);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let burst = self.next();
            assert!(self.sender.send(0, &burst), "the router is behind");
        }
    }

    fn next(&mut self) -> Arc<Burst> {
        let now = Instant::now();
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame: self.number == 0,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(Resolution::new(1280, 720).expect("a resolution")),
            temporal_layer: 0,
            layer_sync: false,
            first_packet: self.first_packet,
            rtp_time: RtpTime((self.number * 3_000) as u32),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        });
        for packet in 0..PACKETS_PER_BURST {
            burst.push(&[&[packet as u8; PAYLOAD]]);
        }
        self.first_packet = burst.packets().end;
        self.number += 1;
        Arc::new(burst)
    }
}

struct NoCamera;

impl Upstream for NoCamera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}

/// The least that a packet can cost with these means, in microseconds: seal, and send seven in one call.
fn limit(length: Duration) -> f64 {
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    receiver.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket has timeouts");
    let destination = receiver.local_addr().expect("it is bound");
    let drain = std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while receiver.recv(&mut buffer).is_ok() {}
    });
    let measured = std::thread::spawn(move || {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        pin(thread, &[0]);
        let state = UdpSocketState::new((&sender).into()).expect("a UDP socket");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[1; 16]).expect("the key has its length"));
        let mut buffer = vec![0; PACKETS_PER_BURST * 1_200];
        let (start, before, mut bursts) = (Instant::now(), cpu_of(thread), 0_u64);
        while start.elapsed() < length {
            for (number, packet) in buffer.chunks_mut(1_200).enumerate() {
                let (header, rest) = packet.split_at_mut(12);
                let (payload, tag) = rest.split_at_mut(PAYLOAD);
                let mut nonce = [0; 12];
                nonce[..8].copy_from_slice(&bursts.to_be_bytes());
                nonce[8] = number as u8;
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload).expect("it seals");
                tag.copy_from_slice(sealed.as_ref());
            }
            let transmit =
                Transmit { destination, ecn: None, contents: &buffer, segment_size: Some(1_200), src_ip: None };
            state.try_send((&sender).into(), &transmit).expect("loopback takes it");
            bursts += 1;
        }
        let cpu = cpu_of(thread) - before;
        cpu.as_secs_f64() * 1e6 / (bursts as usize * PACKETS_PER_BURST) as f64
    });
    let micros = measured.join().expect("the loop ends");
    drain.join().expect("the receiver ends");
    micros
}

/// Processor time of one thread of this process.
fn cpu_of(thread: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("the kernel counts time");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(nanos)
}

fn thread_named(name: &str) -> u32 {
    let threads = std::fs::read_dir("/proc/self/task").expect("a process has threads");
    let ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut named = ids.filter(|id: &u32| {
        std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named.next().expect("the thread runs")
}

fn pin(thread: u32, processors: &[usize]) {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&processor| set.set(processor));
    let pid = rustix::thread::Pid::from_raw(thread as i32);
    rustix::thread::sched_setaffinity(pid, &set).expect("a thread can be pinned");
}

fn pin_to_others() {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let others: Vec<usize> = (1..processors).collect();
    if others.is_empty() {
        println!("one processor only: the viewers' work is not kept apart");
    } else {
        pin(rustix::thread::gettid().as_raw_nonzero().get() as u32, &others);
    }
}
