//! A worker's legs: the sessions, plain transports, direct sinks and pipes that the router sends to, and the way there.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use lenscast_media::{Ssrc, WallClock};
use lenscast_router::{Egress, Inbound, OutletId, RtpPackets, Timers, TransportId, TransportSlot};
use tokio::sync::{mpsc, watch};

use super::Wire;
use crate::flood_guard::FloodGuard;
use crate::leg::{Leaving, LegControl, Waiting};
use crate::object::{DirectPackets, DirectSink, Life};
use crate::outbox::Outbox;
use crate::pipe::{PipeOrigin, WritePacket};
use crate::plain::PlainLeg;
use crate::port::Incoming;
use crate::purpose::Role;
use crate::session::Session;
use crate::stats::SocketStats;

/// The sessions, and what the router sends to them.
pub(super) struct Legs {
    pub(super) sessions: BTreeMap<TransportId, Leg>,
    /// Knows where a session's media goes, and how it is protected, as of the session's last [`Hub::settle`].
    pub(super) outbox: Outbox,
    pub(super) by_slot: Vec<Option<TransportId>>,
    /// By slot: the congestion control of those whose viewers tell which packets have come.
    pub(super) controls: Vec<Option<Box<LegControl>>>,
    /// When each of these is to be attended to.
    pub(super) attention: Timers<TransportId>,
    /// Those that are to be attended to as soon as the router is done.
    pub(super) pressing: Vec<TransportId>,
    /// Streams for whose packets there was no room: none more of these are taken until the router has heard of it.
    pub(super) broken: Vec<(TransportId, Ssrc)>,
    /// Memory of packets that have waited, for others.
    spare: Vec<Vec<u8>>,
    wall: WallClock,
    pub(super) direct: HashMap<TransportSlot, DirectSink>,
    pub(super) direct_slots: HashMap<TransportId, TransportSlot>,
    pub(super) plain: BTreeMap<TransportId, PlainLeg>,
    pub(super) plain_slots: HashMap<TransportSlot, TransportId>,
    pub(super) plain_sockets: SocketStats,
    pub(super) outlets: HashMap<OutletId, Way>,
    /// Outlets that lead to other machines, and over which session.
    pub(super) pipes: HashMap<OutletId, TransportId>,
    /// Pipes that have something to tell.
    pub(super) telling: Vec<TransportId>,
    /// Outlets to other machines that the router is to look at: in the midst of sending it cannot.
    pub(super) nudged: Vec<OutletId>,
    /// Which worker this is.
    pub(super) index: usize,
    /// To write other packets in.
    pub(super) buffer: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

pub(super) struct Leg {
    pub(super) session: Session,
    pub(super) slot: TransportSlot,
    pub(super) role: Role,
    pub(super) flood: FloodGuard,
}

/// Where an outlet leads, until its mirror has been told the end.
pub(super) struct Way {
    pub(super) worker: usize,
    pub(super) channel: mpsc::Sender<Incoming>,
    /// Until the mirror's beginning has been sent.
    pub(super) opening: Option<Opening>,
}

/// What the beginning of a mirror takes besides the message.
pub(crate) struct Opening {
    /// Its place in the destination's channel.
    pub(crate) permit: mpsc::OwnedPermit<Incoming>,
    /// Where to tell what befalls the mirror.
    pub(crate) mirror: watch::Sender<Life>,
}

/// Packets whose memory is kept for others: 300 kB at most.
const MAX_SPARE: usize = 256;

impl Leg {
    pub(super) fn poll_timeout(&self) -> Instant {
        let session = self.session.poll_timeout();
        match &self.role {
            Role::Pipe(pipe) => pipe.poll_timeout().map_or(session, |due| due.min(session)),
            Role::Viewer(_) | Role::Publisher => session,
        }
    }
}

impl Legs {
    pub(super) fn new(index: usize, wall: WallClock) -> Self {
        Self {
            sessions: BTreeMap::new(),
            outbox: Outbox::default(),
            by_slot: Vec::new(),
            controls: Vec::new(),
            attention: Timers::default(),
            pressing: Vec::new(),
            broken: Vec::new(),
            spare: Vec::new(),
            wall,
            direct: HashMap::new(),
            direct_slots: HashMap::new(),
            plain: BTreeMap::new(),
            plain_slots: HashMap::new(),
            plain_sockets: SocketStats::default(),
            outlets: HashMap::new(),
            pipes: HashMap::new(),
            telling: Vec::new(),
            nudged: Vec::new(),
            index,
            buffer: Vec::new(),
            ends: Vec::new(),
        }
    }

    pub(super) fn on<'a, W: Wire>(&'a mut self, now: Instant, wire: &'a mut W) -> LegsOnWire<'a, W> {
        self.outbox.begin();
        LegsOnWire { legs: self, now, wire }
    }

    /// Puts a session in its place.
    pub(super) fn insert(&mut self, id: TransportId, leg: Leg, control: Option<Box<LegControl>>) {
        let index = leg.slot.index();
        self.sessions.insert(id, leg);
        let places = self.by_slot.len().max(index + 1);
        self.by_slot.resize(places, None);
        self.by_slot[index] = Some(id);
        self.controls.resize_with(places, || None);
        self.controls[index] = control;
    }

    /// Takes a session from its place.
    pub(super) fn remove(&mut self, id: TransportId) -> Option<Leg> {
        let leg = self.sessions.remove(&id)?;
        self.by_slot[leg.slot.index()] = None;
        self.controls[leg.slot.index()] = None;
        self.outbox.direct(leg.slot, None);
        self.attention.set(id, None);
        Some(leg)
    }

    /// Queues those of a leg's packets whose turn has come; they leave with the next flush. Returns the bytes of padding that
    /// are to be sent now, after which this is to be called again; `None` if there is nothing more now.
    pub(super) fn queue_due(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) -> Option<usize> {
        let Self { sessions, outbox, controls, wall, spare, .. } = self;
        let slot = sessions.get(&id)?.slot;
        let control = controls[slot.index()].as_deref_mut()?;
        let now = wire.now(now);
        let ntp = wall.ntp_at(now);
        let overhead = outbox.overhead(slot)?;
        loop {
            match control.poll(now)? {
                Leaving::Padding { bytes } => return Some(bytes),
                Leaving::Packet { waiting: Waiting { mut packet, layout, .. }, departure } => {
                    let size = (packet.len() + overhead) as u32;
                    control.depart(now, ntp, departure, &layout, &mut packet, size);
                    outbox.push_written(slot, &packet, &layout, wire);
                    if spare.len() < MAX_SPARE {
                        packet.clear();
                        spare.push(packet);
                    }
                }
            }
        }
    }

    /// A session's congestion control, if it has any.
    pub(super) fn control_mut(&mut self, id: TransportId) -> Option<&mut LegControl> {
        let slot = self.sessions.get(&id)?.slot;
        self.controls.get_mut(slot.index())?.as_deref_mut()
    }

    pub(super) fn control(&self, id: TransportId) -> Option<&LegControl> {
        let slot = self.sessions.get(&id)?.slot;
        self.controls.get(slot.index())?.as_deref()
    }

    pub(super) fn plain_at(&mut self, slot: TransportSlot) -> Option<(&mut PlainLeg, &mut Vec<u8>, &mut SocketStats)> {
        let leg = self.plain.get_mut(self.plain_slots.get(&slot)?)?;
        Some((leg, &mut self.buffer, &mut self.plain_sockets))
    }
}

/// The way from the router to the network. What it was given has left once it is dropped.
pub(crate) struct LegsOnWire<'a, W: Wire> {
    legs: &'a mut Legs,
    /// When what led here came in.
    now: Instant,
    wire: &'a mut W,
}

impl<W: Wire> LegsOnWire<'_, W> {
    /// Sends to a viewer who tells which packets have come: at once what fits, and has the rest wait.
    fn send_controlled(&mut self, id: TransportId, slot: TransportSlot, packets: &RtpPackets<'_>) {
        let Legs { outbox, controls, pressing, broken, spare, wall, .. } = &mut *self.legs;
        let Some(control) = controls[slot.index()].as_deref_mut() else { return };
        let Some(overhead) = outbox.overhead(slot) else { return };
        if broken.contains(&(id, packets.ssrc())) {
            // What follows a gap is of no use; the router has yet to hear of it.
            control.count_dropped(packets.len());
            return;
        }
        let now = self.wire.now(self.now);
        let (kind, bytes) = (packets.kind(), packets.total_bytes() + packets.len() * overhead);
        if let Some(departure) = control.departs_at_once(now, kind, bytes as u64) {
            if control.is_idle() {
                // What has been sent begins something: probes, for example.
                pressing.push(id);
            }
            let ntp = wall.ntp_at(now);
            outbox.push(slot, packets, self.wire, |layout, packet, len| {
                control.depart(now, ntp, departure, layout, packet, (len + overhead) as u32);
            });
            return;
        }
        if !std::mem::replace(&mut control.is_pressing, true) {
            pressing.push(id);
        }
        if control.renews(now, packets) {
            control.count_dropped(packets.len());
            broken.push((id, packets.ssrc()));
            return;
        }
        for position in 0..packets.len() {
            let mut packet = spare.pop().unwrap_or_default();
            let layout = packets.write(position, &mut packet);
            let size = (packet.len() + overhead) as u32;
            if control.wait(now, kind, size, Waiting { packet, layout, media: packets.media_ssrc() }) {
                control.count_dropped(packets.len() - position - 1);
                broken.push((id, layout.ssrc));
                return;
            }
        }
    }

    /// Does something with a pipe; what it writes is protected and sent. `None` if there is no such pipe.
    pub(super) fn with_pipe<T>(
        &mut self,
        id: TransportId,
        act: impl FnOnce(&mut PipeOrigin, WritePacket<'_>) -> T,
    ) -> Option<T> {
        let Legs { sessions, buffer, ends, .. } = &mut *self.legs;
        let Leg { session, role: Role::Pipe(pipe), .. } = sessions.get_mut(&id)? else { return None };
        buffer.clear();
        ends.clear();
        let connected = session.connected().and(session.path());
        let result = act(pipe, &mut |packet, layout| {
            let start = buffer.len();
            buffer.extend_from_slice(packet);
            if connected.is_some() && session.seal_rtp(buffer, start, layout) {
                ends.push(buffer.len());
            }
        });
        if let Some(path) = connected.filter(|_| !ends.is_empty()) {
            self.wire.send_packets(path, buffer, ends);
        }
        Some(result)
    }
}

impl<W: Wire> Egress for LegsOnWire<'_, W> {
    fn send_rtp(&mut self, slot: TransportSlot, packets: &RtpPackets<'_>) {
        let Some(id) = self.legs.by_slot.get(slot.index()).copied().flatten() else {
            let sent = self.legs.wall.ntp_at(self.now);
            if let Some(sink) = self.legs.direct.get_mut(&slot) {
                sink.send_rtp(packets, sent);
            } else if let Some((leg, buffer, stats)) = self.legs.plain_at(slot) {
                leg.send_rtp(packets, sent, buffer, stats);
            }
            return;
        };
        if self.legs.controls[slot.index()].is_some() {
            self.send_controlled(id, slot, packets);
        } else {
            self.legs.outbox.push(slot, packets, self.wire, |_, _, _| {});
        }
    }

    fn send_rtcp(&mut self, slot: TransportSlot, compound: &[u8]) {
        let Some(transport) = self.legs.by_slot.get(slot.index()).copied().flatten() else {
            if let Some(sink) = self.legs.direct.get(&slot) {
                sink.send(DirectPackets::Rtcp(compound.to_vec()));
            } else if let Some((leg, buffer, stats)) = self.legs.plain_at(slot) {
                leg.send_rtcp(compound, buffer, stats);
            }
            return;
        };
        let Legs { sessions, outbox, buffer, .. } = &mut *self.legs;
        let Some(session) = sessions.get_mut(&transport).map(|leg| &mut leg.session) else { return };
        let Some(path) = session.path() else { return };
        // A report counts the packets before it, and a goodbye follows them.
        outbox.flush(self.wire);
        buffer.clear();
        buffer.extend_from_slice(compound);
        if session.seal_rtcp(buffer) {
            self.wire.send(path, buffer);
        }
    }

    fn send_inbound(&mut self, outlet: OutletId, message: Inbound) -> bool {
        // To whom nothing leads any more, an end need not be told, or told again; only a beginning needs somebody there.
        let nobody = !matches!(message, Inbound::Open(_));
        if let Some(&id) = self.legs.pipes.get(&outlet) {
            let taken = self.with_pipe(id, |pipe, send| {
                let taken = pipe.handle_inbound(outlet, message, send);
                (taken, pipe.has_changed(), pipe.take_nudged())
            });
            let (taken, changed, nudged) = taken.unwrap_or((nobody, false, Vec::new()));
            self.legs.nudged.extend(nudged);
            if changed && !self.legs.telling.contains(&id) {
                self.legs.telling.push(id);
            }
            return taken;
        }
        let Some(way) = self.legs.outlets.get_mut(&outlet) else { return nobody };
        let is_last = matches!(message, Inbound::State { state, .. } if state.closed);
        let incoming = |life| Incoming { from: self.legs.index, message, life };
        let taken = match way.opening.take() {
            Some(Opening { permit, mirror }) => {
                permit.send(incoming(Some(mirror)));
                true
            }
            None => match way.channel.try_send(incoming(None)) {
                Ok(()) => true,
                // The worker has ended, and the mirror with it.
                Err(mpsc::error::TrySendError::Closed(_)) => nobody,
                Err(mpsc::error::TrySendError::Full(_)) => false,
            },
        };
        if taken && is_last {
            self.legs.outlets.remove(&outlet);
        }
        taken
    }
}

/// For a transport that has never been connected: nothing can be sent to it.
pub(super) struct NoEgress;

impl Egress for NoEgress {
    fn send_rtp(&mut self, _: TransportSlot, _: &RtpPackets<'_>) {}

    fn send_rtcp(&mut self, _: TransportSlot, _: &[u8]) {}

    fn send_inbound(&mut self, _: OutletId, _: Inbound) -> bool {
        false
    }
}

impl<W: Wire> Drop for LegsOnWire<'_, W> {
    fn drop(&mut self) {
        self.legs.outbox.flush(self.wire);
    }
}
