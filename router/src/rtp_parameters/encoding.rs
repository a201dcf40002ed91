use std::fmt;
use std::str::FromStr;

use lenscast_media::{Bitrate, Ssrc};

/// The name of an encoding among those of one producer (RFC 8851 §4), 1 to 16 bytes so that a one-byte extension holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rid {
    bytes: [u8; 16],
    len: u8,
}

impl Rid {
    /// `None` unless `text` is 1 to 16 letters, digits, `-` or `_`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// The same from the bytes of a header extension.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=16).contains(&text.len()) || !text.iter().all(legal) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { bytes, len: text.len() as u8 })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is let in")
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many layers an encoding holds within itself: `L1T3` of the W3C's WebRTC-SVC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScalabilityMode {
    /// Spatial layers, at least 1.
    pub spatial: u8,
    /// Temporal layers, at least 1.
    pub temporal: u8,
}

impl ScalabilityMode {
    /// One layer of each: what an encoding is that says nothing.
    pub const NONE: Self = Self { spatial: 1, temporal: 1 };
}

impl FromStr for ScalabilityMode {
    type Err = ();

    /// Of `L3T3_KEY_SHIFT` and the like only the counts are read, 1 to 9 each, as mediasoup does (`scalabilityModes.ts`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let count = |byte: u8| (b'1'..=b'9').contains(&byte).then(|| byte - b'0').ok_or(());
        match bytes {
            [b'L' | b'S', spatial, b'T', temporal, ..] => {
                Ok(Self { spatial: count(*spatial)?, temporal: count(*temporal)? })
            }
            _ => Err(()),
        }
    }
}

impl fmt::Display for ScalabilityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}T{}", self.spatial, self.temporal)
    }
}

/// One encoding of a stream: a spatial layer of a producer, or all that a consumer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpEncodingParameters {
    /// The source of its media packets, if it is known beforehand.
    pub ssrc: Option<Ssrc>,
    /// Its name in the packets' headers, if it has one.
    pub rid: Option<Rid>,
    /// The source of its retransmissions, if it is known beforehand.
    pub rtx_ssrc: Option<Ssrc>,
    /// What it may take at most.
    pub max_bitrate: Option<Bitrate>,
    /// The layers within it, if that is known.
    pub scalability_mode: Option<ScalabilityMode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rid_is_one_to_sixteen_letters_digits_or_dashes() {
        assert_eq!(Rid::new("hi-res_1").unwrap().as_str(), "hi-res_1");
        for text in ["", "0123456789abcdefg", "a b", "é", "a;b"] {
            assert_eq!(Rid::new(text), None, "{text}");
        }
    }

    #[test]
    fn scalability_modes_are_read_by_their_counts() {
        assert_eq!("L1T3".parse(), Ok(ScalabilityMode { spatial: 1, temporal: 3 }));
        assert_eq!("S2T3h_KEY".parse(), Ok(ScalabilityMode { spatial: 2, temporal: 3 }));
        for text in ["", "L0T1", "1T3", "LxT3", "L1T"] {
            assert_eq!(text.parse::<ScalabilityMode>(), Err(()), "{text}");
        }
    }
}
