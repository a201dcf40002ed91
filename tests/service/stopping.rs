use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::offer::offer;
use crate::support::server::{CAMERA, Server};

/// As long as an orderly stop may take, and some.
const DEADLINE: Duration = Duration::from_secs(12);

#[test]
fn a_stopping_server_is_not_ready_and_refuses_new_sessions_with_503_and_retry_after() {
    // It listens for another moment only. A machine that misses that moment gets another chance; an answer counts always.
    for _ in 0..5 {
        let mut server = Server::ready(CAMERA);
        server.signal(Signal::TERM);
        server.log.line_with("stopping");
        let sdp = [("Content-Type", "application/sdp")];
        let refused = server.http.try_call("POST", "/whep/front", &sdp, &offer());
        let ready = server.http.try_call("GET", "/readyz", &[], "");
        assert!(server.wait().success());
        let (Ok(refused), Ok(ready)) = (refused, ready) else { continue };
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        assert_eq!(refused.problem(), "the server is stopping");
        assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("stopping")));
        return;
    }
    panic!("the server was never asked in time");
}

#[test]
fn sigterm_and_sigint_stop_within_the_deadline_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::ready(CAMERA);
        let asked = Instant::now();
        server.signal(signal);
        assert!(server.ends_within(DEADLINE), "{signal:?}");
        assert!(server.wait().success());
        println!("stopped {:?} after {signal:?}", asked.elapsed());
        let log = server.log.whole();
        assert!(log.contains("stopped") && !log.contains("did not stop in time"), "{log}");
    }
}

/// A request that never comes to its end, which an orderly stop waits for.
fn endless_request(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.http.base().strip_prefix("http://").unwrap()).unwrap();
    let head =
        "POST /whep/front HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 1000\r\n\r\nv=0";
    stream.write_all(head.as_bytes()).unwrap();
    // Another request that is answered behind it: by then the first has arrived.
    assert_eq!(server.http.get("/livez").status, 200);
    stream
}

#[test]
fn a_request_that_hangs_does_not_hold_up_the_stop() {
    let mut server = Server::ready(CAMERA);
    let hanging = endless_request(&server);
    server.signal(Signal::TERM);
    assert!(server.ends_within(DEADLINE));
    let log = server.log.whole();
    assert!(log.contains("stopped") && !log.contains("did not stop in time"), "{log}");
    drop(hanging);
}

#[test]
fn a_second_signal_forces_the_stop() {
    let mut server = Server::ready(CAMERA);
    let hanging = endless_request(&server);
    server.signal(Signal::TERM);
    server.log.line_with("stopping");
    server.signal(Signal::TERM);
    assert!(server.ends_within(DEADLINE));
    let log = server.log.whole();
    assert!(log.contains("stopped at once by a second signal"), "{log}");
    drop(hanging);
}
