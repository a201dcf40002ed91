#![no_main]
// STUN that nobody signed: neither a check nor an answer.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_transport::fuzzing::stun(data));
