use crate::support::answer::{Answer, values};
use crate::support::offer::{UFRAG, fragment};
use crate::{FRAGMENT, Session, each_kind};

fn restart(session: &Session, if_match: &str, fragment: &str) -> crate::Reply {
    session.patch(&[FRAGMENT, ("If-Match", if_match)], fragment)
}

#[test]
fn a_restart_is_200_with_a_fragment_and_a_new_etag() {
    each_kind(|server, session| {
        let before = Answer::parse(&session.answer);
        let reply = restart(&session, "*", &fragment("fresh123"));
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/trickle-ice-sdpfrag"));
        let after = Answer::parse(&reply.body);
        assert!(after.ufrag != before.ufrag && after.password != before.password);
        assert_eq!(after.candidates, before.candidates);
        assert_eq!(values(&reply.body, "a=mid:").collect::<Vec<_>>(), ["0"]);
        let etag = reply.header("etag").expect("a new ICE session has a new entity tag");
        assert!(etag.starts_with('"') && etag != session.etag);

        assert_eq!(restart(&session, &session.etag, &fragment("fresh123")).status, 412, "the old entity tag is stale");
        assert_eq!(restart(&session, etag, &fragment("fresh123")).status, 204, "candidates of the new ICE session");
        assert_eq!(server.http.get(&session.path).header("etag"), Some(etag));
    });
}

#[test]
fn the_asterisk_may_stand_in_quotes() {
    each_kind(|_, session| {
        let reply = restart(&session, "\"*\"", &fragment("fresh123"));
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_ne!(reply.header("etag"), Some(&*session.etag));
    });
}

#[test]
fn an_asterisk_with_the_known_credentials_is_no_restart() {
    each_kind(|server, session| {
        assert_eq!(restart(&session, "*", &fragment(UFRAG)).status, 204);
        assert_eq!(server.http.get(&session.path).header("etag"), Some(&*session.etag));
    });
}

#[test]
fn a_failed_restart_keeps_the_old_session() {
    each_kind(|server, session| {
        for bad in ["a=ice-ufrag:fresh123\r\n", "a=ice-ufrag:x\r\na=ice-pwd:short\r\n", "hello"] {
            assert_eq!(restart(&session, "*", bad).status, 400, "{bad:?}");
        }
        assert_eq!(server.http.get(&session.path).header("etag"), Some(&*session.etag));
        assert_eq!(restart(&session, &session.etag, &fragment(UFRAG)).status, 204);
    });
}

#[test]
fn each_of_many_restarts_has_an_etag_of_its_own() {
    each_kind(|_, session| {
        let mut etags = vec![session.etag.clone()];
        for number in 0..20 {
            let reply = restart(&session, "*", &fragment(&format!("fresh{number}")));
            assert_eq!(reply.status, 200, "{reply:?}");
            etags.push(reply.header("etag").unwrap().to_owned());
        }
        etags.sort();
        etags.dedup();
        assert_eq!(etags.len(), 21);
        assert_eq!(session.delete().status, 200);
    });
}
