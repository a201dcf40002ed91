use crate::support::server::{CAMERA, Server, Setup};
use crate::{JSON, STREAM};

#[test]
fn a_pipe_to_what_is_not_there_or_not_live_is_refused_with_a_reason() {
    let server = Server::ready(&format!("{CAMERA}{STREAM}"));
    for (body, status, reason) in [
        ("{\"stream\": \"nobody\"}", 404, "no camera is called \"nobody\""),
        ("{\"stream\": \"robot\"}", 409, "is not live"),
        ("{}", 400, "missing field `stream`"),
        ("{\"stream\": \"front\", \"more\": 1}", 400, "unknown field `more`"),
        ("", 400, "EOF"),
    ] {
        let reply = server.http.call("POST", "/api/v1/pipes", &[JSON], body);
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(reply.problem().contains(reason), "{}", reply.problem());
    }
    assert_eq!(server.http.call("POST", "/api/v1/pipes", &[], "{}").status, 415);
    let reply = server.http.call("POST", "/api/v1/pipes", &[JSON], &"x".repeat(2_000));
    assert_eq!(reply.status, 413, "{reply:?}");
}

#[test]
fn a_pipe_needs_a_token_that_plays_its_stream() {
    let config = format!("[http]\ntoken_file = \"all\"\n{CAMERA}{STREAM}play_token_file = \"guests\"\n");
    let server = Setup::new(&config).file("all", "everything\n").file("guests", "guests\n").start();
    let post = |token: &str, body: &str| {
        let authorization = format!("Bearer {token}");
        server.http.call("POST", "/api/v1/pipes", &[JSON, ("Authorization", &authorization)], body).status
    };
    assert_eq!(post("guests", "{\"stream\": \"robot\"}"), 409, "let in, and nobody sends it");
    assert_eq!(post("guests", "{\"stream\": \"front\"}"), 401);
    assert_eq!(post("guests", "hello"), 401);
    assert_eq!(post("everything", "hello"), 400);
}

#[test]
fn an_edge_whose_origin_does_not_answer_says_so_and_serves_the_rest() {
    let server = Server::ready(&format!("{CAMERA}[[pull]]\nname = \"far\"\nurl = \"http://127.0.0.1:1\"\n"));
    crate::support::wait::until("the reason", || {
        let camera = server.http.get("/api/v1/cameras/far").json();
        camera["reason"].as_str()?.contains("does not answer").then_some(())
    });
    assert_eq!(server.http.get("/readyz").json()["status"], "ready");
}
