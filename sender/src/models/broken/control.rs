use super::{Ordering, Published, TrackControl};
use lenscast_media::Bitrate;

impl TrackControl {
    /// Whoever comes last wins.
    pub(crate) fn publish_unnumbered(&self, layer: usize, sequence: u32, target: Bitrate) {
        let word = Published { sequence, bps: target.as_bps() as u32 }.to_word();
        self.layers[layer].target.store(word, Ordering::Release);
    }

    /// Compares, and then stores.
    pub(crate) fn publish_in_two_steps(&self, layer: usize, sequence: u32, target: Bitrate) {
        if sequence >= self.published(layer).sequence {
            self.publish_unnumbered(layer, sequence, target);
        }
    }
}
