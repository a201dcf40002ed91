use crate::support::server::{CAMERA, Server};
use crate::{JSON, Session};

fn server() -> Server {
    Server::ready(&format!("{CAMERA}layers = 2\n"))
}

#[test]
fn the_answer_tells_where_layers_are_chosen() {
    let server = server();
    let reply = crate::post(&server.http, &crate::support::offer::offer());
    let link = reply.all("link").into_iter().find(|link| link.contains("urn:ietf:params:whep:ext:core:layer"));
    let location = reply.header("location").unwrap();
    assert!(link.is_some_and(|link| link.starts_with(&format!("<{location}/layer>"))), "{reply:?}");
}

#[test]
fn a_layer_is_chosen_by_post_and_left_to_the_server_by_null_or_delete() {
    let server = server();
    let session = Session::new(&server.http);
    let path = format!("{}/layer", session.path);
    let chosen = || {
        let secret = session.path.rsplit('/').next().unwrap();
        server.http.get(&format!("/api/v1/sessions/{secret}")).json()["layer"].as_u64()
    };
    assert_eq!(chosen(), None);
    for (body, layer) in [
        ("{\"encodingId\": \"0\"}", Some(0)),
        ("{\"mediaId\": \"0\", \"encodingId\": \"1\"}", Some(1)),
        ("{\"spatialLayerId\": 0, \"temporalLayerId\": 2}", Some(0)),
        ("{\"maxSpatialLayerId\": 7}", Some(1)),
        ("null", None),
        ("{\"maxTemporalLayerId\": 0}", Some(1)),
        ("{}", None),
    ] {
        let reply = server.http.call("POST", &path, &[JSON], body);
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
        assert_eq!(chosen(), layer, "{body}");
    }
    server.http.call("POST", &path, &[JSON], "{\"encodingId\": \"0\"}");
    assert_eq!(server.http.call("DELETE", &path, &[], "").status, 200);
    assert_eq!(chosen(), None);
}

#[test]
fn a_layer_that_is_not_there_is_422_and_what_cannot_be_read_400() {
    let server = server();
    let session = Session::new(&server.http);
    let path = format!("{}/layer", session.path);
    for (body, status, reason) in [
        ("{\"encodingId\": \"2\"}", 422, "encodingId = \"2\": must be \"0\" to \"1\""),
        ("{\"encodingId\": \"high\"}", 422, "must be \"0\" to \"1\""),
        ("{\"mediaId\": \"1\"}", 422, "mediaId = \"1\": must be \"0\", the video's"),
        ("{\"layer\": 1}", 400, "unknown field `layer`"),
        ("[0]", 400, "invalid"),
    ] {
        let reply = server.http.call("POST", &path, &[JSON], body);
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.problem().contains(reason), "{}", reply.problem());
    }
    assert_eq!(server.http.call("POST", &path, &[crate::SDP], "{}").status, 415);
    assert_eq!(session.delete().status, 200);
    assert_eq!(server.http.call("POST", &path, &[JSON], "{}").status, 404);
}
