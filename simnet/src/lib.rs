//! A network in virtual time.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]
