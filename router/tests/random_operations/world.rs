//! Engines, the channels between them, their sources and viewers, and beside all that what should be there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lenscast_media::{
    Burst, BurstMeta, Codec, LayerSet, MediaCodec, PassedExtensions, Resolution, RtpTime, Ssrc, StageTimes, WallClock,
};
use lenscast_router::{
    ConsumerId, Egress, Inbound, OpenMirrorError, OutletId, ProducerId, ProducerKey, RouterId, RtpPackets, StreamState,
    TransportId, TransportKind, TransportSlot, Upstream, Worker,
};

use crate::faults::Fault;
use crate::rng::Rng;

/// What sequences are to come to, lest they show nothing.
pub(crate) mod reached {
    pub(crate) const MIRRORED: &str = "a mirror is made";
    pub(crate) const CHAINED: &str = "a mirror of a mirror is made";
    pub(crate) const REFUSED_TWICE: &str =
        "a mirror is refused, as there is one or the producer itself: a cycle, or two ways";
    pub(crate) const REFUSED: &str = "a mirror is refused, as its router or its origin has gone";
    pub(crate) const FOR_ANOTHER: &str = "a state is for another mirror of the name";
    pub(crate) const FLIPPED: &str = "a mirror is paused or resumed";
    pub(crate) const AGAIN: &str = "a producer is piped again to where it was";
    pub(crate) const NO_ROOM: &str = "a pipe finds no room";
    pub(crate) const STATE_WAITS: &str = "a state waits for room";
    pub(crate) const BURST_LOST: &str = "a burst finds no room";
    pub(crate) const SERVED_BY_MIRROR: &str = "a viewer of a mirror is served";
    pub(crate) const HIGHER_LAYER: &str = "a higher layer is forwarded";
    pub(crate) const KEY_FRAME_AGAIN: &str = "a viewer goes on with a key frame";
    pub(crate) const ALL: [&str; 13] = [
        MIRRORED,
        CHAINED,
        REFUSED_TWICE,
        REFUSED,
        FOR_ANOTHER,
        FLIPPED,
        AGAIN,
        NO_ROOM,
        STATE_WAITS,
        BURST_LOST,
        SERVED_BY_MIRROR,
        HIGHER_LAYER,
        KEY_FRAME_AGAIN,
    ];
}

/// What was found wrong: the check by its name, and what it saw.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) check: &'static str,
    pub(crate) saw: String,
}

pub(crate) type Checked = Result<(), Violation>;

pub(crate) fn ensure(holds: bool, check: &'static str, saw: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Violation { check, saw: saw() }) }
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) fault: Fault,
    pub(crate) now: Instant,
    pub(crate) workers: Vec<Worker>,
    pub(crate) outside: Outside,
    pub(crate) model: Model,
    pub(crate) next_id: u64,
    /// Attaches that the harness holds back, with the state that it has looked at before.
    pub(crate) held_attaches: Vec<(ProducerKey, RouterId, bool)>,
    /// What has been piped where.
    pub(crate) piped: BTreeSet<(ProducerKey, RouterId)>,
    pub(crate) log: Option<Vec<String>>,
}

/// What should be there: the single-threaded model.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) routers: BTreeMap<RouterId, usize>,
    pub(crate) transports: BTreeMap<TransportId, TransportModel>,
    /// Producers at home and mirrors.
    pub(crate) producers: BTreeMap<ProducerKey, ProducerModel>,
    pub(crate) consumers: BTreeMap<ConsumerId, ConsumerModel>,
    pub(crate) outlets: BTreeMap<OutletId, OutletModel>,
    /// Outlets whose mirrors could not be made, or have ended on their own.
    pub(crate) closed_links: BTreeSet<OutletId>,
    /// Names that were used once, for calls on what is gone.
    pub(crate) gone: Gone,
}

#[derive(Default)]
pub(crate) struct Gone {
    pub(crate) routers: Vec<RouterId>,
    pub(crate) transports: Vec<TransportId>,
    pub(crate) producers: Vec<ProducerKey>,
    pub(crate) consumers: Vec<ConsumerId>,
    pub(crate) outlets: Vec<OutletId>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TransportModel {
    pub(crate) router: RouterId,
    pub(crate) kind: TransportKind,
    pub(crate) connected: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ProducerModel {
    /// `None` for a mirror.
    pub(crate) transport: Option<TransportId>,
    /// `None` at home.
    pub(crate) outlet: Option<OutletId>,
    pub(crate) paused: bool,
    /// Of a mirror: that of the last state.
    pub(crate) version: u64,
    pub(crate) sending: LayerSet,
    pub(crate) audio: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ConsumerModel {
    pub(crate) key: ProducerKey,
    pub(crate) transport: TransportId,
    pub(crate) ssrc: Ssrc,
    pub(crate) paused: bool,
    pub(crate) preferred_spatial: u8,
    /// The highest that it ever preferred: until a key frame of the new layer comes, the one before goes on.
    pub(crate) highest_spatial: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct OutletModel {
    pub(crate) from: ProducerKey,
    pub(crate) to: RouterId,
}

/// All that the engines write to and read from.
pub(crate) struct Outside {
    pub(crate) fault: Fault,
    /// The worker that is running.
    pub(crate) running: usize,
    pub(crate) channels: BTreeMap<Lane, VecDeque<Inbound>>,
    pub(crate) capacity: usize,
    /// Where each outlet leads, those included that have ended.
    pub(crate) lanes: BTreeMap<OutletId, Lane>,
    pub(crate) slots: BTreeMap<(usize, TransportSlot), TransportId>,
    pub(crate) sources: BTreeMap<ProducerId, Source>,
    pub(crate) bursts: Vec<BurstRecord>,
    /// What left since the last look, for the model to judge.
    pub(crate) sent: Vec<Sent>,
    /// States that were put into channels since the last look.
    pub(crate) told: Vec<(OutletId, StreamState, bool)>,
    pub(crate) nudges: Arc<Mutex<BTreeSet<OutletId>>>,
    pub(crate) confirmed: Arc<Mutex<Vec<Confirmed>>>,
    pub(crate) viewers: BTreeMap<(TransportId, Ssrc), Viewer>,
    pub(crate) stale_snapshot: Option<bool>,
    /// States that found no room and wait.
    pub(crate) unsent: BTreeSet<OutletId>,
    /// Sources that have yet to say what they can send.
    pub(crate) unsaid: BTreeSet<ProducerId>,
    pub(crate) reported: Vec<Option<TransportId>>,
    /// The last version each outlet has put into its channel.
    pub(crate) versions: BTreeMap<OutletId, u64>,
    pub(crate) reached: BTreeMap<&'static str, u64>,
    start: Instant,
    worker_count: usize,
    buffer: Vec<u8>,
}

/// What became of an outlet's mirror.
type Confirmed = (OutletId, Result<(), OpenMirrorError>);

/// From where to which worker: what goes one way stays in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Source(ProducerId, usize),
    Workers(usize, usize),
}

impl Lane {
    pub(crate) const fn to(self) -> usize {
        match self {
            Self::Source(_, to) | Self::Workers(_, to) => to,
        }
    }
}

/// A camera: what it was asked for, and how far it is.
pub(crate) struct Source {
    pub(crate) home: ProducerKey,
    pub(crate) audio: bool,
    pub(crate) upstream: Arc<Wishes>,
    pub(crate) layers: Vec<SourceLayer>,
    /// What it says it can send; the home worker may not have heard it yet.
    pub(crate) sending: LayerSet,
    pub(crate) codec: MediaCodec,
    pub(crate) temporal_layers: u8,
}

#[derive(Default, Clone)]
pub(crate) struct SourceLayer {
    next_packet: u64,
    /// The last frame of the base temporal layer.
    last_base: Option<usize>,
    /// Something has been lost on a full channel since.
    broken: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wanted: AtomicU8,
    key_frames: AtomicU8,
}

impl Wishes {
    pub(crate) fn wanted(&self) -> LayerSet {
        LayerSet::from_bits(self.wanted.load(Ordering::SeqCst))
    }

    fn take_key_frame(&self, layer: u8) -> bool {
        let bit = LayerSet::only(layer).bits();
        self.key_frames.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}

impl Upstream for Wishes {
    fn set_wanted(&self, layers: LayerSet) {
        self.wanted.store(layers.bits(), Ordering::SeqCst);
    }

    fn request_key_frame(&self, layer: u8) {
        self.key_frames.fetch_or(LayerSet::only(layer).bits(), Ordering::SeqCst);
    }
}

/// A burst by the number that its payload carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BurstRecord {
    pub(crate) producer: ProducerId,
    pub(crate) layer: u8,
    pub(crate) key_frame: bool,
    pub(crate) base: bool,
    /// The frame without which it cannot be decoded.
    pub(crate) needs: Option<usize>,
    /// Was the producer there and not paused when its home worker got it? `None` before.
    pub(crate) let_in: Option<bool>,
}

/// A packet that left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// `None` if there is none in that place.
    pub(crate) transport: Option<TransportId>,
    pub(crate) ssrc: Ssrc,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) burst: usize,
    pub(crate) packet: u8,
    pub(crate) of: u8,
}

/// What one viewer has seen of one stream.
#[derive(Debug, Default)]
pub(crate) struct Viewer {
    pub(crate) sequence: Option<u16>,
    pub(crate) timestamp: Option<u32>,
    /// The burst of the last packet, and how many of its packets are still to come.
    pub(crate) open: Option<(usize, u8)>,
    /// The base frame that its decoder stands at; `None` if it needs a key frame.
    pub(crate) base: Option<usize>,
    pub(crate) packets: u64,
}

impl World {
    pub(crate) fn new(seed: u64, fault: Fault, logged: bool) -> Self {
        let mut rng = Rng::new(seed);
        // The one moment that all time is counted from.
        #[allow(clippy::disallowed_methods)]
        let (now, wall) = (Instant::now(), Duration::from_secs(1_700_000_000));
        let count = 1 + rng.below(3);
        let capacity = [1, 2, 3, 8, 64][rng.below(5)];
        Self {
            rng,
            fault,
            now,
            workers: (0..count).map(|_| Worker::new(WallClock::new(now, wall))).collect(),
            outside: Outside::new(fault, capacity, now, count),
            model: Model::default(),
            next_id: 1,
            held_attaches: Vec::new(),
            piped: BTreeSet::new(),
            log: logged.then(Vec::new),
        }
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }

    pub(crate) const fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The worker that a router is, or was, on; any if there never was one.
    pub(crate) fn worker_of(&self, router: RouterId) -> usize {
        router.0 as usize % self.workers.len()
    }

    /// A router's name that tells its worker.
    pub(crate) fn router_id(&mut self, worker: usize) -> RouterId {
        let workers = self.workers.len() as u64;
        RouterId(self.id() * workers + worker as u64)
    }
}

impl Outside {
    fn new(fault: Fault, capacity: usize, start: Instant, worker_count: usize) -> Self {
        Self {
            fault,
            running: 0,
            channels: BTreeMap::new(),
            capacity,
            lanes: BTreeMap::new(),
            slots: BTreeMap::new(),
            sources: BTreeMap::new(),
            bursts: Vec::new(),
            sent: Vec::new(),
            told: Vec::new(),
            nudges: Arc::default(),
            confirmed: Arc::default(),
            viewers: BTreeMap::new(),
            stale_snapshot: None,
            unsent: BTreeSet::new(),
            unsaid: BTreeSet::new(),
            reported: Vec::new(),
            versions: BTreeMap::new(),
            reached: BTreeMap::new(),
            start,
            worker_count,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }

    /// False if there is no room.
    pub(crate) fn push(&mut self, lane: Lane, message: Inbound) -> bool {
        let capacity = self.capacity;
        let channel = self.channels.entry(lane).or_default();
        if channel.len() >= capacity {
            return false;
        }
        channel.push_back(message);
        true
    }

    /// The next frame of a source's layer, as its encode task would hand it over. A full channel loses it.
    pub(crate) fn produce_frame(
        &mut self,
        now: Instant,
        producer: ProducerId,
        layer: u8,
        key_frame: bool,
        temporal: u8,
    ) {
        let Some(source) = self.sources.get_mut(&producer) else { return };
        let (key, codec) = (source.home, source.codec);
        let state = &mut source.layers[usize::from(layer)];
        let key_frame =
            key_frame || source.upstream.take_key_frame(layer) || (!source.audio && state.last_base.is_none());
        let temporal = if key_frame { 0 } else { temporal };
        let number = self.bursts.len();
        let needs = if key_frame || source.audio { None } else { state.last_base };
        let base = temporal == 0;
        self.bursts.push(BurstRecord { producer, layer, key_frame, base, needs, let_in: None });
        let len = 1 + number % 3;
        let mut burst = Burst::new(BurstMeta {
            codec,
            key_frame,
            begins_frame: true,
            ends_frame: true,
            resolution: Resolution::new(64, 64),
            temporal_layer: temporal,
            layer_sync: temporal > 0,
            first_packet: state.next_packet,
            rtp_time: RtpTime(clock(now - self.start, codec)),
            times: StageTimes { captured: now, ready: now, taken: now, encoded: now },
            extensions: PassedExtensions::default(),
        });
        for packet in 0..len {
            burst.push(&[
                &descriptor(codec, number, temporal),
                &(number as u64).to_be_bytes(),
                &[packet as u8, len as u8],
            ]);
        }
        if base {
            state.last_base = Some(number);
        }
        let (first, broken) = (state.next_packet, state.broken);
        state.next_packet += len as u64;
        let lane = Lane::Source(producer, key.router.0 as usize % self.worker_count);
        let accepted = self.push(lane, Inbound::Burst { key, outlet: None, layer, broken, burst: Arc::new(burst) });
        let state = &mut self.sources.get_mut(&producer).expect("it was there").layers[usize::from(layer)];
        state.broken = !accepted;
        if !accepted && self.fault == Fault::HiddenLoss {
            (state.broken, state.next_packet) = (false, first);
        }
        if !accepted {
            self.reach(reached::BURST_LOST);
        }
    }

    /// Takes the next message of a lane.
    pub(crate) fn take(&mut self, lane: Lane) -> Option<Inbound> {
        let channel = self.channels.get_mut(&lane)?;
        let message = channel.pop_front();
        if channel.is_empty() {
            self.channels.remove(&lane);
        }
        message
    }

    pub(crate) fn is_full(&self, lane: Lane) -> bool {
        self.channels.get(&lane).is_some_and(|channel| channel.len() >= self.capacity)
    }

    /// True if a state waits for room in this lane.
    pub(crate) fn is_waited_for(&self, lane: Lane) -> bool {
        self.unsent.iter().any(|outlet| self.lanes.get(outlet) == Some(&lane))
    }

    fn record(&mut self, transport: TransportSlot, packets: &RtpPackets<'_>) {
        let id = self.slots.get(&(self.running, transport)).copied();
        for position in 0..packets.len() {
            self.buffer.clear();
            let layout = packets.write(position, &mut self.buffer);
            let bytes = &self.buffer;
            let tail = &bytes[bytes.len() - 10..];
            let number = u64::from_be_bytes(tail[..8].try_into().expect("eight bytes"));
            self.sent.push(Sent {
                transport: id,
                ssrc: layout.ssrc,
                sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
                timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
                marker: bytes[1] & 0x80 != 0,
                burst: number as usize,
                packet: tail[8],
                of: tail[9],
            });
            if self.fault == Fault::PacketTwice && number % 17 == 3 {
                self.sent.push(*self.sent.last().expect("it was just pushed"));
            }
        }
    }
}

impl Egress for Outside {
    fn send_rtp(&mut self, transport: TransportSlot, packets: &RtpPackets<'_>) {
        self.record(transport, packets);
    }

    fn send_rtcp(&mut self, transport: TransportSlot, _compound: &[u8]) {
        self.reported.push(self.slots.get(&(self.running, transport)).copied());
    }

    fn send_inbound(&mut self, outlet: OutletId, mut message: Inbound) -> bool {
        let Some(&lane) = self.lanes.get(&outlet) else { panic!("{outlet} was never attached") };
        let full = self.is_full(lane);
        match &mut message {
            Inbound::Open(open) => {
                if !full {
                    self.told.push((outlet, open.snapshot, true));
                }
                if let Some(paused) = self.stale_snapshot.take() {
                    open.snapshot.paused = paused;
                }
            }
            Inbound::State { state, .. } => {
                if full {
                    if self.fault == Fault::DroppedState {
                        return true;
                    }
                    self.unsent.insert(outlet);
                    self.reach(reached::STATE_WAITS);
                } else {
                    self.unsent.remove(&outlet);
                    self.told.push((outlet, *state, false));
                }
            }
            Inbound::Burst { .. } if full => self.reach(reached::BURST_LOST),
            Inbound::Burst { .. } => {}
            Inbound::Sending { .. } => panic!("only sources say what they send"),
        }
        self.push(lane, message)
    }
}

fn clock(since_start: Duration, codec: MediaCodec) -> u32 {
    (since_start.as_micros() * u128::from(codec.clock_rate()) / 1_000_000) as u32
}

/// What stands before the number in each payload.
fn descriptor(codec: MediaCodec, number: usize, temporal: u8) -> Vec<u8> {
    match codec {
        // Picture identifier of 15 bits, tl0picidx and temporal layer (RFC 7741 §4.2).
        MediaCodec::Video(Codec::Vp8) => {
            vec![0x90, 0xE0, 0x80 | (number >> 8) as u8 & 0x7F, number as u8, number as u8, temporal << 6 | 0x20, 0]
        }
        MediaCodec::Video(_) | MediaCodec::Opus => vec![0x41],
    }
}
