//! Feedback as another stack writes it, feedback that lies, and bytes that are none.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use lenscast_congestion::{
    CongestionFeedback, FeedbackError, PacketKind, PacketReport, ProbeId, SentHistory, TransportFeedback,
};
use lenscast_media::Ssrc;
use proptest::prelude::*;
use rtc_rtcp::transport_feedbacks::cc_feedback_report::{
    CcFeedbackMetricBlock, CcFeedbackReport, CcFeedbackReportBlock, Ecn,
};
use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};
use rtc_shared::marshal::Marshal;

/// RTCP's header, and the SSRCs of sender and media.
const TWCC_HEAD: usize = 12;
/// RTCP's header, and the SSRC of the sender.
const CCFB_HEAD: usize = 8;

/// A message about these packets: when each came, in ticks after the reference time.
fn twcc(base: u16, reference: u32, arrivals: &[Option<i64>], styles: &[u8]) -> Vec<u8> {
    let mut last = 0;
    let mut recv_deltas = Vec::new();
    let symbols: Vec<SymbolTypeTcc> = arrivals
        .iter()
        .map(|arrival| {
            let Some(arrival) = arrival else { return SymbolTypeTcc::PacketNotReceived };
            let delta = arrival - last;
            last = *arrival;
            let type_tcc_packet = match delta {
                0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
                _ => SymbolTypeTcc::PacketReceivedLargeDelta,
            };
            recv_deltas.push(RecvDelta { type_tcc_packet, delta: delta * 250 });
            type_tcc_packet
        })
        .collect();
    let mut packet_chunks = Vec::new();
    let mut rest = &symbols[..];
    for style in styles.iter().cycle() {
        let Some(first) = rest.first() else { break };
        let run = rest.iter().take_while(|symbol| *symbol == first).count().min(0x1FFF);
        let is_short = |symbol: &SymbolTypeTcc| *symbol != SymbolTypeTcc::PacketReceivedLargeDelta;
        let covered = match style {
            0 if rest.iter().take(14).all(is_short) => {
                packet_chunks.push(vector(&rest[..rest.len().min(14)], SymbolSizeTypeTcc::OneBit, 14));
                14
            }
            1 => {
                packet_chunks.push(vector(&rest[..rest.len().min(7)], SymbolSizeTypeTcc::TwoBit, 7));
                7
            }
            _ => {
                packet_chunks.push(PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                    type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                    packet_status_symbol: *first,
                    run_length: run as u16,
                }));
                run
            }
        };
        rest = &rest[covered.min(rest.len())..];
    }
    let message = TransportLayerCc {
        sender_ssrc: 1,
        media_ssrc: 2,
        base_sequence_number: base,
        packet_status_count: arrivals.len() as u16,
        reference_time: reference & 0xFF_FFFF,
        fb_pkt_count: 7,
        packet_chunks,
        recv_deltas,
    };
    message.marshal().expect("it can be written")[TWCC_HEAD..].to_vec()
}

fn vector(symbols: &[SymbolTypeTcc], symbol_size: SymbolSizeTypeTcc, len: usize) -> PacketStatusChunk {
    let mut symbol_list = symbols.to_vec();
    symbol_list.resize(len, SymbolTypeTcc::PacketNotReceived);
    PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
        type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
        symbol_size,
        symbol_list,
    })
}

/// A stream, its first packet, and of each: how long before the message it came, in 1/1024 s, and whether it was marked.
type Block = (u32, u16, Vec<Option<(u16, bool)>>);

fn ccfb(blocks: &[Block], timestamp: u32) -> Vec<u8> {
    let metric = |packet: &Option<(u16, bool)>| match packet {
        None => CcFeedbackMetricBlock::default(),
        Some((age, marked)) => CcFeedbackMetricBlock {
            received: true,
            ecn: if *marked { Ecn::Ce } else { Ecn::Ect1 },
            arrival_time_offset: *age,
        },
    };
    let report_blocks = blocks.iter().map(|(ssrc, begin, packets)| CcFeedbackReportBlock {
        media_ssrc: *ssrc,
        begin_sequence: *begin,
        metric_blocks: packets.iter().map(metric).collect(),
    });
    let message =
        CcFeedbackReport { sender_ssrc: 1, report_blocks: report_blocks.collect(), report_timestamp: timestamp };
    message.marshal().expect("it can be written")[CCFB_HEAD..].to_vec()
}

fn handle_twcc(history: &mut SentHistory, now: Instant, fci: &[u8]) -> Vec<PacketReport> {
    let mut reports = Vec::new();
    history.handle_twcc(now, &TransportFeedback::parse(fci).expect("it is feedback"), &mut reports);
    reports
}

fn handle_ccfb(history: &mut SentHistory, now: Instant, fci: &[u8]) -> Vec<PacketReport> {
    let mut reports = Vec::new();
    history.handle_ccfb(now, &CongestionFeedback::parse(fci).expect("it is feedback"), &mut reports);
    reports
}

/// What is reported: packet, and when it came, in milliseconds after the first that came in the test.
fn summary(reports: &[PacketReport], origin: Duration) -> Vec<(u64, Option<u128>)> {
    reports
        .iter()
        .map(|report| (report.sent.sequence, report.received_at.map(|at| (at - origin).as_millis())))
        .collect()
}

#[test]
fn a_packet_is_reported_missing_once_and_received_once() {
    let now = Instant::now();
    let mut history = SentHistory::new();
    for number in 0..6_u16 {
        let probe = (number == 2).then_some(ProbeId(4));
        assert_eq!(history.record(PacketKind::Video, 1_000, now, probe), number);
    }
    assert_eq!(history.in_flight_bytes(), 6_000);
    let reports = handle_twcc(&mut history, now, &twcc(0, 10, &[Some(0), None, Some(40), None, Some(44)], &[0]));
    let origin = reports[0].received_at.expect("it came");
    assert_eq!(summary(&reports, origin), [(0, Some(0)), (1, None), (2, Some(10)), (3, None), (4, Some(11))]);
    assert_eq!((reports[2].sent.probe, reports[2].sent.sent_at, reports[2].sent.size), (Some(ProbeId(4)), now, 1_000));
    assert_eq!(history.in_flight_bytes(), 1_000);
    let reports = handle_twcc(&mut history, now, &twcc(1, 10, &[None, Some(0), Some(80), Some(120), None], &[1]));
    assert_eq!(summary(&reports, origin), [(3, Some(20)), (5, None)], "3 came late, 5 is news");
    assert_eq!(history.in_flight_bytes(), 0);
    assert_eq!(history.packets(), 3, "1 and 5 may come yet, and 3 goes with 1");
    let reports = handle_twcc(&mut history, now, &twcc(0, 11, &[None, Some(0), None, None, None, Some(4)], &[2]));
    assert_eq!(summary(&reports, origin), [(1, Some(64)), (5, Some(65))]);
    assert_eq!(history.packets(), 0);
}

#[test]
fn reference_times_wrap_and_go_back() {
    let now = Instant::now();
    let mut history = SentHistory::new();
    let mut times = Vec::new();
    for (number, reference) in (0_u16..).zip([0xFF_FFFF, 0, 0xFF_FFFE, 0x7F_FFFD, 0xFF_FFF0, 0]) {
        history.record(PacketKind::Video, 1_000, now, None);
        let reports = handle_twcc(&mut history, now, &twcc(number, reference, &[Some(0)], &[0]));
        times.push(reports[0].received_at.expect("it came").as_millis() as i64 / 64);
    }
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [1, -2, 0x7F_FFFF, 0x7F_FFF3, 16]);
}

#[test]
fn packets_are_remembered_for_a_minute_and_no_more_than_half_the_numbers() {
    let start = Instant::now();
    let mut history = SentHistory::new();
    for _ in 0..40_000 {
        history.record(PacketKind::Video, 10, start, None);
    }
    assert_eq!((history.packets(), history.in_flight_bytes()), (1 << 15, 10 << 15));
    let reports = handle_twcc(&mut history, start, &twcc(7_231, 0, &[Some(0), Some(0), Some(0)], &[0]));
    assert_eq!(reports.iter().map(|report| report.sent.sequence).collect::<Vec<_>>(), [7_232, 7_233]);
    let late = start + Duration::from_secs(61);
    history.record(PacketKind::Video, 10, late, None);
    assert_eq!((history.packets(), history.in_flight_bytes()), (1, 10));
    history.record(PacketKind::Video, 10, late + Duration::from_secs(60), None);
    assert_eq!(history.packets(), 2);
    let reports = handle_twcc(&mut history, late, &twcc(39_999, 0, &[Some(0), None, Some(0)], &[0]));
    let told: Vec<_> = reports.iter().map(|report| (report.sent.sequence, report.received_at.is_some())).collect();
    assert_eq!(told, [(40_000, false), (40_001, true)]);
}

#[test]
fn rfc_8888_names_packets_by_stream() {
    let now = Instant::now();
    let mut history = SentHistory::new();
    for (ssrc, sequence) in [(7, 65_535), (8, 3), (7, 0), (8, 4), (9, 50), (7, 1), (8, 5), (7, 2)] {
        history.record_rtp(PacketKind::Video, 100, now, None, Ssrc(ssrc), sequence);
    }
    let blocks = [(8, 3, vec![Some((512, false)), None, Some((0, true))]), (7, 65_535, vec![Some((1_024, false))])];
    let reports = handle_ccfb(&mut history, now, &ccfb(&blocks, 9 << 16));
    let origin = reports[0].received_at.expect("it came");
    let expected = [(0, Some(0)), (1, Some(500)), (2, None), (3, None), (4, None), (5, None), (6, Some(1_000))];
    assert_eq!(summary(&reports, origin), expected, "what lies between and is not told of did not come");
    let marked: Vec<u64> =
        reports.iter().filter(|report| report.congestion_experienced).map(|report| report.sent.sequence).collect();
    assert_eq!(marked, [6]);
    assert_eq!(history.in_flight_bytes(), 100);
    let blocks = [(7, 0, vec![Some((0x1FFF, false)), None, Some((0x1FFE, false))]), (99, 0, vec![None; 3])];
    let reports = handle_ccfb(&mut history, now, &ccfb(&blocks, 19 << 16));
    assert_eq!(summary(&reports, origin), [(2, Some(11_000)), (7, Some(3_001))]);
}

#[test]
fn what_cannot_be_read_says_why() {
    let fci = twcc(5, 6, &[Some(3), None, Some(900)], &[2]);
    let feedback = TransportFeedback::parse(&fci).expect("it is feedback");
    assert_eq!((feedback.base_sequence(), feedback.packets(), feedback.reference_time()), (5, 3, 6));
    assert_eq!(feedback.number(), 7);
    for len in 0..fci.len() - 3 {
        assert_eq!(TransportFeedback::parse(&fci[..len]), Err(FeedbackError::Truncated));
    }
    assert_eq!(TransportFeedback::parse(&[0, 1, 0, 0, 0, 0, 0, 0]), Err(FeedbackError::Empty));
    assert_eq!(TransportFeedback::parse(&[0, 1, 0, 1, 0, 0, 0, 0, 0x60, 1]), Err(FeedbackError::Reserved));
    assert_eq!(TransportFeedback::parse(&[0, 1, 0, 1, 0, 0, 0, 0, 0xF0, 0]), Err(FeedbackError::Reserved));
    assert_eq!(TransportFeedback::parse(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 0]), Err(FeedbackError::Truncated), "empty runs");
    let fci = ccfb(&[(1, 2, vec![None, None, None])], 3);
    for len in [1, 3, 5, 10, 13, 15, 17] {
        assert_eq!(CongestionFeedback::parse(&fci[..len]).err(), Some(FeedbackError::Truncated), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_another_stack_writes_is_read(
        base: u16, reference in 0_u32..1 << 24,
        steps in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![3 => 0_i64..300, 1 => -4_000_i64..4_000]), 1..600),
        styles in prop::collection::vec(0_u8..3, 1..5)
    ) {
        let mut last = 0;
        let arrivals: Vec<Option<i64>> = steps.iter().map(|step| step.map(|step| { last += step; last })).collect();
        let fci = twcc(base, reference, &arrivals, &styles);
        let feedback = TransportFeedback::parse(&fci).expect("it is feedback");
        prop_assert_eq!(feedback.base_sequence(), base);
        prop_assert_eq!(feedback.reference_time(), reference);
        prop_assert_eq!(feedback.arrivals().collect::<Vec<_>>(), arrivals);
    }

    #[test]
    fn what_another_stack_writes_of_rfc_8888_is_read(
        blocks in prop::collection::vec(
            (any::<u32>(), any::<u16>(), prop::collection::vec(prop::option::of((0_u16..0x2000, any::<bool>())), 0..40)), 0..5),
        timestamp: u32
    ) {
        let fci = ccfb(&blocks, timestamp);
        let feedback = CongestionFeedback::parse(&fci).expect("it is feedback");
        prop_assert_eq!(feedback.timestamp(), timestamp);
        let expected: Vec<_> = blocks.iter().flat_map(|(ssrc, begin, packets)| {
            packets.iter().zip(0_u16..).map(|(packet, index)| {
                let age = packet.map(|(age, _)| if age == 0x1FFF { 0 } else { age });
                (Ssrc(*ssrc), begin.wrapping_add(index), age, packet.is_some_and(|(_, marked)| marked))
            })
        }).collect();
        let read: Vec<_> =
            feedback.metrics().map(|metric| (metric.ssrc, metric.sequence, metric.age, metric.congestion_experienced)).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), sent in 0_usize..300) {
        let now = Instant::now();
        let mut history = SentHistory::new();
        for number in 0..sent {
            history.record_rtp(PacketKind::Video, 100, now, None, Ssrc(u32::from(bytes.get(3).copied().unwrap_or(0))), number as u16);
        }
        if let Ok(feedback) = TransportFeedback::parse(&bytes) {
            prop_assert_eq!(feedback.arrivals().count(), usize::from(feedback.packets()));
            handle_twcc(&mut history, now, &bytes);
        }
        if let Ok(feedback) = CongestionFeedback::parse(&bytes) {
            prop_assert!(feedback.metrics().count() <= bytes.len() / 2);
            handle_ccfb(&mut history, now, &bytes);
        }
        prop_assert!(history.packets() <= sent);
    }

    /// Messages about any packets, sent or not, in any order, in both formats.
    #[test]
    fn reports_are_in_order_and_no_fate_is_told_twice(
        steps in prop::collection::vec((0_u64..400, 0_u64..700, prop::collection::vec(any::<bool>(), 1..200), any::<bool>(), 0_u64..20), 1..40)
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut history = SentHistory::new();
        let mut sent = BTreeMap::new();
        let (mut missing, mut received) = (BTreeSet::new(), BTreeSet::new());
        let mut told = None;
        for (count, back, came, as_rtp, seconds) in steps {
            for _ in 0..count {
                let number = sent.len() as u64;
                // Every third is of another stream.
                let (ssrc, sequence) = (Ssrc((number % 3) as u32), (number / 3) as u16);
                let size = 100 + (number % 7) as u32;
                let wire = history.record_rtp(PacketKind::Video, size, now, None, ssrc, sequence);
                prop_assert_eq!(wire, number as u16);
                sent.insert(number, (now, size));
            }
            now += Duration::from_secs(seconds);
            let first = (sent.len() as u64).saturating_sub(back);
            let before = history.clone();
            let reports = if as_rtp {
                let packets: Vec<_> = came.iter().map(|came| came.then_some((9, false))).collect();
                let blocks = [(1, (first / 3) as u16, packets.clone()), (0, (first / 3) as u16, packets)];
                handle_ccfb(&mut history, now, &ccfb(&blocks, (now - start).as_secs() as u32))
            } else {
                let arrivals: Vec<_> = came.iter().map(|came| came.then_some(4)).collect();
                handle_twcc(&mut history, now, &twcc(first as u16, 3, &arrivals, &[0, 1, 2]))
            };
            prop_assert!(history.packets() <= before.packets());
            prop_assert!(reports.is_sorted_by_key(|report| report.sent.sequence));
            for report in &reports {
                let number = report.sent.sequence;
                prop_assert_eq!(Some(&(report.sent.sent_at, report.sent.size)), sent.get(&number));
                prop_assert!(!received.contains(&number), "it had come before");
                if report.received_at.is_some() {
                    received.insert(number);
                } else {
                    prop_assert!(missing.insert(number), "it was missing before");
                }
                if !as_rtp {
                    let index = (number - first) as usize;
                    prop_assert_eq!(report.received_at.is_some(), came[index]);
                }
                told = told.max(Some(number));
            }
            if !as_rtp && first < sent.len() as u64 {
                told = told.max(Some((first + came.len() as u64 - 1).min(sent.len() as u64 - 1)));
            }
            let in_flight: u64 = sent.iter()
                .filter(|(number, _)| told.is_none_or(|told| **number > told))
                .map(|(_, (_, size))| u64::from(*size))
                .sum();
            prop_assert!(history.in_flight_bytes() <= in_flight);
            if now - start < Duration::from_secs(60) {
                prop_assert_eq!(history.in_flight_bytes(), in_flight);
            }
        }
    }
}
