//! Streams whose rates nobody here can change: what another machine or a browser encodes.
//!
//! A leg gets the largest picture whose base fits its share, and then as many of the frames as fit. To stay where it is, a
//! tenth less is enough, since what is measured trembles; to go up soon after it came down, a fifth more is needed.

use std::time::Instant;

use lenscast_media::Bitrate;

use super::leg::PlannedMedia;
use super::{HighestLayers, with_rise_margin};

/// What each layer of a stream takes: a spatial layer with the temporal layers up to one. Nothing: it cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FixedRates {
    cumulative: [[Bitrate; Self::MAX_TEMPORAL]; Self::MAX_SPATIAL],
}

impl FixedRates {
    /// Spatial layers at most.
    pub const MAX_SPATIAL: usize = 4;
    /// Temporal layers at most: what WebRTC's scalability modes and VP8's 2-bit identifier allow.
    pub const MAX_TEMPORAL: usize = 4;

    /// By spatial layer, the smallest first, and in it by temporal layer: what it takes with those below it.
    #[must_use]
    pub const fn new(cumulative: [[Bitrate; Self::MAX_TEMPORAL]; Self::MAX_SPATIAL]) -> Self {
        Self { cumulative }
    }

    /// Streams without temporal layers, or whose temporal layers' rates are not known. Layers beyond
    /// [`Self::MAX_SPATIAL`] are ignored.
    #[must_use]
    pub fn of_layers(layers: &[Bitrate]) -> Self {
        let mut cumulative = [[Bitrate::ZERO; Self::MAX_TEMPORAL]; Self::MAX_SPATIAL];
        for (place, rate) in cumulative.iter_mut().zip(layers) {
            place[0] = *rate;
        }
        Self { cumulative }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Bitrate> + '_ {
        self.cumulative.iter().flatten().copied()
    }

    /// The least and the most that a viewer can use of it, as media. The most has room for [`with_rise_margin`]: else a stream
    /// would never come back to its largest layer.
    pub(super) fn bounds(&self, spatial: u8, temporal: Option<u8>) -> (u64, u64) {
        let rates = || self.up_to(spatial, temporal).map(|(_, rate)| rate);
        (rates().min().unwrap_or(0), rates().max().map_or(0, |rate| with_rise_margin(rate, 0)))
    }

    /// The level that fits `share` of a leg's `budget`, and what it takes. `None` if none fits; with `at_least_something`, the lowest then.
    pub(super) fn choose(
        &self,
        now: Instant,
        (share, budget): (u64, u64),
        preferred: HighestLayers,
        before: &PlannedMedia,
        at_least_something: bool,
    ) -> Option<(u8, u64)> {
        // Who has all that it can use has room to spare, however much the budget trembles.
        let (_, most) = self.bounds(preferred.spatial, preferred.temporal);
        let fits = |level: u8, rate: u64| {
            if before.level.is_some_and(|before| level <= before) {
                rate.saturating_mul(10) <= share.saturating_mul(11)
            } else if before.fell_lately(now) {
                with_rise_margin(rate, budget).min(most) <= share
            } else {
                rate <= share
            }
        };
        let levels = || self.up_to(preferred.spatial, preferred.temporal);
        let fitting = levels().filter(|&(level, rate)| fits(level, rate));
        // Levels ascend by spatial, then by temporal layer. A larger picture at fewer frames goes before a smaller one at all.
        let base = fitting.clone().filter(|&(level, _)| is_base(level, levels())).last();
        let best =
            base.and_then(|(base, _)| fitting.filter(|&(level, _)| spatial_of(level) == spatial_of(base)).last());
        best.or_else(|| at_least_something.then(|| levels().next()).flatten())
    }

    /// What goes out at `level`, for a viewer who wants `preferred`.
    pub(super) fn layers_at(&self, level: u8, preferred: HighestLayers) -> HighestLayers {
        let (spatial, temporal) = (spatial_of(level), level % Self::MAX_TEMPORAL as u8);
        let row = &self.cumulative[usize::from(spatial).min(Self::MAX_SPATIAL - 1)];
        let is_highest = row[usize::from(temporal) + 1..].iter().all(|rate| *rate == Bitrate::ZERO);
        HighestLayers { spatial, temporal: if is_highest { preferred.temporal } else { Some(temporal) } }
    }

    /// The levels that can be had and are wanted, with what they take, in ascending order.
    fn up_to(&self, spatial: u8, temporal: Option<u8>) -> impl Iterator<Item = (u8, u64)> + Clone + '_ {
        let within = move |level: &(u8, u64)| {
            let own = level.0 % Self::MAX_TEMPORAL as u8;
            spatial_of(level.0) <= spatial && temporal.is_none_or(|most| own <= most) && level.1 > 0
        };
        let all = self.cumulative.iter().flatten().map(|rate| rate.as_bps().min(crate::budget::LIMIT));
        (0_u8..).zip(all).filter(within)
    }
}

const fn spatial_of(level: u8) -> u8 {
    level / FixedRates::MAX_TEMPORAL as u8
}

/// Of its picture's levels it is the lowest that can be had.
fn is_base(level: u8, mut levels: impl Iterator<Item = (u8, u64)>) -> bool {
    levels.find(|(other, _)| spatial_of(*other) == spatial_of(level)).is_some_and(|(lowest, _)| lowest == level)
}
