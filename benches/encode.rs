//! What a frame costs to encode, on one core: per codec and size, on a picture that moves and has grain.
//!
//! ```text
//! cargo bench --bench encode                  everything
//! cargo bench --bench encode -- 720p          one size
//! ```
//!
//! `encode/CODEC-SIZE` is one delta frame of a running stream (of the plain fallback at 720p only); `set_bitrate/CODEC`
//! one change of the target, to and fro; `build/CODEC` an encoder made, its first key frame included, and dropped, at
//! 720p. Measured is processor time, all threads together, so that other work on the machine does not count.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lenscast_encoder::{Backend, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder, build};
use lenscast_media::{Bitrate, Picture, Resolution};
use rustix::time::{ClockId, clock_gettime};

const FRAMERATE: f64 = 30.0;

/// Name, width, height, and a target in kb/s that a camera of this size is given.
const SIZES: [(&str, u32, u32, u64); 4] =
    [("180p", 320, 180, 200), ("360p", 640, 360, 600), ("720p", 1280, 720, 1_500), ("1080p", 1920, 1080, 3_000)];

fn settings(backend: Backend, (_, width, height, kbps): (&str, u32, u32, u64)) -> EncoderSettings {
    let resolution = Resolution::new(width, height).expect("even sides");
    EncoderSettings {
        backend,
        resolution,
        framerate: FRAMERATE,
        bitrate: Bitrate::from_kbps(kbps),
        temporal_layers: TemporalLayers::One,
    }
}

/// A stream that runs through a second of pictures, forwards and backwards, so that there is never a cut.
struct Stream {
    encoder: Box<dyn VideoEncoder>,
    pictures: Vec<Picture>,
    frame: u32,
    dropped: u32,
}

impl Stream {
    fn new(settings: &EncoderSettings) -> Self {
        let pictures = (0..30).map(|frame| moving_picture(settings.resolution, frame)).collect();
        let encoder = build(settings).expect("legal settings");
        let mut stream = Self { encoder, pictures, frame: 0, dropped: 0 };
        // The rate control settles within two seconds.
        (0..60).for_each(|_| stream.encode());
        (stream.frame, stream.dropped) = (0, 0);
        stream
    }

    fn encode(&mut self) {
        let last = self.pictures.len() as u32 - 1;
        let phase = self.frame % (2 * last);
        let picture = &self.pictures[phase.min(2 * last - phase) as usize];
        let interval = Duration::from_secs_f64(1.0 / FRAMERATE);
        let timing = FrameTiming { timestamp: interval * self.frame, duration: interval };
        let coded = self.encoder.encode(picture, timing, false).expect("a picture of the right size");
        self.dropped += u32::from(coded.is_none());
        black_box(coded.map(|coded| coded.data.len()));
        self.frame += 1;
    }
}

/// A textured wall that the camera pans along, a bright box that crosses it, and some grain of the sensor.
fn moving_picture(resolution: Resolution, frame: u32) -> Picture {
    let mut picture = Picture::black(resolution);
    let (width, height) = (resolution.width(), resolution.height());
    let mut grain = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(u64::from(frame) + 1);
    let side = height / 4;
    let (left, top) = ((frame * 9) % (width - side), (frame * 5) % (height - side));
    let planes = picture.planes_mut();
    for (index, luma) in (0..).zip(planes.y.iter_mut()) {
        let (x, y) = (index % width, index / width);
        let in_box = (left..left + side).contains(&x) && (top..top + side).contains(&y);
        // xorshift64, G. Marsaglia, "Xorshift RNGs", 2003.
        grain ^= grain << 13;
        grain ^= grain >> 7;
        grain ^= grain << 17;
        let noise = (grain >> 32) as u32 & 7;
        *luma = if in_box { 190 + noise } else { wall(x + frame * 3, y + frame) + noise } as u8;
    }
    for (plane, period) in [(planes.u, 211), (planes.v, 307)] {
        for (index, chroma) in (0..).zip(plane.iter_mut()) {
            *chroma = (100 + (index % (width / 2) + frame) * 56 / period % 56) as u8;
        }
    }
    picture
}

/// Shading, edges, and detail of a few levels; from 40 to 167.
fn wall(x: u32, y: u32) -> u32 {
    let shading = (x / 4 + y / 3) % 96;
    let edge = if (x / 40 + y / 24).is_multiple_of(2) { 24 } else { 0 };
    let detail = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(2_246_822_519)) >> 29;
    40 + shading + edge + detail
}

fn encode(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("encode");
    for backend in Backend::ALL {
        for size in if backend == Backend::VpxEncode { &SIZES[2..3] } else { &SIZES[..] } {
            group.bench_function(BenchmarkId::from_parameter(format!("{backend}-{}", size.0)), |bencher| {
                let mut stream = Stream::new(&settings(backend, *size));
                bencher.iter(|| stream.encode());
                assert!(
                    stream.dropped * 20 <= stream.frame,
                    "a dropped frame costs nothing, and this measures too many"
                );
            });
        }
    }
}

fn set_bitrate(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("set_bitrate");
    for backend in [Backend::Vp8, Backend::Vp9, Backend::H264] {
        let mut stream = Stream::new(&settings(backend, SIZES[2]));
        let mut high = false;
        group.bench_function(BenchmarkId::from_parameter(backend), |bencher| {
            bencher.iter(|| {
                high = !high;
                let target = Bitrate::from_kbps(if high { 1_500 } else { 1_400 });
                stream.encoder.set_bitrate(black_box(target)).expect("a legal target");
            });
        });
    }
}

fn build_and_first_frame(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("build");
    for backend in [Backend::Vp8, Backend::Vp9, Backend::H264, Backend::VpxEncode] {
        let settings = settings(backend, SIZES[2]);
        let picture = moving_picture(settings.resolution, 0);
        let timing = FrameTiming { timestamp: Duration::ZERO, duration: Duration::from_secs_f64(1.0 / FRAMERATE) };
        group.bench_function(BenchmarkId::from_parameter(backend), |bencher| {
            bencher.iter(|| {
                let mut encoder = build(&settings).expect("legal settings");
                let coded = encoder.encode(&picture, timing, false).expect("a picture of the right size");
                coded.expect("a first frame is not dropped").data.len()
            });
        });
    }
}

/// The time that the process has been running on a processor.
struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::try_from(time).expect("a process has run for some time, not for less than none")
    }

    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }

    fn add(&self, left: &Duration, right: &Duration) -> Duration {
        *left + *right
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(ProcessorTime)
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = encode, set_bitrate, build_and_first_frame
}
criterion_main!(benches);
