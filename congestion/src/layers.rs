use lenscast_media::Bitrate;

/// Spatial layers of a camera, at most.
pub const MAX_LAYERS: usize = 3;

/// Spatial layers from the smallest up: one at least, [`MAX_LAYERS`] at most.
///
/// A track without simulcast has one, which spans the track's bounds: [`Layers::one`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layers {
    /// Those from `len` on are inactive and mean nothing.
    layers: [LayerDemand; MAX_LAYERS],
    len: u8,
}

/// What one spatial layer can use.
///
/// A minimum above the maximum only says when the layer is enabled, a target above it counts as the maximum, and a layer
/// with a maximum of nothing counts as inactive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerDemand {
    /// Below this the layer is not worth sending.
    pub min: Bitrate,
    /// What the layer gets before a higher one gets anything.
    pub target: Bitrate,
    /// More than this the layer cannot use.
    pub max: Bitrate,
    /// Somebody consumes the layer.
    pub active: bool,
}

impl Layers {
    /// One active layer without bounds of its own.
    #[must_use]
    pub const fn one() -> Self {
        let unlimited = Bitrate::from_bps(u64::MAX);
        let only = LayerDemand { min: Bitrate::ZERO, target: unlimited, max: unlimited, active: true };
        Self { layers: [only, LayerDemand::ABSENT, LayerDemand::ABSENT], len: 1 }
    }

    /// The layers from the smallest up. `None` if there is none, or more than [`MAX_LAYERS`].
    #[must_use]
    pub fn new(layers: &[LayerDemand]) -> Option<Self> {
        if layers.is_empty() || layers.len() > MAX_LAYERS {
            return None;
        }
        let mut all = [LayerDemand::ABSENT; MAX_LAYERS];
        all[..layers.len()].copy_from_slice(layers);
        Some(Self { layers: all, len: layers.len() as u8 })
    }

    /// The layers from the smallest up.
    #[must_use]
    pub fn as_slice(&self) -> &[LayerDemand] {
        &self.layers[..usize::from(self.len)]
    }

    /// There is one layer: the track's target is the layer's.
    #[inline]
    pub(crate) fn are_one(&self) -> bool {
        self.len == 1
    }

    /// How many layers may be on.
    #[inline]
    pub(crate) fn count_active(&self) -> u64 {
        self.as_slice().iter().map(|layer| u64::from(layer.usable() > 0)).sum()
    }

    /// Bits per second that the active layers can use together.
    #[inline]
    pub(crate) fn usable(&self) -> u64 {
        if self.len == 1 {
            return self.layers[0].usable();
        }
        self.as_slice().iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.usable()))
    }

    /// What [`Layers::split`] makes of `bits` in all where no layer was off before: less than they are where they lie between
    /// what the layers that are on can use and what the next one needs.
    #[inline]
    pub(crate) fn reach(&self, bits: u64) -> u64 {
        let (mut left, mut usable) = (bits, 0_u64);
        for layer in self.as_slice().iter().filter(|layer| layer.usable() > 0) {
            if usable > 0 && left < layer.min.as_bps() {
                break;
            }
            left -= left.min(layer.target.as_bps()).min(layer.usable());
            usable = usable.saturating_add(layer.usable());
        }
        bits.min(usable)
    }

    /// Splits a track's bits per second among its layers; what no enabled layer can use stays out of it. `spare` bits
    /// are there beside them, which the track's maximum keeps from it. `previous` has no bits at all unless the track was running.
    ///
    /// It is what libwebrtc's `modules/video_coding/utility/simulcast_rate_allocator.cc` does: up to the target from the
    /// bottom, the first layer whose minimum is not left and all above it off, and the rest to the topmost that is on. Three
    /// things differ: what the topmost cannot use goes downward, and the lowest may get less than its minimum (whether it
    /// is worth sending is the track's minimum), and the margin of a layer that was off may come from `spare`: else one that
    /// fits below the track's maximum, but not with its margin, would stay off for ever.
    #[inline(never)]
    pub(crate) fn split(&self, bits: u64, spare: u64, previous: &[Bitrate; MAX_LAYERS]) -> [Bitrate; MAX_LAYERS] {
        let ran = previous.iter().any(|rate| *rate > Bitrate::ZERO);
        let mut rates = [0_u64; MAX_LAYERS];
        let mut enabled = [false; MAX_LAYERS];
        let mut left = bits;
        let mut lowest = true;
        for (index, layer) in self.layers.iter().enumerate().filter(|(_, layer)| layer.usable() > 0) {
            let was_off = ran && previous[index] == Bitrate::ZERO;
            let fits = left >= layer.min.as_bps() && left.saturating_add(spare) >= layer.enabled_from(was_off);
            if !lowest && !fits {
                break;
            }
            lowest = false;
            enabled[index] = true;
            rates[index] = left.min(layer.target.as_bps()).min(layer.usable());
            left -= rates[index];
        }
        for index in (0..MAX_LAYERS).rev().filter(|index| enabled[*index]) {
            let more = left.min(self.layers[index].usable() - rates[index]);
            rates[index] += more;
            left -= more;
        }
        rates.map(Bitrate::from_bps)
    }
}

impl LayerDemand {
    const ABSENT: Self = Self { min: Bitrate::ZERO, target: Bitrate::ZERO, max: Bitrate::ZERO, active: false };

    #[inline]
    fn usable(&self) -> u64 {
        if self.active { self.max.as_bps() } else { 0 }
    }

    /// Bits per second from which on the layer is on. One that was off needs 1.2 times its minimum, but no more than its
    /// target, as in libwebrtc's `simulcast_rate_allocator.cc` (the factor is `GetSimulcastHysteresisFactor` of
    /// `rtc_base/experiments/rate_control_settings.cc`, for cameras).
    fn enabled_from(&self, was_off: bool) -> u64 {
        let min = self.min.as_bps();
        if was_off { min.saturating_add(min / 5).min(self.target.as_bps().max(min)) } else { min }
    }
}
