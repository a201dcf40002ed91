#![no_main]
// Transport-wide feedback to packets that leave between the messages.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_congestion::fuzzing::transport_feedback(data));
