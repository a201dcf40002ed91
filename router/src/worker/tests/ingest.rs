use super::super::ingest::LOCAL_SOURCE;
use super::*;
use crate::rtcp;
use crate::{EncodingParameters, HandleRtpError, ProduceError};

const PUBLISHER: TransportId = TransportId(70);
const STREAM: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(70) };

fn stream() -> ProducerParameters {
    ProducerParameters {
        encodings: vec![EncodingParameters { ssrc: Some(Ssrc(42)), ..EncodingParameters::default() }],
        payload_type: PayloadType::new(100),
        rtx_payload_type: PayloadType::new(101),
        returns_reference_times: true,
        ..ProducerParameters::local(Codec::Vp8.into(), 1, 1)
    }
}

/// A publisher, and viewer 1 of what it sends.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let slot = scene.worker.create_transport(HOME, PUBLISHER, TransportKind::WebRtc).unwrap();
    scene.out.by_slot.insert(slot, PUBLISHER);
    scene.worker.connect_transport(scene.now, PUBLISHER).unwrap();
    scene.worker.produce(scene.now, PUBLISHER, STREAM.producer, stream(), Source::Rtp).unwrap();
    let slot = scene.worker.create_transport(HOME, TransportId(1), TransportKind::WebRtc).unwrap();
    scene.out.by_slot.insert(slot, TransportId(1));
    scene.worker.consume(scene.now, STREAM.producer, parameters(1)).unwrap();
    scene.worker.connect_transport(scene.now, TransportId(1)).unwrap();
    scene
}

/// A frame of one packet.
fn rtp(sequence: u16, key_frame: bool) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | 100];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 3_000).to_be_bytes());
    packet.extend_from_slice(&42_u32.to_be_bytes());
    let tag = if key_frame { [0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0] } else { [0x11; 10] };
    packet.push(0x10);
    packet.extend_from_slice(&tag);
    packet
}

fn receive(scene: &mut Scene, packets: &[Vec<u8>]) {
    for packet in packets {
        scene.worker.handle_rtp(scene.now, PUBLISHER, packet).unwrap();
    }
    scene.worker.end_of_batch(scene.now, &mut scene.out);
}

fn sequences(scene: &Scene) -> Vec<u16> {
    scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect()
}

/// Types and formats of the RTCP packets that the publisher got since the last call.
fn feedback(scene: &mut Scene) -> Vec<(u8, u8)> {
    while let Some(due) = scene.worker.poll_timeout().filter(|due| *due <= scene.now) {
        scene.worker.handle_timeout(due.max(scene.now), &mut scene.out);
    }
    let compounds = std::mem::take(&mut scene.out.rtcp);
    let to_publisher = compounds.iter().filter(|(transport, _)| *transport == PUBLISHER);
    let mut packets = Vec::new();
    for (_, compound) in to_publisher {
        let mut rest = &compound[..];
        while let [first, kind, high, low, ..] = *rest {
            packets.push((kind, first & 0x1F));
            rest = &rest[(usize::from(u16::from_be_bytes([high, low])) + 1) * 4..];
        }
    }
    packets
}

#[test]
fn what_is_published_is_asked_for_a_key_frame_and_forwarded() {
    let mut scene = scene();
    assert_eq!(scene.worker.producers.get(STREAM).unwrap().state.sending, LayerSet::EMPTY);
    receive(&mut scene, &[rtp(10, false)]);
    assert!(sequences(&scene).is_empty());
    assert!(feedback(&mut scene).contains(&(206, 1)), "a PLI");
    receive(&mut scene, &[rtp(11, true), rtp(12, false)]);
    assert_eq!(sequences(&scene), [32_000, 32_001]);
    assert_eq!(scene.worker.received_stats(STREAM).next().unwrap().packets_received, 3);
}

#[test]
fn what_is_lost_is_asked_for_and_takes_its_place_when_it_comes() {
    let mut scene = scene();
    receive(&mut scene, &[rtp(10, true)]);
    receive(&mut scene, &[rtp(11, true), rtp(13, false)]);
    assert_eq!(sequences(&scene).len(), 3);
    let _ = feedback(&mut scene);
    scene.now += Duration::from_millis(50);
    receive(&mut scene, &[rtp(14, false)]);
    scene.now += Duration::from_millis(50);
    let _ = feedback(&mut scene);
    receive(&mut scene, &[rtp(12, false)]);
    let mut sent = sequences(&scene);
    assert_eq!(sent.last(), Some(&(sent[0] + 2)), "late, in its place");
    sent.sort_unstable();
    assert!(sent.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

/// When the publisher was asked for a lost packet again after it was asked first.
fn asked_again_after(scene: &mut Scene) -> Duration {
    receive(scene, &[rtp(10, true), rtp(13, false)]);
    let mut asked = Vec::new();
    for _ in 0..1_000 {
        scene.now += Duration::from_millis(1);
        if feedback(scene).contains(&(205, 1)) {
            asked.push(scene.now);
        }
    }
    asked[1] - asked[0]
}

#[test]
fn a_lost_packet_is_waited_for_as_long_as_the_publishers_round_trip_takes() {
    let unmeasured = asked_again_after(&mut scene());
    assert!((100..=141).contains(&unmeasured.as_millis()), "{unmeasured:?}");

    let mut scene = scene();
    receive(&mut scene, &[rtp(9, true)]);
    scene.now += Duration::from_secs(1);
    while let Some(due) = scene.worker.poll_timeout().filter(|due| *due <= scene.now) {
        scene.worker.handle_timeout(due.max(scene.now), &mut scene.out);
    }
    let extended = |compound: &[u8]| {
        rtcp::read(compound).find_map(|packet| match packet.unwrap() {
            rtcp::Packet::Extended { mut blocks, .. } => blocks.next(),
            _ => None,
        })
    };
    let sent = scene.out.rtcp.iter().filter(|(to, _)| *to == PUBLISHER).find_map(|(_, compound)| extended(compound));
    let Some(rtcp::ExtendedBlock::ReferenceTime(ntp)) = sent else { panic!("{sent:?}") };
    // Held for 200 ms of 600.
    scene.now += Duration::from_millis(600);
    for (receiver, last_report) in [(LOCAL_SOURCE, ntp.compact()), (Ssrc(7), 0), (LOCAL_SOURCE, 0)] {
        let mut compound = Compound::new();
        compound.push_receiver_report(Ssrc(42));
        compound.push_dlrr(Ssrc(42), receiver, last_report, 65_536 / 5);
        scene.worker.handle_rtcp(scene.now, PUBLISHER, compound.as_bytes(), &mut scene.out).unwrap();
    }
    let measured = asked_again_after(&mut scene);
    assert!((400..=441).contains(&measured.as_millis()), "{measured:?}");
}

#[test]
fn a_paused_stream_is_still_received() {
    let mut scene = scene();
    receive(&mut scene, &[rtp(10, true)]);
    receive(&mut scene, &[rtp(11, true)]);
    let forwarded = sequences(&scene).len();
    scene.worker.pause_producer(scene.now, STREAM, &mut scene.out).unwrap();
    receive(&mut scene, &[rtp(12, true)]);
    assert_eq!(sequences(&scene).len(), forwarded);
    assert_eq!(scene.worker.received_stats(STREAM).next().unwrap().packets_received, 3);
    scene.worker.resume_producer(scene.now, STREAM, &mut scene.out).unwrap();
    assert!(feedback(&mut scene).contains(&(206, 1)), "I6: a key frame is asked for");
    receive(&mut scene, &[rtp(13, false), rtp(14, true)]);
    assert_eq!(sequences(&scene).len(), forwarded + 1);
}

#[test]
fn many_viewers_requests_become_one() {
    let mut scene = scene();
    receive(&mut scene, &[rtp(10, false)]);
    let _ = feedback(&mut scene);
    for number in 0..200 {
        receive(&mut scene, &[rtp(11 + number, false)]);
        scene.worker.request_key_frame(scene.now, ConsumerId(1)).unwrap();
    }
    assert!(!feedback(&mut scene).contains(&(206, 1)));
    scene.now += Duration::from_secs(1);
    let plis = feedback(&mut scene).into_iter().filter(|packet| *packet == (206, 1)).count();
    assert_eq!(plis, 1);
}

#[test]
fn packets_of_nobody_and_streams_that_contradict_each_other_are_refused() {
    let mut scene = scene();
    let mut stranger = rtp(1, true);
    (stranger[1], stranger[11]) = (0x80 | 99, 43);
    let result = scene.worker.handle_rtp(scene.now, PUBLISHER, &stranger);
    assert_eq!(result, Err(HandleRtpError::UnknownSource(Ssrc(43))));
    assert_eq!(scene.worker.handle_rtp(scene.now, PUBLISHER, &[0x80]), Err(HandleRtpError::Malformed));
    let unknown = TransportId(99);
    let result = scene.worker.handle_rtp(scene.now, unknown, &rtp(1, true));
    assert_eq!(result, Err(HandleRtpError::UnknownTransport(unknown)));
    let mut produce = |id, parameters, source| scene.worker.produce(scene.now, id, ProducerId(71), parameters, source);
    assert_eq!(produce(PUBLISHER, stream(), Source::Rtp), Err(ProduceError::DuplicateSsrc(Ssrc(42))));
    assert_eq!(produce(LOCAL, stream(), Source::Rtp), Err(ProduceError::WrongTransport(LOCAL)));
    let none = ProducerParameters { encodings: Vec::new(), ..stream() };
    assert_eq!(produce(PUBLISHER, none, Source::Rtp), Err(ProduceError::Encodings(0)));
    let local = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
    assert_eq!(produce(PUBLISHER, local, Source::Rtp), Err(ProduceError::PayloadType));
}

#[test]
fn a_publisher_that_leaves_takes_its_stream_along() {
    let mut scene = scene();
    receive(&mut scene, &[rtp(10, true)]);
    scene.worker.handle_rtp(scene.now, PUBLISHER, &rtp(11, true)).unwrap();
    scene.worker.close_transport(scene.now, PUBLISHER, &mut scene.out).unwrap();
    scene.worker.end_of_batch(scene.now, &mut scene.out);
    assert!(scene.events().contains(&Event::ProducerClosed(STREAM, EndCause::TransportClosed)));
    scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
    assert_eq!(scene.worker.poll_timeout(), None);
}

/// A VP8 packet with a picture identifier and a temporal layer. `first` and `marker` tell where in its frame it is.
struct Vp8 {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    temporal: u8,
    key_frame: bool,
    first: bool,
    marker: bool,
}

impl Vp8 {
    fn bytes(&self) -> Vec<u8> {
        let mut packet = header(self.sequence, self.timestamp, self.marker);
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        packet.extend_from_slice(&[if self.first { 0x90 } else { 0x80 }, 0xA0, high, low, self.temporal << 6]);
        packet.extend_from_slice(&[u8::from(!self.key_frame), 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0]);
        packet
    }
}

/// A frame of one packet.
fn frame(number: u16, temporal: u8, key_frame: bool) -> Vp8 {
    let timestamp = u32::from(number) * 3_000;
    Vp8 { sequence: number, timestamp, picture: number, temporal, key_frame, first: true, marker: true }
}

fn header(sequence: u16, timestamp: u32, marker: bool) -> Vec<u8> {
    let mut packet = vec![0x80, u8::from(marker) << 7 | 100];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&42_u32.to_be_bytes());
    packet
}

fn picture(packet: &OraclePacket) -> u16 {
    crate::vp8::Vp8Descriptor::read(&packet.payload).unwrap().picture_id.unwrap().value
}

#[test]
fn timestamps_go_on_with_the_time_that_passed_when_the_source_starts_anew() {
    let mut scene = scene();
    receive(&mut scene, &[frame(10, 0, true).bytes()]);
    receive(&mut scene, &[frame(11, 0, true).bytes()]);
    scene.now += Duration::from_millis(500);
    // Another sequence, another clock. Its first packet alone could be anything.
    let of = |sequence| Vp8 { timestamp: 2_000_000_000, ..frame(sequence, 0, true) };
    let _ = scene.worker.handle_rtp(scene.now, PUBLISHER, &of(30_000).bytes());
    receive(&mut scene, &[of(30_001).bytes()]);
    let timestamps: Vec<u32> = scene.sent_to(1).iter().map(|packet| packet.header.timestamp).collect();
    let passed = timestamps[timestamps.len() - 1].wrapping_sub(timestamps[timestamps.len() - 2]);
    assert_eq!(passed, 45_000, "{timestamps:?}");
    assert_eq!(scene.worker.producer_stats(STREAM).unwrap().discontinuities, 1);
}

#[test]
fn a_restart_that_nobody_wanted_to_see_still_breaks_what_follows() {
    let mut scene = scene();
    receive(&mut scene, &[frame(10, 0, true).bytes()]);
    scene.worker.pause_consumer(scene.now, ConsumerId(1)).unwrap();
    let _ = scene.worker.handle_rtp(scene.now, PUBLISHER, &frame(30_000, 0, true).bytes());
    receive(&mut scene, &[frame(30_001, 0, true).bytes()]);
    scene.worker.resume_consumer(scene.now, ConsumerId(1)).unwrap();
    receive(&mut scene, &[frame(30_002, 0, true).bytes()]);
    assert_eq!(scene.worker.producer_stats(STREAM).unwrap().discontinuities, 1);
}

#[test]
fn temporal_layers_that_nobody_announced_arrive_whole_and_can_be_left_out() {
    let mut scene = scene();
    receive(&mut scene, &[frame(9, 0, true).bytes()]);
    let layers = [0, 2, 1, 2, 0, 2, 1, 2];
    let send = |scene: &mut Scene, first: u16| {
        let before = scene.sent_to(1).len();
        for (number, temporal) in (first..).zip(layers) {
            scene.now += Duration::from_millis(33);
            receive(scene, &[frame(number, temporal, number == first).bytes()]);
        }
        scene.sent_to(1).len() - before
    };
    assert_eq!(send(&mut scene, 10), 8);
    scene.worker.set_preferred_layers(scene.now, ConsumerId(1), Layers { spatial: 0, temporal: 0 }).unwrap();
    assert_eq!(send(&mut scene, 18), 2);
    let sent = sequences(&scene);
    assert!(sent.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sent:?}");
}

#[test]
fn padding_and_malformed_payloads_take_no_number_and_no_picture_identifier() {
    let mut scene = scene();
    receive(&mut scene, &[frame(9, 0, false).bytes()]);
    receive(&mut scene, &[frame(10, 0, true).bytes(), header(11, 30_000, false)]);
    // A descriptor that is cut off.
    let mut malformed = header(12, 33_000, true);
    malformed.push(0x90);
    assert_eq!(scene.worker.handle_rtp(scene.now, PUBLISHER, &malformed), Err(HandleRtpError::Refused));
    receive(&mut scene, &[header(13, 33_000, false)]);
    // Another encoder follows, with identifiers of its own.
    let _ = scene.worker.handle_rtp(scene.now, PUBLISHER, &frame(30_000, 0, true).bytes());
    receive(&mut scene, &[frame(30_001, 0, true).bytes()]);
    assert_eq!(sequences(&scene), [32_000, 32_001]);
    let pictures: Vec<u16> = scene.sent_to(1).into_iter().map(picture).collect();
    assert_eq!(pictures, [10, 11]);
    assert_eq!(scene.worker.producer_stats(STREAM).unwrap().packets_missing, 0);
}

#[test]
fn what_is_lost_inside_a_frame_that_is_left_out_is_no_gap() {
    let mut scene = scene();
    scene.worker.set_preferred_layers(scene.now, ConsumerId(1), Layers { spatial: 0, temporal: 0 }).unwrap();
    receive(&mut scene, &[frame(9, 0, false).bytes()]);
    receive(&mut scene, &[frame(10, 0, true).bytes()]);
    let begin = Vp8 { marker: false, ..frame(11, 1, false) };
    receive(&mut scene, &[begin.bytes()]);
    // 12 is lost.
    let end = Vp8 { sequence: 13, first: false, ..frame(11, 1, false) };
    receive(&mut scene, &[end.bytes()]);
    receive(&mut scene, &[Vp8 { sequence: 14, ..frame(12, 0, false) }.bytes()]);
    assert_eq!(sequences(&scene), [32_000, 32_001]);
}

#[test]
fn one_viewer_cannot_make_the_publisher_send_key_frames_all_the_time() {
    let mut scene = scene();
    receive(&mut scene, &[frame(9, 0, false).bytes()]);
    let mut asked = 0;
    for number in 10..110 {
        asked += feedback(&mut scene).into_iter().filter(|packet| *packet == (206, 1)).count();
        scene.now += Duration::from_millis(50);
        receive(&mut scene, &[frame(number, 0, true).bytes()]);
        scene.worker.request_key_frame(scene.now, ConsumerId(1)).unwrap();
    }
    assert!((4..=8).contains(&asked), "{asked} in five seconds");
}
