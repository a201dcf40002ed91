use std::time::{Duration, Instant};

/// Far longer than anything takes; reached only by a failure.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// How often a state that announces itself to nobody is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Looks until there is something to see. Panics, naming `what`, if there is nothing within [`BOUND`].
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(BOUND, look).unwrap_or_else(|| panic!("waited {BOUND:?} in vain for {what}"))
}

/// Looks until there is something to see, or `bound` has passed.
pub(crate) fn within<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PERIOD);
    }
}
