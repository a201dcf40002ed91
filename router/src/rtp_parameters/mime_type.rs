use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::MediaKind;

impl MediaKind {
    /// As SDP's `m=` and MIME types write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A codec's name, `video/VP8`: compared without regard to case (RFC 4855 §3), printed as it was written.
#[derive(Debug, Clone)]
pub struct MimeType {
    kind: MediaKind,
    encoding_name: String,
}

/// Longer than any encoding name that is registered.
const MAX_ENCODING_NAME: usize = 64;

/// What is not a codec's MIME type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("MIME type is {0:?}, must be audio/ or video/ and an encoding name")]
pub struct ParseMimeTypeError(String);

impl MimeType {
    /// From SDP's `m=` line and the encoding name of its `a=rtpmap`.
    ///
    /// # Errors
    ///
    /// If `encoding_name` is empty, longer than 64 bytes, or no token of RFC 4855.
    pub fn new(kind: MediaKind, encoding_name: &str) -> Result<Self, ParseMimeTypeError> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        if !(1..=MAX_ENCODING_NAME).contains(&encoding_name.len()) || !encoding_name.bytes().all(is_token) {
            let shown: String = encoding_name.chars().take(MAX_ENCODING_NAME).collect();
            return Err(ParseMimeTypeError(format!("{kind}/{shown}")));
        }
        Ok(Self { kind, encoding_name: encoding_name.to_owned() })
    }

    /// What it carries.
    #[must_use]
    pub const fn kind(&self) -> MediaKind {
        self.kind
    }

    /// The part behind the slash, as it was written.
    #[must_use]
    pub fn encoding_name(&self) -> &str {
        &self.encoding_name
    }

    /// True for `rtx`: not a codec, but another one's packets sent again (RFC 4588 §8).
    #[must_use]
    pub fn is_rtx(&self) -> bool {
        self.is("rtx")
    }

    /// True if the encoding name is this one.
    #[must_use]
    pub fn is(&self, encoding_name: &str) -> bool {
        self.encoding_name.eq_ignore_ascii_case(encoding_name)
    }
}

impl FromStr for MimeType {
    type Err = ParseMimeTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseMimeTypeError(text.chars().take(MAX_ENCODING_NAME).collect());
        let (kind, encoding_name) = text.split_once('/').ok_or_else(refused)?;
        let kind = [MediaKind::Audio, MediaKind::Video]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(kind))
            .ok_or_else(refused)?;
        Self::new(kind, encoding_name)
    }
}

impl PartialEq for MimeType {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.is(&other.encoding_name)
    }
}

impl Eq for MimeType {}

impl fmt::Display for MimeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.encoding_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_of_a_mime_type_does_not_matter() {
        let written: MimeType = "Video/vp8".parse().unwrap();
        assert_eq!(written, MimeType::new(MediaKind::Video, "VP8").unwrap());
        assert_eq!(written.to_string(), "video/vp8");
        assert!("video/RTX".parse::<MimeType>().unwrap().is_rtx());
    }

    #[test]
    fn what_is_no_codecs_mime_type_is_refused_by_value() {
        for text in ["", "VP8", "video/", "text/plain", "video/V P8", "/VP8"] {
            let error = text.parse::<MimeType>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(format!("video/{}", "x".repeat(65)).parse::<MimeType>().is_err());
    }
}
