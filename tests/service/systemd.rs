use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::support::server::{CAMERA, Server, Setup};
use crate::support::wait::BOUND;

/// A service manager's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    fn starting(config: &str, watchdog_usec: Option<&str>) -> (Self, Server) {
        let setup = Setup::new(config);
        let path = setup.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        let setup = setup.env("NOTIFY_SOCKET", &path);
        let setup = watchdog_usec.into_iter().fold(setup, |setup, period| setup.env("WATCHDOG_USEC", period));
        (Self(socket), setup.start())
    }

    /// The next message, line by line. Panics if none comes.
    fn message(&self) -> Vec<String> {
        let mut buffer = [0; 4_096];
        let len = self.0.recv(&mut buffer).expect("waited in vain for a message");
        String::from_utf8_lossy(&buffer[..len]).lines().map(str::to_owned).collect()
    }

    /// The next message that is not the watchdog's.
    fn state(&self) -> Vec<String> {
        loop {
            let message = self.message();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }
}

/// CLOCK_MONOTONIC in microseconds.
fn monotonic_usec() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[test]
fn ready_reloading_and_stopping_are_told_in_order() {
    let (manager, mut server) = Manager::starting(CAMERA, None);
    assert_eq!(manager.state(), ["READY=1"]);

    let before = monotonic_usec();
    server.signal(Signal::HUP);
    let reloading = manager.state();
    assert_eq!(reloading[0], "RELOADING=1", "{reloading:?}");
    let usec: i128 = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("the time of it").parse().unwrap();
    assert!(before <= usec && usec <= monotonic_usec(), "{before} {usec}");
    assert_eq!(manager.state(), ["READY=1"]);

    std::fs::write(server.path("lenscast.toml"), "nonsense").unwrap();
    server.signal(Signal::HUP);
    assert_eq!(manager.state()[0], "RELOADING=1");
    assert_eq!(manager.state(), ["READY=1"], "a bad file is no reason to be killed");

    server.signal(Signal::TERM);
    assert_eq!(manager.state(), ["STOPPING=1"]);
    assert!(server.wait().success());
}

#[test]
fn it_is_ready_only_once_it_listens() {
    let (manager, server) = Manager::starting(CAMERA, None);
    assert_eq!(manager.message(), ["READY=1"]);
    assert_eq!(server.http.get("/livez").status, 200);
}

#[test]
fn the_watchdog_is_fed_while_cameras_make_progress_or_are_known_to_be_gone() {
    let missing = "[[camera]]\nname = \"gate\"\nfile = \"missing.y4m\"\n";
    let (manager, _server) = Manager::starting(&format!("{CAMERA}{missing}"), Some("200000"));
    let fed = (0..20).filter(|_| manager.message() == ["WATCHDOG=1"]).count();
    assert!(fed >= 19, "all but the first are the watchdog's: {fed}");
}

#[test]
fn without_a_watchdog_nothing_is_fed() {
    let (manager, server) = Manager::starting(CAMERA, None);
    assert_eq!(manager.message(), ["READY=1"]);
    server.signal(Signal::TERM);
    assert_eq!(manager.message(), ["STOPPING=1"]);
}
