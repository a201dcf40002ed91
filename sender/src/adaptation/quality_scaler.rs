use super::Adapt;
use lenscast_media::Codec;
use std::time::Instant;
pub(crate) enum FrameOutcome {
    Encoded { quantizer: Option<u8> },
    Dropped,
}
pub(crate) struct QualityScaler;
impl QualityScaler {
    pub(crate) fn new(_: Codec) -> Self {
        Self
    }
    pub(crate) fn handle_frame(&mut self, _: Instant, _: FrameOutcome) -> Option<Adapt> {
        None
    }
    pub(crate) fn reset(&mut self, _: Instant) {}
}
