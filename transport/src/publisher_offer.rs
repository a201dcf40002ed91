use lenscast_media::Codec;

use crate::OfferError;

/// An acceptable offer of somebody who publishes (RFC 9725).
#[derive(Debug, Clone)]
pub struct PublisherOffer {}

impl PublisherOffer {
    /// Reads and checks an offer.
    ///
    /// # Errors
    ///
    /// If it is not SDP, or not one that can be answered.
    pub fn parse(_sdp: &str) -> Result<Self, OfferError> {
        unimplemented!()
    }

    /// The publisher's ICE user fragment.
    #[must_use]
    pub fn ice_ufrag(&self) -> &str {
        unimplemented!()
    }

    /// The media identification of its first section, which stands for the bundle.
    #[must_use]
    pub fn mid(&self) -> &str {
        unimplemented!()
    }

    /// The video codecs that it offers, of those we know, in its order of preference.
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        std::iter::empty()
    }
}
