use std::ops::RangeInclusive;

use lenscast_congestion::EstimateBounds;
use lenscast_media::Bitrate;

use super::{Problems, RawBandwidth};

/// What viewers' connections may take, and where their estimates begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkConfig {
    /// All viewers together, headers, retransmissions and probes included. `None` is no limit.
    pub max: Option<Bitrate>,
    /// What a viewer's connection is taken to carry before anything is known of it.
    pub start: Bitrate,
}

/// What may be set as the uplink: from what one camera needs at least to ten gigabits.
pub const MAX_UPLINK_KBPS: RangeInclusive<u64> = 30..=10_000_000;

/// What an estimate may begin with.
pub const START_KBPS: RangeInclusive<u64> = 30..=100_000;

/// Enough for one camera of 640 × 360 at its best, or 1280 × 720 as good as its minimum, from the first frame, and little enough
/// that a mobile connection's queue takes what is too much: browsers begin with 300 for what their users send, which is a tenth
/// of what most of those who watch can receive.
pub const DEFAULT_START_KBPS: u64 = 1_000;

/// Never less: libwebrtc's floor for video (`kDefaultMinVideoBitrateBps`,
/// `rtc_base/experiments/min_video_bitrate_experiment.cc`). With less, nothing could be measured.
pub const LEAST_ESTIMATE: Bitrate = Bitrate::from_kbps(30);

/// Never more: ten cameras at the most that an encoder is told to make.
const MOST: Bitrate = Bitrate::from_kbps(1_000_000);

impl UplinkConfig {
    pub(super) fn new(raw: &RawBandwidth, problems: &mut Problems) -> Self {
        let bounds = |range: &RangeInclusive<u64>| (*range.start(), *range.end());
        let (least, most) = bounds(&MAX_UPLINK_KBPS);
        let max = raw.max_uplink_kbps;
        let max = max.map(|max| problems.within("bandwidth.max_uplink_kbps", Some(max), least, (least, most)));
        let start = raw.start_kbps;
        let start = problems.within("bandwidth.start_kbps", start, DEFAULT_START_KBPS, bounds(&START_KBPS));
        // Against a limit that is none itself there is nothing more to say.
        if let (Some(max), Some(start)) = (max.filter(|max| raw.max_uplink_kbps == Some(*max)), raw.start_kbps)
            && start > max
        {
            problems.add(format!("bandwidth.start_kbps = {start}: must not exceed max_uplink_kbps, which is {max}"));
        }
        let start = max.map_or(start, |max| start.min(max));
        Self { max: max.map(Bitrate::from_kbps), start: Bitrate::from_kbps(start) }
    }

    /// What all viewers together may take; [`Bitrate::UNLIMITED`] if anything.
    #[must_use]
    pub fn limit(&self) -> Bitrate {
        self.max.unwrap_or(Bitrate::UNLIMITED)
    }

    /// Between which bounds one viewer's estimate stays.
    #[must_use]
    pub fn estimate_bounds(&self) -> EstimateBounds {
        let max = self.limit().min(MOST);
        EstimateBounds { min: LEAST_ESTIMATE, start: self.start.clamp(LEAST_ESTIMATE, max), max }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, parse};

    use super::*;

    fn uplink(keys: &str) -> Result<UplinkConfig, Vec<String>> {
        match Config::from_raw(parse(&format!("[bandwidth]\n{keys}")).unwrap()) {
            Ok(config) => Ok(config.uplink),
            Err(ConfigError::Invalid(problems)) => Err(problems),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn without_keys_there_is_no_limit_and_a_start() {
        let found = uplink("").unwrap();
        assert_eq!((found.max, found.start), (None, Bitrate::from_kbps(1_000)));
        let bounds = found.estimate_bounds();
        assert_eq!([bounds.min, bounds.start, bounds.max].map(Bitrate::as_kbps), [30, 1_000, 1_000_000]);
    }

    #[test]
    fn an_uplink_bounds_every_estimate_and_the_default_start() {
        let bounds = uplink("max_uplink_kbps = 800").unwrap().estimate_bounds();
        assert_eq!([bounds.min, bounds.start, bounds.max].map(Bitrate::as_kbps), [30, 800, 800]);
        let config =
            Config::from_raw(parse("[bandwidth]\nmax_uplink_kbps = 900\nstart_kbps = 300\n").unwrap()).unwrap();
        assert_eq!(config.uplink.start, Bitrate::from_kbps(300));
        assert_eq!(Config::from_raw(parse(&config.to_toml()).unwrap()).unwrap().uplink, config.uplink);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (keys, expected) in [
            ("max_uplink_kbps = 29", "bandwidth.max_uplink_kbps = 29: must be 30 to 10000000"),
            ("start_kbps = 100001", "bandwidth.start_kbps = 100001: must be 30 to 100000"),
            (
                "max_uplink_kbps = 500\nstart_kbps = 600",
                "bandwidth.start_kbps = 600: must not exceed max_uplink_kbps, which is 500",
            ),
        ] {
            assert_eq!(uplink(keys), Err(vec![expected.to_owned()]));
        }
    }
}
