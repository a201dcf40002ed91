//! Whether two descriptions mean the same codec.

use super::CodecIdentity;
use super::h264::ProfileLevelId;
use crate::MediaKind;

/// True if name, clock rate and channels agree: enough to find what the router knows of a codec.
#[must_use]
pub fn matches<'a>(a: impl Into<CodecIdentity<'a>>, b: impl Into<CodecIdentity<'a>>) -> bool {
    let (a, b) = (a.into(), b.into());
    a.mime_type == b.mime_type && a.clock_rate == b.clock_rate && channels(a) == channels(b)
}

/// True if also everything agrees that a decoder must know: H.264's packetization mode and profile (RFC 6184 §8.2.2,
/// the level may differ), VP9's profile (RFC 9628 §6.1). What cannot be read matches nothing.
#[must_use]
pub fn matches_exactly<'a>(a: impl Into<CodecIdentity<'a>>, b: impl Into<CodecIdentity<'a>>) -> bool {
    let (a, b) = (a.into(), b.into());
    let same_profile = || {
        let (a, b) = (ProfileLevelId::of(a.parameters), ProfileLevelId::of(b.parameters));
        a.zip(b).is_some_and(|(a, b)| a.profile == b.profile)
    };
    matches(a, b)
        && match Special::of(a) {
            Special::None => true,
            Special::H264 => agree_on(a, b, "packetization-mode") && same_profile(),
            Special::Vp9 => agree_on(a, b, "profile-id"),
        }
}

/// True if `decoder` can decode what `stream` describes: an exact match, or H.264 of a profile that the decoder's contains.
pub(super) fn decodes<'a>(decoder: impl Into<CodecIdentity<'a>>, stream: impl Into<CodecIdentity<'a>>) -> bool {
    let (decoder, stream) = (decoder.into(), stream.into());
    let contained = || {
        let profiles = ProfileLevelId::of(decoder.parameters).zip(ProfileLevelId::of(stream.parameters));
        profiles.is_some_and(|(decoder, stream)| decoder.profile.decodes(stream.profile))
    };
    let h264 = matches(decoder, stream) && matches!(Special::of(decoder), Special::H264);
    matches_exactly(decoder, stream) || h264 && agree_on(decoder, stream, "packetization-mode") && contained()
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Special {
    None,
    H264,
    Vp9,
}

impl Special {
    pub(super) fn of(codec: CodecIdentity<'_>) -> Self {
        match codec.mime_type {
            name if name.is("H264") => Self::H264,
            name if name.is("VP9") => Self::Vp9,
            _ => Self::None,
        }
    }
}

/// One channel of audio if nothing is said (RFC 8866 §6.6); video has none, whatever is said.
fn channels(codec: CodecIdentity<'_>) -> Option<u8> {
    match codec.mime_type.kind() {
        MediaKind::Audio => Some(codec.channels.unwrap_or(1)),
        MediaKind::Video => None,
    }
}

/// Of both the same number, 0 if it is missing.
fn agree_on(a: CodecIdentity<'_>, b: CodecIdentity<'_>, name: &str) -> bool {
    let (a, b) = (a.parameters.number(name, 0), b.parameters.number(name, 0));
    a.is_some() && a == b
}

#[cfg(test)]
mod tests {
    use super::super::{FormatParameters, RtpCodecCapability};
    use super::*;

    fn h264(parameters: &str) -> RtpCodecCapability {
        RtpCodecCapability { parameters: FormatParameters::parse(parameters), ..RtpCodecCapability::video("H264") }
    }

    fn vp9(parameters: &str) -> RtpCodecCapability {
        RtpCodecCapability { parameters: FormatParameters::parse(parameters), ..RtpCodecCapability::video("VP9") }
    }

    #[test]
    fn name_clock_rate_and_channels_must_agree() {
        let opus = RtpCodecCapability::opus();
        assert!(matches(&opus, &RtpCodecCapability::opus()));
        assert!(!matches(&opus, &RtpCodecCapability { channels: Some(1), ..opus.clone() }));
        assert!(!matches(&opus, &RtpCodecCapability { clock_rate: 24_000, ..opus.clone() }));
        assert!(!matches(&RtpCodecCapability::video("VP8"), &RtpCodecCapability::video("VP9")));
        assert!(matches(&RtpCodecCapability::video("vp8"), &RtpCodecCapability::video("VP8")));
    }

    #[test]
    fn missing_channels_are_one_of_audio_and_none_of_video() {
        let mono = RtpCodecCapability { channels: Some(1), ..RtpCodecCapability::opus() };
        assert!(matches(&mono, &RtpCodecCapability { channels: None, ..mono.clone() }));
        let vp8 = RtpCodecCapability::video("VP8");
        assert!(matches(&vp8, &RtpCodecCapability { channels: Some(2), ..vp8.clone() }));
    }

    #[test]
    fn h264_must_agree_in_packetization_mode_and_profile_but_not_in_level() {
        let own = h264("packetization-mode=1;profile-level-id=42e01f");
        assert!(matches_exactly(&own, &h264("profile-level-id=42e034;packetization-mode=1")));
        assert!(!matches_exactly(&own, &h264("profile-level-id=42e01f;packetization-mode=0")));
        assert!(!matches_exactly(&own, &h264("profile-level-id=42e01f")), "missing is 0");
        assert!(!matches_exactly(&own, &h264("profile-level-id=64001f;packetization-mode=1")));
        assert!(!matches_exactly(&own, &h264("profile-level-id=zzzzzz;packetization-mode=1")));
        assert!(!matches_exactly(&h264("packetization-mode=x"), &h264("packetization-mode=x")));
        assert!(matches(&own, &h264("")), "only the exact match asks for it");
    }

    #[test]
    fn vp9_must_agree_in_its_profile() {
        assert!(matches_exactly(&vp9(""), &vp9("profile-id=0")), "missing is 0");
        assert!(!matches_exactly(&vp9("profile-id=2"), &vp9("profile-id=0")));
        assert!(matches(&vp9("profile-id=2"), &vp9("profile-id=0")));
    }

    #[test]
    fn constrained_baseline_is_decoded_by_every_profile() {
        let stream = h264("packetization-mode=1;profile-level-id=42e01f");
        for decoder in ["42001f", "4d001f", "64001f", "640c1f"] {
            let decoder = h264(&format!("packetization-mode=1;profile-level-id={decoder}"));
            assert!(decodes(&decoder, &stream) && !decodes(&stream, &decoder));
        }
        assert!(!decodes(&h264("profile-level-id=64001f"), &stream), "another packetization mode");
    }
}
