//! Both ends of pipes, as the server makes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use lenscast_media::sync::Mutex;
use lenscast_media::{LayerSet, MediaCodec, Ssrc, StageHistograms};
use lenscast_router::{
    Confirm, ExtensionId, Inbound, Open, OutletId, PayloadType, ProducerId, ProducerKey, ProducerParameters,
    StreamState, TransportId,
};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};

use super::client::{ClientCommand, Feed, PipeClient, Wishes, bind, release};
use super::edge::PipeEdge;
use super::{
    ConnectPipeError, ConnectedPipe, CreatePipeError, MAX_PIPED_PRODUCERS, PipeKeys, PipeOffer, PipeProducer,
    PipeSetup, PipeState, PipedEncoding, PipedProducer, extension,
};
use crate::object::{Living, Pipe};
use crate::port::{Incoming, answered};
use crate::purpose::Purpose;
use crate::session::{CloseCause, Security, SessionSetup};
use crate::{IceCredentials, SessionEvent, TransportServer};

/// The edges' ends that this server has.
#[derive(Default)]
pub(crate) struct Edges(HashMap<TransportId, Edge>);

struct Edge {
    commands: mpsc::Sender<ClientCommand>,
    state: Arc<Mutex<PipeState>>,
    /// Mirrors of its mirrors, on the other workers.
    _pipes: Vec<Pipe>,
}

const COMMANDS: usize = 8;
const ABSOLUTE_CAPTURE_TIME: ExtensionId = extension(1);
/// Each producer has two, from here on.
const FIRST_PAYLOAD_TYPE: u8 = 96;

impl TransportServer {
    /// Offers producers of this server to one of another machine. `loopback` says that it is on this one.
    ///
    /// # Errors
    ///
    /// If a producer does not exist, or no more sessions are allowed.
    #[allow(clippy::unused_async)]
    pub async fn create_pipe_source(
        &self,
        producers: &[ProducerId],
        loopback: bool,
    ) -> Result<PipeOffer, CreatePipeError> {
        if !(1..=MAX_PIPED_PRODUCERS).contains(&producers.len()) {
            return Err(CreatePipeError::Producers(producers.len()));
        }
        let candidates = self.candidates(loopback).map_err(CreatePipeError::Addresses)?;
        let found = producers.iter().map(|id| self.catalog.find(*id, &self.directory).ok_or(*id));
        let found = found.collect::<Result<Vec<_>, _>>().map_err(CreatePipeError::UnknownProducer)?;
        let mut random = self.random.lock();
        let mut sources = Sources { random: &mut random, taken: Vec::new() };
        let piped = producers.iter().zip(&found).zip((FIRST_PAYLOAD_TYPE..).step_by(2));
        let piped: Vec<_> =
            piped.map(|((id, parameters), payload_type)| sources.pipe(*id, parameters, payload_type)).collect();
        let ssrc = sources.next();
        let id = TransportId(self.new_id());
        let credentials = IceCredentials::random(&mut *random);
        let keys = PipeKeys { origin: key(&mut random), edge: key(&mut random) };
        let first_sequence = random.random_range(0..1 << 15);
        drop(random);
        let outlets = piped.iter().map(|producer| (producer.clone(), OutletId(self.new_id())));
        let setup = PipeSetup {
            wall: self.wall_clock(),
            epoch: self.epoch,
            ssrc,
            producers: outlets.collect(),
            first_sequence,
        };
        let setup = SessionSetup {
            id,
            credentials: credentials.clone(),
            restart: None,
            security: Security::Keys(keys.clone()),
            purpose: Purpose::Pipe(Box::new(setup)),
            feedback: None,
            created: Instant::now(),
            timeouts: self.config.timeouts,
        };
        let publishers = self.publishers.lock().count(&self.directory);
        if !self.directory.announce(setup, self.config.max_sessions + publishers) {
            return Err(CreatePipeError::Full(self.config.max_sessions));
        }
        let candidates = candidates.iter().map(|candidate| candidate.address()).collect();
        Ok(PipeOffer { session: id, epoch: self.epoch, credentials, keys, candidates, producers: piped })
    }

    /// Takes up what a server of another machine offers: its producers exist here when this returns, and send once
    /// connected.
    ///
    /// # Errors
    ///
    /// If the offer cannot be used, or there is no socket for it.
    pub async fn connect_pipe(&self, offer: PipeOffer) -> Result<ConnectedPipe, ConnectPipeError> {
        let (local_ufrag, ssrc) = {
            let mut random = self.random.lock();
            (IceCredentials::random(&mut *random).ufrag, Ssrc(random.next_u32()))
        };
        let crypto = rtc_crypto::default_provider().map_err(|_| ConnectPipeError::Stopping)?;
        let edge = PipeEdge::new(&offer, local_ufrag, ssrc, crypto, Instant::now())?;
        let socket = bind().map_err(ConnectPipeError::Socket)?;
        let (id, nudge) = (TransportId(self.new_id()), Arc::new(Notify::new()));
        let (mut mirrors, mut pipes, mut producers) = (Vec::new(), Vec::new(), Vec::new());
        for piped in &offer.producers {
            let (mirror, its_pipes) = self.open_mirror(piped, &nudge).await?;
            producers.push(PipeProducer {
                id: mirror.key.producer,
                origin: piped.id,
                codec: piped.codec,
                layers: piped.encodings.len() as u8,
            });
            mirrors.push(mirror);
            pipes.extend(its_pipes);
        }
        let (commands, received) = mpsc::channel(COMMANDS);
        let events = self.event_sender();
        let state = Arc::new(Mutex::new(PipeState::Connecting));
        let told = Arc::clone(&state);
        let drops = self.pipe_drops.clone();
        let run = move || async move {
            match UdpSocket::from_std(socket) {
                Ok(socket) => {
                    let state = told;
                    let client =
                        PipeClient { id, edge, socket, mirrors, commands: received, events, nudge, drops, state };
                    client.run().await;
                }
                Err(error) => tracing::error!(%error, "cannot use a pipe's socket"),
            }
        };
        self.background.spawn(run).map_err(ConnectPipeError::Socket)?;
        let mut edges = self.edges.lock();
        edges.0.retain(|_, edge| !edge.commands.is_closed());
        edges.0.insert(id, Edge { commands, state, _pipes: pipes });
        Ok(ConnectedPipe { id, producers })
    }

    /// Gives a pipe that has lost its connection another one, to the same producers of the same origin, which may have
    /// been restarted.
    ///
    /// # Errors
    ///
    /// If the offer cannot be used or is for other producers, or the pipe has ended.
    pub async fn reconnect_pipe(&self, id: TransportId, offer: PipeOffer) -> Result<(), ConnectPipeError> {
        let commands = self.edge_commands(id).ok_or(ConnectPipeError::Unknown(id))?;
        let (reply, answer) = oneshot::channel();
        let sent = commands.send(ClientCommand::Reconnect(Box::new(offer), reply)).await;
        sent.map_err(|_| ConnectPipeError::Unknown(id))?;
        answer.await.unwrap_or(Err(ConnectPipeError::Unknown(id)))
    }

    /// How things stand with the edge's end of a pipe. `None` if it has ended.
    #[must_use]
    pub fn pipe_state(&self, id: TransportId) -> Option<PipeState> {
        let edges = self.edges.lock();
        edges.0.get(&id).filter(|edge| !edge.commands.is_closed()).map(|edge| *edge.state.lock())
    }

    /// Ends the edge's end of a pipe. False if there is none of that name.
    pub(crate) async fn close_edge(&self, id: TransportId, cause: CloseCause) -> bool {
        let Some(commands) = self.edge_commands(id) else { return false };
        let (done, closed) = oneshot::channel();
        let sent = commands.send(ClientCommand::Close(cause, done)).await.is_ok();
        let closed = sent && closed.await.is_ok();
        self.edges.lock().0.remove(&id);
        closed
    }

    /// Ends all of them.
    pub(crate) async fn close_edges(&self) {
        let ids: Vec<_> = self.edges.lock().0.keys().copied().collect();
        for id in ids {
            self.close_edge(id, CloseCause::Shutdown).await;
        }
    }

    fn edge_commands(&self, id: TransportId) -> Option<mpsc::Sender<ClientCommand>> {
        self.edges.lock().0.get(&id).map(|edge| edge.commands.clone())
    }

    /// Makes a mirror of another machine's producer on one of the workers, and mirrors of that on all others.
    async fn open_mirror(
        &self,
        piped: &PipedProducer,
        nudge: &Arc<Notify>,
    ) -> Result<(Feed, Vec<Pipe>), ConnectPipeError> {
        let home = self.next_home();
        let key = ProducerKey { router: home.default_router(), producer: self.new_producer_id() };
        let parameters = piped.received_parameters();
        let layers = LayerSet::all(parameters.encodings.len() as u8);
        let snapshot = StreamState { version: 1, paused: false, closed: false, sending: LayerSet::EMPTY };
        let wishes = Arc::new(Wishes::new(Arc::clone(nudge)));
        let (tell, opened) = oneshot::channel();
        let abandoned = home.port.clone();
        let open = Open {
            key,
            // Its name is its own: nobody else feeds a mirror of it.
            outlet: None,
            parameters: parameters.clone(),
            snapshot,
            upstream: Arc::<Wishes>::clone(&wishes),
            created: Confirm::new(move |result| {
                // Nobody waits for it any more: there is nobody to end it either.
                if tell.send(result).is_err() {
                    release(&abandoned, key);
                }
            }),
        };
        let (told, _life) = Living::new();
        let message = Inbound::Open(Box::new(open));
        let incoming = Incoming { from: home.index(), message, life: Some(told) };
        home.port.inbound.send(incoming).await.map_err(|_| ConnectPipeError::Stopping)?;
        let made = answered(opened, &home.port.inbound).await.ok_or(ConnectPipeError::Stopping)?;
        made.map_err(|_| ConnectPipeError::Offer("has a producer that the router does not take"))?;
        let feed = Feed::new(key, home.port.clone(), wishes, layers, snapshot, Arc::clone(&self.catalog));
        let stages = Arc::new(StageHistograms::new());
        let recorded = Arc::clone(&stages);
        let recording = home.port.call(move |hub, _, _| hub.record_stages(key, recorded)).await;
        recording.map_err(|_| ConnectPipeError::Stopping)?;
        let pipes = self.pipe_to_others(home, key, &stages).await;
        self.catalog.add(key.producer, parameters, None);
        Ok((feed, pipes))
    }
}

/// Makes sources that are all different: two streams of one would be protected with the same keystream.
struct Sources<'a> {
    random: &'a mut StdRng,
    taken: Vec<Ssrc>,
}

impl Sources<'_> {
    fn next(&mut self) -> Ssrc {
        loop {
            let ssrc = Ssrc(self.random.next_u32());
            if !self.taken.contains(&ssrc) {
                self.taken.push(ssrc);
                return ssrc;
            }
        }
    }

    fn pipe(&mut self, id: ProducerId, parameters: &ProducerParameters, payload_type: u8) -> PipedProducer {
        let is_video = parameters.codec != MediaCodec::Opus;
        let number = |value| PayloadType::new(value).expect("two for each producer are within 96 to 127");
        let encodings = parameters
            .encodings
            .iter()
            .map(|_| PipedEncoding { ssrc: self.next(), rtx_ssrc: is_video.then(|| self.next()) });
        PipedProducer {
            id,
            codec: parameters.codec,
            payload_type: number(payload_type),
            rtx_payload_type: is_video.then(|| number(payload_type + 1)),
            encodings: encodings.collect(),
            temporal_layers: parameters.temporal_layers,
            absolute_capture_time: ABSOLUTE_CAPTURE_TIME,
        }
    }
}

fn key(random: &mut StdRng) -> [u8; 28] {
    let mut key = [0; 28];
    random.fill_bytes(&mut key);
    key
}

/// What befalls pipes goes where what befalls sessions goes.
impl TransportServer {
    pub(crate) fn event_sender(&self) -> mpsc::UnboundedSender<SessionEvent> {
        self.events.clone()
    }
}
