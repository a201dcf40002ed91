//! The division of a budget among tracks: the policy is [`allocate`]'s, [`Allocator`] keeps memory for it.
//!
//! Every rate is a whole number that `f64` holds exactly, so that the sums of targets and minima have no rounding in them.

use std::cmp::Ordering;

use lenscast_media::Bitrate;

use crate::budget::{LIMIT, Wire};
use crate::demand::Bounds;
use crate::{Allocation, Budget, Demand, LayerDemand, MAX_LAYERS, Share, ShareState};

/// Divides `budget` among `demands`. `previous` tells who was paused, which layers were off, and what rise is small; after
/// [`Allocation::release_held`] it tells nothing.
///
/// 1. What audio, headers, retransmission and FEC need is set aside: see [`Overhead`](crate::Overhead). Headers are those of
///    tracks that run: who pauses costs the others nothing, and they get what they would get without it.
/// 2. Enforced minima are given, whatever the budget says: nothing else can make the sum exceed it. Then minima are given by
///    weight, the greatest first, of equal weights the lower track first. A track whose minimum, with its own headers, does
///    not fit into what is left pauses, and the next is tried. A paused track runs again only where more than its minimum is
///    left: 10 % of it or 20 kb/s or a sixteenth of the whole budget more, whichever is the most.
/// 3. The rest goes by weight: of all tracks that run, the targets are `weight × level`, each kept within its bounds, at
///    the one level that uses the budget up. What a track cannot use thereby goes to the others, and where no bound binds,
///    targets are proportional to weights. What rounding leaves, a bit for each track at most, is not used.
/// 4. A rise is held back, but for its minimum's sake, where `weight × level` is less than 5 % above what the track had; a
///    fall acts at once. The track's maximum does not count in this: with such room a target rises to it however little is
///    missing, and without it stays below. Where all maxima fit, the level grows on in proportion to what there is. What a
///    held track does not take is not used.
/// 5. Each target is split among its track's layers as libwebrtc's `simulcast_rate_allocator.cc` does. What lies between the
///    maxima of the layers that are on and what the next one needs is not used, even where that is less than the track's
///    minimum.
///
/// With nothing held or paused before, and if no track's minimum lies in such a gap between layers:
///
/// - While the same tracks run, no target falls as the budget grows, and neither does the sum.
/// - What all targets and their headers take on the wire never falls as the budget grows. Where another set of tracks begins
///   to run, the heaviest of them that did not run before fits now, beside the same heavier ones: so the minima and headers
///   of the new set take more than the smaller budget had.
/// - The sum of targets can fall there, by no more media than the headers of the new set's partial packets take beyond the
///   old set's. Without a rate of frames, or without bytes of headers, it never falls.
/// - A single track's target can fall: where a heavier one's minimum begins to fit, lighter ones give way to it.
///
/// With a budget that trembles by ±3 % tracks do not pause and resume in turn.
#[must_use]
pub fn allocate(budget: &Budget, demands: &[Demand], previous: &Allocation) -> Allocation {
    let mut allocation = previous.clone();
    Allocator::new().update(budget, demands, &mut allocation);
    allocation
}

/// [`allocate`] that keeps its memory: it allocates none for as many demands as there were before.
#[derive(Debug, Clone, Default)]
pub struct Allocator {
    /// One for each demand, in the order of shares.
    bounds: Vec<Bounds>,
    /// Indices of demands, the greatest weight first.
    by_weight: Vec<u32>,
    /// The demands in the order of shares, if they came in another or their tracks are others than before.
    sorted: Vec<Demand>,
    /// The shares before, if their tracks were others.
    before: Vec<Share>,
}

impl Allocator {
    /// With nothing kept yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces `allocation`, the previous one, by that of `budget` and `demands`.
    ///
    /// It is fastest with demands in ascending order of tracks, and with the same tracks as before.
    pub fn update(&mut self, budget: &Budget, demands: &[Demand], allocation: &mut Allocation) {
        if are_in_step(demands, &allocation.shares) {
            return self.divide(budget, demands, allocation);
        }
        let mut sorted = std::mem::take(&mut self.sorted);
        sorted.clear();
        sorted.extend_from_slice(demands);
        sorted.sort_unstable_by(total_order);
        self.align(&sorted, &mut allocation.shares);
        self.divide(budget, &sorted, allocation);
        self.sorted = sorted;
    }

    /// Makes `shares` the previous ones of `demands`, which are sorted, one for one.
    fn align(&mut self, demands: &[Demand], shares: &mut Vec<Share>) {
        std::mem::swap(&mut self.before, shares);
        shares.clear();
        let mut before = self.before.iter().peekable();
        for demand in demands {
            while before.next_if(|share| share.track < demand.track).is_some() {}
            let share = before.next_if(|share| share.track == demand.track);
            shares.push(share.copied().unwrap_or_else(|| Share::fresh(demand.track)));
        }
    }

    fn divide(&mut self, budget: &Budget, demands: &[Demand], allocation: &mut Allocation) {
        let shares = &mut allocation.shares;
        let mut millihertz = 0_u64;
        let mut resumes = false;
        let mut sums = Sums::default();
        self.bounds.clear();
        if allocation.released {
            shares.iter_mut().for_each(|share| *share = Share::fresh(share.track));
        }
        self.bounds.extend(demands.iter().zip(shares.iter_mut()).map(|(demand, share)| {
            let bounds = Bounds::of(demand);
            if bounds.gets_nothing() {
                *share = Share::fresh(demand.track);
            } else {
                millihertz = millihertz.saturating_add(demand.millihertz());
            }
            resumes |= share.state == ShareState::Paused;
            sums.add(&bounds);
            bounds
        }));
        let wire = budget.wire();
        let mut bits = wire.media(millihertz);
        if resumes || sums.min > bits as i64 as f64 {
            bits = self.choose(&wire, demands, shares);
            sums = Sums::default();
            self.bounds.iter().for_each(|bounds| sums.add(bounds));
        }
        let media = bits as i64 as f64;
        let level = level(media, &sums, &self.bounds);
        let judged = judged_level(level, media, &sums, &self.bounds);
        for ((bounds, demand), share) in self.bounds.iter().zip(demands).zip(shares.iter_mut()) {
            give(share, demand, bounds, bounds.at(level), bounds.weight * judged);
        }
        allocation.audio = Bitrate::from_bps(wire.audio);
        allocation.overhead = Bitrate::from_bps(wire.video - bits);
        allocation.released = false;
    }

    /// Decides who runs, and returns the bits per second of media that they have. Who does not run gets no bounds any more, and
    /// its share says that it is paused.
    #[inline(never)]
    fn choose(&mut self, wire: &Wire, demands: &[Demand], shares: &mut [Share]) -> u64 {
        self.order_by_weight();
        // Of those who run: minima, partial packets, and the media that these leave.
        let (mut minima, mut millihertz) = (0.0, 0_u64);
        let enforced = |(bounds, demand): &(&Bounds, &Demand)| demand.enforced && !bounds.gets_nothing();
        for (bounds, demand) in self.bounds.iter().zip(demands).filter(enforced) {
            minima += bounds.min;
            millihertz = millihertz.saturating_add(demand.millihertz());
        }
        let mut media = wire.media(millihertz);
        for &index in &self.by_weight {
            let index = index as usize;
            let (bounds, demand, share) = (&mut self.bounds[index], &demands[index], &mut shares[index]);
            if bounds.gets_nothing() || demand.enforced {
                continue;
            }
            let margin = if share.state == ShareState::Paused { resume_margin(bounds.min, wire.whole) } else { 0.0 };
            let with_it = millihertz.saturating_add(demand.millihertz());
            let left = wire.media(with_it);
            if minima + bounds.min + margin <= left as i64 as f64 {
                (minima, millihertz, media) = (minima + bounds.min, with_it, left);
            } else {
                *bounds = Bounds::NOTHING;
                *share = Share { state: ShareState::Paused, limited: true, ..Share::fresh(share.track) };
            }
        }
        media
    }

    /// Brings `by_weight` in order, which it is already as long as weights do not change places.
    fn order_by_weight(&mut self) {
        let bounds = &self.bounds;
        if self.by_weight.len() != bounds.len() {
            self.by_weight.clear();
            self.by_weight.extend(0..bounds.len() as u32);
        }
        let heavier_first = |a: &u32, b: &u32| {
            let weight = |index: &u32| bounds[*index as usize].weight;
            weight(b).total_cmp(&weight(a)).then(a.cmp(b))
        };
        if !self.by_weight.is_sorted_by(|a, b| heavier_first(a, b).is_lt()) {
            self.by_weight.sort_unstable_by(heavier_first);
        }
    }
}

/// `shares` are those of `demands`, one for one, and no track has two.
fn are_in_step(demands: &[Demand], shares: &[Share]) -> bool {
    let mut above = 0;
    demands.len() == shares.len()
        && demands.iter().zip(shares).all(|(demand, share)| {
            let ascends = u64::from(demand.track.0) >= above;
            above = u64::from(demand.track.0) + 1;
            ascends & (demand.track == share.track)
        })
}

/// What a paused track's minimum must leave free for the track to run again, in bits per second.
///
/// 10 % of the minimum, but 20 kb/s at least, as in libwebrtc's `call/bitrate_allocator.cc` (`kToggleFactor`,
/// `kMinToggleBitrateBps`); and a sixteenth of the `whole` budget, which libwebrtc has not: among many tracks an estimate that
/// trembles by ±3 % moves by more than a tenth of one's minimum.
fn resume_margin(min: f64, whole: f64) -> f64 {
    (min / 10.0).max(20_000.0).max(whole / 16.0)
}

/// The sums of all bounds.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weight: f64,
    min: f64,
    max: f64,
}

impl Sums {
    #[inline]
    fn add(&mut self, bounds: &Bounds) {
        self.weight += bounds.weight;
        self.min += bounds.min;
        self.max += bounds.max;
    }
}

/// The level at which targets use `media` up, or as much of it as bounds allow.
///
/// The level is that of `media / weights` if no bound binds. Where the clamped targets exceed the budget, the true level is
/// lower, and who is at its minimum now is so there; where they fall short, it is higher, and who is at its maximum is so
/// there. Each turn thus finds at least one bound that binds, and the level of all others follows.
fn level(media: f64, sums: &Sums, all: &[Bounds]) -> f64 {
    if sums.max <= media {
        return f64::INFINITY;
    }
    if sums.min >= media {
        return 0.0;
    }
    let mut level = media / sums.weight;
    if all.iter().all(|bounds| bounds.contain(level)) {
        return level;
    }
    // The true level is between these. They only come nearer, whatever rounding does: so there are at most as many turns as
    // tracks.
    let (mut from, mut to) = (0.0, f64::INFINITY);
    let mut free = all.len();
    loop {
        let given: f64 = all.iter().map(|bounds| bounds.at(level)).sum();
        if given > media {
            to = level.min(to);
        } else {
            from = level.max(from);
        }
        let (mut weight, mut left, mut still_free) = (0.0, media, 0);
        for bounds in all {
            if bounds.weight * to < bounds.min {
                left -= bounds.min;
            } else if bounds.weight * from > bounds.max {
                left -= bounds.max;
            } else {
                weight += bounds.weight;
                still_free += 1;
            }
        }
        // No weight is left by rounding only.
        if still_free == free || weight == 0.0 {
            return level;
        }
        free = still_free;
        level = left / weight;
    }
}

/// The level by which rises and layers' margins are judged: it grows with `media` where all maxima fit, too. With a fifth more
/// than these it is infinite: no rise, and no layer's margin, needs more.
#[inline]
fn judged_level(level: f64, media: f64, sums: &Sums, all: &[Bounds]) -> f64 {
    if level < f64::INFINITY || media * 5.0 >= sums.max * 6.0 {
        return level;
    }
    // The level at which the last of them reaches its maximum.
    let asking = all.iter().filter(|bounds| !bounds.gets_nothing());
    asking.map(|bounds| bounds.max / bounds.weight).fold(0.0, f64::max) * (media / sums.max)
}

/// Added to a target before its fraction of a bit is cut off: one that rounding put a trifle below a whole bit gets that bit.
/// It is more than the error of a camera's rate, and 80,000 tracks' errors of either kind are less than a bit together: whole
/// targets cannot sum to more than the budget, which is whole.
const TREMBLE: f64 = 1e-6;

/// Whole bits of a target that is finite and not negative.
#[inline]
fn whole_bits(target: f64) -> u64 {
    (target + TREMBLE) as i64 as u64
}

/// Writes a track's share, which was that before. `wish` is the target if the track had no maximum, possibly infinite.
#[inline]
fn give(share: &mut Share, demand: &Demand, bounds: &Bounds, target: f64, wish: f64) {
    if bounds.gets_nothing() {
        return;
    }
    let (bits, wish) = (whole_bits(target), whole_bits(if wish < WISH_LIMIT { wish } else { WISH_LIMIT }));
    let (min, max, before) = (bounds.min as i64 as u64, bounds.max as i64 as u64, share.target.as_bps());
    // Field by field: an array put together first is read back at once, wider than it was written, which stalls.
    if demand.layers.are_one() {
        // A track's bounds are within those of its only layer.
        let given = if held_back(before, bits, wish) { before.max(min) } else { bits };
        share.target = Bitrate::from_bps(given);
        share.layers[0] = Bitrate::from_bps(given);
        share.layers[1] = Bitrate::ZERO;
        share.layers[2] = Bitrate::ZERO;
        share.limited = given < max;
    } else {
        let mut layers = demand.layers.split(bits, wish.saturating_sub(bits), &share.layers);
        if held_back(before, sum(&layers), wish) {
            layers = demand.layers.split(before.max(min), 0, &share.layers);
        }
        let given = sum(&layers);
        share.target = Bitrate::from_bps(given);
        share.layers = layers;
        share.limited = given < max && given < demand.layers.reach(max);
    }
    share.state = ShareState::Allocated;
}

/// Wishes above this count as this: no target can be held against them.
const WISH_LIMIT: f64 = 2.0 * LIMIT as f64;

/// A rise to which the track's wish gives less than 5 %. Who wishes for more than its maximum rises to it, however little
/// that is.
#[inline]
fn held_back(before: u64, now: u64, wish: u64) -> bool {
    // No wish exceeds `WISH_LIMIT`: the product does not overflow.
    (now > before) & (wish.saturating_sub(before) * 20 < before)
}

fn sum(layers: &[Bitrate; MAX_LAYERS]) -> u64 {
    layers.iter().fold(0, |sum, rate| sum + rate.as_bps())
}

/// By track; where one has several demands, by all that makes a difference, so that their order makes none.
fn total_order(a: &Demand, b: &Demand) -> Ordering {
    let layers = |demand: &Demand| {
        let key = |layer: &LayerDemand| (layer.active, layer.min, layer.target, layer.max);
        let slice = demand.layers.as_slice();
        [slice.first().map(key), slice.get(1).map(key), slice.get(2).map(key)]
    };
    let rest = |demand: &Demand| (demand.min, demand.max, demand.active, demand.enforced);
    (a.track.cmp(&b.track))
        .then_with(|| a.weight.total_cmp(&b.weight))
        .then_with(|| a.framerate.total_cmp(&b.framerate))
        .then_with(|| rest(a).cmp(&rest(b)))
        .then_with(|| layers(a).cmp(&layers(b)))
}
