//! Who stands on trial: the controllers, each behind [`NetworkController`].

mod fixed;
mod interceptor;
#[cfg_attr(not(test), expect(dead_code, reason = "its flow is to follow"))]
mod str0m;

use std::time::Instant;

use lenscast_congestion::{EstimateBounds, GoogleController, NetworkController};

use fixed::Fixed;
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
}

/// A fresh controller of this kind.
pub(crate) fn build(controller: Controller, now: Instant, bounds: EstimateBounds) -> Box<dyn NetworkController> {
    match controller {
        Controller::Google => Box::new(GoogleController::new(now, bounds)),
        Controller::Interceptor => Box::new(Interceptor::new(now, bounds)),
        Controller::Str0m => Box::new(Fixed::new(now, bounds)),
    }
}
