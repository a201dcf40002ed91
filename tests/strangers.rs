//! What strangers send to the UDP port while a viewer plays: garbage of every protocol there, truncated and mutated copies
//! of real packets, replays, floods. Each is dropped and counted by its reason, memory stays flat, and the viewer loses
//! nothing. All of it is made from a seed, and bounded in number.

mod support;

use std::net::{SocketAddr, UdpSocket};

use lenscast_media::Codec;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng};
use support::answer::Answer;
use support::client::{Client, Options};
use support::metrics::Metrics;
use support::relay::{Recorded, Relay};
use support::resources::Resources;
use support::server::{CAMERA, Server};

/// A viewer that plays through a relay, so that its packets can be recorded, and others sent in its name.
struct Scene {
    server: Server,
    relay: Relay,
    client: Client,
    stranger: UdpSocket,
    address: SocketAddr,
    random: StdRng,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let server = Server::ready(CAMERA);
        let probe =
            server.http.call("POST", "/whep/front", &[("Content-Type", "application/sdp")], &support::offer::offer());
        let address = Answer::parse(&probe.body).candidates[0];
        assert_eq!(server.http.call("DELETE", probe.header("location").unwrap(), &[], "").status, 200);
        let relay = Relay::to(address, seed);
        relay.record();
        let options = Options { via: Some(relay.address()), ..Options::default() };
        let mut client = Client::play_with(&server.http, "/whep/front", Codec::Vp8, &options);
        client.frame();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        Self { server, relay, client, stranger, address, random: StdRng::seed_from_u64(seed) }
    }

    /// Datagrams that the viewer has sent, with this first byte.
    fn sent_by_viewer(&mut self, first: std::ops::RangeInclusive<u8>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        // Receiver reports and checks come a few a second; whatever has been recorded before is among them too.
        while found.len() < 3 {
            self.client.frame();
            let recorded: Vec<Recorded> = self.relay.recorded();
            let fitting = recorded.into_iter().filter(|datagram| !datagram.from_server);
            found.extend(fitting.map(|datagram| datagram.bytes).filter(|bytes| first.contains(&bytes[0])));
        }
        found
    }

    fn send(&self, datagram: &[u8]) {
        self.stranger.send_to(datagram, self.address).expect("the loopback takes everything");
    }

    /// Waits until the server has dropped exactly `count` datagrams more than `before` for this reason.
    fn dropped(&self, before: &Metrics, reason: &str, count: usize) {
        let expected = before.dropped(reason) + count as f64;
        let seen =
            self.server.metrics_until(reason, |metrics| Some(metrics.dropped(reason)).filter(|seen| *seen >= expected));
        assert_eq!(seen, expected, "{reason}");
    }

    /// The viewer has lost nothing, and goes on.
    fn viewer_is_well(&mut self) {
        for _ in 0..10 {
            self.client.frame();
        }
        let received = self.client.received();
        assert_eq!((received.repaired, received.held_back()), (0, 0), "nothing had to be repaired");
        let metrics = self.server.metrics();
        assert_eq!(metrics.connected(), 1.0);
        assert_eq!(metrics.sum("lenscast_viewer_frames_dropped_total"), 0.0);
        assert!(!self.server.log.text().contains("panicked"), "{}", self.server.log.text());
    }

    fn garbage(&mut self, first: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.random.fill_bytes(&mut bytes);
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        bytes
    }
}

/// Each burst is this long at most, so that no socket buffer can be blamed for what is missing.
const BURST: usize = 50;

#[test]
fn each_kind_of_garbage_is_dropped_and_counted_by_its_reason() {
    let mut scene = Scene::new(1);
    // From an address that nobody has proved: only STUN is looked at.
    let before = scene.server.metrics();
    for number in 0..BURST {
        let first = [0x80, 0x90, 0x16, 0x14, 0xC8, 0x40, 0xFF, 0x7F][number % 8];
        let len = 1 + number * 25;
        let bytes = scene.garbage(first, len);
        scene.send(&bytes);
    }
    scene.dropped(&before, "unknown_address", BURST);

    let before = scene.server.metrics();
    for number in 0..BURST {
        let bytes = scene.garbage((number % 4) as u8, 1 + number * 13);
        scene.send(&bytes);
    }
    scene.dropped(&before, "stun_malformed", BURST);
    scene.viewer_is_well();
}

#[test]
fn connectivity_checks_of_strangers_are_dropped_and_counted_by_their_reason() {
    let mut scene = Scene::new(2);
    let checks = scene.sent_by_viewer(0..=1);
    let check = checks.into_iter().find(|bytes| bytes[..2] == [0, 1]).expect("a viewer sends binding requests");

    // The user fragment is known, the integrity is not: any bit behind the message's header makes it wrong.
    let before = scene.server.metrics();
    let mut forged = 0;
    for byte in (check.len() - 32..check.len() - 8).rev().take(BURST) {
        let mut forgery = check.clone();
        forgery[byte] ^= 1 << scene.random.random_range(0..8);
        scene.send(&forgery);
        forged += 1;
    }
    let counted = |metrics: &Metrics| metrics.dropped("stun_not_authentic") + metrics.dropped("stun_malformed");
    let expected = counted(&before) + f64::from(forged);
    scene.server.metrics_until("the forgeries", |metrics| (counted(metrics) == expected).then_some(()));
    assert!(scene.server.metrics().dropped("stun_not_authentic") >= before.dropped("stun_not_authentic") + 15.0);

    // A user fragment that nobody has.
    let before = scene.server.metrics();
    let ufrag = Answer::parse(&scene.client.answer).ufrag;
    let at = check.windows(ufrag.len()).position(|window| window == ufrag.as_bytes()).expect("the check names it");
    for _ in 0..BURST {
        let mut stranger = check.clone();
        for byte in &mut stranger[at..at + ufrag.len()] {
            *byte = b"abcdefgh"[scene.random.random_range(0..8)];
        }
        scene.send(&stranger);
    }
    scene.dropped(&before, "stun_unknown_user", BURST);

    // Truncated anywhere.
    let before = scene.server.metrics();
    for len in 1..check.len().min(BURST) {
        scene.send(&check[..len]);
    }
    scene.dropped(&before, "stun_malformed", check.len().min(BURST) - 1);
    scene.viewer_is_well();
}

#[test]
fn packets_in_the_viewers_name_are_dropped_and_counted_by_their_reason() {
    let mut scene = Scene::new(3);
    let reports = scene.sent_by_viewer(128..=191);
    let report = reports.into_iter().find(|bytes| (192..=223).contains(&bytes[1])).expect("a viewer sends reports");

    let before = scene.server.metrics();
    for number in 0..BURST {
        let mut forgery = report.clone();
        let byte = scene.random.random_range(2..forgery.len());
        forgery[byte] ^= 1 << (number % 8);
        scene.relay.inject(&forgery);
    }
    scene.dropped(&before, "srtcp_refused", BURST);

    let before = scene.server.metrics();
    for _ in 0..BURST {
        scene.relay.inject(&report);
    }
    scene.dropped(&before, "srtcp_refused", BURST);

    let before = scene.server.metrics();
    for len in 2..BURST.min(report.len()) {
        scene.relay.inject(&report[..len]);
    }
    scene.dropped(&before, "srtcp_refused", BURST.min(report.len()) - 2);

    let before = scene.server.metrics();
    for number in 0..BURST {
        let mut packet = scene.garbage(0x80, 12 + number * 20);
        packet[1] = 96;
        scene.relay.inject(&packet);
    }
    scene.dropped(&before, "rtp_unexpected", BURST);

    let before = scene.server.metrics();
    for number in 0..BURST {
        let first = [4, 19, 64, 127, 192, 255][number % 6];
        let bytes = scene.garbage(first, 1 + number);
        scene.relay.inject(&bytes);
    }
    scene.dropped(&before, "unknown_protocol", BURST);
    scene.viewer_is_well();
}

#[test]
fn dtls_garbage_in_the_viewers_name_does_not_end_its_session() {
    let mut scene = Scene::new(4);
    let mut handshake: Vec<Vec<u8>> =
        scene.sent_by_viewer(20..=63).into_iter().filter(|bytes| bytes.len() > 13).collect();
    handshake.sort();
    // Before the garbage too: it could use up what is looked at.
    alerts_in_the_clear(&scene, 9);
    scene.client.frame();
    for number in 0..4 * BURST {
        let mut record = handshake.choose(&mut scene.random).expect("there was a handshake").clone();
        match number % 4 {
            // A record of the handshake over again, cut off, changed, or made up.
            0 => {}
            1 => record.truncate(scene.random.random_range(1..record.len())),
            2 => {
                let byte = scene.random.random_range(0..record.len());
                record[byte] = record[byte].wrapping_add(scene.random.random_range(1..=255));
                record[0] = record[0].clamp(20, 63);
            }
            _ => {
                let kind = [20, 21, 22, 23, 24, 25][number % 6];
                let len = scene.random.random_range(1..1_400);
                record = scene.garbage(kind, len);
            }
        }
        scene.relay.inject(&record);
        if number % BURST == 0 {
            scene.client.frame();
        }
    }
    alerts_in_the_clear(&scene, 2_009);
    scene.viewer_is_well();
}

/// Alerts as anybody could write them: close_notify, and a fatal one.
fn alerts_in_the_clear(scene: &Scene, number: u16) {
    for (number, alert) in (number..).zip([[1, 0], [2, 40]]) {
        let mut record = vec![21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0];
        record.extend(number.to_be_bytes());
        record.extend([0, 2]);
        record.extend(alert);
        scene.relay.inject(&record);
    }
}

#[test]
fn a_flood_leaves_memory_flat_and_the_viewer_in_peace() {
    const FLOOD: usize = 60_000;
    const SOURCES: usize = 50;
    let mut scene = Scene::new(5);
    let sockets: Vec<UdpSocket> = (0..SOURCES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let checks = scene.sent_by_viewer(0..=1);
    let flood = |scene: &mut Scene, count: usize| {
        for number in 0..count {
            let kind = [0, 1, 20, 22, 128, 128, 200, 255][number % 8];
            let mut bytes = scene.garbage(kind, 1 + number % 1_400);
            if number % 8 == 1 {
                // Looks like a check, with a user fragment of its own each time.
                bytes.clone_from(&checks[0]);
                let name = number.to_be_bytes();
                bytes[28..36].copy_from_slice(&name.map(|byte| b'a' + byte % 26));
            }
            // The loopback's buffer may be full: then the kernel drops it, which is all the same here.
            let _ = sockets[number % SOURCES].send_to(&bytes, scene.address);
            if number % 2_000 == 0 {
                scene.client.frame();
            }
        }
    };
    flood(&mut scene, FLOOD / 4);
    let before = Resources::of(scene.server.pid());
    flood(&mut scene, FLOOD);
    let metrics = scene.server.metrics();
    let dropped: f64 = metrics.sum("lenscast_udp_dropped_total");
    let after = Resources::back_to(before, scene.server.pid());
    println!(
        "{dropped} of {} datagrams reached the server and were dropped; before {before}; after {after}",
        FLOOD + FLOOD / 4
    );
    assert!(dropped > FLOOD as f64 / 10.0, "the flood must reach the server: {dropped}");
    assert!(after.memory_kib < before.memory_kib + 1_024, "before {before}, after {after}");
    scene.viewer_is_well();
}
