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

pub(crate) use codec::{OfferedCodec, OfferedExtensions};
pub(crate) use description::Section;
pub(crate) use publisher::PublishedSection;
pub use publisher::PublisherOffer;
#[cfg(test)]
pub(crate) use publisher::tests as publisher_offers;
pub use viewer::ViewerOffer;
pub(crate) use viewer::{AudioSection, CameraSections};

use crate::ParseFingerprintError;

/// The largest offer that is read, in bytes. Chromium's section of video with all its codecs is 5 KB, one of audio 1.5 KB.
pub const MAX_OFFER_BYTES: usize = 128 * 1024;

/// Cameras that one viewer's session shows at most: more than fit on a screen.
pub const MAX_CAMERAS: usize = 16;

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
    /// It has more or fewer video sections than there are cameras to be shown, or than one to publish with.
    #[error("SDP offer has {sections} video sections, must have exactly {cameras}")]
    VideoSections {
        /// How many it has.
        sections: usize,
        /// How many it should have.
        cameras: usize,
    },
    /// Its sections contradict each other, which one transport cannot carry.
    #[error("SDP offer's bundle is at odds with itself: {0}")]
    Bundle(String),
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
        matches!(
            self,
            Self::TooLarge(_) | Self::Malformed(_) | Self::MissingAttribute(_) | Self::Fingerprint(_) | Self::Bundle(_)
        )
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

    /// An offer for so many cameras as Chromium would make it: of each a video section, and with `audio` one of audio after it.
    pub(crate) fn bundle(cameras: usize, audio: bool) -> String {
        let (session, video) = CHROMIUM.split_at(CHROMIUM.find("m=video").unwrap());
        let mids: Vec<_> = (0..cameras)
            .flat_map(|camera| {
                let audio = audio.then(|| format!("a{camera}"));
                std::iter::once(format!("v{camera}")).chain(audio)
            })
            .collect();
        let mut sdp = replaced(session, "a=group:BUNDLE 0", &format!("a=group:BUNDLE {}", mids.join(" ")));
        for mid in mids {
            if mid.starts_with('v') {
                sdp.push_str(&replaced(video, "a=mid:0", &format!("a=mid:{mid}")));
            } else {
                sdp.push_str(&format!(
                    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=recvonly\r\n\
                     a=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
                     a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
                ));
            }
        }
        sdp
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
