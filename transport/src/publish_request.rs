use lenscast_media::{Bitrate, Codec, MediaCodec};
use lenscast_router::{ProducerId, TransportId};
use thiserror::Error;

use crate::PublisherOffer;

/// Under which name and limits somebody may publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The stream's name: it has one publisher at a time.
    pub stream: String,
    /// The codecs that the video may be in, most wanted first. Empty: any, and the publisher's order decides.
    pub codecs: Vec<Codec>,
    /// The most that the publisher may send of video, all layers together; told to it, not enforced.
    pub max_bitrate: Option<Bitrate>,
}

impl PublishRequest {
    /// Whether an offer has a codec that is wanted.
    ///
    /// # Errors
    ///
    /// [`CreatePublisherError::Codec`] if it has none.
    pub fn accepts(&self, offer: &PublisherOffer) -> Result<(), CreatePublisherError> {
        let is_wanted = |codec: Codec| self.codecs.is_empty() || self.codecs.contains(&codec);
        if offer.codecs().any(is_wanted) {
            return Ok(());
        }
        let names =
            |codecs: &mut dyn Iterator<Item = Codec>| codecs.map(Codec::encoding_name).collect::<Vec<_>>().join(", ");
        let wanted = if self.codecs.is_empty() { &Codec::ALL[..] } else { &self.codecs };
        Err(CreatePublisherError::Codec {
            allowed: names(&mut wanted.iter().copied()),
            offered: names(&mut offer.codecs()),
        })
    }
}

/// A session whose publisher is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedPublisher {
    /// Which.
    pub id: TransportId,
    /// The SDP answer for the publisher.
    pub answer: String,
    /// What it will send. These exist from [`SessionState::Published`](crate::SessionState::Published) on.
    pub producers: Vec<PublishedProducer>,
}

/// A track of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedProducer {
    /// Which.
    pub id: ProducerId,
    /// What it carries.
    pub codec: MediaCodec,
    /// Spatial layers: 1, or as many as the publisher's simulcast has.
    pub layers: u8,
}

/// Why an offer to publish was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreatePublisherError {
    /// Somebody publishes under that name already.
    #[error("stream {0:?} has a publisher already")]
    StreamBusy(String),
    /// None of the codecs that the stream may be in was offered.
    #[error("the stream may be in {allowed}, the offer has only {offered}")]
    Codec {
        /// What is allowed.
        allowed: String,
        /// What the publisher offers, of what we know.
        offered: String,
    },
    /// There are as many sessions as are allowed.
    #[error("all {0} sessions are in use")]
    Full(usize),
    /// The system does not tell our addresses.
    #[error("cannot list this host's addresses: {0}")]
    Addresses(std::io::Error),
}
