//! The stream of a camera that is not there: 208 packets a second of 1,200 bytes, 2 Mb/s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, BurstMeta, BurstPool, Codec, LayerSet, PassedExtensions, Resolution, RtpTime, StageTimes};
use lenscast_transport::{BurstSender, Upstream};

pub(crate) const PACKETS_PER_FRAME: usize = 7;
/// With 12 bytes of header and 16 of tag, 1,200 on the wire.
pub(crate) const PAYLOAD: usize = 1_200 - 12 - 16;
pub(crate) const PACKETS_PER_SECOND: f64 = 208.0;

pub(crate) struct Frames {
    sender: BurstSender,
    pool: BurstPool,
    first_packet: u64,
    /// Bursts sent so far.
    pub(crate) bursts: u64,
    /// Packets that the router took.
    pub(crate) accepted: u64,
    /// Bursts that the router had no room for.
    pub(crate) refused: u64,
}

impl Frames {
    pub(crate) fn new(sender: BurstSender) -> Self {
        Self { sender, pool: BurstPool::new(), first_packet: 0, bursts: 0, accepted: 0, refused: 0 }
    }

    /// Sends what belongs into this time, evenly. Returns how many packets.
    pub(crate) fn send_for(&mut self, length: Duration) -> u64 {
        let start = Instant::now();
        let a_second = PACKETS_PER_SECOND / PACKETS_PER_FRAME as f64;
        let bursts = (length.as_secs_f64() * a_second) as u64;
        for number in 0..bursts {
            let due = start + Duration::from_secs_f64(number as f64 / a_second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let burst = self.next();
            if self.sender.send(0, &burst) {
                self.accepted += burst.len() as u64;
            } else {
                self.refused += 1;
            }
        }
        bursts * PACKETS_PER_FRAME as u64
    }

    fn next(&mut self) -> Arc<Burst> {
        let (now, packets) = (Instant::now(), PACKETS_PER_FRAME);
        let meta = BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame: self.bursts == 0,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(Resolution::new(1280, 720).expect("a resolution")),
            temporal_layer: 0,
            layer_sync: false,
            first_packet: self.first_packet,
            rtp_time: RtpTime((self.first_packet / PACKETS_PER_FRAME as u64 * 3_000) as u32),
            extensions: PassedExtensions::default(),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
        };
        let burst = self.pool.fill(meta, |burst| {
            for packet in 0..packets {
                burst.push(&[&[packet as u8; PAYLOAD]]);
            }
        });
        self.first_packet = burst.packets().end;
        self.bursts += 1;
        burst
    }
}

pub(crate) struct NoCamera;

impl Upstream for NoCamera {
    fn set_wanted(&self, _: LayerSet) {}

    fn request_key_frame(&self, _: u8) {}
}
