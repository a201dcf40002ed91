//! Viewers that come and go, politely or not, and others that never come: nothing of them remains.

mod support;

use lenscast_media::Codec;
use support::answer::Answer;
use support::client::{Client, Options};
use support::offer::offer;
use support::relay::Relay;
use support::resources::Resources;
use support::server::{CAMERA, Server};

const VIEWERS: usize = 100;
/// How many are there at once.
const TOGETHER: usize = 10;
/// What an allocator may keep of what it was given back, in KiB. A hundred sessions that leaked would hold several
/// times this: DTLS alone takes some 60 KiB of each.
const KEPT_KIB: u64 = 1_000;

/// `limits` are further keys of `[webrtc]`.
fn server(limits: &str) -> Server {
    // Requests come from one address: the limit is not what is tested here.
    let keys = format!("[http]\nchanges_per_minute = 100000\n[webrtc]\nconsent_timeout_s = 2\n{limits}");
    Server::ready(&format!("{keys}{CAMERA}"))
}

fn udp_address(server: &Server) -> std::net::SocketAddr {
    let probe = server.http.call("POST", "/whep/front", &[("Content-Type", "application/sdp")], &offer());
    let address = Answer::parse(&probe.body).candidates[0];
    assert_eq!(server.http.call("DELETE", probe.header("location").unwrap(), &[], "").status, 200);
    address
}

/// Lets `count` viewers come, see a frame and leave; every second one vanishes.
fn come_and_go(server: &Server, count: usize) {
    let address = udp_address(server);
    for first in (0..count).step_by(TOGETHER) {
        let mut present: Vec<(Client, Relay)> = (first..count.min(first + TOGETHER))
            .map(|number| {
                let relay = Relay::to(address, number as u64);
                let options = Options { via: Some(relay.address()), ..Options::default() };
                (Client::play_with(&server.http, "/whep/front", Codec::Vp8, &options), relay)
            })
            .collect();
        for (client, _) in &mut present {
            client.frame();
        }
        for (number, (client, relay)) in present.into_iter().enumerate() {
            match number % 4 {
                0 => assert_eq!(client.delete().status, 200),
                2 => client.close(),
                _ => relay.cut(),
            }
        }
    }
}

/// Waits until nobody is there any more, and the camera has noticed.
fn settle(server: &Server) -> Resources {
    server.metrics_until("all to be gone", |metrics| {
        (metrics.connected() == 0.0 && metrics.pending() == 0.0 && metrics.names_with("session").is_empty())
            .then_some(())
    });
    let unwanted = server.metrics().sum("lenscast_track_frames_unwanted_total");
    server.metrics_until("the camera to rest", |metrics| {
        (metrics.sum("lenscast_track_frames_unwanted_total") > unwanted).then_some(())
    });
    Resources::of(server.pid())
}

/// Waits until the process holds no more than `before` once all are gone.
fn assert_back(server: &Server, before: Resources, what: &str) {
    settle(server);
    let after = Resources::back_to(before, server.pid());
    println!("before: {before}; after {what}: {after}");
    assert!(after.memory_kib <= before.memory_kib + KEPT_KIB, "memory after {what}: {before} before, {after} after");
}

#[test]
fn viewers_that_join_and_leave_in_turn_half_by_vanishing_leave_nothing_behind() {
    let server = server("");
    // Buffers and pools grow to what such a crowd needs, once. The second encoder leaves some 3 MiB more than
    // the first, and those after it do not: probably the allocator's threshold (mallopt(3), M_MMAP_THRESHOLD) at work.
    come_and_go(&server, 2 * TOGETHER);
    settle(&server);
    // As many as are measured below: what they leave behind once is no leak, what each such crowd leaves again is.
    come_and_go(&server, VIEWERS);
    let before = settle(&server);
    come_and_go(&server, VIEWERS);
    assert_back(&server, before, "100 viewers");
    let metrics = server.metrics();
    let all = 2 * VIEWERS + 2 * TOGETHER;
    let (requested, closed, vanished) =
        (metrics.closed("requested"), metrics.closed("peer_closed"), metrics.closed("consent_expired"));
    println!("{requested} ended by DELETE, {closed} by DTLS, {vanished} by silence");
    assert_eq!(vanished, (all / 2) as f64, "half of them vanished");
    // Three more were asked for by the tests themselves, to learn the address.
    assert_eq!(requested + closed + vanished, (all + 3) as f64);
}

#[test]
fn garbage_offers_leave_nothing_behind() {
    let server = server("");
    let garbage = |count: usize| {
        for number in 0..count {
            let valid = offer();
            let body = match number % 4 {
                0 => "v=0\r\n".repeat(number + 1),
                1 => valid[..valid.len() * (number % 50) / 200].to_owned(),
                2 => valid + &"a=garbage\r\n".repeat(5_000 + number) + "garbage\r\n",
                _ => "\u{FFFD}".repeat(20_000),
            };
            let reply = server.http.call("POST", "/whep/front", &[("Content-Type", "application/sdp")], &body);
            assert!((400..500).contains(&reply.status), "{reply:?}");
        }
    };
    garbage(50);
    let before = settle(&server);
    garbage(100);
    assert_back(&server, before, "100 garbage offers");
    assert_eq!(server.metrics().closed("connect_timeout"), 0.0, "none became a session");
}

#[test]
fn sessions_that_are_never_connected_leave_nothing_behind() {
    let server = server("connect_timeout_s = 1\n");
    let never_come = |count: usize| {
        for _ in 0..count {
            let reply = server.http.call("POST", "/whep/front", &[("Content-Type", "application/sdp")], &offer());
            assert_eq!(reply.status, 201, "{reply:?}");
        }
    };
    never_come(100);
    let before = settle(&server);
    never_come(100);
    assert_back(&server, before, "100 sessions that were never connected");
    assert_eq!(server.metrics().closed("connect_timeout"), 200.0);
}

#[test]
fn viewers_that_stop_half_way_leave_nothing_behind() {
    // ICE works and DTLS never ends: the network lets pass only what is no DTLS.
    let server = server("connect_timeout_s = 1\n");
    let address = udp_address(&server);
    let stop_half_way = |count: usize| {
        let half_way: Vec<_> = (0..count)
            .map(|number| {
                let relay = Relay::to(address, number as u64);
                relay.hold_back_dtls();
                let options = Options { via: Some(relay.address()), ..Options::default() };
                (Client::play_with(&server.http, "/whep/front", Codec::Vp8, &options), relay)
            })
            .collect();
        drop(half_way);
    };
    stop_half_way(10);
    let before = settle(&server);
    stop_half_way(30);
    assert_back(&server, before, "30 viewers that stopped half way");
    assert_eq!(server.metrics().closed("connect_timeout"), 40.0);
}
