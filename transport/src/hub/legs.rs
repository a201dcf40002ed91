//! A worker's legs: the sessions, plain transports, direct sinks and pipes that the router sends to, and the way there.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use lenscast_router::{Egress, Inbound, OutletId, RtpPackets, TransportId, TransportSlot};
use tokio::sync::{mpsc, watch};

use super::Wire;
use crate::flood_guard::FloodGuard;
use crate::object::{DirectPackets, DirectSink, Life};
use crate::outbox::Outbox;
use crate::pipe::{PipeOrigin, WritePacket};
use crate::plain::PlainLeg;
use crate::port::Incoming;
use crate::purpose::Role;
use crate::session::Session;
use crate::stats::SocketStats;

/// The sessions, and what the router sends to them.
#[derive(Default)]
pub(super) struct Legs {
    pub(super) sessions: BTreeMap<TransportId, Leg>,
    /// Knows where a session's media goes, and how it is protected, as of the session's last [`Hub::settle`].
    pub(super) outbox: Outbox,
    pub(super) by_slot: Vec<Option<TransportId>>,
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

impl Leg {
    pub(super) fn poll_timeout(&self) -> Instant {
        let session = self.session.poll_timeout();
        match &self.role {
            Role::Pipe(pipe) => pipe.poll_timeout().map_or(session, |due| due.min(session)),
            Role::Viewer { .. } | Role::Publisher => session,
        }
    }
}

impl Legs {
    pub(super) fn on<'a, W: Wire>(&'a mut self, wire: &'a mut W) -> LegsOnWire<'a, W> {
        self.outbox.begin();
        LegsOnWire { legs: self, wire }
    }

    pub(super) fn plain_at(&mut self, slot: TransportSlot) -> Option<(&mut PlainLeg, &mut Vec<u8>, &mut SocketStats)> {
        let leg = self.plain.get_mut(self.plain_slots.get(&slot)?)?;
        Some((leg, &mut self.buffer, &mut self.plain_sockets))
    }
}

/// The way from the router to the network. What it was given has left once it is dropped.
pub(crate) struct LegsOnWire<'a, W: Wire> {
    legs: &'a mut Legs,
    wire: &'a mut W,
}

impl<W: Wire> LegsOnWire<'_, W> {
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
        if self.legs.by_slot.get(slot.index()).copied().flatten().is_none() {
            if let Some(sink) = self.legs.direct.get(&slot) {
                sink.send(DirectPackets::Rtp((0..packets.len()).map(|position| written(packets, position)).collect()));
            } else if let Some((leg, buffer, stats)) = self.legs.plain_at(slot) {
                leg.send_rtp(packets, buffer, stats);
            }
            return;
        }
        self.legs.outbox.push(slot, packets, self.wire);
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

fn written(packets: &RtpPackets<'_>, position: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    packets.write(position, &mut packet);
    packet
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
