//! What viewers' paths carry, as it bears on one track: how much each of its layers is to make at most.
//!
//! **Invariants.**
//!
//! - No ceiling brings a layer below its minimum, and none stops one: whether a layer is made is for those who want it to say.
//! - A fall acts with the next frame. An encoder that must be built anew for another rate falls further than it must and rises
//!   in large steps only, since each costs a key frame; but where nothing bounds it any more, at once.
//!
//! What it does not do: decide on ceilings, or count as a person's change.

use lenscast_congestion::{LayerDemand, Layers, MAX_LAYERS};
use lenscast_media::Bitrate;

use crate::TrackShare;

/// The ceilings of a track's layers, as they are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerCeilings([Bitrate; MAX_LAYERS]);

/// Of an encoder that cannot change its rate in place: it falls to so many hundredths of its ceiling, and rises once that is so
/// many hundredths of what is followed. Ours: an estimate that trembles by ±8 % costs no key frame, and one that grows by 8 % a
/// second (GCC's rate of increase) costs one in five seconds.
const REBUILD_ROOM: u64 = 85;
const REBUILD_RISE: u64 = 175;

impl LayerCeilings {
    /// As if there were none.
    pub(crate) const NONE: Self = Self([Bitrate::UNLIMITED; MAX_LAYERS]);

    /// Each layer's, the smallest first.
    pub(crate) const fn layers(&self) -> [Bitrate; MAX_LAYERS] {
        self.0
    }

    /// Follows new ones. True if that makes a difference.
    pub(crate) fn follow(&mut self, wanted: &[Bitrate; MAX_LAYERS], in_place: bool) -> bool {
        let before = *self;
        for (followed, wanted) in self.0.iter_mut().zip(wanted) {
            if in_place || *wanted == Bitrate::UNLIMITED {
                *followed = *wanted;
                continue;
            }
            let hundredths = |rate: Bitrate, hundredths: u64| rate.as_bps().saturating_mul(hundredths) / 100;
            let rises = *followed != Bitrate::UNLIMITED && wanted.as_bps() >= hundredths(*followed, REBUILD_RISE);
            if *wanted < *followed || rises {
                *followed = Bitrate::from_bps(hundredths(*wanted, REBUILD_ROOM));
            }
        }
        *self != before
    }

    /// What a track's layers ask for under these ceilings. Of a single layer the bounds are the track's own.
    pub(crate) fn cap(&self, layers: &Layers, share: &TrackShare) -> Layers {
        if *self == Self::NONE {
            return *layers;
        }
        let mut capped =
            [LayerDemand { min: Bitrate::ZERO, target: Bitrate::ZERO, max: Bitrate::ZERO, active: false }; MAX_LAYERS];
        let all = layers.as_slice();
        for (place, (layer, ceiling)) in capped.iter_mut().zip(all.iter().zip(self.0)) {
            let least = if all.len() == 1 { share.min } else { layer.min };
            let max = layer.max.min(ceiling.max(least));
            *place = LayerDemand { target: layer.target.min(max), max, ..*layer };
        }
        Layers::new(&capped[..all.len()]).unwrap_or(*layers)
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use lenscast_congestion::Layers;

    use super::*;

    const fn kbps(kbps: u64) -> Bitrate {
        Bitrate::from_kbps(kbps)
    }

    fn followed(start: u64, wanted: &[u64], in_place: bool) -> Vec<u64> {
        let mut ceilings = LayerCeilings::NONE;
        ceilings.follow(&[kbps(start); MAX_LAYERS], in_place);
        let each = wanted.iter().map(|wanted| {
            ceilings.follow(&[kbps(*wanted); MAX_LAYERS], in_place);
            ceilings.layers()[0].as_kbps()
        });
        each.collect()
    }

    #[test]
    fn what_changes_in_place_follows_exactly() {
        assert_eq!(followed(1_000, &[990, 1_010, 300], true), [990, 1_010, 300]);
    }

    #[test]
    fn what_must_be_built_anew_falls_with_room_and_rises_in_large_steps() {
        assert_eq!(followed(1_000, &[920, 1_080, 860, 840, 1_200, 1_250], false), [850, 850, 850, 714, 714, 1_062]);
        let mut ceilings = LayerCeilings::NONE;
        assert!(ceilings.follow(&[kbps(500); MAX_LAYERS], false));
        assert!(!ceilings.follow(&[kbps(520); MAX_LAYERS], false));
        assert!(ceilings.follow(&[Bitrate::UNLIMITED; MAX_LAYERS], false), "at once");
        assert_eq!(ceilings, LayerCeilings::NONE);
    }

    #[test]
    fn no_layer_is_kept_below_its_minimum() {
        let share = TrackShare { weight: 1.0, min: kbps(100), max: kbps(2_000), enforced: false };
        let mut ceilings = LayerCeilings::NONE;
        ceilings.follow(&[kbps(40), kbps(40), Bitrate::UNLIMITED], true);
        assert_eq!(ceilings.cap(&Layers::one(), &share).as_slice()[0].max, kbps(100));
        let layer = |min, max| LayerDemand { min: kbps(min), target: kbps(max), max: kbps(max), active: true };
        let layers = Layers::new(&[layer(30, 200), layer(150, 700), layer(600, 2_500)]).unwrap();
        let capped = ceilings.cap(&layers, &share);
        let max: Vec<_> = capped.as_slice().iter().map(|layer| layer.max.as_kbps()).collect();
        assert_eq!(max, [40, 150, 2_500]);
    }
}
