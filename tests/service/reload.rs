use lenscast_media::Codec;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::http::{Http, Reply};
use crate::support::offer::publisher_offer;
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::until;

fn two_cameras(back: &str) -> String {
    format!("{CAMERA}[[camera]]\nname = \"back\"\npattern = true\nwidth = 320\nheight = 240\nfps = 15\n{back}\n")
}

fn reload(server: &Server, config: &str) {
    std::fs::write(server.path("lenscast.toml"), config).unwrap();
    server.signal(Signal::HUP);
}

/// The names of the cameras that there are.
fn cameras(server: &Server) -> Vec<String> {
    let listed = server.http.get("/api/v1/cameras").json();
    let cameras = listed["cameras"].as_array().expect("there is a list").clone();
    cameras.iter().map(|camera| camera["name"].as_str().expect("each has a name").to_owned()).collect()
}

#[test]
fn unchanged_cameras_keep_their_viewers_and_changed_ones_restart() {
    let server = Server::ready(&two_cameras("codec = \"vp8\"\nmax_kbps = 200"));
    let mut front = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    let (first, _) = (front.frame(), back.frame());

    reload(&server, &two_cameras("temporal_layers = 2\nmax_kbps = 300"));
    server.log.line_with("the new configuration is in effect");
    assert_eq!(server.http.get(&back.session).status, 404, "the changed camera's session has ended");
    assert_eq!(server.http.get(&front.session).status, 204);
    server.metrics_until("the cause", |metrics| (metrics.closed("producer_closed") == 1.0).then_some(()));
    // Frames come in order and without a gap, or not at all: the stream goes on where it was.
    let later = (0..15).map(|_| front.frame()).last().unwrap();
    assert!(later.first > first.first && !later.key_frame);
    assert_eq!(server.metrics().value("lenscast_track_encoders_built_total", &[("camera", "front")]), Some(1.0));

    server.wait_ready();
    let mut again = Client::play(&server.http, "/whep/back", Codec::Vp8);
    again.frame();
    let target = server.metrics().value("lenscast_track_target_bits_per_second", &[("camera", "back")]);
    assert_eq!(target, Some(300_000.0));
}

#[test]
fn what_is_held_up_stays_so_when_the_file_starts_it_anew() {
    let server = Server::ready(&two_cameras("max_kbps = 200"));
    let headers = [("Content-Type", "application/json")];
    let reply = server.http.call("PUT", "/api/v1/streams/back", &headers, "{\"paused\": true}");
    assert_eq!(reply.status, 200, "{reply:?}");
    reload(&server, &two_cameras("temporal_layers = 2"));
    server.log.line_with("the new configuration is in effect");
    let paused = |name: &str| server.http.get(&format!("/api/v1/cameras/{name}")).json()["paused"].clone();
    assert_eq!((paused("front"), paused("back")), (json!(false), json!(true)));
}

#[test]
fn cameras_come_and_go_with_the_file() {
    let server = Server::ready(CAMERA);
    reload(&server, &two_cameras(""));
    until("the new camera", || (cameras(&server) == ["front", "back"]).then_some(()));
    server.wait_ready();
    reload(&server, CAMERA);
    until("the camera to go", || (cameras(&server) == ["front"]).then_some(()));
    assert_eq!(server.http.get("/whep/back").status, 404);
    assert!(server.metrics().names_with("camera").len() > 5);
    assert_eq!(server.metrics().value("lenscast_camera_live", &[("camera", "back")]), None);
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_every_viewer() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    for (number, bad) in ["nonsense", "[[camera]]\nname = \"front\"\n", "[http]\nport = 1\n"].into_iter().enumerate() {
        reload(&server, bad);
        until("the refusal", || {
            (server.log.text().matches("the new configuration is refused").count() == number + 1).then_some(())
        });
        assert_eq!(cameras(&server), ["front"]);
        client.frame();
    }
    std::fs::remove_file(server.path("lenscast.toml")).unwrap();
    server.signal(Signal::HUP);
    until("the refusal", || (server.log.text().matches("the new configuration is refused").count() == 4).then_some(()));
    client.frame();
    let log = server.log.text();
    assert!(log.contains("unknown field `port`") && log.contains("cannot read"), "each says why: {log}");
}

#[test]
fn what_cannot_change_without_a_restart_is_said() {
    let server = Setup::new(CAMERA).ready();
    reload(&server, &format!("[http]\nchanges_per_minute = 5\n{CAMERA}"));
    let line = server.log.line_with("take effect with the next start");
    assert!(line.contains("http"), "{line}");
    // What runs is still the old section: that it differs is said each time.
    server.signal(Signal::HUP);
    let said = || server.log.text().matches("take effect with the next start").count();
    until("the second warning", || (said() == 2).then_some(()));
    for _ in 0..6 {
        assert_eq!(server.http.call("DELETE", "/whep/front/none", &[], "").status, 404, "the old limit is in force");
    }
}

/// Reloads, and waits until that is through.
fn reloaded(server: &Server, config: &str) {
    let through = || server.log.text().matches("the new configuration is in effect").count();
    let before = through();
    reload(server, config);
    until("the reload", || (through() > before).then_some(()));
}

fn allocation(http: &Http) -> Value {
    let reply = http.get("/api/v1/allocation");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn change(http: &Http, body: &str) {
    let reply = http.call("PUT", "/api/v1/allocation", &[("Content-Type", "application/json")], body);
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Weight, minimum and maximum of a camera.
fn claim(http: &Http, name: &str) -> Value {
    let told = allocation(http);
    let cameras = told["cameras"].as_array().expect("there is a list");
    let camera =
        cameras.iter().find(|camera| camera["name"] == name).unwrap_or_else(|| panic!("{name} is not in {told}"));
    json!([camera["weight"], camera["minKbps"], camera["maxKbps"]])
}

/// How often a camera's encoder was built.
fn encoders_built(server: &Server, camera: &str) -> Option<f64> {
    server.metrics().value("lenscast_track_encoders_built_total", &[("camera", camera)])
}

#[test]
fn a_camera_whose_share_alone_changed_is_not_restarted() {
    let server = Server::ready(&two_cameras(""));
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    let first = back.frame();
    reloaded(&server, &two_cameras("weight = 3\nmin_kbps = 60\nmax_kbps = 400\nenforce_min = true"));
    assert_eq!(claim(&server.http, "back"), json!([3, 60, 400]));
    assert_eq!(server.http.get(&back.session).status, 204, "its viewer is still there");
    let later = (0..15).map(|_| back.frame()).last().unwrap();
    assert!(later.first > first.first && !later.key_frame, "and its stream goes on where it was");
    assert_eq!(encoders_built(&server, "back"), Some(1.0));
    let line = server.log.line_with("a share of the bandwidth has changed");
    for part in
        ["the configuration", "back", "weight 1 -> 3, minKbps 30 -> 60, maxKbps 600 -> 400, enforceMin false -> true"]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!server.log.text().contains("ended by the new configuration"));
    reloaded(&server, &two_cameras(""));
    assert_eq!(claim(&server.http, "back"), json!([1, 30, 600]), "what is taken out is the default again");
}

#[test]
fn what_was_changed_while_it_ran_survives_a_reload() {
    let server = Server::ready(&two_cameras("weight = 2"));
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    back.frame();
    change(&server.http, r#"{"totalKbps":900,"cameras":{"front":{"maxKbps":500},"back":{"weight":5,"minKbps":70}}}"#);
    reloaded(&server, &two_cameras("weight = 2"));
    assert_eq!((claim(&server.http, "front"), claim(&server.http, "back")), (json!([1, 30, 500]), json!([5, 70, 600])));
    assert_eq!(allocation(&server.http)["totalKbps"], 900);
    // Another camera that comes changes nothing in it.
    reloaded(&server, &format!("{}{}", two_cameras("weight = 2"), CAMERA.replace("front", "gate")));
    assert_eq!((claim(&server.http, "back"), claim(&server.http, "gate")), (json!([5, 70, 600]), json!([1, 30, 600])));
    assert_eq!((server.http.get(&back.session).status, encoders_built(&server, "back")), (204, Some(1.0)));
}

#[test]
fn where_the_file_says_something_else_than_before_it_wins_for_that_key_alone() {
    let server =
        Server::ready(&format!("[bandwidth]\ntotal_kbps = 1000\n{}", two_cameras("weight = 2\nmax_kbps = 500")));
    change(&server.http, r#"{"totalKbps":900,"cameras":{"back":{"weight":5,"minKbps":70,"maxKbps":550}}}"#);
    reloaded(&server, &format!("[bandwidth]\ntotal_kbps = 1000\n{}", two_cameras("weight = 3\nmax_kbps = 500")));
    assert_eq!(claim(&server.http, "back"), json!([3, 70, 550]));
    assert_eq!(allocation(&server.http)["totalKbps"], 900);
    reloaded(&server, &format!("[bandwidth]\ntotal_kbps = 800\n{}", two_cameras("weight = 3")));
    assert_eq!(claim(&server.http, "back"), json!([3, 70, 600]), "the default, since the key was taken out");
    assert_eq!(allocation(&server.http)["totalKbps"], 800);
    reloaded(&server, &two_cameras("weight = 3\nmax_kbps = 50"));
    assert_eq!(claim(&server.http, "back"), json!([3, 30, 50]), "70 to 50 cannot be, so both are the file's");
    assert_eq!(allocation(&server.http)["totalKbps"], Value::Null);
}

#[test]
fn a_camera_that_is_restarted_keeps_its_share_and_one_that_comes_back_later_starts_from_the_file() {
    let server = Server::ready(&two_cameras(""));
    let viewer = Client::play(&server.http, "/whep/back", Codec::Vp8);
    change(&server.http, r#"{"cameras":{"back":{"weight":5,"maxKbps":550}}}"#);
    reloaded(&server, &two_cameras("codec = \"h264\""));
    assert_eq!(server.http.get(&viewer.session).status, 404, "it was restarted");
    assert_eq!(claim(&server.http, "back"), json!([5, 30, 550]));
    reloaded(&server, CAMERA);
    assert_eq!(cameras(&server), ["front"]);
    reloaded(&server, &two_cameras("codec = \"h264\""));
    assert_eq!(claim(&server.http, "back"), json!([1, 30, 600]));
}

/// The cameras and streams of the second of two servers: a stream for publishers, and one that it fetches of the first.
fn streams(origin: &Server, robot: &str, far: &str, more: &str) -> String {
    format!(
        "{CAMERA}[[stream]]\nname = \"robot\"\n{robot}\n[[pull]]\nname = \"far\"\nurl = \"{}\"\nstream = \"{far}\"\n{more}\n",
        origin.http.base().trim_end_matches('/')
    )
}

fn publish(server: &Server, name: &str) -> Reply {
    server.http.call("POST", &format!("/whip/{name}"), &[("Content-Type", "application/sdp")], &publisher_offer())
}

#[test]
fn streams_come_go_and_change_with_the_file_and_others_keep_their_sessions() {
    let origin = Server::ready(&two_cameras(""));
    let server = Setup::new(&streams(&origin, "", "front", "")).start();
    let is_live = || server.http.get("/api/v1/cameras/far").json()["live"] == true;
    until("the pull", || is_live().then_some(()));
    let mut own = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut far = Client::play(&server.http, "/whep/far", Codec::Vp8);
    let (first_own, first_far) = (own.frame(), far.frame());
    let publisher = publish(&server, "robot").header("location").expect("a session has an address").to_owned();
    let is_there = |session: &str| server.http.get(session).status == 204;
    assert_eq!(publish(&server, "gate").status, 404);

    // One more, and another claim of one that is being published.
    let gate = "[[stream]]\nname = \"gate\"";
    reloaded(&server, &streams(&origin, "max_kbps = 900\nmax_viewers = 3", "front", gate));
    assert_eq!(cameras(&server), ["front", "robot", "gate", "far"]);
    assert!(is_there(&publisher) && is_there(&far.session) && is_there(&own.session));
    assert_eq!(publish(&server, "gate").status, 201);

    // Fetched from elsewhere: another stream, as far as its viewers go.
    reloaded(&server, &streams(&origin, "max_kbps = 900\nmax_viewers = 3", "back", gate));
    until("its viewer's end", || (!is_there(&far.session)).then_some(()));
    until("the other pull", || is_live().then_some(()));
    Client::play(&server.http, "/whep/far", Codec::Vp8).frame();
    assert!(is_there(&publisher) && is_there(&own.session));

    // Gone, and there again.
    reloaded(&server, &format!("{CAMERA}{gate}\n"));
    assert_eq!(cameras(&server), ["front", "gate"]);
    until("the publisher's end", || (!is_there(&publisher)).then_some(()));
    assert_eq!((publish(&server, "robot").status, server.http.get("/api/v1/cameras/far").status), (404, 404));
    reloaded(&server, &streams(&origin, "", "front", gate));
    assert_eq!(publish(&server, "robot").status, 201);
    until("the pull again", || is_live().then_some(()));

    // The camera went on through all of it, without a gap and without beginning anew.
    let later = (0..15).map(|_| own.frame()).last().unwrap();
    assert!(is_there(&own.session) && later.first > first_own.first && !later.key_frame);
    assert!(first_far.key_frame);
}
