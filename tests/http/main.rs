//! WHEP as RFC 9725 and draft-ietf-wish-whep have it: each row of what is asked of a server, asked of the real one.
//! docs/conformance-http.md says which test stands for which row.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod allocation;
mod endpoint;
mod events;
mod limits;
mod offers;
mod restart;
mod session;

use support::http::{Http, Reply};
use support::offer::offer;

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

/// Asks for the camera of most tests.
fn post(http: &Http, offer: &str) -> Reply {
    http.call("POST", "/whep/front", &[SDP], offer)
}

/// A session of the camera of most tests, as far as HTTP goes.
struct Session {
    http: Http,
    path: String,
    etag: String,
    answer: String,
}

impl Session {
    fn new(http: &Http) -> Self {
        let reply = post(http, &offer());
        assert_eq!(reply.status, 201, "{reply:?}");
        Self {
            http: http.clone(),
            path: reply.header("location").expect("a session has an address").to_owned(),
            etag: reply.header("etag").expect("a session has an entity tag").to_owned(),
            answer: reply.body,
        }
    }

    fn patch(&self, headers: &[(&str, &str)], fragment: &str) -> Reply {
        self.http.call("PATCH", &self.path, headers, fragment)
    }

    fn delete(&self) -> Reply {
        self.http.call("DELETE", &self.path, &[], "")
    }
}
