//! Time within the simulation: whole nanoseconds since its beginning.

use std::time::Duration;

/// Nanoseconds since the beginning, enough for 584 years.
pub(crate) type Nanos = u64;

/// What never happens happens then.
pub(crate) const NEVER: Nanos = Nanos::MAX;

/// A span in nanoseconds; what is too long becomes [`NEVER`].
pub(crate) fn nanos(span: Duration) -> Nanos {
    Nanos::try_from(span.as_nanos()).unwrap_or(NEVER)
}
