//! What the tests of this module share.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::network::{PacketKind, PacketReport, SentPacket};

/// A time to count from: the same one for a whole run.
#[expect(clippy::disallowed_methods, reason = "tests need some time to begin with")]
pub(super) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A video packet that was sent and has arrived so many milliseconds after the start, or has not.
pub(super) fn report(sequence: u64, size: u32, sent_ms: u64, received_ms: Option<u64>) -> PacketReport {
    let sent_at = start() + Duration::from_millis(sent_ms);
    PacketReport {
        sent: SentPacket { sequence, size, sent_at, kind: PacketKind::Video, probe: None },
        received_at: received_ms.map(Duration::from_millis),
        congestion_experienced: false,
    }
}
