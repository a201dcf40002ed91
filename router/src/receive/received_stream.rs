use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, BurstMeta, MediaCodec, PassedExtensions, Resolution, RtpTime, Ssrc, StageTimes};

use super::gatherer::Gatherer;
use super::key_frame_request::KeyFrameRequest;
use super::nack_generator::{Gap, NackGenerator};
use super::payload::PayloadFacts;
use super::publisher_clock::{PublisherClock, SenderReportTimes};
use super::reception::Reception;
use super::sequence_window::{Placed, SequenceWindow};
use super::{ExtensionValues, ReceivedLayerStats, Refused};
use crate::rtcp::{Compound, ReportBlock};
use crate::score::{PacketCounts, Score, StreamScore};

/// One layer of a received stream: puts its packets in order, knows what is missing, and makes bursts of them.
#[derive(Debug)]
pub(super) struct ReceivedStream {
    codec: MediaCodec,
    clock_rate: u32,
    window: SequenceWindow,
    reception: Reception,
    nacks: NackGenerator,
    key_frame_request: KeyFrameRequest,
    sender_report: Option<SenderReportTimes>,
    gatherer: Gatherer,
    /// The newest packet.
    newest: Option<Newest>,
    /// The timestamp of the newest key frame: its other packets do not say that they belong to one.
    key_frame: Option<RtpTime>,
    resolution: Option<Resolution>,
    /// The next burst does not continue what came before.
    broken: bool,
    /// When the newest packet that carries something came.
    last_packet: Option<Instant>,
    score: StreamScore,
    fraction_lost: u8,
    counts: Counts,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    index: u64,
    timestamp: RtpTime,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    packets: u64,
    bytes: u64,
    retransmitted: u64,
    /// Packets asked for that came.
    repaired: u64,
    /// Of sequences that ended, so that the totals go on over a restart.
    expected_before: u64,
    received_before: u64,
    requested: u64,
    nacks: u64,
    plis: u64,
    overflows: u64,
    frames: u64,
    key_frames: u64,
    duplicates: u64,
    restarts: u64,
}

/// A packet of the stream, by itself or out of its retransmission.
#[derive(Debug, Clone, Copy)]
pub(super) struct MediaPacket<'a> {
    pub(super) sequence: u16,
    pub(super) timestamp: RtpTime,
    pub(super) marker: bool,
    pub(super) payload: &'a [u8],
    pub(super) retransmission: bool,
}

/// Silence after which a layer counts as not sent (mediasoup's `InactivityCheckInterval`).
pub(super) const SILENCE: Duration = Duration::from_millis(1_500);
/// A capture time this long before its packet came is not believed.
const MAX_CAPTURE_AGE: Duration = Duration::from_secs(10);
/// Packets asked for again in one compound, so that it fits into a datagram: four bytes each at worst.
const MAX_ASKED_AT_ONCE: usize = 200;

impl ReceivedStream {
    pub(super) fn new(codec: MediaCodec, clock_rate: u32, now: Instant) -> Self {
        Self {
            codec,
            clock_rate,
            window: SequenceWindow::default(),
            reception: Reception::new(clock_rate, now),
            nacks: NackGenerator::default(),
            key_frame_request: KeyFrameRequest::default(),
            sender_report: None,
            gatherer: Gatherer::new(),
            newest: None,
            key_frame: None,
            resolution: None,
            broken: false,
            last_packet: None,
            score: StreamScore::new(Score::NONE),
            fraction_lost: 0,
            counts: Counts::default(),
        }
    }

    /// True once a packet has come.
    pub(super) fn has_started(&self) -> bool {
        self.newest.is_some()
    }

    /// When it will count as not sent, if nothing comes until then. `None` if nothing has come, or it was silenced.
    pub(super) fn silent_from(&self) -> Option<Instant> {
        self.last_packet.map(|last| last + SILENCE)
    }

    pub(super) fn score(&self) -> Score {
        self.score.score()
    }

    /// Puts what is complete by this packet into `ready`, `true` if it does not continue what came before.
    #[inline]
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: &MediaPacket<'_>,
        extensions: &ExtensionValues<'_>,
        clock: &PublisherClock,
        mut ready: impl FnMut(bool, Arc<Burst>),
    ) -> Result<(), Refused> {
        // A retransmission newer than everything else says nothing of what lies between (mediasoup's NackGenerator).
        if packet.retransmission && self.window.index_of(packet.sequence).is_none() {
            return Err(Refused::FarOff);
        }
        let placed = self.window.place(packet.sequence);
        let (index, late) = match placed {
            Placed::First(index) => {
                if self.has_started() {
                    if let Some((broken, burst)) = self.take_open() {
                        ready(broken, burst);
                    }
                    self.begin_sequence(now);
                }
                (index, false)
            }
            Placed::Newest(index) => (index, false),
            Placed::Late(index) => (index, true),
            Placed::Duplicate => {
                self.counts.duplicates += 1;
                return Err(Refused::Duplicate);
            }
            Placed::FarOff => return Err(Refused::FarOff),
        };
        if packet.retransmission {
            self.counts.retransmitted += 1;
        } else {
            self.reception.handle_packet(now, index, packet.sequence, packet.timestamp);
        }
        self.counts.packets += 1;
        self.counts.bytes += packet.payload.len() as u64;
        self.note_missing(now, index, late);

        let follows = self.newest.filter(|newest| newest.index + 1 == index);
        let begins_by_time = follows.map(|newest| newest.timestamp != packet.timestamp);
        if !late {
            self.newest = Some(Newest { index, timestamp: packet.timestamp });
        }
        let times =
            StageTimes { captured: self.captured(now, packet.timestamp, clock), ready: now, taken: now, encoded: now };
        let mut meta = BurstMeta {
            codec: self.codec,
            key_frame: self.key_frame == Some(packet.timestamp),
            begins_frame: false,
            ends_frame: false,
            resolution: self.resolution,
            temporal_layer: 0,
            layer_sync: false,
            first_packet: index,
            rtp_time: packet.timestamp,
            times,
            extensions: passed(extensions),
        };
        if !packet.payload.is_empty() {
            self.last_packet = Some(now);
        }
        let Some(facts) = PayloadFacts::read(self.codec, packet.payload).filter(|_| !packet.payload.is_empty()) else {
            // Padding, or what cannot be read: it keeps its place in the sequence, and nothing is missing there.
            if let Some((broken, burst)) = self.take_open() {
                ready(broken, burst);
            }
            meta.key_frame = false;
            ready(false, self.gatherer.alone(meta, &[]));
            return if packet.payload.is_empty() { Ok(()) } else { Err(Refused::MalformedPayload) };
        };
        meta.begins_frame = match self.codec {
            // Every NAL unit of a frame may be its first, so that the timestamps tell better.
            MediaCodec::Video(lenscast_media::Codec::H264) => begins_by_time.unwrap_or(facts.begins_frame),
            _ => facts.begins_frame,
        };
        meta.ends_frame = packet.marker || self.codec == MediaCodec::Opus;
        meta.temporal_layer = facts.temporal_layer;
        meta.layer_sync = facts.layer_sync;
        self.counts.frames += u64::from(meta.ends_frame);
        if facts.key_frame && self.codec.video().is_some() {
            if self.note_key_frame(index, packet.timestamp, facts.resolution) {
                // A decoder can start here, even if a delimiter before it came in another batch.
                meta.begins_frame = true;
            }
            meta.key_frame = true;
            meta.resolution = self.resolution;
        }
        if self.codec == MediaCodec::Opus {
            meta.key_frame = true;
        }
        if late {
            ready(false, self.gatherer.alone(meta, packet.payload));
        } else if let Some(burst) = self.gatherer.push(meta, packet.payload) {
            ready(std::mem::take(&mut self.broken), burst);
        }
        Ok(())
    }

    /// The batch is over: what is open is complete.
    #[inline]
    pub(super) fn take_open(&mut self) -> Option<(bool, Arc<Burst>)> {
        let burst = self.gatherer.take()?;
        Some((std::mem::take(&mut self.broken), burst))
    }

    /// Another source takes this one's place: the indices go on, everything else begins anew. Returns what was open.
    pub(super) fn restart(&mut self, now: Instant) -> Option<(bool, Arc<Burst>)> {
        let open = self.take_open();
        if let Some(highest) = self.window.highest() {
            self.window = SequenceWindow::after(highest);
            self.begin_sequence(now);
        }
        open
    }

    pub(super) fn handle_sender_report(&mut self, times: SenderReportTimes) {
        self.sender_report = Some(times);
    }

    /// It has said goodbye.
    pub(super) fn silence(&mut self) {
        self.last_packet = None;
        self.score.handle_silence();
    }

    pub(super) fn request_key_frame(&mut self, now: Instant) {
        self.key_frame_request.ask(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.nacks.poll_timeout(), self.key_frame_request.poll_timeout()].into_iter().flatten().min()
    }

    /// What is to be said of the stream in the report of this interval, which ends.
    pub(super) fn take_report(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        let block = self.reception.take_block(now, ssrc, self.sender_report.as_ref())?;
        self.fraction_lost = block.fraction_lost;
        if self.silent_from().is_some_and(|from| now < from) {
            let expected = self.counts.expected_before + self.reception.expected();
            let received = self.counts.received_before + self.reception.received();
            self.score.handle_interval(PacketCounts {
                expected,
                lost: expected.saturating_sub(received),
                repaired: self.counts.repaired,
                retransmitted: self.counts.retransmitted,
            });
        }
        Some(block)
    }

    /// Asks for missing packets and for a key frame, where that is due.
    pub(super) fn write_requests(
        &mut self,
        now: Instant,
        local: Ssrc,
        media: Ssrc,
        round_trip: Duration,
        asked: &mut Vec<u64>,
        compound: &mut Compound,
    ) {
        let Some(newest) = self.newest else { return };
        asked.clear();
        self.nacks.take_due(now, newest.index, round_trip, MAX_ASKED_AT_ONCE, asked);
        if !asked.is_empty() {
            self.counts.nacks += 1;
            self.counts.requested += asked.len() as u64;
            compound.push_nack(local, media, asked.iter().map(|index| self.window.sequence_of(*index)));
        }
        if self.key_frame_request.take_due(now) {
            self.counts.plis += 1;
            compound.push_pli(local, media);
        }
    }

    pub(super) fn stats(&self, layer: u8, ssrc: Option<Ssrc>) -> ReceivedLayerStats {
        let counts = &self.counts;
        let expected = counts.expected_before + self.reception.expected();
        let received = counts.received_before + self.reception.received();
        ReceivedLayerStats {
            layer,
            ssrc,
            packets_received: counts.packets,
            bytes_received: counts.bytes,
            retransmitted_packets_received: counts.retransmitted,
            packets_lost: expected as i64 - received as i64,
            fraction_lost: f64::from(self.fraction_lost) / 256.0,
            packets_missing: self.nacks.len() as u64,
            packets_requested: counts.requested,
            nack_count: counts.nacks,
            pli_count: counts.plis,
            nack_overflows: counts.overflows,
            frames_received: counts.frames,
            key_frames_received: counts.key_frames,
            duplicates: counts.duplicates,
            restarts: counts.restarts,
            jitter: self.reception.jitter(),
            resolution: self.resolution,
            score: self.score(),
        }
    }

    fn begin_sequence(&mut self, now: Instant) {
        self.counts.expected_before += self.reception.expected();
        self.counts.received_before += self.reception.received();
        self.counts.restarts += 1;
        self.reception = Reception::new(self.clock_rate, now);
        self.nacks.clear();
        self.sender_report = None;
        self.newest = None;
        self.key_frame = None;
        self.broken = true;
        // A decoder cannot go on with what another encoder made.
        self.key_frame_request = KeyFrameRequest::default();
        if self.codec.video().is_some() {
            self.key_frame_request.ask(now);
        }
    }

    #[inline]
    fn note_missing(&mut self, now: Instant, index: u64, late: bool) {
        // Of sound nothing is asked for again: it would come too late.
        let Some(newest) = self.newest.filter(|_| self.codec.video().is_some()) else { return };
        if late {
            self.counts.repaired += u64::from(self.nacks.handle_late(index));
        } else if self.nacks.handle_newest(now, newest.index, index) == Gap::NeedsKeyFrame {
            self.counts.overflows += 1;
            self.key_frame_request.ask(now);
        }
    }

    /// True if it is the first packet that tells of this key frame.
    fn note_key_frame(&mut self, index: u64, timestamp: RtpTime, resolution: Option<Resolution>) -> bool {
        self.nacks.handle_key_frame(index);
        self.key_frame_request.handle_key_frame();
        self.resolution = resolution.or(self.resolution);
        let first = self.key_frame.is_none_or(|before| timestamp.ticks_since(before) > 0);
        if first {
            self.key_frame = Some(timestamp);
            self.counts.key_frames += 1;
        }
        first
    }

    /// When a frame was captured by the publisher's clock, else when it came.
    fn captured(&self, now: Instant, timestamp: RtpTime, clock: &PublisherClock) -> Instant {
        let by_report = || clock.instant_of(self.sender_report?.ntp_of(timestamp, self.clock_rate));
        by_report().filter(|at| *at <= now && now.duration_since(*at) <= MAX_CAPTURE_AGE).unwrap_or(now)
    }
}

fn passed(values: &ExtensionValues<'_>) -> PassedExtensions {
    PassedExtensions {
        absolute_capture_time: values.absolute_capture_time,
        video_orientation: values.video_orientation,
        audio_level: values.audio_level,
        playout_delay: values.playout_delay,
    }
}
