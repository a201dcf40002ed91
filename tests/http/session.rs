use crate::support::offer::{UFRAG, fragment};
use crate::support::server::{CAMERA, Server};
use crate::{FRAGMENT, SDP, Session, each_kind};

#[test]
fn delete_ends_the_session_and_frees_it_and_then_it_is_404() {
    each_kind(|server, session| {
        assert_eq!(server.metrics().pending(), 1.0);
        assert_eq!(session.delete().status, 200);
        assert_eq!(server.metrics().pending(), 0.0);
        for method in ["DELETE", "GET", "HEAD"] {
            assert_eq!(server.http.call(method, &session.path, &[], "").status, 404, "{method}");
        }
        let reply = session.patch(&[FRAGMENT, ("If-Match", &session.etag)], &fragment(UFRAG));
        assert_eq!((reply.status, reply.problem()), (404, "no such session".to_owned()));
        server.metrics_until("the cause", |metrics| (metrics.closed("requested") == 1.0).then_some(()));
    });
}

#[test]
fn if_match_is_ignored_on_delete() {
    each_kind(|server, session| {
        let reply = server.http.call("DELETE", &session.path, &[("If-Match", "\"not this one\"")], "");
        assert_eq!(reply.status, 200, "{reply:?}");
    });
}

#[test]
fn a_session_is_found_under_its_own_camera_only() {
    let server = Server::ready(&format!("{CAMERA}{}", CAMERA.replace("front", "back")));
    let session = Session::new(&server.http);
    let elsewhere = session.path.replace("/whep/front/", "/whep/back/");
    for method in ["GET", "DELETE"] {
        assert_eq!(server.http.call(method, &elsewhere, &[], "").status, 404, "{method}");
    }
    assert_eq!(server.http.get(&session.path).status, 204);
}

#[test]
fn patch_takes_sdp_fragments_only_else_415() {
    each_kind(|_, session| {
        for headers in [&[SDP, ("If-Match", &*session.etag)][..], &[("If-Match", &*session.etag)]] {
            let reply = session.patch(headers, &fragment(UFRAG));
            assert_eq!(reply.status, 415, "{headers:?}");
            assert!(reply.problem().contains("must be application/trickle-ice-sdpfrag"), "{}", reply.problem());
        }
    });
}

#[test]
fn patch_without_if_match_is_428() {
    each_kind(|_, session| {
        let reply = session.patch(&[FRAGMENT], &fragment(UFRAG));
        assert_eq!(reply.status, 428, "{reply:?}");
        assert!(reply.problem().contains("needs If-Match"), "{}", reply.problem());
    });
}

#[test]
fn patch_with_a_stale_etag_is_412() {
    each_kind(|_, session| {
        let weak = format!("W/{}", session.etag);
        for condition in ["\"0123456789abcdef\"", "\"\"", &weak, "*, \"x\""] {
            let reply = session.patch(&[FRAGMENT, ("If-Match", condition)], &fragment(UFRAG));
            assert_eq!(reply.status, 412, "{condition}");
            assert!(!reply.problem().is_empty());
        }
    });
}

#[test]
fn trickled_candidates_are_204_without_body_and_etag() {
    each_kind(|server, session| {
        let reply = session.patch(&[FRAGMENT, ("If-Match", &session.etag)], &fragment(UFRAG));
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
        assert!(reply.header("etag").is_none());
        assert_eq!(server.http.get(&session.path).header("etag"), Some(&*session.etag), "the ICE session is the same");
    });
}

#[test]
fn unusable_candidates_are_dropped_silently() {
    each_kind(|_, session| {
        for candidate in
            ["nonsense", "1 1 tcp 1 192.0.2.1 9 typ host tcptype active", "1 1 udp 1 host.invalid 1 typ host", ""]
        {
            let fragment = fragment(UFRAG) + &format!("a=candidate:{candidate}\r\n");
            let reply = session.patch(&[FRAGMENT, ("If-Match", &session.etag)], &fragment);
            assert_eq!(reply.status, 204, "{candidate:?}: {reply:?}");
        }
    });
}

#[test]
fn a_fragment_of_an_unsupported_kind_is_422() {
    each_kind(|_, session| {
        // New credentials make it a restart, and a restart is asked for with an asterisk.
        let reply = session.patch(&[FRAGMENT, ("If-Match", &session.etag)], &fragment("fresh123"));
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(reply.problem().contains("If-Match: *"), "{}", reply.problem());
    });
}

#[test]
fn a_fragment_that_is_none_is_400_and_a_huge_one_413() {
    each_kind(|server, session| {
        let headers = [FRAGMENT, ("If-Match", session.etag.as_str())];
        for garbage in ["", "hello", "a=ice-ufrag:abcd\r\n", "a=ice-ufrag:x\r\na=ice-pwd:y\r\n"] {
            let reply = session.patch(&headers, garbage);
            assert_eq!(reply.status, 400, "{garbage:?}: {reply:?}");
            assert!(!reply.problem().is_empty());
        }
        let huge = fragment(UFRAG) + &"a=x-padding:0123456789\r\n".repeat(2_000);
        let reply = session.patch(&headers, &huge);
        assert_eq!(reply.status, 413, "{reply:?}");
        assert_eq!(server.http.get(&session.path).status, 204, "the session is none the worse for it");
    });
}
