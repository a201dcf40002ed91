//! Sessions that show several cameras.

use crate::support::event_stream::EventStream;
use crate::support::http::Reply;
use crate::support::offer::{offer, offer_of_cameras, offer_of_two_cameras};
use crate::support::server::{CAMERA, Server, Setup, camera_of};
use crate::support::wait::until;
use crate::{SDP, Session};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The camera of most tests, and one more.
fn two_cameras() -> String {
    format!("{CAMERA}layers = 2\n{}layers = 2\n", CAMERA.replace("front", "rear"))
}

fn play(server: &Server, names: &str, offer: &str) -> Reply {
    server.http.call("POST", &format!("/whep/{names}"), &[SDP], offer)
}

fn session(server: &Server) -> Session {
    Session::of(&server.http, play(server, "front,rear", &offer_of_two_cameras()))
}

/// What the API tells of the session's cameras.
fn media(server: &Server, session: &Session) -> serde_json::Value {
    let secret = session.path.rsplit('/').next().unwrap();
    server.http.get(&format!("/api/v1/sessions/{secret}")).json()["media"].clone()
}

#[test]
fn one_session_shows_each_camera_in_a_section_of_its_own() {
    let server = Server::ready(&two_cameras());
    let session = session(&server);
    assert!(session.path.starts_with("/whep/front,rear/"), "{}", session.path);
    let sections: Vec<&str> = session.answer.split("\r\nm=").skip(1).collect();
    assert_eq!(sections.len(), 2);
    for (section, (mid, name)) in sections.iter().zip([("0", "front"), ("1", "rear")]) {
        assert!(section.starts_with("video 9 ") && section.contains("\r\na=sendonly\r\n"), "{section}");
        assert!(section.contains(&format!("\r\na=mid:{mid}\r\n")), "{section}");
        assert!(section.contains(&format!("\r\na=msid:{name} {name}\r\n")), "{section}");
    }
    assert!(session.answer.contains("\r\na=group:BUNDLE 0 1\r\n"));
    let cameras: Vec<_> = media(&server, &session)
        .as_array()
        .unwrap()
        .iter()
        .map(|medium| (medium["mediaId"].as_str().unwrap().to_owned(), medium["camera"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(cameras, [("0".to_owned(), "front".to_owned()), ("1".to_owned(), "rear".to_owned())]);
    assert_eq!(server.http.get(&session.path).status, 204);
    assert_eq!(server.http.get(&session.path.replace("front,rear", "front")).status, 404);
    assert_eq!([server.http.get("/whep/front,rear").status, server.http.get("/whep/front,side").status], [204, 404]);
    assert_eq!(session.delete().status, 200);
    assert_eq!(server.http.get(&session.path).status, 404);
}

#[test]
fn the_offer_has_as_many_video_sections_as_there_are_names() {
    let server = Server::ready(&two_cameras());
    for (names, offer, detail) in [
        ("front,rear", offer(), "SDP offer has 1 video sections, must have exactly 2"),
        ("front,rear", offer_of_cameras(3), "SDP offer has 3 video sections, must have exactly 2"),
        ("front", offer_of_two_cameras(), "SDP offer has 2 video sections, must have exactly 1"),
    ] {
        let reply = play(&server, names, &offer);
        assert_eq!((reply.status, reply.problem().as_str()), (422, detail));
    }
}

#[test]
fn names_are_known_each_there_once_and_sixteen_at_most() {
    let server = Server::ready(&two_cameras());
    let refused = |names: &str| {
        let reply = play(&server, names, &offer_of_cameras(names.split(',').count()));
        (reply.status, reply.problem())
    };
    assert_eq!(refused("front,side"), (404, "no camera is called \"side\"".to_owned()));
    assert_eq!(refused("front,"), (404, "no camera is called \"\"".to_owned()));
    let twice = "camera \"front\" is there twice, a session shows each once".to_owned();
    assert_eq!(refused("front,rear,front"), (400, twice));
    let most = "a session shows 16 cameras at most".to_owned();
    assert_eq!(refused(&["front"; 17].join(",")), (400, most));
    assert_eq!(server.metrics().pending(), 0.0);

    let names: Vec<String> = (0..16).map(|number| format!("camera-{number}")).collect();
    let cameras: String = names.iter().map(|name| CAMERA.replace("front", name)).collect();
    let server = Server::ready(&cameras);
    assert_eq!(play(&server, &names.join(","), &offer_of_cameras(16)).status, 201);
}

#[test]
fn a_camera_that_cannot_be_played_fails_the_whole_and_is_named() {
    let missing = "[[camera]]\nname = \"gone\"\nfile = \"missing.y4m\"\n";
    let server = Setup::new(&format!("{CAMERA}{}{missing}", camera_of("h264"))).start();
    for camera in ["front", "h264"] {
        until("the camera", || {
            let described = server.http.get(&format!("/api/v1/cameras/{camera}")).json();
            (described["state"] == "live").then_some(())
        });
    }
    let reply = play(&server, "front,gone", &offer_of_two_cameras());
    assert_eq!((reply.status, reply.problem().as_str()), (409, "camera \"gone\" is not live"));
    assert!(reply.header("retry-after").is_some());
    let only_vp8 = offer_of_two_cameras().replace("H264/90000", "x-h264/90000");
    let reply = play(&server, "front,h264", &only_vp8);
    assert_eq!(reply.status, 422);
    let detail = "camera \"h264\": the camera sends H264, the offer has only VP8, VP9";
    assert_eq!(reply.problem(), detail);
    let reply = server.http.call("POST", "/whep/front,h264?layer=0", &[SDP], &offer_of_two_cameras());
    assert_eq!(reply.status, 400);
    assert!(reply.problem().starts_with("layer is for one camera"), "{}", reply.problem());
    assert_eq!(server.metrics().pending(), 0.0);
    assert_eq!(play(&server, "front,h264", &offer_of_two_cameras()).status, 201, "each in its own codec");
}

#[test]
fn an_offer_whose_sections_contradict_each_other_is_400() {
    let server = Server::ready(&two_cameras());
    let (first, second) = {
        let offer = offer_of_two_cameras();
        let middle = offer.rfind("m=video").unwrap();
        (offer[..middle].to_owned(), offer[middle..].to_owned())
    };
    for (old, new) in [
        ("a=rtpmap:98 VP9/90000", "a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1"),
        ("a=fmtp:97 apt=96", "a=fmtp:97 apt=98"),
        ("a=mid:1", "a=mid:0"),
    ] {
        assert!(second.contains(old));
        let reply = play(&server, "front,rear", &format!("{first}{}", second.replace(old, new)));
        assert_eq!(reply.status, 400, "{new}: {reply:?}");
        assert!(reply.problem().starts_with("SDP offer's bundle is at odds with itself"), "{}", reply.problem());
    }
    let unbundled = offer_of_two_cameras().replace("BUNDLE 0 1", "BUNDLE 0");
    assert_eq!(play(&server, "front,rear", &unbundled).status, 422);
}

#[test]
fn a_session_takes_a_place_for_each_of_its_cameras() {
    let server = Server::ready(&format!("[webrtc]\nmax_viewers = 2\n{}", two_cameras()));
    let one = Session::of(&server.http, play(&server, "front", &offer()));
    let reply = play(&server, "front,rear", &offer_of_two_cameras());
    assert_eq!((reply.status, reply.problem().as_str()), (503, "all 2 sessions are in use"));
    assert_eq!(one.delete().status, 200);
    let two = session(&server);
    assert_eq!(play(&server, "front", &offer()).status, 503);
    assert_eq!(two.delete().status, 200);
    assert_eq!(play(&server, "front", &offer()).status, 201);
}

#[test]
fn whoever_plays_several_needs_what_opens_each() {
    let stream = |name: &str| format!("[[stream]]\nname = \"{name}\"\nplay_token_file = \"{name}-token\"\n");
    let config = format!("[http]\ntoken_file = \"token\"\n{CAMERA}{}{}", stream("a"), stream("b"));
    let server = Setup::new(&config).file("token", "all").file("a-token", "for-a").file("b-token", "for-b").ready();
    let ask = |names: &str, token: &str| {
        let headers = [("Authorization", &*format!("Bearer {token}"))];
        server.http.call("GET", &format!("/whep/{names}"), &headers, "").status
    };
    assert_eq!([ask("a", "for-a"), ask("b", "for-b"), ask("a,b", "all")], [204; 3]);
    assert_eq!([ask("a,b", "for-a"), ask("b,a", "for-a"), ask("a,front", "for-a"), ask("a,nobody", "for-a")], [401; 4]);
    assert_eq!(ask("a,nobody", "all"), 404);
}

#[test]
fn layers_and_pauses_are_for_the_camera_that_media_id_names() {
    let server = Server::ready(&two_cameras());
    let session = session(&server);
    let path = format!("{}/layer", session.path);
    let holds = || {
        let media = media(&server, &session);
        [0, 1].map(|camera| (media[camera]["layer"].as_u64(), media[camera]["paused"].as_bool().unwrap()))
    };
    let asks = |method: &str, query: &str, body: &str| {
        let reply = server.http.call(method, &format!("{path}{query}"), &[JSON], body);
        assert_eq!(reply.status, 200, "{method} {query} {body}: {reply:?}");
        holds()
    };
    assert_eq!(holds(), [(None, false), (None, false)]);
    assert_eq!(asks("POST", "", "{\"mediaId\": \"1\", \"encodingId\": \"0\"}"), [(None, false), (Some(0), false)]);
    assert_eq!(asks("POST", "", "{\"mediaId\": \"1\", \"paused\": true}"), [(None, false), (Some(0), true)]);
    assert_eq!(asks("POST", "", "{\"mediaId\": \"0\", \"encodingId\": \"1\"}"), [(Some(1), false), (Some(0), true)]);
    assert_eq!(asks("DELETE", "?mediaId=0", ""), [(None, false), (Some(0), true)]);
    assert_eq!(
        asks("POST", "", "{\"mediaId\": \"1\", \"paused\": false, \"encodingId\": \"1\"}"),
        [(None, false), (Some(1), false)]
    );
    assert_eq!(asks("POST", "", "{\"mediaId\": \"1\"}"), [(None, false), (None, false)]);
    let missing = "mediaId is not there: must be one of \"0\", \"1\", the videos'";
    for (method, query, body, detail) in [
        ("POST", "", "{\"encodingId\": \"0\"}", missing),
        ("POST", "", "{\"paused\": true}", missing),
        ("DELETE", "", "", missing),
        ("POST", "", "{\"mediaId\": \"2\"}", "mediaId = \"2\": must be one of \"0\", \"1\", the videos'"),
        ("DELETE", "?mediaId=", "", "mediaId = \"\": must be one of \"0\", \"1\", the videos'"),
    ] {
        let reply = server.http.call(method, &format!("{path}{query}"), &[JSON], body);
        assert_eq!((reply.status, reply.problem().as_str()), (422, detail), "{method} {query} {body}");
    }
}

#[test]
fn a_single_camera_can_be_paused_too() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let path = format!("{}/layer", session.path);
    for paused in [true, false] {
        let body = format!("{{\"paused\": {paused}}}");
        assert_eq!(server.http.call("POST", &path, &[JSON], &body).status, 200);
        assert_eq!(media(&server, &session)[0]["paused"].as_bool(), Some(paused));
    }
    assert_eq!(server.http.call("POST", &path, &[JSON], "{\"paused\": 1}").status, 400);
}

#[test]
fn events_say_which_camera_they_are_of() {
    let server = Server::ready(&two_cameras());
    let session = session(&server);
    let kinds = "[\"active\", \"layers\", \"viewercount\"]";
    let reply = server.http.call("POST", &format!("{}/events", session.path), &[], kinds);
    assert_eq!(reply.status, 201);
    let stream = EventStream::open(&server.http, reply.header("location").unwrap(), &[]);
    let next = |kind: &str| -> serde_json::Value { serde_json::from_str(&stream.until(kind)).unwrap() };
    for (mid, name) in [("0", "front"), ("1", "rear")] {
        assert_eq!(next("active"), serde_json::json!({ "mediaId": mid, "stream": name }));
        assert_eq!(next("layers")[mid]["inactive"].as_array().map(Vec::len), Some(2));
        let counted = serde_json::json!({ "mediaId": mid, "stream": name, "viewercount": 1 });
        assert_eq!(next("viewercount"), counted);
    }
}
