//! What makes a pipe one: shared by all who ask for it, and made or not made.

mod promise;
pub mod registry;
