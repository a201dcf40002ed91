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

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaCodec {
    /// Video.
    Video(Codec),
    /// Audio: RFC 6716, RTP payload RFC 7587.
    Opus,
}

impl MediaCodec {
    /// The encoding name of SDP's `a=rtpmap`.
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Video(codec) => codec.encoding_name(),
            Self::Opus => "opus",
        }
    }
}

impl fmt::Display for MediaCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encoding_name())
    }
}
