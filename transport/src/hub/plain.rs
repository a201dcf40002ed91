//! What a worker does for its plain RTP transports.

use std::net::SocketAddr;
use std::time::Instant;

use lenscast_router::{
    ConsumerParameters, HandleRtpError, ProducerId, ProducerParameters, Source, TransportId, TransportKind,
};
use tokio::task::JoinHandle;

use super::{Hub, HubEvent, MAX_RTCP, MAX_RTP, Protocol, Wire, protocol_of};
use crate::OpenSrtpError;
use crate::plain::{
    ConnectPlainTransportError, ConsumePlainError, CreatePlainTransportError, Heard, PlainLeg, PlainSetup, Received,
};
use crate::purpose::published;
use crate::session::CloseCause;
use crate::stats::{SessionStats, SocketStats};

impl Hub {
    /// What plain transports' sockets did.
    pub(crate) const fn plain_sockets(&self) -> SocketStats {
        self.legs.plain_sockets
    }

    pub(crate) fn create_plain(
        &mut self,
        now: Instant,
        id: TransportId,
        setup: PlainSetup,
        producers: Vec<(ProducerId, ProducerParameters)>,
        remote: Option<SocketAddr>,
        wire: &mut impl Wire,
    ) -> Result<(), CreatePlainTransportError> {
        let created = self.router.create_transport(self.home, id, TransportKind::Plain);
        let slot = created.map_err(|_| CreatePlainTransportError::Stopping)?;
        let leg = PlainLeg::new(setup, slot, published(&producers), now);
        self.legs.plain.insert(id, leg);
        self.legs.plain_slots.insert(slot, id);
        let mut result = Ok(());
        for (producer, parameters) in producers {
            result = result.and_then(|()| Ok(self.router.produce(now, id, producer, parameters, Source::Rtp)?));
        }
        if let Some(remote) = remote {
            let connected = result.is_ok() && self.connect_plain(now, id, remote, wire).is_ok();
            result = result.and(if connected { Ok(()) } else { Err(CreatePlainTransportError::Remote(remote)) });
        }
        if result.is_err() {
            self.forget_plain(now, id, wire);
        }
        result
    }

    /// Who reads a plain transport's sockets.
    pub(crate) fn read_plain(&mut self, id: TransportId, receiving: JoinHandle<()>) {
        match self.legs.plain.get_mut(&id) {
            Some(leg) => leg.is_read_by(receiving),
            None => receiving.abort(),
        }
    }

    /// Those who read the sockets of plain transports that have ended, and have been told to stop: nobody is to hear of the
    /// end before the ports are free.
    pub(crate) fn ended_readers(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.ended_readers)
    }

    pub(crate) fn connect_plain(
        &mut self,
        now: Instant,
        id: TransportId,
        remote: SocketAddr,
        wire: &mut impl Wire,
    ) -> Result<(), ConnectPlainTransportError> {
        let leg = self.legs.plain.get_mut(&id).ok_or(ConnectPlainTransportError::Unknown(id))?;
        if let Some(remote) = leg.remote() {
            return Err(ConnectPlainTransportError::Connected(id, remote));
        }
        if !leg.connect(now, remote) {
            return Err(ConnectPlainTransportError::Remote(remote));
        }
        self.plain_heard(now, id, &Heard { connected: true, published: false }, wire);
        Ok(())
    }

    pub(crate) fn consume_plain(
        &mut self,
        now: Instant,
        id: TransportId,
        producer: ProducerId,
        parameters: ConsumerParameters,
        wire: &mut impl Wire,
    ) -> Result<(), ConsumePlainError> {
        if !self.legs.plain.contains_key(&id) {
            return Err(ConsumePlainError::Unknown(id));
        }
        self.router.consume(now, producer, parameters)?;
        self.pass_on_router_events(now, wire);
        Ok(())
    }

    /// What has come to a plain transport's sockets.
    pub(crate) fn handle_plain(&mut self, now: Instant, id: TransportId, batch: Vec<Received>, wire: &mut impl Wire) {
        for Received { from, to_rtcp, mut datagram } in batch {
            self.legs.plain_sockets.received += 1;
            if from.port() == 0 {
                self.dropped.port_zero += 1;
                continue;
            }
            match protocol_of(&datagram) {
                Protocol::Rtp if !to_rtcp => self.handle_plain_rtp(now, id, from, &mut datagram, wire),
                Protocol::Rtcp => self.handle_plain_rtcp(now, id, from, &mut datagram, wire),
                _ => self.dropped.unknown_protocol += 1,
            }
        }
        self.end_of_batch(now, wire);
        self.settle_plain(id);
    }

    /// Time has come for what may be a plain transport.
    pub(super) fn handle_plain_timeout(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) {
        let Some(leg) = self.legs.plain.get_mut(&id) else { return };
        leg.deadline = None;
        if leg.poll_timeout().is_some_and(|due| due <= now) {
            self.close_plain(now, id, CloseCause::ConsentExpired, wire);
        } else {
            self.settle_plain(id);
        }
    }

    pub(super) fn close_plain(&mut self, now: Instant, id: TransportId, cause: CloseCause, wire: &mut impl Wire) {
        self.forget_plain(now, id, wire);
        self.events.push(HubEvent::Closed(id, cause));
    }

    pub(super) fn plain_stats(&self, now: Instant, id: TransportId) -> Option<SessionStats> {
        let leg = self.legs.plain.get(&id)?;
        Some(SessionStats {
            id,
            created: leg.created(),
            connected: leg.connected(),
            remote: leg.remote(),
            profile: leg.profile(),
            consumers: self.session_consumers(now, id),
            leg: None,
            leg_stats: None,
        })
    }

    fn handle_plain_rtp(
        &mut self,
        now: Instant,
        id: TransportId,
        from: SocketAddr,
        packet: &mut [u8],
        wire: &mut impl Wire,
    ) {
        let Some(leg) = self.legs.plain.get_mut(&id).filter(|leg| leg.may_send_rtp(from)) else {
            self.dropped.plain_stranger += 1;
            return;
        };
        if leg.producers.is_empty() {
            self.dropped.rtp_unexpected += 1;
        } else if packet.len() > MAX_RTP {
            self.dropped.rtp_too_long += 1;
        } else if !leg.flood.admits(now, packet) {
            self.dropped.rtp_flood += 1;
        } else {
            match leg.open_rtp(packet) {
                Err(OpenSrtpError::Replay { .. }) => self.dropped.srtp_replayed += 1,
                Err(_) => self.dropped.srtp_refused += 1,
                Ok(packet) => match self.router.handle_rtp(now, id, packet) {
                    Ok(()) => {
                        leg.flood.confirm(packet);
                        let heard = leg.hear_rtp(now, from);
                        self.in_batch = true;
                        self.plain_heard(now, id, &heard, wire);
                    }
                    Err(HandleRtpError::UnknownSource(_)) => self.dropped.rtp_unknown_source += 1,
                    Err(HandleRtpError::Refused) => self.dropped.rtp_refused += 1,
                    Err(_) => self.dropped.rtp_malformed += 1,
                },
            }
        }
    }

    fn handle_plain_rtcp(
        &mut self,
        now: Instant,
        id: TransportId,
        from: SocketAddr,
        packet: &mut [u8],
        wire: &mut impl Wire,
    ) {
        let Some(leg) = self.legs.plain.get_mut(&id).filter(|leg| leg.may_send_rtcp(from)) else {
            self.dropped.plain_stranger += 1;
            return;
        };
        if packet.len() > MAX_RTCP {
            self.dropped.rtcp_too_long += 1;
            return;
        }
        let Ok(compound) = leg.open_rtcp(packet) else {
            self.dropped.srtcp_refused += 1;
            return;
        };
        if self.router.handle_rtcp(now, id, compound, &mut self.legs.on(now, wire)).is_err() {
            self.dropped.rtcp_malformed += 1;
        } else if let Some(leg) = self.legs.plain.get_mut(&id) {
            let heard = leg.hear_rtcp(now, from);
            self.plain_heard(now, id, &heard, wire);
        }
        self.pass_on_router_events(now, wire);
    }

    fn plain_heard(&mut self, now: Instant, id: TransportId, heard: &Heard, wire: &mut impl Wire) {
        if heard.published
            && let Some(leg) = self.legs.plain.get(&id)
        {
            self.events.push(HubEvent::Produced(id, leg.producers.clone()));
        }
        if heard.connected {
            let _ = self.router.connect_transport(now, id);
            self.events.push(HubEvent::Connected(id));
            self.pass_on_router_events(now, wire);
        }
    }

    /// Has a plain transport looked at when its peer may have been silent for too long. What is heard meanwhile does not
    /// change that: then it is looked at again.
    fn settle_plain(&mut self, id: TransportId) {
        let Some(leg) = self.legs.plain.get_mut(&id) else { return };
        if let Some(due) = leg.poll_timeout()
            && leg.deadline.is_none()
        {
            leg.deadline = Some(due);
            self.deadlines.set(id, Some(due));
        }
    }

    fn forget_plain(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) {
        let _ = self.router.close_transport(now, id, &mut self.legs.on(now, wire));
        if let Some(leg) = self.legs.plain.remove(&id) {
            self.legs.plain_slots.remove(&leg.slot);
            self.deadlines.set(id, None);
            self.ended_readers.extend(leg.end());
        }
        self.pass_on_router_events(now, wire);
    }
}
