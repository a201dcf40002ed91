//! What the sender that this one replaces gets wrong, each as a test that names what must hold instead. The numbers are those
//! of docs/concurrency.md; faults that belong to another crate are tested there, and that page says where.

mod allocation;
mod bad_input;
mod ceilings;
mod concurrency;
mod layers;
mod media;
mod scene;
