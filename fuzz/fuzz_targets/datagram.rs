#![no_main]
// Datagrams to a worker's port, from strangers and from a viewer whose address has been proved: STUN, DTLS, RTP, RTCP.
libfuzzer_sys::fuzz_target!(|data: &[u8]| lenscast_transport::fuzzing::datagrams(data));
