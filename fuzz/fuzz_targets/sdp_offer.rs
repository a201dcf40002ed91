#![no_main]
// The body of a POST, and our answer to it.
libfuzzer_sys::fuzz_target!(|text: &str| lenscast_transport::fuzzing::offer(text));
