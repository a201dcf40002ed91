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

use lenscast_congestion::EstimateBounds;
use lenscast_media::{StageHistograms, WallClock};
use lenscast_router::rtcp::Compound;
use lenscast_router::{
    AttachError, AttachParameters, Confirm, ConsumeError, ConsumerParameters, CreateRouterError, CreateTransportError,
    EndCause, Event, HandleRtpError, Inbound, OpenMirrorError, OutletId, ProducerId, ProducerKey, RouterId, Source,
    Timers, TransportId, TransportKind, Worker as Router,
};
use rtc_crypto::RTCCryptoProvider;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::directory::{Claim, Directory};
use crate::elsewhere::Elsewhere;
use crate::flood_guard::FloodGuard;
use crate::ice::{BindingRequest, StunError};
use crate::leg::{Board, DEFAULT_BOUNDS, LegControl};
use crate::nudges::Pending;
use crate::object::{DirectSink, Life, LifeOf, Lives, Pipe};
use crate::outbox::Message;
use crate::pipe::PipeOrigin;
use crate::port::Incoming;
use crate::purpose::{PlannedView, Purpose, Role, View, published};
use crate::session::{CloseCause, Session, SessionEvent, SessionSetup};
use crate::stats::{DropStats, ObjectCounts, SessionConsumer, SessionStats};
use crate::{
    Certificate, ForwardingCost, IceCredentials, LegReport, OpenSrtpError, Path, PreferredLayers, PublishedProducer,
};
use legs::{Leg, Legs, NoEgress, Way};
pub(crate) use legs::{LegsOnWire, Opening};

/// Where datagrams go out.
pub(crate) trait Wire {
    /// The time now, of which what led here came in at `entered`.
    fn now(&self, entered: Instant) -> Instant;

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
    /// A publisher has been heard of: from now on its producers exist here.
    Produced(TransportId, Vec<PublishedProducer>),
    /// They exist on all workers.
    Published(TransportId, Vec<PublishedProducer>),
    Connected(TransportId),
    Closed(TransportId, CloseCause),
    /// A datagram for a session of another worker.
    HandOver(usize, Path, Vec<u8>),
}

pub(crate) struct Hub {
    index: usize,
    router: Router,
    /// The router that all sessions are in.
    home: RouterId,
    legs: Legs,
    /// The channels to all workers, this one's too.
    workers: Vec<mpsc::Sender<Incoming>>,
    lives: Lives,
    /// Workers whose threads have ended: what they sent before begins nothing any more.
    dead: BTreeSet<usize>,
    /// Where the times of a producer's frames are written down.
    stages: HashMap<ProducerKey, Arc<StageHistograms>>,
    /// The home worker of each mirror, and the outlet that feeds it.
    mirrors: BTreeMap<ProducerKey, (usize, Option<OutletId>)>,
    /// The pipes of publishers' producers to all other workers: they last as long as the producer.
    pipes: HashMap<ProducerKey, Vec<Pipe>>,
    by_address: HashMap<SocketAddr, TransportId>,
    by_ufrag: HashMap<String, TransportId>,
    /// Addresses whose checks came here but name another worker's session: their other packets go there too, where they
    /// are dropped unless a check from there was authentic.
    elsewhere: Elsewhere,
    deadlines: Timers<TransportId>,
    directory: Arc<Directory>,
    certificate: Certificate,
    crypto: Arc<dyn RTCCryptoProvider>,
    /// Where others read of the legs.
    board: Arc<Board>,
    /// Between which bounds legs' estimates stay.
    bounds: EstimateBounds,
    dropped: DropStats,
    /// RTP has come since the last [`Hub::end_of_batch`].
    in_batch: bool,
    ended_readers: Vec<JoinHandle<()>>,
    events: Vec<HubEvent>,
}

/// How long an address stays with its session after the session's last check from there. Checks come every 6 s at most
/// (RFC 7675 §5.1: 5 s, randomized by a fifth).
const ADDRESS_IN_USE: Duration = Duration::from_secs(7);

/// The longest SRTCP datagram that is looked at, in bytes. A viewer's fit an Ethernet frame, as its own stack cuts them;
/// a longer one could only ask for more than any viewer has lost.
const MAX_RTCP: usize = 1_500;

/// The longest RTP datagram that is looked at, in bytes: an Ethernet frame's. It has to fit into one again, header
/// extensions and all, for every viewer.
const MAX_RTP: usize = 1_500;

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
        workers: Vec<mpsc::Sender<Incoming>>,
        board: Arc<Board>,
    ) -> Self {
        let mut router = Router::new(wall);
        let (home, local) = (Self::default_router(index), Self::local_transport(index));
        router.create_router(home).expect("it is the first");
        router.create_transport(home, local, TransportKind::Direct).expect("it is the first");
        Self {
            index,
            router,
            home,
            legs: Legs::new(index, wall),
            workers,
            lives: Lives::default(),
            dead: BTreeSet::new(),
            stages: HashMap::new(),
            mirrors: BTreeMap::new(),
            pipes: HashMap::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            elsewhere: Elsewhere::default(),
            deadlines: Timers::default(),
            directory,
            certificate,
            crypto,
            board,
            bounds: DEFAULT_BOUNDS,
            dropped: DropStats::default(),
            in_batch: false,
            ended_readers: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The router of worker `index` that its sessions are in.
    pub(crate) const fn default_router(index: usize) -> RouterId {
        RouterId(index as u64 + 1)
    }

    /// The transport of worker `index` that local sources feed. Others count up from 1.
    pub(crate) const fn local_transport(index: usize) -> TransportId {
        TransportId(u64::MAX - index as u64)
    }

    pub(crate) const fn dropped(&self) -> DropStats {
        self.dropped
    }

    pub(crate) const fn forwarding_cost(&self) -> ForwardingCost {
        self.legs.outbox.cost()
    }

    pub(crate) fn producer_stats(&self) -> Vec<(ProducerId, lenscast_router::ProducerStats)> {
        let here = self.router.producers_of(self.home);
        let mut stats: Vec<_> =
            here.into_iter().filter_map(|key| Some((key.producer, self.router.producer_stats(key)?))).collect();
        stats.sort_by_key(|(producer, _)| *producer);
        stats
    }

    pub(crate) fn object_counts(&self) -> ObjectCounts {
        let sessions = &self.legs.sessions;
        ObjectCounts {
            sessions: sessions.len(),
            consumers: sessions.keys().map(|id| self.router.consumer_stats(*id).count()).sum(),
            producers: self.router.producers_of(self.home).len().saturating_sub(self.mirrors.len()),
            mirrors: self.mirrors.len(),
            outlets: self.legs.outlets.len() + self.legs.pipes.len(),
            addresses: self.by_address.len(),
            followed: self.lives.len(),
        }
    }

    pub(crate) fn all_session_stats(&self, now: Instant) -> Vec<SessionStats> {
        let all = self.legs.sessions.keys().chain(self.legs.plain.keys());
        all.filter_map(|id| self.session_stats(now, *id)).collect()
    }

    pub(crate) fn session_stats(&self, now: Instant, id: TransportId) -> Option<SessionStats> {
        let Some(Leg { session, .. }) = self.legs.sessions.get(&id) else { return self.plain_stats(now, id) };
        Some(SessionStats {
            id,
            created: session.created(),
            connected: session.connected(),
            remote: session.path().map(|path| path.remote),
            profile: session.profile(),
            consumers: self.session_consumers(now, id),
            leg: self.board.report_of(id).map(|report| LegReport::clone(&report)),
            leg_stats: self.legs.control(id).map(LegControl::stats),
        })
    }

    fn session_consumers(&self, now: Instant, id: TransportId) -> Vec<SessionConsumer> {
        let role = self.legs.sessions.get(&id).map(|leg| &leg.role);
        let consumers = self.router.consumer_stats(id).filter_map(|(consumer, producer, stats)| {
            Some(SessionConsumer {
                id: consumer,
                camera: role.and_then(|role| role.camera_of(consumer)),
                producer,
                stats: stats.clone(),
                score: self.router.consumer_score(consumer)?,
                layer: self.router.consumer_layers(consumer).map(|layers| layers.spatial),
                rtp_clock: self.router.viewer_clock(consumer, now),
                read_at: now,
            })
        });
        consumers.collect()
    }

    /// A message of the worker's ordered channel. `clock` is read once its packets are on their way.
    pub(crate) fn handle_incoming(
        &mut self,
        now: Instant,
        incoming: Incoming,
        wire: &mut impl Wire,
        clock: impl FnOnce() -> Instant,
    ) {
        let Incoming { from, message, life } = incoming;
        let message = match message {
            Inbound::Open(open) if self.dead.contains(&from) => {
                open.upstream.close();
                open.created.tell(Err(OpenMirrorError::Closed(open.key.producer)));
                return;
            }
            message => message,
        };
        let times = match &message {
            Inbound::Burst { key, burst, .. } => Some((*key, burst.meta().times)),
            _ => None,
        };
        let opened = match (&message, life) {
            (Inbound::Open(open), Some(life)) if self.router.producer_stats(open.key).is_none() => {
                self.lives.follow(LifeOf::Producer(open.key), life);
                self.mirrors.insert(open.key, (from, open.outlet));
                Some(open.key)
            }
            _ => None,
        };
        self.router.handle_inbound(now, message, &mut self.legs.on(now, wire));
        if let Some(key) = opened.filter(|key| self.router.producer_stats(*key).is_none()) {
            self.lives.forget(LifeOf::Producer(key));
            self.mirrors.remove(&key);
        }
        if let Some((key, times)) = times
            && let Some(stages) = self.stages.get(&key)
        {
            stages.record(&times, clock());
        }
        self.pass_on_router_events(now, wire);
    }

    /// What other threads have left to be looked at.
    pub(crate) fn handle_nudges(&mut self, now: Instant, pending: Pending, wire: &mut impl Wire) {
        for outlet in pending.outlets {
            self.router.handle_outlet(now, outlet, &mut self.legs.on(now, wire));
        }
        for (key, sending) in pending.sending {
            self.router.handle_inbound(now, Inbound::Sending { key, sending }, &mut self.legs.on(now, wire));
        }
        if let Some(bounds) = pending.bounds {
            self.set_bounds(now, bounds);
        }
        for plan in pending.plans.into_values() {
            self.apply_plan(now, &plan);
        }
        self.pass_on_router_events(now, wire);
    }

    /// Another worker's thread has ended: what it was the home of ends here, and what leads there.
    pub(crate) fn handle_worker_died(&mut self, now: Instant, worker: usize, wire: &mut impl Wire) {
        self.dead.insert(worker);
        let orphans = self.mirrors.iter().filter(|(_, (home, _))| *home == worker);
        for (key, outlet) in orphans.map(|(key, (_, outlet))| (*key, *outlet)).collect::<Vec<_>>() {
            self.router.lose_origin(now, key, outlet, &mut self.legs.on(now, wire));
        }
        let dead = self.legs.outlets.iter().filter(|(_, way)| way.worker == worker).map(|(outlet, _)| *outlet);
        for outlet in dead.collect::<Vec<_>>() {
            self.router.detach(now, outlet, &mut self.legs.on(now, wire));
        }
        self.pass_on_router_events(now, wire);
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
            match self.elsewhere.get(path.remote) {
                Some(worker) => self.events.push(HubEvent::HandOver(worker, path, datagram.to_vec())),
                None => self.dropped.unknown_address += 1,
            }
            return;
        };
        match protocol {
            Protocol::Dtls => self.handle_dtls(now, id, path, datagram, wire),
            Protocol::Rtcp => self.handle_rtcp(now, id, datagram, wire),
            Protocol::Rtp => self.handle_rtp(now, id, datagram),
            Protocol::Stun | Protocol::Unknown => self.dropped.unknown_protocol += 1,
        }
    }

    /// All datagrams of one system call have been handled: what they brought is forwarded, frame by frame where that can
    /// be.
    pub(crate) fn end_of_batch(&mut self, now: Instant, wire: &mut impl Wire) {
        if std::mem::take(&mut self.in_batch) {
            self.router.end_of_batch(now, &mut self.legs.on(now, wire));
            self.pass_on_router_events(now, wire);
        }
    }

    /// The best layers that a viewer's session wants of the video of one of its cameras. False if there is no such session or
    /// the camera has ended.
    pub(crate) fn set_preferred_layers(
        &mut self,
        now: Instant,
        id: TransportId,
        camera: usize,
        preferred: Option<PreferredLayers>,
        wire: &mut impl Wire,
    ) -> bool {
        let view = self.legs.sessions.get(&id).and_then(|leg| leg.role.view(camera));
        let Some(video) = view.and_then(|view| view.video) else { return false };
        let set = self.router.set_preferred_layers(now, video, PreferredLayers::or_highest(preferred));
        self.legs.pressing.push(id);
        self.pass_on_router_events(now, wire);
        set.is_ok()
    }

    /// Holds up what a session is sent of one of its cameras, or goes on with it. False if there is no such session or the
    /// camera has ended.
    pub(crate) fn set_paused(
        &mut self,
        now: Instant,
        id: TransportId,
        camera: usize,
        paused: bool,
        wire: &mut impl Wire,
    ) -> bool {
        let view = self.legs.sessions.get(&id).and_then(|leg| leg.role.view(camera));
        let Some(view) = view.filter(|view| view.video.is_some()).copied() else { return false };
        for consumer in view.consumers() {
            let router = &mut self.router;
            // One that has ended needs neither.
            let _ = if paused { router.pause_consumer(now, consumer) } else { router.resume_consumer(now, consumer) };
        }
        self.legs.pressing.push(id);
        self.pass_on_router_events(now, wire);
        true
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
        self.router.handle_timeout(now, &mut self.legs.on(now, wire));
        while let Some((_, id)) = self.legs.attention.take_due(now) {
            self.legs.pressing.push(id);
        }
        self.pass_on_router_events(now, wire);
        while let Some((_, id)) = self.deadlines.take_due(now) {
            let Some(leg) = self.legs.sessions.get_mut(&id) else {
                self.handle_plain_timeout(now, id, wire);
                continue;
            };
            match leg.session.handle_timeout(now) {
                Some(event) => self.handle_session_event(now, id, event, wire),
                None => self.tell(now, id, wire),
            }
        }
    }

    /// Those whom somebody follows.
    pub(crate) fn lives(&mut self) -> &mut Lives {
        &mut self.lives
    }

    /// Makes a local source's producer of one layer.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn produce_for_test(
        &mut self,
        now: Instant,
        id: ProducerId,
        upstream: Arc<dyn lenscast_router::Upstream>,
    ) {
        let parameters = lenscast_router::ProducerParameters::local(lenscast_media::Codec::Vp8.into(), 1, 1);
        let source = lenscast_router::Source::Local(upstream);
        let local = Self::local_transport(self.index);
        self.router.produce(now, local, id, parameters, source).expect("it is the first");
    }

    /// What is there: for tests, which want to see that nothing is left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> (usize, usize, usize) {
        (self.lives.len(), self.mirrors.len(), self.legs.outlets.len())
    }

    /// Does something with the router, and passes on what it has to tell.
    pub(crate) fn with_router<W: Wire, T>(
        &mut self,
        now: Instant,
        wire: &mut W,
        act: impl FnOnce(&mut Router, &mut LegsOnWire<'_, W>) -> T,
    ) -> T {
        let result = act(&mut self.router, &mut self.legs.on(now, wire));
        self.pass_on_router_events(now, wire);
        result
    }

    pub(crate) fn create_router(&mut self, id: RouterId) -> Result<(), CreateRouterError> {
        self.router.create_router(id)
    }

    /// A transport to a channel of this process.
    pub(crate) fn create_direct_transport(
        &mut self,
        router: RouterId,
        id: TransportId,
        sink: DirectSink,
    ) -> Result<(), CreateTransportError> {
        let slot = self.router.create_transport(router, id, TransportKind::Direct)?;
        self.legs.direct.insert(slot, sink);
        self.legs.direct_slots.insert(id, slot);
        Ok(())
    }

    pub(crate) fn consume(
        &mut self,
        now: Instant,
        producer: ProducerId,
        parameters: ConsumerParameters,
        life: watch::Sender<Life>,
        wire: &mut impl Wire,
    ) -> Result<(), ConsumeError> {
        let id = parameters.id;
        self.router.consume(now, producer, parameters)?;
        self.lives.follow(LifeOf::Consumer(id), life);
        self.pass_on_router_events(now, wire);
        Ok(())
    }

    /// Has the times of this producer's frames written down.
    pub(crate) fn record_stages(&mut self, key: ProducerKey, stages: Arc<StageHistograms>) {
        if self.router.producer_stats(key).is_some() {
            self.stages.insert(key, stages);
        }
    }

    /// Keeps pipes of a producer of this worker for as long as there is one.
    pub(crate) fn keep_pipes(&mut self, key: ProducerKey, pipes: Vec<Pipe>) {
        if self.router.producer_stats(key).is_some() {
            self.pipes.insert(key, pipes);
        }
    }

    /// A publisher's producers have mirrors everywhere. One that has ended meanwhile is not told of: nothing follows an end.
    pub(crate) fn announce_published(&mut self, id: TransportId, producers: Vec<PublishedProducer>) {
        if self.legs.sessions.contains_key(&id) || self.legs.plain.contains_key(&id) {
            self.events.push(HubEvent::Published(id, producers));
        }
    }

    /// Leads an outlet to a worker and attaches it.
    pub(crate) fn attach(
        &mut self,
        now: Instant,
        parameters: AttachParameters,
        worker: usize,
        opening: Opening,
        wire: &mut impl Wire,
    ) -> Result<(), AttachError> {
        let outlet = parameters.link.outlet();
        let way = Way { worker, channel: self.workers[worker].clone(), opening: Some(opening) };
        self.legs.outlets.insert(outlet, way);
        let attached = self.router.attach(now, parameters, &mut self.legs.on(now, wire));
        if attached.is_err() {
            self.legs.outlets.remove(&outlet);
        }
        self.pass_on_router_events(now, wire);
        attached
    }

    /// Ends a session and tells its viewer.
    pub(crate) fn close_session(&mut self, now: Instant, id: TransportId, cause: CloseCause, wire: &mut impl Wire) {
        if !self.legs.sessions.contains_key(&id) {
            if self.legs.plain.contains_key(&id) {
                self.close_plain(now, id, cause, wire);
            }
            return;
        }
        let _ = self.router.close_transport(now, id, &mut self.legs.on(now, wire));
        let mut leg = self.legs.remove(id).expect("it was there a moment ago");
        self.forget_report(id);
        if let Role::Pipe(pipe) = &leg.role {
            for outlet in pipe.outlets() {
                self.legs.pipes.remove(&outlet);
                self.router.detach(now, outlet, &mut self.legs.on(now, wire));
            }
        }
        leg.session.close(now);
        flush(&mut leg.session, wire);
        self.deadlines.set(id, None);
        for address in leg.session.addresses() {
            self.disown(id, address);
        }
        for ufrag in leg.session.ufrags() {
            self.by_ufrag.remove(ufrag);
        }
        self.events.push(HubEvent::Closed(id, cause));
        self.pass_on_router_events(now, wire);
    }

    /// Ends every session.
    pub(crate) fn close_all(&mut self, now: Instant, wire: &mut impl Wire) {
        let all = self.legs.sessions.keys().chain(self.legs.plain.keys());
        for id in all.copied().collect::<Vec<_>>() {
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

    /// What there is to tell. A session is in the directory until its end is taken from here: of those that are in it,
    /// somebody else tells the end if this thread panics.
    pub(crate) fn poll_events(&mut self) -> impl Iterator<Item = HubEvent> {
        let Self { events, directory, .. } = self;
        events.drain(..).inspect(|event| {
            if let HubEvent::Closed(id, _) = event {
                directory.remove(*id);
            }
        })
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.deadlines.first(), self.legs.attention.first(), self.router.poll_timeout()];
        due.into_iter().flatten().min()
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
                Claim::New(setup) => match self.begin(now, *setup, wire) {
                    Some(id) => id,
                    None => {
                        self.dropped.session_not_begun += 1;
                        return;
                    }
                },
                Claim::Worker(worker) if worker != self.index => {
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
                if proof.connected {
                    self.handle_session_event(now, id, SessionEvent::Connected, wire);
                }
            }
            Err(StunError::NotAuthentic) => self.dropped.stun_not_authentic += 1,
            Err(_) => self.dropped.stun_malformed += 1,
        }
        self.settle(now, id, wire);
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
        self.elsewhere.remove(address);
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
            None => self.settle(now, id, wire),
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
            Some(Ok(compound)) if matches!(leg.role, Role::Pipe(_)) => {
                let compound = compound.to_vec();
                self.handle_pipe_rtcp(now, id, &compound, wire);
            }
            Some(Ok(compound)) => {
                if let Some(control) = self.legs.controls[leg.slot.index()].as_deref_mut() {
                    control.handle_rtcp(now, compound);
                    self.legs.pressing.push(id);
                }
                if self.router.handle_rtcp(now, id, compound, &mut self.legs.on(now, wire)).is_err() {
                    self.dropped.rtcp_malformed += 1;
                }
                self.pass_on_router_events(now, wire);
            }
        }
    }

    fn handle_rtp(&mut self, now: Instant, id: TransportId, packet: &mut [u8]) {
        let leg = self.legs.sessions.get_mut(&id).expect("addresses lead to live sessions only");
        if !matches!(leg.role, Role::Publisher) {
            self.dropped.rtp_unexpected += 1;
        } else if packet.len() > MAX_RTP {
            self.dropped.rtp_too_long += 1;
        } else if !leg.flood.admits(now, packet) {
            self.dropped.rtp_flood += 1;
        } else {
            match leg.session.open_rtp(packet) {
                None => self.dropped.before_handshake += 1,
                Some(Err(OpenSrtpError::Replay { .. })) => self.dropped.srtp_replayed += 1,
                Some(Err(_)) => self.dropped.srtp_refused += 1,
                Some(Ok(packet)) => {
                    leg.flood.confirm(packet);
                    match self.router.handle_rtp(now, id, packet) {
                        Ok(()) => self.in_batch = true,
                        Err(HandleRtpError::UnknownSource(_)) => self.dropped.rtp_unknown_source += 1,
                        Err(HandleRtpError::Refused) => self.dropped.rtp_refused += 1,
                        Err(_) => self.dropped.rtp_malformed += 1,
                    }
                }
            }
        }
    }

    fn handle_pipe_rtcp(&mut self, now: Instant, id: TransportId, compound: &[u8], wire: &mut impl Wire) {
        let mut nudged = Vec::new();
        let handled = self.legs.on(now, wire).with_pipe(id, |pipe, send| {
            match pipe.handle_rtcp(now, compound, send) {
                Ok(outlets) => nudged = outlets,
                Err(_) => return false,
            }
            true
        });
        if handled != Some(true) {
            self.dropped.rtcp_malformed += 1;
        }
        for outlet in nudged {
            self.router.handle_outlet(now, outlet, &mut self.legs.on(now, wire));
        }
        self.pass_on_router_events(now, wire);
        self.tell(now, id, wire);
    }

    /// Sends what a session has to say, of a pipe also what its other end is to know.
    fn tell(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) {
        if let Some(Leg { role: Role::Pipe(pipe), session, .. }) = self.legs.sessions.get_mut(&id) {
            let mut compound = Compound::new();
            pipe.write_control(now, &mut compound);
            let mut packet = compound.as_bytes().to_vec();
            if let Some(path) = session.path().filter(|_| !packet.is_empty())
                && session.seal_rtcp(&mut packet)
            {
                wire.send(path, &packet);
            }
            if pipe.is_over() {
                self.close_session(now, id, CloseCause::ProducerClosed, wire);
                return;
            }
        }
        self.settle(now, id, wire);
    }

    fn handle_session_event(&mut self, now: Instant, id: TransportId, event: SessionEvent, wire: &mut impl Wire) {
        match event {
            SessionEvent::Ignored => {
                self.dropped.dtls_ignored += 1;
                self.settle(now, id, wire);
            }
            SessionEvent::Connected => {
                // The last flight first: the viewer cannot decrypt before it has it.
                self.settle(now, id, wire);
                let _ = self.router.connect_transport(now, id);
                self.events.push(HubEvent::Connected(id));
                self.legs.pressing.push(id);
                self.tell(now, id, wire);
                self.pass_on_router_events(now, wire);
            }
            SessionEvent::Closed(cause) => {
                self.settle(now, id, wire);
                self.close_session(now, id, cause, wire);
            }
        }
    }

    /// Takes over a session whose viewer has just been heard of.
    fn begin(&mut self, now: Instant, setup: SessionSetup, wire: &mut impl Wire) -> Option<TransportId> {
        let id = setup.id;
        let session = match Session::new(&setup, &self.certificate, Arc::clone(&self.crypto)) {
            Ok(session) => session,
            Err(error) => {
                self.events.push(HubEvent::Closed(id, CloseCause::Dtls(error)));
                return None;
            }
        };
        let Ok(slot) = self.router.create_transport(self.home, id, TransportKind::WebRtc) else {
            // Identifiers are given out once: it cannot be there.
            self.events.push(HubEvent::Closed(id, CloseCause::ProducerClosed));
            return None;
        };
        let missing = match setup.purpose {
            // The camera went between answer and first check.
            Purpose::Viewer(_) | Purpose::Pipe(_) => CloseCause::ProducerClosed,
            Purpose::Publisher(_) => CloseCause::TracksRefused,
        };
        let Some(role) = self.furnish(now, id, setup.purpose) else {
            let _ = self.router.close_transport(now, id, &mut NoEgress);
            self.pass_on_router_events(now, wire);
            self.events.push(HubEvent::Closed(id, missing));
            return None;
        };
        for credentials in std::iter::once(setup.credentials).chain(setup.restart) {
            self.by_ufrag.insert(credentials.ufrag, id);
        }
        self.deadlines.set(id, Some(session.poll_timeout()));
        let control = setup.feedback.map(|feedback| Box::new(LegControl::new(now, feedback, self.bounds)));
        self.legs.insert(id, Leg { session, slot, role, flood: FloodGuard::default() }, control);
        self.attach_pipe(now, id, wire).then_some(id)
    }

    /// Has the router send a pipe its producers. False if that could not be had, and the session has ended.
    fn attach_pipe(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) -> bool {
        let Some(Role::Pipe(pipe)) = self.legs.sessions.get(&id).map(|leg| &leg.role) else { return true };
        let links: Vec<_> = pipe.links().collect();
        for (producer, link) in links {
            self.legs.pipes.insert(link.outlet(), id);
            let parameters = AttachParameters {
                producer: ProducerKey { router: self.home, producer },
                // Stands for the router on the other machine, one for each connection to it.
                destination: RouterId(id.0),
                link,
                created: Confirm::none(),
            };
            if self.router.attach(now, parameters, &mut self.legs.on(now, wire)).is_err() {
                self.close_session(now, id, CloseCause::ProducerClosed, wire);
                return false;
            }
        }
        true
    }

    /// Puts into a new transport what its session is for. `None` if that cannot be had any more.
    fn furnish(&mut self, now: Instant, id: TransportId, purpose: Purpose) -> Option<Role> {
        match purpose {
            Purpose::Viewer(planned) => {
                let mut consume = |(producer, parameters): (ProducerId, ConsumerParameters)| {
                    let consumer = parameters.id;
                    self.router.consume(now, producer, parameters).is_ok().then_some(consumer)
                };
                let views = planned.into_iter().map(|PlannedView { video, audio }| {
                    let producer = video.0;
                    // Without its video there is nothing to show of a camera; without its audio there is.
                    let video = consume(video);
                    let audio = audio.filter(|_| video.is_some()).and_then(&mut consume);
                    View { producer, video, audio }
                });
                let views: Vec<_> = views.collect();
                views.iter().any(|view| view.video.is_some()).then_some(Role::Viewer(views))
            }
            Purpose::Publisher(producers) => {
                let published = published(&producers);
                for (producer, parameters) in producers {
                    self.router.produce(now, id, producer, parameters, Source::Rtp).ok()?;
                }
                self.events.push(HubEvent::Produced(id, published));
                Some(Role::Publisher)
            }
            // Attached once there is a session for what that sends.
            Purpose::Pipe(setup) => Some(Role::Pipe(Box::new(PipeOrigin::new(*setup, now)))),
        }
    }

    /// Sends what a session has to say, and notes when it wants to be called again.
    fn settle(&mut self, now: Instant, id: TransportId, wire: &mut impl Wire) {
        let Some(leg) = self.legs.sessions.get_mut(&id) else { return };
        self.legs.outbox.direct(leg.slot, leg.session.path().zip(leg.session.rtp_sealer()));
        flush(&mut leg.session, wire);
        self.deadlines.set(id, Some(leg.poll_timeout()));
        let control = self.legs.controls[leg.slot.index()].as_deref_mut();
        if control.zip(leg.session.path()).is_some_and(|(control, path)| control.set_path(now, path)) {
            self.legs.pressing.push(id);
            self.attend_all(now, wire);
        }
    }

    fn pass_on_router_events(&mut self, now: Instant, wire: &mut impl Wire) {
        for outlet in std::mem::take(&mut self.legs.nudged) {
            self.router.handle_outlet(now, outlet, &mut self.legs.on(now, wire));
        }
        for (transport, ssrc) in std::mem::take(&mut self.legs.broken) {
            self.router.break_off(now, transport, ssrc);
        }
        let mut orphans = Vec::new();
        while let Some(event) = self.router.poll_event() {
            self.lives.handle_event(&event);
            match event {
                Event::ProducerClosed(key, _) => {
                    self.stages.remove(&key);
                    self.mirrors.remove(&key);
                    self.pipes.remove(&key);
                }
                // Otherwise the mirror is told first: the way goes with that, see `send_inbound`.
                Event::OutletClosed(outlet, EndCause::MirrorClosed) => {
                    self.legs.outlets.remove(&outlet);
                }
                Event::TransportClosed(id, _) => {
                    if let Some(slot) = self.legs.direct_slots.remove(&id) {
                        self.legs.direct.remove(&slot);
                    }
                }
                Event::LayersChanged { transport, .. } => self.legs.pressing.push(transport),
                // A session whose streams have all ended has nothing more to show.
                Event::ConsumerClosed { transport, producer, .. }
                    if self.legs.sessions.get_mut(&transport).is_some_and(|leg| leg.role.lose(producer)) =>
                {
                    orphans.push(transport);
                }
                _ => {}
            }
        }
        for session in orphans {
            self.close_session(now, session, CloseCause::ProducerClosed, wire);
        }
        for pipe in std::mem::take(&mut self.legs.telling) {
            self.tell(now, pipe, wire);
        }
        self.attend_all(now, wire);
    }
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

mod control;
#[cfg(test)]
mod control_tests;
mod legs;
mod plain;
#[cfg(test)]
mod publishing_tests;
#[cfg(test)]
mod tests;
