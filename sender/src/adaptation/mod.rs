//! What a track gives up when its encoder has too few bits or too little CPU, and when it takes it back.
//!
//! ```text
//! quantizers, drops ─▶ QualityScaler (a track) ──┐ Adapt   steps for the bits ┐
//! busy time ─▶ UsageMeter (a track) ─▶ CpuGovernor (all tracks) ┘  + steps for the CPU ┴▶ Ladder::at ─▶ Restriction
//! ```
//!
//! **Invariants.** Nothing here reads a clock, allocates per frame, or touches an encoder. Who decides only says `Down` or
//! `Up`; how far that is stands in the [`Ladder`] alone. The two reasons count their steps apart (as in libwebrtc's
//! `video/adaptation`, whose numbers these are), and their sum is the place on the ladder, so none undoes the other's.
//!
//! What it does not do: scale pictures, drop frames or change encoders.

mod cpu_governor;
mod ladder;
mod quality_scaler;
mod usage_meter;

use std::fmt;
use std::str::FromStr;

pub(crate) use cpu_governor::{CpuGovernor, Load};
pub(crate) use ladder::Ladder;
pub(crate) use quality_scaler::{FrameOutcome, QualityScaler};
pub(crate) use usage_meter::UsageMeter;

/// One step on a [`Ladder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adapt {
    /// Encode less.
    Down,
    /// Encode more.
    Up,
}

/// What a track gives up first: W3C's `RTCDegradationPreference`, and `Disabled`, which W3C calls
/// `maintain-framerate-and-resolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DegradationPreference {
    /// Pixels while there are many, then frames and pixels in turn.
    #[default]
    Balanced,
    /// Pixels only: for what moves.
    MaintainFramerate,
    /// Frames only: for what must be read.
    MaintainResolution,
    /// Nothing.
    Disabled,
}

/// The name is none of a preference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown degradation preference {0:?}; legal are balanced, maintain-framerate, maintain-resolution, disabled")]
pub struct ParseDegradationPreferenceError(String);

impl DegradationPreference {
    /// Every preference, in the order of the error message above.
    pub const ALL: [Self; 4] = [Self::Balanced, Self::MaintainFramerate, Self::MaintainResolution, Self::Disabled];

    /// The name in the configuration.
    const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::MaintainFramerate => "maintain-framerate",
            Self::MaintainResolution => "maintain-resolution",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for DegradationPreference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DegradationPreference {
    type Err = ParseDegradationPreferenceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|preference| preference.name() == name);
        // An error quotes what it refuses, but not a megabyte of it.
        found.ok_or_else(|| ParseDegradationPreferenceError(name.chars().take(64).collect()))
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for preference in DegradationPreference::ALL {
            assert_eq!(preference.to_string().parse(), Ok(preference));
        }
    }

    #[test]
    fn an_unknown_name_is_quoted_beside_all_legal_ones() {
        let text = "Balanced".parse::<DegradationPreference>().unwrap_err().to_string();
        assert!(text.contains("\"Balanced\""), "{text}");
        for preference in DegradationPreference::ALL {
            assert!(text.contains(&preference.to_string()), "{text}");
        }
        assert!("x".repeat(1 << 20).parse::<DegradationPreference>().unwrap_err().to_string().len() < 200);
    }
}
