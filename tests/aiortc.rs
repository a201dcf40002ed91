//! A client that no one here wrote: aiortc, in Python, plays cameras over WHEP and decodes their pictures.
//!
//! The Python is that of the environment variable `LENSCAST_PYTHON`, `.venv/bin/python` by default; it must have what
//! tests/interop/requirements.txt names.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::log::Log;
use support::server::{Server, camera_of};
use support::wait::within;

const FRAMES: u64 = 60;
/// Four seconds of video, and all the time that Python takes to begin.
const BOUND: Duration = Duration::from_secs(60);

fn python() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(std::env::var_os("LENSCAST_PYTHON").unwrap_or_else(|| ".venv/bin/python".into()));
    let with_aiortc = Command::new(&python).args(["-c", "import aiortc"]).output();
    assert!(
        with_aiortc.is_ok_and(|output| output.status.success()),
        "{} has no aiortc: `make .venv` makes one that has, or set LENSCAST_PYTHON to a Python with \
         tests/interop/requirements.txt installed",
        python.display()
    );
    python
}

/// Lets aiortc play the camera, and returns what it says of it.
fn play(codec: &str) -> Value {
    let server = Server::ready(&camera_of(codec));
    let camera = format!("{}/whep/{codec}", server.http.base());
    let report = run(&server, "aiortc_whep.py", &[&camera]);
    println!("{codec}: {report}");
    report
}

/// Runs a script to its end, and returns what it says once the server knows of no session any more.
fn run(server: &Server, script: &str, arguments: &[&str]) -> Value {
    let python = python();
    let mut child = Command::new(python)
        .arg(format!("{}/tests/interop/{script}", env!("CARGO_MANIFEST_DIR")))
        .args(arguments)
        .args(["--frames", &FRAMES.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python ran a moment ago");
    let out = Log::of(child.stdout.take().expect("it is piped"));
    let log = Log::of(child.stderr.take().expect("it is piped"));
    let Some(status) = within(BOUND, || child.try_wait().expect("it is our child")) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("aiortc did not end:\n{}", log.text());
    };
    assert!(status.success(), "aiortc failed:\n{}", log.whole());
    server.metrics_until("its goodbye", |metrics| (metrics.connected() == 0.0).then_some(()));
    serde_json::from_str(&out.whole()).expect("the script prints JSON")
}

fn publishes(codec: &str) {
    let server = Server::ready("[[stream]]\nname = \"robot\"\n");
    let report = run(&server, "aiortc_whip.py", &[server.http.base(), "robot", "--codec", codec]);
    println!("{codec}: {report}");
    assert_eq!((&report["frames"], &report["size"]), (&FRAMES.into(), &serde_json::json!([320, 240])));
    // The picture changes every fifth frame.
    assert!(report["brightnesses"].as_u64() > Some(5), "{report}");
}

fn plays(codec: &str) {
    let report = play(codec);
    assert_eq!(report["frames"], FRAMES);
    assert_eq!(report["size"], serde_json::json!([320, 240]));
    assert_eq!(report["inOrder"], true, "{report}");
    // What lenscast sends is decoded: a lost or wrong reference would show as numbers that cannot be read.
    assert_eq!(report["unreadable"], 0, "{report}");
}

#[test]
fn aiortc_plays_vp8_and_reads_the_frame_numbers_in_order() {
    plays("vp8");
}

#[test]
fn aiortc_plays_h264_and_reads_the_frame_numbers_in_order() {
    plays("h264");
}

#[test]
fn aiortc_publishes_vp8_and_plays_it() {
    publishes("vp8");
}

#[test]
fn aiortc_publishes_h264_and_plays_it() {
    publishes("h264");
}
