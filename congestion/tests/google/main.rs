//! Google congestion control from outside: whole trials over a simulated link, and properties on any input.

mod properties;
mod scenarios;
mod trial;
