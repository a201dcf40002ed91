//! What fuzz targets need of the inside. Compiled for them only.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lenscast_media::Ssrc;

use crate::{CongestionFeedback, PacketKind, PacketReport, SentHistory, TransportFeedback};

/// Reads transport-wide feedback messages, each after a byte that says how many packets leave before it and how long it is.
///
/// # Panics
///
/// If a report is of no packet, is told twice, or is out of order.
pub fn transport_feedback(data: &[u8]) {
    messages(data, |history, now, fci, reports| {
        if let Ok(feedback) = TransportFeedback::parse(fci) {
            assert_eq!(feedback.arrivals().count(), usize::from(feedback.packets()));
            history.handle_twcc(now, &feedback, reports);
        }
    });
}

/// Reads congestion control feedback messages in the same way.
///
/// # Panics
///
/// As [`transport_feedback`].
pub fn congestion_feedback(data: &[u8]) {
    messages(data, |history, now, fci, reports| {
        if let Ok(feedback) = CongestionFeedback::parse(fci) {
            assert!(feedback.metrics().count() <= fci.len() / 2);
            history.handle_ccfb(now, &feedback, reports);
        }
    });
}

fn messages(mut data: &[u8], handle: impl Fn(&mut SentHistory, Instant, &[u8], &mut Vec<PacketReport>)) {
    #[allow(clippy::disallowed_methods)]
    let mut now = Instant::now();
    let mut history = SentHistory::new();
    let mut reports = Vec::new();
    let mut sequence = 0_u16;
    let (mut missing, mut received) = (BTreeSet::new(), BTreeSet::new());
    while let [head, rest @ ..] = data {
        for _ in 0..usize::from(*head) {
            sequence =
                history.record_rtp(PacketKind::Video, 100, now, None, Ssrc(u32::from(sequence % 2)), sequence / 2);
        }
        now += Duration::from_millis(u64::from(*head) * 100);
        let (fci, rest) = rest.split_at(rest.len().min(usize::from(*head)));
        data = rest;
        reports.clear();
        handle(&mut history, now, fci, &mut reports);
        assert!(reports.is_sorted_by_key(|report| report.sent.sequence));
        for report in &reports {
            let told = if report.received_at.is_some() { &mut received } else { &mut missing };
            assert!(told.insert(report.sent.sequence), "it was told before");
        }
    }
}
