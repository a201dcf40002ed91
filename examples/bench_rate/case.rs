//! One encoder through nineteen seconds of virtual time.

use std::time::Duration;

use lenscast_encoder::{Backend, EncoderSettings, FrameTiming, TemporalLayers, build};
use lenscast_media::{Bitrate, Codec, Resolution};

use crate::content::{Content, Library};

/// When frames come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    Even(f64),
    /// As from a camera that is told 30 frames/s: at 12 to 60 ms from one another.
    Jitter,
}

const JITTER_MS: [u64; 8] = [20, 45, 30, 38, 27, 60, 12, 33];

impl Pace {
    /// What the encoder is told.
    const fn nominal(self) -> f64 {
        match self {
            Self::Even(rate) => rate,
            Self::Jitter => 30.0,
        }
    }

    fn step(self, frame: usize) -> Duration {
        match self {
            Self::Even(rate) => Duration::from_secs_f64(1.0 / rate),
            Self::Jitter => Duration::from_millis(JITTER_MS[frame % JITTER_MS.len()]),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    backend: Backend,
    resolution: Resolution,
    pace: Pace,
    content: Content,
    kbps: u64,
}

/// In seconds.
const KEY_FRAME: f64 = 5.0;
const DOWN: f64 = 9.0;
const UP: f64 = 14.0;
const END: f64 = 19.0;
/// From one change of the target to the next.
const SPAN: f64 = 5.0;
/// Where the mean begins.
const SETTLED: f64 = 1.0;

/// A frame that came out.
#[derive(Debug, Clone, Copy)]
struct Coded {
    at: f64,
    bits: f64,
    key_frame: bool,
    quantizer: Option<u8>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    mean: f64,
    worst_second: f64,
    dropped: usize,
    frames: usize,
    key_frames: [f64; 2],
    down: Option<f64>,
    up: Option<f64>,
    quantizer: Option<f64>,
}

impl Case {
    pub(crate) fn new(backend: Backend, (width, height): (u32, u32), pace: Pace, content: Content, kbps: u64) -> Self {
        let resolution = Resolution::new(width, height).expect("even sides");
        Self { backend, resolution, pace, content, kbps }
    }

    pub(crate) const fn resolution(&self) -> Resolution {
        self.resolution
    }

    pub(crate) const fn content(&self) -> Content {
        self.content
    }

    /// `None` if the content cannot be read.
    pub(crate) fn run(&self, library: &Library) -> Option<Outcome> {
        let mut reel = library.reel(self.content, self.resolution)?;
        let (full, half) = (Bitrate::from_kbps(self.kbps), Bitrate::from_kbps(self.kbps / 2));
        let settings = EncoderSettings {
            backend: self.backend,
            resolution: self.resolution,
            framerate: self.pace.nominal(),
            bitrate: full,
            temporal_layers: TemporalLayers::One,
        };
        let mut encoder = build(&settings).expect("every case is legal");
        let mut coded = Vec::new();
        let mut frames = 0;
        let mut now = Duration::ZERO;
        let mut asked = false;
        while now.as_secs_f64() < END {
            let at = now.as_secs_f64();
            let target = if (DOWN..UP).contains(&at) { half } else { full };
            encoder.set_bitrate(target).expect("a legal target");
            let key_frame = !asked && at >= KEY_FRAME;
            asked |= key_frame;
            let step = self.pace.step(frames);
            let timing = FrameTiming { timestamp: now, duration: step };
            let frame = encoder.encode(reel.picture(frames as u64, now), timing, key_frame).expect("the library works");
            coded.extend(frame.map(|frame| Coded {
                at,
                bits: frame.data.len() as f64 * 8.0,
                key_frame: frame.key_frame,
                quantizer: frame.quantizer,
            }));
            now += step;
            frames += 1;
        }
        Some(self.outcome(&coded, frames))
    }

    fn outcome(&self, coded: &[Coded], frames: usize) -> Outcome {
        let target = self.kbps as f64;
        let kbps = |from: f64, to: f64| {
            let bits: f64 = coded.iter().filter(|frame| (from..to).contains(&frame.at)).map(|frame| frame.bits).sum();
            bits / 1_000.0 / (to - from)
        };
        // The seconds begin at every tenth.
        let worst = (0..).map(|tenth| SETTLED + f64::from(tenth) / 10.0).take_while(|from| from + 1.0 <= DOWN);
        let settling = |step: f64, target: f64| {
            let is_near = |from: f64, to: f64| (kbps(from, to) / target - 1.0).abs() <= 0.1;
            let tenths = (0..=40).map(|tenth| step + f64::from(tenth) / 10.0);
            let settled = tenths.into_iter().find(|&from| is_near(from, from + 1.0) && is_near(from, step + SPAN));
            settled.map(|settled| settled - step)
        };
        let average_frame = target * 1_000.0 * (self.pace.step(0).as_secs_f64());
        let average_frame = match self.pace {
            Pace::Even(_) => average_frame,
            Pace::Jitter => target * 1_000.0 * JITTER_MS.iter().sum::<u64>() as f64 / 8_000.0,
        };
        let mut key_frames = coded.iter().filter(|frame| frame.key_frame).map(|frame| frame.bits / average_frame);
        let quantizers: Vec<_> = coded
            .iter()
            .filter(|frame| (SETTLED..DOWN).contains(&frame.at))
            .filter_map(|frame| frame.quantizer.map(f64::from))
            .collect();
        Outcome {
            mean: kbps(SETTLED, DOWN),
            worst_second: worst.map(|from| kbps(from, from + 1.0)).fold(0.0, f64::max),
            dropped: frames - coded.len(),
            frames,
            key_frames: [key_frames.next().unwrap_or(f64::NAN), key_frames.next().unwrap_or(f64::NAN)],
            down: settling(DOWN, target / 2.0),
            up: settling(UP, target),
            quantizer: (!quantizers.is_empty()).then(|| quantizers.iter().sum::<f64>() / quantizers.len() as f64),
        }
    }

    /// Size and frame rate, as in `720p@30`.
    pub(crate) fn point(&self) -> String {
        let height = self.resolution.height();
        match self.pace {
            Pace::Even(rate) => format!("{height}p@{rate:.0}"),
            Pace::Jitter => format!("{height}p@~30"),
        }
    }

    fn name(&self) -> String {
        let pace = match self.pace {
            Pace::Even(rate) => format!("{rate:.0}"),
            Pace::Jitter => "~30".into(),
        };
        let Self { backend, resolution, content, kbps, .. } = self;
        format!("| {backend} | {}p | {pace} | {} | {kbps} |", resolution.height(), content.name())
    }

    /// The codec's finest and coarsest quantizer as lenscast sets them.
    const fn quantizers(&self) -> (f64, f64) {
        match self.backend.codec() {
            Codec::Vp8 => (2.0, 127.0),
            Codec::Vp9 => (8.0, 255.0),
            Codec::H264 => (12.0, 51.0),
        }
    }
}

impl Outcome {
    pub(crate) const HEADER: &str = "\
| codec | size | fps | content | target | mean | error % | worst s % | dropped | first key | key | down s | up s | q |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

    pub(crate) fn row(&self, case: &Case) -> String {
        let target = case.kbps as f64;
        let percent = |kbps: f64| (kbps / target - 1.0) * 100.0;
        let seconds = |time: Option<f64>| time.map_or("-".into(), |time| format!("{time:.1}"));
        let (finest, coarsest) = case.quantizers();
        let margin = (coarsest - finest) * 0.02;
        let quantizer = self.quantizer.map_or("?".into(), |quantizer| {
            let end = match quantizer {
                quantizer if quantizer <= finest + margin => " fine",
                quantizer if quantizer >= coarsest - margin => " coarse",
                _ => "",
            };
            format!("{quantizer:.0}{end}")
        });
        format!(
            "{} {:.0} | {:+.1} | {:+.0} | {}/{} | {:.1} | {:.1} | {} | {} | {quantizer} |",
            case.name(),
            self.mean,
            percent(self.mean),
            percent(self.worst_second),
            self.dropped,
            self.frames,
            self.key_frames[0],
            self.key_frames[1],
            seconds(self.down),
            seconds(self.up),
        )
    }

    pub(crate) fn absent_row(case: &Case) -> String {
        format!("{} not read | | | | | | | | |", case.name())
    }
}
