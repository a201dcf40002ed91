use std::net::{TcpListener, UdpSocket};

use crate::support::server::{CAMERA, Server, Setup};

#[test]
fn a_clean_stop_is_exit_code_0() {
    let (status, log) = Server::ready(CAMERA).stop();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_port_that_is_taken_is_exit_code_1_and_names_the_address() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (http, webrtc) = (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    let run = |http: &str, webrtc: &str| Setup::bare().args(["--http-listen", http, "--webrtc-listen", webrtc]).run();
    for (found, expected) in [
        (run(&http, "127.0.0.1:0"), format!("cannot listen on TCP {http}: Address already in use")),
        (run("127.0.0.1:0", &webrtc), format!("cannot listen on UDP {webrtc}: Address already in use")),
    ] {
        assert_eq!(found.code, Some(1), "{found:?}");
        assert!(found.log.contains(&expected), "{expected:?} is not in {}", found.log);
        assert_eq!(found.out, "", "it never said that it was there");
    }
}

#[test]
fn a_shared_udp_port_that_is_taken_is_noticed_too() {
    let server = Server::ready(&format!("[webrtc]\nworkers = 2\n{CAMERA}"));
    let answer = server.http.call(
        "POST",
        "/whep/front",
        &[("Content-Type", "application/sdp")],
        &crate::support::offer::offer(),
    );
    let address = crate::support::answer::Answer::parse(&answer.body).candidates[0].to_string();
    let config = format!("[webrtc]\nworkers = 2\n{CAMERA}");
    let found = Setup::bare()
        .file("lenscast.toml", &config)
        .args(["-c", "lenscast.toml", "--http-listen", "127.0.0.1:0", "--webrtc-listen", &address])
        .run();
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.log.contains(&format!("cannot listen on UDP {address}")), "{}", found.log);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for args in [&["--nonsense"][..], &["fly"], &["--config"], &["--log-format", "xml"], &["completions", "cmd"]] {
        let found = Setup::bare().args(args).run();
        assert_eq!(found.code, Some(2), "{args:?}: {found:?}");
        assert!(found.log.contains("error:"), "{}", found.log);
    }
}

#[test]
fn a_bad_configuration_is_exit_code_78_however_it_is_come_by() {
    for args in [&["check-config"][..], &["run"], &[]] {
        let setup = Setup::bare().file("bad.toml", "[[camera]]\nname = \"a\"\n").args(args);
        let found = setup.args(["--config", "bad.toml"]).run();
        assert_eq!(found.code, Some(78), "{args:?}: {found:?}");
        assert!(found.log.contains("camera \"a\": must have exactly one of"), "{}", found.log);
    }
    let found = Setup::bare().args(["--http-listen", "localhost", "--webrtc-listen", "127.0.0.1:0"]).run();
    assert_eq!(found.code, Some(78), "{found:?}");
    assert!(found.log.contains("http.listen = \"localhost\": must be address and port"), "{}", found.log);
}

#[test]
fn version_and_help_say_what_there_is() {
    let version = Setup::bare().args(["--version"]).run();
    assert_eq!((version.code, version.out.as_str()), (Some(0), concat!("lenscast ", env!("CARGO_PKG_VERSION"), "\n")));
    let help = Setup::bare().args(["--help"]).run();
    assert_eq!(help.code, Some(0));
    for word in ["run", "check-config", "list-cameras", "schema", "completions", "--config", "LENSCAST_CONFIG"] {
        assert!(help.out.contains(word), "{word} is not in\n{}", help.out);
    }
}

#[test]
fn cameras_are_listed_for_people_and_for_programs() {
    let text = Setup::bare().args(["list-cameras"]).run();
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(!text.out.is_empty());
    let json = Setup::bare().args(["list-cameras", "--json"]).run();
    assert_eq!(json.code, Some(0), "{json:?}");
    let listing: serde_json::Value = serde_json::from_str(&json.out).expect("it is JSON");
    let cameras = listing["cameras"].as_array().expect("it has cameras, perhaps none");
    assert_eq!(cameras.is_empty(), text.out.starts_with("no cameras"));
}

#[test]
fn completions_are_there_for_every_shell_and_bash_can_read_its_own() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let found = Setup::bare().args(["completions", shell]).run();
        assert_eq!(found.code, Some(0), "{shell}: {found:?}");
        assert!(found.out.contains("check-config") && found.out.contains("print-effective"), "{shell}: {}", found.out);
        if shell == "bash" {
            let directory = tempfile::tempdir().unwrap();
            let script = directory.path().join("completions");
            std::fs::write(&script, &found.out).unwrap();
            let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().expect("bash is there");
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_lenscast"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
