use crate::support::offer::{UFRAG, fragment, offer};
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::until;
use crate::{FRAGMENT, SDP, Session, post};

/// The seconds of `Retry-After`.
fn retry_after(reply: &crate::Reply) -> u64 {
    let value = reply.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {reply:?}"));
    value.parse().expect("it is a number of seconds")
}

#[test]
fn a_full_server_is_503_with_retry_after_and_has_room_again_afterwards() {
    let server = Server::ready(&format!("[webrtc]\nmax_viewers = 1\n{CAMERA}"));
    let session = Session::new(&server.http);
    let reply = post(&server.http, &offer());
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(retry_after(&reply) >= 1);
    assert_eq!(reply.problem(), "all 1 sessions are in use");
    assert_eq!(session.delete().status, 200);
    assert_eq!(Session::new(&server.http).delete().status, 200);
}

#[test]
fn a_session_that_never_connects_gives_its_place_back() {
    let server = Server::ready(&format!("[webrtc]\nmax_viewers = 1\nconnect_timeout_s = 1\n{CAMERA}"));
    let session = Session::new(&server.http);
    until("the place", || (post(&server.http, &offer()).status == 201).then_some(()));
    assert_eq!(server.http.get(&session.path).status, 404);
    server.metrics_until("the cause", |metrics| (metrics.closed("connect_timeout") >= 1.0).then_some(()));
}

#[test]
fn a_camera_that_is_not_live_is_409_with_retry_after() {
    let missing = "[[camera]]\nname = \"front\"\nfile = \"missing.y4m\"\n";
    let server = Setup::new(missing).start();
    let reply = post(&server.http, &offer());
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(retry_after(&reply) >= 1);
    assert_eq!(reply.problem(), "camera \"front\" is not live");
}

#[test]
fn posts_patches_and_deletes_are_rate_limited_with_429_and_retry_after() {
    let server = Server::ready(&format!("[http]\nchanges_per_minute = 3\n{CAMERA}"));
    let session = Session::new(&server.http);
    assert_eq!(session.patch(&[FRAGMENT, ("If-Match", &session.etag)], &fragment(UFRAG)).status, 204);
    assert_eq!(server.http.call("DELETE", "/whep/front/unknown", &[], "").status, 404, "it counts all the same");
    for (method, path, kind) in
        [("POST", "/whep/front", SDP), ("PATCH", &*session.path, FRAGMENT), ("DELETE", &*session.path, FRAGMENT)]
    {
        let reply = server.http.call(method, path, &[kind], "x");
        assert_eq!(reply.status, 429, "{method}: {reply:?}");
        assert!((1..=60).contains(&retry_after(&reply)), "{method}");
        assert!(reply.problem().contains("too many requests"));
    }
    for path in ["/whep/front", &session.path, "/api/v1/cameras", "/metrics", "/readyz"] {
        assert!(server.http.get(path).status < 300, "asking is free: {path}");
    }
}
