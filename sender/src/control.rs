use std::sync::Arc;

use lenscast_congestion::MAX_LAYERS;
use lenscast_media::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use lenscast_media::{Bitrate, Resolution};

use crate::cpu_watch::Usage;

/// What others may want of a running track, layer by layer. Read by its encode task at the start of each frame: setting
/// anything here takes no lock and waits for nothing.
#[derive(Debug)]
pub struct TrackControl {
    /// Spatial layers, the smallest first.
    layers: [LayerControl; MAX_LAYERS],
    /// See [`TrackControl::source`].
    source: AtomicU64,
    /// What the last allocation went by, see [`Basis`].
    allocated_by: AtomicU64,
    /// The allocation gives less than the track could use.
    limited: AtomicBool,
    cpu: CpuControl,
}

#[derive(Debug)]
struct LayerControl {
    demand: AtomicUsize,
    key_frame: AtomicBool,
    /// See [`Published`].
    target: AtomicU64,
}

/// What an allocation goes by, besides what people say. It is read once for each, and written down: so whoever looks later
/// knows whether the allocation is still of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Basis {
    pub(crate) wanted: [bool; MAX_LAYERS],
    pub(crate) source: Option<Resolution>,
}

/// What the encode task and the CPU's governor tell each other.
#[derive(Debug)]
struct CpuControl {
    steps: AtomicU8,
    can_step_down: AtomicBool,
    /// In thousandths.
    usage: AtomicU32,
}

/// A target with the number of the allocation that set it, in one word: so a swap that was decided on by an older
/// allocation cannot undo what a newer one has published meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    /// Wraps around; compared within half of its range.
    sequence: u32,
    /// In bits a second; legal targets need 27 bits.
    bps: u32,
}

/// Keeps a layer of a track encoding while it lives.
#[derive(Debug)]
#[must_use]
pub struct Demand {
    control: Arc<TrackControl>,
    layer: usize,
}

impl TrackControl {
    /// Nobody wants anything yet, and nothing is allotted.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            layers: std::array::from_fn(|_| LayerControl {
                demand: AtomicUsize::new(0),
                key_frame: AtomicBool::new(false),
                target: AtomicU64::new(0),
            }),
            source: AtomicU64::new(0),
            allocated_by: AtomicU64::new(0),
            limited: AtomicBool::new(false),
            cpu: CpuControl {
                steps: AtomicU8::new(0),
                can_step_down: AtomicBool::new(false),
                usage: AtomicU32::new(0),
            },
        })
    }

    /// The bitrate to encode a layer at. With [`Bitrate::ZERO`] it is not encoded, whoever wants it.
    pub fn target(&self, layer: usize) -> Bitrate {
        Bitrate::from_bps(u64::from(self.published(layer).bps))
    }

    /// True while somebody holds a [`Demand`] for this layer.
    pub fn is_wanted(&self, layer: usize) -> bool {
        self.layers[layer].demand.load(Ordering::Acquire) > 0
    }

    /// True while somebody holds a [`Demand`] for any layer.
    pub fn is_any_wanted(&self) -> bool {
        (0..MAX_LAYERS).any(|layer| self.is_wanted(layer))
    }

    /// Asks the track to encode this layer for as long as the returned guard lives.
    ///
    /// # Panics
    ///
    /// If `layer` is not below [`MAX_LAYERS`].
    pub fn subscribe(self: &Arc<Self>, layer: usize) -> Demand {
        self.layers[layer].demand.fetch_add(1, Ordering::AcqRel);
        Demand { control: Arc::clone(self), layer }
    }

    /// Asks for a key frame of a layer. Any number of requests make one, and no layer makes two for requests within 300 ms; a
    /// new encoder begins with one whenever it begins.
    pub fn request_key_frame(&self, layer: usize) {
        self.layers[layer].key_frame.store(true, Ordering::Release);
    }

    pub(crate) fn key_frame_requested(&self, layer: usize) -> bool {
        self.layers[layer].key_frame.load(Ordering::Acquire)
    }

    /// The request is about to be met. One that comes from now on is another.
    pub(crate) fn take_key_frame_request(&self, layer: usize) {
        self.layers[layer].key_frame.store(false, Ordering::Release);
    }

    /// True if the last allocation went by what is wanted now. A layer that it gave nothing then may still get its target, when
    /// its encoder is built.
    #[must_use]
    pub fn is_allocated(&self) -> bool {
        self.is_allocated_by(self.basis())
    }

    /// Sets a layer's target. For the latest allocation, while it is being made: nobody else can have a later sequence.
    pub(crate) fn publish(&self, layer: usize, sequence: u32, target: Bitrate) {
        // Not a plain store: of one that races with a late target, a model cannot tell that it came after.
        self.layers[layer].target.swap(Published::new(sequence, target).to_word(), Ordering::AcqRel);
    }

    /// Sets a layer's target, unless an allocation later than `sequence` has set it already. False then.
    pub(crate) fn publish_late(&self, layer: usize, sequence: u32, target: Bitrate) -> bool {
        let word = Published::new(sequence, target).to_word();
        let slot = &self.layers[layer].target;
        let mut seen = slot.load(Ordering::Acquire);
        loop {
            let newer = sequence.wrapping_sub(Published::from_word(seen).sequence);
            // Zero: the same allocation, which sets a target once and may raise it from nothing by a swap.
            if (newer as i32) < 0 {
                return false;
            }
            match slot.compare_exchange_weak(seen, word, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    fn published(&self, layer: usize) -> Published {
        Published::from_word(self.layers[layer].target.load(Ordering::Acquire))
    }

    /// The size of the pictures that the layers are made from: the source's, or less if the track has stepped down.
    pub(crate) fn source(&self) -> Option<Resolution> {
        let word = self.source.load(Ordering::Acquire);
        Resolution::new((word >> 32) as u32, word as u32)
    }

    pub(crate) fn set_source(&self, source: Resolution) {
        self.source.store(u64::from(source.width()) << 32 | u64::from(source.height()), Ordering::Release);
    }

    /// What an allocation would go by now.
    pub(crate) fn basis(&self) -> Basis {
        Basis { wanted: std::array::from_fn(|layer| self.is_wanted(layer)), source: self.source() }
    }

    /// True if the last allocation went by what is the case now.
    pub(crate) fn is_allocated_by(&self, basis: Basis) -> bool {
        self.allocated_by.load(Ordering::Acquire) == basis.to_word()
    }

    pub(crate) fn set_allocated_by(&self, basis: Basis) {
        self.allocated_by.store(basis.to_word(), Ordering::Release);
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Acquire)
    }

    pub(crate) fn set_limited(&self, limited: bool) {
        self.limited.store(limited, Ordering::Release);
    }

    /// Steps down that the track has to take for the CPU's sake.
    pub(crate) fn cpu_steps(&self) -> u8 {
        self.cpu.steps.load(Ordering::Acquire)
    }

    pub(crate) fn set_cpu_steps(&self, steps: u8) {
        self.cpu.steps.store(steps, Ordering::Release);
    }

    pub(crate) fn cpu_usage(&self) -> Usage {
        Usage {
            busy: f64::from(self.cpu.usage.load(Ordering::Acquire)) / 1e3,
            can_step_down: self.cpu.can_step_down.load(Ordering::Acquire),
        }
    }

    pub(crate) fn set_cpu_usage(&self, usage: Usage) {
        // Saturates; NaN is 0.
        self.cpu.usage.store((usage.busy * 1e3) as u32, Ordering::Release);
        self.cpu.can_step_down.store(usage.can_step_down, Ordering::Release);
    }
}

impl Basis {
    /// 16 bits each for width and height, and one for each layer.
    fn to_word(self) -> u64 {
        let (width, height) = self.source.map_or((0, 0), |source| (source.width(), source.height()));
        let wanted = self.wanted.iter().rev().fold(0, |bits, &wanted| bits << 1 | u64::from(wanted));
        wanted << 32 | u64::from(width) << 16 | u64::from(height)
    }
}

impl Published {
    fn new(sequence: u32, target: Bitrate) -> Self {
        Self { sequence, bps: u32::try_from(target.as_bps()).unwrap_or(u32::MAX) }
    }

    const fn from_word(word: u64) -> Self {
        Self { sequence: (word >> 32) as u32, bps: word as u32 }
    }

    const fn to_word(self) -> u64 {
        (self.sequence as u64) << 32 | self.bps as u64
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.control.layers[self.layer].demand.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "models/broken/control.rs"]
mod broken;

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_wanted_while_any_demand_for_it_lives() {
        let control = TrackControl::new();
        assert!(!control.is_any_wanted());
        let (first, second) = (control.subscribe(1), control.subscribe(1));
        assert_eq!([0, 1, 2].map(|layer| control.is_wanted(layer)), [false, true, false]);
        drop(first);
        assert!(control.is_wanted(1));
        drop(second);
        assert!(!control.is_any_wanted());
    }

    #[test]
    fn many_requests_are_one() {
        let control = TrackControl::new();
        control.request_key_frame(0);
        control.request_key_frame(0);
        assert!(control.key_frame_requested(0) && !control.key_frame_requested(1));
        control.take_key_frame_request(0);
        assert!(!control.key_frame_requested(0));
    }

    #[test]
    fn a_late_target_of_an_older_allocation_is_refused_also_where_the_numbers_wrap() {
        let control = TrackControl::new();
        let kbps = Bitrate::from_kbps;
        for (sequence, target, accepted) in [
            (u32::MAX / 2, 100, true),
            (u32::MAX - 1, 200, true),
            (u32::MAX - 2, 300, false),
            (u32::MAX - 1, 400, true),
            (1, 500, true),
            (u32::MAX, 600, false),
        ] {
            assert_eq!(control.publish_late(0, sequence, kbps(target)), accepted, "{sequence}");
        }
        assert_eq!(control.target(0), kbps(500));
    }

    #[test]
    fn a_source_of_no_size_is_none() {
        let control = TrackControl::new();
        assert_eq!(control.source(), None);
        let size = Resolution::new(4096, 16).unwrap();
        control.set_source(size);
        assert_eq!(control.source(), Some(size));
    }
}
