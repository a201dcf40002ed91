#![no_main]
// Authentic RTP and RTCP of a publisher with any content: forwarded or dropped.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_transport::fuzzing::published(data));
