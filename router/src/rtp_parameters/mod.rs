//! RTP capabilities and parameters, and how one becomes the other: what of a producer's stream the router understands,
//! under which numbers it knows it, and what of that each consumer is given.
//!
//! The terms are those of the W3C (WebRTC, ORTC): *capabilities* say what an endpoint could do, *parameters* what one stream
//! does. Everything here is a pure function of them; SSRCs, which must be random, are handed in. The rules are those of
//! mediasoup (`node/src/ortc.ts`), where nothing else is said.
//!
//! | step | function | in mediasoup |
//! |---|---|---|
//! | what the router speaks: payload types given out, RTX beside each video codec | [`RtpCapabilities::of_router`] | `generateRouterRtpCapabilities` |
//! | a producer's payload types and encodings → the router's | [`map_producer`] | `getProducerRtpParametersMapping` |
//! | the producer's stream in the router's numbers | [`consumable_parameters`] | `getConsumableRtpParameters` |
//! | could this endpoint decode it? | [`can_consume`] | `canConsume` |
//! | what one consumer is sent: one encoding, RTX beside it | [`consumer_parameters`] | `getConsumerRtpParameters` |
//! | what a pipe is sent: all encodings, optional RTX | [`pipe_consumer_parameters`] | `getPipeConsumerRtpParameters` |
//!
//! What comes from outside is first asked whether it is sound: [`RtpCapabilities::validate`], [`RtpParameters::validate`]
//! (the functions above do it themselves). An error names the field and its value.
//!
//! **From SDP.** `a=rtpmap` is [`MimeType`], clock rate and channels; `a=fmtp` is [`FormatParameters::parse`]; `a=rtcp-fb` is
//! [`RtcpFeedback::parse`] and `a=extmap` [`ExtensionUri::parse`], both `None` for what nobody here understands, which is then
//! left out; `a=rid` and `a=ssrc` are [`RtpEncodingParameters`]. A viewer's section is [`RtpCapabilities`] whose preferred
//! payload types and identifiers are the viewer's own, and its consumer is made with [`Numbering::Remote`]; a publisher's
//! section is [`RtpParameters`], whose agreed form ([`ProducerMapping::agreed`]) is the answer.
//!
//! **To the engine.** [`RtpParameters::media_codec`], [`RtpParameters::to_producer`], [`RtpParameters::sent_extensions`] and
//! [`RtpParameters::rtx_of`] give what [`ProducerParameters`](crate::ProducerParameters) and
//! [`ConsumerParameters`](crate::ConsumerParameters) are made of.
//!
//! **Deviations from mediasoup.**
//! - Codecs are those that the engine can forward: Opus, VP8, VP9, H.264.
//! - Feedback and extensions unknown here are dropped when read, not carried along.
//! - A consumer may be given the receiver's payload types and extension identifiers ([`Numbering::Remote`]): in WHEP the
//!   viewer offers, and an answer must use the offer's numbers (RFC 3264 §6.1). mediasoup always uses the router's.
//! - A stream of H.264 constrained baseline goes to baseline, main and high decoders too, as each of them decodes it
//!   (RFC 6184 §8.1); an equal profile is preferred. mediasoup wants equal profiles.
//! - A missing `profile-level-id` means baseline level 1 (RFC 6184 §8.1), not constrained baseline level 3.1.
//! - Duplicate payload types, SSRCs, RIDs and extension identifiers within one producer are refused here; mediasoup lets its
//!   worker find them, or not.

mod capabilities;
mod codec;
mod consumer;
mod encoding;
mod engine;
mod feedback;
mod format;
mod h264;
mod header_extension;
mod mapping;
mod matching;
mod mime_type;
mod parameters;
#[cfg(test)]
mod tests;
mod validation;

pub use capabilities::{DYNAMIC_PAYLOAD_TYPES, RouterCapabilitiesError, RtpCapabilities};
pub use codec::{CodecIdentity, RtpCodecCapability, RtpCodecParameters};
pub use consumer::{
    ConsumeError, ConsumerOptions, Numbering, can_consume, consumer_parameters, pipe_consumer_parameters,
};
pub use encoding::{RtpEncodingParameters, ScalabilityMode};
pub use feedback::RtcpFeedback;
pub use format::FormatParameters;
pub use h264::{H264Level, H264Profile, ProfileLevelId};
pub use header_extension::{Direction, ExtensionUri, RtpHeaderExtensionCapability, RtpHeaderExtensionParameters};
pub use mapping::{MappedCodec, MappedEncoding, MappingError, ProducerMapping, consumable_parameters, map_producer};
pub use matching::{matches, matches_exactly};
pub use mime_type::{MimeType, ParseMimeTypeError};
pub use parameters::{RtcpParameters, RtpParameters};
pub use validation::ValidationError;
