use lenscast_media::Codec;
use lenscast_router::{Layers, ProducerId};

/// What a viewer is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlayRequest {
    /// The stream's name, as the viewer's statistics show it.
    pub stream: String,
    /// Its video.
    pub video: PlayedVideo,
    /// Its audio, if it has any: Opus. Viewers that offer no audio section do without.
    pub audio: Option<ProducerId>,
}

/// The video of a [`PlayRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayedVideo {
    /// Whose packets.
    pub producer: ProducerId,
    /// What they are encoded in.
    pub codec: Codec,
    /// The best layers that the viewer wants; `None` for the best there are.
    pub preferred: Option<PreferredLayers>,
}

/// The best layers of a stream that a viewer wants; it gets lower ones where these cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreferredLayers {
    /// Spatial: 0 for the smallest picture.
    pub spatial: u8,
    /// Temporal: 0 for the lowest frame rate; `None` for the highest.
    pub temporal: Option<u8>,
}

impl PreferredLayers {
    /// All that there are.
    pub const HIGHEST: Self = Self { spatial: Layers::HIGHEST.spatial, temporal: None };

    /// As the router has it.
    pub(crate) fn or_highest(preferred: Option<Self>) -> Layers {
        preferred.map_or(Layers::HIGHEST, |Self { spatial, temporal }| Layers {
            spatial,
            temporal: temporal.unwrap_or(Layers::HIGHEST.temporal),
        })
    }

    /// As others are told of it.
    pub(crate) const fn from_router(layers: Layers) -> Self {
        let temporal = if layers.temporal == Layers::HIGHEST.temporal { None } else { Some(layers.temporal) };
        Self { spatial: layers.spatial, temporal }
    }
}
