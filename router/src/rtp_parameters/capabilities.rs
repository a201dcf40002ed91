use std::collections::VecDeque;

use thiserror::Error;

use super::matching::matches;
use super::{
    ExtensionUri, FormatParameters, MimeType, RtcpFeedback, RtpCodecCapability, RtpHeaderExtensionCapability,
    ValidationError,
};
use crate::{MediaKind, PayloadType};

/// What an endpoint could send or receive: a router, or the other side of a transport.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RtpCapabilities {
    /// Its codecs, in order of preference, RTX among them.
    pub codecs: Vec<RtpCodecCapability>,
    /// Its header extensions.
    pub header_extensions: Vec<RtpHeaderExtensionCapability>,
}

/// The payload types that are given out, in this order (mediasoup's `DynamicPayloadTypes`): those that no fixed mapping of
/// RFC 3551 and no RTCP packet type of RFC 5761 §4 takes, the ones that other programs like best last.
pub const DYNAMIC_PAYLOAD_TYPES: [u8; 32] = [
    100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,
    123, 124, 125, 126, 127, 96, 97, 98, 99,
];

/// Why a router cannot speak what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouterCapabilitiesError {
    /// What was asked for is not sound in itself.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// A codec that cannot be forwarded.
    #[error("codecs[{index}] is {mime_type} at {clock_rate} Hz with {channels:?} channels, which is not supported")]
    UnsupportedCodec {
        /// Its position.
        index: usize,
        /// Its name.
        mime_type: MimeType,
        /// Its clock rate.
        clock_rate: u32,
        /// Its channels.
        channels: Option<u8>,
    },
    /// A payload type was asked for that another codec has, or was given.
    #[error("codecs[{index}].preferredPayloadType is {payload_type}, which is taken")]
    DuplicatePayloadType {
        /// The codec's position.
        index: usize,
        /// The payload type.
        payload_type: PayloadType,
    },
    /// More codecs than there are payload types.
    #[error("codecs[{index}] gets no payload type: all {} dynamic ones are given out", DYNAMIC_PAYLOAD_TYPES.len())]
    PayloadTypesExhausted {
        /// The codec's position.
        index: usize,
    },
}

impl RtpCapabilities {
    /// All that can be forwarded, without payload types.
    #[must_use]
    pub fn supported() -> Self {
        let video = |encoding_name: &str| RtpCodecCapability {
            feedback: RtcpFeedback::ALL.to_vec(),
            ..RtpCodecCapability::video(encoding_name)
        };
        let h264 = RtpCodecCapability {
            parameters: FormatParameters::new().with("level-asymmetry-allowed", "1"),
            ..video("H264")
        };
        let opus = RtpCodecCapability {
            feedback: vec![RtcpFeedback::Nack, RtcpFeedback::TransportCc],
            ..RtpCodecCapability::opus()
        };
        let extensions = ExtensionUri::ALL.into_iter().flat_map(|uri| {
            [MediaKind::Audio, MediaKind::Video].into_iter().filter_map(move |kind| {
                let direction = uri.router_direction(kind)?;
                Some(RtpHeaderExtensionCapability { kind, uri, preferred_id: uri.router_id(), direction })
            })
        });
        Self { codecs: vec![opus, video("VP8"), video("VP9"), h264], header_extensions: extensions.collect() }
    }

    /// What a router speaks that is to forward `codecs`: each under a payload type of its own, RTX beside each of video.
    ///
    /// Payload types that are asked for are kept; the others are taken from [`DYNAMIC_PAYLOAD_TYPES`]. Feedback is what is
    /// supported, whatever is asked for; parameters are merged.
    ///
    /// # Errors
    ///
    /// If a codec is not sound or not supported, or if there is no payload type for it.
    pub fn of_router(codecs: &[RtpCodecCapability]) -> Result<Self, RouterCapabilitiesError> {
        let supported = Self::supported();
        let mut free: VecDeque<u8> = DYNAMIC_PAYLOAD_TYPES.into();
        let mut speaks = Self { codecs: Vec::new(), header_extensions: supported.header_extensions };
        for (index, asked) in codecs.iter().enumerate() {
            validate_alone(index, asked)?;
            let known = supported.codecs.iter().find(|known| matches(*known, asked)).ok_or_else(|| {
                RouterCapabilitiesError::UnsupportedCodec {
                    index,
                    mime_type: asked.mime_type.clone(),
                    clock_rate: asked.clock_rate,
                    channels: asked.channels,
                }
            })?;
            let payload_type = match asked.preferred_payload_type {
                Some(payload_type) => {
                    free.retain(|&other| other != payload_type.value());
                    payload_type
                }
                None => take(&mut free, index)?,
            };
            if speaks.codecs.iter().any(|other| other.preferred_payload_type == Some(payload_type)) {
                return Err(RouterCapabilitiesError::DuplicatePayloadType { index, payload_type });
            }
            let kind = known.mime_type.kind();
            speaks.codecs.push(RtpCodecCapability {
                preferred_payload_type: Some(payload_type),
                parameters: known.parameters.clone().merged(&asked.parameters),
                ..known.clone()
            });
            if kind == MediaKind::Video {
                speaks.codecs.push(RtpCodecCapability {
                    preferred_payload_type: Some(take(&mut free, index)?),
                    parameters: FormatParameters::new().with("apt", &payload_type.to_string()),
                    ..RtpCodecCapability::video("rtx")
                });
            }
        }
        Ok(speaks)
    }

    /// The RTX codec that sends packets of `payload_type` again.
    pub(super) fn rtx_of(&self, payload_type: PayloadType) -> Option<&RtpCodecCapability> {
        self.codecs.iter().find(|codec| codec.mime_type.is_rtx() && codec.parameters.apt() == Some(payload_type))
    }
}

fn take(free: &mut VecDeque<u8>, index: usize) -> Result<PayloadType, RouterCapabilitiesError> {
    let payload_type = free.pop_front().and_then(PayloadType::new);
    payload_type.ok_or(RouterCapabilitiesError::PayloadTypesExhausted { index })
}

/// RTX is not asked for: it comes with its codec.
fn validate_alone(index: usize, codec: &RtpCodecCapability) -> Result<(), RouterCapabilitiesError> {
    let alone = RtpCapabilities { codecs: vec![codec.clone()], header_extensions: Vec::new() };
    alone.validate().map_err(|error| RouterCapabilitiesError::Invalid(error.at_codec(index)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payload_type(value: u8) -> PayloadType {
        PayloadType::new(value).unwrap()
    }

    fn preferring(value: u8, codec: RtpCodecCapability) -> RtpCodecCapability {
        RtpCodecCapability { preferred_payload_type: Some(payload_type(value)), ..codec }
    }

    fn payload_types(capabilities: &RtpCapabilities) -> Vec<u8> {
        capabilities.codecs.iter().map(|codec| codec.preferred_payload_type.unwrap().value()).collect()
    }

    #[test]
    fn payload_types_come_from_the_pool_in_order_with_rtx_behind_each_video_codec() {
        let h264 = RtpCodecCapability {
            parameters: FormatParameters::parse("profile-level-id=42e01f;foo=bar"),
            ..RtpCodecCapability::video("H264")
        };
        let asked = [RtpCodecCapability::opus(), preferring(125, RtpCodecCapability::video("VP8")), h264];
        let router = RtpCapabilities::of_router(&asked).unwrap();
        assert_eq!(payload_types(&router), [100, 125, 101, 102, 103]);
        let apt: Vec<_> = router.codecs.iter().map(|codec| codec.parameters.apt()).collect();
        assert_eq!(apt, [None, None, Some(payload_type(125)), None, Some(payload_type(102))]);
        assert_eq!(
            router.codecs[3].parameters.to_string(),
            "level-asymmetry-allowed=1;profile-level-id=42e01f;foo=bar"
        );
        assert_eq!(router.codecs[0].feedback, [RtcpFeedback::Nack, RtcpFeedback::TransportCc]);
        assert_eq!(router.codecs[1].feedback, RtcpFeedback::ALL, "not what was asked for: nothing");
        assert!(router.codecs[2].feedback.is_empty());
        router.validate().unwrap();
    }

    #[test]
    fn a_codec_that_cannot_be_forwarded_is_named() {
        let chicken = RtpCodecCapability { mime_type: "audio/chicken".parse().unwrap(), ..RtpCodecCapability::opus() };
        let error = RtpCapabilities::of_router(&[RtpCodecCapability::opus(), chicken]).unwrap_err();
        assert!(error.to_string().starts_with("codecs[1] is audio/chicken at 48000 Hz"), "{error}");
        let mono = RtpCodecCapability { channels: Some(1), ..RtpCodecCapability::opus() };
        let error = RtpCapabilities::of_router(&[mono]).unwrap_err();
        assert!(matches!(error, RouterCapabilitiesError::UnsupportedCodec { index: 0, channels: Some(1), .. }));
    }

    #[test]
    fn more_codecs_than_payload_types_is_an_error() {
        let many = vec![RtpCodecCapability::opus(); 33];
        assert_eq!(
            RtpCapabilities::of_router(&many),
            Err(RouterCapabilitiesError::PayloadTypesExhausted { index: 32 })
        );
        assert_eq!(RtpCapabilities::of_router(&many[..32]).unwrap().codecs.len(), 32);
        let videos = vec![RtpCodecCapability::video("VP8"); 17];
        assert_eq!(
            RtpCapabilities::of_router(&videos),
            Err(RouterCapabilitiesError::PayloadTypesExhausted { index: 16 })
        );
    }

    #[test]
    fn a_payload_type_that_is_taken_is_an_error() {
        let vp8 = || RtpCodecCapability::video("VP8");
        let twice = RtpCapabilities::of_router(&[preferring(96, vp8()), preferring(96, vp8())]);
        let duplicate =
            |value| RouterCapabilitiesError::DuplicatePayloadType { index: 1, payload_type: payload_type(value) };
        assert_eq!(twice, Err(duplicate(96)));
        let given = RtpCapabilities::of_router(&[vp8(), preferring(101, vp8())]);
        assert_eq!(given, Err(duplicate(101)), "it went to the RTX of the first");
    }

    #[test]
    fn what_is_asked_for_must_be_sound() {
        let still = RtpCodecCapability { clock_rate: 0, ..RtpCodecCapability::video("VP8") };
        let error = RtpCapabilities::of_router(&[RtpCodecCapability::opus(), still]).unwrap_err();
        assert_eq!(error.to_string(), "codecs[1].clockRate is \"0\", must be above 0");
    }

    proptest! {
        /// Whatever is asked for, no payload type is given out twice and every RTX belongs to the codec before it.
        #[test]
        fn what_a_router_speaks_is_sound(asked in prop::collection::vec((0_usize..4, prop::option::of(0_u8..=127)), 0..40)) {
            let supported = RtpCapabilities::supported();
            let asked: Vec<_> = asked
                .into_iter()
                .map(|(codec, preferred)| RtpCodecCapability {
                    preferred_payload_type: preferred.and_then(PayloadType::new),
                    ..supported.codecs[codec].clone()
                })
                .collect();
            if let Ok(router) = RtpCapabilities::of_router(&asked) {
                prop_assert_eq!(router.validate(), Ok(()));
                for pair in router.codecs.windows(2).filter(|pair| pair[1].mime_type.is_rtx()) {
                    prop_assert_eq!(pair[1].parameters.apt(), pair[0].preferred_payload_type);
                }
                let media = router.codecs.iter().filter(|codec| !codec.mime_type.is_rtx());
                prop_assert_eq!(media.count(), asked.len());
            }
        }
    }
}
