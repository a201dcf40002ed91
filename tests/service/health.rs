use std::os::unix::fs::PermissionsExt as _;

use lenscast_media::Codec;
use serde_json::json;

use crate::support::client::Client;
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::until;

const MISSING: &str = "[[camera]]\nname = \"gate\"\nfile = \"gate.y4m\"\n";

/// A clip of one second that loops.
fn clip() -> String {
    format!(
        "YUV4MPEG2 W64 H64 F30:1 Ip C420jpeg\n{}",
        format!("FRAME\n{}", "\u{10}".repeat(64 * 64 * 3 / 2)).repeat(30)
    )
}

#[test]
fn livez_answers_as_long_as_the_process_does() {
    let server = Setup::new(MISSING).start();
    let reply = server.http.get("/livez");
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"));
}

#[test]
fn readyz_is_200_with_json_per_camera() {
    let server = Server::ready(&format!("{CAMERA}{}", CAMERA.replace("front", "back")));
    let reply = server.http.get("/readyz");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let expected = serde_json::json!({
        "status": "ready",
        "cameras": { "front": { "state": "live" }, "back": { "state": "live" } },
    });
    assert_eq!(reply.json(), expected);
}

#[test]
fn a_missing_camera_among_others_is_degraded_with_its_reason_and_not_an_exit() {
    let server = Setup::new(&format!("{CAMERA}{MISSING}")).start();
    let status = until("the camera to be given up for now", || {
        let reply = server.http.get("/readyz");
        (reply.json()["cameras"]["gate"]["state"] == "degraded" && reply.json()["cameras"]["front"]["state"] == "live")
            .then_some(reply)
    });
    assert_eq!((status.status, status.json()["status"].as_str()), (200, Some("degraded")));
    let reason =
        status.json()["cameras"]["gate"]["reason"].as_str().expect("a degraded camera has a reason").to_owned();
    assert!(reason.contains("gate.y4m") && reason.contains("No such file"), "{reason}");
}

#[test]
fn readyz_is_503_while_no_camera_is_live_and_200_once_one_is() {
    let server = Setup::new(MISSING).start();
    let reply = server.http.get("/readyz");
    assert_eq!((reply.status, reply.json()["status"].as_str()), (503, Some("unready")));
    std::fs::write(server.path("gate.y4m"), clip()).unwrap();
    let reply = until("the camera to be live", || Some(server.http.get("/readyz")).filter(|reply| reply.status == 200));
    assert_eq!(reply.json()["status"], "ready");
}

#[test]
fn a_file_that_is_no_video_is_degraded_and_says_why() {
    for content in ["", "YUV4MPEG2 W64", "YUV4MPEG2 W63 H64 F30:1\n", "YUV4MPEG2 W64 H64 F30:1 C420\nFRAME\nshort"] {
        let server = Setup::new(MISSING).file("gate.y4m", content).start();
        let reason = until("the camera to be given up for now", || {
            let state = server.http.get("/readyz").json()["cameras"]["gate"].clone();
            (state["state"] == "degraded").then(|| state["reason"].as_str().expect("it has a reason").to_owned())
        });
        assert!(reason.contains("gate.y4m"), "{content:?}: {reason}");
    }
}

#[test]
fn the_api_describes_a_camera_and_its_viewers() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    let camera = until("it to be seen encoding", || {
        let camera = server.http.get("/api/v1/cameras/front").json();
        (camera["encoder"]["health"] == "encoding").then_some(camera)
    });
    assert_eq!((camera["name"].as_str(), camera["whep"].as_str()), (Some("front"), Some("/whep/front")));
    let encoder = &camera["encoder"];
    assert_eq!((&encoder["mimeType"], &encoder["scalabilityMode"]), (&json!("video/VP8"), &json!("L1T1")));
    assert_eq!(encoder["targetBitrate"], 600_000);
    assert_eq!(encoder["qualityLimitationReason"], "none");
    for reason in ["none", "cpu", "bandwidth", "other"] {
        assert!(encoder["qualityLimitationDurations"][reason].as_f64() >= Some(0.0), "{encoder}");
    }
    assert_eq!(encoder["qualityLimitationResolutionChanges"], 0);
    assert!(encoder["totalEncodeTime"].as_f64() > Some(0.0), "{encoder}");
    assert!(encoder["bitrate"].is_u64() && encoder["framesPerSecond"].is_number(), "{encoder}");
    let layers = encoder["layers"].as_array().expect("there is a list");
    assert_eq!((layers.len(), &layers[0]["rid"], &layers[0]["frameWidth"]), (1, &json!("0"), &json!(320)));
    assert_eq!((&layers[0]["targetBitrate"], &layers[0]["active"]), (&json!(600_000), &json!(true)));
    assert_eq!(
        (camera["stats"]["frameWidth"].as_u64(), camera["stats"]["frameHeight"].as_u64()),
        (Some(320), Some(240))
    );
    assert_eq!((&camera["viewers"][0]["state"], &camera["viewers"][0]["layer"]), (&json!("connected"), &json!(0)));
    assert_eq!(camera["viewers"][0]["srtp"], "AeadAes128Gcm");
    assert!(camera["viewers"][0]["stats"]["packetsSent"].as_u64() >= Some(1));
    let all = server.http.get("/api/v1/cameras").json();
    assert_eq!(all["cameras"].as_array().map(Vec::len), Some(1));
    let secret = client.session.rsplit('/').next().unwrap();
    let session = server.http.get(&format!("/api/v1/sessions/{secret}")).json();
    assert_eq!((session["camera"].as_str(), session["state"].as_str()), (Some("front"), Some("connected")));
    for path in ["/api/v1/cameras/nobody", "/api/v1/sessions/0123"] {
        let reply = server.http.get(path);
        assert_eq!(reply.status, 404);
        assert!(!reply.problem().is_empty());
    }
}

#[test]
fn each_camera_that_is_watched_and_not_encoded_is_named_with_its_state() {
    // A program that decodes one picture and then thinks about it: the source gives it up after ten seconds, and after two
    // there is something to say of the encoder.
    let picture = "#!/bin/sh\nprintf 'YUV4MPEG2 W64 H64 F30:1\\nFRAME\\n'\nhead -c 6144 /dev/zero\nexec sleep 600\n";
    let slow = |name: &str| format!("[[camera]]\nname = \"{name}\"\nfile = \"slow.mp4\"\n");
    let config = format!("{CAMERA}{}{}", slow("left"), slow("right"));
    let setup = Setup::new(&config).file("slow.mp4", "no Y4M").file("ffmpeg", picture);
    std::fs::set_permissions(setup.path().join("ffmpeg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", setup.path().display(), std::env::var("PATH").unwrap());
    let server = setup.env("PATH", path).ready();
    let _viewers = ["front", "left", "right"].map(|name| {
        let mut viewer = Client::play(&server.http, &format!("/whep/{name}"), Codec::Vp8);
        viewer.connected();
        viewer
    });
    let states = |reply: &crate::support::http::Reply| {
        ["front", "left", "right"].map(|name| reply.json()["cameras"][name]["state"].as_str().unwrap().to_owned())
    };
    let reply = until("both to stall at once", || {
        let reply = server.http.get("/readyz");
        (states(&reply) == ["live", "stalled", "stalled"]).then_some(reply)
    });
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("degraded")));
    let left = &reply.json()["cameras"]["left"];
    assert!(left["sinceSeconds"].as_f64() >= Some(2.0), "{reply:?}");
    assert!(left["reason"].as_str().is_some_and(|reason| reason.starts_with("no frame was encoded for ")), "{reply:?}");
    for name in ["left", "right"] {
        let line = |line: &str| (line.contains("nothing comes out") && line.contains(name)).then_some(());
        server.log.line("the stall", line);
    }
}
