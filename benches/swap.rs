//! What a camera that comes back costs the others: three cameras of 640×360 at 15 frames/s in VP8, of which one is given
//! nothing and then its share again, twice a second. Prints the tables of docs/benchmarks.md.
//!
//! ```text
//! cargo bench --bench swap          twenty seconds each way
//! cargo bench --bench swap -- 60    a minute each way
//! ```

mod cameras;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lenscast_encoder::{
    Backend, BuildEncoderError, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder, build,
};
use lenscast_media::{Bitrate, Burst, EncodedFrame, Picture, Resolution};
use lenscast_sender::{
    BurstSink, DEFAULT_MIN, DegradationPreference, Sender, Track, TrackConfig, TrackControl, TrackShare,
};

use cameras::{Camera, pictures};

const CAMERAS: usize = 3;
/// Of the Go sender's measurement, with which this one is compared.
const FRAME_INTERVAL: Duration = Duration::from_micros(66_667);
const SHARE: Bitrate = Bitrate::from_kbps(800);

#[global_allocator]
static ALLOCATOR: CountingOnEncodeTasks = CountingOnEncodeTasks(AtomicU64::new(0));

/// The system's allocator, with a count of the calls of threads that encode.
struct CountingOnEncodeTasks(AtomicU64);

thread_local! {
    static ENCODES: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for CountingOnEncodeTasks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ENCODES.try_with(Cell::get).unwrap_or(false) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the system's allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A real encoder, and the time spent in it.
struct Timed {
    encoder: Box<dyn VideoEncoder>,
    clock: Arc<Clock>,
}

#[derive(Default)]
struct Clock {
    encoding_nanos: AtomicU64,
    builds: Mutex<Vec<Duration>>,
}

impl VideoEncoder for Timed {
    fn settings(&self) -> &EncoderSettings {
        self.encoder.settings()
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError> {
        self.encoder.set_bitrate(target)
    }

    fn encode(
        &mut self,
        picture: &Picture,
        timing: FrameTiming,
        key_frame: bool,
    ) -> Result<Option<EncodedFrame<'_>>, EncodeError> {
        ENCODES.set(true);
        let began = Instant::now();
        let encoded = self.encoder.encode(picture, timing, key_frame);
        let spent = u64::try_from(began.elapsed().as_nanos()).expect("a frame takes less than 584 years");
        self.clock.encoding_nanos.fetch_add(spent, Ordering::Relaxed);
        encoded
    }
}

/// What a camera's frames took.
#[derive(Default)]
struct Sent {
    capture_to_sent: Mutex<Vec<Duration>>,
    /// When the last frame after a start went out.
    started: Mutex<Option<Instant>>,
}

impl Sent {
    /// Makes no memory while it measures.
    fn with_room() -> Self {
        Self { capture_to_sent: Mutex::new(Vec::with_capacity(1 << 20)), ..Self::default() }
    }
}

struct Measure(Arc<Sent>);

impl BurstSink for Measure {
    fn deliver(&self, _: usize, burst: &Arc<Burst>) -> bool {
        let now = Instant::now();
        let meta = burst.meta();
        self.0.capture_to_sent.lock().expect("nobody panics").push(now - meta.times.captured);
        if meta.key_frame {
            *self.0.started.lock().expect("nobody panics") = Some(now);
        }
        true
    }
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    // `cargo test --benches` only wants to know that it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let length = Duration::from_secs(if quick { 1 } else { seconds.unwrap_or(20) });

    let clock = Arc::<Clock>::default();
    let of_build = Arc::clone(&clock);
    let sender = Sender::with_encoders(Arc::new(
        move |settings: &EncoderSettings| -> Result<Box<dyn VideoEncoder>, BuildEncoderError> {
            let began = Instant::now();
            let encoder = build(settings)?;
            of_build.builds.lock().expect("nobody panics").push(began.elapsed());
            Ok(Box::new(Timed { encoder, clock: Arc::clone(&of_build) }))
        },
    ));
    let config = TrackConfig {
        backend: Backend::Vp8,
        framerate: 15.0,
        layers: 1,
        temporal_layers: TemporalLayers::One,
        degradation: DegradationPreference::Disabled,
        share: TrackShare { weight: 1.0, min: DEFAULT_MIN, max: SHARE, enforced: false },
    };
    let pictures = pictures(Resolution::new(640, 360).expect("a legal size"), FRAME_INTERVAL);
    let sent: Vec<_> = (0..CAMERAS).map(|_| Arc::new(Sent::with_room())).collect();
    let tracks: Vec<_> = sent
        .iter()
        .map(|sent| {
            let sink = Box::new(Measure(Arc::clone(sent)));
            sender.add_track(config, TrackControl::new(), sink).expect("it is legal")
        })
        .collect();
    let _demands: Vec<_> = tracks.iter().map(|track| track.control().subscribe(0)).collect();
    let cameras: Vec<_> = (0..CAMERAS as u32)
        .map(|number| {
            let offset = FRAME_INTERVAL * number / CAMERAS as u32;
            Camera::start(&tracks[number as usize], &pictures, FRAME_INTERVAL, offset)
        })
        .collect();
    thread::sleep(Duration::from_secs(1).min(length));

    println!("{CAMERAS} cameras of 640x360 at 15 frames/s, VP8, {:.0} s each way", length.as_secs_f64());
    println!();
    let before = Before::now(&sent, &tracks, &clock);
    thread::sleep(length);
    let quiet = before.others_since(&sent);
    before.print_pipeline(&tracks, &clock);

    clock.builds.lock().expect("nobody panics").clear();
    let before = Before::now(&sent, &tracks, &clock);
    let (mut calls, mut firsts, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + length;
    while Instant::now() < end {
        let last = tracks[CAMERAS - 1].id();
        sender.set_bitrate_allocation(Some(&[(last, 0.0)])).expect("it is legal");
        // Others ask for other things meanwhile.
        for kbps in 0..250 {
            thread::sleep(Duration::from_millis(1));
            let began = Instant::now();
            sender.update_bitrate(Bitrate::from_kbps(10_000 + kbps)).expect("it is open");
            updates.push(began.elapsed());
        }
        let began = Instant::now();
        sender.set_bitrate_allocation(Some(&[(last, 1.0)])).expect("it is legal");
        calls.push(began.elapsed());
        thread::sleep(Duration::from_millis(250));
        let started = sent[CAMERAS - 1].started.lock().expect("nobody panics").take();
        firsts.extend(started.map(|started| started.saturating_duration_since(began)));
    }
    let stormy = before.others_since(&sent);
    let builds = std::mem::take(&mut *clock.builds.lock().expect("nobody panics"));
    let apart = calls.iter().zip(&builds).map(|(call, build)| call.saturating_sub(*build)).collect();

    println!("| | n | p50 ms | p95 ms | p99 ms | max ms |");
    println!("|---|---|---|---|---|---|");
    for (name, spans) in [
        ("other cameras, capture to sent, undisturbed", quiet),
        ("other cameras, capture to sent, while one comes and goes", stormy),
        ("set_bitrate_allocation, nothing to a share", calls),
        ("of it, building the encoder", builds),
        ("of it, all else", apart),
        ("from the call to the first packet of the camera", firsts),
        ("update_bitrate meanwhile", updates),
    ] {
        print_row(name, spans);
    }
    drop(cameras);
    sender.close();
}

/// Where the counters stood.
struct Before {
    frames: Vec<usize>,
    encoded: u64,
    busy: Duration,
    encoding_nanos: u64,
    allocations: u64,
}

impl Before {
    fn now(sent: &[Arc<Sent>], tracks: &[Arc<Track>], clock: &Clock) -> Self {
        let stats: Vec<_> = tracks.iter().map(|track| track.stats()).collect();
        Self {
            frames: sent.iter().map(|sent| sent.capture_to_sent.lock().expect("nobody panics").len()).collect(),
            encoded: stats.iter().map(|stats| stats.frames_encoded).sum(),
            busy: stats.iter().map(|stats| stats.total_encode_time).sum(),
            encoding_nanos: clock.encoding_nanos.load(Ordering::Relaxed),
            allocations: ALLOCATOR.0.load(Ordering::Relaxed),
        }
    }

    /// What the frames of all cameras but the last took since.
    fn others_since(&self, sent: &[Arc<Sent>]) -> Vec<Duration> {
        let others = sent.iter().zip(&self.frames).take(CAMERAS - 1);
        let spans =
            others.flat_map(|(sent, before)| sent.capture_to_sent.lock().expect("nobody panics")[*before..].to_vec());
        spans.collect()
    }

    fn print_pipeline(&self, tracks: &[Arc<Track>], clock: &Clock) {
        let stats: Vec<_> = tracks.iter().map(|track| track.stats()).collect();
        let frames = stats.iter().map(|stats| stats.frames_encoded).sum::<u64>() - self.encoded;
        let busy = stats.iter().map(|stats| stats.total_encode_time).sum::<Duration>() - self.busy;
        let encoding = Duration::from_nanos(clock.encoding_nanos.load(Ordering::Relaxed) - self.encoding_nanos);
        let allocations = ALLOCATOR.0.load(Ordering::Relaxed) - self.allocations;
        let per_frame = |span: Duration| span.as_secs_f64() * 1e6 / frames.max(1) as f64;
        println!("| a frame, over {frames} of them | µs |");
        println!("|---|---|");
        println!("| in the codec | {:.1} |", per_frame(encoding));
        println!("| around it | {:.1} |", per_frame(busy.saturating_sub(encoding)));
        println!();
        let percent = busy.saturating_sub(encoding).as_secs_f64() / encoding.as_secs_f64() * 100.0;
        println!(
            "around the codec: {percent:.2} % of it; memory allocations a frame: {:.3}",
            allocations as f64 / frames.max(1) as f64
        );
        println!();
    }
}

fn print_row(name: &str, mut spans: Vec<Duration>) {
    spans.sort();
    let quantile = |q: f64| {
        let index = ((spans.len().max(1) - 1) as f64 * q).round() as usize;
        spans.get(index).map_or(0.0, |span| span.as_secs_f64() * 1e3)
    };
    let (p50, p95, p99, max) = (quantile(0.5), quantile(0.95), quantile(0.99), quantile(1.0));
    println!("| {name} | {} | {p50:.3} | {p95:.3} | {p99:.3} | {max:.3} |", spans.len());
}
