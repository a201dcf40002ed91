use std::fmt;
use std::str::FromStr;

use lenscast_media::Codec;

/// Which library makes the video, and in which codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// VP8 by libvpx.
    Vp8,
    /// VP9 (profile 0) by libvpx.
    Vp9,
    /// H.264 constrained baseline by openh264.
    H264,
    /// VP8 by the crate `vpx-encode`: plain, and rebuilt for every change.
    VpxEncode,
}

/// The name is none of a backend's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoder backend {0:?}; legal are vp8, vp9, h264, vpx-encode")]
pub struct ParseBackendError(String);

impl Backend {
    /// Every backend, in the order of the error message above.
    pub const ALL: [Self; 4] = [Self::Vp8, Self::Vp9, Self::H264, Self::VpxEncode];

    /// The codec of its bitstream.
    #[must_use]
    pub const fn codec(self) -> Codec {
        match self {
            Self::Vp8 | Self::VpxEncode => Codec::Vp8,
            Self::Vp9 => Codec::Vp9,
            Self::H264 => Codec::H264,
        }
    }

    /// True if a new target takes effect without a key frame. False only of `vpx-encode`, which rebuilds itself.
    #[must_use]
    pub const fn changes_bitrate_in_place(self) -> bool {
        !matches!(self, Self::VpxEncode)
    }

    /// The crate feature it comes with.
    #[cfg(not(all(feature = "vpx", feature = "h264")))]
    pub(crate) const fn feature(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Vp8 | Self::Vp9 | Self::VpxEncode => "vpx",
        }
    }

    /// The name in the configuration.
    const fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "vp8",
            Self::Vp9 => "vp9",
            Self::H264 => "h264",
            Self::VpxEncode => "vpx-encode",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = ParseBackendError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|backend| backend.name() == name);
        // An error quotes what it refuses, but not a megabyte of it.
        found.ok_or_else(|| ParseBackendError(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
    }

    #[test]
    fn an_unknown_name_is_quoted_beside_all_legal_ones() {
        let text = "VP8".parse::<Backend>().unwrap_err().to_string();
        assert!(text.contains("\"VP8\""), "{text}");
        for backend in Backend::ALL {
            assert!(text.contains(&backend.to_string()), "{text}");
        }
        assert!("x".repeat(1 << 20).parse::<Backend>().unwrap_err().to_string().len() < 200);
    }
}
