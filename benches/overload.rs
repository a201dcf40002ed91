//! Fourteen cameras of 1920×1080 at 30 frames/s on a machine that cannot encode them all: how they step down. Prints what each
//! encodes, for each ten seconds, and the table of docs/benchmarks.md.
//!
//! ```text
//! cargo bench --bench overload                      fourteen cameras, a minute and a half
//! cargo bench --bench overload -- 60 maintain-framerate
//! ```

mod cameras;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lenscast_encoder::{Backend, TemporalLayers};
use lenscast_media::{Bitrate, Burst, Resolution};
use lenscast_sender::{
    BurstSink, DEFAULT_MIN, DegradationPreference, Sender, TrackConfig, TrackControl, TrackShare, TrackStats,
};

use cameras::{Camera, pictures};

const CAMERAS: u32 = 14;
const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);

struct Nowhere;

impl BurstSink for Nowhere {
    fn deliver(&self, _: usize, _: &Arc<Burst>) -> bool {
        true
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok());
    let preference = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or_default();
    // `cargo test --benches` only wants to know that it runs.
    let quick = arguments.iter().any(|argument| argument == "--test");
    let length = Duration::from_secs(if quick { 2 } else { seconds.unwrap_or(90) });
    run(preference, length);
}

fn run(degradation: DegradationPreference, length: Duration) {
    let sender = Sender::new();
    let config = TrackConfig {
        backend: Backend::Vp8,
        framerate: 30.0,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation,
        share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(3_000), enforced: false },
    };
    let pictures = pictures(Resolution::new(1920, 1080).expect("a legal size"), FRAME_INTERVAL);
    let tracks: Vec<_> = (0..CAMERAS)
        .map(|_| sender.add_track(config, TrackControl::new(), Box::new(Nowhere)).expect("it is legal"))
        .collect();
    let _demands: Vec<_> = tracks.iter().map(|track| track.control().subscribe(0)).collect();
    let cameras: Vec<_> = (0..CAMERAS)
        .zip(&tracks)
        .map(|(number, track)| Camera::start(track, &pictures, FRAME_INTERVAL, FRAME_INTERVAL * number / CAMERAS))
        .collect();

    println!("{CAMERAS} cameras of 1920x1080 at 30 frames/s, VP8, {degradation}");
    println!();
    println!("| after s | width, least to most | frames/s, least to most | all pixels/s, of what came |");
    println!("|---|---|---|---|");
    let start = Instant::now();
    let offered = f64::from(CAMERAS) * 30.0 * 1920.0 * 1080.0;
    while start.elapsed() < length {
        thread::sleep(Duration::from_secs(10).min(length.saturating_sub(start.elapsed())));
        let stats: Vec<TrackStats> = tracks.iter().map(|track| track.stats()).collect();
        let widths = stats.iter().map(|stats| stats.resolution.map_or(0, Resolution::width));
        let rates: Vec<f64> = stats.iter().map(|stats| stats.frames_per_second).collect();
        let pixels: f64 = stats
            .iter()
            .map(|stats| stats.resolution.map_or(0.0, |size| size.pixels() as f64) * stats.frames_per_second)
            .sum();
        println!(
            "| {:.0} | {} to {} | {:.1} to {:.1} | {:.0} % |",
            start.elapsed().as_secs_f64(),
            widths.clone().min().unwrap_or(0),
            widths.max().unwrap_or(0),
            rates.iter().copied().fold(f64::INFINITY, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
            pixels / offered * 100.0,
        );
    }
    drop(cameras);
    sender.close();
}
