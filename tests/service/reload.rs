use lenscast_media::Codec;
use rustix::process::Signal;

use crate::support::client::Client;
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
    let server = Server::ready(&two_cameras("bitrate_kbps = 200"));
    let mut front = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut back = Client::play(&server.http, "/whep/back", Codec::Vp8);
    let (first, _) = (front.frame(), back.frame());

    reload(&server, &two_cameras("bitrate_kbps = 300"));
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
