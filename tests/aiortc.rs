//! A client that no one here wrote: aiortc, in Python, plays cameras over WHEP, and streams that it publishes over WHIP, and
//! decodes their pictures.
//!
//! The Python is that of the environment variable `LENSCAST_PYTHON`, `.venv/bin/python` by default; it must have what
//! tests/interop/requirements.txt names.

mod support;

use std::path::PathBuf;

use serde_json::Value;
use support::script::Script;
use support::server::{Server, camera_of};

const FRAMES: u64 = 60;

fn script(name: &'static str) -> Script {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(std::env::var_os("LENSCAST_PYTHON").unwrap_or_else(|| ".venv/bin/python".into()));
    let remedy = "`make .venv` makes a Python that can, or set LENSCAST_PYTHON to one with tests/interop/requirements.txt \
                  installed";
    Script::new(&python, name, "import aiortc", remedy)
}

/// Lets aiortc play the camera, and returns what it says of it.
fn play(codec: &str) -> Value {
    let server = Server::ready(&camera_of(codec));
    let camera = format!("{}/whep/{codec}", server.http.base());
    let report = script("aiortc_whep.py").run(&server, &[&camera, "--frames", &FRAMES.to_string()]);
    println!("{codec}: {report}");
    report
}

fn publishes(codec: &str) {
    let server = Server::ready("[[stream]]\nname = \"robot\"\n");
    let arguments = [server.http.base(), "robot", "--codec", codec, "--frames", &FRAMES.to_string()];
    let report = script("aiortc_whip.py").run(&server, &arguments);
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
