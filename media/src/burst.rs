use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::{MediaCodec, NtpTime, Resolution, RtpTime, StageTimes};

/// RTP packets of one encoded frame that travel together: the unit of forwarding.
///
/// A local encoder's burst is a whole frame. A received stream's is a run of consecutive packets of one frame that came
/// in together; a packet that comes late is a burst of its own, with a lower [`BurstMeta::first_packet`].
///
/// Holds payloads only (codec descriptor and fragment); each consumer writes its own RTP header in front of them. Of VP8
/// and VP9, all payloads but the last are of equal length and the last is not longer, so that one UDP GSO call can carry
/// the burst. Of H.264 that holds for each NAL unit, and a key frame's parameter sets are a shorter packet before its
/// slice: they take a call of their own.
///
/// **Invariant.** A burst that has left its [`BurstPool`] never changes, and an empty one is not forwarded.
#[derive(Debug, Clone)]
pub struct Burst {
    meta: BurstMeta,
    data: Vec<u8>,
    /// End of each packet in `data`; packet *i* starts where *i − 1* ends.
    ends: Vec<u32>,
}

/// What is known of a [`Burst`] besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct BurstMeta {
    /// Says how the payloads are to be read.
    pub codec: MediaCodec,
    /// True if a decoder can start with this frame. Of a frame in several bursts, all say so.
    pub key_frame: bool,
    /// True if the first packet is the first of its frame.
    pub begins_frame: bool,
    /// True if the last packet is the last of its frame: the one with the marker.
    pub ends_frame: bool,
    /// Size of the encoded picture, where it is known.
    pub resolution: Option<Resolution>,
    /// The temporal layer, 0 for the base.
    pub temporal_layer: u8,
    /// True if this frame depends on base-layer frames only: a decoder of lower temporal layers may switch up here.
    pub layer_sync: bool,
    /// Index of the first packet in its stream, counted from 0 without wrapping; the others follow without a gap.
    pub first_packet: u64,
    /// The capture time on the stream's RTP clock.
    pub rtp_time: RtpTime,
    /// Where the frame's time went.
    pub times: StageTimes,
    /// What the source said in header extensions that every receiver is to have.
    pub extensions: PassedExtensions,
}

/// Header extensions that a router passes on as they came. None of them on a burst from a local encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassedExtensions {
    /// `abs-capture-time`; without it the capture time is [`StageTimes::captured`].
    pub absolute_capture_time: Option<NtpTime>,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114 §7.4.5), one byte.
    pub video_orientation: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464 §3), one byte.
    pub audio_level: Option<u8>,
    /// `playout-delay`: minimum and maximum, 12 bits each, in 10 ms.
    pub playout_delay: Option<[u8; 3]>,
}

impl Burst {
    /// A burst that owns its memory outside any pool, with no packets yet.
    #[must_use]
    pub fn new(meta: BurstMeta) -> Self {
        Self { meta, data: Vec::new(), ends: Vec::new() }
    }

    /// What is known of it besides its bytes.
    #[must_use]
    pub const fn meta(&self) -> &BurstMeta {
        &self.meta
    }

    /// Number of packets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True before the first packet is pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all payloads together.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.data.len()
    }

    /// The payload of packet `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Burst::len`].
    #[must_use]
    pub fn payload(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.data[start..self.ends[index] as usize]
    }

    /// Indices of the burst's packets in their stream.
    #[must_use]
    pub fn packets(&self) -> Range<u64> {
        self.meta.first_packet..self.meta.first_packet + self.ends.len() as u64
    }

    /// Appends a packet whose payload is `parts` one after the other.
    ///
    /// # Panics
    ///
    /// If the burst would exceed 4 GiB.
    pub fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.data.extend_from_slice(part);
        }
        self.ends.push(u32::try_from(self.data.len()).expect("a frame is far below 4 GiB"));
    }

    /// What is known of it, to be completed.
    pub fn meta_mut(&mut self) -> &mut BurstMeta {
        &mut self.meta
    }

    /// Records when the last packet had been cut.
    pub fn set_encoded_at(&mut self, at: std::time::Instant) {
        self.meta.times.encoded = at;
    }

    fn reset(&mut self, meta: BurstMeta) {
        self.meta = meta;
        self.data.clear();
        self.ends.clear();
    }
}

/// Hands out bursts and takes them back, so that a running track allocates nothing.
///
/// A burst is free again once every [`Arc`] of it is dropped, the retransmission buffers' too.
#[derive(Debug)]
pub struct BurstPool {
    /// The oldest first, hence the first to be free.
    bursts: VecDeque<Arc<Burst>>,
    capacity: usize,
}

/// A burst that its pool has not handed out yet: it can be filled packet by packet.
#[derive(Debug)]
#[must_use]
pub struct OpenBurst(Arc<Burst>);

impl OpenBurst {
    /// The burst.
    #[must_use]
    pub fn burst(&self) -> &Burst {
        &self.0
    }

    /// The burst, to be filled.
    pub fn burst_mut(&mut self) -> &mut Burst {
        Arc::get_mut(&mut self.0).expect("nobody else holds an open burst")
    }
}

impl Default for BurstPool {
    fn default() -> Self {
        Self::new()
    }
}

impl BurstPool {
    /// Kept at most, unless another number is given: two seconds of retransmission at 120 frames/s, and some on their way.
    pub const CAPACITY: usize = 256;
    /// What a burst keeps of its memory for the next time, if there are more than [`BurstPool::CAPACITY`]: many bursts are
    /// small ones, and the occasional large one must not make all of them large in the end.
    const MAX_KEPT_BYTES: usize = 16 << 10;

    /// An empty pool.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty pool that will keep at most `capacity` bursts.
    #[must_use]
    pub const fn with_capacity(capacity: usize) -> Self {
        Self { bursts: VecDeque::new(), capacity }
    }

    /// Gives `fill` an empty burst with this `meta`, and returns it as `fill` left it.
    pub fn fill(&mut self, meta: BurstMeta, fill: impl FnOnce(&mut Burst)) -> Arc<Burst> {
        let mut open = self.open(meta);
        fill(open.burst_mut());
        self.close(open)
    }

    /// An empty burst with this `meta`, to be given back to [`BurstPool::close`].
    pub fn open(&mut self, meta: BurstMeta) -> OpenBurst {
        // The oldest is the first to be free: if that one is not, the others hardly are.
        let free = (0..self.bursts.len().min(4)).find(|at| Arc::strong_count(&self.bursts[*at]) == 1);
        let many = self.bursts.len() > Self::CAPACITY;
        let Some(mut burst) = free.and_then(|at| self.bursts.remove(at)) else {
            return OpenBurst(Arc::new(Burst::new(meta)));
        };
        if let Some(burst) = Arc::get_mut(&mut burst) {
            burst.reset(meta);
            if many && burst.data.capacity() > Self::MAX_KEPT_BYTES {
                burst.data.shrink_to(Self::MAX_KEPT_BYTES);
            }
        }
        OpenBurst(burst)
    }

    /// Hands out a burst that was opened. It never changes from here on.
    #[must_use]
    pub fn close(&mut self, open: OpenBurst) -> Arc<Burst> {
        if self.bursts.len() >= self.capacity {
            self.bursts.pop_front();
        }
        self.bursts.push_back(Arc::clone(&open.0));
        open.0
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Instant;

    use super::*;
    use crate::Codec;

    fn meta(first_packet: u64) -> BurstMeta {
        let now = Instant::now();
        BurstMeta {
            codec: MediaCodec::Video(Codec::Vp8),
            key_frame: false,
            begins_frame: true,
            ends_frame: true,
            resolution: None,
            temporal_layer: 0,
            layer_sync: false,
            first_packet,
            rtp_time: RtpTime(0),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        }
    }

    #[test]
    fn payloads_come_back_as_they_were_pushed() {
        let mut burst = Burst::new(meta(7));
        burst.push(&[b"ab", b"cd"]);
        burst.push(&[b"e"]);
        assert_eq!((burst.payload(0), burst.payload(1)), (&b"abcd"[..], &b"e"[..]));
        assert_eq!((burst.packets(), burst.payload_bytes()), (7..9, 5));
    }

    #[test]
    fn a_steady_stream_settles_on_a_fixed_set_of_bursts() {
        let mut pool = BurstPool::new();
        let mut retained = VecDeque::new();
        let mut allocated = std::collections::BTreeSet::new();
        for number in 0..1_000 {
            let burst = pool.fill(meta(number), |burst| burst.push(&[&number.to_be_bytes()]));
            assert_eq!(burst.payload(0), number.to_be_bytes());
            allocated.insert(Arc::as_ptr(&burst) as usize);
            retained.push_back(burst);
            if retained.len() > 60 {
                retained.pop_front();
            }
            for (age, held) in retained.iter().rev().enumerate() {
                assert_eq!(held.meta().first_packet, number - age as u64, "a held burst never changes");
            }
        }
        assert!(allocated.len() <= 64, "{} bursts allocated for 61 retained", allocated.len());
    }

    #[test]
    fn a_burst_can_be_filled_packet_by_packet() {
        let mut pool = BurstPool::with_capacity(1_000);
        let mut held = VecDeque::new();
        for number in 0..2_000 {
            let mut open = pool.open(meta(number));
            let size = if number % 100 == 0 { 60_000 } else { 1_000 };
            open.burst_mut().push(&[&vec![number as u8; size]]);
            open.burst_mut().push(&[b"x"]);
            open.burst_mut().meta_mut().ends_frame = number % 2 == 0;
            held.push_back(pool.close(open));
            if held.len() > 500 {
                held.pop_front();
            }
        }
        let last = held.back().unwrap();
        assert_eq!((last.len(), last.meta().first_packet, last.meta().ends_frame), (2, 1_999, false));
        let kept: usize = pool.bursts.iter().map(|burst| burst.data.capacity()).sum();
        assert!(pool.bursts.len() <= 505 && kept < 505 * BurstPool::MAX_KEPT_BYTES, "{kept} bytes");
    }

    #[test]
    fn the_pool_stays_bounded_when_nobody_gives_back() {
        let mut pool = BurstPool::new();
        let held: Vec<_> = (0..1_000).map(|number| pool.fill(meta(number), |burst| burst.push(&[b"x"]))).collect();
        assert!(pool.bursts.len() <= BurstPool::CAPACITY);
        assert!(held.iter().enumerate().all(|(number, burst)| burst.meta().first_packet == number as u64));
    }
}
