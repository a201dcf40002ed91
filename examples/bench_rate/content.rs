//! What is encoded: the same pictures on every run.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lenscast_capture::Pattern;
use lenscast_media::{Picture, Resolution};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// The test pattern: mostly still, with a scrolling texture, a ball and a clock.
    Pattern,
    /// The pattern with the noise of a sensor in the dark.
    Noisy,
    /// Cyclists, filmed by hand.
    Bikes,
    /// Animation.
    Bunny,
}

impl Content {
    pub(crate) const ALL: [Self; 4] = [Self::Pattern, Self::Noisy, Self::Bikes, Self::Bunny];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Noisy => "noisy",
            Self::Bikes => "bikes",
            Self::Bunny => "bunny",
        }
    }

    const fn file(self) -> Option<&'static str> {
        match self {
            Self::Pattern | Self::Noisy => None,
            Self::Bikes => Some("bikes.mp4"),
            Self::Bunny => Some("bigbuckbunny.mp4"),
        }
    }
}

type Film = Arc<Vec<Picture>>;

/// Hands content out.
pub(crate) struct Library {
    clips: Option<PathBuf>,
    /// Of the size that is being measured; `None` where it could not be read.
    films: Mutex<BTreeMap<(Content, u32), Option<Film>>>,
}

/// Frames of a clip, and how many of them there are to a second.
const FILM_FRAMES: usize = 75;
const FILM_RATE: f64 = 25.0;

impl Library {
    pub(crate) fn new(clips: Option<PathBuf>) -> Self {
        Self { clips, films: Mutex::default() }
    }

    pub(crate) fn has(&self, content: Content) -> bool {
        content.file().is_none_or(|file| self.clips.as_ref().is_some_and(|clips| clips.join(file).exists()))
    }

    /// `None` if ffmpeg cannot read the clip.
    pub(crate) fn reel(&self, content: Content, resolution: Resolution) -> Option<Reel> {
        let pattern = || Box::new(Pattern::new(resolution).expect("every size of the table is large enough"));
        let picture = Picture::black(resolution);
        match content {
            Content::Pattern => Some(Reel { kind: Kind::Pattern(pattern()), picture }),
            Content::Noisy => Some(Reel { kind: Kind::Noisy(pattern(), grain(resolution)), picture }),
            Content::Bikes | Content::Bunny => {
                let mut films = self.films.lock().expect("no thread panics while it holds this");
                let key = (content, resolution.height());
                films.retain(|&(_, height), film| {
                    height == key.1 || film.as_ref().is_some_and(|film| Arc::strong_count(film) > 1)
                });
                let film = films.entry(key).or_insert_with(|| self.read(content, resolution).map(Arc::new));
                Some(Reel { kind: Kind::Film(film.clone()?), picture })
            }
        }
    }

    fn read(&self, content: Content, resolution: Resolution) -> Option<Vec<Picture>> {
        let file = self.clips.as_ref()?.join(content.file()?);
        let scale = format!("fps={FILM_RATE},scale={}:{}:flags=area", resolution.width(), resolution.height());
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-i"])
            .arg(&file)
            .args(["-vf", &scale, "-frames:v", &FILM_FRAMES.to_string()])
            .args(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| eprintln!("bench_rate: ffmpeg does not run: {error}"))
            .ok()?;
        let mut output = ffmpeg.stdout.take()?;
        let mut pictures = Vec::new();
        let mut picture = Picture::black(resolution);
        while pictures.len() < FILM_FRAMES && output.read_exact(picture.data_mut()).is_ok() {
            pictures.push(picture.clone());
        }
        let status = ffmpeg.wait().ok()?;
        if pictures.len() < 2 {
            eprintln!("bench_rate: ffmpeg reads no film from {}: {status}", file.display());
            return None;
        }
        Some(pictures)
    }
}

/// The pictures of one case.
pub(crate) struct Reel {
    kind: Kind,
    picture: Picture,
}

enum Kind {
    Pattern(Box<Pattern>),
    Noisy(Box<Pattern>, Vec<i8>),
    Film(Film),
}

impl Reel {
    /// The picture of frame `number`, taken at `time`.
    pub(crate) fn picture(&mut self, number: u64, time: Duration) -> &Picture {
        match &mut self.kind {
            Kind::Film(film) => {
                // Of a source that is faster than the film, each frame is the next of the film.
                let position = ((time.as_secs_f64() * FILM_RATE) as usize).max(number as usize);
                let last = film.len() - 1;
                let phase = position % (2 * last);
                return &film[phase.min(2 * last - phase)];
            }
            Kind::Pattern(pattern) => pattern.draw(&mut self.picture, number, time, time),
            Kind::Noisy(pattern, grain) => {
                pattern.draw(&mut self.picture, number, time, time);
                // Another part of the grain with every frame.
                let offset = (number as usize).wrapping_mul(7_919) % (grain.len() / 2);
                for (sample, grain) in self.picture.data_mut().iter_mut().zip(grain[offset..].iter().cycle()) {
                    *sample = sample.saturating_add_signed(*grain);
                }
            }
        }
        &self.picture
    }
}

/// Noise of triangular distribution, up to 12 levels off.
fn grain(resolution: Resolution) -> Vec<i8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        // xorshift64, G. Marsaglia, "Xorshift RNGs", 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % 13 + (state >> 50) % 13) as i8 - 12
    };
    (0..resolution.pixels() * 2).map(|_| next()).collect()
}
