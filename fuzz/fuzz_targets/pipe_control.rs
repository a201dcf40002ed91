#![no_main]
// What the ends of a pipe tell each other: read back as it was written.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_transport::fuzzing::pipe_control(data));
