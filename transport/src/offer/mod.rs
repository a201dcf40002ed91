//! SDP offers: what of them matters, checked.
//!
//! Reading is done by `rtc-sdp`; this decides what is acceptable: multiplexed and bundled (RFC 9725 §4.4), with ICE
//! credentials, a fingerprint, and room for us to be the DTLS server.
//!
//! What it does not do: choose a codec, which depends on the stream (see `answer`).

mod codec;
mod description;
mod publisher;
mod viewer;

use thiserror::Error;

pub(crate) use codec::OfferedCodec;
pub(crate) use description::Section;
pub(crate) use publisher::PublishedSection;
pub use publisher::PublisherOffer;
#[cfg(test)]
pub(crate) use publisher::tests as publisher_offers;
pub(crate) use viewer::AudioSection;
pub use viewer::ViewerOffer;

use crate::ParseFingerprintError;

/// The largest offer that is read, in bytes. Chromium's offer of one section with all its codecs is 5 KB.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;

/// Why an offer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is larger than any real offer.
    #[error("SDP offer of {0} bytes is larger than {MAX_OFFER_BYTES}")]
    TooLarge(usize),
    /// It is not SDP.
    #[error("SDP offer cannot be read: {0}")]
    Malformed(String),
    /// A line that every WebRTC offer has is not there.
    #[error("SDP offer has no a={0}")]
    MissingAttribute(&'static str),
    /// The fingerprint cannot be used.
    #[error("SDP offer's a=fingerprint: {0}")]
    Fingerprint(#[from] ParseFingerprintError),
    /// It has more or fewer video tracks than one.
    #[error("SDP offer has {0} video sections, must have exactly 1")]
    VideoSections(usize),
    /// It has more audio tracks than one.
    #[error("SDP offer has {0} audio sections, may have 1")]
    AudioSections(usize),
    /// It has a section that is neither, which cannot be refused alone (RFC 9725 §4.4).
    #[error("SDP offer has a section of {0:?}, may have video and audio only")]
    Section(String),
    /// A viewer's video section does not want to receive.
    #[error("SDP offer's video section is a={0}, must be a=recvonly")]
    Direction(&'static str),
    /// A publisher's section does not want to send.
    #[error("SDP offer's {kind} section is a={direction}, must be a=sendonly")]
    PublisherDirection {
        /// Of what.
        kind: &'static str,
        /// Which way it is.
        direction: &'static str,
    },
    /// Its tracks are of several media streams.
    #[error("SDP offer's tracks are of two media streams, must be of one")]
    MediaStreams,
    /// It insists on an RTCP port of its own.
    #[error("SDP offer's {0} section has no a=rtcp-mux, which is required")]
    NoRtcpMux(&'static str),
    /// Its sections are not one bundle.
    #[error("SDP offer's a=group:BUNDLE does not name the section with mid {0:?}")]
    NotBundled(String),
    /// It insists on being the DTLS server.
    #[error("SDP offer's a=setup is {0:?}, must be actpass or active")]
    Setup(String),
    /// It has no codec that any stream of ours could be sent in.
    #[error("SDP offer has none of the codecs VP8, VP9 (profile 0) and H264 (packetization-mode 1, baseline)")]
    NoCodec,
    /// Its audio is in nothing that we forward.
    #[error("SDP offer's audio section has no opus/48000/2")]
    NoAudioCodec,
    /// Its simulcast cannot be understood.
    #[error("SDP offer's simulcast {0}")]
    Simulcast(&'static str),
}

impl OfferError {
    /// True if the offer breaks SDP's own rules; false if it is SDP, but asks for what we do not do.
    #[must_use]
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::Malformed(_) | Self::MissingAttribute(_) | Self::Fingerprint(_))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    pub(crate) const CHROMIUM: &str = include_str!("../../testdata/chromium.sdp");
    pub(crate) const AIORTC: &str = include_str!("../../testdata/aiortc.sdp");

    /// An offer with one piece of it replaced.
    pub(crate) fn replaced(offer: &str, old: &str, new: &str) -> String {
        assert!(offer.contains(old), "{old:?} is not in the offer");
        offer.replace(old, new)
    }

    /// What is done to a line of an offer.
    type Edit = (prop::sample::Index, u8, prop::sample::Index, String);

    pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
        prop::collection::vec(
            (any::<prop::sample::Index>(), 0_u8..5, any::<prop::sample::Index>(), "[ -~é]{0,20}"),
            1..12,
        )
    }

    /// Cuts, swaps and replaces lines of an offer.
    pub(crate) fn mangled(offer: &str, edits: Vec<Edit>) -> String {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (index, kind, other, text) in edits {
            if lines.is_empty() {
                break;
            }
            let (at, other) = (index.index(lines.len()), other.index(lines.len()));
            match kind {
                0 => {
                    lines.remove(at);
                }
                1 => lines.swap(at, other),
                2 => {
                    let line = lines[other].clone();
                    lines.insert(at, line);
                }
                3 => lines[at].push_str(&text),
                _ => {
                    let keep = lines[at].find([':', '=']).map_or(0, |position| position + 1);
                    lines[at].truncate(keep);
                    lines[at].push_str(&text);
                }
            }
        }
        lines.join("\r\n") + "\r\n"
    }
}
