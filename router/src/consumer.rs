use std::time::{Duration, Instant};

use lenscast_media::{Burst, BurstMeta, LayerSet, NtpTime, RtpTime, Ssrc, WallClock};

use crate::resend::{Refusal, Resend};
use crate::rewrite::{FrameIds, Rewrite};
use crate::round_trip::round_trip;
use crate::rtcp::{Compound, ReportBlock};
use crate::rtp::{Carried, Header, Padding};
use crate::score::{PacketCounts, Score, StreamScore};
use crate::sequence_map::{Place, SequenceMap};
use crate::{
    ConsumerId, ConsumerParameters, ConsumerScore, ConsumerStats, LayerScores, Layers, RtpPackets, TransportSlot,
};

/// One stream to one peer: chooses layers, rewrites what packets say of their place in the stream, reports.
///
/// **What is lost of a frame that is left out.** A packet that is missing is of no known frame, so that it keeps its place, and
/// the viewer asks for it. If it comes and is of a frame that was left out, it goes out without its payload, as padding does:
/// it is no longer missing, and no decoder sees it. If it never comes the viewer asks in vain, ten times or so as for any other
/// packet, and goes on without it, as no frame that it was sent needs it.
///
/// **Invariants.** Sequence numbers grow by one with every packet, but for those that were lost on the way here: they
/// keep their places. Timestamps never run backwards. What follows a break or a switch of layers begins with a key frame.
#[derive(Debug)]
pub(crate) struct Consumer {
    parameters: ConsumerParameters,
    pub(crate) slot: TransportSlot,
    format: Format,
    pub(crate) connected: bool,
    pub(crate) paused: bool,
    pub(crate) traced: bool,
    /// What the transport's bandwidth leaves for it, as the router splits that.
    limit: Limit,
    /// What somebody outside allows it.
    ceiling: Limit,
    /// The layer that goes out.
    current: Option<u8>,
    /// The layer that is to go out. If it is not the current one, a key frame of it is being waited for.
    target: Option<u8>,
    /// The highest temporal layer that goes out.
    temporal: u8,
    /// What was last told of the layers.
    told: Option<Layers>,
    rewrite: Rewrite,
    /// The newest frame that went out.
    last: Option<LastFrame>,
    /// The frame that was left out last, by its producer's timestamp.
    left_out: Option<RtpTime>,
    /// The frame whose beginning went out last, by its producer's timestamp.
    begun: Option<RtpTime>,
    map: SequenceMap,
    resend: Resend,
    extensions_due: Instant,
    last_fir: Option<u8>,
    reference_time: Option<ReferenceTime>,
    score: StreamScore,
    /// Packets that were sent again, each counted once.
    repaired: u64,
    /// What was last told of the score.
    told_score: ConsumerScore,
    pub(crate) stats: ConsumerStats,
}

/// What a consumer must know of its producer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) layers: u8,
    pub(crate) temporal_layers: u8,
    pub(crate) clock_rate: u32,
    /// A decoder can start at key frames only.
    pub(crate) key_frames: bool,
    /// Picture identifiers count what goes out; else they count what was encoded, gaps and all.
    pub(crate) counts_pictures: bool,
    /// From an encoder in this process.
    pub(crate) local: bool,
}

/// How far a consumer may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    None,
    Layers(Layers),
    Nothing,
}

impl Limit {
    /// The highest spatial layer that it allows; `None` if it allows none.
    const fn spatial(self) -> Option<u8> {
        match self {
            Self::None => Some(u8::MAX),
            Self::Layers(layers) => Some(layers.spatial),
            Self::Nothing => None,
        }
    }

    /// The highest temporal layer that it allows while this spatial one goes out: temporal layers are given for the highest
    /// spatial one, and a smaller one is to have all it can.
    fn temporal(self, current: Option<u8>) -> u8 {
        match self {
            Self::Layers(layers) if Some(layers.spatial) == current => layers.temporal,
            _ => u8::MAX,
        }
    }
}

/// A newly arrived burst with what all consumers need to know of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub(crate) now: Instant,
    pub(crate) layer: u8,
    pub(crate) burst: &'a Burst,
    pub(crate) ids: FrameIds,
    pub(crate) wall: &'a WallClock,
}

#[derive(Debug, Clone, Copy)]
struct LastFrame {
    layer: u8,
    /// As it went out.
    timestamp: RtpTime,
    captured: Instant,
    ids: FrameIds,
}

/// A receiver's own time (RFC 3611 §4.4), to be returned in the next report.
#[derive(Debug, Clone, Copy)]
struct ReferenceTime {
    receiver: Ssrc,
    compact: u32,
    arrived: Instant,
}

/// Header extensions go out with each key frame and then at least this often, on all packets of a burst. Receivers keep
/// a playout delay until told otherwise and interpolate capture times between frames that carry one.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(1);

impl Consumer {
    /// One of a producer whose layers get here with `scores`.
    pub(crate) fn new(
        parameters: ConsumerParameters,
        slot: TransportSlot,
        format: Format,
        scores: LayerScores,
        now: Instant,
    ) -> Self {
        Self {
            slot,
            format,
            connected: false,
            paused: parameters.paused,
            traced: false,
            limit: Limit::None,
            ceiling: Limit::None,
            current: None,
            target: None,
            temporal: 0,
            told: None,
            rewrite: Rewrite { timestamp: parameters.timestamp_offset, ..Rewrite::default() },
            last: None,
            left_out: None,
            begun: None,
            map: SequenceMap::new(u64::from(parameters.initial_sequence)),
            resend: Resend::new(parameters.initial_rtx_sequence, now),
            extensions_due: now,
            last_fir: None,
            reference_time: None,
            score: StreamScore::new(Score::BEST),
            repaired: 0,
            told_score: ConsumerScore::new(Score::BEST, None, scores),
            stats: ConsumerStats::default(),
            parameters,
        }
    }

    pub(crate) const fn id(&self) -> ConsumerId {
        self.parameters.id
    }

    pub(crate) const fn parameters(&self) -> &ConsumerParameters {
        &self.parameters
    }

    pub(crate) const fn parameters_mut(&mut self) -> &mut ConsumerParameters {
        &mut self.parameters
    }

    pub(crate) const fn current(&self) -> Option<u8> {
        self.current
    }

    pub(crate) const fn target(&self) -> Option<u8> {
        self.target
    }

    /// What goes out now.
    pub(crate) fn layers(&self) -> Option<Layers> {
        self.current.map(|spatial| Layers { spatial, temporal: self.temporal })
    }

    /// Neither it nor its transport is in the way; of the producer it knows nothing.
    pub(crate) const fn is_ready(&self) -> bool {
        self.connected && !self.paused
    }

    /// True if it can go on only with a key frame of `layer`.
    pub(crate) fn awaits_key_frame(&self, layer: u8) -> bool {
        self.target == Some(layer) && self.current != self.target && self.format.key_frames
    }

    /// The layers it has a use for.
    pub(crate) fn wants(&self) -> LayerSet {
        if !self.is_ready() {
            return LayerSet::EMPTY;
        }
        let preferred = self
            .ceiling
            .spatial()
            .map(|most| self.parameters.preferred_layers.spatial.min(self.format.layers - 1).min(most));
        self.current.into_iter().chain(self.target).chain(preferred).collect()
    }

    /// The packets of a burst that follows all before it, for this peer; `None` if it is not to have them.
    #[inline]
    pub(crate) fn handle_burst<'a>(&mut self, arrival: &Arrival<'a>) -> Option<RtpPackets<'a>> {
        let layer = arrival.layer;
        let (burst, meta) = (arrival.burst, arrival.burst.meta());
        if burst.payload_bytes() == 0 {
            // Padding belongs to no frame, and says nothing of the numbers that frames bear.
            if self.current == Some(layer) {
                self.map.leave_out(layer, meta.first_packet, burst.len() as u64, self.rewrite, self.temporal);
            }
            return None;
        }
        if self.current != Some(layer) || self.current != self.target {
            self.consider_switch(arrival);
        }
        if self.current != Some(layer) {
            return None;
        }
        let packets = burst.len() as u64;
        if meta.begins_frame {
            self.consider_temporal_layer(meta);
        }
        if meta.temporal_layer > self.temporal {
            if !meta.begins_frame && self.left_out == Some(meta.rtp_time) {
                // What is missing before it is of the same frame: it has no place either.
                self.map.restart(meta.first_packet);
            }
            self.map.leave_out(layer, meta.first_packet, packets, self.rewrite, self.temporal);
            self.leave_frame_out(meta, arrival.ids);
            return None;
        }
        let first_index = self.map.forward(layer, meta.first_packet, packets, self.rewrite, self.temporal);
        let timestamp = meta.rtp_time.wrapping_add(self.rewrite.timestamp);
        self.last =
            Some(LastFrame { layer, timestamp, captured: meta.times.captured, ids: self.rewrite.ids(arrival.ids) });
        if meta.begins_frame {
            self.begun = Some(meta.rtp_time);
        }
        self.count_frame(meta);
        Some(self.packets(arrival, first_index, self.rewrite, false))
    }

    /// The packets of a burst that comes late, in the place that was kept for them; `None` if there is none.
    pub(crate) fn handle_late_burst<'a>(&mut self, arrival: &Arrival<'a>) -> Option<RtpPackets<'a>> {
        let (burst, meta) = (arrival.burst, arrival.burst.meta());
        self.current?;
        let place = self.map.late(arrival.layer, meta.first_packet, burst.len() as u64)?;
        let blank = meta.temporal_layer > place.temporal;
        if !blank {
            self.count_frame(meta);
        }
        Some(self.packets(arrival, place.index, place.rewrite, blank))
    }

    /// The layer's stream broke off: nothing of it can be decoded until its next key frame.
    pub(crate) fn handle_discontinuity(&mut self, layer: u8) {
        if self.current == Some(layer) {
            self.current = None;
        }
    }

    /// Nothing goes out from now on; what comes next has to begin anew.
    pub(crate) fn stop(&mut self) {
        self.current = None;
        self.target = None;
        self.resend.clear();
    }

    /// Chooses the layer to go for of those that can be had. True if a key frame of it is needed now.
    #[must_use]
    pub(crate) fn choose(&mut self, sending: LayerSet, forwarded: bool) -> bool {
        if !forwarded || !self.is_ready() {
            self.stop();
            return false;
        }
        let preferred = self.parameters.preferred_layers.spatial.min(self.format.layers - 1);
        let target = [self.limit, self.ceiling]
            .into_iter()
            .try_fold(preferred, |most, limit| limit.spatial().map(|limit| most.min(limit)))
            .and_then(|most| sending.highest_at_most(most));
        let changed = target != self.target;
        self.target = target;
        if target.is_none() {
            self.current = None;
        }
        changed && target.is_some() && target != self.current
    }

    pub(crate) const fn limit(&self) -> Limit {
        self.limit
    }

    pub(crate) const fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    /// What it is given at most, whatever it prefers.
    pub(crate) const fn set_ceiling(&mut self, ceiling: Limit) {
        self.ceiling = ceiling;
    }

    /// What has become of the layers since this was last asked; `None` if nothing has.
    #[inline]
    pub(crate) fn take_change(&mut self) -> Option<(Option<Layers>, Option<Layers>)> {
        let layers = self.layers();
        (layers != self.told).then(|| (std::mem::replace(&mut self.told, layers), layers))
    }

    /// How well the stream gets through whose layers get here with `scores`.
    pub(crate) fn score(&self, scores: LayerScores) -> ConsumerScore {
        ConsumerScore::new(self.score.score(), self.current, scores)
    }

    /// The same if it has changed since this was last asked.
    pub(crate) fn take_score_change(&mut self, scores: LayerScores) -> Option<ConsumerScore> {
        let score = self.score(scores);
        (score != self.told_score).then(|| {
            self.told_score = score;
            score
        })
    }

    /// Where the packet is that was sent with `sequence`, if it may be sent again now; then it must be.
    pub(crate) fn place_of(&self, sequence: u16) -> Option<Place> {
        self.map.find(sequence)
    }

    /// A packet again, that `place` is of.
    pub(crate) fn resend<'a>(
        &mut self,
        now: Instant,
        sequence: u16,
        place: Place,
        burst: &'a Burst,
        wall: &WallClock,
    ) -> Result<RtpPackets<'a>, Refusal> {
        let rtx = self.parameters.rtx.ok_or(Refusal::Exhausted)?;
        let position = (place.packet - burst.meta().first_packet) as usize;
        let blank = burst.meta().temporal_layer > place.temporal;
        let bytes = if blank { 0 } else { burst.payload(position).len() };
        let resent = self.resend.take(now, sequence, bytes, self.stats.round_trip_time)?;
        self.repaired += u64::from(resent.first);
        let timestamp = burst.meta().rtp_time.wrapping_add(place.rewrite.timestamp);
        let header = self.with_stamps(Header::new(rtx.payload_type, rtx.ssrc, timestamp), burst.meta(), wall);
        self.stats.retransmitted_packets_sent += 1;
        self.stats.retransmitted_bytes_sent += bytes as u64;
        Ok(RtpPackets {
            burst,
            packets: position..position + 1,
            header,
            media: self.parameters.ssrc,
            first_index: resent.index,
            original_sequence: Some(sequence),
            rewrite: place.rewrite,
            blank,
            padding: None,
        })
    }

    /// Can be padded for: it has a stream for that, and something has gone out.
    pub(crate) const fn can_pad(&self) -> bool {
        self.connected && self.format.key_frames && self.parameters.rtx.is_some() && self.last.is_some()
    }

    /// Where the packet is that went out `back` packets before the newest, if that is still known.
    pub(crate) fn recent(&self, back: u16) -> Option<(u16, Place)> {
        let sequence = self.map.newest()?.wrapping_sub(back);
        Some((sequence, self.map.find(sequence)?))
    }

    /// A packet that went out before, only to be measured; `None` if it had no payload.
    pub(crate) fn pad_with<'a>(
        &mut self,
        sequence: u16,
        place: Place,
        burst: &'a Burst,
        wall: &WallClock,
    ) -> Option<RtpPackets<'a>> {
        let position = (place.packet - burst.meta().first_packet) as usize;
        if burst.meta().temporal_layer > place.temporal {
            return None;
        }
        let packets = RtpPackets {
            packets: position..position + 1,
            original_sequence: Some(sequence),
            rewrite: place.rewrite,
            padding: Some(Padding::Payload),
            ..self.padding(burst, 1, place.rewrite.timestamp, wall)?
        };
        self.count_padding(burst.payload(position).len());
        Some(packets)
    }

    /// A packet of nothing but so many bytes of padding, at least one. It is of `burst`'s time.
    pub(crate) fn pad<'a>(&mut self, bytes: u8, burst: &'a Burst, wall: &WallClock) -> Option<RtpPackets<'a>> {
        let mut packets = self.padding(burst, bytes, self.rewrite.timestamp, wall)?;
        packets.header = packets.header.with_padding();
        self.count_padding(usize::from(bytes));
        Some(packets)
    }

    fn padding<'a>(
        &mut self,
        burst: &'a Burst,
        bytes: u8,
        timestamp_offset: u32,
        wall: &WallClock,
    ) -> Option<RtpPackets<'a>> {
        let rtx = self.parameters.rtx?;
        let timestamp = burst.meta().rtp_time.wrapping_add(timestamp_offset);
        Some(RtpPackets {
            burst,
            packets: 0..1,
            header: self.with_stamps(Header::new(rtx.payload_type, rtx.ssrc, timestamp), burst.meta(), wall),
            media: self.parameters.ssrc,
            first_index: self.resend.pad(),
            original_sequence: None,
            rewrite: Rewrite::default(),
            blank: false,
            padding: Some(Padding::Bytes(bytes)),
        })
    }

    const fn count_padding(&mut self, bytes: usize) {
        self.stats.padding_packets_sent += 1;
        self.stats.padding_bytes_sent += bytes as u64;
    }

    /// Packets of it have been lost on their way out, so that nothing can be decoded before the next key frame: nothing goes
    /// out until then, nor again.
    pub(crate) fn break_off(&mut self) {
        self.current = None;
        self.map.forget();
    }

    /// Extensions for a packet that is not of a burst's first sending.
    fn with_stamps(&self, header: Header, meta: &BurstMeta, wall: &WallClock) -> Header {
        let extensions = &self.parameters.extensions;
        if extensions.are_stamped() {
            header.with_extensions(extensions, &carried(wall, meta, false, self.format.local))
        } else {
            header
        }
    }

    pub(crate) fn handle_pli(&mut self) {
        self.stats.pli_count += 1;
    }

    /// False if this command was already obeyed: FIR is repeated until its effect is seen (RFC 5104 §4.3.1.2).
    pub(crate) fn handle_fir(&mut self, command: u8) -> bool {
        let new = self.last_fir != Some(command);
        if new {
            self.last_fir = Some(command);
            self.stats.fir_count += 1;
        }
        new
    }

    pub(crate) fn handle_report(&mut self, now: NtpTime, report: &ReportBlock) {
        self.stats.fraction_lost = Some(f64::from(report.fraction_lost) / 256.0);
        self.stats.packets_lost = i64::from(report.cumulative_lost);
        self.count_interval();
        let jitter = f64::from(report.jitter) / f64::from(self.format.clock_rate);
        self.stats.jitter = Some(Duration::from_secs_f64(jitter));
        let measured = round_trip(now, report.last_sender_report, report.delay_since_last_sender_report);
        self.stats.round_trip_time = measured.or(self.stats.round_trip_time);
    }

    /// A report's interval is over.
    fn count_interval(&mut self) {
        self.score.handle_interval(PacketCounts {
            expected: self.stats.packets_sent,
            lost: u64::try_from(self.stats.packets_lost).unwrap_or(0),
            repaired: self.repaired,
            retransmitted: self.stats.retransmitted_packets_sent,
        });
    }

    pub(crate) fn handle_reference_time(&mut self, now: Instant, receiver: Ssrc, ntp: NtpTime) {
        self.reference_time = Some(ReferenceTime { receiver, compact: ntp.compact(), arrived: now });
    }

    /// Appends this consumer's report to `compound`.
    pub(crate) fn write_report(&mut self, now: Instant, ntp: NtpTime, compound: &mut Compound) {
        let ssrc = self.parameters.ssrc;
        match self.clock_at(now) {
            Some(timestamp) => {
                compound.push_sender_report(ssrc, ntp, timestamp, self.stats.packets_sent, self.stats.bytes_sent);
            }
            None => compound.push_receiver_report(ssrc),
        }
        compound.push_cname(ssrc, &self.parameters.cname);
        if let Some(reference) = self.reference_time.take() {
            let held = now.saturating_duration_since(reference.arrived).as_secs_f64() * 65_536.0;
            compound.push_dlrr(ssrc, reference.receiver, reference.compact, held as u32);
        }
    }

    /// The peer's timestamp of `now`; `None` before anything was sent.
    pub(crate) fn clock_at(&self, now: Instant) -> Option<RtpTime> {
        let LastFrame { timestamp, captured, .. } = self.last?;
        Some(timestamp.wrapping_add(ticks(now.saturating_duration_since(captured), self.format.clock_rate)))
    }

    /// A packet that ends a frame went out. The frame counts if its beginning did.
    fn count_frame(&mut self, meta: &BurstMeta) {
        let whole = meta.begins_frame || self.begun == Some(meta.rtp_time);
        self.stats.frames_sent += u64::from(meta.ends_frame && whole);
    }

    /// Goes over to the target layer if this burst is where that can be done.
    fn consider_switch(&mut self, arrival: &Arrival<'_>) {
        let meta = arrival.burst.meta();
        if self.target != Some(arrival.layer) {
            return;
        }
        if self.format.key_frames && !(meta.key_frame && meta.begins_frame) {
            if self.current.is_none() {
                self.stats.frames_dropped += u64::from(meta.begins_frame);
            }
            return;
        }
        self.current = Some(arrival.layer);
        self.map.restart(meta.first_packet);
        (self.left_out, self.begun) = (None, None);
        self.temporal = 0;
        if let Some(last) = self.last {
            self.rewrite = self.rewrite.following(last.ids, arrival.ids);
            self.rewrite.timestamp = self.timestamp_after(&last, arrival.layer, meta).0.wrapping_sub(meta.rtp_time.0);
        }
    }

    /// The timestamp of a frame that follows `last`, by their capture times.
    fn timestamp_after(&self, last: &LastFrame, layer: u8, meta: &BurstMeta) -> RtpTime {
        let rate = self.format.clock_rate;
        let elapsed = meta.times.captured.saturating_duration_since(last.captured);
        // Two frames of one timestamp would be one frame to a decoder.
        let aligned = last.timestamp.wrapping_add(ticks(elapsed, rate).max(1));
        let as_before = meta.rtp_time.wrapping_add(self.rewrite.timestamp);
        // The same clock goes on, as the layers of one encoder have it: no rounding then. Nor does a layer keep its clock
        // for ever: a source that starts anew has another, anywhere.
        let tolerance = if layer == last.layer { rate } else { rate / 1_000 };
        let same_clock = as_before.ticks_since(aligned).unsigned_abs() <= tolerance;
        if same_clock && as_before.ticks_since(last.timestamp) > 0 { as_before } else { aligned }
    }

    fn consider_temporal_layer(&mut self, meta: &BurstMeta) {
        let most = self.limit.temporal(self.current).min(self.ceiling.temporal(self.current));
        let preferred = self.parameters.preferred_layers;
        // Temporal layers are chosen for the preferred spatial layer; a smaller one is to have all it can.
        let wanted = if self.current.is_some_and(|current| current >= preferred.spatial.min(self.format.layers - 1)) {
            preferred.temporal
        } else {
            u8::MAX
        };
        let most = most.min(wanted).min(self.format.temporal_layers.saturating_sub(1));
        if most < self.temporal || meta.key_frame {
            self.temporal = most;
        } else if meta.temporal_layer > self.temporal && meta.temporal_layer <= most && meta.layer_sync {
            self.temporal = meta.temporal_layer;
        }
    }

    fn leave_frame_out(&mut self, meta: &BurstMeta, ids: FrameIds) {
        if self.left_out == Some(meta.rtp_time) {
            return;
        }
        self.left_out = Some(meta.rtp_time);
        self.stats.frames_left_out += 1;
        let mut used = self.rewrite.ids(ids);
        if self.format.counts_pictures {
            self.rewrite.picture_id = self.rewrite.picture_id.wrapping_sub(1) & 0x7FFF;
            used = FrameIds { picture_id: self.rewrite.ids(ids).picture_id, ..used };
        }
        // Frames before it that are missing may still come, with the identifiers up to there.
        if let Some(last) = &mut self.last
            && ids != FrameIds::default()
        {
            last.ids = used;
        }
    }

    #[inline]
    fn packets<'a>(
        &mut self,
        arrival: &Arrival<'a>,
        first_index: u64,
        rewrite: Rewrite,
        blank: bool,
    ) -> RtpPackets<'a> {
        let (burst, meta) = (arrival.burst, arrival.burst.meta());
        let timestamp = meta.rtp_time.wrapping_add(rewrite.timestamp);
        let mut header = Header::new(self.parameters.payload_type, self.parameters.ssrc, timestamp);
        let extensions = &self.parameters.extensions;
        let periodic = meta.key_frame && meta.begins_frame || arrival.now >= self.extensions_due;
        if periodic || extensions.are_stamped() || meta.extensions != Default::default() {
            let carried = carried(arrival.wall, meta, periodic, self.format.local);
            header = header.with_extensions(extensions, &carried);
            if periodic {
                self.extensions_due = arrival.now + EXTENSION_INTERVAL;
            }
        }
        self.stats.packets_sent += burst.len() as u64;
        let bytes = if blank { 0 } else { burst.payload_bytes() };
        self.stats.bytes_sent += bytes as u64;
        self.resend.add_media(arrival.now, bytes);
        RtpPackets {
            burst,
            packets: 0..burst.len(),
            header,
            media: self.parameters.ssrc,
            first_index,
            original_sequence: None,
            rewrite,
            blank,
            padding: None,
        }
    }
}

fn carried(wall: &WallClock, meta: &BurstMeta, periodic: bool, local: bool) -> Carried {
    Carried { periodic, captured: wall.ntp_at(meta.times.captured), local, passed: meta.extensions }
}

/// Ticks of a clock of `rate` ticks a second in `span`, wrapped.
fn ticks(span: Duration, rate: u32) -> u32 {
    ((span.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000) as u32
}
