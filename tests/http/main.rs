//! WHIP and WHEP as RFC 9725 and draft-ietf-wish-whep have them: each row of what is asked of a server, asked of the real one.
//! docs/conformance-http.md says which test stands for which row.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod allocation;
mod endpoint;
mod events;
mod layer;
mod limits;
mod offers;
mod pipes;
mod publish;
mod restart;
mod session;
mod several;
mod streams;
mod viewers;

use support::http::{Http, Reply};
use support::offer::{offer, publisher_offer};
use support::server::{CAMERA, Server};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

/// The stream of most tests.
const STREAM: &str = "[[stream]]\nname = \"robot\"\n";

/// Asks for the camera of most tests.
fn post(http: &Http, offer: &str) -> Reply {
    http.call("POST", "/whep/front", &[SDP], offer)
}

/// Asks to publish the stream of most tests.
fn publish(http: &Http, offer: &str) -> Reply {
    http.call("POST", "/whip/robot", &[SDP], offer)
}

/// Holds a viewer's session against the rules that RFC 9725 has for sessions, and then a publisher's.
fn each_kind(rules: impl Fn(&Server, Session)) {
    for kind in [Session::new, Session::publishing] {
        let server = Server::ready(&format!("{CAMERA}{STREAM}"));
        let session = kind(&server.http);
        rules(&server, session);
    }
}

/// A session of the camera or the stream of most tests, as far as HTTP goes.
struct Session {
    http: Http,
    path: String,
    etag: String,
    answer: String,
}

impl Session {
    fn new(http: &Http) -> Self {
        Self::of(http, post(http, &offer()))
    }

    fn publishing(http: &Http) -> Self {
        Self::of(http, publish(http, &publisher_offer()))
    }

    fn of(http: &Http, reply: Reply) -> Self {
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
