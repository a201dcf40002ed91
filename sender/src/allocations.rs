//! Who gets how much: the state behind every allocation, and the way from a request to the encoders.
//!
//! **Invariants.**
//!
//! - The state's lock is held to compute and to publish, never while an encoder is built, exchanged or used (L1). An update of
//!   the bitrate therefore waits for no encode, and makes no memory.
//! - A request is all or nothing (L4): every encoder that it needs has been built before anything changes.
//! - Targets are published with the number of their allocation: of two that race, the later one's stand.
//!
//! What it does not do: the arithmetic, which is `lenscast_congestion`'s, or encode.

use std::ops::DerefMut;
use std::sync::Arc;

use lenscast_congestion::{Allocation, Allocator, Budget, Demand, Layers, MAX_LAYERS, Overhead, Share, ShareState};
use lenscast_encoder::{BuildEncoderError, EncoderSettings, VideoEncoder};
use lenscast_media::sync::Mutex;
use lenscast_media::sync::atomic::{AtomicU64, Ordering};
use lenscast_media::{Bitrate, Resolution, TrackId};
use thiserror::Error;

use crate::ceilings::LayerCeilings;
use crate::control::Basis;
use crate::encode_task::Build;
use crate::simulcast;
use crate::{Closed, MAX_PAYLOAD, ShareChange, ShareError, Track, TrackShare};

/// A change that somebody asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AllocationRequest {
    /// If set, nothing changes unless [`AllocationReport::version`] is still this.
    pub expected_version: Option<u64>,
    /// What all tracks together may take, if it is to change. [`Bitrate::UNLIMITED`] lifts it.
    pub limit: Option<Bitrate>,
    /// The tracks that are to change. Others stay as they are.
    pub shares: Vec<(TrackId, ShareChange)>,
}

/// What is allotted to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct AllocationReport {
    /// Counts what people changed, and tracks that came and went.
    pub version: u64,
    /// What all tracks together may take; [`Bitrate::UNLIMITED`] if anything.
    pub limit: Bitrate,
    /// What the network carries, as far as is known; [`Bitrate::UNLIMITED`] if nothing is.
    pub estimate: Bitrate,
    /// Set aside for headers and retransmissions; zero if there is no limit and no estimate.
    pub overhead: Bitrate,
    /// Set aside for audio.
    pub audio: Bitrate,
    /// Each track, in ascending order.
    pub tracks: Vec<AllottedTrack>,
}

/// What is allotted to one track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AllottedTrack {
    /// The track.
    pub track: TrackId,
    /// Its claim.
    pub share: TrackShare,
    /// What it gets.
    pub target: Bitrate,
    /// Why.
    pub state: ShareState,
    /// The budget, or what its viewers' paths carry, is what bounds it, not its own maximum.
    pub limited: bool,
    /// Frames per second.
    pub framerate: f64,
    /// What its layers can use, the smallest first, whatever viewers' paths carry. A single one spans the track's bounds.
    pub layers: Layers,
    /// What its layers are to make at most, since viewers' paths carry no more; the smallest first.
    pub ceilings: [Bitrate; MAX_LAYERS],
}

/// Why nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetAllocationError {
    /// The sender has been closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// Somebody else was faster.
    #[error("the allocation has changed since version {expected}: it is at version {current}")]
    Conflict {
        /// The version that the request goes by.
        expected: u64,
        /// The version there is.
        current: u64,
    },
    /// There is no such track.
    #[error("there is no {0}")]
    UnknownTrack(TrackId),
    /// Named more than once.
    #[error("{0} is named twice")]
    DuplicateTrack(TrackId),
    /// The claim of a track cannot be.
    #[error("{track}: {error}")]
    Share {
        /// The track.
        track: TrackId,
        /// What is wrong.
        error: ShareError,
    },
    /// All weights would be zero.
    #[error("the weights' sum is 0, must be positive")]
    NothingPositive,
    /// An encoder that the change needs cannot be built.
    #[error("{track}: {error}")]
    Encoder {
        /// The track.
        track: TrackId,
        /// Why.
        error: BuildEncoderError,
    },
}

/// The allocation of all tracks.
pub(crate) struct Allocations {
    /// Before nothing else: whoever holds it takes no other lock.
    state: Mutex<State>,
    /// See [`Allocations::changes`].
    changes: AtomicU64,
}

struct State {
    closed: bool,
    version: u64,
    /// The number of the last allocation, see [`crate::TrackControl`]. Wraps around.
    sequence: u32,
    limit: Bitrate,
    estimate: Bitrate,
    /// In ascending order of their tracks.
    entries: Vec<Entry>,
    /// One for each of `entries`, as of the last [`State::compute`].
    demands: Vec<Demand>,
    allocation: Allocation,
    allocator: Allocator,
}

struct Entry {
    track: Arc<Track>,
    share: TrackShare,
    ceilings: LayerCeilings,
    published: [Bitrate; MAX_LAYERS],
    limited: bool,
    state: ShareState,
}

/// An encoder that was built for an allocation that is not in effect yet.
struct Prepared {
    track: Arc<Track>,
    layer: usize,
    encoder: Box<dyn VideoEncoder>,
}

/// A [`Prepared`] encoder whose allocation is in effect.
struct Swap {
    prepared: Prepared,
    target: Bitrate,
}

/// An encoder that an allocation needs.
struct Missing {
    track: Arc<Track>,
    layer: usize,
    settings: EncoderSettings,
}

const GUESSED_SOURCE: Resolution = match Resolution::new(1280, 720) {
    Some(size) => size,
    None => unreachable!(),
};

/// Rounds of building what others' changes made necessary meanwhile. What is missing after them, the encode tasks build.
const MAX_ROUNDS: usize = 8;

/// IPv6 and UDP headers, and what a payload leaves free of its datagram (RTP header, extensions, SRTP tag): the most that
/// a packet takes on the wire beside its payload.
const PACKET_BYTES: u32 = 40 + 8 + (1_200 - MAX_PAYLOAD as u32);

/// What is set aside for packets that are sent again. Loss beyond it shows in the estimate.
const RETRANSMISSION: f64 = 0.02;

/// What is set aside for each track before it gets anything.
pub const OVERHEAD: Overhead = Overhead {
    packet_bytes: PACKET_BYTES,
    payload_bytes: MAX_PAYLOAD as u32,
    retransmission: RETRANSMISSION,
    fec: 0.0,
    audio: false,
};

impl Allocations {
    pub(crate) fn new() -> Self {
        let state = State {
            closed: false,
            version: 1,
            sequence: 0,
            limit: Bitrate::UNLIMITED,
            estimate: Bitrate::UNLIMITED,
            entries: Vec::new(),
            demands: Vec::new(),
            allocation: Allocation::default(),
            allocator: Allocator::new(),
        };
        Self { state: Mutex::new(state), changes: AtomicU64::new(0) }
    }

    pub(crate) fn report(&self) -> Result<AllocationReport, Closed> {
        let state = self.open()?;
        let tracks = state.entries.iter().zip(state.allocation.shares());
        let unlimited = state.limit.min(state.estimate) == Bitrate::UNLIMITED;
        Ok(AllocationReport {
            version: state.version,
            limit: state.limit,
            estimate: state.estimate,
            // Of a budget without an end, any part is one too.
            overhead: if unlimited { Bitrate::ZERO } else { state.allocation.overhead() },
            audio: state.allocation.audio(),
            tracks: tracks
                .map(|(entry, share)| AllottedTrack {
                    track: share.track,
                    share: entry.share,
                    target: share.target,
                    state: share.state,
                    limited: entry.is_limited(share),
                    framerate: entry.track.config().framerate,
                    layers: entry.layers(&entry.share, entry.basis()),
                    ceilings: entry.ceilings.layers(),
                })
                .collect(),
        })
    }

    /// Differs from an earlier answer if any target or claim has changed since.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn add(&self, track: Arc<Track>) -> Result<(), Closed> {
        let mut state = self.open()?;
        let share = track.config().share;
        state.entries.push(Entry {
            track,
            share,
            ceilings: LayerCeilings::NONE,
            published: [Bitrate::ZERO; MAX_LAYERS],
            limited: false,
            state: ShareState::Inactive,
        });
        state.version += 1;
        self.recompute(&mut state);
        self.count_change();
        Ok(())
    }

    /// Its share goes to the others.
    pub(crate) fn remove(&self, id: TrackId) {
        let removed = {
            let mut state = self.state.lock();
            let place = state.entries.iter().position(|entry| entry.track.id() == id);
            let removed = place.map(|place| state.entries.remove(place));
            state.version += u64::from(removed.is_some());
            self.recompute(&mut state);
            removed
        };
        self.count_change();
        // A track may be the last owner of its encoders.
        drop(removed);
    }

    pub(crate) fn close(&self) {
        let entries = {
            let mut state = self.state.lock();
            state.closed = true;
            state.demands.clear();
            std::mem::take(&mut state.entries)
        };
        drop(entries);
    }

    /// What the network carries has changed.
    pub(crate) fn update_estimate(&self, estimate: Bitrate) -> Result<(), Closed> {
        let mut state = self.open()?;
        state.estimate = estimate;
        state.divide();
        // Nothing is prepared, so nothing is to be exchanged.
        let _ = self.publish(&mut state, &mut Vec::new());
        Ok(())
    }

    /// What viewers' paths carry has changed for these tracks. Others keep their ceilings; of a track that is gone none is needed.
    pub(crate) fn set_ceilings(&self, ceilings: &[(TrackId, [Bitrate; MAX_LAYERS])]) -> Result<(), Closed> {
        let mut state = self.open()?;
        let mut changed = false;
        for (track, ceilings) in ceilings {
            let place = state.entries.binary_search_by_key(track, |entry| entry.track.id());
            let Ok(entry) = place.map(|place| &mut state.entries[place]) else { continue };
            let in_place = entry.track.config().backend.changes_bitrate_in_place();
            changed |= entry.ceilings.follow(ceilings, in_place);
        }
        if changed {
            self.recompute(&mut state);
        }
        Ok(())
    }

    /// What is wanted, or how large it is, has changed.
    pub(crate) fn refresh(&self) {
        let mut state = self.state.lock();
        if !state.closed {
            self.recompute(&mut state);
        }
    }

    /// The same, if it has: for tracks whose own tasks do not notice, since no frames come.
    pub(crate) fn refresh_if_stale(&self) {
        let mut state = self.state.lock();
        let is_stale = |entry: &Entry| !entry.track.control().is_allocated_by(entry.basis());
        if !state.closed && state.entries.iter().any(is_stale) {
            self.recompute(&mut state);
        }
    }

    /// Appends every track, in ascending order.
    pub(crate) fn list_tracks(&self, to: &mut Vec<Arc<Track>>) {
        to.extend(self.state.lock().entries.iter().map(|entry| Arc::clone(&entry.track)));
    }

    /// Makes a change, all or nothing (L4), and returns the new version.
    pub(crate) fn apply(&self, request: &AllocationRequest, build: &Build) -> Result<u64, SetAllocationError> {
        let mut prepared: Vec<Prepared> = Vec::new();
        let mut rounds = 0;
        let (version, sequence, mut swaps) = loop {
            let missing = {
                let mut state = self.open()?;
                let shares = state.checked(request)?;
                let missing = if rounds < MAX_ROUNDS { state.missing(request, &shares, &prepared) } else { Vec::new() };
                if missing.is_empty() {
                    state.commit(request, &shares);
                    let swaps = self.publish(&mut state, &mut prepared);
                    break (state.version, state.sequence, swaps);
                }
                missing
            };
            rounds += 1;
            for Missing { track, layer, settings } in missing {
                let built = build(&settings);
                let encoder = built.map_err(|error| SetAllocationError::Encoder { track: track.id(), error })?;
                // One for another size, from a round before, is of no use any more.
                prepared.retain(|other| (other.track.id(), other.layer) != (track.id(), layer));
                prepared.push(Prepared { track, layer, encoder });
            }
        };
        self.count_change();
        swaps.sort_by_key(|swap| (swap.prepared.track.id(), swap.prepared.layer));
        for Swap { prepared: Prepared { track, layer, encoder }, target } in swaps {
            track.install_encoder(layer, sequence, target, encoder);
        }
        Ok(version)
    }

    fn open(&self) -> Result<impl DerefMut<Target = State> + '_, Closed> {
        let state = self.state.lock();
        if state.closed { Err(Closed) } else { Ok(state) }
    }

    fn recompute(&self, state: &mut State) {
        state.compute();
        // Nothing is prepared, so nothing is to be exchanged.
        let _ = self.publish(state, &mut Vec::new());
    }

    /// Tells the tracks what they got, and returns the encoders that are to be exchanged once nothing is locked any more:
    /// their targets are set with them.
    #[must_use]
    fn publish(&self, state: &mut State, prepared: &mut Vec<Prepared>) -> Vec<Swap> {
        let mut swaps = Vec::new();
        let mut changed = false;
        // It counts only allocations that change something, so that it takes ages to come round.
        let sequence = state.sequence.wrapping_add(1);
        for (entry, share) in state.entries.iter_mut().zip(state.allocation.shares()) {
            let limited = entry.is_limited(share);
            if entry.limited != limited {
                entry.limited = limited;
                entry.track.control().set_limited(limited);
            }
            if entry.state != share.state {
                entry.state = share.state;
                changed = true;
            }
            if entry.published == share.layers {
                continue;
            }
            changed = true;
            state.sequence = sequence;
            for (layer, (published, &target)) in entry.published.iter_mut().zip(&share.layers).enumerate() {
                if *published == target {
                    continue;
                }
                *published = target;
                let mine = |prepared: &Prepared| prepared.track.id() == entry.track.id() && prepared.layer == layer;
                match prepared.iter().position(mine) {
                    Some(place) if target > Bitrate::ZERO => {
                        swaps.push(Swap { prepared: prepared.swap_remove(place), target });
                    }
                    _ => entry.track.control().publish(layer, sequence, target),
                }
            }
        }
        if changed {
            self.count_change();
        }
        swaps
    }

    fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

impl State {
    fn budget(&self, limit: Bitrate) -> Budget {
        Budget { total: limit.min(self.estimate), overhead: OVERHEAD }
    }

    /// Asks anew who wants what, and divides what there is.
    fn compute(&mut self) {
        self.demands.clear();
        self.demands.extend(self.entries.iter().map(|entry| {
            let basis = entry.basis();
            entry.track.control().set_allocated_by(basis);
            entry.demand(&entry.share, basis)
        }));
        self.divide();
    }

    /// Divides what there is.
    fn divide(&mut self) {
        let budget = self.budget(self.limit);
        self.allocator.update(&budget, &self.demands, &mut self.allocation);
    }

    /// The shares of all tracks as the request wants them.
    fn checked(&self, request: &AllocationRequest) -> Result<Vec<TrackShare>, SetAllocationError> {
        if let Some(expected) = request.expected_version
            && expected != self.version
        {
            return Err(SetAllocationError::Conflict { expected, current: self.version });
        }
        let mut shares: Vec<TrackShare> = self.entries.iter().map(|entry| entry.share).collect();
        for (place, (track, change)) in request.shares.iter().enumerate() {
            if request.shares[..place].iter().any(|(other, _)| other == track) {
                return Err(SetAllocationError::DuplicateTrack(*track));
            }
            let index = self.entries.iter().position(|entry| entry.track.id() == *track);
            let index = index.ok_or(SetAllocationError::UnknownTrack(*track))?;
            shares[index] = shares[index].changed(change);
            shares[index].validate().map_err(|error| SetAllocationError::Share { track: *track, error })?;
        }
        let weighs = request.shares.iter().any(|(_, change)| change.weight.is_some());
        if weighs && shares.iter().all(|share| share.weight == 0.0) {
            return Err(SetAllocationError::NothingPositive);
        }
        Ok(shares)
    }

    /// The encoders that the request needs and that are not prepared: of layers that get something and had nothing, and of
    /// those whose library cannot change its rate in place.
    fn missing(&mut self, request: &AllocationRequest, shares: &[TrackShare], prepared: &[Prepared]) -> Vec<Missing> {
        let demands: Vec<Demand> =
            self.entries.iter().zip(shares).map(|(entry, share)| entry.demand(share, entry.basis())).collect();
        let mut allocation = self.allocation.clone();
        allocation.release_held();
        let budget = self.budget(request.limit.unwrap_or(self.limit));
        self.allocator.update(&budget, &demands, &mut allocation);
        let mut missing = Vec::new();
        for (entry, share) in self.entries.iter().zip(allocation.shares()) {
            let track = &entry.track;
            let Some(source) = track.control().source() else { continue };
            let in_place = track.config().backend.changes_bitrate_in_place();
            for layer in 0..track.config().layers {
                let (old, new) = (entry.published[layer], share.layers[layer]);
                if new == Bitrate::ZERO || old == new || (old > Bitrate::ZERO && in_place) {
                    continue;
                }
                let settings = track.encoder_settings(layer, source, new);
                let is_prepared = prepared.iter().any(|prepared| {
                    prepared.track.id() == track.id()
                        && prepared.layer == layer
                        && prepared.encoder.settings().resolution == settings.resolution
                });
                if !is_prepared {
                    missing.push(Missing { track: Arc::clone(track), layer, settings });
                }
            }
        }
        missing
    }

    fn commit(&mut self, request: &AllocationRequest, shares: &[TrackShare]) {
        for (entry, share) in self.entries.iter_mut().zip(shares) {
            entry.share = *share;
        }
        self.limit = request.limit.unwrap_or(self.limit);
        self.version += 1;
        // What a person asks for is followed exactly, small changes too.
        self.allocation.release_held();
        self.compute();
    }
}

impl Entry {
    /// What its demand goes by now. Of a track whose task has ended nothing is wanted any more.
    fn basis(&self) -> Basis {
        let basis = self.track.control().basis();
        if self.track.has_ended() { Basis { wanted: [false; MAX_LAYERS], ..basis } } else { basis }
    }

    fn demand(&self, share: &TrackShare, basis: Basis) -> Demand {
        let config = self.track.config();
        Demand {
            track: self.track.id(),
            weight: share.weight,
            min: share.min,
            // Of several layers each has its own: `simulcast::layers`.
            max: if config.layers == 1 { share.max } else { Bitrate::UNLIMITED },
            active: basis.wanted[..config.layers].contains(&true),
            enforced: share.enforced,
            framerate: config.framerate,
            layers: self.ceilings.cap(&self.layers(share, basis), share),
        }
    }

    /// What its layers ask for, but for ceilings.
    fn layers(&self, share: &TrackShare, basis: Basis) -> Layers {
        let config = self.track.config();
        if config.layers == 1 {
            return Layers::one();
        }
        // Until the first picture has come, a guess: with it, this is computed anew.
        let source = basis.source.unwrap_or(GUESSED_SOURCE);
        simulcast::layers(config.backend.codec(), source, &basis.wanted[..config.layers], share.max)
    }

    /// It could use more than it has, but for the budget or what its viewers' paths carry.
    fn is_limited(&self, share: &Share) -> bool {
        let most = self.share.max.max(self.share.min);
        let runs = share.state == ShareState::Allocated;
        let binds =
            |(target, ceiling): (&Bitrate, Bitrate)| *target > Bitrate::ZERO && *target >= ceiling && *target < most;
        share.limited || (runs && share.layers.iter().zip(self.ceilings.layers()).any(binds))
    }
}

#[cfg(all(test, lenscast_loom))]
#[path = "models/broken/allocations.rs"]
mod broken;
