//! What viewers can ask for by name: a camera of this machine, or a stream that comes in.

use std::sync::Arc;
use std::time::Instant;

use lenscast_media::Codec;
use lenscast_router::ProducerId;
use lenscast_transport::{PlayRequest, PlayedVideo, PreferredLayers};

use crate::camera::Camera;
use crate::config::Secret;
use crate::stream::Stream;

/// Something that can be played.
#[derive(Clone)]
pub enum Feed {
    /// A camera of this machine.
    Camera(Arc<Camera>),
    /// A stream that comes in.
    Stream(Arc<Stream>),
}

impl Feed {
    /// Its name in addresses.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Camera(camera) => camera.config().name.clone(),
            Self::Stream(stream) => stream.name(),
        }
    }

    /// What kind of source it has: "camera", "whip", "rtp" or "pull".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Camera(_) => "camera",
            Self::Stream(stream) => stream.config().kind(),
        }
    }

    /// True while pictures come.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self {
            Self::Camera(camera) => camera.is_live(),
            Self::Stream(stream) => stream.is_live(Instant::now()),
        }
    }

    /// True while it is held up at its source.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        match self {
            Self::Camera(camera) => camera.is_paused(),
            Self::Stream(stream) => stream.is_paused(),
        }
    }

    /// True if it can be asked for now. A stream that is held up can: its viewers wait for it to go on.
    #[must_use]
    pub fn is_playable(&self) -> bool {
        match self {
            Self::Camera(camera) => camera.is_live(),
            Self::Stream(stream) => stream.tracks().is_some() && (stream.is_live(Instant::now()) || stream.is_paused()),
        }
    }

    /// How many spatial layers it has; 0 while nobody sends it.
    #[must_use]
    pub fn layers(&self) -> usize {
        match self {
            Self::Camera(camera) => camera.config().settings.layers,
            Self::Stream(stream) => stream.tracks().map_or(0, |tracks| tracks.layers.into()),
        }
    }

    /// Its producers: the video's, then the audio's. None while nobody sends it.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerId> {
        match self {
            Self::Camera(camera) => vec![camera.producer()],
            Self::Stream(stream) => stream.tracks().map_or_else(Vec::new, |tracks| tracks.producers()),
        }
    }

    /// The codec of its video; `None` while nobody sends it.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        match self {
            Self::Camera(camera) => Some(camera.config().settings.backend.codec()),
            Self::Stream(stream) => stream.tracks().map(|tracks| tracks.codec),
        }
    }

    /// What a viewer is to be shown that wants these layers at most. `None` while nobody sends it.
    #[must_use]
    pub fn play_request(&self, preferred: Option<PreferredLayers>) -> Option<PlayRequest> {
        let (producer, audio) = match self {
            Self::Camera(camera) => (camera.producer(), None),
            Self::Stream(stream) => {
                let tracks = stream.tracks()?;
                (tracks.video, tracks.audio)
            }
        };
        let video = PlayedVideo { producer, codec: self.codec()?, preferred };
        Some(PlayRequest { stream: self.name(), video, audio })
    }

    /// Viewers of it at once; `None`: as many as there may be of all.
    #[must_use]
    pub fn max_viewers(&self) -> Option<usize> {
        match self {
            Self::Camera(_) => None,
            Self::Stream(stream) => Some(stream.config().max_viewers),
        }
    }

    /// What plays it, beside what plays everything.
    #[must_use]
    pub fn play_token(&self) -> Option<Secret> {
        match self {
            Self::Camera(_) => None,
            Self::Stream(stream) => stream.config().play_token.clone(),
        }
    }
}
