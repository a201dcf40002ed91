//! What the tests of this module share.

use std::sync::OnceLock;
use std::time::Instant;

/// A time to count from: the same one for a whole run.
#[expect(clippy::disallowed_methods, reason = "tests need some time to begin with")]
pub(super) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
