use lenscast_router::{ConsumerId, ConsumerParameters, ProducerId, ProducerParameters};

use crate::PublishedProducer;
use crate::pipe::{PipeOrigin, PipeSetup};

/// What a session is for, as it is set up.
pub(crate) enum Purpose {
    /// Shows somebody a stream: its video first, and its audio if the viewer takes it.
    Viewer(Vec<(ProducerId, ConsumerParameters)>),
    /// Takes somebody's stream in.
    Publisher(Vec<(ProducerId, ProducerParameters)>),
    /// Sends streams to a server on another machine.
    Pipe(Box<PipeSetup>),
}

impl Purpose {
    /// True if the session has nothing left to show when this producer ends.
    pub(crate) fn shows(&self, producer: ProducerId) -> bool {
        matches!(self, Self::Viewer(consumers) if consumers.first().is_some_and(|(shown, _)| *shown == producer))
    }
}

/// What a running session is for.
pub(crate) enum Role {
    Viewer {
        /// Whose video it shows.
        producer: ProducerId,
        video: ConsumerId,
        audio: Option<ConsumerId>,
    },
    Publisher,
    Pipe(Box<PipeOrigin>),
}

impl Role {
    /// As [`Purpose::shows`].
    pub(crate) fn shows(&self, shown: ProducerId) -> bool {
        matches!(self, Self::Viewer { producer, .. } if *producer == shown)
    }

    pub(crate) fn consumers(&self) -> impl Iterator<Item = ConsumerId> + use<> {
        let (video, audio) = match self {
            Self::Viewer { video, audio, .. } => (Some(*video), *audio),
            Self::Publisher | Self::Pipe(_) => (None, None),
        };
        video.into_iter().chain(audio)
    }
}

/// What others are told of a publisher's tracks.
pub(crate) fn published(producers: &[(ProducerId, ProducerParameters)]) -> Vec<PublishedProducer> {
    let tracks = producers.iter().map(|(id, parameters)| PublishedProducer {
        id: *id,
        codec: parameters.codec,
        layers: parameters.encodings.len() as u8,
    });
    tracks.collect()
}
