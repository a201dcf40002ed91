use lenscast_media::{Codec, MediaCodec, Resolution};

use super::h264::H264Payload;
use super::vp9::Vp9Descriptor;
use crate::vp8::Vp8Descriptor;

/// What a packet's payload says of its frame, whatever the codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PayloadFacts {
    /// It is the first packet of its frame, as far as the payload can tell.
    pub(super) begins_frame: bool,
    /// Its frame is one that a decoder can start with. Said by the packet that begins it, and perhaps by others.
    pub(super) key_frame: bool,
    pub(super) temporal_layer: u8,
    pub(super) layer_sync: bool,
    pub(super) resolution: Option<Resolution>,
}

impl PayloadFacts {
    /// `None` if the payload is malformed.
    #[inline]
    pub(super) fn read(codec: MediaCodec, payload: &[u8]) -> Option<Self> {
        Some(match codec {
            MediaCodec::Video(Codec::Vp8) => {
                let descriptor = Vp8Descriptor::read(payload)?;
                let key_frame = descriptor.begins_key_frame(payload);
                Self {
                    begins_frame: descriptor.begins_frame,
                    key_frame,
                    temporal_layer: descriptor.temporal_layer,
                    layer_sync: descriptor.layer_sync || key_frame,
                    resolution: if key_frame { descriptor.resolution(payload) } else { None },
                }
            }
            MediaCodec::Video(Codec::Vp9) => {
                let descriptor = Vp9Descriptor::read(payload)?;
                Self {
                    begins_frame: descriptor.begins_frame,
                    key_frame: descriptor.key_frame,
                    temporal_layer: descriptor.temporal_layer,
                    layer_sync: descriptor.layer_sync || descriptor.key_frame,
                    resolution: descriptor.resolution,
                }
            }
            MediaCodec::Video(Codec::H264) => {
                let read = H264Payload::read(payload)?;
                Self {
                    begins_frame: read.may_begin_frame,
                    key_frame: read.key_frame,
                    // RFC 6184 has no sign of temporal layers.
                    temporal_layer: 0,
                    layer_sync: read.key_frame,
                    resolution: read.resolution,
                }
            }
            // Every packet stands for itself (RFC 7587 §4.2).
            MediaCodec::Opus => {
                Self { begins_frame: true, key_frame: true, temporal_layer: 0, layer_sync: false, resolution: None }
            }
        })
    }
}
