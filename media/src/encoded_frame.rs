use crate::{Codec, Resolution};

/// What an encoder made of one picture. Borrows the encoder's own output buffer.
#[derive(Debug, Clone, Copy)]
pub struct EncodedFrame<'a> {
    /// The bitstream: a VP8 or VP9 frame, or an H.264 access unit in Annex B form (start codes between NAL units).
    pub data: &'a [u8],
    /// Says how `data` is to be read.
    pub codec: Codec,
    /// True if a decoder can start here.
    pub key_frame: bool,
    /// The size that was encoded.
    pub resolution: Resolution,
    /// The temporal layer, 0 for the base.
    pub temporal_layer: u8,
    /// True if this frame depends on base-layer frames only, so that a decoder may switch up to its layer here.
    pub layer_sync: bool,
    /// The quantizer in the codec's own scale (VP8 0–127, VP9 0–255, H.264 0–51), where the encoder tells it.
    pub quantizer: Option<u8>,
}
