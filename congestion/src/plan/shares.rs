//! One leg's part, divided among its cameras.

use std::time::Instant;

use lenscast_media::{Bitrate, TrackId};

use super::leg::{LegDemand, MediaDemand, PlannedLeg, PlannedMedia};
use super::{HighestLayers, SourceDemand, SourceId, SourceRates};
use crate::budget::LIMIT;
use crate::demand::is_positive;
use crate::{Allocator, Budget, Demand, Layers, Overhead, ShareState};

/// What a leg had a use for if it carried everything, on the wire.
pub(super) fn wanted(leg: &LegDemand, sources: &[&SourceDemand], overhead: &Overhead) -> Bitrate {
    let asked = asked(leg, sources);
    let demands = asked.iter().map(Asked::demand).filter(Demand::asks);
    let (mut media, mut millihertz) = (0_u64, 0_u64);
    for demand in demands {
        media = media.saturating_add(demand.max.as_bps().min(LIMIT));
        millihertz = millihertz.saturating_add(demand.millihertz());
    }
    Bitrate::from_bps(overhead.on_wire(media, millihertz).saturating_add(leg.reserved.as_bps()).min(LIMIT))
}

/// Divides a leg's budget among its cameras, and says what of streams of fixed rates goes out. Encoded sources get their
/// layers later.
#[expect(clippy::too_many_arguments, reason = "one call, each of its own kind")]
pub(super) fn plan_leg(
    now: Instant,
    leg: &LegDemand,
    limit: Bitrate,
    wanted: Bitrate,
    sources: &[&SourceDemand],
    overhead: &Overhead,
    before: Option<&PlannedLeg>,
    released: bool,
) -> PlannedLeg {
    let asked = asked(leg, sources);
    let total = limit.min(leg.estimate).as_bps().saturating_sub(leg.reserved.as_bps());
    let budget = Budget { total: Bitrate::from_bps(total), overhead: *overhead };
    let mut allocation = before.map(|before| before.allocation.clone()).unwrap_or_default();
    if released {
        allocation.release_held();
    } else {
        allocation.release_rises();
    }
    let mut demands: Vec<Demand> = asked.iter().map(Asked::demand).collect();
    let last = last_to_be_held(&demands, &asked);
    for (index, demand) in demands.iter_mut().enumerate() {
        demand.enforced = Some(index) == last;
    }
    let least = last.map_or(0, |last| overhead.on_wire(demands[last].min.as_bps(), demands[last].millihertz()));
    let least = Bitrate::from_bps(least.saturating_add(leg.reserved.as_bps()).min(LIMIT));
    let mut allocator = Allocator::new();
    allocator.update(&budget, &demands, &mut allocation);

    let remembered = |source: SourceId| {
        let before = before.filter(|_| !released).and_then(|before| before.media_of(source));
        before.copied().unwrap_or_else(|| PlannedMedia::fresh(source))
    };
    let mut planned: Vec<PlannedMedia> = asked.iter().map(|asked| remembered(asked.media.source)).collect();
    let mut pinned = false;
    for (index, (asked, planned)) in asked.iter().zip(&mut planned).enumerate() {
        let SourceRates::Fixed(rates) = &asked.source.rates else { continue };
        let share = allocation.share_at(index);
        let preferred = asked.media.preferred;
        let chosen = (share.state == ShareState::Allocated)
            .then(|| rates.choose(now, (share.target.as_bps(), total), preferred, planned, Some(index) == last))
            .flatten();
        let level = chosen.map(|(level, _)| level);
        planned.settle(now, level, level_wanted(preferred));
        planned.layers = match share.state {
            // It is its viewer's wish, or nothing can be had: nothing stands in its way.
            ShareState::Inactive => Some(preferred),
            _ => level.map(|level| rates.layers_at(level, preferred)),
        };
        // What its layers cannot use is the others'.
        let used = chosen.map_or(0, |(_, rate)| rate).min(share.target.as_bps());
        let demand = &mut demands[index];
        if used == 0 {
            demand.active = false;
        } else {
            (demand.min, demand.max) = (Bitrate::from_bps(used), Bitrate::from_bps(used));
        }
        pinned = true;
    }
    if pinned && asked.iter().any(|asked| matches!(asked.source.rates, SourceRates::Encoded(_))) {
        let held_before = allocation.clone();
        allocator.update(&budget, &demands, &mut allocation);
        // A stream that was held stays so to the next plan's eyes, though it asked for nothing in the second division.
        allocation.keep_paused(&held_before);
    }
    for (index, planned) in planned.iter_mut().enumerate() {
        planned.share = allocation.share_at(index).target;
    }
    let media =
        leg.media.iter().map(|media| match asked.binary_search_by_key(&media.source, |asked| asked.media.source) {
            Ok(place) => planned[place],
            Err(_) => PlannedMedia { layers: Some(media.preferred), ..PlannedMedia::fresh(media.source) },
        });
    PlannedLeg { leg: leg.leg, limit, wanted, least, media: media.collect(), allocation }
}

/// One camera of a leg, with what is known of it.
struct Asked<'a> {
    media: MediaDemand,
    source: &'a SourceDemand,
}

impl Asked<'_> {
    fn demand(&self) -> Demand {
        let HighestLayers { spatial, temporal } = self.media.preferred;
        let (min, max) = self.source.bounds(spatial, temporal);
        Demand {
            track: TrackId(self.media.source.0),
            weight: self.source.weight,
            min: Bitrate::from_bps(min),
            max: Bitrate::from_bps(max),
            active: !self.media.paused && max > 0,
            enforced: false,
            framerate: self.source.framerate,
            layers: Layers::one(),
        }
    }
}

/// The cameras of a leg that are known, each once, in ascending order.
fn asked<'a>(leg: &LegDemand, sources: &[&'a SourceDemand]) -> Vec<Asked<'a>> {
    let mut asked: Vec<Asked<'a>> = leg
        .media
        .iter()
        .filter_map(|media| {
            let place = sources.binary_search_by_key(&media.source, |source| source.source).ok()?;
            Some(Asked { media: *media, source: sources[place] })
        })
        .collect();
    // Of one that is named twice, the demand for the most is the first.
    let greed = |media: &MediaDemand| {
        let temporal = media.preferred.temporal.unwrap_or(u8::MAX);
        (media.paused, std::cmp::Reverse((media.preferred.spatial, temporal, media.preferred.temporal)))
    };
    asked.sort_by(|a, b| (a.media.source.cmp(&b.media.source)).then_with(|| greed(&a.media).cmp(&greed(&b.media))));
    asked.dedup_by_key(|asked| asked.media.source);
    asked
}

/// Which camera gets its minimum though nothing fits: one that a person has marked, else the one of the greatest weight, of
/// equals the lowest.
fn last_to_be_held(demands: &[Demand], asked: &[Asked<'_>]) -> Option<usize> {
    let asking = (0..demands.len()).filter(|&index| demands[index].asks());
    let matters = |index: &usize| (asked[*index].source.enforced, demands[*index].weight);
    asking.reduce(|first, other| {
        let ((is_marked, weight), (other_is_marked, other_weight)) = (matters(&first), matters(&other));
        let is_heavier = other_is_marked.cmp(&is_marked).then(other_weight.total_cmp(&weight)).is_gt();
        if is_heavier { other } else { first }
    })
}

/// The highest level of a fixed source within what its viewer wants.
fn level_wanted(preferred: HighestLayers) -> u8 {
    preferred
        .spatial
        .saturating_mul(super::FixedRates::MAX_TEMPORAL as u8)
        .saturating_add(preferred.temporal.unwrap_or(u8::MAX).min(super::FixedRates::MAX_TEMPORAL as u8 - 1))
}

impl PlannedMedia {
    /// Of one that nothing has been planned of before.
    fn fresh(source: SourceId) -> Self {
        Self { source, share: Bitrate::ZERO, layers: None, level: None, fell: None }
    }
}

impl Demand {
    /// It can be given something.
    fn asks(&self) -> bool {
        self.active && is_positive(self.weight) && self.max > Bitrate::ZERO
    }
}
