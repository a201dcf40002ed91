#![no_main]
// A sealed RTP or RTCP packet: nothing that was not sealed with the key gets through.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_transport::fuzzing::srtp(data));
