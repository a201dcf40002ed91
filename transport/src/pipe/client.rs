//! The driver of an edge's end of a pipe: its socket, and the mirrors that it feeds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use lenscast_media::LayerSet;
use lenscast_media::sync::Mutex;
use lenscast_router::receive::ReceivedBurst;
use lenscast_router::{Inbound, ProducerKey, StreamState, TransportId, Upstream};
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};

use super::drops::PipeDrops;
use super::edge::{EdgeEvent, PipeEdge};
use super::{ConnectPipeError, PipeOffer, PipeState};
use crate::catalog::Catalog;
use crate::port::{Incoming, WorkerPort};
use crate::session::CloseCause;
use crate::{SessionEvent, SessionState};

/// What the driver can be told.
pub(crate) enum ClientCommand {
    Reconnect(Box<PipeOffer>, oneshot::Sender<Result<(), ConnectPipeError>>),
    Close(CloseCause, oneshot::Sender<()>),
}

pub(crate) struct PipeClient {
    pub(crate) id: TransportId,
    pub(crate) edge: PipeEdge,
    pub(crate) socket: UdpSocket,
    /// In the order of the offer.
    pub(crate) mirrors: Vec<Feed>,
    pub(crate) commands: mpsc::Receiver<ClientCommand>,
    pub(crate) events: mpsc::UnboundedSender<SessionEvent>,
    pub(crate) nudge: Arc<Notify>,
    pub(crate) drops: PipeDrops,
    /// For whoever asks. Of each change an event is told, after it.
    pub(crate) state: Arc<Mutex<PipeState>>,
}

/// A mirror of an origin's producer in this process, and the channel to the worker that it is on. Dropped, the mirror ends.
pub(crate) struct Feed {
    pub(crate) key: ProducerKey,
    pub(crate) home: WorkerPort,
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) layers: LayerSet,
    /// What the mirror is to know.
    state: StreamState,
    /// The newest state has not been taken yet: the channel was full.
    unsent: bool,
    /// Layers of which a burst was refused, or that have begun anew.
    broken: LayerSet,
    /// Knows the mirror as long as this is there.
    catalog: Arc<Catalog>,
}

/// What a mirror wants: written on its worker's thread, read by the driver.
pub(crate) struct Wishes {
    wanted: AtomicU8,
    key_frames: AtomicU8,
    nudge: Arc<Notify>,
}

/// Datagrams received before everything else gets its turn.
const MAX_RECEIVED_AT_ONCE: usize = 64;
/// A datagram of a pipe fits an Ethernet frame; one that does not is cut, and not authentic then.
const MAX_DATAGRAM: usize = 2_048;
/// How soon it is noticed that a mirror's worker has died.
const HOMES_INTERVAL: Duration = Duration::from_secs(1);

impl Wishes {
    pub(crate) fn new(nudge: Arc<Notify>) -> Self {
        Self { wanted: AtomicU8::new(0), key_frames: AtomicU8::new(0), nudge }
    }
}

impl Upstream for Wishes {
    fn set_wanted(&self, layers: LayerSet) {
        self.wanted.store(layers.bits(), Ordering::Release);
        self.nudge.notify_one();
    }

    fn request_key_frame(&self, layer: u8) {
        self.key_frames.fetch_or(LayerSet::only(layer).bits(), Ordering::AcqRel);
        self.nudge.notify_one();
    }
}

/// A socket that origins can be reached from, whatever their addresses' family, wherever this machine has both.
pub(crate) fn bind() -> io::Result<std::net::UdpSocket> {
    let both = || {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok::<std::net::UdpSocket, io::Error>(socket.into())
    };
    let socket = both().or_else(|_| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How a socket of this family names an address.
fn named(to: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match to {
        SocketAddr::V4(to) if is_ipv6 => (to.ip().to_ipv6_mapped(), to.port()).into(),
        _ => to,
    }
}

/// The address of an IPv4 peer as everybody else names it.
fn canonical(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, from.port()).into(),
        IpAddr::V6(_) => from,
    }
}

impl PipeClient {
    /// Runs until it is told to stop, all it receives has ended, or its server is dropped.
    pub(crate) async fn run(mut self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut homes = tokio::time::interval(HOMES_INTERVAL);
        homes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.pass_on();
            if let Some(cause) = self.end() {
                self.close(cause);
                return;
            }
            let sleep = tokio::time::sleep_until(self.edge.poll_timeout().into());
            let nudge = Arc::clone(&self.nudge);
            tokio::select! {
                readable = self.socket.readable() => if readable.is_ok() { self.receive(&mut buffer) },
                () = sleep => self.edge.handle_timeout(Instant::now()),
                () = nudge.notified() => self.handle_wishes(),
                // Looks at them, see `end`.
                _ = homes.tick() => {}
                command = self.commands.recv() => match command {
                    Some(ClientCommand::Reconnect(offer, reply)) => {
                        let result = self.edge.reconnect(Instant::now(), &offer);
                        if result.is_ok() {
                            *self.state.lock() = PipeState::Connecting;
                        }
                        let _ = reply.send(result);
                    }
                    Some(ClientCommand::Close(cause, done)) => {
                        self.close(cause);
                        let _ = done.send(());
                        return;
                    }
                    None => return self.close(CloseCause::Shutdown),
                },
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..MAX_RECEIVED_AT_ONCE {
            match self.socket.try_recv_from(buffer) {
                Ok((len, from)) => self.edge.handle_datagram(Instant::now(), canonical(from), &mut buffer[..len]),
                // Errors of earlier sends surface here too; silence tells what there is to tell.
                Err(_) => break,
            }
        }
        for (place, burst) in self.edge.take_bursts() {
            if !self.mirrors[place].forward(burst) {
                self.drops.add_burst();
            }
        }
        self.drops.add_refused(self.edge.take_dropped());
    }

    fn handle_wishes(&mut self) {
        let now = Instant::now();
        for (place, mirror) in self.mirrors.iter().enumerate() {
            let wanted = LayerSet::from_bits(mirror.wishes.wanted.load(Ordering::Acquire));
            self.edge.set_wanted(now, place, wanted);
            for layer in LayerSet::from_bits(mirror.wishes.key_frames.swap(0, Ordering::AcqRel)).iter() {
                self.edge.request_key_frame(now, place, layer);
            }
        }
    }

    fn pass_on(&mut self) {
        while let Some(event) = self.edge.poll_event() {
            match event {
                EdgeEvent::Connected => {
                    *self.state.lock() = PipeState::Connected { paused: self.is_held() };
                    self.tell(SessionState::Connected);
                }
                EdgeEvent::Lost => {
                    for mirror in &mut self.mirrors {
                        mirror.change(|state| state.sending = LayerSet::EMPTY);
                    }
                    *self.state.lock() = PipeState::Lost;
                    self.tell(SessionState::Lost);
                }
                EdgeEvent::State(place, said) => {
                    let mirror = &mut self.mirrors[place];
                    let sending = said.sending.intersection(mirror.layers);
                    mirror.change(|state| {
                        (state.paused, state.closed, state.sending) = (said.paused, said.closed, sending);
                    });
                    self.note_held();
                }
            }
        }
        for mirror in &mut self.mirrors {
            mirror.send_state();
        }
        while let Some((to, datagram)) = self.edge.poll_transmit() {
            // What cannot be sent is lost, like much else on its way: it is said again.
            let is_ipv6 = self.socket.local_addr().is_ok_and(|local| local.is_ipv6());
            if self.socket.try_send_to(&datagram, named(to, is_ipv6)).is_err() {
                self.drops.add_unsent();
            }
        }
    }

    /// Why there is nothing more to do, if there is not.
    fn end(&self) -> Option<CloseCause> {
        if self.mirrors.iter().any(Feed::is_orphaned) {
            return Some(CloseCause::WorkerDied);
        }
        let over = |mirror: &Feed| mirror.state.closed && !mirror.unsent;
        self.mirrors.iter().all(over).then_some(CloseCause::ProducerClosed)
    }

    fn close(&mut self, cause: CloseCause) {
        for mirror in &mut self.mirrors {
            mirror.close();
        }
        self.tell(SessionState::Closed(cause));
    }

    /// True while the origin holds up what viewers see: the first of a stream's producers.
    fn is_held(&self) -> bool {
        self.mirrors.first().is_some_and(|mirror| mirror.state.paused)
    }

    fn note_held(&self) {
        let now = PipeState::Connected { paused: self.is_held() };
        let mut state = self.state.lock();
        if matches!(*state, PipeState::Connected { .. }) && *state != now {
            *state = now;
            drop(state);
            self.tell(SessionState::Held);
        }
    }

    fn tell(&self, state: SessionState) {
        let _ = self.events.send(SessionEvent { id: self.id, state });
    }
}

impl Feed {
    pub(crate) fn new(
        key: ProducerKey,
        home: WorkerPort,
        wishes: Arc<Wishes>,
        layers: LayerSet,
        state: StreamState,
        catalog: Arc<Catalog>,
    ) -> Self {
        Self { key, home, wishes, layers, state, unsent: false, broken: LayerSet::EMPTY, catalog }
    }

    /// True if the thread that the mirror is on has ended.
    fn is_orphaned(&self) -> bool {
        self.home.inbound.is_closed()
    }

    /// False if there is no room for it.
    fn forward(&mut self, received: ReceivedBurst) -> bool {
        let ReceivedBurst { layer, broken, burst } = received;
        self.send_state();
        if self.unsent {
            // A state counts for all packets behind it: none may overtake it.
            self.broken = self.broken.with(layer);
            return false;
        }
        let broken = broken || self.broken.contains(layer);
        let sent = self.send(Inbound::Burst { key: self.key, outlet: None, layer, broken, burst });
        self.broken = if sent { self.broken.without(layer) } else { self.broken.with(layer) };
        sent
    }

    /// Its versions are its own: those of the origin begin anew with each epoch.
    fn change(&mut self, change: impl FnOnce(&mut StreamState)) {
        let before = self.state;
        change(&mut self.state);
        if self.state != before {
            self.state.version += 1;
            self.unsent = true;
        }
    }

    fn send_state(&mut self) {
        if self.unsent {
            self.unsent = !self.send(Inbound::State { key: self.key, outlet: None, state: self.state });
        }
    }

    fn send(&self, message: Inbound) -> bool {
        self.home.inbound.try_send(Incoming { from: self.home.index, message, life: None }).is_ok()
    }

    fn close(&mut self) {
        self.change(|state| state.closed = true);
        self.send_state();
        if std::mem::take(&mut self.unsent) {
            release(&self.home, self.key);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
        self.catalog.forget(self.key.producer);
    }
}

/// Ends a mirror past a full channel.
pub(crate) fn release(home: &WorkerPort, key: ProducerKey) {
    home.release(move |hub, sockets, now| {
        hub.with_router(now, sockets, |router, egress| router.lose_origin(now, key, None, egress));
    });
}
