use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lenscast_media::Resolution;
use thiserror::Error;

use crate::FrameRate;

/// Which camera to open, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Which camera.
    pub selector: CameraSelector,
    /// The size wanted; the nearest the camera offers is taken. `None` wants [`CameraConfig::DEFAULT_RESOLUTION`].
    pub resolution: Option<Resolution>,
    /// The rate wanted; the nearest the camera offers at that size is taken, a higher one rather than a lower. `None`
    /// wants [`CameraConfig::DEFAULT_RATE`].
    pub rate: Option<FrameRate>,
    /// The format the camera is to deliver. `None` takes the cheapest that reaches size and rate.
    pub format: Option<PixelFormat>,
}

/// One camera of this machine. Looked up anew whenever the camera is opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CameraSelector {
    /// `/dev/video` and this number, which changes with the order of plugging in.
    Index(u32),
    /// A device node, or a symbolic link that leads to one.
    Path(PathBuf),
    /// A name under `/dev/v4l/by-id`, which stays with the camera.
    ById(String),
}

/// What a selector cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "camera {value:?}: must be an index such as 0, a path such as /dev/video0, or a name out of /dev/v4l/by-id without slashes"
)]
pub struct ParseCameraSelectorError {
    value: String,
}

/// A format that a camera delivers and this program can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PixelFormat {
    /// 4:2:0 in two planes; the cheapest to convert.
    Nv12,
    /// 4:2:2 packed.
    Yuyv,
    /// One JPEG picture a frame; the only one that fits through USB 2 at high sizes and rates.
    Mjpeg,
}

impl CameraConfig {
    /// Wanted where the configuration says nothing.
    pub const DEFAULT_RESOLUTION: Resolution = Resolution::new(1_280, 720).expect("both sides are even and in bounds");
    /// Wanted where the configuration says nothing.
    pub const DEFAULT_RATE: FrameRate = FrameRate::whole(30).expect("30 is within the bounds");

    /// Whatever this camera does best.
    #[must_use]
    pub const fn new(selector: CameraSelector) -> Self {
        Self { selector, resolution: None, rate: None, format: None }
    }
}

impl FromStr for CameraSelector {
    type Err = ParseCameraSelectorError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let refused = || ParseCameraSelectorError { value: value.to_owned() };
        if value.contains('\0') || matches!(value, "" | "." | "..") {
            return Err(refused());
        }
        if value.starts_with('/') {
            return Ok(Self::Path(PathBuf::from(value)));
        }
        if value.bytes().all(|byte| byte.is_ascii_digit()) {
            return value.parse().map(Self::Index).map_err(|_| refused());
        }
        if value.contains('/') {
            return Err(refused());
        }
        Ok(Self::ById(value.to_owned()))
    }
}

impl fmt::Display for CameraSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "/dev/video{index}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::ById(name) => write!(f, "/dev/v4l/by-id/{name}"),
        }
    }
}

impl PixelFormat {
    /// Every format, in the order of [`PixelFormat::name`]'s listing in error messages.
    pub const ALL: [Self; 3] = [Self::Nv12, Self::Yuyv, Self::Mjpeg];

    /// The name in configurations and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nv12 => "nv12",
            Self::Yuyv => "yuyv",
            Self::Mjpeg => "mjpeg",
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_an_index_a_path_or_a_name() {
        assert_eq!("2".parse(), Ok(CameraSelector::Index(2)));
        assert_eq!("/dev/front".parse(), Ok(CameraSelector::Path("/dev/front".into())));
        assert_eq!("usb-Cam-video-index0".parse(), Ok(CameraSelector::ById("usb-Cam-video-index0".into())));
        for refused in ["", ".", "..", "99999999999", "../video0", "a\0b"] {
            let error = refused.parse::<CameraSelector>().unwrap_err();
            assert!(error.to_string().contains(&format!("{refused:?}")), "{error}");
        }
    }
}
