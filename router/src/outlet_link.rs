use std::fmt;

use lenscast_media::LayerSet;
use lenscast_media::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::{OutletId, Upstream};

/// The way from a mirror back to its producer's home worker: what the mirror wants lies in atomics, so that the newest
/// counts and none is lost, and a nudge makes the home worker look.
///
/// Whoever is nudged calls [`Worker::handle_outlet`](crate::Worker::handle_outlet) on the home worker's thread. A nudge
/// may be lost if one that came before it has not been acted on yet.
pub struct OutletLink {
    outlet: OutletId,
    wanted: AtomicU8,
    key_frames: AtomicU8,
    closed: AtomicBool,
    nudge: Box<dyn Fn(OutletId) + Send + Sync>,
}

impl OutletLink {
    /// Nothing is wanted yet. `nudge` is called on the mirror's thread and must not block.
    #[must_use]
    pub fn new(outlet: OutletId, nudge: impl Fn(OutletId) + Send + Sync + 'static) -> Self {
        Self {
            outlet,
            wanted: AtomicU8::new(0),
            key_frames: AtomicU8::new(0),
            closed: AtomicBool::new(false),
            nudge: Box::new(nudge),
        }
    }

    /// Which outlet it belongs to.
    #[must_use]
    pub const fn outlet(&self) -> OutletId {
        self.outlet
    }

    pub(crate) fn wanted(&self) -> LayerSet {
        LayerSet::from_bits(self.wanted.load(Ordering::Acquire))
    }

    /// True if the mirror is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The layers of which key frames were asked for since the last call.
    pub(crate) fn take_key_frame_requests(&self) -> LayerSet {
        LayerSet::from_bits(self.key_frames.swap(0, Ordering::AcqRel))
    }
}

impl Upstream for OutletLink {
    fn set_wanted(&self, layers: LayerSet) {
        if self.wanted.swap(layers.bits(), Ordering::AcqRel) != layers.bits() {
            (self.nudge)(self.outlet);
        }
    }

    fn request_key_frame(&self, layer: u8) {
        let bit = LayerSet::only(layer).bits();
        if self.key_frames.fetch_or(bit, Ordering::AcqRel) & bit == 0 {
            (self.nudge)(self.outlet);
        }
    }

    fn close(&self) {
        self.wanted.store(0, Ordering::Release);
        if !self.closed.swap(true, Ordering::AcqRel) {
            (self.nudge)(self.outlet);
        }
    }
}

impl fmt::Debug for OutletLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutletLink")
            .field("outlet", &self.outlet)
            .field("wanted", &self.wanted())
            .finish_non_exhaustive()
    }
}
