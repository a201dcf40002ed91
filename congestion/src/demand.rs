use lenscast_media::{Bitrate, TrackId};

use crate::Layers;
use crate::budget::LIMIT;

/// What one track asks of the budget.
///
/// The bounds that count are at most those of the active layers, and the minimum wins over a maximum below it. A minimum of
/// nothing counts as 1 b/s, so that a track that runs has bits. A track whose maximum comes to nothing is inactive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Whose demand. Demands of the same track are each their own.
    pub track: TrackId,
    /// The share relative to other tracks'. One that is not positive or not finite gives the track nothing; what is outside
    /// 10⁻¹² to 10¹² counts as that bound.
    pub weight: f64,
    /// Below this the track pauses.
    pub min: Bitrate,
    /// More than this the track cannot use.
    pub max: Bitrate,
    /// Somebody consumes the track.
    pub active: bool,
    /// The minimum is given whatever the budget says.
    pub enforced: bool,
    /// Frames per second of each active layer: each frame's last packet is partly filled and has headers all the same. To a
    /// thousandth; what is not positive or not finite counts as none.
    pub framerate: f64,
    /// The spatial layers.
    pub layers: Layers,
}

/// Weights outside these count as these: sums and quotients of them stay finite.
const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-12..=1e12;

/// A demand with every number made usable. Bitrates are whole numbers up to [`LIMIT`], which `f64` holds exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    /// Zero if the track gets nothing.
    pub(crate) weight: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Bounds {
    pub(crate) const NOTHING: Self = Self { weight: 0.0, min: 0.0, max: 0.0 };

    #[inline]
    pub(crate) fn of(demand: &Demand) -> Self {
        let usable = demand.layers.usable().min(LIMIT);
        let max = demand.max.as_bps().max(demand.min.as_bps()).min(usable);
        if !demand.active | !is_positive(demand.weight) | (max == 0) {
            return Self::NOTHING;
        }
        let min = demand.min.as_bps().clamp(1, max);
        // Both fit i64, whose conversion is one instruction.
        Self {
            weight: demand.weight.clamp(*WEIGHTS.start(), *WEIGHTS.end()),
            min: min as i64 as f64,
            max: max as i64 as f64,
        }
    }

    /// The target at `level`: infinity is the maximum.
    #[inline]
    pub(crate) fn at(&self, level: f64) -> f64 {
        // Not `clamp`, which checks its bounds. Zero times infinity compares false and stays between.
        let target = self.weight * level;
        let target = if target > self.max { self.max } else { target };
        if target > self.min { target } else { self.min }
    }

    /// Neither bound binds at `level`, which is finite.
    #[inline]
    pub(crate) fn contain(&self, level: f64) -> bool {
        let target = self.weight * level;
        (target >= self.min) & (target <= self.max)
    }

    pub(crate) fn gets_nothing(&self) -> bool {
        self.max == 0.0
    }
}

impl Demand {
    /// Frames per 1,000 seconds of all active layers: so many packets are partly filled at most.
    #[inline]
    pub(crate) fn millihertz(&self) -> u64 {
        if !is_positive(self.framerate) {
            return 0;
        }
        // The conversion saturates.
        let each = (self.framerate * 1_000.0) as i64 as u64;
        if self.layers.are_one() { each } else { each.saturating_mul(self.layers.count_active()) }
    }
}

/// Positive and finite. The bits of such numbers lie between those of zero and of infinity, which is one comparison; with two
/// of numbers the compiler takes the number's class apart, for a tenth of an allocation's time.
#[inline]
pub(crate) fn is_positive(number: f64) -> bool {
    number.to_bits().wrapping_sub(1) < f64::INFINITY.to_bits() - 1
}
