#![no_main]
// An SDP offer of a publisher: an answer or an error.
libfuzzer_sys::fuzz_target!(|text: &str| lenscast_transport::fuzzing::publisher_offer(text));
