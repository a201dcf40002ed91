use lenscast_media::LayerSet;

/// The way from a producer back to its source. Called from the worker's thread: it must not block.
///
/// An encoder implements it by what it encodes, a mirror by telling its home worker.
pub trait Upstream: Send + Sync {
    /// Exactly these layers are of use from now on. May be called again with the same.
    fn set_wanted(&self, layers: LayerSet);

    /// Somebody cannot go on without a key frame of this layer. May be called often; the source throttles.
    fn request_key_frame(&self, layer: u8);

    /// The producer has ended: nothing is of use any more, and nothing more will be asked for.
    fn close(&self) {
        self.set_wanted(LayerSet::EMPTY);
    }
}
