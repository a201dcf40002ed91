//! Two viewers of a camera in layers, one behind a thin link: it gets what fits, and the other one what it got before.

mod support;

use std::time::{Duration, Instant};

use lenscast_media::Codec;
use serde_json::Value;
use support::answer::Answer;
use support::client::{Client, Options};
use support::offer::offer;
use support::relay::Relay;
use support::server::{Server, camera_of};
use support::wait::BOUND;

/// What the thin viewer's link carries.
const THIN_KBPS: u64 = 500;

/// A camera of 640 × 480 in layers of 160, 320 and 640.
fn server() -> Server {
    let camera = camera_of("vp8").replace("320", "640").replace("240", "480").replace("15", "30");
    Server::ready(&format!("{camera}layers = 3\nmax_kbps = 2500\n"))
}

fn relay(server: &Server) -> Relay {
    let probe = server.http.call("POST", "/whep/vp8", &[("Content-Type", "application/sdp")], &offer());
    let relay = Relay::to(Answer::parse(&probe.body).candidates[0], 1);
    server.http.call("DELETE", probe.header("location").unwrap(), &[], "");
    relay
}

fn connection(server: &Server, client: &Client) -> Value {
    let secret = client.session.rsplit('/').next().unwrap();
    server.http.get(&format!("/api/v1/sessions/{secret}")).json()["connection"].clone()
}

/// Plays both until `done`, which is asked four times a second.
fn play_until(what: &str, clients: &mut [&mut Client], mut done: impl FnMut(&[&mut Client]) -> bool) {
    let deadline = Instant::now() + BOUND * 2;
    let mut asked = Instant::now();
    loop {
        for client in clients.iter_mut() {
            let _ = client.frame_within(Duration::from_millis(20));
        }
        if asked.elapsed() >= Duration::from_millis(250) {
            asked = Instant::now();
            if done(clients) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}");
        }
    }
}

#[test]
fn a_thin_viewer_gets_a_smaller_layer_and_the_fast_one_keeps_its_own() {
    let server = server();
    let mut fast = Client::play(&server.http, "/whep/vp8", Codec::Vp8);
    let top = |connection: &Value| connection["cameras"][0]["layer"].as_u64() == Some(2);
    play_until("the fast viewer has the largest layer", &mut [&mut fast], |clients| {
        let told = connection(&server, clients[0]);
        told["confirmed"] == true && top(&told) && told["availableOutgoingBitrate"].as_u64() > Some(1_500_000)
    });

    let relay = relay(&server);
    relay.carry(THIN_KBPS);
    let options = Options { via: Some(relay.address()), ..Options::default() };
    let mut thin = Client::play_with(&server.http, "/whep/vp8", Codec::Vp8, &options);
    play_until("the thin viewer's link is known", &mut [&mut fast, &mut thin], |clients| {
        let told = connection(&server, clients[1]);
        let estimate = told["availableOutgoingBitrate"].as_u64().unwrap_or(u64::MAX);
        told["confirmed"] == true && estimate < THIN_KBPS * 1_500
    });
    let end = Instant::now() + Duration::from_secs(5);
    play_until("both play on", &mut [&mut fast, &mut thin], |clients| {
        let (fast, thin) = (connection(&server, clients[0]), connection(&server, clients[1]));
        assert!(top(&fast), "the fast viewer lost its layer: {fast}");
        assert!(fast["cameras"][0]["targetBitrate"].as_u64() > Some(1_000_000), "{fast}");
        println!(
            "thin: {} of {}, layer {}",
            thin["sendBitrate"], thin["availableOutgoingBitrate"], thin["cameras"][0]["layer"]
        );
        Instant::now() > end
    });
    let told = connection(&server, &thin);
    assert!(told["cameras"][0]["layer"].as_u64() < Some(2), "{told}");
    assert_eq!(told["cameras"][0]["held"], false, "{told}");
    let viewers = server.http.get("/api/v1/viewers?thinnest=1").json();
    assert_eq!(viewers["viewerCount"], 2, "{viewers}");
    assert_eq!(viewers["viewers"][0]["connection"]["cameras"][0]["name"], "vp8", "{viewers}");
    let metrics = server.metrics();
    assert_eq!(metrics.series("lenscast_leg_estimate_bits_per_second").count(), 2);
    assert_eq!(metrics.series("lenscast_leg_target_bits_per_second").count(), 2);
    let least = |name: &str| metrics.series(name).map(|(_, value)| value).fold(f64::INFINITY, f64::min);
    assert!(least("lenscast_leg_feedback_received_total") > 20.0, "both tell what has come");
    assert!(least("lenscast_leg_probes_total") >= 1.0, "both were probed");
    for none in ["feedback_malformed", "feedback_refused"] {
        assert_eq!(metrics.sum(&format!("lenscast_leg_{none}_total")), 0.0, "{none}");
    }
}

#[test]
fn an_uplink_bounds_all_viewers_together() {
    let camera = camera_of("vp8").replace("320", "640").replace("240", "480").replace("15", "30");
    let server = Server::ready(&format!("{camera}max_kbps = 2500\n[bandwidth]\nmax_uplink_kbps = 1200\n"));
    let mut clients = [(); 2].map(|()| Client::play(&server.http, "/whep/vp8", Codec::Vp8));
    let [one, other] = &mut clients;
    let limits_of = |clients: &[&mut Client]| {
        let told = [connection(&server, clients[0]), connection(&server, clients[1])];
        let limits: Vec<u64> = told.iter().filter_map(|told| told["uplinkLimit"].as_u64()).collect();
        assert!(limits.iter().sum::<u64>() <= 1_200_000 || limits.len() < 2, "{told:?}");
        limits
    };
    let end = Instant::now() + Duration::from_secs(3);
    play_until("both play", &mut [one, other], |clients| Instant::now() > end && limits_of(clients).len() == 2);
    // Not only is it said, it is kept.
    let (from, before) = (Instant::now(), one.wire_bytes + other.wire_bytes);
    let end = from + Duration::from_secs(5);
    play_until("both play on", &mut [one, other], |clients| Instant::now() > end && limits_of(clients).len() == 2);
    let kbps = (one.wire_bytes + other.wire_bytes - before) as f64 * 8.0 / 1e3 / from.elapsed().as_secs_f64();
    println!("{kbps:.0} kb/s came");
    assert!((400.0..=1_200.0 * 1.1).contains(&kbps), "{kbps} kb/s came over an uplink of 1,200");
    let target = server.metrics().value("lenscast_track_target_bits_per_second", &[("camera", "vp8")]).unwrap();
    assert!(target <= 600_000.0, "{target}");
}

#[test]
fn a_viewer_who_tells_nothing_comes_off_the_uplink_first() {
    let camera = camera_of("vp8").replace("320", "640").replace("240", "480").replace("15", "30");
    let keys = "max_kbps = 600\n[bandwidth]\nmax_uplink_kbps = 1500\n";
    let server = Server::ready(&format!("{camera}{keys}"));
    let silent = |offer: String| {
        let is_told = |line: &&str| line.contains("transport-cc") || line.contains("transport-wide-cc");
        offer.lines().filter(|line| !is_told(line)).flat_map(|line| [line, "\r\n"]).collect()
    };
    let options = Options { offer: Some(&silent), ..Options::default() };
    let mut mute = Client::play_with(&server.http, "/whep/vp8", Codec::Vp8, &options);
    let mut other = Client::play(&server.http, "/whep/vp8", Codec::Vp8);
    let limit = |client: &Client| connection(&server, client)["uplinkLimit"].as_u64();
    play_until("the silent viewer is reckoned with", &mut [&mut mute, &mut other], |clients| {
        assert_eq!(limit(clients[0]), None, "who cannot be limited is not");
        limit(clients[1]).is_some_and(|limit| (800_000..=1_200_000).contains(&limit))
    });
}
