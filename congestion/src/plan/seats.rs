//! Who sits on which layer of a source that is encoded here, and what the layers are to make.
//!
//! From the largest layer down: its target is the smallest share among the confirmed legs within 0.7 of the largest share, and
//! whoever of the others has so much sits there too; the rest goes to the layer below. The lowest layer takes whoever is
//! left, and its target is the smallest share among them, but never less than it is worth sending at. Legs that are not
//! confirmed have a say only where nobody else is: the target is the largest of their shares then.

use std::time::Instant;

use lenscast_media::Bitrate;

use super::leg::PlannedLeg;
use super::{Ceilings, HighestLayers, LegDemand, NO_CEILING, SourceDemand, SourceRates, with_rise_margin};
use crate::{Layers, ShareState};

/// Who has less than this part of the layer's largest share goes to the layer below. Numerator and denominator.
///
/// Ours: from layer to layer libwebrtc's table (`video/config/simulcast.cc`) steps by a factor of 3.3 to 3.6, so that a third
/// less quality for the faster legs is the most that sharing a layer costs, and a switch down would cost the slower ones more.
const TOGETHER: (u64, u64) = (7, 10);

/// One leg's place at one source.
#[derive(Debug, Clone, Copy)]
struct Seat {
    /// Index in the plan's legs, and in the leg's media.
    leg: usize,
    media: usize,
    share: u64,
    /// What the leg has in all.
    budget: u64,
    is_confirmed: bool,
    preferred: HighestLayers,
    /// The layer before.
    before: Option<u8>,
    fell_lately: bool,
    layer: Option<u8>,
}

/// Writes down for each leg which layer of each encoded source it gets, and returns what the layers are to make.
pub(super) fn place(
    now: Instant,
    sources: &[&SourceDemand],
    legs: &[&LegDemand],
    planned: &mut [PlannedLeg],
) -> Vec<Ceilings> {
    let mut seats: Vec<Vec<Seat>> = vec![Vec::new(); sources.len()];
    for (leg, (demand, planned)) in legs.iter().zip(planned.iter_mut()).enumerate() {
        for (media, wish) in demand.media.iter().enumerate() {
            let found = sources.binary_search_by_key(&wish.source, |source| source.source);
            let Some(index) = found.ok().filter(|&index| matches!(sources[index].rates, SourceRates::Encoded(_)))
            else {
                continue;
            };
            let state = planned.allocation.share(lenscast_media::TrackId(wish.source.0)).map(|share| share.state);
            let place = &mut planned.media[media];
            match state {
                Some(ShareState::Allocated) if !wish.paused => seats[index].push(Seat {
                    leg,
                    media,
                    share: place.share.as_bps(),
                    budget: planned.limit.min(demand.estimate).as_bps(),
                    is_confirmed: demand.is_confirmed,
                    preferred: wish.preferred,
                    before: place.level,
                    fell_lately: place.fell_lately(now),
                    layer: None,
                }),
                Some(ShareState::Paused) if !wish.paused => {
                    place.settle(now, None, wish.preferred.spatial);
                    place.layers = None;
                }
                // Its viewer's wish, or the operator's: no lack of bits.
                _ => {
                    place.settle(now, None, 0);
                    place.fell = None;
                    place.layers = Some(wish.preferred);
                }
            }
        }
    }
    let mut ceilings = Vec::new();
    for (source, seats) in sources.iter().zip(&mut seats) {
        let SourceRates::Encoded(layers) = &source.rates else { continue };
        ceilings.push(Ceilings { source: source.source, layers: seat(source, layers, seats) });
        for seat in seats {
            let place = &mut planned[seat.leg].media[seat.media];
            place.settle(now, seat.layer, seat.preferred.spatial);
            let spatial = seat.layer.unwrap_or(0);
            // The largest that its viewer wants is no bound at all.
            let is_highest = usize::from(spatial) + 1 == layers.as_slice().len() || spatial == seat.preferred.spatial;
            let spatial = if is_highest { seat.preferred.spatial } else { spatial };
            place.layers = Some(HighestLayers { spatial, temporal: seat.preferred.temporal });
        }
    }
    ceilings
}

/// Gives each seat its layer, and returns what the layers are to make.
fn seat(source: &SourceDemand, layers: &Layers, seats: &mut [Seat]) -> [Bitrate; crate::MAX_LAYERS] {
    let mut ceilings = NO_CEILING;
    for layer in (0..layers.as_slice().len()).rev() {
        let (min, max) = source.layer_bounds(layers, layer);
        let index = layer as u8;
        let ceiling = if layer == 0 { lowest(seats) } else { upper(index, min, max, seats) };
        if let Some(ceiling) = ceiling {
            // A ceiling at the layer's own maximum keeps nothing from it.
            let bounds = ceiling < max && min < max;
            ceilings[layer] = if bounds { Bitrate::from_bps(ceiling.max(min)) } else { Bitrate::UNLIMITED };
        }
    }
    ceilings
}

/// Seats on a layer above the lowest whoever belongs there, and returns its target.
fn upper(layer: u8, min: u64, max: u64, seats: &mut [Seat]) -> Option<u64> {
    if max == 0 {
        return None;
    }
    // Who has all that the layer can use has room to spare, however much the budget trembles.
    let has_room = |seat: &Seat| seat.share >= seat.needs(layer, min).min(max);
    let fits = |seat: &Seat| seat.layer.is_none() && seat.preferred.spatial >= layer && has_room(seat);
    let usable = |seat: &Seat| seat.share.min(max);
    let confirmed = || seats.iter().filter(|seat| fits(seat) && seat.is_confirmed);
    let target = match confirmed().map(usable).max() {
        Some(largest) => {
            let (part, of) = TOGETHER;
            let together = largest.saturating_mul(part).div_ceil(of);
            // Whoever goes up to it comes with room to spare, or not at all; nobody of those pulls it down meanwhile.
            let belongs = |seat: &Seat| usable(seat) == largest || usable(seat) >= seat.needs(layer, together);
            let target = confirmed().filter(|seat| belongs(seat)).map(usable).min()?;
            for seat in seats.iter_mut().filter(|seat| fits(seat)) {
                let belongs = if seat.is_confirmed { belongs(seat) } else { usable(seat) >= target };
                seat.layer = belongs.then_some(layer);
            }
            target
        }
        None => {
            let target = seats.iter().filter(|seat| fits(seat)).map(usable).max()?;
            for seat in seats.iter_mut().filter(|seat| fits(seat) && usable(seat) == target) {
                seat.layer = Some(layer);
            }
            target
        }
    };
    Some(target)
}

/// Seats whoever is left on the lowest layer, and returns its target.
fn lowest(seats: &mut [Seat]) -> Option<u64> {
    let mut confirmed: Option<u64> = None;
    let mut others: Option<u64> = None;
    for seat in seats.iter_mut().filter(|seat| seat.layer.is_none()) {
        seat.layer = Some(0);
        if seat.is_confirmed {
            confirmed = Some(confirmed.map_or(seat.share, |least| least.min(seat.share)));
        } else {
            others = others.max(Some(seat.share));
        }
    }
    confirmed.or(others)
}

impl Seat {
    /// What it must have where `rate` is needed: more, if it has come down lately and this layer is above the one it is on.
    fn needs(&self, layer: u8, rate: u64) -> u64 {
        let rises = self.before.is_none_or(|before| layer > before);
        if rises && self.fell_lately { with_rise_margin(rate, self.budget) } else { rate }
    }
}
