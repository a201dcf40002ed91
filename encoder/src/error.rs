use lenscast_media::{Bitrate, Resolution};

use crate::{BITRATES, Backend, FRAMERATES, TemporalLayers};

/// Why [`build`](crate::build) made no encoder.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildEncoderError {
    /// The program was compiled without this backend.
    #[error("backend {backend} is not compiled in; it needs the feature `{feature}` of lenscast-encoder")]
    NotCompiledIn {
        /// The one asked for.
        backend: Backend,
        /// The crate feature it comes with.
        feature: &'static str,
    },
    /// The target is outside [`BITRATES`].
    #[error(
        "{backend} encoder: bitrate {} b/s is not within {} to {} b/s",
        .bitrate.as_bps(), BITRATES.start().as_bps(), BITRATES.end().as_bps()
    )]
    Bitrate {
        /// The one asked for.
        backend: Backend,
        /// The refused target.
        bitrate: Bitrate,
    },
    /// The frame rate is outside [`FRAMERATES`].
    #[error(
        "{backend} encoder: framerate {framerate} is not within {} to {} frames/s",
        FRAMERATES.start(), FRAMERATES.end()
    )]
    Framerate {
        /// The one asked for.
        backend: Backend,
        /// The refused rate.
        framerate: f64,
    },
    /// The backend has no temporal layers.
    #[error("{backend} encoder: temporal_layers {temporal_layers} is not supported; legal is L1T1")]
    TemporalLayers {
        /// The one asked for.
        backend: Backend,
        /// The refused number.
        temporal_layers: TemporalLayers,
    },
    /// The codec's own limit on the size.
    #[error(
        "{backend} encoder: resolution {resolution} is too large; legal are {longer}x{shorter} and {shorter}x{longer}"
    )]
    Resolution {
        /// The one asked for.
        backend: Backend,
        /// The refused size.
        resolution: Resolution,
        /// Pixels of the longer side at most.
        longer: u32,
        /// Pixels of the shorter side at most.
        shorter: u32,
    },
    /// The library refused, for a reason of its own.
    #[error("{backend} encoder for {resolution}: {operation} failed: {detail}")]
    Library {
        /// The one asked for.
        backend: Backend,
        /// The size asked for.
        resolution: Resolution,
        /// What lenscast was doing.
        operation: &'static str,
        /// The library's own words.
        detail: String,
    },
}

/// Why a picture was not encoded, or a target not set. The encoder goes on as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The picture does not have the settings' size.
    #[error("{backend} encoder for {expected}: the picture is {picture}")]
    PictureSize {
        /// Of the encoder.
        backend: Backend,
        /// The size in the settings.
        expected: Resolution,
        /// The picture's.
        picture: Resolution,
    },
    /// The target is outside [`BITRATES`].
    #[error(
        "{backend} encoder: bitrate {} b/s is not within {} to {} b/s",
        .bitrate.as_bps(), BITRATES.start().as_bps(), BITRATES.end().as_bps()
    )]
    Bitrate {
        /// Of the encoder.
        backend: Backend,
        /// The refused target.
        bitrate: Bitrate,
    },
    /// The library refused, for a reason of its own.
    #[error("{backend} encoder for {resolution}: {operation} failed: {detail}")]
    Library {
        /// Of the encoder.
        backend: Backend,
        /// Of the encoder.
        resolution: Resolution,
        /// What lenscast was doing.
        operation: &'static str,
        /// The library's own words.
        detail: String,
    },
}
