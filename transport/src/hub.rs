//! One worker's sessions and router together, without sockets: tells datagrams apart, finds their session, and carries
//! what the router sends to the viewers' paths.
//!
//! **Invariants.** A datagram from an address that no authentic check has come from reaches nothing but the ICE check;
//! at most it is carried to the worker of the session that a check from there named, which drops it.
//! Every datagram that is dropped is counted by its reason. A session that ends is announced exactly once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, StageHistograms, WallClock};
use lenscast_router::{Egress, Event, ProducerId, RtpPackets, TransportId, Worker as Router};
use rtc_crypto::RTCCryptoProvider;

use crate::active_workers::ActiveWorkers;
use crate::directory::{Claim, Directory};
use crate::ice::{BindingRequest, StunError};
use crate::outbox::{Message, Outbox};
use crate::session::{CloseCause, Session, SessionEvent, SessionSetup};
use crate::stats::{DropStats, SessionConsumer, SessionStats};
use crate::{Certificate, ForwardingCost, IceCredentials, Path, Upstream};

/// Where datagrams go out.
pub(crate) trait Wire {
    fn send(&mut self, path: Path, datagram: &[u8]);
    fn send_packets(&mut self, path: Path, buffer: &[u8], ends: &[usize]);

    /// Sends many viewers' packets, in order. All stand one behind the other in `buffer`, packet *i* ending at `ends[i]`.
    fn send_batch(&mut self, buffer: &[u8], ends: &[usize], messages: &[Message]) {
        let mut own = Vec::new();
        for Message { path, packets } in messages {
            let start = if packets.start == 0 { 0 } else { ends[packets.start - 1] };
            own.clear();
            own.extend(ends[packets.clone()].iter().map(|end| end - start));
            self.send_packets(*path, &buffer[start..], &own);
        }
    }
}

/// What the worker's surroundings have to be told or asked.
pub(crate) enum HubEvent {
    Connected(TransportId),
    Closed(TransportId, CloseCause),
    /// A datagram for a session of another worker.
    HandOver(usize, Path, Vec<u8>),
}

pub(crate) struct Hub {
    index: usize,
    router: Router,
    legs: Legs,
    producers: BTreeMap<ProducerId, Producer>,
    by_address: HashMap<SocketAddr, TransportId>,
    by_ufrag: HashMap<String, TransportId>,
    /// Addresses whose checks came here but name another worker's session: their other packets go there too, where they
    /// are dropped unless a check from there was authentic.
    elsewhere: HashMap<SocketAddr, usize>,
    deadlines: BTreeSet<(Instant, TransportId)>,
    directory: Arc<Directory>,
    certificate: Certificate,
    crypto: Arc<dyn RTCCryptoProvider>,
    dropped: DropStats,
    events: Vec<HubEvent>,
}

struct Producer {
    upstream: Arc<dyn Upstream>,
    stages: Arc<StageHistograms>,
    active: Arc<ActiveWorkers>,
    /// Held while this worker serves a consumer of it.
    subscription: Option<Box<dyn Send>>,
}

/// The sessions, and what the router sends to them.
#[derive(Default)]
struct Legs {
    sessions: BTreeMap<TransportId, Leg>,
    /// Knows where a session's media goes, and how it is protected, as of the session's last [`Hub::settle`].
    outbox: Outbox,
    rtcp: Vec<u8>,
}

struct Leg {
    session: Session,
    producer: ProducerId,
    deadline: Instant,
}

/// Viewers that moved to another worker's socket, at most; beyond that all are forgotten, and their next check finds
/// them again.
const MAX_ELSEWHERE: usize = 4_096;

/// How long an address stays with its session after the session's last check from there. Checks come every 6 s at most
/// (RFC 7675 §5.1: 5 s, randomized by a fifth).
const ADDRESS_IN_USE: Duration = Duration::from_secs(7);

/// The longest SRTCP datagram that is looked at, in bytes. A viewer's fit an Ethernet frame, as its own stack cuts them;
/// a longer one could only ask for more than any viewer has lost.
const MAX_RTCP: usize = 1_500;

/// First bytes of multiplexed datagrams (RFC 7983 §7) and second bytes of RTCP (RFC 5761 §4).
enum Protocol {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
    Unknown,
}

impl Hub {
    pub(crate) fn new(
        index: usize,
        wall: WallClock,
        directory: Arc<Directory>,
        certificate: Certificate,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Self {
        Self {
            index,
            router: Router::new(wall),
            legs: Legs::default(),
            producers: BTreeMap::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            elsewhere: HashMap::new(),
            deadlines: BTreeSet::new(),
            directory,
            certificate,
            crypto,
            dropped: DropStats::default(),
            events: Vec::new(),
        }
    }

    pub(crate) const fn dropped(&self) -> DropStats {
        self.dropped
    }

    pub(crate) const fn forwarding_cost(&self) -> ForwardingCost {
        self.legs.outbox.cost()
    }

    pub(crate) fn producer_stats(&self) -> Vec<(ProducerId, lenscast_router::ProducerStats)> {
        let stats = self.producers.keys().filter_map(|id| Some((*id, self.router.producer_stats(*id)?)));
        stats.collect()
    }

    pub(crate) fn all_session_stats(&self, now: Instant) -> Vec<SessionStats> {
        self.legs.sessions.keys().filter_map(|id| self.session_stats(now, *id)).collect()
    }

    pub(crate) fn session_stats(&self, now: Instant, id: TransportId) -> Option<SessionStats> {
        let session = &self.legs.sessions.get(&id)?.session;
        let consumers = self.router.consumer_stats(id).map(|(consumer, producer, stats)| SessionConsumer {
            id: consumer,
            producer,
            stats: stats.clone(),
            rtp_clock: self.router.viewer_clock(producer, consumer, now),
            read_at: now,
        });
        Some(SessionStats {
            id,
            created: session.created(),
            connected: session.connected(),
            remote: session.path().map(|path| path.remote),
            profile: session.profile(),
            consumers: consumers.collect(),
        })
    }

    /// A frame from an encode task. `clock` is read once its packets are on their way.
    pub(crate) fn handle_burst(
        &mut self,
        now: Instant,
        producer: ProducerId,
        burst: Arc<Burst>,
        wire: &mut impl Wire,
        clock: impl FnOnce() -> Instant,
    ) {
        let times = burst.meta().times;
        self.router.handle_burst(now, producer, burst, &mut self.legs.on(wire));
        if let Some(producer) = self.producers.get(&producer) {
            producer.stages.record(&times, clock());
        }
        self.pass_on_router_events();
    }

    /// A datagram from the network.
    pub(crate) fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &mut [u8], wire: &mut impl Wire) {
        if path.remote.port() == 0 {
            self.dropped.port_zero += 1;
            return;
        }
        let protocol = protocol_of(datagram);
        if let Protocol::Stun = protocol {
            self.handle_stun(now, path, datagram, wire);
            return;
        }
        let Some(&id) = self.by_address.get(&path.remote) else {
            match self.elsewhere.get(&path.remote) {
                Some(&worker) => self.events.push(HubEvent::HandOver(worker, path, datagram.to_vec())),
                None => self.dropped.unknown_address += 1,
            }
            return;
        };
        match protocol {
            Protocol::Dtls => self.handle_dtls(now, id, path, datagram, wire),
            Protocol::Rtcp => self.handle_rtcp(now, id, datagram, wire),
            Protocol::Rtp => self.dropped.rtp_unexpected += 1,
            Protocol::Stun | Protocol::Unknown => self.dropped.unknown_protocol += 1,
        }
    }

    /// A datagram that reached another worker first, which looked its session up.
    pub(crate) fn handle_handed_over(&mut self, now: Instant, path: Path, mut datagram: Vec<u8>, wire: &mut impl Wire) {
        let known = self.by_address.contains_key(&path.remote);
        if known || matches!(protocol_of(&datagram), Protocol::Stun) {
            self.handle_datagram(now, path, &mut datagram, wire);
        } else {
            self.dropped.worker_hand_over += 1;
        }
    }

    /// Time has come to [`Hub::poll_timeout`].
    pub(crate) fn handle_timeout(&mut self, now: Instant, wire: &mut impl Wire) {
        self.router.handle_timeout(now, &mut self.legs.on(wire));
        while let Some(&(due, id)) = self.deadlines.first().filter(|(due, _)| *due <= now) {
            self.deadlines.remove(&(due, id));
            let Some(leg) = self.legs.sessions.get_mut(&id) else { continue };
            match leg.session.handle_timeout(now) {
                Some(event) => self.handle_session_event(now, id, event, wire),
                None => self.settle(id, wire),
            }
        }
    }

    pub(crate) fn add_producer(
        &mut self,
        id: ProducerId,
        upstream: Arc<dyn Upstream>,
        stages: Arc<StageHistograms>,
        active: Arc<ActiveWorkers>,
    ) {
        self.router.add_producer(id);
        self.producers.insert(id, Producer { upstream, stages, active, subscription: None });
    }

    /// Ends a producer and every session that shows it.
    pub(crate) fn remove_producer(&mut self, now: Instant, id: ProducerId, wire: &mut impl Wire) {
        let showing = self.legs.sessions.iter().filter(|(_, leg)| leg.producer == id).map(|(id, _)| *id);
        for session in showing.collect::<Vec<_>>() {
            self.close_session(now, session, CloseCause::ProducerClosed, wire);
        }
        self.router.remove_producer(now, id, &mut self.legs.on(wire));
        self.pass_on_router_events();
        self.producers.remove(&id);
    }

    /// Ends a session and tells its viewer.
    pub(crate) fn close_session(&mut self, now: Instant, id: TransportId, cause: CloseCause, wire: &mut impl Wire) {
        if !self.legs.sessions.contains_key(&id) {
            return;
        }
        self.router.remove_transport(now, id, &mut self.legs.on(wire));
        let mut leg = self.legs.sessions.remove(&id).expect("it was there a moment ago");
        self.legs.outbox.direct(id, None);
        leg.session.close(now);
        flush(&mut leg.session, wire);
        self.deadlines.remove(&(leg.deadline, id));
        for address in leg.session.addresses() {
            self.disown(id, address);
        }
        for ufrag in leg.session.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        self.directory.remove(id);
        self.events.push(HubEvent::Closed(id, cause));
        self.pass_on_router_events();
    }

    /// Ends every session.
    pub(crate) fn close_all(&mut self, now: Instant, wire: &mut impl Wire) {
        for id in self.legs.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(now, id, CloseCause::Shutdown, wire);
        }
    }

    /// Offers the viewer new ICE credentials. False if there is no such session.
    pub(crate) fn restart_ice(&mut self, id: TransportId, fresh: IceCredentials) -> bool {
        let Some(leg) = self.legs.sessions.get_mut(&id) else { return false };
        self.by_ufrag.insert(fresh.ufrag.clone(), id);
        if let Some(replaced) = leg.session.restart_ice(fresh) {
            self.forget_ufrag(id, &replaced.ufrag);
        }
        true
    }

    pub(crate) fn poll_events(&mut self) -> std::vec::Drain<'_, HubEvent> {
        self.events.drain(..)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.deadlines.first().map(|(due, _)| *due);
        sessions.into_iter().chain(self.router.poll_timeout()).min()
    }

    fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8], wire: &mut impl Wire) {
        let request = match BindingRequest::parse(datagram) {
            Ok(request) => request,
            Err(_) => {
                self.dropped.stun_malformed += 1;
                return;
            }
        };
        let id = match self.by_ufrag.get(&request.local_ufrag) {
            Some(&id) => id,
            None => match self.directory.claim(&request.local_ufrag, self.index) {
                Claim::New(setup) => match self.begin(now, *setup) {
                    Some(id) => id,
                    None => {
                        self.dropped.session_not_begun += 1;
                        return;
                    }
                },
                Claim::Worker(worker) if worker != self.index => {
                    if self.elsewhere.len() >= MAX_ELSEWHERE {
                        self.elsewhere.clear();
                    }
                    self.elsewhere.insert(path.remote, worker);
                    self.events.push(HubEvent::HandOver(worker, path, datagram.to_vec()));
                    return;
                }
                Claim::Worker(_) | Claim::Unknown => {
                    self.dropped.stun_unknown_user += 1;
                    return;
                }
            },
        };
        let leg = self.legs.sessions.get_mut(&id).expect("user fragments lead to live sessions only");
        match leg.session.handle_check(now, request, path) {
            Ok(proof) => {
                if let Some(ufrag) = proof.replaced {
                    self.forget_ufrag(id, &ufrag);
                }
                if let Some(address) = proof.forgotten {
                    self.disown(id, address);
                }
                if proof.address {
                    self.take_address(now, id, path.remote);
                }
            }
            Err(StunError::NotAuthentic) => self.dropped.stun_not_authentic += 1,
            Err(_) => self.dropped.stun_malformed += 1,
        }
        self.settle(id, wire);
    }

    /// What comes from `address` is this session's from now on, unless another one is using it: a browser may use a port
    /// again for its next session, but an address can also be forged.
    fn take_address(&mut self, now: Instant, id: TransportId, address: SocketAddr) {
        let owner = self.by_address.get(&address).filter(|owner| **owner != id);
        let last_check = owner.and_then(|owner| self.legs.sessions.get(owner)?.session.last_check_from(address));
        if last_check.is_some_and(|at| now.saturating_duration_since(at) < ADDRESS_IN_USE) {
            return;
        }
        self.by_address.insert(address, id);
        self.elsewhere.remove(&address);
    }

    fn disown(&mut self, id: TransportId, address: SocketAddr) {
        if self.by_address.get(&address) == Some(&id) {
            self.by_address.remove(&address);
        }
    }

    fn forget_ufrag(&mut self, id: TransportId, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
        self.directory.forget_ufrag(id, ufrag);
    }

    fn handle_dtls(&mut self, now: Instant, id: TransportId, path: Path, datagram: &[u8], wire: &mut impl Wire) {
        let leg = self.legs.sessions.get_mut(&id).expect("addresses lead to live sessions only");
        match leg.session.handle_dtls(now, datagram, path) {
            Some(event) => self.handle_session_event(now, id, event, wire),
            None => self.settle(id, wire),
        }
    }

    fn handle_rtcp(&mut self, now: Instant, id: TransportId, packet: &mut [u8], wire: &mut impl Wire) {
        if packet.len() > MAX_RTCP {
            self.dropped.rtcp_too_long += 1;
            return;
        }
        let leg = self.legs.sessions.get_mut(&id).expect("addresses lead to live sessions only");
        match leg.session.open_rtcp(packet) {
            None => self.dropped.before_handshake += 1,
            Some(Err(_)) => self.dropped.srtcp_refused += 1,
            Some(Ok(compound)) => {
                if self.router.handle_rtcp(now, id, compound, &mut self.legs.on(wire)).is_err() {
                    self.dropped.rtcp_malformed += 1;
                }
                self.pass_on_router_events();
            }
        }
    }

    fn handle_session_event(&mut self, now: Instant, id: TransportId, event: SessionEvent, wire: &mut impl Wire) {
        match event {
            SessionEvent::Ignored => {
                self.dropped.dtls_ignored += 1;
                self.settle(id, wire);
            }
            SessionEvent::Connected => {
                // The last flight first: the viewer cannot decrypt before it has it.
                self.settle(id, wire);
                self.router.connect_transport(now, id);
                self.events.push(HubEvent::Connected(id));
                self.pass_on_router_events();
            }
            SessionEvent::Closed(cause) => {
                self.settle(id, wire);
                self.close_session(now, id, cause, wire);
            }
        }
    }

    /// Takes over a session whose viewer has just been heard of.
    fn begin(&mut self, now: Instant, setup: SessionSetup) -> Option<TransportId> {
        let id = setup.id;
        let session = match Session::new(&setup, &self.certificate, Arc::clone(&self.crypto)) {
            Ok(session) => session,
            Err(error) => {
                self.directory.remove(id);
                self.events.push(HubEvent::Closed(id, CloseCause::Dtls(error)));
                return None;
            }
        };
        self.router.add_transport(id);
        if self.router.add_consumer(now, setup.producer, setup.consumer).is_err() {
            // The camera went between answer and first check.
            self.router.remove_transport(now, id, &mut NoEgress);
            self.directory.remove(id);
            self.events.push(HubEvent::Closed(id, CloseCause::ProducerClosed));
            return None;
        }
        for credentials in std::iter::once(setup.credentials).chain(setup.restart) {
            self.by_ufrag.insert(credentials.ufrag, id);
        }
        let deadline = session.poll_timeout();
        self.deadlines.insert((deadline, id));
        self.legs.sessions.insert(id, Leg { session, producer: setup.producer, deadline });
        Some(id)
    }

    /// Sends what a session has to say, and notes when it wants to be called again.
    fn settle(&mut self, id: TransportId, wire: &mut impl Wire) {
        let Some(leg) = self.legs.sessions.get_mut(&id) else { return };
        self.legs.outbox.direct(id, leg.session.path().zip(leg.session.rtp_sealer()));
        flush(&mut leg.session, wire);
        let deadline = leg.session.poll_timeout();
        self.deadlines.remove(&(leg.deadline, id));
        self.deadlines.insert((deadline, id));
        leg.deadline = deadline;
    }

    fn pass_on_router_events(&mut self) {
        while let Some(event) = self.router.poll_event() {
            match event {
                Event::KeyFrameNeeded(id) => {
                    if let Some(producer) = self.producers.get(&id) {
                        producer.upstream.request_key_frame();
                    }
                }
                Event::ActiveConsumers(id, active) => {
                    let Some(producer) = self.producers.get_mut(&id) else { continue };
                    if active > 0 && producer.subscription.is_none() {
                        // First open the way for bursts, then ask for them: the first is a key frame not to be missed.
                        producer.active.set(self.index, true);
                        producer.subscription = Some(producer.upstream.subscribe());
                    } else if active == 0 {
                        producer.subscription = None;
                        producer.active.set(self.index, false);
                    }
                }
            }
        }
    }
}

impl Legs {
    fn on<'a, W: Wire>(&'a mut self, wire: &'a mut W) -> LegsOnWire<'a, W> {
        self.outbox.begin();
        LegsOnWire { legs: self, wire }
    }
}

/// The way from the router to the network. What it was given has left once it is dropped.
struct LegsOnWire<'a, W: Wire> {
    legs: &'a mut Legs,
    wire: &'a mut W,
}

impl<W: Wire> Egress for LegsOnWire<'_, W> {
    fn send_rtp(&mut self, transport: TransportId, packets: &RtpPackets<'_>) {
        self.legs.outbox.push(transport, packets, self.wire);
    }

    fn send_rtcp(&mut self, transport: TransportId, compound: &[u8]) {
        let Legs { sessions, outbox, rtcp } = &mut *self.legs;
        let Some(session) = sessions.get_mut(&transport).map(|leg| &mut leg.session) else { return };
        let Some(path) = session.path() else { return };
        // A report counts the packets before it, and a goodbye follows them.
        outbox.flush(self.wire);
        rtcp.clear();
        rtcp.extend_from_slice(compound);
        if session.seal_rtcp(rtcp) {
            self.wire.send(path, rtcp);
        }
    }
}

impl<W: Wire> Drop for LegsOnWire<'_, W> {
    fn drop(&mut self) {
        self.legs.outbox.flush(self.wire);
    }
}

/// For a transport that has never been connected: nothing can be sent to it.
struct NoEgress;

impl Egress for NoEgress {
    fn send_rtp(&mut self, _: TransportId, _: &RtpPackets<'_>) {}

    fn send_rtcp(&mut self, _: TransportId, _: &[u8]) {}
}

fn flush(session: &mut Session, wire: &mut impl Wire) {
    while let Some((path, datagram)) = session.poll_transmit() {
        wire.send(path, &datagram);
    }
}

fn protocol_of(datagram: &[u8]) -> Protocol {
    match datagram {
        [0..=3, ..] => Protocol::Stun,
        [20..=63, ..] => Protocol::Dtls,
        [128..=191, 192..=223, ..] => Protocol::Rtcp,
        [128..=191, ..] => Protocol::Rtp,
        _ => Protocol::Unknown,
    }
}

#[cfg(test)]
mod tests;
