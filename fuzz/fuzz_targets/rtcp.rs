#![no_main]
// A decrypted compound RTCP packet.
use lenscast_router::rtcp::{Packet, read};

libfuzzer_sys::fuzz_target!(|compound: &[u8]| {
    for packet in read(compound).flatten() {
        match packet {
            Packet::Nack { lost, .. } => assert!(lost.sequences().count() <= compound.len() * 5),
            Packet::Names(names) => assert!(names.count() <= compound.len() / 4),
            Packet::Goodbyes(sources) => assert!(sources.count() <= 31),
            Packet::SenderReport(report) => assert!(report.reports.count() <= 31),
            _ => {}
        }
    }
});
