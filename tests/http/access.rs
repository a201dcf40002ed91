use std::collections::BTreeSet;

use crate::support::offer::offer;
use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::until;
use crate::{SDP, Session};

const TOKEN: &str = "correct-horse-battery-staple";

fn guarded() -> Server {
    let setup = Setup::new(&format!("[http]\ntoken_file = \"token\"\n{CAMERA}"));
    setup.file("token", &format!("{TOKEN}\nnotes for the operator\n")).ready()
}

#[test]
fn a_bearer_token_is_asked_for_and_accepted() {
    let server = guarded();
    let post = |headers: &[(&str, &str)]| server.http.call("POST", "/whep/front", headers, &offer());
    let padded = format!("Bearer  {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    for given in [&*padded, &lower] {
        assert_eq!(post(&[SDP, ("Authorization", given)]).status, 201, "{given}");
    }
    let (longer, basic) = (format!("Bearer {TOKEN}x"), format!("Basic {TOKEN}"));
    for wrong in ["", "Bearer", "Bearer ", "Bearer wrong", &longer, &basic, TOKEN] {
        let reply = post(&[SDP, ("Authorization", wrong)]);
        assert_eq!(reply.status, 401, "{wrong:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert!(!reply.problem().contains(TOKEN));
    }
    assert_eq!(post(&[SDP]).status, 401);
}

#[test]
fn all_that_shows_or_changes_something_asks_for_the_token() {
    let server = guarded();
    let authorized = [SDP, ("Authorization", &*format!("Bearer {TOKEN}"))];
    let created = server.http.call("POST", "/whep/front", &authorized, &offer());
    let session = created.header("location").expect("the token was right");
    for (method, path) in [
        ("GET", "/whep/front"),
        ("PATCH", session),
        ("DELETE", session),
        ("GET", "/api/v1/cameras"),
        ("GET", "/api/v1/cameras/front"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/allocation"),
        ("PUT", "/api/v1/allocation"),
        ("POST", &format!("{session}/events")),
        ("GET", &format!("{session}/events/active")),
    ] {
        assert_eq!(server.http.call(method, path, &[], "").status, 401, "{method} {path}");
        assert_ne!(server.http.call(method, path, &authorized[1..], "").status, 401, "{method} {path}");
    }
    for open in ["/", "/livez", "/readyz"] {
        assert_eq!(server.http.get(open).status, 200, "{open}");
    }
}

#[test]
fn a_preflight_needs_no_token_and_allows_what_whep_needs() {
    let server = guarded();
    let preflight = [
        ("Origin", "https://viewer.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    for path in
        ["/whep/front", "/whep/front/0123/events", "/api/v1/cameras", "/api/v1/cameras/front", "/api/v1/sessions/0"]
    {
        let reply = server.http.call("OPTIONS", path, &preflight, "");
        assert!((200..300).contains(&reply.status), "{path}: {reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let allowed = reply.header("access-control-allow-headers").unwrap().to_lowercase();
        assert!(
            ["authorization", "content-type", "if-match"].iter().all(|header| allowed.contains(header)),
            "{allowed}"
        );
        let methods = reply.header("access-control-allow-methods").unwrap();
        assert!(["POST", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
    }
}

#[test]
fn the_headers_of_an_answer_are_exposed_to_pages_of_other_origins() {
    let server = Server::ready(&format!("[http]\nallowed_origins = [\"*\"]\n{CAMERA}"));
    let headers = [SDP, ("Origin", "https://viewer.example")];
    let reply = server.http.call("POST", "/whep/front", &headers, &offer());
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.status, 201);
    let exposed = reply.header("access-control-expose-headers").unwrap().to_lowercase();
    assert!(["location", "etag", "link"].iter().all(|header| exposed.contains(header)), "{exposed}");
}

#[test]
fn origins_can_be_restricted() {
    let server = Server::ready(&format!("[http]\nallowed_origins = [\"https://good.example\"]\n{CAMERA}"));
    let allowed = |origin| {
        let reply = server.http.call("GET", "/whep/front", &[("Origin", origin)], "");
        assert_eq!(reply.header("vary"), Some("Origin"), "a cache must not mix them up");
        reply.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed("https://good.example"), Some("https://good.example".to_owned()));
    for other in ["https://good.example.evil", "http://good.example", "https://good.example:8443", "null"] {
        assert_eq!(allowed(other), None, "{other}");
    }
}

#[test]
fn without_a_token_pages_of_other_origins_are_not_allowed_unless_it_is_said() {
    let allowed = |server: &Server| {
        let reply = server.http.call("GET", "/whep/front", &[("Origin", "https://any.example")], "");
        reply.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed(&Server::ready(CAMERA)), None);
    assert_eq!(allowed(&guarded()).as_deref(), Some("*"), "the token is what guards it");
}

#[test]
fn without_the_token_readiness_is_told_without_its_reasons() {
    let config =
        format!("[http]\ntoken_file = \"token\"\n[[camera]]\nname = \"gate\"\nfile = \"secret.y4m\"\n{CAMERA}");
    let server = Setup::new(&config).file("token", TOKEN).start();
    let reply = |headers: &[(&str, &str)]| server.http.call("GET", "/readyz", headers, "");
    until("the camera to be given up", || (reply(&[]).json()["cameras"]["gate"]["state"] == "degraded").then_some(()));
    assert!(!reply(&[]).body.contains("secret.y4m"));
    assert!(reply(&[("Authorization", &format!("Bearer {TOKEN}"))]).body.contains("secret.y4m"));
}

#[test]
fn session_addresses_are_unguessable_and_distinct() {
    let server = Server::ready(CAMERA);
    let paths: BTreeSet<String> = (0..50).map(|_| Session::new(&server.http).path).collect();
    assert_eq!(paths.len(), 50);
    let secrets: Vec<&str> = paths.iter().map(|path| path.rsplit('/').next().expect("rsplit gives one")).collect();
    for secret in &secrets {
        assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "128 bits: {secret}");
    }
    // Of 128 random bits each is set in half of them: none is stuck in all fifty (the odds are 2⁻⁴⁹ for each).
    let numbers: Vec<u128> = secrets.iter().map(|secret| u128::from_str_radix(secret, 16).unwrap()).collect();
    let (always, ever) = numbers.iter().fold((u128::MAX, 0), |(and, or), number| (and & number, or | number));
    assert_eq!((always, ever), (0, u128::MAX));
}

#[test]
fn ice_servers_are_told_with_credentials_from_a_file() {
    let config = "[[webrtc.ice_server]]\nurl = \"stun:stun.example.org\"\n\
                  [[webrtc.ice_server]]\nurl = \"turn:turn.example.org:3478?transport=udp\"\nusername = \"robot\"\n\
                  credential_file = \"turn-password\"\n";
    let server = Setup::new(&format!("{config}{CAMERA}")).file("turn-password", "pa\"ss\\word\n").ready();
    let reply = crate::post(&server.http, &offer());
    let links: Vec<&str> = reply.all("link").into_iter().filter(|link| link.contains("rel=\"ice-server\"")).collect();
    assert_eq!(
        links,
        [
            "<stun:stun.example.org>; rel=\"ice-server\"",
            "<turn:turn.example.org:3478?transport=udp>; rel=\"ice-server\"; username=\"robot\"; \
             credential=\"pa\\\"ss\\\\word\"; credential-type=\"password\"",
        ]
    );
}
