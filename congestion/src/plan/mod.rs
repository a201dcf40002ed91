//! What each viewer gets of each camera, and what each encoder makes: a pure function over all legs.
//!
//! A leg is one viewer's connection, with one estimate and one camera or several. An encoder is shared: what it makes in a layer
//! is what everybody on that layer gets. So a plan is made over all legs at once, in three steps:
//!
//! 1. The uplink is divided among the legs ([`uplink`]): each gets what it has a use for and seems to carry, at one level.
//! 2. Each leg's part is divided among its cameras ([`shares`]) by [`allocate`](crate::allocate): weight, minimum, maximum. The
//!    last camera of a leg is never held back for lack of bits.
//! 3. Of each camera, legs are put on layers, from the largest down ([`seats`]): a layer's target is the smallest share among
//!    the legs that are within 0.7 of the largest; who has less goes to the layer below. Streams whose rates nobody here can
//!    change are cut to what fits ([`fixed`]).
//!
//! **Invariants.**
//! - All limits together never exceed the uplink.
//! - What a leg's cameras get together, with their headers, never exceeds the lesser of its limit and its estimate, but for the
//!   minimum of its last camera.
//! - A leg that has not been confirmed changes nothing for one that has, unless by what it takes of the uplink.
//! - On a layer above the lowest, nobody's share is less than 0.7 of anybody else's there.
//! - The order of legs, of their cameras and of sources makes no difference. No input panics.
//! - A layer that was left is taken again with 20 % to spare (or a sixteenth of the leg's whole budget), or after five seconds.
//!
//! What it does not do: estimate, tell encoders or routers, or give a leg what another one's thinness leaves of a camera that
//! both watch on one layer: that part of its budget is left to the leg's retransmissions and probes.

mod fixed;
mod layer_rates;
mod leg;
mod seats;
mod shares;
mod source;
mod uplink;

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

pub use fixed::FixedRates;
pub use layer_rates::LayerRates;
pub use leg::{HighestLayers, LegDemand, LegId, MediaDemand, PlannedLeg, PlannedMedia};
pub use source::{Ceilings, SourceDemand, SourceId, SourceRates};

use crate::{MAX_LAYERS, Overhead};

/// What there is to plan with.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRequest {
    /// What all legs together may take. [`Bitrate::UNLIMITED`] if anything.
    pub uplink: Bitrate,
    /// What of each leg's budget video does not get.
    pub overhead: Overhead,
    /// Changes when a person has changed weights or bounds: what they ask for is followed exactly then, without hysteresis.
    pub version: u64,
    /// The cameras and streams.
    pub sources: Vec<SourceDemand>,
    /// The viewers.
    pub legs: Vec<LegDemand>,
}

/// Who gets what, and what the next plan goes on from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    version: u64,
    legs: Vec<PlannedLeg>,
    ceilings: Vec<Ceilings>,
}

/// After a leg has come down to a smaller layer, it goes up again with [`RISE_MARGIN`] to spare only, for so long.
///
/// Ours: a switch costs everybody on the layer a key frame, which takes about as much as half a second of its frames.
const FALL_MEMORY: Duration = Duration::from_secs(5);

/// Numerator and denominator: libwebrtc's hysteresis for simulcast layers of cameras is 1.2, too
/// (`GetSimulcastHysteresisFactor`, `rtc_base/experiments/rate_control_settings.cc`).
const RISE_MARGIN: (u64, u64) = (6, 5);

impl Plan {
    /// The legs, in ascending order.
    #[must_use]
    pub fn legs(&self) -> &[PlannedLeg] {
        &self.legs
    }

    /// One leg's part.
    #[must_use]
    pub fn leg(&self, leg: LegId) -> Option<&PlannedLeg> {
        let index = self.legs.partition_point(|planned| planned.leg < leg);
        self.legs.get(index).filter(|planned| planned.leg == leg)
    }

    /// What each source that is encoded here is to make at most, in ascending order of sources.
    #[must_use]
    pub fn ceilings(&self) -> &[Ceilings] {
        &self.ceilings
    }

    /// When it may come out otherwise though nothing has changed: somebody's hysteresis ends.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        let media = self.legs.iter().flat_map(|leg| &leg.media);
        media.filter_map(|media| media.fell.map(|fell| fell + FALL_MEMORY)).min()
    }
}

/// Divides what legs carry among their cameras, and says what each layer of each camera is to make. `previous` tells who was
/// on which layer, who was held, and who has just come down.
///
/// It costs O(n log n) for n streams of all legs together.
#[must_use]
pub fn plan_legs(now: Instant, request: &PlanRequest, previous: &Plan) -> Plan {
    let mut sources: Vec<&SourceDemand> = request.sources.iter().collect();
    sources.sort_by(|a, b| a.total_order(b));
    sources.dedup_by_key(|source| source.source);
    let mut legs: Vec<&LegDemand> = request.legs.iter().collect();
    legs.sort_by_key(|leg| leg.leg);

    let wanted: Vec<Bitrate> = legs.iter().map(|leg| shares::wanted(leg, &sources, &request.overhead)).collect();
    let limits = uplink::divide(request.uplink, &legs, &wanted);
    let released = request.version != previous.version;
    let mut planned = Vec::with_capacity(legs.len());
    for ((leg, limit), wanted) in legs.iter().zip(limits).zip(wanted) {
        let before = previous.leg(leg.leg);
        planned.push(shares::plan_leg(now, leg, limit, wanted, &sources, &request.overhead, before, released));
    }
    let ceilings = seats::place(now, &sources, &legs, &mut planned);
    Plan { version: request.version, legs: planned, ceilings }
}

/// `rate` with the margin of a rise, for a leg that has `budget` in all: a fifth of the rate, or a sixteenth of the budget if
/// that is more. Beside a camera that has all it can use, what the others have trembles by what the whole budget does.
const fn with_rise_margin(rate: u64, budget: u64) -> u64 {
    let (more, than) = RISE_MARGIN;
    let (part, least) = (rate.saturating_mul(more - than) / than, budget / 16);
    rate.saturating_add(if part > least { part } else { least })
}

/// Of a layer that nobody is on: whoever else wants it may have it.
const NO_CEILING: [Bitrate; MAX_LAYERS] = [Bitrate::UNLIMITED; MAX_LAYERS];
