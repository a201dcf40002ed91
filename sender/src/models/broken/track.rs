use lenscast_encoder::VideoEncoder;

use super::{Track, TrackControl};

impl Track {
    /// Installs an encoder whose target is set in another way.
    pub(crate) fn install_publishing(
        &self,
        layer: usize,
        encoder: Box<dyn VideoEncoder>,
        publish: impl FnOnce(&TrackControl),
    ) {
        let old = {
            let mut slot = self.encoder.write();
            publish(&self.control);
            slot.exchange(layer, Some(encoder))
        };
        drop(old);
    }

    /// Does not say that it has ended.
    pub(crate) fn end_encoding_in_silence(&self) {
        let old = std::mem::take(&mut self.encoder.write().encoders);
        drop(old);
    }
}
