use lenscast_media::{Bitrate, TrackId};

use crate::MAX_LAYERS;

/// What each track got, and what was set aside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Allocation {
    /// In ascending order of tracks.
    pub(crate) shares: Vec<Share>,
    pub(crate) audio: Bitrate,
    pub(crate) overhead: Bitrate,
    /// The next one is made as if there were none before.
    pub(crate) released: bool,
}

/// What one track got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Whose share.
    pub track: TrackId,
    /// What the track's encoders produce together. Zero unless the state is [`ShareState::Allocated`].
    pub target: Bitrate,
    /// What each spatial layer's encoder produces, the smallest first. Sums to `target`; inactive layers have nothing.
    pub layers: [Bitrate; MAX_LAYERS],
    /// Whether the track runs.
    pub state: ShareState,
    /// The target is less than the track's own maximum and layers allow, because of the budget, or because a rise is held back:
    /// "bandwidth" in W3C's `qualityLimitationReason`.
    pub limited: bool,
}

/// Whether a track runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareState {
    /// It asks for nothing: nobody consumes it, it has no weight, or no layer is active.
    Inactive,
    /// Its minimum did not fit.
    Paused,
    /// It has bits.
    Allocated,
}

impl Allocation {
    /// The tracks' shares, in ascending order of tracks.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// One track's share; the first of them if it has several.
    #[must_use]
    pub fn share(&self, track: TrackId) -> Option<&Share> {
        let index = self.shares.partition_point(|share| share.track < track);
        self.shares.get(index).filter(|share| share.track == track)
    }

    /// Set aside for audio.
    #[must_use]
    pub fn audio(&self) -> Bitrate {
        self.audio
    }

    /// Set aside besides audio: headers, retransmission, FEC.
    #[must_use]
    pub fn overhead(&self) -> Bitrate {
        self.overhead
    }

    /// All targets together.
    #[must_use]
    pub fn total(&self) -> Bitrate {
        Bitrate::from_bps(self.shares.iter().fold(0, |sum: u64, share| sum.saturating_add(share.target.as_bps())))
    }

    /// Makes the next allocation follow the budget and the demands alone, as if there were none before: after a person changed
    /// weights, bounds or a limit. No small rise is held back, and who was paused, and a layer that was off, needs no margin.
    pub fn release_held(&mut self) {
        self.released = true;
    }

    /// Makes the next allocation hold back no small rise; who was paused still needs its margin.
    pub(crate) fn release_rises(&mut self) {
        for share in &mut self.shares {
            share.target = Bitrate::ZERO;
            share.layers = [Bitrate::ZERO; MAX_LAYERS];
        }
    }

    /// The share of the demand at `index` in ascending order of tracks, of which no two are of the same track.
    pub(crate) fn share_at(&self, index: usize) -> Share {
        self.shares[index]
    }

    /// Makes those inactive that were paused in `before`, of the same tracks, paused.
    pub(crate) fn keep_paused(&mut self, before: &Self) {
        for (share, before) in self.shares.iter_mut().zip(&before.shares) {
            if share.state == ShareState::Inactive && before.state == ShareState::Paused {
                *share = *before;
            }
        }
    }
}

impl Share {
    /// The share of a track that was not there before.
    pub(crate) fn fresh(track: TrackId) -> Self {
        Self {
            track,
            target: Bitrate::ZERO,
            layers: [Bitrate::ZERO; MAX_LAYERS],
            state: ShareState::Inactive,
            limited: false,
        }
    }
}
