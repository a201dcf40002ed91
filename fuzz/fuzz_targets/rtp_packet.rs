#![no_main]
// A decrypted RTP packet.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_router::fuzzing::rtp_packet(data));
