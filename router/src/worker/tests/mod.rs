#![allow(clippy::disallowed_methods)]

mod closing;
mod ingest;
mod layers;
mod padding;
mod pausing;
mod pipes;
mod rewriting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lenscast_media::{Codec, LayerSet, RtpTime};
use proptest::prelude::*;
use rtc_rtp::packet::Packet as OraclePacket;
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::reports::REPORT_INTERVAL;
use super::*;
use crate::producer::tests::burst;
use crate::{
    ConsumeError, ConsumerParameters, EndCause, ExtensionId, HeaderExtensions, Layers, PayloadType, Priority,
    ProducerParameters, RtpPackets, RtxParameters, Upstream,
};

const HOME: RouterId = RouterId(1);
const CAMERA: ProducerKey = ProducerKey { router: HOME, producer: ProducerId(1) };
const LOCAL: TransportId = TransportId(1_000_000);

/// A source that remembers what it was asked for.
#[derive(Default)]
struct Camera(Mutex<Vec<Asked>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Wanted(LayerSet),
    KeyFrame(u8),
}

impl Upstream for Camera {
    fn set_wanted(&self, layers: LayerSet) {
        self.0.lock().unwrap().push(Asked::Wanted(layers));
    }

    fn request_key_frame(&self, layer: u8) {
        self.0.lock().unwrap().push(Asked::KeyFrame(layer));
    }
}

#[derive(Default)]
struct Recorder {
    rtp: Vec<(TransportId, OraclePacket)>,
    rtcp: Vec<(TransportId, Vec<u8>)>,
    calls: usize,
    by_slot: BTreeMap<TransportSlot, TransportId>,
    /// Packet indices of what was sent, retransmissions too.
    indices: Vec<u64>,
    inbound: Vec<(OutletId, Inbound)>,
    /// Messages that the channels have room for.
    room: usize,
}

impl Egress for Recorder {
    fn send_rtp(&mut self, slot: TransportSlot, packets: &RtpPackets<'_>) {
        let transport = self.by_slot[&slot];
        self.calls += 1;
        for position in 0..packets.len() {
            let mut bytes = Vec::new();
            let layout = packets.write(position, &mut bytes);
            let packet = OraclePacket::unmarshal(&mut bytes.as_slice()).unwrap();
            assert_eq!(layout.index as u16, packet.header.sequence_number);
            assert_eq!(layout.ssrc, Ssrc(packet.header.ssrc));
            let padding = if packet.header.padding { usize::from(bytes[bytes.len() - 1]) } else { 0 };
            assert_eq!(layout.header_len, bytes.len() - padding - packet.payload.len());
            self.indices.push(layout.index);
            self.rtp.push((transport, packet));
        }
    }

    fn send_rtcp(&mut self, slot: TransportSlot, compound: &[u8]) {
        self.rtcp.push((self.by_slot[&slot], compound.to_vec()));
    }

    fn send_inbound(&mut self, outlet: OutletId, message: Inbound) -> bool {
        let Some(room) = self.room.checked_sub(1) else { return false };
        self.room = room;
        self.inbound.push((outlet, message));
        true
    }
}

struct Scene {
    worker: Worker,
    out: Recorder,
    camera: Arc<Camera>,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        let mut worker = Worker::new(WallClock::new(now, Duration::from_secs(1_000)));
        let camera = Arc::new(Camera::default());
        worker.create_router(HOME).unwrap();
        worker.create_transport(HOME, LOCAL, TransportKind::Direct).unwrap();
        let parameters = ProducerParameters::local(Codec::Vp8.into(), 1, 1);
        let source = Source::Local(Arc::clone(&camera) as Arc<dyn Upstream>);
        worker.produce(now, LOCAL, CAMERA.producer, parameters, source).unwrap();
        Self { worker, out: Recorder::default(), camera, now }
    }

    fn viewer(mut self, number: u64) -> Self {
        let slot = self.worker.create_transport(HOME, TransportId(number), TransportKind::WebRtc).unwrap();
        self.out.by_slot.insert(slot, TransportId(number));
        self.worker.consume(self.now, CAMERA.producer, parameters(number)).unwrap();
        self
    }

    fn connected_viewer(self, number: u64) -> Self {
        let mut scene = self.viewer(number);
        scene.worker.connect_transport(scene.now, TransportId(number)).unwrap();
        scene
    }

    fn burst(&mut self, first_packet: u64, len: usize, key_frame: bool) {
        let burst = burst(first_packet, len, key_frame, self.now);
        let message = Inbound::Burst { key: CAMERA, outlet: None, layer: 0, broken: false, burst };
        self.worker.handle_inbound(self.now, message, &mut self.out);
    }

    fn rtcp(&mut self, number: u64, packet: &impl Marshal) {
        let bytes = packet.marshal().unwrap();
        self.worker.handle_rtcp(self.now, TransportId(number), &bytes, &mut self.out).unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.worker.poll_event()).collect()
    }

    /// The same without what is told of layers and scores.
    fn endings(&mut self) -> Vec<Event> {
        let told = |event: &Event| !matches!(event, Event::LayersChanged { .. } | Event::ScoreChanged { .. });
        self.events().into_iter().filter(told).collect()
    }

    fn asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.camera.0.lock().unwrap())
    }

    fn stats(&self, number: u64) -> ConsumerStats {
        self.worker.consumer_stats(TransportId(number)).next().unwrap().2.clone()
    }

    fn sent_to(&self, number: u64) -> Vec<&OraclePacket> {
        self.out.rtp.iter().filter(|(transport, _)| transport.0 == number).map(|(_, packet)| packet).collect()
    }
}

fn parameters(number: u64) -> ConsumerParameters {
    ConsumerParameters {
        id: ConsumerId(number),
        transport: TransportId(number),
        ssrc: Ssrc(1_000 + number as u32),
        payload_type: PayloadType::new(96).unwrap(),
        rtx: Some(RtxParameters { ssrc: Ssrc(2_000 + number as u32), payload_type: PayloadType::new(97).unwrap() }),
        extensions: HeaderExtensions { playout_delay: ExtensionId::new(5), ..HeaderExtensions::default() },
        cname: "lenscast".into(),
        initial_sequence: 32_000,
        initial_rtx_sequence: 7,
        timestamp_offset: 500,
        preferred_layers: Layers::HIGHEST,
        priority: Priority::default(),
        paused: false,
    }
}

fn nack(number: u64, lost: &[u16]) -> rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
    rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: 1_000 + number as u32,
        nacks: rtc_rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(lost),
    }
}

fn producer_packet(packet: &OraclePacket) -> u64 {
    u64::from_be_bytes(packet.payload[..8].try_into().unwrap())
}

#[test]
fn a_viewer_gets_nothing_before_it_is_connected_and_starts_with_a_key_frame() {
    let mut scene = Scene::new().viewer(1);
    scene.burst(0, 2, true);
    assert!(scene.out.rtp.is_empty());
    scene.worker.connect_transport(scene.now, TransportId(1)).unwrap();
    assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::only(0)), Asked::KeyFrame(0)]);
    scene.burst(2, 2, false);
    assert!(scene.out.rtp.is_empty());
    assert_eq!(scene.asked(), [Asked::KeyFrame(0)], "asked for again until one comes");
    scene.burst(4, 2, true);
    scene.burst(6, 2, false);
    assert!(scene.asked().is_empty());
    let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
    assert_eq!(sequences, [32_000, 32_001, 32_002, 32_003]);
    assert_eq!(scene.stats(1).frames_dropped, 1);
}

#[test]
fn a_burst_goes_to_each_viewer_in_one_call_with_its_own_identity() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 3, true);
    assert_eq!(scene.out.calls, 2);
    for number in [1, 2] {
        let packets = scene.sent_to(number);
        assert!(packets.iter().all(|packet| packet.header.ssrc == 1_000 + number as u32));
        assert!(packets.iter().all(|packet| packet.header.timestamp == 500));
        assert_eq!(packets.iter().map(|packet| packet.header.marker).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(packets.iter().map(|packet| producer_packet(packet)).collect::<Vec<_>>(), [0, 1, 2]);
    }
}

#[test]
fn extensions_come_with_key_frames_and_then_once_a_second_on_all_packets_of_a_frame() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 2, true);
    for frame in 0..40_u64 {
        scene.now += Duration::from_millis(33);
        scene.burst(2 + frame * 2, 2, false);
    }
    let packets = scene.sent_to(1);
    let extended: Vec<_> = packets.chunks(2).map(|frame| frame.iter().filter(|p| p.header.extension).count()).collect();
    assert!(extended.iter().all(|&count| count == 0 || count == 2), "{extended:?}");
    assert_eq!(extended.iter().filter(|&&count| count == 2).count(), 2, "{extended:?}");
}

#[test]
fn a_gap_in_the_producers_packets_waits_for_a_key_frame_and_leaves_no_gap_behind() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 2, true);
    let _ = scene.asked();
    scene.burst(9, 2, false);
    assert_eq!(scene.asked(), [Asked::KeyFrame(0)]);
    scene.burst(11, 1, true);
    let sequences: Vec<_> = scene.sent_to(1).iter().map(|packet| packet.header.sequence_number).collect();
    assert_eq!(sequences, [32_000, 32_001, 32_002]);
    assert_eq!(scene.worker.producer_stats(CAMERA).unwrap().discontinuities, 1);
}

#[test]
fn a_nack_is_answered_on_the_rtx_stream_once_a_round_trip() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 5, true);
    scene.out.rtp.clear();
    scene.rtcp(1, &nack(1, &[32_001, 32_004, 40_000]));
    let packets = scene.sent_to(1);
    assert_eq!(packets.len(), 2);
    for (packet, (sequence, original)) in packets.iter().zip([(7, 32_001_u16), (8, 32_004)]) {
        assert_eq!((packet.header.ssrc, packet.header.payload_type), (2_001, 97));
        assert_eq!((packet.header.sequence_number, packet.header.timestamp), (sequence, 500));
        assert_eq!(packet.payload[..2], original.to_be_bytes());
        assert_eq!(u64::from_be_bytes(packet.payload[2..10].try_into().unwrap()), u64::from(original - 32_000));
        assert_eq!(packet.header.marker, original == 32_004);
    }
    assert_eq!(scene.stats(1).retransmissions_refused, 1);
    scene.rtcp(1, &nack(1, &[32_001]));
    assert_eq!(scene.stats(1).retransmitted_packets_sent, 2, "asked again within a round trip");
    scene.now += Duration::from_millis(150);
    scene.rtcp(1, &nack(1, &[32_001]));
    assert_eq!(scene.stats(1).retransmitted_packets_sent, 3);
    assert_eq!(
        scene.stats(2),
        ConsumerStats { packets_sent: 5, frames_sent: 1, bytes_sent: 540, layer_switches: 1, ..Default::default() }
    );
}

#[test]
fn a_nack_storm_is_answered_within_the_budget() {
    let mut scene = Scene::new().connected_viewer(1);
    for number in 0..30 {
        scene.burst(number * 10, 10, number == 0);
    }
    let media: u64 = scene.stats(1).bytes_sent;
    for _ in 0..200 {
        scene.now += Duration::from_millis(1);
        let all: Vec<u16> = (32_000..32_300).collect();
        scene.rtcp(1, &nack(1, &all));
    }
    let stats = scene.stats(1);
    assert!(stats.retransmitted_bytes_sent <= media + 12_500 + 2_500 + 108, "{stats:?}");
    assert!(stats.retransmissions_refused > 50_000);
}

#[test]
fn what_one_datagram_asks_for_beyond_reason_is_refused_unseen() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 5, true);
    // Sequence numbers that were never sent, in two packets of one datagram, then one that was.
    let never: Vec<u16> = (0..300).collect();
    let mut compound = nack(1, &never).marshal().unwrap().to_vec();
    compound.extend_from_slice(&nack(1, &never).marshal().unwrap());
    compound.extend_from_slice(&nack(1, &[32_001]).marshal().unwrap());
    scene.worker.handle_rtcp(scene.now, TransportId(1), &compound, &mut scene.out).unwrap();
    let stats = scene.stats(1);
    assert_eq!((stats.retransmitted_packets_sent, stats.retransmissions_refused, stats.nack_count), (0, 601, 3));
    scene.rtcp(1, &nack(1, &[32_001]));
    assert_eq!(scene.stats(1).retransmitted_packets_sent, 1, "the next datagram is looked at again");
}

#[test]
fn reports_tell_loss_jitter_and_round_trip() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 5, true);
    let sent = scene.worker.wall.ntp_at(scene.now).compact();
    scene.now += Duration::from_millis(80);
    let report = rtc_rtcp::receiver_report::ReceiverReport {
        ssrc: 1,
        reports: vec![rtc_rtcp::reception_report::ReceptionReport {
            ssrc: 1_001,
            fraction_lost: 128,
            total_lost: 12,
            last_sequence_number: 32_004,
            jitter: 900,
            last_sender_report: sent,
            delay: 65_536 * 30 / 1_000,
        }],
        ..Default::default()
    };
    scene.rtcp(1, &report);
    let stats = scene.stats(1);
    assert_eq!((stats.fraction_lost, stats.packets_lost), (Some(0.5), 12));
    assert_eq!(stats.jitter, Some(Duration::from_millis(10)));
    let round_trip = stats.round_trip_time.unwrap().as_secs_f64() * 1e3;
    assert!((round_trip - 50.0).abs() < 0.1, "{round_trip} ms");
}

#[test]
fn sender_reports_tie_the_viewers_timestamps_to_the_clock() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(100, 5, true);
    let captured = scene.now;
    scene.now = scene.worker.poll_timeout().unwrap() + Duration::from_millis(500);
    scene.worker.handle_timeout(scene.now, &mut scene.out);
    let (_, compound) = &scene.out.rtcp[0];
    let mut bytes = bytes::Bytes::copy_from_slice(compound);
    let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
    let report = packets[0].as_any().downcast_ref::<rtc_rtcp::sender_report::SenderReport>().unwrap();
    let elapsed = scene.now - captured;
    assert_eq!(report.rtp_time, 300_000 + 500 + RtpTime::from_span(elapsed).0);
    assert_eq!(report.ntp_time, scene.worker.wall.ntp_at(scene.now).0);
    assert_eq!((report.packet_count, report.octet_count), (5, 540));
    assert!(scene.worker.poll_timeout().unwrap() >= scene.now);
}

#[test]
fn a_late_timer_sends_one_report() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 5, true);
    let due = scene.worker.poll_timeout().unwrap();
    scene.now = due + Duration::from_millis(200);
    scene.worker.handle_timeout(scene.now, &mut scene.out);
    assert_eq!(scene.out.rtcp.len(), 1);
    assert_eq!(scene.worker.poll_timeout(), Some(due + REPORT_INTERVAL), "the rhythm is kept");
    scene.now += Duration::from_secs(10);
    scene.worker.handle_timeout(scene.now, &mut scene.out);
    assert_eq!(scene.out.rtcp.len(), 2);
    assert_eq!(scene.worker.poll_timeout(), Some(scene.now + REPORT_INTERVAL));
}

#[test]
fn bursts_that_were_queued_when_the_last_viewer_left_are_no_loss_for_the_next() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 5, true);
    scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
    scene.burst(5, 5, false);
    let mut scene = scene.connected_viewer(2);
    let _ = scene.asked();
    scene.out.rtp.clear();
    scene.burst(90, 5, true);
    assert_eq!(scene.sent_to(2).len(), 5);
    let stats = scene.worker.producer_stats(CAMERA).unwrap();
    assert_eq!((stats.discontinuities, stats.frames), (0, 3));
}

#[test]
fn pli_and_new_fir_commands_ask_for_a_key_frame() {
    let mut scene = Scene::new().connected_viewer(1);
    scene.burst(0, 1, true);
    let _ = scene.asked();
    let pli = rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: 1_001,
    };
    scene.rtcp(1, &pli);
    let fir = |sequence_number| rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest {
        sender_ssrc: 1,
        media_ssrc: 1_001,
        fir: vec![rtc_rtcp::payload_feedbacks::full_intra_request::FirEntry { ssrc: 1_001, sequence_number }],
    };
    scene.rtcp(1, &fir(1));
    scene.rtcp(1, &fir(1));
    scene.rtcp(1, &fir(2));
    assert_eq!(scene.asked(), [Asked::KeyFrame(0); 3]);
    assert_eq!((scene.stats(1).pli_count, scene.stats(1).fir_count), (1, 2));
}

#[test]
fn feedback_about_a_stream_of_somebody_else_is_ignored() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 5, true);
    let _ = scene.asked();
    scene.out.rtp.clear();
    scene.rtcp(2, &nack(1, &[32_001]));
    assert!(scene.out.rtp.is_empty() && scene.asked().is_empty());
}

#[test]
fn a_viewer_that_leaves_is_told_goodbye_and_leaves_nothing() {
    let mut scene = Scene::new().connected_viewer(1).connected_viewer(2);
    scene.burst(0, 5, true);
    let _ = scene.asked();
    scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
    assert!(scene.asked().is_empty());
    let (_, compound) = scene.out.rtcp.last().unwrap();
    assert_eq!(compound[compound.len() - 8..], [0x81, 203, 0, 1, 0, 0, 3, 0xE9]);
    scene.out.rtp.clear();
    scene.burst(5, 1, true);
    assert!(scene.sent_to(1).is_empty() && scene.sent_to(2).len() == 1);
    scene.worker.close_transport(scene.now, TransportId(2), &mut scene.out).unwrap();
    assert!(scene.worker.poll_timeout().is_none() && scene.worker.transports.iter().count() == 1);
    assert_eq!(scene.asked(), [Asked::Wanted(LayerSet::EMPTY)]);
}

#[test]
fn a_producer_that_ends_takes_its_consumers_along() {
    let mut scene = Scene::new().connected_viewer(1).viewer(2);
    scene.burst(0, 5, true);
    scene.worker.close_producer(scene.now, CAMERA, &mut scene.out).unwrap();
    let ended = |number| Event::ConsumerClosed {
        consumer: ConsumerId(number),
        transport: TransportId(number),
        producer: CAMERA.producer,
        cause: EndCause::ProducerClosed,
    };
    let events: Vec<_> = scene.endings();
    assert_eq!(events, [Event::ProducerClosed(CAMERA, EndCause::Requested), ended(1), ended(2)]);
    assert_eq!(scene.out.rtcp.len(), 1, "only the connected viewer can be told");
    assert_eq!(scene.worker.consumer_stats(TransportId(1)).count(), 0);
    scene.burst(5, 5, true);
    scene.worker.close_transport(scene.now, TransportId(1), &mut scene.out).unwrap();
}

#[test]
fn a_consumer_needs_a_producer_a_transport_and_a_source_of_its_own() {
    let mut scene = Scene::new().viewer(1);
    let mut second = parameters(2);
    let add = |scene: &mut Scene, producer, parameters: &ConsumerParameters| {
        scene.worker.consume(scene.now, producer, parameters.clone())
    };
    assert_eq!(add(&mut scene, CAMERA.producer, &second), Err(ConsumeError::UnknownTransport(TransportId(2))));
    second.transport = TransportId(1);
    assert_eq!(add(&mut scene, ProducerId(9), &second), Err(ConsumeError::UnknownProducer(ProducerId(9))));
    second.ssrc = Ssrc(1_001);
    assert_eq!(
        add(&mut scene, CAMERA.producer, &second),
        Err(ConsumeError::DuplicateSsrc { transport: TransportId(1), ssrc: Ssrc(1_001) })
    );
    for (ssrc, rtx_ssrc, doubled) in [(7, 2_001, 2_001), (2_001, 7, 2_001), (7, 1_001, 1_001), (7, 7, 7)] {
        second.ssrc = Ssrc(ssrc);
        second.rtx = Some(RtxParameters { ssrc: Ssrc(rtx_ssrc), payload_type: PayloadType::new(97).unwrap() });
        let expected = ConsumeError::DuplicateSsrc { transport: TransportId(1), ssrc: Ssrc(doubled) };
        assert_eq!(add(&mut scene, CAMERA.producer, &second), Err(expected));
    }
    second.rtx = None;
    assert_eq!(add(&mut scene, CAMERA.producer, &second), Ok(()));
}

proptest! {
    /// I15: whatever is lost upstream and whoever comes and goes, each viewer's sequence has no gap, its timestamps
    /// never run backwards, and what it gets after a break starts with a key frame.
    #[test]
    fn sequences_have_no_gap_and_breaks_heal_with_a_key_frame(
        steps in prop::collection::vec((0_u8..8, 1_usize..9, any::<bool>()), 1..120)
    ) {
        let mut scene = Scene::new().connected_viewer(1);
        let mut packet = 0;
        let mut key_frames = BTreeSet::new();
        for (kind, len, key_frame) in steps {
            scene.now += Duration::from_millis(33);
            if kind == 0 {
                packet += len as u64; // lost on the way from the encode task
                continue;
            }
            if key_frame {
                key_frames.insert(packet);
            }
            scene.burst(packet, len, key_frame);
            packet += len as u64;
        }
        let packets = scene.sent_to(1);
        let mut previous: Option<&OraclePacket> = None;
        for packet in packets {
            let number = producer_packet(packet);
            match previous {
                None => prop_assert!(key_frames.contains(&number)),
                Some(previous) => {
                    prop_assert_eq!(packet.header.sequence_number, previous.header.sequence_number.wrapping_add(1));
                    prop_assert!(packet.header.timestamp.wrapping_sub(previous.header.timestamp) < 1 << 31);
                    let contiguous = number == producer_packet(previous) + 1;
                    prop_assert!(contiguous || key_frames.contains(&number));
                }
            }
            previous = Some(packet);
        }
    }
}

#[test]
fn direct_transports_get_reports_too() {
    let mut scene = Scene::new();
    let slot = scene.worker.create_transport(HOME, TransportId(5), TransportKind::Direct).unwrap();
    scene.out.by_slot.insert(slot, TransportId(5));
    scene.worker.consume(scene.now, CAMERA.producer, parameters(5)).unwrap();
    scene.burst(0, 1, true);
    for _ in 0..3 {
        scene.now += Duration::from_secs(1);
        scene.worker.handle_timeout(scene.now, &mut scene.out);
    }
    assert!(scene.out.rtcp.len() >= 2);
}

#[test]
fn reports_about_many_streams_go_in_several_datagrams() {
    let mut scene = Scene::new().connected_viewer(1);
    for number in 2..80 {
        let parameters = ConsumerParameters { transport: TransportId(1), ..parameters(number) };
        scene.worker.consume(scene.now, CAMERA.producer, parameters).unwrap();
    }
    scene.burst(0, 1, true);
    scene.now += Duration::from_secs(1);
    scene.worker.handle_timeout(scene.now, &mut scene.out);
    let mut reports = 0;
    for (_, compound) in &scene.out.rtcp {
        assert!(compound.len() <= 1_200, "{} bytes", compound.len());
        let mut bytes = bytes::Bytes::copy_from_slice(compound);
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        let reports_in = packets.iter().filter(|packet| packet.as_any().is::<rtc_rtcp::sender_report::SenderReport>());
        reports += reports_in.count();
    }
    assert_eq!(reports, 79);
}
