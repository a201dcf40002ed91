//! Where a frame's time goes: three 720p cameras at 30 frames/s, one for each codec, and five viewers, for a minute.
//!
//! Prints the table of docs/benchmarks.md. The goal is in its last columns: from a picture that is ready to its last packet
//! handed to the kernel, at the 95th percentile, not more than the encoding takes and 1 ms.
//!
//! ```text
//! cargo bench --bench stages          a minute
//! cargo bench --bench stages -- 10    ten seconds
//! ```

#[path = "viewers/seated.rs"]
mod seated;
mod viewers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lenscast::agent::Agent;
use lenscast::config::{self, Config};
use lenscast_transport::{PlayRequest, PlayedVideo, ViewerOffer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use seated::{Manners, Seated};
use viewers::Audience;

const CAMERAS: [(&str, &str); 3] = [("front", "vp8"), ("rear", "vp9"), ("gate", "h264")];
const VIEWERS: usize = 5;
const BOUND: Duration = Duration::from_secs(30);

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    // `cargo test --benches` only wants to know that it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let length = Duration::from_secs(if quick { 1 } else { seconds.unwrap_or(60) });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(run(length));
}

async fn run(length: Duration) {
    let cameras = CAMERAS.map(|(name, codec)| {
        format!("[[camera]]\nname = \"{name}\"\npattern = true\ncodec = \"{codec}\"\nmax_kbps = 1500\n")
    });
    let text = format!("[webrtc]\nlisten = [\"127.0.0.1:0\"]\n{}", cameras.concat());
    let config = Config::from_raw(config::parse(&text).expect("TOML")).expect("a configuration");
    let (agent, _events) = Agent::start(&config, StdRng::seed_from_u64(1)).await.expect("it starts");
    let cameras = agent.cameras();
    for camera in &cameras {
        assert!(tokio::task::block_in_place(|| camera.wait_until_live(BOUND)), "a pattern goes live at once");
    }

    let audience = Audience::new();
    let viewers = (0..VIEWERS).map(|number| {
        let camera = &cameras[number % cameras.len()];
        let codec = camera.config().settings.backend.codec();
        let offer = ViewerOffer::parse(&audience.offer_of(codec)).expect("the offer is good");
        let video = PlayedVideo { producer: camera.producer(), codec, preferred: None };
        let request = PlayRequest { stream: "bench".to_owned(), video, audio: None };
        let session = agent.transport().create_session(&offer, std::slice::from_ref(&request), true);
        audience.viewer(&session.expect("there is room").answer)
    });
    let viewers = viewers.collect();
    let seated = tokio::task::block_in_place(|| Seated::seat(viewers, Arc::new(Manners::default())));
    let start = Instant::now();
    tokio::time::sleep(length).await;
    println!(
        "{} cameras of 1280x720 at 30 frames/s, {VIEWERS} viewers, {:.0} s",
        CAMERAS.len(),
        start.elapsed().as_secs_f64()
    );
    println!("{} datagrams of RTP reached the viewers", seated.received.media.load(Ordering::Relaxed));
    println!();
    println!("| camera | codec | frames | stage | p50 ms | p95 ms |");
    println!("|---|---|---|---|---|---|");
    for camera in &cameras {
        let millis = |span: Option<Duration>| span.map_or(0.0, |span| span.as_secs_f64() * 1e3);
        let name = &camera.config().name;
        let codec = camera.config().settings.backend;
        for (stage, histogram) in camera.stages().named() {
            let snapshot = histogram.snapshot();
            let (p50, p95) = (millis(snapshot.quantile(0.5)), millis(snapshot.quantile(0.95)));
            println!("| {name} | {codec} | {} | {stage} | {p50:.2} | {p95:.2} |", snapshot.count());
        }
    }
    println!();
    for camera in &cameras {
        let millis = |span: Option<Duration>| span.map_or(0.0, |span| span.as_secs_f64() * 1e3);
        let p95 = |histogram: &lenscast_media::Histogram| millis(histogram.snapshot().quantile(0.95));
        let stages = camera.stages();
        let (encode, ready_to_sent) = (p95(&stages.encode), p95(&stages.ready_to_sent));
        let name = &camera.config().name;
        println!(
            "{name}: ready to sent p95 {ready_to_sent:.2} ms = encode p95 {encode:.2} ms {:+.2} ms",
            ready_to_sent - encode
        );
    }
    drop(seated);
    agent.shutdown().await;
}
