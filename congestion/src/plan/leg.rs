use std::time::Instant;

use lenscast_media::Bitrate;

use super::{FALL_MEMORY, SourceId};
use crate::Allocation;

/// One viewer's connection. Ids of legs that live at the same time differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// What one viewer's connection carries, and what goes over it.
#[derive(Debug, Clone, PartialEq)]
pub struct LegDemand {
    /// Which.
    pub leg: LegId,
    /// What it seems to carry: its controller's target.
    pub estimate: Bitrate,
    /// The estimate has been found out, and is not what it began with.
    pub is_confirmed: bool,
    /// Set aside before video gets anything: audio, on the wire.
    pub reserved: Bitrate,
    /// The cameras and streams that the viewer is to see. Of one that is named more than once the greediest demand counts.
    pub media: Vec<MediaDemand>,
}

/// One camera or stream of one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaDemand {
    /// Which. Of one that is unknown nothing is planned: it is left as its viewer wants it.
    pub source: SourceId,
    /// What the viewer wants at most.
    pub preferred: HighestLayers,
    /// The viewer wants nothing of it for now.
    pub paused: bool,
}

/// Layers at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HighestLayers {
    /// Spatial: 0 for the smallest picture. More than there are means the largest.
    pub spatial: u8,
    /// Temporal: 0 for the lowest frame rate; `None` for the highest.
    pub temporal: Option<u8>,
}

/// What is planned for one leg.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedLeg {
    /// Which.
    pub leg: LegId,
    /// Its part of the uplink: its target is to be no more. [`Bitrate::UNLIMITED`] where the uplink is.
    pub limit: Bitrate,
    /// What it had a use for if it carried everything, on the wire.
    pub wanted: Bitrate,
    /// What it is sent whatever it carries: the minimum of its last camera, and what is set aside, on the wire.
    pub least: Bitrate,
    /// Its media, in the order of the demand's.
    pub media: Vec<PlannedMedia>,
    pub(super) allocation: Allocation,
}

/// What is planned for one camera or stream of one leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedMedia {
    /// Which.
    pub source: SourceId,
    /// Its part of the leg, as media: without headers. Nothing if it is held, or unknown.
    pub share: Bitrate,
    /// What goes out at most. `None`: nothing, since nothing fits.
    pub layers: Option<HighestLayers>,
    /// How far up it is: of an encoded source the layer, of a fixed one [`FixedRates`](super::FixedRates)' level.
    pub(super) level: Option<u8>,
    /// When it last came down, if that still matters.
    pub(super) fell: Option<Instant>,
}

impl HighestLayers {
    /// Everything there is.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: None };
}

impl PlannedLeg {
    /// What is planned for a source; the first of them if it is named twice.
    #[must_use]
    pub fn media_of(&self, source: SourceId) -> Option<&PlannedMedia> {
        self.media.iter().find(|media| media.source == source)
    }
}

impl PlannedMedia {
    /// It came down so lately that it may go up with room to spare only.
    pub(super) fn fell_lately(&self, now: Instant) -> bool {
        self.fell.is_some_and(|fell| now.saturating_duration_since(fell) < FALL_MEMORY)
    }

    /// Notes where it is now, and whether it came down for lack of bits. From above `wanted`, its viewer wished it down.
    pub(super) fn settle(&mut self, now: Instant, level: Option<u8>, wanted: u8) {
        let before = self.level.map(|level| level.min(wanted));
        if before > level {
            self.fell = Some(now);
        } else if !self.fell_lately(now) {
            self.fell = None;
        }
        self.level = level;
    }
}
