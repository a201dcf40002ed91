use std::sync::Arc;

use lenscast_media::{Burst, BurstMeta, BurstPool, OpenBurst, PassedExtensions};

/// Gathers the packets of one stream into bursts: consecutive packets of one frame that come in one batch.
#[derive(Debug)]
pub(super) struct Gatherer {
    pool: BurstPool,
    open: Option<OpenBurst>,
}

/// Packets a burst has at most: as many as one UDP GSO call takes.
const MAX_PACKETS: usize = 64;
/// Payload bytes a burst has at most: a GSO call takes 65,507, and headers and tags need their part.
const MAX_BYTES: usize = 56_000;
/// Bursts kept for use again: as many as the retransmission buffer holds packets (2,500), if each came alone, and some on
/// their way.
const KEPT: usize = 2_560;

impl Gatherer {
    pub(super) const fn new() -> Self {
        Self { pool: BurstPool::with_capacity(KEPT), open: None }
    }

    /// Appends the packet that `meta` is of to the open burst if it continues it. Else the open burst is complete and
    /// returned, and the packet opens another.
    pub(super) fn push(&mut self, meta: BurstMeta, payload: &[u8]) -> Option<Arc<Burst>> {
        let complete = match &mut self.open {
            Some(open) if continues(open.burst(), &meta, payload) => {
                let burst = open.burst_mut();
                burst.push(&[payload]);
                let whole = burst.meta_mut();
                whole.ends_frame = meta.ends_frame;
                // What stands before a key frame's parameter sets in its burst is a beginning as good.
                whole.begins_frame |= meta.begins_frame && meta.key_frame && !whole.key_frame;
                whole.key_frame |= meta.key_frame;
                whole.layer_sync |= meta.layer_sync;
                whole.resolution = meta.resolution.or(whole.resolution);
                merge(&mut whole.extensions, &meta.extensions);
                return None;
            }
            Some(_) => self.take(),
            None => None,
        };
        let mut open = self.pool.open(meta);
        open.burst_mut().push(&[payload]);
        self.open = Some(open);
        complete
    }

    /// A burst of one packet, whatever is open.
    pub(super) fn alone(&mut self, meta: BurstMeta, payload: &[u8]) -> Arc<Burst> {
        self.pool.fill(meta, |burst| burst.push(&[payload]))
    }

    /// The open burst, if there is one: it is complete.
    pub(super) fn take(&mut self) -> Option<Arc<Burst>> {
        self.open.take().map(|open| self.pool.close(open))
    }
}

fn continues(burst: &Burst, meta: &BurstMeta, payload: &[u8]) -> bool {
    let before = burst.meta();
    meta.first_packet == burst.packets().end
        && meta.rtp_time == before.rtp_time
        && !before.ends_frame
        && burst.len() < MAX_PACKETS
        && burst.payload_bytes() + payload.len() <= MAX_BYTES
}

/// What any packet of the burst said holds for all of it.
fn merge(whole: &mut PassedExtensions, packet: &PassedExtensions) {
    whole.absolute_capture_time = packet.absolute_capture_time.or(whole.absolute_capture_time);
    whole.video_orientation = packet.video_orientation.or(whole.video_orientation);
    whole.audio_level = packet.audio_level.or(whole.audio_level);
    whole.playout_delay = packet.playout_delay.or(whole.playout_delay);
}
