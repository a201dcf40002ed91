//! `make soak`: two workers, two hundred viewers that come and go, publishers too, loss, pauses; in the end the server is as
//! large as it was.
//!
//! Whoever publishes makes and breaks pipes: its stream is piped to the other worker, where viewers are, and ends there
//! with it. `LENSCAST_SOAK_SECONDS` says how long, 600 by default.

mod support;
#[path = "../benches/viewers/mod.rs"]
mod viewers;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lenscast_media::{Codec, Ssrc};
use lenscast_router::PacketLayout;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::http::Http;
use support::resources::Resources;
use support::server::{Server, camera_of};
use viewers::{Audience, Shared, Viewer, Watching};

const CROWD: usize = 200;
/// Times that all are gone, and the server is measured. Before the second it grows to what such a crowd takes.
const ROUNDS: u32 = 6;
/// What an allocator may keep of what it was given back, in KiB: a twentieth of what the crowd takes. The rounds have
/// some thousand viewers, of which each that leaked would cost 20 KiB.
const KEPT_KIB: u64 = 4_000;
const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// Somebody who is there for a while.
struct Guest {
    watching: Watching,
    /// Sends instead of being sent to.
    publisher: Option<Publisher>,
    session: String,
    leaves: Instant,
}

/// Sends key frames of VP8 with nothing behind their headers, fifteen a second.
struct Publisher {
    sent: u64,
    due: Instant,
}

const FRAME_INTERVAL: Duration = Duration::from_millis(66);

struct Party {
    http: Http,
    audience: Audience,
    random: StdRng,
    guests: Vec<Guest>,
    shared: Shared,
    joined: u64,
    published: u64,
    pauses: u64,
}

#[test]
#[ignore = "ten minutes: make soak"]
fn a_changing_crowd_leaves_the_server_as_large_as_it_was() {
    let seconds = std::env::var("LENSCAST_SOAK_SECONDS").map_or(600, |text| text.parse().expect("a number of seconds"));
    let streams: String = (0..2).map(|number| format!("[[stream]]\nname = \"robot{number}\"\n")).collect();
    let server = Server::ready(&format!(
        "[http]\nchanges_per_minute = 100000\n[webrtc]\nworkers = 2\nconsent_timeout_s = 6\n{}{}{streams}",
        camera_of("vp8"),
        camera_of("h264")
    ));
    let mut party = Party {
        http: server.http.clone(),
        audience: Audience::new(),
        random: StdRng::seed_from_u64(4),
        guests: Vec::new(),
        shared: Shared::default(),
        joined: 0,
        published: 0,
        pauses: 0,
    };
    let mut measured = Vec::new();
    println!("| round | joined | published | pauses | packets | sent again | threads | descriptors | KiB |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for round in 1..=ROUNDS {
        party.go_on_for(Duration::from_secs(seconds) / ROUNDS);
        party.end();
        server.metrics_until("all to be gone", |metrics| {
            (metrics.connected() == 0.0 && metrics.pending() == 0.0).then_some(())
        });
        let now = match measured.get(1) {
            Some(second) => Resources::back_to(*second, server.pid()),
            None => Resources::of(server.pid()),
        };
        println!(
            "| {round} | {} | {} | {} | {} | {} | {} | {} | {} |",
            party.joined,
            party.published,
            party.pauses,
            party.shared.received.load(Ordering::Relaxed),
            party.shared.repaired.load(Ordering::Relaxed),
            now.threads,
            now.descriptors,
            now.memory_kib
        );
        measured.push(now);
    }
    let (second, last) = (measured[1], measured[ROUNDS as usize - 1]);
    assert!(party.joined > 0 && party.published > 0 && party.pauses > 0, "nothing happened");
    assert!(party.shared.repaired.load(Ordering::Relaxed) > 0, "nothing was sent again");
    assert!(last.memory_kib <= second.memory_kib + KEPT_KIB, "it grew: {second} after the second round, {last} now");
}

impl Party {
    fn go_on_for(&mut self, length: Duration) {
        let (end, mut pause_due, mut scratch) = (Instant::now() + length, Instant::now(), Vec::new());
        while Instant::now() < end {
            if self.guests.len() < CROWD {
                self.invite();
            }
            let now = Instant::now();
            if now >= pause_due {
                pause_due = now + Duration::from_millis(700);
                self.pause();
            }
            for number in (0..self.guests.len()).rev() {
                self.guests[number].act(now, &self.shared, &mut scratch);
                if now >= self.guests[number].leaves {
                    self.see_off(number);
                }
            }
        }
    }

    /// All leave.
    fn end(&mut self) {
        while !self.guests.is_empty() {
            self.see_off(self.guests.len() - 1);
        }
        for name in ["vp8", "h264"] {
            self.weigh(name, 1);
        }
    }

    fn invite(&mut self) {
        let publishes = self.random.random_bool(0.03);
        let stream = ["vp8", "h264", "robot0", "robot1"][self.random.random_range(0..4)];
        let (path, offer) = match (publishes, stream) {
            (true, _) => {
                let offer = self.audience.offer_of(Codec::Vp8);
                let ours = "a=sendonly\r\na=msid:stream track\r\na=ssrc:4711 cname:robot";
                (format!("/whip/robot{}", self.joined % 2), offer.replace("a=recvonly", ours))
            }
            (false, "h264") => ("/whep/h264".to_owned(), self.audience.offer_of(Codec::H264)),
            (false, name) => (format!("/whep/{name}"), self.audience.offer_of(Codec::Vp8)),
        };
        let reply = self.http.call("POST", &path, &[SDP], &offer);
        if reply.status != 201 {
            // The stream has a publisher already, or none: both are to be expected.
            assert!((400..600).contains(&reply.status), "{path}: {reply:?}");
            return;
        }
        let session = reply.header("location").expect("a session has an address").to_owned();
        let now = Instant::now();
        let leaves = now + Duration::from_millis(self.random.random_range(500..20_000));
        let watching = Watching::new(self.audience.viewer(&reply.body));
        self.published += u64::from(publishes);
        self.joined += u64::from(!publishes);
        let publisher = publishes.then_some(Publisher { sent: 0, due: now });
        self.guests.push(Guest { watching, publisher, session, leaves });
    }

    /// One half says so, the other vanishes, as a browser does whose machine falls asleep.
    fn see_off(&mut self, number: usize) {
        let guest = self.guests.swap_remove(number);
        if self.random.random_bool(0.5) {
            let _ = self.http.call("DELETE", &guest.session, &[], "");
        }
    }

    /// Holds a camera up, or lets it go on.
    fn pause(&mut self) {
        let name = ["vp8", "h264"][self.random.random_range(0..2)];
        let weight = self.random.random_range(0..2);
        let done = self.weigh(name, weight);
        self.pauses += u64::from(weight == 0 && done);
    }

    /// False if it must not be: one camera keeps its weight.
    fn weigh(&self, name: &str, weight: u32) -> bool {
        let body = format!("{{\"cameras\":{{\"{name}\":{{\"weight\":{weight}}}}}}}");
        let reply = self.http.call("PUT", "/api/v1/allocation", &[("Content-Type", "application/json")], &body);
        assert!([200, 422].contains(&reply.status), "{reply:?}");
        reply.status == 200
    }
}

impl Guest {
    fn act(&mut self, now: Instant, shared: &Shared, scratch: &mut Vec<u8>) {
        let Self { watching, publisher, .. } = self;
        if !watching.viewer.is_connected() {
            watching.viewer.drive();
            return;
        }
        watching.take(shared);
        watching.speak(now, publisher.is_none(), scratch);
        if let Some(publisher) = publisher
            && now >= publisher.due
        {
            publisher.due = now + FRAME_INTERVAL;
            publisher.send(&watching.viewer, scratch);
        }
    }
}

impl Publisher {
    fn send(&mut self, viewer: &Viewer, packet: &mut Vec<u8>) {
        let source = Ssrc(4_711);
        packet.clear();
        // One packet a frame: the marker is set, and the payload type is the offer's.
        packet.extend_from_slice(&[0x80, 0x80 | 96]);
        packet.extend_from_slice(&(self.sent as u16).to_be_bytes());
        packet.extend_from_slice(&(self.sent as u32 * 5_940).to_be_bytes());
        packet.extend_from_slice(&source.0.to_be_bytes());
        // A descriptor (RFC 7741 §4.2) that says that a frame begins, and the head of a key frame of 320x240 (RFC 6386 §9.1).
        packet.extend_from_slice(&[0x10, 0x10, 2, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0]);
        packet.extend_from_slice(&[0; 500]);
        viewer.send_rtp(packet, &PacketLayout { header_len: 12, ssrc: source, index: self.sent });
        self.sent += 1;
    }
}
