use lenscast_media::Codec;
use serde_json::Value;

use crate::support::answer::Answer;
use crate::support::client::{Client, Options};
use crate::support::server::{CAMERA, Server, Setup};

const TOKEN: &str = "correct-horse-battery-staple";
const TURN_PASSWORD: &str = "turn-password-nobody-may-see";

/// Everything is logged that anybody would log, and none of it is a secret: tokens, ICE passwords, session addresses.
#[test]
fn no_token_and_no_sdp_credential_is_in_the_log_at_any_level() {
    for format in ["text", "json"] {
        let config = format!(
            "[http]\ntoken_file = \"token\"\n[log]\nformat = \"{format}\"\n\
             [[webrtc.ice_server]]\nurl = \"turn:turn.example.org\"\nusername = \"robot\"\ncredential_file = \"turn\"\n{CAMERA}"
        );
        let setup = Setup::new(&config).file("token", TOKEN).file("turn", TURN_PASSWORD).env("RUST_LOG", "trace");
        let server = setup.ready();
        let authorization = format!("Bearer {TOKEN}");
        let http = server.http.clone().with_header("Authorization", &authorization);
        let mut secrets = vec![TOKEN.to_owned(), TURN_PASSWORD.to_owned()];

        // A viewer that plays, restarts ICE and leaves; one that is refused; one with garbage.
        let offered = std::cell::RefCell::new(Vec::new());
        let remember = |offer: String| {
            offered.borrow_mut().push(Answer::parse(&offer).password);
            offer
        };
        let options = Options { offer: Some(&remember), ..Options::default() };
        let mut client = Client::play_with(&http, "/whep/front", Codec::Vp8, &options);
        client.frame();
        secrets.push(Answer::parse(&client.answer).password);
        assert_eq!(client.restart_ice("*").status, 200);
        client.frame();
        secrets.push(Answer::parse(&client.answer).password);
        secrets.push(client.session.rsplit('/').next().unwrap().to_owned());
        let mut second = Client::play_with(&http, "/whep/front", Codec::Vp8, &options);
        second.frame();
        secrets.push(second.session.rsplit('/').next().unwrap().to_owned());
        let gone = second.session.clone();
        assert_eq!(second.delete().status, 200);
        let wrong = server.http.call("POST", "/whep/front", &[("Authorization", "Bearer wr0ng-guess")], "x");
        assert_eq!(wrong.status, 401);
        secrets.push("wr0ng-guess".to_owned());
        assert_eq!(http.call("DELETE", &gone, &[], "").status, 404);
        secrets.extend(offered.into_inner());
        client.close();

        let (status, log) = server.stop();
        assert!(status.success());
        assert!(log.lines().count() > 50, "at trace level there is much to see:\n{log}");
        assert!(secrets.len() >= 8 && secrets.iter().all(|secret| secret.len() >= 10), "{secrets:?}");
        for secret in secrets {
            let line = log.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "{secret:?} is in the {format} log: {line:?}");
        }
    }
}

#[test]
fn log_lines_are_json_objects_if_so_wanted() {
    let server = Server::ready(&format!("[log]\nformat = \"json\"\n{CAMERA}"));
    let client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    server.log.line_with("a viewer is connected");
    drop(client);
    let (_, log) = server.stop();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(
        lines.iter().all(|line| ["timestamp", "level", "message", "target"].iter().all(|key| line[key].is_string()))
    );
    let coming = lines.iter().find(|line| line["message"] == "a viewer comes").expect("it was logged");
    assert_eq!(coming["camera"], "front", "fields stand on the top level: {coming}");
}

#[test]
fn log_lines_are_for_people_by_default_and_without_colours_in_a_pipe() {
    let server = Server::ready(CAMERA);
    let line = server.log.line_with("listening");
    assert!(line.contains("INFO") && !line.contains('\u{1b}'), "{line:?}");
    assert!(serde_json::from_str::<Value>(&line).is_err());
    let out = server.out.text();
    assert!(out.lines().all(|line| line.starts_with("lenscast: watch at ")), "standard output is not for logs: {out}");
}

#[test]
fn rust_log_wins_over_the_configuration() {
    let quiet = Setup::new(&format!("[log]\nlevel = \"trace\"\n{CAMERA}")).env("RUST_LOG", "error").ready();
    assert_eq!(quiet.stop().1, "");
    let loud = Setup::new(&format!("[log]\nlevel = \"error\"\n{CAMERA}")).env("RUST_LOG", "info").ready();
    assert!(loud.stop().1.contains("listening"));
}

#[test]
fn an_error_that_ends_the_process_is_told_whatever_the_log_level() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let found =
        Setup::bare().env("RUST_LOG", "off").args(["--http-listen", &address, "--webrtc-listen", "127.0.0.1:0"]).run();
    assert_eq!(found.code, Some(1));
    assert!(found.log.contains(&address), "{}", found.log);
}
