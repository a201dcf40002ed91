use std::cmp::Ordering;

use lenscast_media::Bitrate;

use super::FixedRates;
use crate::{LayerDemand, Layers, MAX_LAYERS};

/// A camera or stream. Ids of sources that live at the same time differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// What one camera or stream is, and how much it matters beside the others of a leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SourceDemand {
    /// Which.
    pub source: SourceId,
    /// Its part in relation to others'. With nothing, or less, or no number, it gets nothing.
    pub weight: f64,
    /// Below this it is held. Of a source with several layers, or of fixed rates, its lowest layer has a say in it.
    pub min: Bitrate,
    /// More it cannot use.
    pub max: Bitrate,
    /// It is the last to be held.
    pub enforced: bool,
    /// Frames per second: each frame's last packet is partly filled and has headers all the same.
    pub framerate: f64,
    /// What its layers take.
    pub rates: SourceRates,
}

/// What a source's layers take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SourceRates {
    /// It is encoded here: each layer takes what it is told to, within these. Whether layers are active makes no difference.
    Encoded(Layers),
    /// It comes as it comes.
    Fixed(FixedRates),
}

/// What the encoders of a source are to make at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Whose.
    pub source: SourceId,
    /// Each layer, the smallest first; never below the layer's minimum. [`Bitrate::UNLIMITED`] where no leg is,
    /// and where its legs carry all that the layer can use.
    pub layers: [Bitrate; MAX_LAYERS],
}

impl SourceDemand {
    /// By source; where two are given for one, by all that makes a difference.
    pub(super) fn total_order(&self, other: &Self) -> Ordering {
        let rest = |demand: &Self| (demand.min, demand.max, demand.enforced);
        (self.source.cmp(&other.source))
            .then_with(|| self.weight.total_cmp(&other.weight))
            .then_with(|| self.framerate.total_cmp(&other.framerate))
            .then_with(|| rest(self).cmp(&rest(other)))
            .then_with(|| self.rates.sort_key().cmp(&other.rates.sort_key()))
    }

    /// What a viewer that wants `spatial` at most can use of it, as media: least and most. Nothing can be had of it where the
    /// most is nothing.
    pub(super) fn bounds(&self, spatial: u8, temporal: Option<u8>) -> (u64, u64) {
        match &self.rates {
            SourceRates::Fixed(rates) => rates.bounds(spatial, temporal),
            SourceRates::Encoded(layers) => {
                let layers = layers.as_slice();
                let (min, max) = (self.min.as_bps(), self.max.as_bps().max(self.min.as_bps()));
                if let [_] = layers {
                    return (min, max);
                }
                let top = &layers[usize::from(spatial).min(layers.len() - 1)];
                let lowest = lowest_min(&layers[0], min);
                (lowest.min(top.max.as_bps()), top.max.as_bps())
            }
        }
    }

    /// The least that one layer is encoded at, and the most.
    pub(super) fn layer_bounds(&self, layers: &Layers, layer: usize) -> (u64, u64) {
        let all = layers.as_slice();
        let (min, max) = (self.min.as_bps(), self.max.as_bps().max(self.min.as_bps()));
        match (all, layer) {
            ([_], _) => (min, max),
            (_, 0) => (lowest_min(&all[0], min), all[0].max.as_bps()),
            _ => (all[layer].min.as_bps(), all[layer].max.as_bps()),
        }
    }
}

/// Of several layers, the smallest is worth sending from its own minimum on, or the source's if that is more; but never is more
/// needed than it can use.
fn lowest_min(layer: &LayerDemand, min: u64) -> u64 {
    layer.min.as_bps().max(min).min(layer.max.as_bps())
}

impl SourceRates {
    fn sort_key(&self) -> (u8, Vec<Bitrate>) {
        match self {
            Self::Encoded(layers) => {
                let rates = layers.as_slice().iter().flat_map(|layer| [layer.min, layer.target, layer.max]);
                (0, rates.collect())
            }
            Self::Fixed(rates) => (1, rates.iter().collect()),
        }
    }
}
