use std::fmt;
use std::path::PathBuf;

use lenscast_capture::{CameraConfig as DeviceConfig, CameraSelector, FrameRate, Pattern, PixelFormat, SourceConfig};
use lenscast_encoder::{BITRATES, Backend, TemporalLayers};
use lenscast_media::{Bitrate, Resolution};
use lenscast_sender::{DEFAULT_MIN, DegradationPreference, MAX_LAYERS, ShareChange, TrackShare, WEIGHTS};

use super::{Problems, RawCamera, RawDevice};

/// One camera that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Its name in addresses and on the page.
    pub name: String,
    /// Where its pictures come from.
    pub source: SourceConfig,
    /// How they are encoded.
    pub settings: CameraSettings,
    /// Its claim on the bandwidth.
    pub share: CameraShare,
}

/// How a camera's pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraSettings {
    /// The library and codec.
    pub backend: Backend,
    /// Frames/s to expect before two have shown.
    pub framerate: f64,
    /// Spatial layers, 1 to [`MAX_LAYERS`].
    pub layers: usize,
    /// Temporal layers of each.
    pub temporal_layers: TemporalLayers,
    /// What gives way where the CPU or the bitrate does not suffice.
    pub degradation: DegradationPreference,
}

/// A camera's claim on the bandwidth. It can change while the camera runs: what holds is the sender's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraShare {
    /// The claim that it starts with, defaults filled in.
    pub claim: TrackShare,
    /// What of it is written in the file.
    pub written: ShareChange,
}

const MAX_NAME: usize = 64;
const MAX_CAMERAS: usize = 256;

/// Default targets by size: the maxima of libwebrtc for one stream (`GetMaxDefaultVideoBitrateKbps` in
/// `video/config/encoder_stream_factory.cc`).
const DEFAULT_KBPS: [(usize, u64); 3] = [(320 * 240, 600), (640 * 480, 1_700), (960 * 540, 2_000)];
const DEFAULT_KBPS_LARGE: u64 = 2_500;

impl CameraConfig {
    /// True if this can be had of a camera that runs as `other` without starting it anew.
    #[must_use]
    pub fn is_same_but_for_share(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source && self.settings == other.settings
    }

    pub(super) fn effective(&self, raw: &RawCamera) -> RawCamera {
        let resolution = match &self.source {
            SourceConfig::Pattern { resolution, .. } => Some(*resolution),
            SourceConfig::File { resolution, .. } => *resolution,
            SourceConfig::Camera(device) => Some(device.resolution.unwrap_or(DeviceConfig::DEFAULT_RESOLUTION)),
        };
        let fps = match &self.source {
            SourceConfig::Pattern { rate, .. } => Some(*rate),
            SourceConfig::File { rate, .. } => *rate,
            SourceConfig::Camera(device) => Some(device.rate.unwrap_or(DeviceConfig::DEFAULT_RATE)),
        };
        RawCamera {
            width: resolution.map(Resolution::width),
            height: resolution.map(Resolution::height),
            fps: fps.map(FrameRate::numerator),
            codec: Some(self.settings.backend.to_string()),
            layers: Some(self.settings.layers),
            temporal_layers: Some(self.settings.temporal_layers.count().into()),
            degradation: Some(self.settings.degradation.to_string()),
            weight: Some(self.share.claim.weight),
            min_kbps: Some(self.share.claim.min.as_kbps()),
            max_kbps: Some(self.share.claim.max.as_kbps()),
            enforce_min: Some(self.share.claim.enforced),
            ..raw.clone()
        }
    }
}

/// Checks all cameras of a file.
pub(super) fn cameras(raw: &[RawCamera], problems: &mut Problems) -> Vec<CameraConfig> {
    if raw.len() > MAX_CAMERAS {
        problems.add(format!("camera: {} of them, at most {MAX_CAMERAS} are possible", raw.len()));
        return Vec::new();
    }
    let mut cameras: Vec<CameraConfig> = Vec::new();
    for (position, camera) in raw.iter().enumerate() {
        if raw[..position].iter().any(|other| other.name == camera.name) {
            problems.add(format!("camera.name = {:?}: is there twice, names must differ", camera.name));
        }
        cameras.extend(Checked { raw: camera, problems }.camera());
    }
    if !raw.is_empty() && cameras.len() == raw.len() && cameras.iter().all(|camera| camera.share.claim.weight == 0.0) {
        problems.add("camera.weight = 0: is so of all cameras, one at least must be above 0".to_owned());
    }
    if let Some((first, second)) = duplicate_device(&cameras) {
        problems.add(format!("camera {second:?}: device is already used by camera {first:?}"));
    }
    cameras
}

/// Notes a name that cannot be in addresses.
pub(super) fn require_name(kind: &str, name: &str, problems: &mut Problems) {
    if !could_be_name(name) {
        let shown: String = name.chars().take(MAX_NAME + 8).collect();
        problems.add(format!("{kind}.name = {shown:?}: must be 1 to {MAX_NAME} letters, digits, '-', '_' and '.'"));
    }
}

/// True for 1 to 64 letters, digits and `-_.`, but not dots alone.
pub(super) fn could_be_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_dots = name.bytes().all(|byte| byte == b'.');
    name.len() <= MAX_NAME && !is_dots && name.bytes().all(legal)
}

fn duplicate_device(cameras: &[CameraConfig]) -> Option<(&str, &str)> {
    let selector = |camera: &CameraConfig| match &camera.source {
        SourceConfig::Camera(device) => Some(device.selector.clone()),
        _ => None,
    };
    cameras.iter().enumerate().find_map(|(position, camera)| {
        let mine = selector(camera)?;
        let other = cameras[..position].iter().find(|other| selector(other).as_ref() == Some(&mine))?;
        Some((other.name.as_str(), camera.name.as_str()))
    })
}

/// One camera under examination.
struct Checked<'a> {
    raw: &'a RawCamera,
    problems: &'a mut Problems,
}

impl Checked<'_> {
    fn problem(&mut self, key: &str, value: impl fmt::Debug, legal: impl fmt::Display) {
        let name = &self.raw.name;
        self.problems.add(format!("camera {name:?}: {key} = {value:?}: {legal}"));
    }

    fn camera(mut self) -> Option<CameraConfig> {
        let raw = self.raw;
        require_name("camera", &raw.name, self.problems);
        let resolution = self.resolution();
        let rate = self.rate();
        let source = self.source(resolution, rate);
        let backend = self.backend();
        let layers = self.layers();
        let temporal_layers = self.temporal_layers(backend);
        let degradation = self.degradation();
        let share = self.share(resolution);
        let settings = CameraSettings {
            backend: backend?,
            framerate: rate.unwrap_or(DeviceConfig::DEFAULT_RATE).as_f64(),
            layers: layers?,
            temporal_layers: temporal_layers?,
            degradation: degradation?,
        };
        Some(CameraConfig { name: raw.name.clone(), source: source?, settings, share: share? })
    }

    fn resolution(&mut self) -> Option<Resolution> {
        let (width, height) = match (self.raw.width, self.raw.height) {
            (None, None) => return None,
            (Some(width), Some(height)) => (width, height),
            (Some(width), None) => {
                self.problem("width", width, "needs height too");
                return None;
            }
            (None, Some(height)) => {
                self.problem("height", height, "needs width too");
                return None;
            }
        };
        let resolution = Resolution::new(width, height);
        if resolution.is_none() {
            let (min, max) = (Resolution::MIN_SIDE, Resolution::MAX_SIDE);
            self.problem("width, height", (width, height), format!("both must be even and {min} to {max}"));
        }
        resolution
    }

    fn rate(&mut self) -> Option<FrameRate> {
        let fps = self.raw.fps?;
        let rate = FrameRate::whole(fps);
        if rate.is_none() {
            self.problem("fps", fps, format!("must be {} to {}", FrameRate::MIN, FrameRate::MAX));
        }
        rate
    }

    fn source(&mut self, resolution: Option<Resolution>, rate: Option<FrameRate>) -> Option<SourceConfig> {
        let raw = self.raw;
        let format = self.format();
        match (raw.pattern, &raw.file, &raw.device) {
            (Some(true), None, None) => self.pattern(resolution, rate),
            (None | Some(false), Some(path), None) => self.file(path, resolution, rate),
            (None | Some(false), None, Some(device)) => {
                let selector = self.selector(device)?;
                Some(SourceConfig::Camera(DeviceConfig { selector, resolution, rate, format }))
            }
            _ => {
                let name = &raw.name;
                self.problems.add(format!("camera {name:?}: must have exactly one of pattern = true, file and device"));
                None
            }
        }
    }

    fn pattern(&mut self, resolution: Option<Resolution>, rate: Option<FrameRate>) -> Option<SourceConfig> {
        let resolution = resolution.unwrap_or(DeviceConfig::DEFAULT_RESOLUTION);
        if resolution.width().min(resolution.height()) < Pattern::MIN_SIDE {
            let size = (resolution.width(), resolution.height());
            self.problem("width, height", size, format!("a pattern needs at least {0}x{0}", Pattern::MIN_SIDE));
            return None;
        }
        Some(SourceConfig::Pattern { resolution, rate: rate.unwrap_or(DeviceConfig::DEFAULT_RATE) })
    }

    fn file(
        &mut self,
        path: &PathBuf,
        resolution: Option<Resolution>,
        rate: Option<FrameRate>,
    ) -> Option<SourceConfig> {
        if path.as_os_str().is_empty() {
            self.problem("file", path, "must be a path");
            return None;
        }
        Some(SourceConfig::File { path: path.clone(), resolution, rate })
    }

    fn selector(&mut self, device: &RawDevice) -> Option<CameraSelector> {
        match device.to_string().parse() {
            Ok(selector) => Some(selector),
            Err(error) => {
                self.problem("device", device.to_string(), error);
                None
            }
        }
    }

    fn format(&mut self) -> Option<PixelFormat> {
        let text = self.raw.format.as_deref()?;
        let format = PixelFormat::ALL.into_iter().find(|format| format.to_string() == text);
        if format.is_none() {
            self.problem("format", text, "must be \"nv12\", \"yuyv\" or \"mjpeg\"");
        } else if self.raw.device.is_none() {
            self.problem("format", text, "is for cameras with a device only");
        }
        format
    }

    fn backend(&mut self) -> Option<Backend> {
        let text = self.raw.codec.as_deref().unwrap_or("vp8");
        match text.parse() {
            Ok(backend) => Some(backend),
            Err(error) => {
                self.problem("codec", text, error);
                None
            }
        }
    }

    fn layers(&mut self) -> Option<usize> {
        let layers = self.raw.layers.unwrap_or(1);
        if !(1..=MAX_LAYERS).contains(&layers) {
            self.problem("layers", layers, format!("must be 1 to {MAX_LAYERS}"));
            return None;
        }
        Some(layers)
    }

    fn temporal_layers(&mut self, backend: Option<Backend>) -> Option<TemporalLayers> {
        let count = self.raw.temporal_layers.unwrap_or(1);
        let Some(&layers) = TemporalLayers::ALL.iter().find(|layers| usize::from(layers.count()) == count) else {
            self.problem("temporal_layers", count, format!("must be 1 to {}", TemporalLayers::ALL.len()));
            return None;
        };
        let single = backend.is_some_and(|backend| !backend.changes_bitrate_in_place());
        if single && layers != TemporalLayers::One {
            self.problem("temporal_layers", count, "must be 1 with this codec");
            return None;
        }
        Some(layers)
    }

    fn degradation(&mut self) -> Option<DegradationPreference> {
        let Some(text) = self.raw.degradation.as_deref() else { return Some(DegradationPreference::default()) };
        match text.parse() {
            Ok(preference) => Some(preference),
            Err(error) => {
                self.problem("degradation", text, error);
                None
            }
        }
    }

    fn share(&mut self, resolution: Option<Resolution>) -> Option<CameraShare> {
        let raw = self.raw;
        let weight = raw.weight.unwrap_or(1.0);
        // NaN is in no range.
        let weighs = WEIGHTS.contains(&weight);
        if !weighs {
            self.problem("weight", weight, format!("must be {} to {}", WEIGHTS.start(), WEIGHTS.end()));
        }
        let max = match raw.max_kbps {
            Some(kbps) => self.bitrate("max_kbps", kbps),
            None => {
                let pixels = resolution.unwrap_or(DeviceConfig::DEFAULT_RESOLUTION).pixels();
                let fitting = DEFAULT_KBPS.iter().find(|(up_to, _)| pixels <= *up_to);
                Some(Bitrate::from_kbps(fitting.map_or(DEFAULT_KBPS_LARGE, |(_, kbps)| *kbps)))
            }
        };
        let min = match raw.min_kbps {
            Some(kbps) => self.bitrate("min_kbps", kbps),
            None => max.map(|max| DEFAULT_MIN.min(max)),
        };
        let (min, max) = (min?, max?);
        if min > max {
            self.problem("min_kbps", min.as_kbps(), format!("must not exceed max_kbps, which is {}", max.as_kbps()));
            return None;
        }
        let claim = TrackShare { weight, min, max, enforced: raw.enforce_min.unwrap_or(false) };
        let written = ShareChange {
            weight: raw.weight,
            min: raw.min_kbps.map(Bitrate::from_kbps),
            max: raw.max_kbps.map(Bitrate::from_kbps),
            enforced: raw.enforce_min,
        };
        weighs.then_some(CameraShare { claim, written })
    }

    fn bitrate(&mut self, key: &str, kbps: u64) -> Option<Bitrate> {
        let bitrate = Bitrate::from_kbps(kbps);
        if !BITRATES.contains(&bitrate) {
            let (min, max) = (BITRATES.start().as_kbps(), BITRATES.end().as_kbps());
            self.problem(key, kbps, format!("must be {min} to {max}"));
            return None;
        }
        Some(bitrate)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError, parse};
    use super::*;

    fn camera(keys: &str) -> CameraConfig {
        Config::from_raw(parse(&format!("[[camera]]\n{keys}")).unwrap()).unwrap().cameras.remove(0)
    }

    fn problem(text: &str) -> String {
        match Config::from_raw(parse(text).unwrap()) {
            Err(ConfigError::Invalid(problems)) => problems.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_of_source() {
        let pattern = camera("name = \"a\"\npattern = true\n");
        assert_eq!(pattern.share.claim.max, Bitrate::from_kbps(2_500));
        assert!(matches!(pattern.source, SourceConfig::Pattern { resolution, .. } if resolution.width() == 1_280));
        let file = camera("name = \"a\"\nfile = \"clip.mp4\"\ncodec = \"h264\"\nmax_kbps = 800\n");
        assert!(matches!(file.source, SourceConfig::File { resolution: None, rate: None, .. }));
        assert_eq!((file.settings.backend, file.share.claim.max), (Backend::H264, Bitrate::from_kbps(800)));
        let device = camera("name = \"a\"\ndevice = 2\nwidth = 640\nheight = 480\nfps = 15\nformat = \"mjpeg\"\n");
        let SourceConfig::Camera(config) = &device.source else { panic!("{device:?}") };
        assert_eq!(config.selector, CameraSelector::Index(2));
        assert_eq!((config.format, device.settings.framerate), (Some(PixelFormat::Mjpeg), 15.0));
        assert_eq!(device.share.claim.max, Bitrate::from_kbps(1_700));
    }

    #[test]
    fn impossible_cameras_are_refused_by_key_value_and_range() {
        let base = "[[camera]]\nname = \"a\"\n";
        for (keys, expected) in [
            ("", "must have exactly one of pattern = true, file and device"),
            ("pattern = true\nfile = \"x\"\n", "must have exactly one of"),
            ("pattern = true\nwidth = 640\n", "width = 640: needs height too"),
            ("pattern = true\nwidth = 641\nheight = 480\n", "(641, 480): both must be even and 16 to 4096"),
            ("pattern = true\nwidth = 8000\nheight = 480\n", "both must be even and 16 to 4096"),
            ("pattern = true\nwidth = 16\nheight = 16\n", "a pattern needs at least"),
            ("pattern = true\nfps = 0\n", "fps = 0: must be 1 to 240"),
            ("pattern = true\ncodec = \"av1\"\n", "codec = \"av1\": unknown encoder backend"),
            ("pattern = true\nmax_kbps = 5\n", "max_kbps = 5: must be 10 to 100000"),
            ("pattern = true\nmin_kbps = 100001\n", "min_kbps = 100001: must be 10 to 100000"),
            ("pattern = true\nmin_kbps = 3000\n", "min_kbps = 3000: must not exceed max_kbps, which is 2500"),
            ("pattern = true\nweight = -1\n", "weight = -1.0: must be 0 to 1000000"),
            ("pattern = true\nweight = 1e7\n", "weight = 10000000.0: must be 0 to 1000000"),
            ("pattern = true\nweight = nan\n", "weight = NaN: must be 0 to 1000000"),
            ("pattern = true\nlayers = 0\n", "layers = 0: must be 1 to 3"),
            ("pattern = true\nlayers = 4\n", "layers = 4: must be 1 to 3"),
            ("pattern = true\ntemporal_layers = 4\n", "temporal_layers = 4: must be 1 to 3"),
            ("pattern = true\ncodec = \"vpx-encode\"\ntemporal_layers = 2\n", "temporal_layers = 2: must be 1 with"),
            ("pattern = true\ndegradation = \"slow\"\n", "legal are balanced, maintain-framerate, maintain-resolution"),
            ("pattern = true\nformat = \"yuyv\"\n", "is for cameras with a device only"),
            ("device = \"a/b\"\n", "device = \"a/b\""),
            ("device = 0\nformat = \"rgb\"\n", "must be \"nv12\", \"yuyv\" or \"mjpeg\""),
        ] {
            let found = problem(&format!("{base}{keys}"));
            assert!(found.contains(expected) && found.contains("camera \"a\""), "{keys:?}: {found}");
        }
    }

    #[test]
    fn names_must_be_good_for_addresses_and_differ() {
        for name in ["", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            let found = problem(&format!("[[camera]]\nname = {name:?}\npattern = true\n"));
            assert!(found.contains("must be 1 to 64 letters"), "{name:?}: {found}");
        }
        let twice = "[[camera]]\nname = \"a\"\npattern = true\n".repeat(2);
        assert!(problem(&twice).contains("camera.name = \"a\": is there twice"));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wrong = "[[camera]]\nname = \"a b\"\npattern = true\nfps = 0\ncodec = \"av1\"\n";
        let found = problem(&wrong.repeat(2));
        for expected in ["must be 1 to 64 letters", "fps = 0", "codec = \"av1\"", "is there twice"] {
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn a_device_serves_one_camera() {
        let text = "[[camera]]\nname = \"a\"\ndevice = 0\n[[camera]]\nname = \"b\"\ndevice = 0\n";
        assert!(problem(text).contains("camera \"b\": device is already used by camera \"a\""));
    }
}
