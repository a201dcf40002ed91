use std::time::Instant;

use crate::ProducerParameters;
/// placeholder
#[derive(Debug)]
pub(crate) struct ReceiveLink {}
impl ReceiveLink {
    pub(crate) fn new(_: &ProducerParameters, _: Instant) -> Self {
        Self {}
    }
    pub(crate) fn request_key_frame(&mut self, _: Instant, _: u8) {}
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
