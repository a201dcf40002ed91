//! Who stands on trial: controllers behind [`NetworkController`], and str0m's in peers of its own.

mod interceptor;
pub(crate) mod str0m;

use std::time::Instant;

use lenscast_congestion::{EstimateBounds, GoogleController, NetworkController};

use interceptor::Interceptor;

/// A congestion controller that a case can be run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// Ours.
    Google,
    /// The one of the crate `rtc-interceptor`.
    Interceptor,
    /// The one of the crate `str0m`.
    Str0m,
}

impl Controller {
    /// All of them, in the order of the table's rows.
    pub const ALL: [Self; 3] = [Self::Google, Self::Interceptor, Self::Str0m];

    /// As it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Interceptor => "interceptor",
            Self::Str0m => "str0m",
        }
    }

    /// It answers to Congestion Experienced. The packets of one that does not must not say that they can be marked
    /// (RFC 3168, section 6.1).
    pub(crate) const fn reads_marks(self) -> bool {
        matches!(self, Self::Google)
    }
}

/// A fresh controller of this kind, but for str0m's, which comes with peers of its own: see [`str0m`].
pub(crate) fn build(
    controller: Controller,
    now: Instant,
    bounds: EstimateBounds,
) -> Option<Box<dyn NetworkController>> {
    match controller {
        Controller::Google => Some(Box::new(GoogleController::new(now, bounds))),
        Controller::Interceptor => Some(Box::new(Interceptor::new(bounds))),
        Controller::Str0m => None,
    }
}
