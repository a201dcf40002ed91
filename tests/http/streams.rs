use serde_json::{Value, json};

use crate::support::offer::offer;
use crate::support::server::{CAMERA, Server, Setup};
use crate::{JSON, SDP, STREAM, Session};

fn listed(server: &Server) -> Vec<Value> {
    server.http.get("/api/v1/cameras").json()["cameras"].as_array().expect("a list").clone()
}

#[test]
fn a_stream_that_nobody_sends_is_listed_and_409_for_viewers() {
    let server = Server::ready(&format!("{CAMERA}{STREAM}[[pull]]\nname = \"far\"\nurl = \"http://127.0.0.1:1\"\n"));
    let cameras = listed(&server);
    let kinds: Vec<_> = cameras.iter().map(|camera| (camera["name"].as_str(), camera["kind"].as_str())).collect();
    assert_eq!(kinds, [(Some("front"), Some("camera")), (Some("robot"), Some("whip")), (Some("far"), Some("pull"))]);
    assert_eq!(
        (&cameras[1]["state"], &cameras[1]["live"], &cameras[1]["codec"]),
        (&json!("offline"), &json!(false), &Value::Null)
    );
    assert_eq!((&cameras[1]["whep"], &cameras[1]["source"]["whip"]), (&json!("/whep/robot"), &json!("/whip/robot")));
    assert_eq!(cameras[0]["live"], true);
    let reply = server.http.call("POST", "/whep/robot", &[SDP], &offer());
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(reply.header("retry-after").is_some() && reply.problem().contains("not live"));
    assert_eq!(server.http.call("HEAD", "/whep/robot", &[], "").status, 200);
    assert_eq!(server.metrics().sum("lenscast_stream_live"), 0.0);
}

#[test]
fn a_publisher_that_is_not_connected_yet_is_told_of() {
    let server = Server::ready(STREAM);
    let session = Session::publishing(&server.http);
    assert_eq!(listed(&server)[0]["state"], "connecting");
    assert_eq!(session.delete().status, 200);
    assert_eq!(listed(&server)[0]["state"], "offline");
}

#[test]
fn a_relay_without_cameras_is_ready_and_shows_no_test_pattern() {
    let server = Server::ready(STREAM);
    let reply = server.http.get("/readyz");
    assert_eq!((reply.status, &reply.json()["status"]), (200, &json!("ready")));
    assert_eq!(reply.json()["cameras"]["robot"]["state"], "offline");
    assert_eq!(listed(&server).len(), 1);
}

#[test]
fn a_stream_is_held_up_and_goes_on_by_its_name() {
    let server = Setup::new(&format!("[http]\ntoken_file = \"all\"\n{STREAM}token_file = \"own\"\n"))
        .file("all", "everything\n")
        .file("own", "robots\n")
        .start();
    let put = |token: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        server.http.call("PUT", "/api/v1/streams/robot", &[JSON, ("Authorization", &authorization)], body)
    };
    assert_eq!(put("guess", "{\"paused\": true}").status, 401);
    for token in ["everything", "robots"] {
        for paused in [true, false] {
            let reply = put(token, &json!({ "paused": paused }).to_string());
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!((&reply.json()["paused"], &reply.json()["name"]), (&json!(paused), &json!("robot")));
        }
    }
    for bad in ["", "{}", "{\"paused\": 1}", "{\"paused\": true, \"more\": 1}"] {
        let reply = put("robots", bad);
        assert_eq!(reply.status, 400, "{bad:?}: {reply:?}");
    }
}

#[test]
fn a_camera_that_is_held_up_says_so_everywhere() {
    let server = Server::ready(CAMERA);
    let put = |paused: bool| {
        let reply = server.http.call("PUT", "/api/v1/streams/front", &[JSON], &json!({ "paused": paused }).to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["state"].clone()
    };
    assert_eq!(put(true), "paused");
    let camera = &listed(&server)[0];
    assert_eq!((&camera["state"], &camera["paused"]), (&json!("paused"), &json!(true)));
    assert_eq!(server.metrics().value("lenscast_camera_paused", &[("camera", "front")]), Some(1.0));
    assert_eq!(put(false), "live");
    assert_eq!(server.metrics().value("lenscast_camera_paused", &[("camera", "front")]), Some(0.0));
}

#[test]
fn a_pulled_stream_is_held_up_at_its_origin_only() {
    let server = Server::ready(&format!("{CAMERA}[[pull]]\nname = \"far\"\nurl = \"http://127.0.0.1:1\"\n"));
    for paused in [true, false] {
        let body = json!({ "paused": paused }).to_string();
        assert_eq!(server.http.call("PUT", "/api/v1/streams/far", &[JSON], &body).status, 409);
    }
    assert_eq!(listed(&server)[1]["paused"], false);
}

#[test]
fn a_play_token_plays_its_stream_and_nothing_else() {
    let server = Setup::new(&format!("[http]\ntoken_file = \"all\"\n{CAMERA}{STREAM}play_token_file = \"guests\"\n"))
        .file("all", "everything\n")
        .file("guests", "guests\n")
        .start();
    let call = |method: &str, path: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        let body = if method == "POST" { offer() } else { String::new() };
        server.http.call(method, path, &[SDP, ("Authorization", &authorization)], &body).status
    };
    assert_eq!(call("POST", "/whep/robot", "guests"), 409, "let in, and nobody sends it");
    assert_eq!(call("POST", "/whep/robot", "everything"), 409);
    for (method, path) in
        [("POST", "/whep/front"), ("POST", "/whip/robot"), ("GET", "/api/v1/cameras"), ("GET", "/metrics")]
    {
        assert_eq!(call(method, path, "guests"), 401, "{method} {path}");
    }
}
