//! `make soak`: what a server has to bear in a busy hour, in ten minutes; in the end it is as large as it was.
//!
//! Two servers: the origin has cameras and streams, the edge pulls the cameras. Two hundred viewers of both come and go, half
//! of them without a word; some lose packets; some change layers; streams and cameras are held up and go on; publishers come
//! and go, and with them the pipes of their streams to the other workers; and the edge's machine falls asleep for so long
//! that its pipes to the origin break.
//!
//! After each round, when all are gone, both servers are measured. What counts is what they have allocated and not given
//! back (tests/heap-meter), beside threads, descriptors, and what they count of their own objects. Resident memory is
//! printed and not judged: it grows by megabytes with the order in which threads happen to ask the allocator, and with how
//! often an encoder is built on another thread than before, though nothing is kept.
//!
//! `LENSCAST_SOAK_SECONDS` says how long, 600 by default.

#[path = "../benches/viewers/publisher.rs"]
mod publisher;
mod support;
#[path = "../benches/viewers/mod.rs"]
mod viewers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lenscast_media::Codec;
use publisher::Publisher;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use support::answer::{Answer, redirected};
use support::heap::Heap;
use support::http::Http;
use support::metrics::Metrics;
use support::relay::Relay;
use support::resources::Resources;
use support::server::{Server, Setup, camera_of};
use support::wait::{BOUND, until, within};
use viewers::{Audience, Received, Watching};

/// Of whatever is left to chance here.
const SEED: u64 = 4;
const CROWD: usize = 200;
const STREAMS: usize = 12;
/// How many of the guests come to publish, watch the edge, and have a bad network; and the share of packets that this loses.
const PUBLISHERS: f64 = 0.12;
const AT_THE_EDGE: f64 = 0.2;
const BADLY_CONNECTED: f64 = 0.15;
const LOSS: f64 = 0.03;
/// Times that all are gone, and the servers are measured. In the first they grow to what such a crowd takes.
const ROUNDS: u32 = 6;
/// What a server may have more than after the first round, in KiB. Pools of bursts and pictures, and tables, keep the size
/// that their busiest moment gave them, which is not the same in all rounds. A round of ten minutes' soak has thousands of
/// guests: a leak of 1 KiB from each is seen.
const KEPT_KIB: i64 = 1_024;
/// The same of blocks: of what each guest leaves, one would be too many.
const KEPT_BLOCKS: i64 = 500;
/// How long a server may take to give back what nobody needs any more.
const REST: Duration = Duration::from_secs(3);
/// After that long without a word from the edge the origin gives its pipes up.
const CONSENT_S: u32 = 6;
const ASLEEP: Duration = Duration::from_secs(9);
/// Between two changes of a stream or of somebody's layers.
const CHANGE_INTERVAL: Duration = Duration::from_millis(250);
/// Between two looks at how many pipes there are.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Of a publisher's packets, in bytes behind their headers.
const PAYLOAD: usize = 500;
/// How long guests stay: between the first and one of the others.
const SHORTEST: Duration = Duration::from_millis(500);
const PUBLISHERS_STAY: Duration = Duration::from_secs(8);
const VIEWERS_STAY: Duration = Duration::from_secs(20);
const FRAME_INTERVAL: Duration = Duration::from_millis(66);
const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A server whose memory is counted.
struct Metered {
    server: Server,
    heap: std::path::PathBuf,
    /// What it has open towards others while nobody is there: its pipes.
    pipes: usize,
}

/// What a server has when all are gone.
#[derive(Clone, Copy)]
struct Size {
    heap: Heap,
    resources: Resources,
}

/// How many there are of each kind, of all workers together.
type Objects = BTreeMap<String, u64>;

/// Somebody who is there for a while.
struct Guest {
    watching: Watching,
    /// Sends instead of being sent to.
    publishes: Option<(Publisher, Instant)>,
    /// Whose guest it is.
    http: Http,
    session: String,
    /// Loses packets on their way.
    network: Option<Relay>,
    leaves: Instant,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    joined: u64,
    at_the_edge: u64,
    badly_connected: u64,
    published: u64,
    held_up: u64,
    relayered: u64,
    asleep: u64,
    lost: u64,
}

struct Party<'a> {
    origin: &'a Server,
    edge: &'a Server,
    audience: Audience,
    random: StdRng,
    guests: Vec<Guest>,
    received: Received,
    counted: Counted,
}

#[test]
#[ignore = "ten minutes: make soak"]
fn a_busy_hour_leaves_the_servers_as_large_as_they_were() {
    let seconds = std::env::var("LENSCAST_SOAK_SECONDS").map_or(600, |text| text.parse().expect("a number of seconds"));
    let [origin, edge] = two_servers();
    let mut party = Party {
        origin: &origin.server,
        edge: &edge.server,
        audience: Audience::new(),
        random: StdRng::seed_from_u64(SEED),
        guests: Vec::new(),
        received: Received::default(),
        counted: Counted::default(),
    };
    println!("seed {SEED}, {seconds} s");
    println!(
        "| round | joined | at the edge | badly connected | published | held up | layers changed | asleep | packets | lost \
         | sent again | server | KiB allocated | blocks | KiB resident | threads | descriptors |"
    );
    println!("|{}", "---|".repeat(17));
    party.end();
    let at_rest = [&origin, &edge].map(|server| server.objects_at_rest(None));
    let mut sizes: Vec<[Size; 2]> = Vec::new();
    for round in 1..=ROUNDS {
        let mirrors = party.go_on_for(Duration::from_secs(seconds) / ROUNDS);
        party.end();
        let first = |index: usize| sizes.first().map(|sizes| sizes[index]);
        let now = [origin.settled(&at_rest[0], first(0)), edge.settled(&at_rest[1], first(1))];
        for (name, size) in ["origin", "edge"].iter().zip(&now) {
            party.print(round, name, size);
        }
        // Pipes within a process come and go with publishers.
        let least = at_rest[0]["mirror"];
        assert!(mirrors > least, "no mirror came in round {round}: {mirrors} at most, {least} at rest");
        sizes.push(now);
    }
    for (count, what) in [
        (party.counted.published, "published"),
        (party.counted.held_up, "was held up"),
        (party.counted.relayered, "changed layers"),
        (party.counted.asleep, "fell asleep"),
        (party.counted.lost, "was lost"),
        (party.received.again.load(Ordering::Relaxed), "was sent again"),
    ] {
        assert!(count > 0, "nothing {what}");
    }
    for (server, name) in [(&origin, "origin"), (&edge, "edge")] {
        server.assert_sound(name);
    }
    for (index, name) in ["origin", "edge"].iter().enumerate() {
        let (first, last) = (sizes[0][index].heap, sizes[ROUNDS as usize - 1][index].heap);
        assert!(last.is_back_to(first), "the {name} grew: {first} at first, {last} now");
    }
}

/// The origin, and the edge that pulls its cameras.
fn two_servers() -> [Metered; 2] {
    let streams: String = (0..STREAMS).map(|number| format!("[[stream]]\nname = \"robot{number}\"\n")).collect();
    let limits = format!(
        "[http]\nchanges_per_minute = 100000\n[webrtc]\nworkers = 2\nconsent_timeout_s = {CONSENT_S}\nconnect_timeout_s = 10\n"
    );
    let cameras = format!("{}layers = 2\n{}", camera_of("vp8"), camera_of("h264"));
    let origin = Metered::start(&format!("{limits}{cameras}{streams}"), 2);
    let pulls =
        ["vp8", "h264"].map(|name| format!("[[pull]]\nname = \"{name}\"\nurl = \"{}\"\n", origin.server.http.base()));
    let edge = Metered::start(&format!("{limits}{}", pulls.concat()), 0);
    [origin, edge]
}

impl Metered {
    /// `pipes` sessions are there for other servers, not for viewers.
    fn start(config: &str, pipes: usize) -> Self {
        let setup = Setup::new(config);
        let heap = setup.path().join("heap");
        let metered = Heap::metered(&heap).into_iter().fold(setup, |setup, (name, value)| setup.env(name, value));
        Self { server: metered.start(), heap, pipes }
    }

    /// What it has once all are gone: the same as `before`.
    fn objects_at_rest(&self, before: Option<&Objects>) -> Objects {
        let mut last = Objects::new();
        let found = within(BOUND, || {
            let metrics = self.server.metrics();
            last = objects_of(&metrics);
            let sessions = metrics.connected() as usize == self.pipes && metrics.pending() == 0.0;
            (sessions && before.is_none_or(|before| *before == last)).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("somebody stays: {last:?} now, {before:?} before"))
    }

    /// Its size once all are gone, and the encoders that they needed. Panics if it has more objects, threads or descriptors
    /// than before.
    fn settled(&self, objects: &Objects, before: Option<Size>) -> Size {
        self.objects_at_rest(Some(objects));
        let resources = match before {
            Some(before) => Resources::back_to(before.resources, self.server.pid()),
            None => Resources::of(self.server.pid()),
        };
        let heap = self.resting_heap(before.map(|before| before.heap));
        Size { heap, resources }
    }

    /// The heap once it is as it was, or, of the first time or if it never is, the least that it was for a while: a camera
    /// gives its encoder back, megabytes, with the first picture that nobody watches.
    fn resting_heap(&self, before: Option<Heap>) -> Heap {
        let mut least = Heap::read(&self.heap);
        within(REST, || {
            let now = Heap::read(&self.heap);
            if now.bytes < least.bytes {
                least = now;
            }
            before.filter(|before| least.is_back_to(*before))
        });
        least
    }

    /// Nothing has gone wrong inside.
    fn assert_sound(&self, name: &str) {
        let log = self.server.log.text();
        let wrong = log.lines().find(|line| line.contains("panicked") || line.contains("ERROR"));
        assert_eq!(wrong, None, "the {name} says so");
        let metrics = self.server.metrics();
        assert_eq!(metrics.sum("lenscast_track_frames_failed_total"), 0.0, "the {name}'s encoders failed");
        let causes: Vec<_> = metrics.series("lenscast_sessions_closed_total").collect();
        println!("{name}: closed {causes:?}");
        const EXPECTED: [&str; 5] =
            ["requested", "peer_closed", "consent_expired", "producer_closed", "connect_timeout"];
        let odd = causes.iter().find(|(labels, _)| !EXPECTED.contains(&labels["cause"].as_str()));
        assert!(odd.is_none(), "sessions of the {name} closed otherwise: {odd:?}");
    }
}

impl Heap {
    /// True if no more is kept than pools and tables may.
    fn is_back_to(self, before: Self) -> bool {
        (self.bytes - before.bytes) / 1_024 <= KEPT_KIB && self.blocks - before.blocks <= KEPT_BLOCKS
    }
}

fn objects_of(metrics: &Metrics) -> Objects {
    let mut objects = Objects::new();
    for (labels, count) in metrics.series("lenscast_worker_objects") {
        *objects.entry(labels["kind"].clone()).or_default() += count as u64;
    }
    objects
}

impl Party<'_> {
    /// Returns how many mirrors the origin had at most.
    fn go_on_for(&mut self, length: Duration) -> u64 {
        let start = Instant::now();
        // Once, and for so long that the origin gives its pipes up.
        let sleep = start + length / 3..start + length / 3 + ASLEEP;
        let (mut asleep, mut mirrors, mut scratch) = (false, 0, Vec::new());
        let (mut change_due, mut look_due) = (start, start);
        while Instant::now() < start + length || asleep {
            if self.guests.len() < CROWD {
                self.invite(asleep);
            }
            let now = Instant::now();
            if now >= change_due {
                change_due = now + CHANGE_INTERVAL;
                self.change_something(asleep);
            }
            if now >= look_due {
                look_due = now + LOOK_INTERVAL;
                mirrors = mirrors.max(objects_of(&self.origin.metrics())["mirror"]);
            }
            if asleep != sleep.contains(&now) {
                self.edge.signal(if asleep { Signal::CONT } else { Signal::STOP });
                asleep = !asleep;
                self.counted.asleep += u64::from(asleep);
            }
            for number in (0..self.guests.len()).rev() {
                self.guests[number].act(now, &self.received, &mut scratch);
                let unreachable = asleep && self.guests[number].is_at(self.edge);
                if now >= self.guests[number].leaves && !unreachable {
                    self.see_off(number);
                }
            }
        }
        mirrors
    }

    /// All leave, and all goes on.
    fn end(&mut self) {
        while !self.guests.is_empty() {
            self.see_off(self.guests.len() - 1);
        }
        for name in names() {
            self.hold_up(&name, false);
        }
        until("the edge to have all it pulls", || {
            let cameras = self.edge.http.get("/api/v1/cameras").json();
            let cameras = cameras["cameras"].as_array().expect("they are listed").clone();
            cameras.iter().all(|camera| camera["live"] == true).then_some(())
        });
    }

    fn invite(&mut self, edge_is_asleep: bool) {
        let publishes = self.random.random_bool(PUBLISHERS);
        let stream = names()[self.random.random_range(0..2 + STREAMS)].clone();
        let at_the_edge = self.random.random_bool(AT_THE_EDGE) && !edge_is_asleep && !publishes;
        let server = if at_the_edge { self.edge } else { self.origin };
        let (path, offer) = match (publishes, stream.as_str()) {
            (true, _) => {
                let path = format!("/whip/robot{}", self.random.random_range(0..STREAMS));
                (path, Publisher::offer(&self.audience))
            }
            (false, "h264") => (format!("/whep/{stream}"), self.audience.offer_of(Codec::H264)),
            (false, _) => (format!("/whep/{stream}"), self.audience.offer_of(Codec::Vp8)),
        };
        let reply = server.http.call("POST", &path, &[SDP], &offer);
        if reply.status != 201 {
            // The stream has a publisher already, or none, or is not there at the edge: all to be expected.
            assert!((400..500).contains(&reply.status) || reply.status == 503, "{path}: {reply:?}");
            return;
        }
        let session = reply.header("location").expect("a session has an address").to_owned();
        let network = self.random.random_bool(BADLY_CONNECTED).then(|| {
            let relay = Relay::to(address_in(&reply.body), self.random.random());
            relay.lose(LOSS);
            relay
        });
        let answer = network.as_ref().map_or(reply.body.clone(), |relay| redirected(&reply.body, relay.address()));
        let now = Instant::now();
        let longest = if publishes { PUBLISHERS_STAY } else { VIEWERS_STAY };
        let leaves = now + self.random.random_range(SHORTEST..longest);
        self.counted.published += u64::from(publishes);
        self.counted.joined += u64::from(!publishes);
        self.counted.at_the_edge += u64::from(at_the_edge);
        self.counted.badly_connected += u64::from(network.is_some());
        self.guests.push(Guest {
            watching: Watching::new(self.audience.viewer(&answer), 0, 1),
            publishes: publishes.then(|| (Publisher::new(), now)),
            http: server.http.clone(),
            session,
            network,
            leaves,
        });
    }

    /// One half says so, the other vanishes, as a browser does whose machine falls asleep.
    fn see_off(&mut self, number: usize) {
        let guest = self.guests.swap_remove(number);
        if self.random.random_bool(0.5) {
            let reply = guest.http.call("DELETE", &guest.session, &[], "");
            // It has ended already if its stream has.
            assert!([200, 404].contains(&reply.status), "{reply:?}");
        }
        if let Some(relay) = guest.network {
            self.counted.lost += relay.counts().1;
            // It waits for its threads.
            std::thread::spawn(move || drop(relay));
        }
    }

    fn change_something(&mut self, edge_is_asleep: bool) {
        if self.random.random_bool(0.4) {
            let name = names()[self.random.random_range(0..2 + STREAMS)].clone();
            let held_up = self.random.random_bool(0.4);
            self.hold_up(&name, held_up);
            self.counted.held_up += u64::from(held_up);
            return;
        }
        if self.guests.is_empty() {
            return;
        }
        let guest = &self.guests[self.random.random_range(0..self.guests.len())];
        if guest.publishes.is_some() || edge_is_asleep && guest.is_at(self.edge) {
            return;
        }
        let layer = format!("{}/layer", guest.session);
        let reply = match self.random.random_bool(0.5) {
            true => guest.http.call("POST", &layer, &[JSON], "{\"encodingId\":\"0\"}"),
            false => guest.http.call("DELETE", &layer, &[], ""),
        };
        assert!([200, 404].contains(&reply.status), "{layer}: {reply:?}");
        self.counted.relayered += u64::from(reply.status == 200);
    }

    fn hold_up(&self, name: &str, held_up: bool) {
        let path = format!("/api/v1/streams/{name}");
        let reply = self.origin.http.call("PUT", &path, &[JSON], &format!("{{\"paused\":{held_up}}}"));
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    fn print(&self, round: u32, name: &str, size: &Size) {
        let Counted { joined, at_the_edge, badly_connected, published, held_up, relayered, asleep, lost } =
            self.counted;
        let Size { heap, resources, .. } = size;
        println!(
            "| {round} | {joined} | {at_the_edge} | {badly_connected} | {published} | {held_up} | {relayered} | {asleep} \
             | {} | {lost} | {} | {name} | {} | {} | {} | {} | {} |",
            self.received.media.load(Ordering::Relaxed),
            self.received.again.load(Ordering::Relaxed),
            heap.bytes / 1_024,
            heap.blocks,
            resources.memory_kib,
            resources.threads,
            resources.descriptors,
        );
    }
}

impl Guest {
    fn is_at(&self, server: &Server) -> bool {
        self.http.base() == server.http.base()
    }

    fn act(&mut self, now: Instant, received: &Received, scratch: &mut Vec<u8>) {
        let Self { watching, publishes, .. } = self;
        if !watching.viewer.is_connected() {
            watching.viewer.drive();
            return;
        }
        watching.take(received);
        watching.speak(now, publishes.is_none(), scratch);
        if let Some((publisher, due)) = publishes
            && now >= *due
        {
            *due = now + FRAME_INTERVAL;
            publisher.send(&watching.viewer, true, true, PAYLOAD);
        }
    }
}

/// The cameras, and the streams that somebody publishes.
fn names() -> [String; 2 + STREAMS] {
    std::array::from_fn(|number| match number {
        0 => "vp8".to_owned(),
        1 => "h264".to_owned(),
        stream => format!("robot{}", stream - 2),
    })
}

/// Where an answer says that the server is.
fn address_in(answer: &str) -> SocketAddr {
    Answer::parse(answer).candidates[0]
}
