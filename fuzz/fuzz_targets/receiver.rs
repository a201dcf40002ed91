#![no_main]
// What a publisher sends: RTP packets with time between them.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_router::fuzzing::receiver(data));
