use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lenscast_media::{Burst, Codec, LayerSet, MediaCodec, WallClock};

use crate::bandwidth_split::LayerBitrates;
use crate::consumer::{Arrival, Consumer, Format};
use crate::encoding::{Continuity, Encoding};
use crate::layer_rates::{LayerRate, layer_bitrates};
use crate::outlet::Outlet;
use crate::receive::{ExtensionReader, Receiver};
use crate::rewrite::FrameIds;
use crate::score::Score;
use crate::{
    Egress, Event, LayerScores, Layers, MediaKind, OutletId, ProducerKey, ProducerLayerStats, ProducerParameters,
    ProducerStats, StreamState, Trace, TransportSlot, Upstream,
};

/// One stream that enters a router, or the mirror of one, with all consumers it has there.
pub(crate) struct Producer {
    pub(crate) key: ProducerKey,
    pub(crate) parameters: ProducerParameters,
    pub(crate) origin: Origin,
    pub(crate) state: StreamState,
    pub(crate) encodings: Vec<Encoding>,
    /// In no order; whoever takes one out moves the last into its place.
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) outlets: Vec<Outlet>,
    pub(crate) traced: bool,
    format: Format,
    /// What the source was last told to be of use.
    wanted: LayerSet,
    /// Consumers that are being served, or wait only for a key frame.
    active: usize,
    /// As its consumers know them.
    scores: LayerScores,
    stats: ProducerStats,
}

/// Where a producer's media comes from.
pub(crate) enum Origin {
    /// A source in this process, over a direct transport.
    Local { transport: TransportSlot, upstream: Arc<dyn Upstream> },
    /// Another worker, or another machine: this is a mirror, and its state is another's to change.
    Mirror { upstream: Arc<dyn Upstream>, outlet: Option<OutletId> },
    /// The peer of a transport.
    Rtp { transport: TransportSlot, reception: Box<Reception> },
}

/// What receives a producer's RTP.
pub(crate) struct Reception {
    pub(crate) receiver: Receiver,
    pub(crate) extensions: ExtensionReader,
    /// Something has come since the last batch ended.
    pub(crate) touched: bool,
}

/// What forwarding needs besides the producer.
pub(crate) struct Forwarding<'a, E> {
    pub(crate) now: Instant,
    pub(crate) wall: &'a WallClock,
    pub(crate) egress: &'a mut E,
    pub(crate) events: &'a mut VecDeque<Event>,
}

impl Origin {
    pub(crate) const fn transport(&self) -> Option<TransportSlot> {
        match self {
            Self::Local { transport, .. } | Self::Rtp { transport, .. } => Some(*transport),
            Self::Mirror { .. } => None,
        }
    }

    /// Who alone may feed a mirror.
    pub(crate) const fn outlet(&self) -> Option<OutletId> {
        match self {
            Self::Mirror { outlet, .. } => *outlet,
            Self::Local { .. } | Self::Rtp { .. } => None,
        }
    }

    pub(crate) const fn is_mirror(&self) -> bool {
        matches!(self, Self::Mirror { .. })
    }

    pub(crate) fn reception(&self) -> Option<&Reception> {
        match self {
            Self::Rtp { reception, .. } => Some(reception),
            Self::Local { .. } | Self::Mirror { .. } => None,
        }
    }

    pub(crate) fn reception_mut(&mut self) -> Option<&mut Reception> {
        match self {
            Self::Rtp { reception, .. } => Some(reception),
            Self::Local { .. } | Self::Mirror { .. } => None,
        }
    }
}

impl Producer {
    pub(crate) fn new(key: ProducerKey, parameters: ProducerParameters, origin: Origin, state: StreamState) -> Self {
        let layers = parameters.encodings.len();
        let format = Format {
            layers: layers as u8,
            temporal_layers: temporal_layers(&parameters),
            clock_rate: parameters.clock_rate.max(1),
            key_frames: parameters.kind() == MediaKind::Video,
            counts_pictures: parameters.codec == MediaCodec::Video(Codec::Vp8),
            local: parameters.is_local(),
        };
        let mut producer = Self {
            key,
            parameters,
            origin,
            state,
            encodings: (0..layers).map(|_| Encoding::default()).collect(),
            consumers: Vec::new(),
            outlets: Vec::new(),
            traced: false,
            format,
            wanted: LayerSet::EMPTY,
            active: 0,
            scores: LayerScores::from_iter([]),
            stats: ProducerStats::default(),
        };
        producer.scores = producer.scores_now();
        producer
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    pub(crate) const fn wanted(&self) -> LayerSet {
        self.wanted
    }

    pub(crate) fn stats(&self) -> ProducerStats {
        ProducerStats {
            active_consumers: self.active,
            consumers: self.consumers.len(),
            paused: self.state.paused,
            sending: self.state.sending,
            ..self.stats.clone()
        }
    }

    pub(crate) const fn scores(&self) -> LayerScores {
        self.scores
    }

    /// How well its layers get here may have changed: tells of what that changes for its consumers.
    pub(crate) fn update_scores(&mut self, events: &mut VecDeque<Event>) {
        let scores = self.scores_now();
        if scores != self.scores {
            self.scores = scores;
            self.consumers.iter_mut().for_each(|consumer| note_score(consumer, scores, events));
        }
    }

    fn scores_now(&self) -> LayerScores {
        let can_be_had = |layer| if self.state.sending.contains(layer) { Score::BEST } else { Score::NONE };
        match &self.origin {
            Origin::Rtp { reception, .. } => reception.receiver.layer_scores().collect(),
            Origin::Local { .. } | Origin::Mirror { .. } => (0..self.format.layers).map(can_be_had).collect(),
        }
    }

    /// What each layer takes now, or is expected to take.
    pub(crate) fn bitrates(&self, now: Instant) -> LayerBitrates {
        let resolution = |spatial: usize| self.stats.layers.get(spatial).and_then(|layer| layer.resolution);
        let mut layers = [LayerRate::default(); LayerBitrates::MAX_SPATIAL];
        for (spatial, encoding) in self.encodings.iter().enumerate() {
            layers[spatial] = LayerRate { measured: encoding.bitrates(now), resolution: resolution(spatial) };
        }
        layer_bitrates(self.parameters.kind(), self.format.temporal_layers, &layers[..self.encodings.len()])
    }

    /// Counts what is not for it.
    pub(crate) fn refuse(&mut self, burst: &Burst) {
        self.stats.packets_refused += burst.len() as u64;
    }

    /// Forwards a burst to everybody who can use it.
    pub(crate) fn forward<E: Egress>(
        &mut self,
        layer: u8,
        broken: bool,
        burst: Arc<Burst>,
        with: &mut Forwarding<'_, E>,
    ) {
        for unwanted in LayerSet::all(self.format.layers).difference(self.wanted).iter() {
            // Somebody who has just left it may ask for packets again, but not for long.
            self.encodings[usize::from(unwanted)].history.expire(with.now);
        }
        let Some(encoding) = self.encodings.get_mut(usize::from(layer)) else {
            self.stats.packets_refused += burst.len() as u64;
            return;
        };
        let meta = burst.meta();
        if burst.is_empty() {
            return;
        }
        self.stats.frames += u64::from(meta.ends_frame);
        self.stats.key_frames += u64::from(meta.key_frame && meta.begins_frame);
        self.stats.packets += burst.len() as u64;
        self.stats.bytes += burst.payload_bytes() as u64;
        self.stats.resolution = meta.resolution.or(self.stats.resolution);
        self.stats.codec = Some(meta.codec);
        if self.stats.layers.len() <= usize::from(layer) {
            // Once for each layer: its encoding exists.
            self.stats.layers.resize_with(usize::from(layer) + 1, ProducerLayerStats::default);
        }
        let counted = &mut self.stats.layers[usize::from(layer)];
        counted.frames += u64::from(meta.ends_frame);
        counted.key_frames += u64::from(meta.key_frame && meta.begins_frame);
        counted.packets += burst.len() as u64;
        counted.bytes += burst.payload_bytes() as u64;
        counted.resolution = meta.resolution.or(counted.resolution);
        encoding.key_frame_asked &= !(meta.key_frame && meta.begins_frame);
        encoding.count(with.now, meta.temporal_layer, burst.payload_bytes());
        if self.traced && meta.key_frame && meta.begins_frame {
            trace(with.events, Trace::KeyFrame { producer: self.key, layer });
        }
        if self.state.paused || !self.wanted.contains(layer) {
            // It was on its way when the last one left. What comes next is not what follows it.
            encoding.pass_over(&burst, broken);
            return;
        }
        let continuity = encoding.place(&burst, broken, !self.format.local);
        match continuity {
            Continuity::Follows { missing } => self.stats.packets_missing += missing,
            Continuity::Late => self.stats.packets_late += burst.len() as u64,
            Continuity::Breaks => {
                self.stats.discontinuities += 1;
                self.consumers.iter_mut().for_each(|consumer| consumer.handle_discontinuity(layer));
            }
            Continuity::Again => {
                self.stats.packets_refused += burst.len() as u64;
                return;
            }
        }
        for outlet in &mut self.outlets {
            outlet.send_burst(layer, continuity, &burst, with.egress);
        }
        let arrival = Arrival { now: with.now, layer, burst: &burst, ids: FrameIds::of(&burst), wall: with.wall };
        let (mut waiting, mut changed) = (false, false);
        for consumer in &mut self.consumers {
            let packets = if continuity == Continuity::Late {
                consumer.handle_late_burst(&arrival)
            } else {
                consumer.handle_burst(&arrival)
            };
            if let Some(packets) = packets {
                with.egress.send_rtp(consumer.slot, &packets);
            }
            waiting |= consumer.awaits_key_frame(layer);
            if let Some((from, to)) = consumer.take_change() {
                note_layers(consumer, from, to, with.events);
                note_score(consumer, self.scores, with.events);
                changed = true;
            }
        }
        encoding.keep(burst, with.now);
        if waiting {
            self.request_key_frame(with.now, layer, with.events);
        }
        if changed {
            self.tell_wanted();
        }
    }

    /// Asks the source for a key frame. One that is received is asked once for all; others throttle themselves.
    pub(crate) fn request_key_frame(&mut self, now: Instant, layer: u8, events: &mut VecDeque<Event>) {
        let Some(encoding) = self.encodings.get_mut(usize::from(layer)) else { return };
        if !std::mem::replace(&mut encoding.key_frame_asked, true) && self.traced {
            trace(events, Trace::KeyFrameRequested { producer: self.key, layer });
        }
        match &mut self.origin {
            Origin::Local { upstream, .. } | Origin::Mirror { upstream, .. } => upstream.request_key_frame(layer),
            Origin::Rtp { reception, .. } => reception.receiver.request_key_frame(now, layer),
        }
    }

    /// Lets every consumer choose its layers anew, and tells the source what has become of use.
    pub(crate) fn choose_all(&mut self, now: Instant, events: &mut VecDeque<Event>) {
        let mut key_frames = LayerSet::EMPTY;
        for position in 0..self.consumers.len() {
            key_frames = key_frames.union(self.choose_one(position, events));
        }
        self.settle(now, key_frames, events);
    }

    /// The same for one consumer.
    pub(crate) fn choose(&mut self, now: Instant, position: usize, events: &mut VecDeque<Event>) {
        let key_frames = self.choose_one(position, events);
        self.settle(now, key_frames, events);
    }

    fn choose_one(&mut self, position: usize, events: &mut VecDeque<Event>) -> LayerSet {
        let forwarded = !self.state.paused && !self.state.closed;
        let consumer = &mut self.consumers[position];
        let needed = consumer.choose(self.state.sending, forwarded);
        self.note_change(position, events);
        match self.consumers[position].target() {
            Some(target) if needed && self.format.key_frames => LayerSet::only(target),
            _ => LayerSet::EMPTY,
        }
    }

    /// Tells of it if a consumer forwards something else than before.
    pub(crate) fn note_change(&mut self, position: usize, events: &mut VecDeque<Event>) {
        let consumer = &mut self.consumers[position];
        if let Some((from, to)) = consumer.take_change() {
            note_layers(consumer, from, to, events);
            note_score(consumer, self.scores, events);
        }
    }

    /// After something has changed in who wants what: tells the source, first what is of use, then what must come.
    pub(crate) fn settle(&mut self, now: Instant, key_frames: LayerSet, events: &mut VecDeque<Event>) {
        self.active = self.consumers.iter().filter(|consumer| consumer.target().is_some()).count();
        self.tell_wanted();
        for layer in key_frames.iter() {
            self.request_key_frame(now, layer, events);
        }
    }

    /// Puts a consumer in. Returns its position.
    pub(crate) fn add_consumer(&mut self, consumer: Consumer) -> usize {
        self.consumers.push(consumer);
        self.consumers.len() - 1
    }

    /// Takes a consumer out. The last one has its position now.
    pub(crate) fn remove_consumer(&mut self, now: Instant, position: usize, events: &mut VecDeque<Event>) -> Consumer {
        let removed = self.consumers.swap_remove(position);
        self.settle(now, LayerSet::EMPTY, events);
        removed
    }

    /// True if anything has changed by it: the version is newer than all before.
    pub(crate) fn apply(&mut self, state: StreamState) -> bool {
        let newer = state.version > self.state.version && !self.state.closed;
        if newer {
            self.state = state;
        }
        newer
    }

    fn wanted_now(&self) -> LayerSet {
        if self.state.paused || self.state.closed {
            return LayerSet::EMPTY;
        }
        let consumers = self.consumers.iter().fold(LayerSet::EMPTY, |set, consumer| set.union(consumer.wants()));
        self.outlets.iter().fold(consumers, |set, outlet| set.union(outlet.link.wanted()))
    }

    fn tell_wanted(&mut self) {
        let wanted = self.wanted_now().intersection(LayerSet::all(self.format.layers));
        if wanted == self.wanted {
            return;
        }
        for layer in self.wanted.difference(wanted).iter() {
            self.encodings[usize::from(layer)].end_run();
        }
        if wanted.is_empty() {
            // Of what nobody gets, nobody can want anything again.
            self.encodings.iter_mut().for_each(|encoding| encoding.history.clear());
        }
        self.wanted = wanted;
        match &self.origin {
            Origin::Local { upstream, .. } | Origin::Mirror { upstream, .. } => upstream.set_wanted(wanted),
            // Its sender sends what it likes.
            Origin::Rtp { .. } => {}
        }
    }
}

/// How many temporal layers there can be. A publisher seldom says: what it can send, it may.
fn temporal_layers(parameters: &ProducerParameters) -> u8 {
    let codec_has_them = matches!(parameters.codec, MediaCodec::Video(Codec::Vp8 | Codec::Vp9));
    match parameters.temporal_layers {
        0 | 1 if codec_has_them && !parameters.is_local() => LayerBitrates::MAX_TEMPORAL as u8,
        said => said.max(1),
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("key", &self.key).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Trace events that may wait to be polled; more are not kept.
const MAX_WAITING_TRACES: usize = 1_024;

pub(crate) fn trace(events: &mut VecDeque<Event>, event: Trace) {
    if events.len() < MAX_WAITING_TRACES {
        events.push_back(Event::Trace(event));
    }
}

fn note_layers(consumer: &mut Consumer, from: Option<Layers>, to: Option<Layers>, events: &mut VecDeque<Event>) {
    let spatial = |layers: Option<Layers>| layers.map(|layers| layers.spatial);
    consumer.stats.layer_switches += u64::from(to.is_some() && spatial(from) != spatial(to));
    let (id, transport) = (consumer.id(), consumer.parameters().transport);
    events.push_back(Event::LayersChanged { consumer: id, transport, layers: to });
    if consumer.traced {
        trace(events, Trace::LayerSwitch { consumer: id, from, to });
    }
}

pub(crate) fn note_score(consumer: &mut Consumer, scores: LayerScores, events: &mut VecDeque<Event>) {
    if let Some(score) = consumer.take_score_change(scores) {
        let (id, transport) = (consumer.id(), consumer.parameters().transport);
        events.push_back(Event::ScoreChanged { consumer: id, transport, score });
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
pub(crate) mod tests {
    use super::*;
    use lenscast_media::{BurstMeta, PassedExtensions, Resolution, RtpTime, StageTimes};

    /// A burst of `len` packets whose payloads say which packet of the producer they are.
    pub(crate) fn burst(first_packet: u64, len: usize, key_frame: bool, at: Instant) -> Arc<Burst> {
        let mut burst = Burst::new(BurstMeta {
            codec: Codec::Vp8.into(),
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Some(Resolution::new(64, 64).unwrap()),
            temporal_layer: 0,
            layer_sync: false,
            first_packet,
            rtp_time: RtpTime((first_packet * 3_000) as u32),
            times: StageTimes { captured: at, ready: at, taken: at, encoded: at },
            extensions: PassedExtensions::default(),
        });
        for packet in 0..len as u64 {
            burst.push(&[&(first_packet + packet).to_be_bytes(), &[0; 100]]);
        }
        Arc::new(burst)
    }
}
