use lenscast_media::Bitrate;

use super::{AllocationRequest, Allocations, Build, Missing, Prepared, SetAllocationError, Swap, VideoEncoder};
use crate::{Closed, Track, TrackShare};

/// Puts an encoder in.
pub(crate) type Install = fn(&Track, usize, u32, Bitrate, Box<dyn VideoEncoder>);

impl Allocations {
    /// Changes everything, and then builds.
    pub(crate) fn apply_before_building(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let (missing, version, sequence) = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            let missing = state.missing(request, &shares, &[]);
            state.commit(request, &shares);
            let _ = self.publish(&mut state, &mut Vec::new());
            (missing, state.version, state.sequence)
        };
        for Missing { track, layer, settings } in missing {
            let Prepared { encoder, .. } = prepare(&track, layer, &settings, build)?;
            track.install_encoder(layer, sequence, settings.bitrate, encoder);
        }
        Ok(version)
    }

    /// Puts each encoder in as soon as it is built.
    pub(crate) fn apply_one_by_one(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let (missing, sequence) = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            (state.missing(request, &shares, &[]), state.sequence + 1)
        };
        for Missing { track, layer, settings } in missing {
            let Prepared { encoder, .. } = prepare(&track, layer, &settings, build)?;
            track.install_encoder(layer, sequence, settings.bitrate, encoder);
        }
        self.apply(request, build)
    }

    /// Builds while it holds the state.
    pub(crate) fn apply_building_locked(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let (version, sequence, swaps) = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            let missing = state.missing(request, &shares, &[]);
            let mut prepared = Vec::new();
            for Missing { track, layer, settings } in missing {
                prepared.push(prepare(&track, layer, &settings, build)?);
            }
            state.commit(request, &shares);
            let swaps = self.publish(&mut state, &mut prepared);
            (state.version, state.sequence, swaps)
        };
        exchange(swaps, sequence, Track::install_encoder);
        Ok(version)
    }

    /// Compares the version before it makes the change, not while.
    pub(crate) fn apply_comparing_first(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        self.open()?.checked(request)?;
        self.apply(&AllocationRequest { expected_version: None, ..request.clone() }, build)
    }

    /// Goes on with the shares that it saw before it built.
    pub(crate) fn apply_with_stale_shares(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let (shares, mut prepared) = self.prepared(request, build)?;
        let (version, sequence, swaps) = {
            let mut state = self.open()?;
            state.commit(request, &shares);
            let swaps = self.publish(&mut state, &mut prepared);
            (state.version, state.sequence, swaps)
        };
        exchange(swaps, sequence, Track::install_encoder);
        Ok(version)
    }

    /// Computes, lets the state go, and publishes what it computed.
    pub(crate) fn apply_with_stale_sums(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let (shares, mut prepared) = self.prepared(request, build)?;
        let computed = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            state.commit(request, &shares);
            state.allocation.clone()
        };
        let (version, sequence, swaps) = {
            let mut state = self.open()?;
            state.allocation = computed;
            let swaps = self.publish(&mut state, &mut prepared);
            (state.version, state.sequence, swaps)
        };
        drop(shares);
        exchange(swaps, sequence, Track::install_encoder);
        Ok(version)
    }

    /// Puts encoders in in a way of its own.
    pub(crate) fn apply_installing(
        &self,
        request: &AllocationRequest,
        build: &Build,
        install: Install,
    ) -> Result<u64, SetAllocationError> {
        let (_, mut prepared) = self.prepared(request, build)?;
        let (version, sequence, swaps) = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            state.commit(request, &shares);
            let swaps = self.publish(&mut state, &mut prepared);
            (state.version, state.sequence, swaps)
        };
        exchange(swaps, sequence, install);
        Ok(version)
    }

    /// Visits every track's encoder, one after the other.
    pub(crate) fn update_visiting_encoders(&self, estimate: Bitrate) -> Result<(), Closed> {
        self.update_estimate(estimate)?;
        let mut tracks = Vec::new();
        self.list_tracks(&mut tracks);
        tracks.iter().for_each(|track| drop(track.encoder().write()));
        Ok(())
    }

    /// Lets every track finish its frame.
    pub(crate) fn apply_visiting_encoders(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<u64, SetAllocationError> {
        let version = self.apply(request, build)?;
        let mut tracks = Vec::new();
        self.list_tracks(&mut tracks);
        tracks.iter().for_each(|track| drop(track.encoder().write()));
        Ok(version)
    }

    /// The first round of the real thing, no lock held at its end.
    fn prepared(
        &self,
        request: &AllocationRequest,
        build: &Build,
    ) -> Result<(Vec<TrackShare>, Vec<Prepared>), SetAllocationError> {
        let (shares, missing) = {
            let mut state = self.open()?;
            let shares = state.checked(request)?;
            let missing = state.missing(request, &shares, &[]);
            (shares, missing)
        };
        let built =
            missing.into_iter().map(|Missing { track, layer, settings }| prepare(&track, layer, &settings, build));
        Ok((shares, built.collect::<Result<_, _>>()?))
    }
}

fn prepare(
    track: &std::sync::Arc<Track>,
    layer: usize,
    settings: &super::EncoderSettings,
    build: &Build,
) -> Result<Prepared, SetAllocationError> {
    let encoder = build(settings).map_err(|error| SetAllocationError::Encoder { track: track.id(), error })?;
    Ok(Prepared { track: std::sync::Arc::clone(track), layer, encoder })
}

fn exchange(swaps: Vec<Swap>, sequence: u32, install: Install) {
    for Swap { prepared: Prepared { track, layer, encoder }, target } in swaps {
        install(&track, layer, sequence, target, encoder);
    }
}
