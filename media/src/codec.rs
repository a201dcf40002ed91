use std::fmt;

/// A video codec that lenscast encodes and forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// RFC 6386, RTP payload RFC 7741.
    Vp8,
    /// RTP payload RFC 9628.
    Vp9,
    /// Constrained baseline, RTP payload RFC 6184 with packetization-mode 1.
    H264,
}

impl Codec {
    /// Every codec, in the order of [`Codec::encoding_name`]'s listing in error messages.
    pub const ALL: [Self; 3] = [Self::Vp8, Self::Vp9, Self::H264];

    /// The encoding name of SDP's `a=rtpmap` and of W3C's `mimeType` (without `video/`).
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
        }
    }
}

/// A codec that lenscast forwards; it encodes video only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaCodec {
    /// A video codec.
    Video(Codec),
    /// RFC 6716, RTP payload RFC 7587: always 48 kHz and two channels in SDP.
    Opus,
}

impl MediaCodec {
    /// The video codec, if it is one.
    #[must_use]
    pub const fn video(self) -> Option<Codec> {
        match self {
            Self::Video(codec) => Some(codec),
            Self::Opus => None,
        }
    }

    /// Ticks a second of its RTP clock.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Video(_) => crate::VIDEO_CLOCK_RATE,
            Self::Opus => 48_000,
        }
    }

    /// The encoding name of SDP's `a=rtpmap`.
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Video(codec) => codec.encoding_name(),
            Self::Opus => "opus",
        }
    }
}

impl From<Codec> for MediaCodec {
    fn from(codec: Codec) -> Self {
        Self::Video(codec)
    }
}

impl fmt::Display for MediaCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}
