use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::offer::{UFRAG, fragment, offer};
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::{BOUND, until};
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
    let server = Server::ready(&format!("[http]\nchanges_per_minute = 3\n{CAMERA}{}", crate::STREAM));
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
    for (method, path) in [("POST", "/whip/robot"), ("POST", "/api/v1/pipes"), ("PUT", "/api/v1/streams/front")] {
        assert_eq!(server.http.call(method, path, &[], "x").status, 429, "{method} {path}");
    }
    for path in ["/whep/front", &session.path, "/api/v1/cameras", "/metrics", "/readyz"] {
        assert!(server.http.get(path).status < 300, "asking is free: {path}");
    }
}

#[test]
fn guesses_at_the_token_are_rate_limited_whatever_they_ask_for() {
    let config = format!("[http]\nchanges_per_minute = 3\ntoken_file = \"token\"\n{CAMERA}");
    let server = Setup::new(&config).file("token", "right").ready();
    let ask = |method, token: &str| {
        let headers = [SDP, ("Authorization", &*format!("Bearer {token}"))];
        server.http.call(method, "/whep/front", &headers, "").status
    };
    assert_eq!([ask("GET", "a"), ask("POST", "b"), ask("GET", "c")], [401; 3]);
    assert_eq!([ask("GET", "d"), ask("POST", "e")], [429; 2]);
    assert_eq!(ask("GET", "right"), 204, "whoever knows it is not held up");
}

#[test]
fn a_connection_that_asks_for_nothing_or_not_to_the_end_is_closed() {
    let server = Server::ready(CAMERA);
    let address = server.http.base().strip_prefix("http://").unwrap();
    let connect = |request: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(2 * BOUND)).unwrap();
        stream.write_all(request).unwrap();
        stream
    };
    let half =
        b"POST /whep/front HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 500\r\n\r\nv=0";
    let mut answers = [connect(b""), connect(b"GET / HTT"), connect(half)].map(|mut stream| {
        let mut answer = String::new();
        // The end of the stream: whoever keeps a connection open for nothing waits here until the timeout.
        stream.read_to_string(&mut answer).expect("the server closes it");
        answer
    });
    answers.sort();
    assert_eq!(answers[..2], ["", ""], "without a request there is no answer");
    assert!(answers[2].starts_with("HTTP/1.1 408 "), "{}", answers[2]);
}
