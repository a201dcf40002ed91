use lenscast_router::{ConsumerId, ConsumerParameters, ProducerId, ProducerParameters};

use crate::PublishedProducer;
use crate::pipe::{PipeOrigin, PipeSetup};

/// What a session is for, as it is set up.
pub(crate) enum Purpose {
    /// Shows somebody one camera or several.
    Viewer(Vec<PlannedView>),
    /// Takes somebody's stream in.
    Publisher(Vec<(ProducerId, ProducerParameters)>),
    /// Sends streams to a server on another machine.
    Pipe(Box<PipeSetup>),
}

/// One camera of a viewer's session, as it is set up.
pub(crate) struct PlannedView {
    pub(crate) video: (ProducerId, ConsumerParameters),
    /// If the camera has audio, and the viewer takes it.
    pub(crate) audio: Option<(ProducerId, ConsumerParameters)>,
}

impl Purpose {
    /// How many of the server's places it takes: a viewer of several cameras is one of each.
    pub(crate) fn places(&self) -> usize {
        match self {
            Self::Viewer(views) => views.len(),
            Self::Publisher(_) | Self::Pipe(_) => 1,
        }
    }

    /// True if the session has nothing left to show when this producer ends.
    pub(crate) fn shows(&self, producer: ProducerId) -> bool {
        matches!(self, Self::Viewer(views) if views.iter().all(|view| view.video.0 == producer))
    }
}

/// What a running session is for.
pub(crate) enum Role {
    /// The cameras that it shows, in the order of the viewer's offer: also those that have ended.
    Viewer(Vec<View>),
    Publisher,
    Pipe(Box<PipeOrigin>),
}

/// One camera of a running viewer's session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// Whose video it is.
    pub(crate) producer: ProducerId,
    /// `None` once that has ended.
    pub(crate) video: Option<ConsumerId>,
    pub(crate) audio: Option<ConsumerId>,
}

impl Role {
    /// Notes that a producer has ended. True if the session has nothing left to show for that: one camera's end is no reason
    /// to part with the others.
    pub(crate) fn lose(&mut self, producer: ProducerId) -> bool {
        let Self::Viewer(views) = self else { return false };
        let mut lost = false;
        for view in views.iter_mut().filter(|view| view.producer == producer) {
            lost |= view.video.take().is_some();
        }
        lost && views.iter().all(|view| view.video.is_none())
    }

    /// One of the cameras that it shows.
    pub(crate) fn view(&self, camera: usize) -> Option<&View> {
        self.views().get(camera)
    }

    /// Which of its cameras' video this is.
    pub(crate) fn camera_of(&self, video: ConsumerId) -> Option<usize> {
        self.views().iter().position(|view| view.video == Some(video))
    }

    /// All that is sent to it.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = ConsumerId> {
        self.views().iter().flat_map(View::consumers)
    }

    fn views(&self) -> &[View] {
        match self {
            Self::Viewer(views) => views,
            Self::Publisher | Self::Pipe(_) => &[],
        }
    }
}

impl View {
    pub(crate) fn consumers(&self) -> impl Iterator<Item = ConsumerId> + use<> {
        self.video.into_iter().chain(self.audio)
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
