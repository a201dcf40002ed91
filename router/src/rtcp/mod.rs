//! RTCP: reads what viewers and publishers send (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3.1, RFC 3611 §4.4), and writes
//! what they are told (the same, draft-holmer-rmcat-transport-wide-cc-extensions-01 §3, draft-alvestrand-rmcat-remb-03).
//!
//! Reading borrows the packet and allocates nothing. A packet that says it is longer than what is there ends the
//! compound with an error; one of an unknown type or with unknown content is passed over as [`Packet::Other`].
//!
//! What it does not do: read what stands in congestion control feedback, which belongs to the congestion controller.

mod read;
mod write;

pub use read::{
    Application, ExtendedBlock, ExtendedBlocks, FirEntries, Goodbyes, NackPairs, Names, Packet, ReadRtcpError,
    ReportBlock, ReportBlocks, SenderReport, read,
};
pub use write::{Compound, PacketStatus, TransportFeedbackHead};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const APPLICATION: u8 = 204;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// Version, padding bit, count; packet type; length (RFC 3550 §6.4.1).
const HEADER_LEN: usize = 4;
const PADDED: u8 = 1 << 5;

/// FMT of a generic NACK (RFC 4585 §6.2.1).
const FMT_NACK: u8 = 1;
/// FMT of a picture loss indication (RFC 4585 §6.3.1).
const FMT_PLI: u8 = 1;
/// FMT of a full intra request (RFC 5104 §4.3.1.1).
const FMT_FIR: u8 = 4;
/// FMT of application layer feedback, which REMB is (draft-alvestrand-rmcat-remb-03 §2.2).
const FMT_APPLICATION: u8 = 15;
/// FMT of transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
const FMT_TRANSPORT_WIDE: u8 = 15;
/// FMT of congestion control feedback (RFC 8888 §3.1).
const FMT_CONGESTION_CONTROL: u8 = 11;
/// Block types of extended reports (RFC 3611 §4.4 and §4.5).
const XR_RECEIVER_REFERENCE_TIME: u8 = 4;
const XR_DLRR: u8 = 5;

#[cfg(test)]
mod tests {
    use lenscast_media::{Bitrate, NtpTime, RtpTime, Ssrc};
    use proptest::prelude::*;
    use rtc_rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc_rtcp::receiver_report::ReceiverReport;
    use rtc_rtcp::reception_report::ReceptionReport;
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
    use rtc_shared::marshal::Marshal;

    use super::*;

    fn all(compound: &[u8]) -> Vec<Packet<'_>> {
        read(compound).map(Result::unwrap).collect()
    }

    #[test]
    fn reads_what_another_stack_writes() {
        let report = ReceiverReport {
            ssrc: 1,
            reports: vec![ReceptionReport {
                ssrc: 42,
                fraction_lost: 64,
                total_lost: 1_000,
                last_sequence_number: 0x0001_FFFF,
                jitter: 90,
                last_sender_report: 7,
                delay: 8,
            }],
            ..Default::default()
        };
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: 42,
            nacks: nack_pairs_from_sequence_numbers(&[65_534, 65_535, 1, 40]),
        };
        let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc: 42 };
        let fir =
            FullIntraRequest { sender_ssrc: 1, media_ssrc: 42, fir: vec![FirEntry { ssrc: 42, sequence_number: 9 }] };
        let mut compound = Vec::new();
        compound.extend_from_slice(&report.marshal().unwrap());
        compound.extend_from_slice(&nack.marshal().unwrap());
        compound.extend_from_slice(&pli.marshal().unwrap());
        compound.extend_from_slice(&fir.marshal().unwrap());

        let packets = all(&compound);
        let Packet::Reports(mut blocks) = packets[0] else { panic!("{packets:?}") };
        let block = blocks.next().unwrap();
        assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (Ssrc(42), 64, 1_000));
        assert_eq!((block.highest_sequence, block.jitter), (0x0001_FFFF, 90));
        assert_eq!((block.last_sender_report, block.delay_since_last_sender_report), (7, 8));
        assert!(blocks.next().is_none());
        let Packet::Nack { media, lost } = packets[1] else { panic!("{packets:?}") };
        assert_eq!((media, lost.sequences().collect::<Vec<_>>()), (Ssrc(42), vec![65_534, 65_535, 1, 40]));
        assert_eq!(packets[2], Packet::Pli { media: Ssrc(42) });
        let Packet::Fir(entries) = packets[3] else { panic!("{packets:?}") };
        assert_eq!(entries.collect::<Vec<_>>(), vec![(Ssrc(42), 9)]);
    }

    #[test]
    fn another_stack_reads_what_is_written() {
        let mut compound = Compound::new();
        compound.push_sender_report(Ssrc(5), NtpTime(0x1122_3344_5566_7788), RtpTime(99), 1 << 32 | 3, 4);
        compound.push_cname(Ssrc(5), "front camera");
        compound.push_dlrr(Ssrc(5), Ssrc(6), 7, 8);
        compound.push_bye(Ssrc(5));
        let mut bytes = bytes::Bytes::copy_from_slice(compound.as_bytes());
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        let texts: Vec<String> = packets.iter().map(|packet| format!("{packet:?}")).collect();
        let any = |index: usize| packets[index].as_any();
        let report = any(0).downcast_ref::<rtc_rtcp::sender_report::SenderReport>().unwrap();
        assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (5, 0x1122_3344_5566_7788, 99));
        assert_eq!((report.packet_count, report.octet_count), (3, 4));
        assert!(texts[1].contains("front camera"), "{texts:?}");
        let extended = any(2).downcast_ref::<rtc_rtcp::extended_report::ExtendedReport>().unwrap();
        assert_eq!(extended.sender_ssrc, 5);
        assert!(any(3).downcast_ref::<rtc_rtcp::goodbye::Goodbye>().is_some(), "{texts:?}");
        assert!(packets[0].raw_size().is_multiple_of(4));
    }

    #[test]
    fn another_stack_reads_what_a_receiver_writes() {
        let block = ReportBlock {
            ssrc: Ssrc(42),
            fraction_lost: 7,
            cumulative_lost: -3,
            highest_sequence: 0x0001_0002,
            jitter: 9,
            last_sender_report: 10,
            delay_since_last_sender_report: 11,
        };
        let lost = [65_534_u16, 65_535, 1, 14, 15, 300];
        let mut compound = Compound::new();
        compound.push_report_blocks(Ssrc(1), &[block, block]);
        compound.push_nack(Ssrc(1), Ssrc(42), lost);
        compound.push_pli(Ssrc(1), Ssrc(42));
        compound.push_maximum_bitrate(Ssrc(1), Bitrate::from_kbps(2_500), &[Ssrc(42), Ssrc(43)]);
        compound.push_nack(Ssrc(1), Ssrc(42), []);
        let mut bytes = bytes::Bytes::copy_from_slice(compound.as_bytes());
        let packets = rtc_rtcp::packet::unmarshal(&mut bytes).unwrap();
        assert_eq!(packets.len(), 4, "nothing asked for is nothing written");
        let report = packets[0].as_any().downcast_ref::<ReceiverReport>().unwrap();
        assert_eq!((report.ssrc, report.reports.len(), report.reports[1].total_lost), (1, 2, 0xFF_FFFD));
        let nack = packets[1].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        let asked: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        assert_eq!((nack.media_ssrc, nack.nacks.len(), &asked[..]), (42, 3, &lost[..]));
        let pli = packets[2].as_any().downcast_ref::<PictureLossIndication>().unwrap();
        assert_eq!((pli.sender_ssrc, pli.media_ssrc), (1, 42));
        let maximum = packets[3].as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>().unwrap();
        assert_eq!((&maximum.ssrcs[..], maximum.bitrate), (&[42, 43][..], 2_500_000.0));
        let Packet::Reports(mut blocks) = all(compound.as_bytes())[0] else { panic!() };
        assert_eq!(blocks.next(), Some(block));
    }

    #[test]
    fn what_a_source_says_of_itself_is_read_back() {
        let mut compound = Compound::new();
        compound.push_sender_report(Ssrc(5), NtpTime(0x1122_3344_5566_7788), RtpTime(99), 3, 4);
        compound.push_cname(Ssrc(5), "front camera");
        compound.push_application(Ssrc(5), 3, *b"LCST", &[1, 2, 3, 4]);
        compound.push_bye(Ssrc(5));
        let packets = all(compound.as_bytes());
        let Packet::SenderReport(report) = packets[0] else { panic!("{packets:?}") };
        assert_eq!((report.sender, report.ntp, report.rtp), (Ssrc(5), NtpTime(0x1122_3344_5566_7788), RtpTime(99)));
        assert_eq!((report.packets, report.octets, report.reports.count()), (3, 4, 0));
        let Packet::Names(names) = packets[1] else { panic!("{packets:?}") };
        assert_eq!(names.collect::<Vec<_>>(), [(Ssrc(5), &b"front camera"[..])]);
        let application = Application { sender: Ssrc(5), name: *b"LCST", subtype: 3, data: &[1, 2, 3, 4] };
        assert_eq!(packets[2], Packet::Application(application));
        let Packet::Goodbyes(sources) = packets[3] else { panic!("{packets:?}") };
        assert_eq!(sources.collect::<Vec<_>>(), [Ssrc(5)]);
    }

    #[test]
    fn names_are_found_behind_other_items_and_chunks() {
        let bytes = [
            &[0x83, 202, 0, 8][..],
            &[0, 0, 0, 1, 2, 1, b'n', 0],
            &[0, 0, 0, 2, 3, 0, 1, 2, b'a', b'b', 0, 0],
            &[0, 0, 0, 3, 1, 200, b'c', 0, 0, 0, 0, 0],
        ]
        .concat();
        let Packet::Names(names) = all(&bytes)[0] else { panic!() };
        assert_eq!(names.collect::<Vec<_>>(), [(Ssrc(2), &b"ab"[..])]);
    }

    #[test]
    fn cumulative_loss_can_be_negative() {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&[0x81, 201, 0, 7, 0, 0, 0, 1]);
        bytes[12..16].copy_from_slice(&[0, 0xFF, 0xFF, 0xFE]);
        let [Packet::Reports(mut blocks)] = all(&bytes)[..] else { panic!() };
        assert_eq!(blocks.next().unwrap().cumulative_lost, -2);
    }

    #[test]
    fn a_receivers_reference_time_is_found_behind_other_blocks() {
        let mut bytes = vec![0x80, 207, 0, 0, 0, 0, 0, 9];
        bytes.extend_from_slice(&[1, 0, 0, 1, 1, 2, 3, 4]);
        bytes.extend_from_slice(&[4, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        let [Packet::Extended { sender, blocks }] = all(&bytes)[..] else { panic!() };
        assert_eq!(sender, Ssrc(9));
        assert_eq!(blocks.collect::<Vec<_>>(), [ExtendedBlock::ReferenceTime(NtpTime(1 << 32 | 2))]);
    }

    #[test]
    fn returned_reference_times_are_read_whoever_they_are_for() {
        let mut bytes = vec![0x80, 207, 0, 0, 0, 0, 0, 9];
        bytes.extend_from_slice(&[5, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6]);
        bytes.extend_from_slice(&[4, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        let returned =
            |receiver, last_report, delay| ExtendedBlock::Returned { receiver: Ssrc(receiver), last_report, delay };
        let blocks = |bytes: &[u8]| match all(bytes)[..] {
            [Packet::Extended { blocks, .. }] => blocks.collect::<Vec<_>>(),
            _ => panic!(),
        };
        let expected = [returned(1, 2, 3), returned(4, 5, 6), ExtendedBlock::ReferenceTime(NtpTime(1 << 32 | 2))];
        assert_eq!(blocks(&bytes), expected);
        // The first block says that it is longer than all there is.
        bytes[11] = 60;
        assert_eq!(blocks(&bytes), []);
    }

    #[test]
    fn padding_is_no_content() {
        let mut nack = vec![0xA1, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 42, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8];
        let [Packet::Nack { lost, .. }] = all(&nack)[..] else { panic!() };
        assert_eq!(lost.sequences().collect::<Vec<_>>(), [7]);
        for wrong in [0, 21, 255] {
            *nack.last_mut().unwrap() = wrong;
            let expected = ReadRtcpError::Padding { packet_type: 205, padding: usize::from(wrong) };
            assert_eq!(read(&nack).collect::<Vec<_>>(), [Err(expected)]);
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_end_the_compound() {
        let errors: [(&[u8], &str); 4] = [
            (&[0x80, 201], "RTCP packet of 2 bytes is shorter than its 4-byte header"),
            (&[0x40, 201, 0, 0], "RTCP version is 1, must be 2"),
            (&[0x80, 201, 0, 9, 0, 0, 0, 0], "RTCP packet type 201 says it has 40 bytes, 8 are there"),
            (&[0x81, 206, 0, 0], "RTCP packet type 206 says it has 12 bytes, 4 are there"),
        ];
        for (bytes, text) in errors {
            let results: Vec<_> = read(bytes).collect();
            assert_eq!(results.len(), 1);
            assert_eq!(results[0].unwrap_err().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn reading_garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..1_500)) {
            drain(&bytes);
        }

        #[test]
        fn reading_near_garbage_ends(
            kind in 200_u8..208, count in 0_u8..64, body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let body_words = body.len() / 4;
            let mut bytes = vec![0x80 | count, kind, 0, body_words as u8];
            bytes.extend_from_slice(&body);
            drain(&bytes);
        }
    }

    fn drain(bytes: &[u8]) {
        for packet in read(bytes).flatten() {
            match packet {
                Packet::Reports(blocks) | Packet::SenderReport(SenderReport { reports: blocks, .. }) => {
                    assert!(blocks.count() <= 31);
                }
                Packet::Names(names) => assert!(names.count() <= bytes.len() / 4),
                Packet::Goodbyes(sources) => assert!(sources.count() <= 31),
                Packet::Application(application) => assert!(application.data.len() < bytes.len()),
                Packet::Nack { lost, .. } => assert!(lost.sequences().count() <= bytes.len() / 4 * 17),
                Packet::Fir(entries) => assert!(entries.count() <= bytes.len() / 8),
                Packet::Extended { blocks, .. } => assert!(blocks.count() <= bytes.len() / 12),
                Packet::TransportWide(rest) | Packet::CongestionControl(rest) => assert!(rest.len() < bytes.len()),
                Packet::Pli { .. } | Packet::Other { .. } => {}
            }
        }
    }
}
