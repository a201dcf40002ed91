#![no_main]
// The payload of a VP9 RTP packet.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_router::fuzzing::vp9_descriptor(data));
