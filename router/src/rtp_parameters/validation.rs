//! Whether what came from outside is sound in itself.

use std::collections::BTreeMap;

use lenscast_media::Ssrc;
use thiserror::Error;

use super::matching::Special;
use super::{CodecIdentity, RtpCapabilities, RtpParameters};
use crate::{MediaKind, PayloadType};

/// Capabilities or parameters that contradict themselves. Fields are named as the W3C does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// A field must be there.
    #[error("{field} is missing")]
    Missing {
        /// Its path, `codecs[1].parameters.apt`.
        field: String,
    },
    /// A field has a value that it cannot have.
    #[error("{field} is {value:?}, must be {legal}")]
    Illegal {
        /// Its path.
        field: String,
        /// Its value, cut to 64 characters.
        value: String,
        /// What it could be.
        legal: &'static str,
    },
    /// Two fields have a value that only one may have.
    #[error("{field} is {value}, which {first} is already")]
    Duplicate {
        /// The later one's path.
        field: String,
        /// The value of both.
        value: String,
        /// The earlier one's path.
        first: String,
    },
}

/// As many layers as a [`LayerSet`](crate) needs to hold, and as browsers send.
const MAX_ENCODINGS: usize = 4;

/// Beyond what any endpoint lists: 32 payload types are dynamic, and some are fixed.
const MAX_CODECS: usize = 128;

impl RtpCapabilities {
    /// Checks them in themselves.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot be as it is.
    pub fn validate(&self) -> Result<(), ValidationError> {
        at_most(self.codecs.len(), MAX_CODECS, "codecs", "at most 128")?;
        let mut payload_types = Unique::default();
        let preferred =
            |payload_type| self.codecs.iter().any(|codec| codec.preferred_payload_type == Some(payload_type));
        for (index, codec) in self.codecs.iter().enumerate() {
            let path = format!("codecs[{index}]");
            validate_codec(&path, codec.into(), preferred)?;
            if let Some(payload_type) = codec.preferred_payload_type {
                payload_types.insert(payload_type.value(), &payload_type, format!("{path}.preferredPayloadType"))?;
            }
        }
        let mut ids = Unique::default();
        for (index, extension) in self.header_extensions.iter().enumerate() {
            let path = format!("headerExtensions[{index}].preferredId");
            let id = extension.preferred_id.value();
            ids.insert((extension.kind, id), &id, path)?;
        }
        Ok(())
    }
}

impl RtpParameters {
    /// Checks a producer's parameters in themselves.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot be as it is.
    pub fn validate(&self) -> Result<(), ValidationError> {
        at_most(self.codecs.len(), MAX_CODECS, "codecs", "at most 128")?;
        at_most(self.encodings.len(), MAX_ENCODINGS, "encodings", "at most 4")?;
        if !self.codecs.iter().any(|codec| !codec.mime_type.is_rtx()) {
            return Err(ValidationError::Missing { field: "codecs".to_owned() });
        }
        if self.encodings.is_empty() {
            return Err(ValidationError::Missing { field: "encodings".to_owned() });
        }
        self.validate_codecs()?;
        self.validate_encodings()?;
        let (mut ids, mut uris) = (Unique::default(), Unique::default());
        for (index, extension) in self.header_extensions.iter().enumerate() {
            let path = format!("headerExtensions[{index}]");
            ids.insert(extension.id.value(), &extension.id.value(), format!("{path}.id"))?;
            uris.insert(extension.uri, &extension.uri, format!("{path}.uri"))?;
        }
        Ok(())
    }

    fn validate_codecs(&self) -> Result<(), ValidationError> {
        let mut payload_types = Unique::default();
        let media = |payload_type| {
            let mut media = self.codecs.iter().filter(|codec| !codec.mime_type.is_rtx());
            media.any(|codec| codec.payload_type == payload_type)
        };
        for (index, codec) in self.codecs.iter().enumerate() {
            let path = format!("codecs[{index}]");
            validate_codec(&path, codec.into(), media)?;
            payload_types.insert(codec.payload_type.value(), &codec.payload_type, format!("{path}.payloadType"))?;
        }
        Ok(())
    }

    /// With several encodings each must be told apart: by its source, or by its name.
    fn validate_encodings(&self) -> Result<(), ValidationError> {
        let (mut ssrcs, mut rids) = (Unique::default(), Unique::default());
        for (index, encoding) in self.encodings.iter().enumerate() {
            let path = format!("encodings[{index}]");
            if self.encodings.len() > 1 && encoding.ssrc.is_none() && encoding.rid.is_none() {
                return Err(ValidationError::Missing { field: format!("{path}.rid") });
            }
            let mut source =
                |ssrc: Option<Ssrc>, path: String| ssrc.map_or(Ok(()), |ssrc| ssrcs.insert(ssrc, &ssrc, path));
            source(encoding.ssrc, format!("{path}.ssrc"))?;
            source(encoding.rtx_ssrc, format!("{path}.rtx.ssrc"))?;
            if let Some(rid) = encoding.rid {
                rids.insert(rid.as_str().to_owned(), &rid, format!("{path}.rid"))?;
            }
        }
        Ok(())
    }
}

fn validate_codec(
    path: &str,
    codec: CodecIdentity<'_>,
    is_media: impl Fn(PayloadType) -> bool,
) -> Result<(), ValidationError> {
    if codec.clock_rate == 0 {
        return Err(illegal(format!("{path}.clockRate"), "0", "above 0"));
    }
    if codec.mime_type.kind() == MediaKind::Audio && codec.channels == Some(0) {
        return Err(illegal(format!("{path}.channels"), "0", "above 0"));
    }
    if codec.mime_type.is_rtx() {
        let field = format!("{path}.parameters.apt");
        let Some(value) = codec.parameters.value("apt") else { return Err(ValidationError::Missing { field }) };
        if !codec.parameters.apt().is_some_and(is_media) {
            return Err(illegal(field, value, "the payload type of a media codec beside it"));
        }
    }
    let number_below = |name: &str, end: u32, legal: &'static str| match codec.parameters.number(name, 0) {
        Some(number) if number < end => Ok(()),
        _ => Err(illegal(format!("{path}.parameters.{name}"), codec.parameters.value(name).unwrap_or(""), legal)),
    };
    match Special::of(codec) {
        Special::None => Ok(()),
        Special::Vp9 => number_below("profile-id", 4, "0 to 3"),
        Special::H264 => {
            number_below("packetization-mode", 3, "0 to 2")?;
            // Profiles that are not known here match nothing, but are not wrong.
            let text = codec.parameters.value("profile-level-id").unwrap_or("42000a");
            let is_hex = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let field = || format!("{path}.parameters.profile-level-id");
            if is_hex { Ok(()) } else { Err(illegal(field(), text, "six hexadecimal digits")) }
        }
    }
}

fn at_most(len: usize, max: usize, field: &str, legal: &'static str) -> Result<(), ValidationError> {
    if len > max { Err(illegal(format!("{field}.length"), &len.to_string(), legal)) } else { Ok(()) }
}

fn illegal(field: String, value: &str, legal: &'static str) -> ValidationError {
    ValidationError::Illegal { field, value: value.chars().take(64).collect(), legal }
}

/// Values seen so far, each with the field that has it.
struct Unique<T>(BTreeMap<T, String>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Unique<T> {
    fn insert(&mut self, value: T, shown: &dyn std::fmt::Display, field: String) -> Result<(), ValidationError> {
        match self.0.entry(value) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(field);
                Ok(())
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                let first = entry.get().clone();
                Err(ValidationError::Duplicate { field, value: shown.to_string(), first })
            }
        }
    }
}

impl ValidationError {
    /// The same of the codec at `index` of a list, where it was found as the only one.
    pub(super) fn at_codec(mut self, index: usize) -> Self {
        let (Self::Missing { field } | Self::Illegal { field, .. } | Self::Duplicate { field, .. }) = &mut self;
        *field = field.replacen("codecs[0]", &format!("codecs[{index}]"), 1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Direction, ExtensionUri, FormatParameters, RtpCodecCapability, RtpEncodingParameters,
        RtpHeaderExtensionCapability, RtpHeaderExtensionParameters,
    };
    use super::*;
    use crate::{ExtensionId, Rid};

    fn payload_type(value: u8) -> PayloadType {
        PayloadType::new(value).unwrap()
    }

    fn extension_id(value: u8) -> ExtensionId {
        ExtensionId::new(value).unwrap()
    }

    fn codec(name: &str, parameters: &str) -> RtpCodecCapability {
        RtpCodecCapability { parameters: FormatParameters::parse(parameters), ..RtpCodecCapability::video(name) }
    }

    fn sound() -> RtpParameters {
        RtpParameters {
            codecs: vec![
                codec("VP8", "").with_payload_type(payload_type(96)),
                codec("rtx", "apt=96").with_payload_type(payload_type(97)),
            ],
            header_extensions: vec![RtpHeaderExtensionParameters { uri: ExtensionUri::Mid, id: extension_id(1) }],
            encodings: vec![
                RtpEncodingParameters { rid: Rid::new("lo"), ..Default::default() },
                RtpEncodingParameters { ssrc: Some(Ssrc(7)), rtx_ssrc: Some(Ssrc(8)), ..Default::default() },
            ],
            ..Default::default()
        }
    }

    /// What is said of [`sound`] parameters after a change.
    fn said(change: impl FnOnce(&mut RtpParameters)) -> String {
        let mut parameters = sound();
        parameters.validate().unwrap();
        change(&mut parameters);
        parameters.validate().unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_field_and_its_value() {
        assert_eq!(said(|p| p.codecs[0].clock_rate = 0), "codecs[0].clockRate is \"0\", must be above 0");
        assert_eq!(
            said(|p| p.codecs[1].parameters = FormatParameters::parse("apt=x96")),
            "codecs[1].parameters.apt is \"x96\", must be the payload type of a media codec beside it"
        );
        assert_eq!(said(|p| p.codecs[1].parameters = FormatParameters::new()), "codecs[1].parameters.apt is missing");
        assert_eq!(
            said(|p| p.codecs[0] = codec("VP9", "profile-id=4").with_payload_type(payload_type(96))),
            "codecs[0].parameters.profile-id is \"4\", must be 0 to 3"
        );
        assert_eq!(
            said(|p| p.codecs[0] = codec("H264", "profile-level-id=high").with_payload_type(payload_type(96))),
            "codecs[0].parameters.profile-level-id is \"high\", must be six hexadecimal digits"
        );
        assert_eq!(
            said(|p| p.codecs[0] = codec("H264", "packetization-mode=3").with_payload_type(payload_type(96))),
            "codecs[0].parameters.packetization-mode is \"3\", must be 0 to 2"
        );
    }

    #[test]
    fn rtx_needs_a_media_codec_and_not_another_rtx() {
        let other = said(|p| p.codecs[1].parameters = FormatParameters::parse("apt=97"));
        assert!(other.starts_with("codecs[1].parameters.apt is \"97\""), "{other}");
    }

    #[test]
    fn codecs_and_encodings_must_be_there() {
        assert_eq!(said(|p| p.codecs.clear()), "codecs is missing");
        assert_eq!(said(|p| drop(p.codecs.remove(0))), "codecs is missing", "RTX is none");
        assert_eq!(said(|p| p.encodings.clear()), "encodings is missing");
        let many = said(|p| p.encodings = vec![RtpEncodingParameters::default(); 5]);
        assert_eq!(many, "encodings.length is \"5\", must be at most 4");
    }

    #[test]
    fn several_encodings_must_be_told_apart() {
        let nameless = said(|p| p.encodings[0] = RtpEncodingParameters::default());
        assert_eq!(nameless, "encodings[0].rid is missing");
        let mut alone = sound();
        alone.encodings = vec![RtpEncodingParameters::default()];
        assert_eq!(alone.validate(), Ok(()), "an only encoding needs no name");
    }

    #[test]
    fn what_must_differ_may_not_be_given_twice() {
        assert_eq!(
            said(|p| p.codecs[1].payload_type = payload_type(96)),
            "codecs[1].payloadType is 96, which codecs[0].payloadType is already"
        );
        assert_eq!(
            said(|p| p.encodings[1].rtx_ssrc = Some(Ssrc(7))),
            "encodings[1].rtx.ssrc is 7, which encodings[1].ssrc is already"
        );
        assert_eq!(
            said(|p| p.encodings[1].rid = Rid::new("lo")),
            "encodings[1].rid is lo, which encodings[0].rid is already"
        );
        let extension = RtpHeaderExtensionParameters { uri: ExtensionUri::AudioLevel, id: extension_id(1) };
        assert_eq!(
            said(|p| p.header_extensions.push(extension)),
            "headerExtensions[1].id is 1, which headerExtensions[0].id is already"
        );
    }

    #[test]
    fn capabilities_must_differ_in_payload_types_and_per_kind_in_identifiers() {
        let with = |value, codec| RtpCodecCapability { preferred_payload_type: Some(payload_type(value)), ..codec };
        let extension = |kind, uri| RtpHeaderExtensionCapability {
            kind,
            uri,
            preferred_id: extension_id(1),
            direction: Direction::SendRecv,
        };
        let mut capabilities = RtpCapabilities {
            codecs: vec![with(96, codec("VP8", "")), with(97, codec("rtx", "apt=96"))],
            header_extensions: vec![
                extension(MediaKind::Audio, ExtensionUri::Mid),
                extension(MediaKind::Video, ExtensionUri::Mid),
            ],
        };
        assert_eq!(capabilities.validate(), Ok(()), "audio and video may number alike");
        capabilities.header_extensions.push(extension(MediaKind::Video, ExtensionUri::PlayoutDelay));
        let error = capabilities.validate().unwrap_err().to_string();
        assert_eq!(error, "headerExtensions[2].preferredId is 1, which headerExtensions[1].preferredId is already");
        capabilities.codecs[1].preferred_payload_type = Some(payload_type(96));
        let error = capabilities.validate().unwrap_err().to_string();
        assert_eq!(error, "codecs[1].preferredPayloadType is 96, which codecs[0].preferredPayloadType is already");
    }
}
