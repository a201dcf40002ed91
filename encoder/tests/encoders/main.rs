//! The encoders against real decoders. Time is virtual throughout: timestamps are arguments.

#![cfg(all(feature = "vpx", feature = "h264"))]

mod bad_input;
mod bitstream;
mod content;
mod decoder;
mod fidelity;
mod first_frame;
mod key_frames;
mod lifecycle;
mod rate;
mod stream;
mod temporal_layers;
