use crate::support::answer::{Answer, values};
use crate::support::offer::{fragment, publisher_offer, publisher_offer_with_audio, simulcast_offer};
use crate::support::server::{CAMERA, Server, Setup};
use crate::{FRAGMENT, SDP, STREAM, Session, publish};

/// A stream that has these keys besides its name.
fn stream(keys: &str) -> String {
    format!("{STREAM}{keys}\n")
}

#[test]
fn publishing_is_answered_201_with_sdp_location_and_a_strong_etag() {
    let server = Server::ready(&stream(""));
    let reply = publish(&server.http, &publisher_offer());
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    let location = reply.header("location").expect("a session has an address");
    assert!(location.starts_with("/whip/robot/"), "{location}");
    let etag = reply.header("etag").expect("a session has an entity tag");
    assert!(etag.len() > 10 && etag.starts_with('"') && etag.ends_with('"'), "strong, not weak: {etag}");
    assert_eq!(server.http.get(location).status, 204);
}

#[test]
fn its_answer_is_recvonly_bundled_multiplexed_and_has_all_candidates() {
    let server =
        Server::ready(&format!("[webrtc]\npublic_addresses = [\"203.0.113.7\"]\n{}", stream("max_kbps = 900")));
    let answer = publish(&server.http, &publisher_offer()).body;
    for line in [
        "a=recvonly",
        "a=group:BUNDLE 0",
        "a=rtcp-mux",
        "a=setup:passive",
        "a=ice-lite",
        "a=end-of-candidates",
        "b=TIAS:900000",
    ] {
        assert!(answer.lines().any(|found| found == line), "{line} is missing in\n{answer}");
    }
    assert_eq!(values(&answer, "m=").count(), 1, "one track");
    let parsed = Answer::parse(&answer);
    assert!(parsed.ufrag.len() >= 4 && parsed.password.len() >= 22, "RFC 8839 §5.4: {parsed:?}");
    assert_eq!(parsed.candidates.len(), 2, "{parsed:?}");
}

#[test]
fn simulcast_and_audio_are_taken() {
    let server = Server::ready(&stream(""));
    let answer = publish(&server.http, &simulcast_offer(&["q", "h", "f"]));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.body.contains("a=simulcast:recv q;h;f"), "{}", answer.body);
    let server = Server::ready(&stream(""));
    let answer = publish(&server.http, &publisher_offer_with_audio());
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(values(&answer.body, "m=").count(), 2, "{}", answer.body);
    assert!(!answer.body.contains("m=audio 0"), "no partial answer: {}", answer.body);
}

#[test]
fn an_offer_that_is_none_or_cannot_be_taken_is_refused_with_a_reason() {
    let server = Server::ready(&stream("codecs = [\"h264\"]"));
    let offer = publisher_offer();
    let sections = offer.replace("BUNDLE 0", "BUNDLE 0 1")
        + &offer[offer.find("m=video").unwrap()..].replace("a=mid:0", "a=mid:1");
    for (body, status, reason) in [
        ("hello", 400, "cannot be read"),
        ("", 400, "SDP offer"),
        (&offer.replace("a=ice-pwd", "a=x"), 400, "ice-pwd"),
        (&sections, 422, "2 video sections"),
        (&offer.replace("sendonly", "recvonly"), 422, "sendonly"),
        (&offer.replace("a=rtcp-mux\r\n", ""), 422, "rtcp-mux"),
        (&offer.replace("H264/90000", "X/90000"), 422, "H264"),
        (&(offer.clone() + &"a=x\r\n".repeat(30_000)), 413, "larger"),
    ] {
        let reply = publish(&server.http, body);
        assert_eq!(reply.status, status, "{reason}: {reply:?}");
        assert!(reply.problem().contains(reason), "{reason}: {}", reply.problem());
    }
    let reply = server.http.call("POST", "/whip/robot", &[("Content-Type", "text/plain")], &offer);
    assert_eq!(reply.status, 415);
    assert!(reply.problem().contains("must be application/sdp"));
    assert_eq!(publish(&server.http, &offer).status, 201, "none of them stands in the way of a good one");
}

#[test]
fn a_stream_has_one_publisher_and_others_are_409_with_retry_after_until_it_leaves() {
    let server = Server::ready(&stream(""));
    let first = Session::publishing(&server.http);
    let reply = publish(&server.http, &publisher_offer());
    assert_eq!(reply.status, 409, "{reply:?}");
    assert!(reply.header("retry-after").is_some() && reply.problem().contains("somebody else"), "{reply:?}");
    assert_eq!(first.delete().status, 200);
    assert_eq!(publish(&server.http, &publisher_offer()).status, 201);
}

#[test]
fn get_head_and_options_of_the_endpoint_say_what_it_takes() {
    let server = Server::ready(&stream(""));
    for (method, status) in [("GET", 204), ("HEAD", 200)] {
        let reply = server.http.call(method, "/whip/robot", &[], "");
        assert_eq!((reply.status, reply.body.as_str()), (status, ""), "{method}");
    }
    let session = Session::publishing(&server.http);
    for path in ["/whip/robot", &session.path] {
        let reply = server.http.call("OPTIONS", path, &[], "");
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("accept-post"), Some("application/sdp"));
        assert_eq!(reply.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    }
}

#[test]
fn what_cannot_be_published_is_404() {
    let server = Server::ready(&format!("{CAMERA}{}", stream("")));
    for name in ["front", "nobody", &"x".repeat(2_000)] {
        let reply = server.http.call("POST", &format!("/whip/{name}"), &[SDP], &publisher_offer());
        assert_eq!(reply.status, 404, "{name}");
        assert!(
            reply.problem().starts_with("no stream that can be published is called") && reply.problem().len() < 200
        );
    }
}

#[test]
fn a_publishers_session_is_no_viewers_and_a_viewers_no_publishers() {
    let server = Server::ready(&format!("{CAMERA}{}", stream("")));
    let publisher = Session::publishing(&server.http);
    let viewer = Session::new(&server.http);
    for path in [publisher.path.replace("/whip/", "/whep/"), viewer.path.replace("/whep/", "/whip/")] {
        for method in ["GET", "DELETE"] {
            assert_eq!(server.http.call(method, &path, &[], "").status, 404, "{method} {path}");
        }
    }
    assert_eq!(server.http.get(&publisher.path).status, 204);
}

#[test]
fn a_streams_own_token_publishes_it_and_nothing_else_does() {
    let server = Setup::new(&format!(
        "[http]\ntoken_file = \"all\"\n{}[[stream]]\nname = \"open\"\n",
        stream("token_file = \"own\"")
    ))
    .file("all", "everything\n")
    .file("own", "robots\n")
    .start();
    let post = |path: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        server.http.call("POST", path, &[SDP, ("Authorization", &authorization)], &publisher_offer())
    };
    for (path, token, status) in [
        ("/whip/robot", "everything", 401),
        ("/whip/robot", "guess", 401),
        ("/whip/%72obot", "everything", 401),
        ("/whip/robot", "robots", 201),
        ("/whip/open", "robots", 401),
        ("/whip/open", "everything", 201),
        ("/whip/nobody", "robots", 401),
    ] {
        let reply = post(path, token);
        assert_eq!(reply.status, status, "{path} {token}: {reply:?}");
        if status == 401 {
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    let reply = server.http.call("POST", "/whip/robot", &[SDP], &publisher_offer());
    assert_eq!(reply.status, 401, "without any");
    let reply = server.http.call("OPTIONS", "/whip/robot", &[], "");
    assert_eq!(reply.status, 200, "a preflight needs none");
}

#[test]
fn each_stream_has_a_place_for_its_publisher_when_viewers_have_all_others() {
    let config = format!("[webrtc]\nmax_viewers = 1\n{CAMERA}{}[[stream]]\nname = \"other\"\n", stream(""));
    let server = Server::ready(&config);
    let viewer = Session::new(&server.http);
    let publisher = Session::publishing(&server.http);
    assert_eq!(server.http.call("POST", "/whip/other", &[SDP], &publisher_offer()).status, 201);
    let full = || server.http.call("POST", "/whep/front", &[SDP], &crate::support::offer::offer());
    let reply = full();
    assert_eq!((reply.status, reply.problem().as_str()), (503, "all 1 sessions are in use"));
    assert_eq!(publisher.delete().status, 200);
    assert_eq!(full().status, 503, "a publisher's place is no viewer's");
    assert_eq!(viewer.delete().status, 200);
    assert_eq!(full().status, 201);
}

#[test]
fn a_restart_names_the_section_that_stands_for_the_bundle() {
    let server = Server::ready(&stream(""));
    let session = Session::of(&server.http, publish(&server.http, &publisher_offer_with_audio()));
    let reply = session.patch(&[FRAGMENT, ("If-Match", "*")], &fragment("fresh123"));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(values(&reply.body, "a=mid:").collect::<Vec<_>>(), ["1"], "the offer's first");
}
