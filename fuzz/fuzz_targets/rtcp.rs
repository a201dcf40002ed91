#![no_main]
// A decrypted compound RTCP packet.
libfuzzer_sys::fuzz_target!(|compound: &[u8]| {
    for packet in lenscast_router::rtcp::read(compound).flatten() {
        if let lenscast_router::rtcp::Packet::Nack { lost, .. } = packet {
            assert!(lost.sequences().count() <= compound.len() * 5);
        }
    }
});
