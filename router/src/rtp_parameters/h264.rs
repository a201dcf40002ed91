//! H.264's `profile-level-id` (RFC 6184 §8.1): what a decoder of it can decode, and what an answer says.

use std::fmt;
use std::str::FromStr;

use super::FormatParameters;

/// The profiles that RFC 6184 §8.1 (Table 5) tells apart and WebRTC endpoints name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// The one that every WebRTC endpoint decodes (RFC 7742 §5).
    ConstrainedBaseline,
    /// With arbitrary slice order, which nobody in WebRTC uses.
    Baseline,
    /// With B-frames and CABAC.
    Main,
    /// High without B-frames and interlacing.
    ConstrainedHigh,
    /// With 8×8 transforms.
    High,
}

impl H264Profile {
    /// True if whoever decodes `self` decodes a stream of `stream` (RFC 6184 §8.1: "the profiles to which it conforms").
    #[must_use]
    pub const fn decodes(self, stream: Self) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        match (self, stream) {
            (_, ConstrainedBaseline)
            | (Baseline, Baseline)
            | (Main | High, Main)
            | (ConstrainedHigh | High, ConstrainedHigh)
            | (High, High) => true,
            (ConstrainedBaseline | Main | ConstrainedHigh | High, _) | (Baseline, _) => false,
        }
    }
}

/// A level of Annex A of H.264, in order. The number is ten times the level's, and 9 is level 1b.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct H264Level(u8);

impl H264Level {
    /// Level 1b, between 1 and 1.1; its bit pattern is that of level 1.1 and a flag, or 9.
    pub const ONE_B: Self = Self(9);
    const LEGAL: [u8; 17] = [9, 10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52];

    /// Where it stands in order: 1b is above 1.
    const fn rank(self) -> u8 {
        match self.0 {
            9 => 21,
            number => number * 2,
        }
    }
}

/// Profile and level of a stream or a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId {
    /// The profile.
    pub profile: H264Profile,
    /// The level.
    pub level: H264Level,
}

/// `profile_idc`, which bits of `profile-iop` decide, what they must be, and which profile that is (RFC 6184 §8.1,
/// Table 5; H.264 §A.2). The first row that fits counts.
const PROFILES: [(u8, u8, u8, H264Profile); 8] = [
    (0x42, 0b0100_1111, 0b0100_0000, H264Profile::ConstrainedBaseline),
    (0x4D, 0b1000_1111, 0b1000_0000, H264Profile::ConstrainedBaseline),
    (0x58, 0b1100_1111, 0b1100_0000, H264Profile::ConstrainedBaseline),
    (0x42, 0b0100_1111, 0b0000_0000, H264Profile::Baseline),
    (0x58, 0b1100_1111, 0b1000_0000, H264Profile::Baseline),
    (0x4D, 0b1010_1111, 0b0000_0000, H264Profile::Main),
    (0x64, 0b1111_1111, 0b0000_0000, H264Profile::High),
    (0x64, 0b1111_1111, 0b0000_1100, H264Profile::ConstrainedHigh),
];

/// `constraint_set3_flag`: with level 1.1, of the older profiles, level 1b is meant (H.264 §A.3.4.1).
const LEVEL_ONE_B_FLAG: u8 = 0x10;

impl ProfileLevelId {
    /// Baseline at level 1: what is meant if nothing is said (RFC 6184 §8.1).
    pub const DEFAULT: Self = Self { profile: H264Profile::Baseline, level: H264Level(10) };

    /// That of a codec's parameters; `None` if it cannot be read or is of no profile known here.
    #[must_use]
    pub fn of(parameters: &FormatParameters) -> Option<Self> {
        parameters.value("profile-level-id").map_or(Some(Self::DEFAULT), |text| text.parse().ok())
    }

    /// What the answer to an offer says: the profile of both, and the lower level unless both sides allow the levels to
    /// differ, which makes it the answerer's own (RFC 6184 §8.2.2). `None` if the profiles differ.
    #[must_use]
    pub fn answer(offered: &FormatParameters, own: &FormatParameters) -> Option<Self> {
        let (offered_id, own_id) = (Self::of(offered)?, Self::of(own)?);
        if offered_id.profile != own_id.profile {
            return None;
        }
        let asymmetric = |parameters: &FormatParameters| parameters.value("level-asymmetry-allowed") == Some("1");
        let may_differ = asymmetric(offered) && asymmetric(own);
        let offer_is_lower = offered_id.level.rank() < own_id.level.rank();
        let level = if offer_is_lower && !may_differ { offered_id.level } else { own_id.level };
        Some(Self { profile: own_id.profile, level })
    }
}

impl FromStr for ProfileLevelId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(());
        }
        let bits = u32::from_str_radix(text, 16).map_err(|_| ())?;
        let [_, profile_idc, profile_iop, level_idc] = bits.to_be_bytes();
        let one_b_by_flag = level_idc == 11 && profile_idc != 0x64 && profile_iop & LEVEL_ONE_B_FLAG != 0;
        let level = if one_b_by_flag { H264Level::ONE_B } else { H264Level(level_idc) };
        // The flag says something of the level only, except in the high profiles.
        let iop = if profile_idc == 0x64 { profile_iop } else { profile_iop & !LEVEL_ONE_B_FLAG };
        let row = PROFILES.iter().find(|(idc, mask, value, _)| *idc == profile_idc && iop & mask == *value).ok_or(())?;
        if !H264Level::LEGAL.contains(&level.0) {
            return Err(());
        }
        Ok(Self { profile: row.3, level })
    }
}

impl fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, is_high) = match self.profile {
            H264Profile::ConstrainedBaseline => (0x42_E0, false),
            H264Profile::Baseline => (0x42_00, false),
            H264Profile::Main => (0x4D_00, false),
            H264Profile::ConstrainedHigh => (0x64_0C, true),
            H264Profile::High => (0x64_00, true),
        };
        match (self.level, is_high) {
            (H264Level::ONE_B, false) => write!(f, "{:04x}0b", prefix | u32::from(LEVEL_ONE_B_FLAG)),
            (level, _) => write!(f, "{prefix:04x}{:02x}", level.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ProfileLevelId {
        text.parse().unwrap_or_else(|()| panic!("{text}"))
    }

    #[test]
    fn profiles_are_told_by_their_constraints() {
        for (text, profile) in [
            ("42e01f", H264Profile::ConstrainedBaseline),
            ("42c00d", H264Profile::ConstrainedBaseline),
            ("4d8028", H264Profile::ConstrainedBaseline),
            ("58f01f", H264Profile::ConstrainedBaseline),
            ("42001f", H264Profile::Baseline),
            ("4D0032", H264Profile::Main),
            ("64001f", H264Profile::High),
            ("640c1f", H264Profile::ConstrainedHigh),
        ] {
            assert_eq!(id(text).profile, profile, "{text}");
        }
        for text in ["", "42e01", "42e01f0", "42e0zz", "ffe01f", "42e0ff", "42e000", "+2e01f", "é2e01"] {
            assert_eq!(text.parse::<ProfileLevelId>(), Err(()), "{text}");
        }
    }

    #[test]
    fn level_1b_is_a_flag_of_the_older_profiles_and_lies_between_1_and_1_1() {
        assert_eq!(id("42f00b").level, H264Level::ONE_B);
        assert_eq!(id("42f00b").to_string(), "42f00b");
        assert_eq!(id("640009").level, H264Level::ONE_B);
        let own = FormatParameters::parse("profile-level-id=42e00b");
        let answer =
            |offered: &str| ProfileLevelId::answer(&FormatParameters::parse(offered), &own).unwrap().to_string();
        assert_eq!(answer("profile-level-id=42f00b"), "42f00b");
        assert_eq!(answer("profile-level-id=42e00a"), "42e00a");
    }

    #[test]
    fn nothing_said_is_baseline_level_1() {
        assert_eq!(ProfileLevelId::of(&FormatParameters::new()), Some(id("42000a")));
    }

    #[test]
    fn an_answer_takes_the_lower_level_unless_both_allow_asymmetry() {
        let answer = |offered: &str, own: &str| {
            ProfileLevelId::answer(&FormatParameters::parse(offered), &FormatParameters::parse(own))
                .map(|answer| answer.to_string())
        };
        assert_eq!(answer("profile-level-id=42e01f", "profile-level-id=42e034").unwrap(), "42e01f");
        assert_eq!(answer("profile-level-id=42e034", "profile-level-id=42e01f").unwrap(), "42e01f");
        let asymmetric =
            ["profile-level-id=42e01f;level-asymmetry-allowed=1", "profile-level-id=42e034;level-asymmetry-allowed=1"];
        assert_eq!(answer(asymmetric[0], asymmetric[1]).unwrap(), "42e034");
        assert_eq!(answer(asymmetric[0], "profile-level-id=42e034").unwrap(), "42e01f");
        assert_eq!(answer("profile-level-id=42e01f", "profile-level-id=64001f"), None);
    }

    #[test]
    fn a_decoder_decodes_the_profiles_that_its_own_contains() {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let all = [ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High];
        for profile in all {
            assert!(profile.decodes(profile) && profile.decodes(ConstrainedBaseline));
            assert_eq!(High.decodes(profile), profile != Baseline, "{profile:?}");
            assert_eq!(ConstrainedBaseline.decodes(profile), profile == ConstrainedBaseline);
        }
        assert!(!ConstrainedHigh.decodes(Main) && !Main.decodes(ConstrainedHigh));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(text in "(42|4d|58|64|f4)[0-9a-f]{4}") {
            if let Ok(read) = text.parse::<ProfileLevelId>() {
                prop_assert_eq!(id(&read.to_string()), read);
            }
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,8}") {
            let _ = text.parse::<ProfileLevelId>();
        }
    }
}
