//! From parameters to what the engine needs of them.

use lenscast_media::{Codec, MediaCodec};

use super::{ExtensionUri, RtpParameters};
use crate::{EncodingParameters, HeaderExtensions, ProducerParameters, ReceivedExtensions};

impl RtpParameters {
    /// What the stream is encoded in; `None` if that cannot be forwarded.
    #[must_use]
    pub fn media_codec(&self) -> Option<MediaCodec> {
        let codec = self.codec()?;
        let all = Codec::ALL.into_iter().map(MediaCodec::Video).chain([MediaCodec::Opus]);
        all.into_iter()
            .find(|known| codec.mime_type.is(known.encoding_name()) && codec.clock_rate == known.clock_rate())
    }

    /// A producer that sends like this, in its own numbers: made of [`ProducerMapping::agreed`](super::ProducerMapping::agreed).
    /// Of several codecs the first counts. `None` if that cannot be forwarded.
    #[must_use]
    pub fn to_producer(&self) -> Option<ProducerParameters> {
        let (codec, payload_type) = (self.media_codec()?, self.codec()?.payload_type);
        let encodings = self.encodings.iter().map(|encoding| EncodingParameters {
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx_ssrc,
            rid: encoding.rid,
        });
        let temporal = self.encodings.iter().filter_map(|encoding| Some(encoding.scalability_mode?.temporal)).max();
        Some(ProducerParameters {
            codec,
            clock_rate: codec.clock_rate(),
            encodings: encodings.collect(),
            temporal_layers: temporal.unwrap_or(1),
            payload_type: Some(payload_type),
            rtx_payload_type: self.rtx_of(payload_type),
            mid: self.mid,
            returns_reference_times: false,
            extensions: self.received_extensions(),
        })
    }

    /// The extensions of packets that come like this.
    #[must_use]
    pub fn received_extensions(&self) -> ReceivedExtensions {
        ReceivedExtensions {
            mid: self.extension(ExtensionUri::Mid),
            rid: self.extension(ExtensionUri::RtpStreamId),
            repaired_rid: self.extension(ExtensionUri::RepairedRtpStreamId),
            absolute_send_time: self.extension(ExtensionUri::AbsoluteSendTime),
            transport_sequence: self.extension(ExtensionUri::TransportWideSequence),
            absolute_capture_time: self.extension(ExtensionUri::AbsoluteCaptureTime),
            playout_delay: self.extension(ExtensionUri::PlayoutDelay),
            video_orientation: self.extension(ExtensionUri::VideoOrientation),
            audio_level: self.extension(ExtensionUri::AudioLevel),
        }
    }

    /// The extensions of packets that are sent like this; the MID only if [`RtpParameters::mid`] says which.
    #[must_use]
    pub fn sent_extensions(&self) -> HeaderExtensions {
        HeaderExtensions {
            mid: self.extension(ExtensionUri::Mid).zip(self.mid),
            absolute_capture_time: self.extension(ExtensionUri::AbsoluteCaptureTime),
            playout_delay: self.extension(ExtensionUri::PlayoutDelay),
            video_orientation: self.extension(ExtensionUri::VideoOrientation),
            audio_level: self.extension(ExtensionUri::AudioLevel),
            absolute_send_time: self.extension(ExtensionUri::AbsoluteSendTime),
            transport_sequence: self.extension(ExtensionUri::TransportWideSequence),
        }
    }
}
