//! What makes a pipe one: shared by all who ask for it, and made or not made.

pub(crate) mod promise;
pub mod registry;
