#![no_main]
// The payload of an H.264 RTP packet.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_router::fuzzing::h264_payload(data));
