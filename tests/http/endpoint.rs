use crate::support::answer::{Answer, value, values};
use crate::support::offer::offer;
use crate::support::server::{CAMERA, Server};
use crate::{SDP, post};

#[test]
fn post_of_an_offer_is_answered_201_with_sdp_location_and_a_strong_etag() {
    let server = Server::ready(CAMERA);
    let reply = post(&server.http, &offer());
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    let location = reply.header("location").expect("a session has an address");
    assert!(location.starts_with("/whep/front/"), "{location}");
    let etag = reply.header("etag").expect("a session has an entity tag");
    assert!(etag.len() > 10 && etag.starts_with('"') && etag.ends_with('"'), "strong, not weak: {etag}");
    assert!(reply.all("link").iter().any(|link| link.contains("urn:ietf:params:whep:ext:core:server-sent-events")));
    assert_eq!(server.http.get(location).status, 204);
}

#[test]
fn the_content_type_may_have_parameters_and_any_case() {
    let server = Server::ready(CAMERA);
    let reply =
        server.http.call("POST", "/whep/front", &[("Content-Type", "Application/SDP; charset=utf-8")], &offer());
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[test]
fn the_answer_is_sendonly_bundled_multiplexed_and_has_all_candidates() {
    let server = Server::ready(CAMERA);
    let answer = post(&server.http, &offer()).body;
    for line in ["a=sendonly", "a=group:BUNDLE 0", "a=rtcp-mux", "a=setup:passive", "a=ice-lite", "a=end-of-candidates"]
    {
        assert!(answer.lines().any(|found| found == line), "{line} is missing in\n{answer}");
    }
    assert_eq!(values(&answer, "m=").count(), 1, "one track");
    let parsed = Answer::parse(&answer);
    assert!(parsed.ufrag.len() >= 4 && parsed.password.len() >= 22, "RFC 8839 §5.4: {parsed:?}");
    let [candidate] = parsed.candidates[..] else { panic!("one address, one candidate: {parsed:?}") };
    assert!(candidate.ip().is_loopback() && candidate.port() != 0);
    // The server really is there.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"?", candidate).unwrap();
    server.metrics_until("the datagram", |metrics| (metrics.sum("lenscast_udp_received_total") >= 1.0).then_some(()));
}

#[test]
fn public_addresses_are_candidates_too_and_come_first() {
    let server = Server::ready(&format!("[webrtc]\npublic_addresses = [\"203.0.113.7\"]\n{CAMERA}"));
    let answer = Answer::parse(&post(&server.http, &offer()).body);
    let port = answer.candidates[1].port();
    assert_eq!(answer.candidates[0].to_string(), format!("203.0.113.7:{port}"));
    assert!(answer.candidates[1].ip().is_loopback());
}

#[test]
fn get_and_head_of_the_endpoint_are_2xx_without_content() {
    let server = Server::ready(CAMERA);
    for (method, status) in [("GET", 204), ("HEAD", 200)] {
        let reply = server.http.call(method, "/whep/front", &[], "");
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{method}");
    }
}

#[test]
fn get_and_head_of_a_session_are_2xx_without_content() {
    let server = Server::ready(CAMERA);
    let created = post(&server.http, &offer());
    let location = created.header("location").unwrap();
    for (method, status) in [("GET", 204), ("HEAD", 200)] {
        let reply = server.http.call(method, location, &[], "");
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{method}");
        assert_eq!(reply.header("etag"), created.header("etag"));
    }
}

#[test]
fn options_name_what_can_be_posted_and_patched() {
    let server = Server::ready(CAMERA);
    let location = post(&server.http, &offer()).header("location").unwrap().to_owned();
    for path in ["/whep/front", &location] {
        let reply = server.http.call("OPTIONS", path, &[], "");
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("accept-post"), Some("application/sdp"));
        assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    }
}

#[test]
fn a_post_is_never_redirected() {
    let server = Server::ready(CAMERA);
    for path in ["/whep/front", "/whep/front/", "/whep/front//", "/whep//front", "/whep/front?x=1"] {
        let status = server.http.call("POST", path, &[SDP], &offer()).status;
        assert!(!(300..400).contains(&status), "{path}: {status}");
    }
}

#[test]
fn what_is_not_there_and_what_cannot_be_done_are_problems_with_a_reason() {
    let server = Server::ready(CAMERA);
    let reply = server.http.call("POST", "/whep/nobody", &[SDP], &offer());
    assert_eq!((reply.status, reply.problem()), (404, "no camera is called \"nobody\"".to_owned()));
    let long = "x".repeat(2_000);
    let reply = server.http.call("POST", &format!("/whep/{long}"), &[SDP], &offer());
    assert_eq!(reply.status, 404);
    assert!(reply.problem().len() < 200, "an endless name is not repeated: {}", reply.problem());
    for (method, path) in
        [("PUT", "/whep/front"), ("DELETE", "/whep/front"), ("PATCH", "/whep/front"), ("POST", "/livez")]
    {
        let reply = server.http.call(method, path, &[], "");
        assert_eq!(reply.status, 405, "{method} {path}");
        assert!(!reply.problem().is_empty());
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "RFC 9110 §15.5.6: {reply:?}");
    }
    let reply = server.http.get("/nothing");
    assert_eq!((reply.status, reply.problem()), (404, "nothing is here".to_owned()));
}

#[test]
fn each_answer_names_another_session_source_and_secret() {
    let server = Server::ready(CAMERA);
    let answers: Vec<_> = (0..20).map(|_| post(&server.http, &offer())).collect();
    for key in ["a=ice-ufrag:", "a=ice-pwd:", "a=ssrc:", "o="] {
        let found: std::collections::BTreeSet<_> =
            answers.iter().map(|reply| value(&reply.body, key).unwrap()).collect();
        assert_eq!(found.len(), answers.len(), "{key}");
    }
}
