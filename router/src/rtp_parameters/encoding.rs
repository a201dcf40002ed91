use std::fmt;
use std::str::FromStr;

use lenscast_media::{Bitrate, Ssrc};

use crate::Rid;

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
    fn scalability_modes_are_read_by_their_counts() {
        assert_eq!("L1T3".parse(), Ok(ScalabilityMode { spatial: 1, temporal: 3 }));
        assert_eq!("S2T3h_KEY".parse(), Ok(ScalabilityMode { spatial: 2, temporal: 3 }));
        for text in ["", "L0T1", "1T3", "LxT3", "L1T"] {
            assert_eq!(text.parse::<ScalabilityMode>(), Err(()), "{text}");
        }
    }
}
