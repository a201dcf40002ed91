use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Burst, LayerSet, NtpTime, RtpTime, Ssrc};
use thiserror::Error;

use super::nack_generator::DEFAULT_ROUND_TRIP;
use super::publisher_clock::SenderReportTimes;
use super::received_stream::{MediaPacket, ReceivedStream};
use super::{ExtensionValues, PublisherClock, ReceivedLayerStats, RefusedCounts, RtpPacket};
use crate::rtcp::Compound;
use crate::score::Score;
use crate::{EncodingParameters, MediaKind, PayloadType, ProduceError, ProducerParameters, Rid};

/// Receives one producer's RTP: all its layers, with what is sent back to keep them coming.
///
/// To be called in this order for every batch that came in: [`Receiver::handle_rtp`] for each packet, then
/// [`Receiver::take_bursts`]. Whenever [`Receiver::poll_timeout`] is due: [`Receiver::handle_timeout`] and
/// [`Receiver::write_feedback`], until it is no longer.
///
/// **Invariants.**
/// - Each packet is handed out exactly once, with an index that grows by one from packet to packet of the source. What is
///   missing leaves a gap in the indices until it comes.
/// - A burst's packets are consecutive, of one frame, and came in one batch. A late packet is a burst of its own, and so is
///   a packet of nothing but padding: its payload is empty, and it belongs to no frame.
/// - Memory is bounded whatever comes in: a fixed number of layers, and of each a fixed number of bursts and missing packets.
#[derive(Debug)]
pub struct Receiver {
    kind: MediaKind,
    payload_type: PayloadType,
    rtx_payload_type: Option<PayloadType>,
    local: Ssrc,
    encodings: Vec<Encoding>,
    ready: Vec<ReceivedBurst>,
    refused: RefusedCounts,
    round_trip: Duration,
    maximum: Option<Bitrate>,
    report_due: Instant,
    sending: LayerSet,
    sending_changed: bool,
    /// Indices asked for again, in the making.
    asked: Vec<u64>,
}

/// One layer.
#[derive(Debug)]
struct Encoding {
    layer: u8,
    rid: Option<Rid>,
    /// As given, or as learned from its first packet.
    ssrc: Option<Ssrc>,
    rtx_ssrc: Option<Ssrc>,
    /// The source before this one: its last packets may still be on their way.
    replaced: Option<Ssrc>,
    stream: ReceivedStream,
}

/// Packets of one layer that came in together.
#[derive(Debug, Clone)]
pub struct ReceivedBurst {
    /// The layer, 0 for the smallest.
    pub layer: u8,
    /// It does not continue what came before: the source began anew, with timestamps and picture identifiers of its own. Its
    /// indices go on without a gap.
    pub broken: bool,
    /// The packets.
    pub burst: Arc<Burst>,
}

/// Why a packet was not taken. Each is counted: [`RefusedCounts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// Of another payload type, or media and retransmissions confused.
    #[error("RTP packet of a payload type that is not the stream's")]
    PayloadType,
    /// Of an SSRC and a RID that are not the stream's.
    #[error("RTP packet of an unknown source")]
    UnknownSource,
    /// Of a source that another one has replaced.
    #[error("RTP packet of a source that has been replaced")]
    ReplacedSource,
    /// A retransmission of a layer of which nothing has come yet.
    #[error("RTP retransmission before any media")]
    RetransmissionBeforeMedia,
    /// A retransmission without an original sequence number.
    #[error("RTP retransmission without an original sequence number")]
    MalformedRetransmission,
    /// A retransmission that is nothing but padding, which congestion control sends.
    #[error("RTP retransmission of nothing but padding")]
    Padding,
    /// It had come before.
    #[error("RTP packet came twice")]
    Duplicate,
    /// Too far behind or ahead.
    #[error("RTP sequence number is far off")]
    FarOff,
    /// Its payload's descriptor is none of the codec.
    #[error("RTP payload is malformed")]
    MalformedPayload,
    /// More in one batch than are kept.
    #[error("more bursts in one batch than are kept")]
    NoRoom,
}

/// Bursts kept until [`Receiver::take_bursts`]: far more than a batch has.
const MAX_READY: usize = 1_024;
/// How often receiver reports are sent (mediasoup `RTC/RTCP/Packet.hpp`: `MaxVideoIntervalMs`, `MaxAudioIntervalMs`).
const VIDEO_REPORT_INTERVAL: Duration = Duration::from_secs(1);
const AUDIO_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Limits to what is believed of a round trip: shorter ones would ask for a packet again that is on its way in a batch.
const MIN_ROUND_TRIP: Duration = Duration::from_millis(10);
const MAX_ROUND_TRIP: Duration = Duration::from_secs(1);

impl Receiver {
    /// `local` is the SSRC that feedback comes from.
    ///
    /// # Errors
    ///
    /// If the parameters have no encoding or too many, or no payload type, or name a source or an encoding twice, or several
    /// encodings are not told from each other.
    pub fn new(parameters: &ProducerParameters, local: Ssrc, now: Instant) -> Result<Self, ProduceError> {
        let given = &parameters.encodings;
        if !(1..=ProducerParameters::MAX_ENCODINGS).contains(&given.len()) {
            return Err(ProduceError::Encodings(given.len()));
        }
        let payload_type = parameters.payload_type.ok_or(ProduceError::PayloadType)?;
        if parameters.rtx_payload_type == Some(payload_type) {
            return Err(ProduceError::PayloadType);
        }
        refuse_duplicates(given)?;
        let encodings = (0..).zip(given).map(|(layer, given)| Encoding {
            layer,
            rid: given.rid,
            ssrc: given.ssrc,
            rtx_ssrc: given.rtx_ssrc,
            replaced: None,
            stream: ReceivedStream::new(parameters.codec, parameters.clock_rate, now),
        });
        Ok(Self {
            kind: parameters.kind(),
            payload_type,
            rtx_payload_type: parameters.rtx_payload_type,
            local,
            encodings: encodings.collect(),
            ready: Vec::new(),
            refused: RefusedCounts::default(),
            round_trip: DEFAULT_ROUND_TRIP,
            maximum: None,
            report_due: now + report_interval(parameters.kind()),
            sending: LayerSet::EMPTY,
            sending_changed: false,
            asked: Vec::new(),
        })
    }

    /// True if `ssrc` is known to be one of its sources.
    #[must_use]
    pub fn has_source(&self, ssrc: Ssrc) -> bool {
        self.encodings.iter().any(|encoding| encoding.ssrc == Some(ssrc) || encoding.rtx_ssrc == Some(ssrc))
    }

    /// The layers of which packets came in the last 1.5 s, as of the last call.
    #[must_use]
    pub const fn sending(&self) -> LayerSet {
        self.sending
    }

    /// How well the best layer that comes gets through.
    #[must_use]
    pub fn score(&self) -> Score {
        self.encodings.iter().map(|encoding| encoding.stream.score()).max().unwrap_or(Score::NONE)
    }

    /// How well each layer gets through, the smallest first.
    pub fn layer_scores(&self) -> impl Iterator<Item = Score> {
        self.encodings.iter().map(|encoding| encoding.stream.score())
    }

    /// What is known of each layer, the smallest first.
    pub fn stats(&self) -> impl Iterator<Item = ReceivedLayerStats> {
        self.encodings.iter().map(|encoding| encoding.stream.stats(encoding.layer, encoding.ssrc))
    }

    /// Packets not taken, by reason.
    #[must_use]
    pub const fn refused(&self) -> &RefusedCounts {
        &self.refused
    }

    /// A packet came in. `clock` is the one that the sender reports of its transport are told to.
    ///
    /// # Errors
    ///
    /// If it was not taken; counted. It may have told something nevertheless.
    #[inline]
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        packet: &RtpPacket<'_>,
        extensions: &ExtensionValues<'_>,
        clock: &PublisherClock,
    ) -> Result<(), Refused> {
        let result = self.take_packet(now, packet, extensions, clock);
        if let Err(refused) = result {
            self.refused.count(refused);
        }
        result
    }

    /// What has been gathered since the last call. The batch is over: what comes later goes into other bursts.
    pub fn take_bursts(&mut self) -> impl Iterator<Item = ReceivedBurst> {
        for encoding in &mut self.encodings {
            if let Some((broken, burst)) = encoding.stream.take_open() {
                self.ready.push(ReceivedBurst { layer: encoding.layer, broken, burst });
            }
        }
        self.ready.drain(..)
    }

    /// A sender report of `ssrc` came in; those of other sources are passed over. The transport's [`PublisherClock`] is to be
    /// told first.
    pub fn handle_sender_report(&mut self, now: Instant, ssrc: Ssrc, ntp: NtpTime, rtp: RtpTime) {
        if let Some(encoding) = self.encodings.iter_mut().find(|encoding| encoding.ssrc == Some(ssrc)) {
            encoding.stream.handle_sender_report(SenderReportTimes { ntp, rtp, received: now });
        }
    }

    /// A goodbye of `ssrc` came in: the layer is no longer sent. It may come again.
    pub fn handle_goodbye(&mut self, now: Instant, ssrc: Ssrc) {
        if let Some(encoding) = self.encodings.iter_mut().find(|encoding| encoding.ssrc == Some(ssrc)) {
            encoding.stream.silence();
            self.update_sending(now);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.update_sending(now);
    }

    /// Somebody needs a key frame of `layer`. Many wishes become one request at a time.
    pub fn request_key_frame(&mut self, now: Instant, layer: u8) {
        if self.kind == MediaKind::Video
            && let Some(encoding) = self.encodings.get_mut(usize::from(layer))
        {
            encoding.stream.request_key_frame(now);
        }
    }

    /// The round trip to the publisher, as its transport has measured it: how long a retransmission is waited for.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip.clamp(MIN_ROUND_TRIP, MAX_ROUND_TRIP);
    }

    /// How much the publisher may send, all layers together; it is told with each report, by REMB.
    pub fn set_maximum(&mut self, maximum: Option<Bitrate>) {
        self.maximum = maximum;
    }

    /// The layers being sent, if they have changed since the last call.
    pub fn take_sending_change(&mut self) -> Option<LayerSet> {
        std::mem::take(&mut self.sending_changed).then_some(self.sending)
    }

    /// When [`Receiver::handle_timeout`] and [`Receiver::write_feedback`] are to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let requests = self.encodings.iter().filter(|encoding| encoding.is_known());
        let requests = requests.filter_map(|encoding| encoding.stream.poll_timeout());
        let sent = self.encodings.iter().filter(|encoding| self.sending.contains(encoding.layer));
        let silences = sent.filter_map(|encoding| encoding.stream.silent_from());
        requests.chain(silences).fold(self.report_due, Instant::min)
    }

    /// Appends what is due: a receiver report, NACK, PLI, REMB. It begins with a report if the compound is empty (RFC 3550
    /// §6.1), and stays below 1,200 bytes but for four layers that are badly broken at once.
    pub fn write_feedback(&mut self, now: Instant, compound: &mut Compound) {
        if now < self.poll_timeout() {
            return;
        }
        if now >= self.report_due {
            self.report_due = now + report_interval(self.kind);
            self.write_report(now, compound);
        }
        let due =
            |encoding: &Encoding| encoding.is_known() && encoding.stream.poll_timeout().is_some_and(|due| due <= now);
        if self.encodings.iter().any(due) && compound.is_empty() {
            compound.push_receiver_report(self.local);
        }
        for encoding in &mut self.encodings {
            if let Some(media) = encoding.ssrc {
                let (local, round_trip) = (self.local, self.round_trip);
                encoding.stream.write_requests(now, local, media, round_trip, &mut self.asked, compound);
            }
        }
    }

    fn write_report(&mut self, now: Instant, compound: &mut Compound) {
        let mut blocks = [None; ProducerParameters::MAX_ENCODINGS];
        let mut sources = [Ssrc(0); ProducerParameters::MAX_ENCODINGS];
        let mut count = 0;
        for encoding in &mut self.encodings {
            let Some(ssrc) = encoding.ssrc else { continue };
            if let Some(block) = encoding.stream.take_report(now, ssrc) {
                (blocks[count], sources[count]) = (Some(block), ssrc);
                count += 1;
            }
        }
        if count == 0 {
            return;
        }
        compound.push_report_blocks(self.local, blocks.iter().flatten());
        if let Some(maximum) = self.maximum {
            compound.push_maximum_bitrate(self.local, maximum, &sources[..count]);
        }
    }

    fn take_packet(
        &mut self,
        now: Instant,
        packet: &RtpPacket<'_>,
        extensions: &ExtensionValues<'_>,
        clock: &PublisherClock,
    ) -> Result<(), Refused> {
        if self.ready.len() >= MAX_READY {
            return Err(Refused::NoRoom);
        }
        let retransmission = self.rtx_payload_type == Some(packet.payload_type);
        if !retransmission && packet.payload_type != self.payload_type {
            return Err(Refused::PayloadType);
        }
        let at = if retransmission {
            self.encoding_of_retransmission(packet.ssrc, extensions)?
        } else {
            self.encoding_of_media(now, packet.ssrc, extensions)?
        };
        let Encoding { layer, stream, .. } = &mut self.encodings[at];
        let mut media = MediaPacket {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload: packet.payload,
            retransmission,
        };
        if retransmission {
            if packet.payload.is_empty() {
                return Err(Refused::Padding);
            }
            // RFC 4588 §4: the original sequence number stands before the original payload.
            let (original, payload) = packet.payload.split_first_chunk().ok_or(Refused::MalformedRetransmission)?;
            if payload.is_empty() {
                return Err(Refused::Padding);
            }
            (media.sequence, media.payload) = (u16::from_be_bytes(*original), payload);
        }
        let layer = *layer;
        let ready = &mut self.ready;
        stream.handle_packet(now, &media, extensions, clock, |broken, burst| {
            ready.push(ReceivedBurst { layer, broken, burst });
        })?;
        if !self.sending.contains(layer) && !media.payload.is_empty() {
            self.sending = self.sending.with(layer);
            self.sending_changed = true;
        }
        Ok(())
    }

    /// By SSRC, then by RID, then the only encoding that has neither.
    #[inline]
    fn encoding_of_media(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        extensions: &ExtensionValues<'_>,
    ) -> Result<usize, Refused> {
        if let Some(at) = self.encodings.iter().position(|encoding| encoding.ssrc == Some(ssrc)) {
            return Ok(at);
        }
        if self.encodings.iter().any(|encoding| encoding.rtx_ssrc == Some(ssrc)) {
            return Err(Refused::PayloadType);
        }
        if self.encodings.iter().any(|encoding| encoding.replaced == Some(ssrc)) {
            return Err(Refused::ReplacedSource);
        }
        let at = self.encoding_named(extensions.rid, |encoding| encoding.ssrc).ok_or(Refused::UnknownSource)?;
        let encoding = &mut self.encodings[at];
        if let Some(before) = encoding.ssrc.replace(ssrc) {
            // The publisher has started anew; its retransmissions come from another source too.
            encoding.replaced = Some(before);
            encoding.rtx_ssrc = None;
            if let Some((broken, burst)) = encoding.stream.restart(now) {
                self.ready.push(ReceivedBurst { layer: encoding.layer, broken, burst });
            }
        }
        Ok(at)
    }

    /// By SSRC, then by the repaired RID, then the only encoding that has neither.
    fn encoding_of_retransmission(&mut self, ssrc: Ssrc, extensions: &ExtensionValues<'_>) -> Result<usize, Refused> {
        let known = self.encodings.iter().position(|encoding| encoding.rtx_ssrc == Some(ssrc));
        let at = match known {
            Some(at) => at,
            None if self.encodings.iter().any(|encoding| encoding.ssrc == Some(ssrc)) => {
                return Err(Refused::PayloadType);
            }
            None => self
                .encoding_named(extensions.repaired_rid.or(extensions.rid), |encoding| encoding.rtx_ssrc)
                .ok_or(Refused::UnknownSource)?,
        };
        let encoding = &mut self.encodings[at];
        if !encoding.stream.has_started() {
            return Err(Refused::RetransmissionBeforeMedia);
        }
        encoding.rtx_ssrc = Some(ssrc);
        Ok(at)
    }

    fn encoding_named(&self, rid: Option<&[u8]>, source: impl Fn(&Encoding) -> Option<Ssrc>) -> Option<usize> {
        match (rid.and_then(Rid::from_bytes), &self.encodings[..]) {
            (Some(rid), encodings) if encodings.iter().any(|encoding| encoding.rid.is_some()) => {
                encodings.iter().position(|encoding| encoding.rid == Some(rid))
            }
            (_, [only]) if only.rid.is_none() && source(only).is_none() => Some(0),
            _ => None,
        }
    }

    fn update_sending(&mut self, now: Instant) {
        let before = self.sending;
        for encoding in &mut self.encodings {
            let comes = encoding.stream.silent_from().is_some_and(|from| now < from);
            if !comes && before.contains(encoding.layer) {
                encoding.stream.silence();
                self.sending = self.sending.without(encoding.layer);
                self.sending_changed = true;
            }
        }
    }
}

impl Encoding {
    /// True if its requests can be sent.
    fn is_known(&self) -> bool {
        self.ssrc.is_some() && self.stream.has_started()
    }
}

impl RefusedCounts {
    fn count(&mut self, refused: Refused) {
        *match refused {
            Refused::PayloadType => &mut self.payload_type,
            Refused::UnknownSource => &mut self.unknown_source,
            Refused::ReplacedSource => &mut self.replaced_source,
            Refused::RetransmissionBeforeMedia => &mut self.retransmission_before_media,
            Refused::MalformedRetransmission => &mut self.malformed_retransmission,
            Refused::Padding => &mut self.padding,
            Refused::Duplicate => &mut self.duplicate,
            Refused::FarOff => &mut self.far_off,
            Refused::MalformedPayload => &mut self.malformed_payload,
            Refused::NoRoom => &mut self.no_room,
        } += 1;
    }
}

const fn report_interval(kind: MediaKind) -> Duration {
    match kind {
        MediaKind::Video => VIDEO_REPORT_INTERVAL,
        MediaKind::Audio => AUDIO_REPORT_INTERVAL,
    }
}

/// Of several encodings, each needs a name or a source of its own.
fn refuse_duplicates(encodings: &[EncodingParameters]) -> Result<(), ProduceError> {
    let mut sources: Vec<Ssrc> = Vec::new();
    for (at, encoding) in encodings.iter().enumerate() {
        for source in [encoding.ssrc, encoding.rtx_ssrc].into_iter().flatten() {
            if sources.contains(&source) {
                return Err(ProduceError::DuplicateSsrc(source));
            }
            sources.push(source);
        }
        if let Some(rid) = encoding.rid
            && encodings[..at].iter().any(|other| other.rid == Some(rid))
        {
            return Err(ProduceError::DuplicateRid(rid));
        }
        if encodings.len() > 1 && encoding.rid.is_none() && encoding.ssrc.is_none() {
            return Err(ProduceError::UnnamedEncoding(at));
        }
    }
    Ok(())
}
