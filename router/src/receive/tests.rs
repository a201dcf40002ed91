use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Codec, LayerSet, MediaCodec, NtpTime, Resolution, RtpTime, Ssrc};
use proptest::prelude::*;

use super::*;
use crate::rtcp::{self, Compound, Packet};
use crate::{EncodingParameters, ExtensionId, PayloadType, ProduceError, ProducerParameters, ReceivedExtensions, Rid};

const MS: Duration = Duration::from_millis(1);
const LOCAL: Ssrc = Ssrc(1);
const MEDIA: u8 = 96;
const RTX: u8 = 97;
const RID: u8 = 2;
const REPAIRED_RID: u8 = 3;
const ORIENTATION: u8 = 7;

/// A VP8 frame's first packet and another: S with a key frame's or another frame's tag, and neither.
const KEY_FRAME: [u8; 11] = [0x10, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0x00];
const DELTA_FRAME: [u8; 2] = [0x10, 0x11];
const CONTINUATION: [u8; 2] = [0x00, 0xFF];

#[derive(Clone)]
struct Rtp<'a> {
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    marker: bool,
    extensions: &'a [(u8, &'a [u8])],
    payload: &'a [u8],
}

impl Default for Rtp<'_> {
    fn default() -> Self {
        Rtp {
            payload_type: MEDIA,
            sequence: 0,
            timestamp: 0,
            ssrc: 42,
            marker: false,
            extensions: &[],
            payload: &CONTINUATION,
        }
    }
}

impl Rtp<'_> {
    fn written(&self) -> Vec<u8> {
        let mut extension = Vec::new();
        for (id, data) in self.extensions {
            extension.push(id << 4 | (data.len() - 1) as u8);
            extension.extend_from_slice(data);
        }
        extension.resize(extension.len().next_multiple_of(4), 0);
        let mut packet = vec![0x80, u8::from(self.marker) << 7 | self.payload_type];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        if !extension.is_empty() {
            packet[0] |= 0x10;
            packet.extend_from_slice(&[0xBE, 0xDE, 0, (extension.len() / 4) as u8]);
            packet.extend_from_slice(&extension);
        }
        packet.extend_from_slice(self.payload);
        packet
    }
}

fn parameters(codec: MediaCodec, encodings: &[EncodingParameters]) -> ProducerParameters {
    let id = ExtensionId::new;
    ProducerParameters {
        codec,
        clock_rate: codec.clock_rate(),
        encodings: encodings.to_vec(),
        temporal_layers: 1,
        payload_type: PayloadType::new(MEDIA),
        rtx_payload_type: PayloadType::new(RTX),
        mid: None,
        returns_reference_times: false,
        extensions: ReceivedExtensions {
            rid: id(RID),
            repaired_rid: id(REPAIRED_RID),
            video_orientation: id(ORIENTATION),
            ..ReceivedExtensions::default()
        },
    }
}

fn named(rid: &str) -> EncodingParameters {
    EncodingParameters { rid: Rid::new(rid), ..EncodingParameters::default() }
}

struct Bench {
    receiver: Receiver,
    extensions: ExtensionReader,
    clock: PublisherClock,
    start: Instant,
}

impl Bench {
    fn new(codec: MediaCodec, encodings: &[EncodingParameters]) -> Self {
        let start = Instant::now() + Duration::from_secs(100);
        let parameters = parameters(codec, encodings);
        Self {
            receiver: Receiver::new(&parameters, LOCAL, start).unwrap(),
            extensions: ExtensionReader::new(&parameters.extensions),
            clock: PublisherClock::new(),
            start,
        }
    }

    fn one(codec: Codec) -> Self {
        Self::new(codec.into(), &[EncodingParameters::default()])
    }

    fn take(&mut self, now: Instant, packet: &Rtp<'_>) -> Result<(), Refused> {
        let written = packet.written();
        let packet = RtpPacket::read(&written).unwrap();
        let extensions = self.extensions.read(packet.extensions);
        self.receiver.handle_rtp(now, &packet, &extensions, &self.clock)
    }

    fn bursts(&mut self) -> Vec<ReceivedBurst> {
        self.receiver.take_bursts().collect()
    }

    /// What is written at `now`: sequence numbers asked for again, and sources asked for a key frame.
    fn feedback(&mut self, now: Instant) -> (Vec<u16>, Vec<Ssrc>) {
        let mut compound = Compound::new();
        self.receiver.handle_timeout(now);
        self.receiver.write_feedback(now, &mut compound);
        let (mut lost, mut key_frames) = (Vec::new(), Vec::new());
        for packet in rtcp::read(compound.as_bytes()).map(Result::unwrap) {
            match packet {
                Packet::Nack { lost: sequences, .. } => lost.extend(sequences.sequences()),
                Packet::Pli { media } => key_frames.push(media),
                _ => {}
            }
        }
        (lost, key_frames)
    }
}

/// First index and payloads.
fn shape(bursts: &[ReceivedBurst]) -> Vec<(u64, usize, bool, bool)> {
    let base = bursts.iter().map(|burst| burst.burst.meta().first_packet).min().unwrap_or(0);
    let shape = |burst: &ReceivedBurst| {
        let meta = burst.burst.meta();
        (meta.first_packet - base, burst.burst.len(), meta.begins_frame, meta.ends_frame)
    };
    bursts.iter().map(shape).collect()
}

#[test]
fn consecutive_packets_of_a_frame_in_a_batch_are_one_burst() {
    let mut bench = Bench::one(Codec::Vp8);
    let now = bench.start;
    let orientation: &[(u8, &[u8])] = &[(ORIENTATION, &[1])];
    bench.take(now, &Rtp { sequence: 9, payload: &KEY_FRAME, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 10, marker: true, extensions: orientation, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 11, timestamp: 1, payload: &DELTA_FRAME, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 12, timestamp: 1, ..Rtp::default() }).unwrap();
    let bursts = bench.bursts();
    assert_eq!(shape(&bursts), [(0, 2, true, true), (2, 2, true, false)]);
    let meta = bursts[0].burst.meta();
    assert!(meta.key_frame && meta.layer_sync && !bursts[1].burst.meta().key_frame);
    assert_eq!((meta.resolution, meta.extensions.video_orientation), (Resolution::new(320, 180), Some(1)));
    assert_eq!(bursts[1].burst.meta().extensions.video_orientation, None);
    assert_eq!(bursts[1].burst.meta().resolution, Resolution::new(320, 180), "as long as nothing else is known");
    // The rest comes in another batch, without its middle.
    bench.take(now, &Rtp { sequence: 13, timestamp: 1, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 15, timestamp: 1, marker: true, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 14, timestamp: 1, ..Rtp::default() }).unwrap();
    assert_eq!(shape(&bench.bursts()), [(0, 1, false, false), (1, 1, false, false), (2, 1, false, true)]);
    assert!(bench.bursts().is_empty());
}

#[test]
fn a_frame_s_last_packet_ends_its_burst_whatever_timestamp_follows() {
    let mut bench = Bench::one(Codec::Vp8);
    let now = bench.start;
    bench.take(now, &Rtp { sequence: 1, marker: true, payload: &KEY_FRAME, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 2, payload: &DELTA_FRAME, ..Rtp::default() }).unwrap();
    assert_eq!(shape(&bench.bursts()), [(0, 1, true, true), (1, 1, true, false)]);
}

#[test]
fn a_burst_fits_into_one_call_of_the_system() {
    let mut bench = Bench::one(Codec::Vp8);
    let now = bench.start;
    let large = [0; 1_200];
    for sequence in 0..150 {
        let payload = if sequence < 100 { &CONTINUATION[..] } else { &large };
        bench.take(now, &Rtp { sequence, payload, ..Rtp::default() }).unwrap();
    }
    let bursts = bench.bursts();
    assert_eq!(bursts.iter().map(|burst| burst.burst.len()).sum::<usize>(), 150);
    assert!(bursts.iter().all(|burst| burst.burst.len() <= 64 && burst.burst.payload_bytes() <= 56_000));
}

#[test]
fn every_burst_of_a_key_frame_says_so() {
    let mut bench = Bench::one(Codec::Vp8);
    let now = bench.start;
    let mut key_frames = Vec::new();
    for (sequence, timestamp, payload) in [
        (1, 1, &KEY_FRAME[..]),
        (2, 1, &CONTINUATION),
        (4, 1, &CONTINUATION),
        (5, 2, &DELTA_FRAME),
        (3, 1, &CONTINUATION),
    ] {
        bench.take(now, &Rtp { sequence, timestamp, payload, ..Rtp::default() }).unwrap();
        key_frames.extend(bench.bursts().iter().map(|burst| burst.burst.meta().key_frame));
    }
    assert_eq!(key_frames, [true, true, true, false, true]);
    assert_eq!(bench.receiver.stats().next().unwrap().key_frames_received, 1);
}

#[test]
fn h264_frames_begin_where_the_timestamp_changes() {
    let mut bench = Bench::one(Codec::H264);
    let now = bench.start;
    let units: [(u16, u32, &[u8]); 6] = [
        (1, 1, &[0x67, 0x42]),
        (2, 1, &[0x68, 0xCE]),
        (3, 1, &[0x65, 0x88]),
        (4, 2, &[0x06, 1]),
        (5, 2, &[0x41, 0x88]),
        (7, 3, &[0x41, 0x88]),
    ];
    let mut begins = Vec::new();
    for (sequence, timestamp, payload) in units {
        bench.take(now, &Rtp { sequence, timestamp, payload, ..Rtp::default() }).unwrap();
        begins.extend(bench.bursts().iter().map(|burst| burst.burst.meta().begins_frame));
    }
    assert_eq!(begins, [true, false, false, true, false, true], "the last by its first macroblock");
}

#[test]
fn a_decoder_can_start_at_the_parameter_sets_whatever_came_in_the_batch_before() {
    let mut bench = Bench::one(Codec::H264);
    let now = bench.start;
    let mut take = |sequence: u16, timestamp: u32, payload: &[u8]| {
        bench.take(now, &Rtp { sequence, timestamp, payload, ..Rtp::default() }).unwrap();
    };
    take(1, 0, &[0x41, 0x9A]);
    take(2, 3_000, &[9, 0x10]);
    let before = bench.bursts();
    assert!(before.iter().all(|received| !received.burst.meta().key_frame));
    // Supplemental information, then the parameter sets and the slice.
    let mut take = |sequence: u16, payload: &[u8]| {
        bench.take(now, &Rtp { sequence, timestamp: 3_000, payload, ..Rtp::default() }).unwrap();
    };
    take(3, &[6, 5, 1, 0]);
    take(4, &[0x67, 0x42, 0xC0, 0x1E]);
    take(5, &[0x68, 0xCE]);
    take(6, &[0x65, 0x88]);
    let bursts = bench.bursts();
    let starts = |received: &ReceivedBurst| received.burst.meta().key_frame && received.burst.meta().begins_frame;
    assert_eq!(bursts.iter().filter(|received| starts(received)).count(), 1);
    bench.take(now, &Rtp { sequence: 7, timestamp: 3_000, payload: &[0x65, 0x18], ..Rtp::default() }).unwrap();
    assert!(!bench.bursts().iter().any(starts), "once");
}

#[test]
fn opus_packets_are_bursts_of_their_own_and_never_asked_for_again() {
    let mut bench = Bench::new(MediaCodec::Opus, &[EncodingParameters::default()]);
    let now = bench.start;
    for sequence in [1, 2, 5, 9, 10, 11, 12] {
        let timestamp = u32::from(sequence) * 960;
        bench.take(now, &Rtp { sequence, timestamp, payload: &[0xFC], ..Rtp::default() }).unwrap();
    }
    let bursts = bench.bursts();
    assert_eq!(bursts.len(), 7);
    assert!(bursts.iter().all(|burst| burst.burst.meta().begins_frame && burst.burst.meta().ends_frame));
    assert_eq!(bench.feedback(now + 20 * MS), (vec![], vec![]));
}

#[test]
fn padding_keeps_its_place_and_belongs_to_no_frame() {
    let mut bench = Bench::one(Codec::Vp8);
    let now = bench.start;
    bench.take(now, &Rtp { sequence: 1, marker: true, payload: &KEY_FRAME, ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 2, payload: &[], ..Rtp::default() }).unwrap();
    bench.take(now, &Rtp { sequence: 3, timestamp: 1, payload: &DELTA_FRAME, ..Rtp::default() }).unwrap();
    let bursts = bench.bursts();
    assert_eq!(shape(&bursts), [(0, 1, true, true), (1, 1, false, false), (2, 1, true, false)]);
    assert!(bursts[1].burst.payload(0).is_empty());
}

#[test]
fn layers_are_found_by_source_then_by_name() {
    let encodings = [named("low"), EncodingParameters { ssrc: Some(Ssrc(7)), ..named("high") }];
    let mut bench = Bench::new(Codec::Vp8.into(), &encodings);
    let now = bench.start;
    let low: &[(u8, &[u8])] = &[(RID, b"low")];
    let other: &[(u8, &[u8])] = &[(RID, b"other")];
    let packet = Rtp { payload: &KEY_FRAME, ..Rtp::default() };
    assert_eq!(bench.take(now, &packet), Err(Refused::UnknownSource));
    assert_eq!(bench.take(now, &Rtp { extensions: other, ..packet.clone() }), Err(Refused::UnknownSource));
    assert_eq!(bench.take(now, &Rtp { ssrc: 7, ..packet.clone() }), Ok(()));
    assert_eq!(bench.take(now, &Rtp { extensions: low, ..packet.clone() }), Ok(()));
    assert_eq!(bench.take(now, &Rtp { sequence: 1, ..packet.clone() }), Ok(()), "its source is known now");
    assert!(bench.receiver.has_source(Ssrc(42)) && bench.receiver.has_source(Ssrc(7)));
    let layers: Vec<(u8, u64)> = bench.receiver.stats().map(|stats| (stats.layer, stats.packets_received)).collect();
    assert_eq!(layers, [(0, 2), (1, 1)]);
    assert_eq!(bench.receiver.refused().unknown_source, 2);
    assert_eq!(bench.take(now, &Rtp { payload_type: 98, ..packet }), Err(Refused::PayloadType));
}

#[test]
fn retransmissions_go_into_their_stream_once_it_has_begun() {
    let mut bench = Bench::new(Codec::Vp8.into(), &[named("low"), named("high")]);
    let now = bench.start;
    let repaired: &[(u8, &[u8])] = &[(REPAIRED_RID, b"high")];
    let high: &[(u8, &[u8])] = &[(RID, b"high")];
    let again = Rtp { payload_type: RTX, ssrc: 43, extensions: repaired, payload: &[0, 2, 0, 0xFF], ..Rtp::default() };
    assert_eq!(bench.take(now, &again), Err(Refused::RetransmissionBeforeMedia));
    for sequence in [1, 3] {
        bench.take(now, &Rtp { sequence, extensions: high, ..Rtp::default() }).unwrap();
    }
    assert_eq!(bench.bursts().len(), 2);
    assert_eq!(bench.take(now, &again), Ok(()));
    assert_eq!(bench.take(now, &again), Err(Refused::Duplicate));
    assert_eq!(
        bench.take(now, &Rtp { extensions: &[], payload: &[0], ..again.clone() }),
        Err(Refused::MalformedRetransmission)
    );
    assert_eq!(bench.take(now, &Rtp { payload: &[], ..again.clone() }), Err(Refused::Padding));
    assert_eq!(bench.take(now, &Rtp { payload: &[0, 4, 0], ..again.clone() }), Err(Refused::FarOff), "newer than all");
    assert_eq!(bench.take(now, &Rtp { ssrc: 42, ..again.clone() }), Err(Refused::PayloadType));
    assert_eq!(bench.take(now, &Rtp { ssrc: 43, ..Rtp::default() }), Err(Refused::PayloadType));
    let bursts = bench.bursts();
    assert_eq!((bursts.len(), bursts[0].layer, bursts[0].burst.payload(0)), (1, 1, &CONTINUATION[..]));
    let stats = bench.receiver.stats().nth(1).unwrap();
    assert_eq!((stats.retransmitted_packets_received, stats.packets_lost), (1, 1), "the path lost it all the same");
}

#[test]
fn a_publisher_that_starts_anew_continues_the_indices() {
    let mut bench = Bench::new(Codec::Vp8.into(), &[named("low")]);
    let now = bench.start;
    let low: &[(u8, &[u8])] = &[(RID, b"low")];
    for sequence in 100..103 {
        bench.take(now, &Rtp { sequence, extensions: low, timestamp: 5, ..Rtp::default() }).unwrap();
    }
    let anew =
        Rtp { ssrc: 99, sequence: 60_000, extensions: low, timestamp: 77, payload: &DELTA_FRAME, ..Rtp::default() };
    bench.take(now, &anew).unwrap();
    let bursts = bench.bursts();
    assert_eq!(shape(&bursts), [(0, 3, false, false), (3, 1, true, false)]);
    assert_eq!((bursts[0].broken, bursts[1].broken), (false, true));
    assert_eq!(
        bench.take(now, &Rtp { sequence: 103, extensions: low, ..Rtp::default() }),
        Err(Refused::ReplacedSource)
    );
    assert_eq!(bench.feedback(now), (vec![], vec![Ssrc(99)]), "what another encoder made needs a key frame");
    let stats = bench.receiver.stats().next().unwrap();
    assert_eq!((stats.restarts, stats.packets_lost, stats.ssrc), (1, 0, Some(Ssrc(99))));
    // The same source with far-off numbers.
    for (sequence, broken) in [(20_000, None), (20_001, Some(true)), (20_002, Some(false))] {
        let _ = bench.take(now, &Rtp { ssrc: 99, sequence, ..Rtp::default() });
        assert_eq!(bench.bursts().first().map(|burst| burst.broken), broken, "{sequence}");
    }
}

#[test]
fn contradictory_parameters_are_refused() {
    let with = |encodings: &[EncodingParameters]| {
        Receiver::new(&parameters(Codec::Vp8.into(), encodings), LOCAL, Instant::now()).err()
    };
    let source = |ssrc| EncodingParameters { ssrc: Some(Ssrc(ssrc)), ..EncodingParameters::default() };
    let own_rtx = EncodingParameters { rtx_ssrc: Some(Ssrc(1)), ..source(1) };
    assert_eq!(with(&[]), Some(ProduceError::Encodings(0)));
    assert_eq!(with(&[named("a"); 5]), Some(ProduceError::Encodings(5)));
    assert_eq!(with(&[source(1), source(1)]), Some(ProduceError::DuplicateSsrc(Ssrc(1))));
    assert_eq!(with(&[own_rtx]), Some(ProduceError::DuplicateSsrc(Ssrc(1))));
    assert_eq!(with(&[named("a"), named("a")]), Some(ProduceError::DuplicateRid(Rid::new("a").unwrap())));
    assert_eq!(with(&[named("a"), EncodingParameters::default()]), Some(ProduceError::UnnamedEncoding(1)));
    let local = ProducerParameters { payload_type: None, ..parameters(Codec::Vp8.into(), &[source(1)]) };
    assert!(Receiver::new(&local, LOCAL, Instant::now()).is_err());
}

#[test]
fn a_layer_that_falls_silent_is_not_sent_until_it_comes_again() {
    let mut bench = Bench::new(Codec::Vp8.into(), &[named("low"), named("high")]);
    let start = bench.start;
    let low: &[(u8, &[u8])] = &[(RID, b"low")];
    let high: &[(u8, &[u8])] = &[(RID, b"high")];
    assert_eq!((bench.receiver.sending(), bench.receiver.take_sending_change()), (LayerSet::EMPTY, None));
    bench.take(start, &Rtp { extensions: low, ..Rtp::default() }).unwrap();
    bench.take(start, &Rtp { extensions: high, ssrc: 7, ..Rtp::default() }).unwrap();
    assert_eq!(bench.receiver.take_sending_change(), Some(LayerSet::all(2)));
    bench.take(start + 1_000 * MS, &Rtp { sequence: 1, ..Rtp::default() }).unwrap();
    bench.receiver.handle_timeout(start + 1_499 * MS);
    assert_eq!(bench.receiver.take_sending_change(), None);
    assert!(bench.receiver.poll_timeout() <= start + 1_500 * MS);
    bench.receiver.handle_timeout(start + 1_500 * MS);
    assert_eq!(bench.receiver.take_sending_change(), Some(LayerSet::only(0)));
    assert_eq!(bench.receiver.stats().nth(1).unwrap().score.value(), 0);
    bench.receiver.handle_goodbye(start + 1_501 * MS, Ssrc(42));
    assert_eq!(bench.receiver.take_sending_change(), Some(LayerSet::EMPTY));
    bench.take(start + 1_600 * MS, &Rtp { sequence: 1, ssrc: 7, ..Rtp::default() }).unwrap();
    assert_eq!(bench.receiver.take_sending_change(), Some(LayerSet::only(1)));
}

#[test]
fn reports_tell_loss_delay_and_the_maximum() {
    let mut bench = Bench::one(Codec::Vp8);
    let start = bench.start;
    for sequence in (0..100).filter(|sequence| sequence % 2 == 0) {
        bench.take(start, &Rtp { sequence, ..Rtp::default() }).unwrap();
    }
    bench.receiver.handle_sender_report(start, Ssrc(42), NtpTime(0x0001_0002_0003_0004), RtpTime(0));
    bench.receiver.set_maximum(Some(Bitrate::from_kbps(800)));
    let mut compound = Compound::new();
    bench.receiver.write_feedback(start + 1_000 * MS, &mut compound);
    let packets: Vec<_> = rtcp::read(compound.as_bytes()).map(Result::unwrap).collect();
    let Packet::Reports(mut blocks) = packets[0] else { panic!("{packets:?}") };
    let block = blocks.next().unwrap();
    assert_eq!((block.ssrc, block.cumulative_lost, block.highest_sequence), (Ssrc(42), 49, 98));
    assert_eq!(block.fraction_lost, (49 * 256 / 99) as u8);
    assert_eq!((block.last_sender_report, block.delay_since_last_sender_report), (0x0002_0003, 65_536));
    assert_eq!(packets[1], Packet::Other { packet_type: 206 }, "REMB");
    assert!(bench.receiver.score() < crate::score::Score::BEST);
    // Nothing is due twice.
    compound.clear();
    bench.receiver.write_feedback(start + 1_000 * MS, &mut compound);
    assert!(compound.is_empty());
}

#[test]
fn key_frames_are_asked_for_once_a_source_is_known() {
    let mut bench = Bench::one(Codec::Vp8);
    let start = bench.start;
    bench.receiver.request_key_frame(start, 0);
    bench.receiver.request_key_frame(start, 9);
    assert!(bench.receiver.poll_timeout() > start, "there is nobody to ask");
    bench.take(start + MS, &Rtp::default()).unwrap();
    assert!(bench.receiver.poll_timeout() <= start + MS);
    assert_eq!(bench.feedback(start + MS).1, [Ssrc(42)]);
    bench.receiver.request_key_frame(start + 2 * MS, 0);
    assert_eq!(bench.feedback(start + 2 * MS).1, []);
    assert_eq!(bench.feedback(start + 1_001 * MS).1, [Ssrc(42)]);
    bench.take(start + 1_002 * MS, &Rtp { sequence: 1, payload: &KEY_FRAME, ..Rtp::default() }).unwrap();
    assert_eq!(bench.feedback(start + 3_000 * MS).1, []);
}

#[test]
fn too_many_missing_packets_are_given_up_for_a_key_frame() {
    let mut bench = Bench::one(Codec::Vp8);
    let start = bench.start;
    bench.take(start, &Rtp::default()).unwrap();
    bench.take(start, &Rtp { sequence: 1_500, ..Rtp::default() }).unwrap();
    assert_eq!(bench.feedback(start + 20 * MS), (vec![], vec![Ssrc(42)]));
    let stats = bench.receiver.stats().next().unwrap();
    assert_eq!((stats.nack_overflows, stats.packets_missing), (1, 0));
}

#[test]
fn frames_are_dated_by_the_publisher_s_clock() {
    let mut bench = Bench::one(Codec::Vp8);
    let start = bench.start;
    let captured = |bench: &mut Bench, now, sequence, timestamp| {
        bench.take(now, &Rtp { sequence, timestamp, payload: &DELTA_FRAME, ..Rtp::default() }).unwrap();
        bench.bursts()[0].burst.meta().times.captured
    };
    assert_eq!(captured(&mut bench, start, 0, 0), start, "nothing better is known");
    let ntp = NtpTime::from_unix(Duration::from_secs(1_000_000));
    bench.clock.handle_sender_report(start, ntp);
    bench.receiver.handle_sender_report(start, Ssrc(42), ntp, RtpTime(9_000));
    let at = captured(&mut bench, start + 200 * MS, 1, 18_000);
    assert!((start + 100 * MS).duration_since(at) < MS && at <= start + 100 * MS, "{:?}", at - start);
    assert_eq!(captured(&mut bench, start + 300 * MS, 2, 90_000), start + 300 * MS, "not from the future");
    assert_eq!(captured(&mut bench, start + 300 * MS, 3, 90_000_000_u32.wrapping_neg()), start + 300 * MS);
}

/// What one packet goes through on its way.
#[derive(Debug, Clone)]
struct Fate {
    lost: bool,
    copies: u8,
    /// In milliseconds.
    delay: u64,
    ends_batch: bool,
    ends_frame: bool,
}

fn fates(max: usize) -> impl Strategy<Value = Vec<Fate>> {
    let fate = (
        prop::bool::weighted(0.1),
        1_u8..3,
        prop_oneof![8 => Just(0_u64), 1 => 0_u64..30],
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(lost, copies, delay, ends_batch, ends_frame)| Fate {
            lost,
            copies,
            delay,
            ends_batch,
            ends_frame,
        });
    prop::collection::vec(fate, 2..max)
}

proptest! {
    /// Over a path that loses, doubles and reorders, with a publisher that answers every NACK by RTX, every packet is handed
    /// out exactly once, with its index.
    #[test]
    fn every_packet_is_handed_out_exactly_once_with_its_index(first: u16, fates in fates(600)) {
        let mut bench = Bench::new(Codec::Vp8.into(), &[EncodingParameters {
            ssrc: Some(Ssrc(42)), rtx_ssrc: Some(Ssrc(43)), rid: None,
        }]);
        let start = bench.start;
        let count = fates.len();
        // Number, timestamp and marker of each; five milliseconds apart.
        let mut timestamp = 0;
        let mut sent = Vec::new();
        for fate in &fates {
            sent.push((timestamp, fate.ends_frame));
            timestamp += u32::from(fate.ends_frame) * 3_000;
        }
        let payload = |number: usize| [0, 0xFF, (number >> 8) as u8, number as u8];
        let mut on_the_way: BTreeSet<(u64, usize, u8, bool)> = BTreeSet::new();
        for (number, fate) in fates.iter().enumerate() {
            // The first and the last arrive, so that all others are known to be missing.
            let lost = fate.lost && number > 0 && number + 1 < count;
            let delay = if number == 0 { 0 } else { fate.delay };
            for copy in 0..if lost { 0 } else { fate.copies } {
                on_the_way.insert((number as u64 * 5 + delay, number, copy, false));
            }
        }
        let mut handed: BTreeMap<u64, usize> = BTreeMap::new();
        let mut millis = 0;
        let mut rtx_sequence = 0_u16;
        let end = count as u64 * 5 + 2_000;
        while millis < end {
            let now = start + MS * millis as u32;
            while let Some(packet) = on_the_way.first().copied().filter(|packet| packet.0 <= millis) {
                on_the_way.remove(&packet);
                let (_, number, _, again) = packet;
                let (timestamp, marker) = sent[number];
                let sequence = first.wrapping_add(number as u16);
                let media = payload(number);
                let packet = Rtp { sequence, timestamp, marker, payload: &media, ..Rtp::default() };
                let result = if again {
                    rtx_sequence = rtx_sequence.wrapping_add(1);
                    let body = [&sequence.to_be_bytes()[..], &media].concat();
                    bench.take(now, &Rtp { payload_type: RTX, ssrc: 43, sequence: rtx_sequence, payload: &body, ..packet })
                } else {
                    bench.take(now, &packet)
                };
                prop_assert!(matches!(result, Ok(()) | Err(Refused::Duplicate)), "{result:?}");
                if fates[number].ends_batch {
                    collect(&mut bench, &sent, &mut handed)?;
                }
            }
            collect(&mut bench, &sent, &mut handed)?;
            if bench.receiver.poll_timeout() <= now {
                let missing: BTreeSet<u16> = (0..count).map(|number| first.wrapping_add(number as u16))
                    .filter(|sequence| !handed.values().any(|number| first.wrapping_add(*number as u16) == *sequence))
                    .collect();
                let (lost, key_frames) = bench.feedback(now);
                prop_assert!(key_frames.is_empty());
                for sequence in lost {
                    prop_assert!(missing.contains(&sequence), "{sequence} was asked for, but it is there");
                    on_the_way.insert((millis + 37, usize::from(sequence.wrapping_sub(first)), 9, true));
                }
            }
            millis += 1;
        }
        prop_assert_eq!(handed.len(), count);
        let base = handed.keys().next().copied().unwrap();
        prop_assert!(handed.iter().all(|(index, number)| index - base == *number as u64));
    }

    /// What is asked for is what is missing, no more and no less, as long as nothing is given up.
    #[test]
    fn what_is_asked_for_is_what_is_missing(first: u16, fates in fates(900)) {
        let mut bench = Bench::one(Codec::Vp8);
        let now = bench.start;
        let last = fates.len() - 1;
        let mut missing = Vec::new();
        for (number, fate) in fates.iter().enumerate() {
            let sequence = first.wrapping_add(number as u16);
            if fate.lost && number > 0 && number < last {
                missing.push(sequence);
            } else {
                bench.take(now, &Rtp { sequence, ..Rtp::default() }).unwrap();
                bench.bursts();
            }
        }
        let later = now + 10 * MS;
        let mut asked = Vec::new();
        while bench.receiver.poll_timeout() <= later {
            asked.extend(bench.feedback(later).0);
        }
        prop_assert_eq!(asked, missing);
    }

    #[test]
    fn any_packets_at_any_times_are_survived(
        codec in prop::sample::select(vec![
            MediaCodec::Video(Codec::Vp8), MediaCodec::Video(Codec::Vp9), MediaCodec::Video(Codec::H264), MediaCodec::Opus,
        ]),
        packets in prop::collection::vec(
            (0_u64..400, prop::sample::select(vec![MEDIA, RTX, 98]), any::<u16>(), 0_u32..4, 40_u32..46,
                prop::sample::select(vec!["low", "high", "other", ""]), prop::collection::vec(any::<u8>(), 0..12)),
            0..200,
        )
    ) {
        let mut bench = Bench::new(codec, &[named("low"), named("high")]);
        let mut now = bench.start;
        let mut indices = BTreeSet::new();
        for (gap, payload_type, sequence, timestamp, ssrc, rid, payload) in packets {
            now += MS * gap as u32;
            let rid: &[(u8, &[u8])] = if rid.is_empty() { &[] } else { &[(RID, rid.as_bytes()), (REPAIRED_RID, rid.as_bytes())] };
            // Half of them near each other.
            let sequence = if sequence % 2 == 0 { sequence } else { sequence % 64 };
            let packet = Rtp { payload_type, sequence, timestamp, ssrc, extensions: rid, payload: &payload, marker: gap % 2 == 0 };
            let _ = bench.take(now, &packet);
            bench.receiver.handle_sender_report(now, Ssrc(ssrc), NtpTime(u64::from(sequence) << 40), RtpTime(timestamp));
            bench.clock.handle_sender_report(now, NtpTime(u64::from(sequence) << 40));
            for burst in bench.bursts() {
                for index in burst.burst.packets() {
                    prop_assert!(indices.insert((burst.layer, index)), "handed out twice");
                }
            }
            bench.receiver.request_key_frame(now, (gap % 5) as u8);
            let _ = bench.feedback(now);
            let _ = bench.receiver.take_sending_change();
        }
    }
}

fn collect(bench: &mut Bench, sent: &[(u32, bool)], handed: &mut BTreeMap<u64, usize>) -> Result<(), TestCaseError> {
    for received in bench.bursts() {
        let (burst, meta) = (&received.burst, received.burst.meta());
        prop_assert!(!received.broken && !burst.is_empty());
        for (position, index) in burst.packets().enumerate() {
            let payload = burst.payload(position);
            let number = usize::from(payload[2]) << 8 | usize::from(payload[3]);
            prop_assert!(handed.insert(index, number).is_none(), "{index} was handed out before");
            let (timestamp, marker) = sent[number];
            prop_assert_eq!(meta.rtp_time, RtpTime(timestamp));
            prop_assert_eq!(marker, meta.ends_frame && position + 1 == burst.len());
        }
    }
    Ok(())
}
