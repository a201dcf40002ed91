use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{LayerSet, MediaCodec, Ssrc};
use lenscast_router::receive::{ExtensionReader, PublisherClock, ReceivedBurst, Receiver, RtpPacket};
use lenscast_router::rtcp::{self, Compound, Packet};
use lenscast_router::{
    EncodingParameters, PayloadType, ProducerId, ProducerParameters, ReceivedExtensions, StreamState,
};
use rtc_crypto::RTCCryptoProvider;

use super::checks::Checks;
use super::control::{Control, Repetition, States, Wanted, WantedProducer};
use super::origin::rid_of;
use super::{ConnectPipeError, MAX_PIPED_PRODUCERS, PipeOffer, PipedProducer, REPAIRED_RID_EXTENSION, RID_EXTENSION};
use crate::srtp::{self, SrtpReceiver, SrtpSender};
use crate::{PipeKeys, ProtectionProfile};

/// The edge's end of a pipe, without its socket: looks for the origin, receives its producers' packets, asks for what is
/// missing, and says what is wanted.
///
/// It outlives its connections: [`PipeEdge::reconnect`] gives it another, to the same producers, whose packets then
/// continue those of before.
///
/// Call order: whatever came in goes to a `handle_*` method, after each batch [`PipeEdge::take_bursts`]; then
/// [`PipeEdge::poll_transmit`] and [`PipeEdge::poll_event`] until `None`; then sleep until [`PipeEdge::poll_timeout`] and
/// call [`PipeEdge::handle_timeout`].
///
/// **Invariants.** Nothing that is not authentic under the offer's keys changes anything but counters. Of an origin's
/// states the newest counts, in whatever order they come.
pub(crate) struct PipeEdge {
    local_ufrag: String,
    /// Where its RTCP comes from.
    ssrc: Ssrc,
    crypto: Arc<dyn RTCCryptoProvider>,
    epoch: u64,
    checks: Checks,
    /// Those of `sender` and `receiver`.
    keys: PipeKeys,
    sender: SrtpSender,
    receiver: SrtpReceiver,
    clock: PublisherClock,
    producers: Vec<EdgeProducer>,
    wanted_version: u64,
    wanted_seen: u64,
    /// There is something to tell that has not been sent once.
    changed: bool,
    repetition: Repetition,
    last_heard: Instant,
    lost: bool,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<EdgeEvent>,
    dropped: u64,
}

struct EdgeProducer {
    piped: PipedProducer,
    extensions: ExtensionReader,
    receiver: Receiver,
    state: Option<StreamState>,
    wanted: LayerSet,
}

/// What the edge's surroundings are to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeEvent {
    /// The origin has answered.
    Connected,
    /// Nothing has come from it for [`SILENCE`].
    Lost,
    /// What the producer at this place in the offer is doing.
    State(usize, StreamState),
}

/// An origin that has gone is to be missed soon, and one that is busy not.
const SILENCE: Duration = Duration::from_secs(5);

impl PipeEdge {
    pub(crate) fn new(
        offer: &PipeOffer,
        local_ufrag: String,
        ssrc: Ssrc,
        crypto: Arc<dyn RTCCryptoProvider>,
        now: Instant,
    ) -> Result<Self, ConnectPipeError> {
        check(offer)?;
        let producers = offer.producers.iter().map(|piped| EdgeProducer::new(piped, ssrc, now));
        let (sender, receiver) = keys(&offer.keys);
        Ok(Self {
            epoch: offer.epoch,
            checks: Checks::new(
                offer.credentials.clone(),
                local_ufrag.clone(),
                offer.candidates.clone(),
                Arc::clone(&crypto),
                now,
            ),
            local_ufrag,
            ssrc,
            crypto,
            keys: offer.keys.clone(),
            sender,
            receiver,
            clock: PublisherClock::new(),
            producers: producers.collect::<Result<_, _>>()?,
            wanted_version: 1,
            wanted_seen: 0,
            changed: false,
            repetition: Repetition::idle(),
            last_heard: now,
            lost: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            dropped: 0,
        })
    }

    /// Goes on with another connection, under other keys: counters begin anew, and two packets of one count are never
    /// protected with the same keystream.
    pub(crate) fn reconnect(&mut self, now: Instant, offer: &PipeOffer) -> Result<(), ConnectPipeError> {
        check(offer)?;
        let same = |(known, offered): (&EdgeProducer, &PipedProducer)| known.piped.is_like(offered);
        if offer.producers.len() != self.producers.len() || !self.producers.iter().zip(&offer.producers).all(same) {
            return Err(ConnectPipeError::Changed);
        }
        if offer.keys.edge == self.keys.edge || offer.keys.origin == self.keys.origin {
            return Err(ConnectPipeError::Offer("has keys that were used before"));
        }
        for (producer, offered) in self.producers.iter_mut().zip(&offer.producers) {
            producer.piped = offered.clone();
            // Versions of another epoch mean nothing.
            producer.state = None;
        }
        (self.sender, self.receiver) = keys(&offer.keys);
        self.keys = offer.keys.clone();
        self.epoch = offer.epoch;
        self.checks = Checks::new(
            offer.credentials.clone(),
            self.local_ufrag.clone(),
            offer.candidates.clone(),
            Arc::clone(&self.crypto),
            now,
        );
        self.clock = PublisherClock::new();
        (self.wanted_seen, self.last_heard, self.lost) = (0, now, false);
        self.repetition.stop();
        Ok(())
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let taken = match datagram {
            [0..=3, ..] => self.handle_stun(now, from, datagram),
            [128..=191, 192..=223, ..] => self.handle_rtcp(now, datagram),
            [128..=191, ..] => self.handle_rtp(now, datagram),
            _ => None,
        };
        match taken {
            Some(()) => self.last_heard = now,
            None => self.dropped += 1,
        }
    }

    /// What has come in since the last call, by the producers' places in the offer.
    pub(crate) fn take_bursts(&mut self) -> impl Iterator<Item = (usize, ReceivedBurst)> {
        let producers = self.producers.iter_mut().enumerate();
        producers.flat_map(|(place, producer)| producer.receiver.take_bursts().map(move |burst| (place, burst)))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if !self.lost && now.saturating_duration_since(self.last_heard) >= SILENCE {
            self.lost = true;
            self.checks.stop();
            self.events.push_back(EdgeEvent::Lost);
        }
        while let Some(check) = self.checks.poll(now) {
            self.transmits.push_back(check);
        }
        let mut compound = Compound::new();
        for producer in &mut self.producers {
            producer.receiver.handle_timeout(now);
            producer.receiver.write_feedback(now, &mut compound);
        }
        self.write_control(now, &mut compound);
        self.send_rtcp(&compound);
    }

    /// Exactly these layers of a producer are of use from now on.
    pub(crate) fn set_wanted(&mut self, now: Instant, place: usize, layers: LayerSet) {
        let producer = &mut self.producers[place];
        if producer.wanted != layers {
            producer.wanted = layers;
            self.wanted_version += 1;
            self.tell(now);
        }
    }

    /// Somebody cannot go on without a key frame.
    pub(crate) fn request_key_frame(&mut self, now: Instant, place: usize, layer: u8) {
        self.producers[place].receiver.request_key_frame(now, layer);
        self.handle_timeout(now);
    }

    /// Datagrams since the last call that were nothing of the origin's.
    pub(crate) const fn take_dropped(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<EdgeEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let receivers = self.producers.iter().map(|producer| producer.receiver.poll_timeout());
        let silence = (!self.lost).then(|| self.last_heard + SILENCE);
        let own = [self.checks.due(), self.repetition.due(), silence];
        receivers.chain(own.into_iter().flatten()).min().unwrap_or(self.last_heard + SILENCE)
    }

    fn handle_stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<()> {
        let before = self.checks.selected();
        let round_trip = self.checks.handle_response(now, from, datagram)?;
        for producer in &mut self.producers {
            producer.receiver.set_round_trip(round_trip);
        }
        if before.is_none() {
            self.events.push_back(EdgeEvent::Connected);
            self.tell(now);
        }
        Some(())
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) -> Option<()> {
        let packet = self.receiver.open_rtp(datagram).ok()?;
        let packet = RtpPacket::read(packet).ok()?;
        let producer = self.producers.iter_mut().find(|producer| producer.is_of(packet.payload_type))?;
        let values = producer.extensions.read(packet.extensions);
        // What the receiver refuses it counts itself, and it shows all the same that the origin is there.
        let _ = producer.receiver.handle_rtp(now, &packet, &values, &self.clock);
        Some(())
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8]) -> Option<()> {
        let compound = self.receiver.open_rtcp(datagram).ok()?.to_vec();
        for packet in rtcp::read(&compound) {
            if let Packet::Application(application) = packet.ok()?
                && let Some(Control::States(states)) = Control::read(&application)
            {
                self.handle_states(now, &states);
            }
        }
        Some(())
    }

    fn handle_states(&mut self, now: Instant, states: &States) {
        if states.epoch != self.epoch {
            return;
        }
        for &(id, state) in &states.producers {
            let found = self.producers.iter_mut().enumerate().find(|(_, producer)| producer.piped.id == id);
            if let Some((place, producer)) = found
                && producer.state.is_none_or(|known| state.version > known.version)
            {
                producer.state = Some(state);
                self.events.push_back(EdgeEvent::State(place, state));
            }
        }
        self.wanted_seen = self.wanted_seen.max(states.wanted_seen);
        if self.wanted_seen >= self.wanted_version {
            self.repetition.stop();
        }
        if states.acknowledge {
            self.tell(now);
        }
    }

    /// Tells the origin at once how things stand.
    fn tell(&mut self, now: Instant) {
        self.changed = true;
        let mut compound = Compound::new();
        self.write_control(now, &mut compound);
        self.send_rtcp(&compound);
    }

    fn write_control(&mut self, now: Instant, compound: &mut Compound) {
        if self.checks.selected().is_none() {
            return;
        }
        if std::mem::take(&mut self.changed) {
            self.repetition.start(now);
        }
        if self.repetition.due().is_none_or(|due| due > now) {
            return;
        }
        let producers = self.producers.iter().map(|producer| WantedProducer {
            producer: producer.piped.id,
            state_seen: producer.state.map_or(0, |state| state.version.saturating_add(1)),
            layers: producer.wanted,
        });
        let acknowledge = self.wanted_seen < self.wanted_version;
        let wanted =
            Wanted { epoch: self.epoch, acknowledge, version: self.wanted_version, producers: producers.collect() };
        Control::Wanted(wanted).write(self.ssrc, compound);
        self.repetition.sent(now);
        if !acknowledge {
            self.repetition.stop();
        }
    }

    fn send_rtcp(&mut self, compound: &Compound) {
        if let Some(to) = self.checks.selected().filter(|_| !compound.as_bytes().is_empty()) {
            let mut packet = compound.as_bytes().to_vec();
            self.sender.seal_rtcp(&mut packet);
            self.transmits.push_back((to, packet));
        }
    }
}

impl EdgeProducer {
    fn new(piped: &PipedProducer, local: Ssrc, now: Instant) -> Result<Self, ConnectPipeError> {
        let parameters = piped.received_parameters();
        let receiver = Receiver::new(&parameters, local, now);
        Ok(Self {
            piped: piped.clone(),
            extensions: ExtensionReader::new(&parameters.extensions),
            receiver: receiver.map_err(|_| ConnectPipeError::Offer("has producers that contradict themselves"))?,
            state: None,
            wanted: LayerSet::EMPTY,
        })
    }

    fn is_of(&self, payload_type: PayloadType) -> bool {
        self.piped.payload_type == payload_type || self.piped.rtx_payload_type == Some(payload_type)
    }
}

impl PipedProducer {
    /// How the edge is to read its packets.
    pub(super) fn received_parameters(&self) -> ProducerParameters {
        // By their names and not by their sources: those change when the origin is restarted.
        let encodings = (0..self.encodings.len() as u8)
            .map(|layer| EncodingParameters { rid: rid_of(self, layer), ..EncodingParameters::default() });
        ProducerParameters {
            codec: self.codec,
            clock_rate: self.codec.clock_rate(),
            encodings: encodings.collect(),
            temporal_layers: self.temporal_layers,
            payload_type: Some(self.payload_type),
            rtx_payload_type: self.rtx_payload_type,
            mid: None,
            // The checks measure the round trip.
            returns_reference_times: false,
            extensions: ReceivedExtensions {
                rid: Some(RID_EXTENSION),
                repaired_rid: Some(REPAIRED_RID_EXTENSION),
                absolute_capture_time: Some(self.absolute_capture_time),
                ..ReceivedExtensions::default()
            },
        }
    }

    /// True if the packets of one can follow those of the other.
    fn is_like(&self, other: &Self) -> bool {
        (self.codec, self.payload_type, self.rtx_payload_type, self.encodings.len())
            == (other.codec, other.payload_type, other.rtx_payload_type, other.encodings.len())
            && self.absolute_capture_time == other.absolute_capture_time
    }
}

fn keys(keys: &PipeKeys) -> (SrtpSender, SrtpReceiver) {
    let made = srtp::master_keys(ProtectionProfile::AeadAes128Gcm, &keys.edge, &keys.origin);
    made.expect("a pipe's keys are as long as its profile needs")
}

/// What an offer must be, whoever wrote it.
fn check(offer: &PipeOffer) -> Result<(), ConnectPipeError> {
    if offer.candidates.is_empty() {
        return Err(ConnectPipeError::Offer("has no candidate"));
    }
    if !(1..=MAX_PIPED_PRODUCERS).contains(&offer.producers.len()) {
        return Err(ConnectPipeError::Offer("has no producers or too many"));
    }
    let mut payload_types = Vec::new();
    let mut ids: Vec<ProducerId> = Vec::new();
    for producer in &offer.producers {
        payload_types.extend([Some(producer.payload_type), producer.rtx_payload_type].into_iter().flatten());
        ids.push(producer.id);
        let layers = producer.encodings.len();
        let most = if producer.codec == MediaCodec::Opus { 1 } else { ProducerParameters::MAX_ENCODINGS };
        if !(1..=most).contains(&layers) {
            return Err(ConnectPipeError::Offer("has a producer with no layers or too many"));
        }
    }
    let doubled = (1..payload_types.len()).any(|at| payload_types[..at].contains(&payload_types[at]));
    if doubled || (1..ids.len()).any(|at| ids[..at].contains(&ids[at])) {
        return Err(ConnectPipeError::Offer("has two producers of one name or payload type"));
    }
    Ok(())
}
