//! What offers of viewers and of publishers have in common.

use std::io::Cursor;

use lenscast_router::rtp_parameters::Direction;
use rtc_sdp::description::media::MediaDescription;
use rtc_sdp::description::session::SessionDescription;

use super::{MAX_CAMERAS, MAX_OFFER_BYTES, OfferError};
use crate::Fingerprint;

/// Video and audio of as many cameras as there may be, and a data channel. No offer of a browser has more.
const MAX_SECTIONS: usize = 2 * MAX_CAMERAS + 1;

/// One `m=` section, as far as it must be repeated in the answer.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) media: String,
    pub(crate) protocol: String,
    pub(crate) formats: Vec<String>,
    pub(crate) mid: Option<String>,
}

impl Section {
    pub(super) fn of(media: &MediaDescription) -> Self {
        Self {
            media: media.media_name.media.clone(),
            protocol: media.media_name.protos.join("/"),
            formats: media.media_name.formats.clone(),
            mid: value(media, "mid").map(str::to_owned),
        }
    }
}

/// Who is on the other side of the bundle.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) ufrag: String,
    pub(super) fingerprint: Fingerprint,
}

/// An offer that has been read.
pub(super) struct Description(SessionDescription);

impl Description {
    pub(super) fn read(sdp: &str) -> Result<Self, OfferError> {
        if sdp.len() > MAX_OFFER_BYTES {
            return Err(OfferError::TooLarge(sdp.len()));
        }
        let description = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
            .map_err(|error| OfferError::Malformed(error.to_string()))?;
        if description.media_descriptions.len() > MAX_SECTIONS {
            return Err(OfferError::Malformed(format!("more than {MAX_SECTIONS} media sections")));
        }
        Ok(Self(description))
    }

    pub(super) fn media(&self) -> &[MediaDescription] {
        &self.0.media_descriptions
    }

    /// The remote side of the transport that `media` is bundled into. ICE and DTLS attributes may stand once for the
    /// session or in each section (RFC 8839 §5.4, RFC 8122 §5); of a bundle, in one section at least (RFC 9143 §7.1.3).
    pub(super) fn remote(&self, media: &MediaDescription) -> Result<Remote, OfferError> {
        let elsewhere = |key: &str| self.media().iter().find_map(|other| value(other, key));
        let attribute = |key: &'static str| {
            let found = value(media, key).or_else(|| self.session(key)).or_else(|| elsewhere(key));
            found.ok_or(OfferError::MissingAttribute(key))
        };
        let ufrag = attribute("ice-ufrag")?.to_owned();
        attribute("ice-pwd")?;
        let fingerprint = Fingerprint::parse(attribute("fingerprint")?)?;
        match attribute("setup")? {
            "actpass" | "active" => Ok(Remote { ufrag, fingerprint }),
            other => Err(OfferError::Setup(shortened(other))),
        }
    }

    pub(super) fn direction(&self, media: &MediaDescription) -> Direction {
        let session = |key: &str| self.0.attributes.iter().any(|attribute| attribute.key == key);
        let said = |has: &dyn Fn(&str) -> bool| match () {
            () if has("sendonly") => Some(Direction::SendOnly),
            () if has("recvonly") => Some(Direction::RecvOnly),
            () if has("inactive") => Some(Direction::Inactive),
            () if has("sendrecv") => Some(Direction::SendRecv),
            () => None,
        };
        said(&|key| media.has_attribute(key)).or_else(|| said(&session)).unwrap_or_default()
    }

    /// The mid of a section that is in the bundle. An offer's only section needs none to be in.
    pub(super) fn bundled_mid(&self, media: &MediaDescription) -> Result<String, OfferError> {
        let mid = value(media, "mid").ok_or(OfferError::MissingAttribute("mid"))?;
        let mut words = self.session("group").unwrap_or_default().split(' ');
        let bundled = words.next() == Some("BUNDLE") && words.any(|member| member == mid);
        if bundled || self.media().len() == 1 {
            Ok(mid.to_owned())
        } else {
            Err(OfferError::NotBundled(shortened(mid)))
        }
    }

    fn session(&self, key: &str) -> Option<&str> {
        self.0.attributes.iter().find(|attribute| attribute.key == key)?.value.as_deref()
    }
}

/// True for a section that the offerer itself has taken out (RFC 3264 §5.1, RFC 9143 §6).
pub(super) fn is_disabled(media: &MediaDescription) -> bool {
    media.media_name.port.value == 0 && !media.has_attribute("bundle-only")
}

pub(super) fn value<'a>(media: &'a MediaDescription, key: &str) -> Option<&'a str> {
    media.attribute(key).flatten()
}

pub(super) fn values<'a>(media: &'a MediaDescription, key: &'static str) -> impl Iterator<Item = &'a str> {
    media
        .attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
}

/// True if the section agrees to receivers' reference times and their return (`rcvr-rtt`, RFC 3611 §5.1).
pub(super) fn measures_round_trips(media: &MediaDescription) -> bool {
    values(media, "rtcp-xr").any(|formats| formats.contains("rcvr-rtt="))
}

/// What can be shown of what somebody sent.
fn shortened(text: &str) -> String {
    text.chars().take(32).collect()
}
