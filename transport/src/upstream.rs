/// The source of a producer, seen from the workers that forward it. Called from their threads: it must not block.
pub trait Upstream: Send + Sync {
    /// Somebody is there to be served. As long as what this returns lives, the source should produce.
    fn subscribe(&self) -> Box<dyn Send>;

    /// A viewer cannot go on without a key frame. May be called often; the source throttles.
    fn request_key_frame(&self);
}
