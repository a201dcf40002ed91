use std::time::Instant;

/// The time. It stands still in a model, which must do the same whenever it takes the same way.
pub(crate) fn now() -> Instant {
    #[cfg(lenscast_loom)]
    {
        static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *NOW.get_or_init(Instant::now)
    }
    #[cfg(not(lenscast_loom))]
    Instant::now()
}
