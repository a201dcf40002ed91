//! A publisher and viewer that no one here wrote: GStreamer's webrtcbin publishes over WHIP and plays over WHEP.
//!
//! Its bindings come with the system's Python, as Debian packages: python3-gi, gir1.2-gst-plugins-bad-1.0, and GStreamer's
//! plugins "good", "bad" and "nice".

mod support;

use std::path::Path;

use serde_json::json;
use support::script::Script;
use support::server::Server;

const FRAMES: u64 = 60;
/// Of the system: no virtual environment has the bindings.
const PYTHON: &str = "/usr/bin/python3";
const PROBE: &str = "import gi; gi.require_version('GstWebRTC', '1.0'); from gi.repository import GstWebRTC";

fn publishes(codec: &str) {
    let script = Script::new(Path::new(PYTHON), "gstreamer.py", PROBE, "`scripts/install-packages test` installs it");
    let server = Server::ready("[[stream]]\nname = \"robot\"\n");
    let arguments = [server.http.base(), "robot", "--codec", codec, "--frames", &FRAMES.to_string()];
    let report = script.run(&server, &arguments);
    println!("{codec}: {report}");
    assert_eq!((&report["frames"], &report["size"]), (&FRAMES.into(), &json!([320, 240])));
    // The ball moves with each frame.
    assert!(report["different"].as_u64() > Some(FRAMES / 2), "{report}");
}

#[test]
fn webrtcbin_publishes_vp8_and_plays_it() {
    publishes("vp8");
}

#[test]
fn webrtcbin_publishes_h264_and_plays_it() {
    publishes("h264");
}
