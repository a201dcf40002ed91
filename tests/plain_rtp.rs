//! FFmpeg sends plain RTP to a configured stream, and viewers on the webrtc crate play it.

mod support;

#[path = "../encoder/tests/encoders/decoder.rs"]
mod decoder;

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use decoder::Decoder;
use lenscast_media::Codec;
use rustix::process::Signal;
use serde_json::Value;
use support::client::Client;
use support::server::{Server, Setup};
use support::wait::until;

/// 30 bytes: a master key and salt.
const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
/// As long, and another.
const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const VP8: [&str; 8] = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "300k"];
const H264: [&str; 8] = ["-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline", "-tune", "zerolatency"];

/// FFmpeg, sending. Killed when it is dropped.
struct Sender(Child);

impl Sender {
    fn start(codec: &[&str], output: &[&str], to: &str) -> Self {
        let picture =
            ["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=15", "-pix_fmt", "yuv420p"];
        // It answers no request for a key frame.
        let group = ["-g", "8", "-an", "-f", "rtp"];
        let child = Command::new("ffmpeg")
            .args(picture)
            .args(codec)
            .args(group)
            .args(["-payload_type", "96"])
            .args(output)
            .arg(to)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("ffmpeg is installed"))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stream(codec: &str, listen: &str, more: &str) -> String {
    format!("[[stream]]\nname = \"gate\"\nrtp = {{ listen = \"{listen}\", codec = \"{codec}\"{more} }}\n")
}

/// Where it listens, after so many times that it has begun to.
fn port(server: &Server, times: usize) -> u16 {
    until("the port", || {
        let text = server.log.text();
        let line = text.lines().filter(|line| line.contains("listens for plain RTP")).nth(times)?.to_owned();
        let (_, after) = line.split_once("rtp=127.0.0.1:")?;
        after.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    })
}

fn listed(server: &Server) -> Value {
    let listed = server.http.get("/api/v1/cameras").json();
    let feeds = listed["cameras"].as_array().expect("there is a list");
    feeds.iter().find(|feed| feed["name"] == "gate").expect("it is listed").clone()
}

fn until_state(server: &Server, state: &str) {
    until(state, || (listed(server)["state"] == state).then_some(()));
}

/// Plays it for a second and decodes every frame.
fn plays(server: &Server, codec: Codec) {
    until_state(server, "live");
    let mut client = Client::play(&server.http, "/whep/gate", codec);
    let mut decoder = Decoder::new(codec);
    for _ in 0..15 {
        let picture = decoder.decode(&client.frame().data);
        assert_eq!((picture.resolution().width(), picture.resolution().height()), (320, 240));
    }
}

#[test]
fn ffmpegs_vp8_and_h264_are_played() {
    for (name, codec, arguments) in [("vp8", Codec::Vp8, VP8), ("h264", Codec::H264, H264)] {
        let server = Setup::new(&stream(name, "127.0.0.1:0", "")).start();
        let to = format!("rtp://127.0.0.1:{}", port(&server, 0));
        assert_eq!(listed(&server)["state"], "offline");
        let sender = Sender::start(&arguments, &[], &to);
        plays(&server, codec);
        drop(sender);
        until_state(&server, "silent");
        // Another one comes from another port, with another source.
        until("it is listened for another", || {
            let listens = server.log.text().matches("listens for plain RTP").count();
            (listens == 2).then_some(())
        });
        let to = format!("rtp://127.0.0.1:{}", port(&server, 1));
        let _sender = Sender::start(&arguments, &[], &to);
        plays(&server, codec);
    }
}

#[test]
fn ffmpegs_srtp_is_played_under_its_key_and_no_other() {
    for (codec, suite) in [("vp8", "AES_CM_128_HMAC_SHA1_80"), ("h264", "AES_CM_128_HMAC_SHA1_32")] {
        let srtp = format!(", srtp = {{ profile = \"{suite}\", key_file = \"gate-key\" }}");
        let setup = Setup::new(&stream(codec, "127.0.0.1:0", &srtp)).file("gate-key", &format!("{KEY}\n"));
        let server = setup.start();
        let to = format!("srtp://127.0.0.1:{}", port(&server, 0));
        let (codec, arguments) = if codec == "vp8" { (Codec::Vp8, VP8) } else { (Codec::H264, H264) };
        let keyed = |key| Sender::start(&arguments, &["-srtp_out_suite", suite, "-srtp_out_params", key], &to);
        let wrong = keyed(OTHER_KEY);
        server.metrics_until("it is refused", |metrics| {
            let refused = metrics.dropped("srtp_refused");
            (refused > 20.0).then_some(())
        });
        assert_eq!(listed(&server)["state"], "offline");
        drop(wrong);
        let _right = keyed(KEY);
        plays(&server, codec);
    }
}

#[test]
fn a_port_that_is_taken_is_said_and_tried_again_and_a_reload_moves_it() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let server = Setup::new(&stream("vp8", &listen, ", rtcp_mux = true")).start();
    server.log.line_with(&format!("cannot listen on UDP {listen}"));
    until("why it is offline", || {
        let gate = listed(&server);
        gate.to_string().contains("Address already in use").then_some(())
    });
    drop(taken);
    assert_eq!(port(&server, 0).to_string(), listen.rsplit(':').next().unwrap());

    let reload = |config: &str| {
        std::fs::write(server.path("lenscast.toml"), config).unwrap();
        server.signal(Signal::HUP);
    };
    // On the same port, which has to be free by then.
    reload(&stream("h264", &listen, ", rtcp_mux = true"));
    assert_eq!(port(&server, 1).to_string(), listen.rsplit(':').next().unwrap());
    assert_eq!(server.log.text().matches("cannot listen").count(), 1);
    let _sender = Sender::start(&H264, &[], &format!("rtp://{listen}"));
    plays(&server, Codec::H264);
    reload("[[stream]]\nname = \"robot\"\n");
    // Nobody has it any more.
    until("the port is free", || UdpSocket::bind(&listen).ok());
}
