use super::*;
use crate::rtcp::{self, Packet};

fn pad(scene: &mut Scene, bytes: usize) -> usize {
    scene.out.rtp.clear();
    scene.worker.pad(scene.now, TransportId(1), bytes, &mut scene.out)
}

#[test]
fn padding_sends_the_newest_packets_again_and_fills_up_with_nothing() {
    let mut scene = Scene::new().connected_viewer(1);
    assert_eq!(pad(&mut scene, 1_000), 0, "nothing has gone out yet");
    scene.burst(0, 3, true);
    let padded = pad(&mut scene, 700);
    let packets = scene.sent_to(1);
    assert_eq!(padded, 700);
    assert!(packets.iter().all(|packet| (packet.header.ssrc, packet.header.payload_type) == (2_001, 97)));
    assert!(packets.iter().zip(7..).all(|(packet, sequence)| packet.header.sequence_number == sequence));
    let (again, nothing) = packets.split_at(3);
    let originals: Vec<_> =
        again.iter().map(|packet| u16::from_be_bytes([packet.payload[0], packet.payload[1]])).collect();
    assert_eq!(originals, [32_002, 32_001, 32_000]);
    assert_eq!(again[0].payload.len(), 2 + 108);
    assert!(!nothing.is_empty());
    for packet in nothing {
        assert!(packet.header.padding && packet.payload.is_empty(), "{packet:?}");
    }
    let stats = scene.stats(1);
    assert_eq!((stats.padding_packets_sent, stats.retransmitted_packets_sent), (packets.len() as u64, 0));
    scene.rtcp(1, &nack(1, &[32_001]));
    assert_eq!(scene.stats(1).retransmitted_packets_sent, 1, "what pads is not what was asked for");
}

#[test]
fn padding_is_bounded_and_none_without_a_stream_for_it() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 3, true);
    assert!(pad(&mut scene, usize::MAX / 8) < 10_000);
    assert_eq!(scene.sent_to(1).len(), 32);
    let slot = scene.worker.create_transport(HOME, TransportId(2), TransportKind::WebRtc).unwrap();
    scene.out.by_slot.insert(slot, TransportId(2));
    scene.worker.consume(scene.now, CAMERA.producer, ConsumerParameters { rtx: None, ..parameters(2) }).unwrap();
    scene.worker.connect_transport(scene.now, TransportId(2)).unwrap();
    scene.burst(3, 3, true);
    assert_eq!(scene.worker.pad(scene.now, TransportId(2), 1_000, &mut scene.out), 0);
}

#[test]
fn a_stream_that_was_broken_off_goes_on_with_a_key_frame_and_repairs_nothing_before_it() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 3, true);
    let _ = scene.asked();
    scene.worker.break_off(scene.now, TransportId(1), Ssrc(1_001));
    assert_eq!(scene.asked(), [Asked::KeyFrame(0)]);
    scene.out.rtp.clear();
    scene.rtcp(1, &nack(1, &[32_001]));
    scene.burst(3, 3, false);
    assert!(scene.sent_to(1).is_empty());
    scene.burst(6, 2, true);
    let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
    assert_eq!(sequences, [32_003, 32_004]);
    scene.rtcp(1, &nack(1, &[32_003]));
    assert_eq!(scene.stats(1).retransmitted_packets_sent, 1);
    scene.worker.break_off(scene.now, TransportId(1), Ssrc(77));
    scene.worker.break_off(scene.now, TransportId(9), Ssrc(1_001));
}

#[test]
fn congestion_control_feedback_is_left_to_whoever_drives() {
    let transport_wide = [0x8F, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 7, 0, 1, 0, 0, 0, 9];
    assert_eq!(rtcp::read(&transport_wide).next(), Some(Ok(Packet::TransportWide(&transport_wide[12..]))));
    let padded = [&[0xAF, 205, 0, 5][..], &transport_wide[4..], &[0, 0, 0, 4]].concat();
    assert_eq!(rtcp::read(&padded).next(), Some(Ok(Packet::TransportWide(&transport_wide[12..]))));
    let congestion_control = [0x8B, 205, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9];
    assert_eq!(rtcp::read(&congestion_control).next(), Some(Ok(Packet::CongestionControl(&congestion_control[8..]))));
    let short = [0x8F, 205, 0, 1, 0, 0, 0, 1];
    assert!(matches!(rtcp::read(&short).next(), Some(Err(_))));
}
