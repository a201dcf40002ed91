//! What the layers of a stream take that comes from elsewhere, as an average over about two seconds.
//!
//! A key frame, which each switch to a layer brings about, lifts what came within one look far above what the layer takes. Were
//! that believed, whoever switched up would be sent down again for it, and so on for ever. What has stopped is expected to take
//! what it took, and what never came a multiple of its neighbour.
//!
//! What it does not do: count bytes, or look at a clock. Its looks are taken every half second (`src/agent.rs`).

use lenscast_media::Bitrate;

use super::FixedRates;

/// The last measurements of a stream's layers, and what they come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerRates {
    measured: Vec<Bitrate>,
    layers: Vec<Average>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Average {
    bps: u64,
    /// Looks that went into it, up to [`LOOKS`].
    looks: u64,
}

/// A look counts for one part in so many: as many looks of half a second are two seconds. Ours: a key frame is about as much as half
/// a second of frames, and lifts the average by a quarter then.
const LOOKS: u64 = 4;

/// What a stream's smallest layer is expected to take that has never come, and how many times as much each layer takes than the
/// one below it: as the router has it (`router/src/layer_rates.rs`).
const SMALLEST: u64 = 150_000;
const STEP: u64 = 3;

impl LayerRates {
    /// What each of `count` layers takes, the smallest first, now that so much has been `measured`. The same look again counts
    /// once.
    pub fn update(&mut self, measured: &[Bitrate], count: usize) -> Vec<Bitrate> {
        let count = count.min(FixedRates::MAX_SPATIAL);
        let measured = &measured[..measured.len().min(count)];
        self.layers.resize(count, Average::default());
        if measured != self.measured {
            for (layer, measured) in self.layers.iter_mut().zip(measured) {
                layer.add(measured.as_bps());
            }
            self.measured = measured.to_vec();
        }
        (0..count).map(|layer| Bitrate::from_bps(self.expected(layer))).collect()
    }

    /// What came, or what is expected of a layer that never did, by the nearest below it that did, or else above.
    fn expected(&self, layer: usize) -> u64 {
        let has_come = |other: &usize| self.layers[*other].bps > 0;
        let known = (0..=layer).rev().find(has_come).or_else(|| (layer..self.layers.len()).find(has_come));
        let times = |steps: usize| STEP.saturating_pow(steps as u32);
        match known {
            Some(known) if known <= layer => self.layers[known].bps.saturating_mul(times(layer - known)),
            Some(known) => (self.layers[known].bps / times(known - layer)).max(1),
            None => SMALLEST * times(layer),
        }
    }
}

impl Average {
    /// Nothing at all says that it has stopped, and no more.
    fn add(&mut self, bps: u64) {
        if bps > 0 {
            self.looks = (self.looks + 1).min(LOOKS);
            self.bps = (self.bps - self.bps / self.looks).saturating_add(bps / self.looks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(looks: &[&[u64]], count: usize) -> Vec<u64> {
        let mut rates = LayerRates::default();
        let mut last = Vec::new();
        for look in looks {
            let measured: Vec<_> = look.iter().map(|kbps| Bitrate::from_kbps(*kbps)).collect();
            last = rates.update(&measured, count).iter().map(|rate| rate.as_kbps()).collect();
        }
        last
    }

    #[test]
    fn what_never_came_is_expected_by_its_neighbours() {
        assert_eq!(rates(&[&[]], 3), [150, 450, 1_350]);
        assert_eq!(rates(&[&[0, 300, 0]], 3), [100, 300, 900]);
        assert_eq!(rates(&[&[100]], 1), [100]);
        assert_eq!(rates(&[&[100, 300, 900, 2_700, 9_000]], 5), [100, 300, 900, 2_700], "more than there may be");
    }

    #[test]
    fn rises_and_falls_count_by_and_by_and_a_stop_not_at_all() {
        const STEADY: [&[u64]; 4] = [&[1_000], &[1_001], &[999], &[1_000]];
        let after = |more: &[&[u64]]| rates(&[&STEADY, more].concat(), 1)[0];
        assert_eq!(rates(&[&[1_000], &[2_000]], 1), [1_500], "until there are four, all are alike");
        assert_eq!((after(&[&[2_280]]), after(&[&[200]])), (1_320, 800));
        assert_eq!(after(&[&[200], &[200], &[200]]), 800, "the same look again");
        assert_eq!(after(&[&[2_280], &[0], &[0]]), 1_320, "what has stopped keeps its average");
        let settled = after(&[&[2_000], &[2_001], &[2_000], &[2_001], &[2_000], &[2_001]]);
        assert!((1_800..2_000).contains(&settled), "{settled}");
    }
}
