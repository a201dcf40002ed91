//! `/api/v1/viewers`: what viewers' connections carry.

use serde_json::json;

use crate::Session;
use crate::support::server::{CAMERA, Server};

#[test]
fn without_viewers_it_tells_what_is_configured() {
    let server = Server::ready(CAMERA);
    let told = server.http.get("/api/v1/viewers").json();
    assert_eq!(told, json!({ "maxUplinkKbps": null, "startKbps": 1000, "viewerCount": 0, "viewers": [] }));
    let server = Server::ready(&format!("{CAMERA}[bandwidth]\nmax_uplink_kbps = 700\n"));
    let told = server.http.get("/api/v1/viewers").json();
    assert_eq!((&told["maxUplinkKbps"], &told["startKbps"]), (&json!(700), &json!(700)), "{told}");
    let metrics = server.metrics();
    assert_eq!(metrics.value("lenscast_uplink_limit_bits_per_second", &[]), Some(700_000.0));
    assert_eq!(metrics.value("lenscast_uplink_sent_bits_per_second", &[]), Some(0.0));
}

#[test]
fn a_viewer_that_has_told_nothing_yet_has_no_connection() {
    let server = Server::ready(CAMERA);
    let session = Session::new(&server.http);
    let secret = session.path.rsplit('/').next().unwrap();
    let own = server.http.get(&format!("/api/v1/sessions/{secret}")).json();
    assert_eq!((&own["state"], &own["connection"]), (&json!("connecting"), &json!(null)), "{own}");
    let told = server.http.get("/api/v1/viewers?thinnest=3").json();
    assert_eq!(told["viewers"], json!([]), "{told}");
}

#[test]
fn a_query_that_is_none_is_400() {
    let server = Server::ready(CAMERA);
    for query in ["?thinnest=-1", "?thinnest=all", "?thinest=3"] {
        let reply = server.http.get(&format!("/api/v1/viewers{query}"));
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
        assert!(!reply.problem().is_empty());
    }
}
