use std::sync::Arc;
use std::time::Instant;

use lenscast_media::{Burst, LayerSet, MediaCodec, Ssrc, WallClock};
use lenscast_router::rtcp::{self, Compound, Packet};
use lenscast_router::{Inbound, OutletId, OutletLink, ProducerId, Rid, StreamState, Upstream};

use super::control::{Control, Repetition, States, Wanted};
use super::layer_sender::{LayerParameters, LayerSender, PipeExtensions, WritePacket};
use super::{PipedProducer, REPAIRED_RID_EXTENSION, RID_EXTENSION, layer_rid};

/// The origin's end of a pipe: a mirror of each producer, as the router sees it, that lies on another machine. What the
/// router tells its mirrors goes out as RTP and control messages; what the edge wants comes back.
///
/// The mirror's state is told whole and again until it has arrived, and packets of a layer are sent only while the edge
/// wants it, from a key frame on.
///
/// What it does not do: protect packets, and send orientation, audio level and playout delay on.
pub(crate) struct PipeOrigin {
    wall: WallClock,
    epoch: u64,
    /// Where its RTCP comes from.
    ssrc: Ssrc,
    producers: Vec<OriginProducer>,
    wanted_seen: u64,
    /// There is something to tell that has not been sent once.
    changed: bool,
    /// Outlets whose links ask for what the router has not looked at.
    nudged: Vec<OutletId>,
    repetition: Repetition,
}

/// What a pipe begins with.
pub(crate) struct PipeSetup {
    pub(crate) wall: WallClock,
    pub(crate) epoch: u64,
    pub(crate) ssrc: Ssrc,
    pub(crate) producers: Vec<(PipedProducer, OutletId)>,
    /// Random; of each source.
    pub(crate) first_sequence: u16,
}

struct OriginProducer {
    id: ProducerId,
    codec: MediaCodec,
    link: Arc<OutletLink>,
    /// `None` before the router has attached it.
    state: Option<StreamState>,
    /// What the edge has seen: a version and one.
    seen: u64,
    layers: Vec<LayerSender>,
}

/// Packets asked for again that are looked up for one datagram.
const MAX_LOOKED_UP: usize = 512;

impl PipeOrigin {
    pub(crate) fn new(setup: PipeSetup, now: Instant) -> Self {
        let PipeSetup { wall, epoch, ssrc, producers, first_sequence } = setup;
        // Whoever changes what a link says has the router look at it, also by `take_nudged`.
        let link = |outlet| Arc::new(OutletLink::new(outlet, |_| {}));
        let producers = producers.iter().map(|(piped, outlet)| {
            let layers = (0..).zip(&piped.encodings).map(|(layer, encoding)| {
                let parameters = LayerParameters {
                    ssrc: encoding.ssrc,
                    payload_type: piped.payload_type,
                    rtx: encoding.rtx_ssrc.zip(piped.rtx_payload_type),
                    rid: rid_of(piped, layer),
                    extensions: PipeExtensions {
                        absolute_capture_time: piped.absolute_capture_time,
                        rid: RID_EXTENSION,
                        repaired_rid: REPAIRED_RID_EXTENSION,
                    },
                };
                LayerSender::new(parameters, first_sequence, now)
            });
            OriginProducer {
                id: piped.id,
                codec: piped.codec,
                link: link(*outlet),
                state: None,
                seen: 0,
                layers: layers.collect(),
            }
        });
        let producers = producers.collect();
        Self {
            wall,
            epoch,
            ssrc,
            producers,
            wanted_seen: 0,
            changed: false,
            nudged: Vec::new(),
            repetition: Repetition::idle(),
        }
    }

    /// What the router sends to a mirror. False if it cannot be taken.
    pub(crate) fn handle_inbound(&mut self, outlet: OutletId, message: Inbound, send: WritePacket<'_>) -> bool {
        let Some(producer) = self.producers.iter_mut().find(|producer| producer.link.outlet() == outlet) else {
            return false;
        };
        match message {
            Inbound::Open(open) => {
                producer.state = Some(open.snapshot);
                self.changed = true;
                open.created.tell(Ok(()));
            }
            Inbound::State { state, .. } => {
                let newer = producer.state.is_none_or(|known| state.version > known.version);
                if newer {
                    producer.state = Some(state);
                    self.changed = true;
                }
            }
            Inbound::Burst { layer, broken, burst, .. } => {
                producer.forward(layer, broken, &burst, &self.wall, send);
                if producer.needs_key_frame(layer, &burst) {
                    producer.link.request_key_frame(layer);
                    self.nudged.push(outlet);
                }
            }
            Inbound::Sending { .. } => return false,
        }
        true
    }

    /// What the edge says, decrypted. Returns the outlets whose wishes have changed: the router is to look at them.
    ///
    /// # Errors
    ///
    /// If it is malformed; what came before the fault has taken effect.
    pub(crate) fn handle_rtcp(
        &mut self,
        now: Instant,
        compound: &[u8],
        send: WritePacket<'_>,
    ) -> Result<Vec<OutletId>, rtcp::ReadRtcpError> {
        let mut nudged = Vec::new();
        let mut room = MAX_LOOKED_UP;
        for packet in rtcp::read(compound) {
            match packet? {
                Packet::Application(application) => {
                    if let Some(Control::Wanted(wanted)) = Control::read(&application) {
                        self.handle_wanted(&wanted, &mut nudged);
                    }
                }
                Packet::Nack { media, lost } => {
                    if let Some((_, _, layer)) = self.layer_of(media) {
                        for sequence in lost.sequences().take(room) {
                            room -= 1;
                            layer.resend(now, sequence, send);
                        }
                    }
                }
                Packet::Pli { media } => {
                    if let Some((link, number, _)) = self.layer_of(media) {
                        link.request_key_frame(number);
                        nudged.push(link.outlet());
                    }
                }
                _ => {}
            }
        }
        Ok(nudged)
    }

    /// Writes what there is to tell. Nothing is written before it is due.
    pub(crate) fn write_control(&mut self, now: Instant, compound: &mut Compound) {
        if std::mem::take(&mut self.changed) {
            self.repetition.start(now);
        }
        if self.repetition.due().is_none_or(|due| due > now) {
            return;
        }
        let known = self.producers.iter().filter_map(|producer| Some((producer.id, producer.state?)));
        let states = States {
            epoch: self.epoch,
            acknowledge: !self.all_seen(),
            wanted_seen: self.wanted_seen,
            producers: known.collect(),
        };
        Control::States(states).write(self.ssrc, compound);
        self.repetition.sent(now);
        if self.all_seen() {
            self.repetition.stop();
        }
    }

    /// When [`PipeOrigin::write_control`] is to be called next.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.repetition.due()
    }

    /// True if there is something to tell that has not been sent once.
    pub(crate) const fn has_changed(&self) -> bool {
        self.changed
    }

    /// True once all its producers have ended and the edge knows it.
    pub(crate) fn is_over(&self) -> bool {
        let over = |producer: &OriginProducer| producer.state.is_some_and(|state| state.closed) && producer.is_seen();
        self.producers.iter().all(over)
    }

    /// The outlets that the router is to look at, each once: what it sent last has left a layer without a beginning.
    pub(crate) fn take_nudged(&mut self) -> Vec<OutletId> {
        std::mem::take(&mut self.nudged)
    }

    /// As if the edge had said it, of every producer.
    #[cfg(test)]
    pub(crate) fn set_wanted_for_test(&mut self, layers: LayerSet) {
        self.producers.iter_mut().for_each(|producer| producer.set_wanted(layers));
    }

    pub(crate) fn outlets(&self) -> impl Iterator<Item = OutletId> {
        self.producers.iter().map(|producer| producer.link.outlet())
    }

    /// The producers with the ways to their mirrors.
    pub(crate) fn links(&self) -> impl Iterator<Item = (ProducerId, Arc<OutletLink>)> {
        self.producers.iter().map(|producer| (producer.id, Arc::clone(&producer.link)))
    }

    fn handle_wanted(&mut self, wanted: &Wanted, nudged: &mut Vec<OutletId>) {
        // Of a connection to somebody who was here before.
        if wanted.epoch != self.epoch {
            return;
        }
        // An acknowledgement is as good late as in time: versions only grow.
        for said in &wanted.producers {
            if let Some(producer) = self.producers.iter_mut().find(|producer| producer.id == said.producer) {
                producer.seen = producer.seen.max(said.state_seen);
            }
        }
        if self.all_seen() {
            self.repetition.stop();
        }
        if wanted.version > self.wanted_seen {
            self.wanted_seen = wanted.version;
            for said in &wanted.producers {
                if let Some(producer) = self.producers.iter_mut().find(|producer| producer.id == said.producer) {
                    producer.set_wanted(said.layers);
                    nudged.push(producer.link.outlet());
                }
            }
        }
        // Also of what is not new: the last answer may have been lost.
        self.changed |= wanted.acknowledge;
    }

    fn all_seen(&self) -> bool {
        self.producers.iter().all(OriginProducer::is_seen)
    }

    fn layer_of(&mut self, ssrc: Ssrc) -> Option<(&OutletLink, u8, &mut LayerSender)> {
        self.producers.iter_mut().find_map(|producer| {
            let position = producer.layers.iter().position(|layer| layer.ssrc() == ssrc)?;
            Some((&*producer.link, position as u8, &mut producer.layers[position]))
        })
    }
}

impl OriginProducer {
    fn is_seen(&self) -> bool {
        self.state.is_none_or(|state| self.seen > state.version)
    }

    fn set_wanted(&mut self, layers: LayerSet) {
        let layers = layers.intersection(LayerSet::all(self.layers.len() as u8));
        for (number, layer) in (0..).zip(&mut self.layers) {
            layer.set_wanted(layers.contains(number));
        }
        self.link.set_wanted(layers);
        for (number, layer) in (0..).zip(&self.layers) {
            if layer.awaits_key_frame() && self.codec != MediaCodec::Opus {
                self.link.request_key_frame(number);
            }
        }
    }

    fn forward(&mut self, layer: u8, broken: bool, burst: &Arc<Burst>, wall: &WallClock, send: WritePacket<'_>) {
        let Some(sender) = self.layers.get_mut(usize::from(layer)) else { return };
        let meta = burst.meta();
        if broken {
            sender.handle_break();
        }
        let can_begin = self.codec == MediaCodec::Opus || meta.key_frame && meta.begins_frame;
        let captured = meta.extensions.absolute_capture_time.unwrap_or_else(|| wall.ntp_at(meta.times.captured));
        // When it left the encoder or came in: as good as now, which the router does not say here.
        sender.handle_burst(meta.times.encoded, burst, can_begin, captured, send);
    }

    /// True if the layer cannot go on after this burst. Asked for once a frame: whoever makes key frames throttles that.
    fn needs_key_frame(&self, layer: u8, burst: &Burst) -> bool {
        let waits = self.layers.get(usize::from(layer)).is_some_and(LayerSender::awaits_key_frame);
        waits && burst.meta().begins_frame && self.codec != MediaCodec::Opus
    }
}

/// A single layer needs no name.
pub(super) fn rid_of(piped: &PipedProducer, layer: u8) -> Option<Rid> {
    (piped.codec != MediaCodec::Opus).then(|| layer_rid(layer))
}
