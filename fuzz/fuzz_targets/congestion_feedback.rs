#![no_main]
// RFC 8888 feedback to packets that leave between the messages.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_congestion::fuzzing::congestion_feedback(data));
