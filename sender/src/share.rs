use lenscast_encoder::BITRATES;
use lenscast_media::Bitrate;
use thiserror::Error;

/// A track's claim on the bandwidth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackShare {
    /// Its part of what there is, in relation to the others' weights. With 0 it sends nothing. Within [`WEIGHTS`].
    pub weight: f64,
    /// Below this it pauses rather than send mud. Within [`BITRATES`].
    pub min: Bitrate,
    /// It gets no more than this; of several layers the largest, and what is wanted of those below it comes on top. Within
    /// [`BITRATES`], and not below `min`.
    pub max: Bitrate,
    /// It gets its minimum even if there is less: the sum then exceeds what there is.
    pub enforced: bool,
}

/// What is to be different in a [`TrackShare`]; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShareChange {
    /// See [`TrackShare::weight`].
    pub weight: Option<f64>,
    /// See [`TrackShare::min`].
    pub min: Option<Bitrate>,
    /// See [`TrackShare::max`].
    pub max: Option<Bitrate>,
    /// See [`TrackShare::enforced`].
    pub enforced: Option<bool>,
}

/// Legal weights. The ceiling keeps the sum of any number of them, and their ratios, well within what an `f64` tells apart.
pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.0..=1e6;

/// Default minimum: libwebrtc's floor for video (`kDefaultMinVideoBitrateBps` in
/// `rtc_base/experiments/min_video_bitrate_experiment.cc`).
pub const DEFAULT_MIN: Bitrate = Bitrate::from_kbps(30);

/// Why a share cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum ShareError {
    /// No weight to compute with.
    #[error("weight is {0}, must be {min} to {max}", min = WEIGHTS.start(), max = WEIGHTS.end())]
    Weight(f64),
    /// No encoder makes so little or so much.
    #[error(
        "{name} is {} b/s, must be {} to {} b/s",
        .bitrate.as_bps(), BITRATES.start().as_bps(), BITRATES.end().as_bps()
    )]
    Bitrate {
        /// `min` or `max`.
        name: &'static str,
        /// The refused one.
        bitrate: Bitrate,
    },
    /// The minimum exceeds the maximum.
    #[error("min is {} b/s, must not exceed max, which is {} b/s", .min.as_bps(), .max.as_bps())]
    MinOverMax {
        /// The minimum.
        min: Bitrate,
        /// The maximum.
        max: Bitrate,
    },
}

impl TrackShare {
    /// Refuses what cannot be.
    ///
    /// # Errors
    ///
    /// [`ShareError`] names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), ShareError> {
        // NaN is in no range.
        if !WEIGHTS.contains(&self.weight) {
            return Err(ShareError::Weight(self.weight));
        }
        for (name, bitrate) in [("min", self.min), ("max", self.max)] {
            if !BITRATES.contains(&bitrate) {
                return Err(ShareError::Bitrate { name, bitrate });
            }
        }
        if self.min > self.max {
            return Err(ShareError::MinOverMax { min: self.min, max: self.max });
        }
        Ok(())
    }

    pub(crate) fn changed(self, change: &ShareChange) -> Self {
        Self {
            weight: change.weight.unwrap_or(self.weight),
            min: change.min.unwrap_or(self.min),
            max: change.max.unwrap_or(self.max),
            enforced: change.enforced.unwrap_or(self.enforced),
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    const SHARE: TrackShare =
        TrackShare { weight: 1.0, min: DEFAULT_MIN, max: Bitrate::from_kbps(2_500), enforced: false };

    #[test]
    fn what_cannot_be_is_named_with_its_value_and_what_is_legal() {
        assert_eq!(SHARE.validate(), Ok(()));
        let kbps = Bitrate::from_kbps;
        for (share, parts) in [
            (TrackShare { weight: f64::NAN, ..SHARE }, ["weight", "NaN", "0 to 1000000"]),
            (TrackShare { weight: -1.0, ..SHARE }, ["weight", "-1", "0 to 1000000"]),
            (TrackShare { weight: f64::INFINITY, ..SHARE }, ["weight", "inf", "0 to 1000000"]),
            (TrackShare { min: kbps(1), ..SHARE }, ["min", "1000 b/s", "10000 to 100000000"]),
            (TrackShare { max: kbps(100_001), ..SHARE }, ["max", "100001000 b/s", "10000 to 100000000"]),
            (TrackShare { min: kbps(3_000), ..SHARE }, ["min", "3000000 b/s", "2500000"]),
        ] {
            let text = share.validate().unwrap_err().to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest() {
        let changed = SHARE.changed(&ShareChange { weight: Some(4.0), ..ShareChange::default() });
        assert_eq!(changed, TrackShare { weight: 4.0, ..SHARE });
    }
}
