#![no_main]
// The payload of a VP8 RTP packet.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_router::fuzzing::vp8_descriptor(data));
