use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, NtpTime, Ssrc};
use lenscast_router::{ExtensionId, PacketLayout, PayloadType, Rid, Stamps};

/// One spatial layer on its way to an edge: numbers its packets, and keeps them to be sent again.
///
/// What the source lacks is missing here too, as a gap in the sequence: it may come late. What the pipe itself was not
/// given is none: the layer then waits for a key frame, which is numbered on from the last packet sent.
#[derive(Debug)]
pub(crate) struct LayerSender {
    parameters: LayerParameters,
    state: State,
    /// SRTP index of the next packet: sequence number and rollover counter.
    next_index: u64,
    next_rtx_index: u64,
    history: VecDeque<Sent>,
    packets: usize,
    resendable: ResendBudget,
}

/// How the layer's packets are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerParameters {
    pub(crate) ssrc: Ssrc,
    pub(crate) payload_type: PayloadType,
    /// Source and payload type of retransmissions.
    pub(crate) rtx: Option<(Ssrc, PayloadType)>,
    pub(crate) rid: Option<Rid>,
    pub(crate) extensions: PipeExtensions,
}

/// The header extensions of a pipe's packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PipeExtensions {
    pub(crate) absolute_capture_time: ExtensionId,
    pub(crate) rid: ExtensionId,
    pub(crate) repaired_rid: ExtensionId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unwanted,
    AwaitingKeyFrame,
    /// The source's packet `i` has the index `i + offset`, wrapping; none before `since`.
    Forwarding {
        offset: u64,
        since: u64,
    },
}

#[derive(Debug)]
struct Sent {
    burst: Arc<Burst>,
    first_index: u64,
    at: Instant,
}

/// What mediasoup keeps of a video stream (`RtpRetransmissionBuffer`, 2,500 packets or 2 s).
const MAX_PACKETS: usize = 2_500;
const MAX_AGE: Duration = Duration::from_secs(2);

/// A packet to be protected and sent: what was written, and where it is.
pub(crate) type WritePacket<'a> = &'a mut dyn FnMut(&[u8], &PacketLayout);

impl LayerSender {
    /// `first` is the number of the first packet, and of the first that is sent again. These are below 2¹⁵, so that the edge's first guess of the rollover counter cannot be wrong.
    pub(crate) fn new(parameters: LayerParameters, first: u16, now: Instant) -> Self {
        Self {
            parameters,
            state: State::Unwanted,
            next_index: u64::from(first & 0x7FFF),
            next_rtx_index: u64::from(first & 0x7FFF),
            history: VecDeque::new(),
            packets: 0,
            resendable: ResendBudget { bytes: 0.0, refilled: now },
        }
    }

    pub(crate) const fn ssrc(&self) -> Ssrc {
        self.parameters.ssrc
    }

    /// True if nothing can be sent before a key frame.
    pub(crate) fn awaits_key_frame(&self) -> bool {
        self.state == State::AwaitingKeyFrame
    }

    pub(crate) fn set_wanted(&mut self, wanted: bool) {
        if !wanted {
            self.state = State::Unwanted;
            self.history.clear();
            self.packets = 0;
        } else if self.state == State::Unwanted {
            self.state = State::AwaitingKeyFrame;
        }
    }

    /// The stream broke off: nothing fits to what went before.
    pub(crate) fn handle_break(&mut self) {
        if matches!(self.state, State::Forwarding { .. }) {
            self.state = State::AwaitingKeyFrame;
        }
    }

    /// Sends a burst, if the edge can use it. `can_begin`: a decoder can start with it.
    pub(crate) fn handle_burst(
        &mut self,
        now: Instant,
        burst: &Arc<Burst>,
        can_begin: bool,
        captured: NtpTime,
        send: WritePacket<'_>,
    ) {
        let first_packet = burst.meta().first_packet;
        let offset = match self.state {
            State::Unwanted => return,
            State::AwaitingKeyFrame if !can_begin => return,
            State::AwaitingKeyFrame => {
                let offset = self.next_index.wrapping_sub(first_packet);
                self.state = State::Forwarding { offset, since: first_packet };
                offset
            }
            // Late, of before the edge began.
            State::Forwarding { since, .. } if first_packet < since => return,
            State::Forwarding { offset, .. } => offset,
        };
        let first_index = first_packet.wrapping_add(offset);
        let LayerParameters { ssrc, payload_type, rid, extensions, .. } = self.parameters;
        let meta = burst.meta();
        let mut packet = Vec::with_capacity(1_500);
        for position in 0..burst.len() {
            let index = first_index + position as u64;
            let marker = meta.ends_frame && position + 1 == burst.len();
            packet.clear();
            write_fixed_header(&mut packet, payload_type, marker, index as u16, meta.rtp_time.0, ssrc);
            let begins = meta.begins_frame && position == 0;
            let time = begins.then(|| captured.0.to_be_bytes());
            let elements = [
                rid.as_ref().map(|rid| (extensions.rid, rid.as_str().as_bytes())),
                time.as_ref().map(|time| (extensions.absolute_capture_time, &time[..])),
            ];
            let header_len = write_extensions(&mut packet, elements.into_iter().flatten());
            packet.extend_from_slice(burst.payload(position));
            send(&packet, &PacketLayout { header_len, ssrc, index, stamps: Stamps::default() });
        }
        self.next_index = self.next_index.max(first_index + burst.len() as u64);
        self.resendable.add(now, burst.payload_bytes());
        self.remember(now, Sent { burst: Arc::clone(burst), first_index, at: now });
    }

    /// Sends a packet again (RFC 4588 §4), if it is still there. False if it is not, or enough has been sent again.
    pub(crate) fn resend(&mut self, now: Instant, sequence: u16, send: WritePacket<'_>) -> bool {
        let Some((rtx_ssrc, rtx_payload_type)) = self.parameters.rtx else { return false };
        let behind = (self.next_index as u16).wrapping_sub(sequence);
        let Some(index) = self.next_index.checked_sub(u64::from(behind)) else { return false };
        let found = self
            .history
            .iter()
            .rev()
            .find(|sent| (sent.first_index..sent.first_index + sent.burst.len() as u64).contains(&index));
        let Some(sent) = found.filter(|sent| now.saturating_duration_since(sent.at) <= MAX_AGE) else { return false };
        let (burst, position) = (&sent.burst, (index - sent.first_index) as usize);
        let payload = burst.payload(position);
        if !self.resendable.take(now, payload.len()) {
            return false;
        }
        let (meta, rtx_index) = (burst.meta(), self.next_rtx_index);
        let marker = meta.ends_frame && position + 1 == burst.len();
        let mut packet = Vec::with_capacity(1_500);
        write_fixed_header(&mut packet, rtx_payload_type, marker, rtx_index as u16, meta.rtp_time.0, rtx_ssrc);
        let rid = self.parameters.rid;
        let element = rid.as_ref().map(|rid| (self.parameters.extensions.repaired_rid, rid.as_str().as_bytes()));
        let header_len = write_extensions(&mut packet, element.into_iter());
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(payload);
        self.next_rtx_index += 1;
        send(&packet, &PacketLayout { header_len, ssrc: rtx_ssrc, index: rtx_index, stamps: Stamps::default() });
        true
    }

    fn remember(&mut self, now: Instant, sent: Sent) {
        if self.parameters.rtx.is_none() {
            return;
        }
        self.packets += sent.burst.len();
        self.history.push_back(sent);
        while let Some(oldest) = self.history.front() {
            let expired = now.saturating_duration_since(oldest.at) > MAX_AGE;
            if !expired && (self.packets <= MAX_PACKETS || self.history.len() == 1) {
                break;
            }
            self.packets -= oldest.burst.len();
            self.history.pop_front();
        }
    }
}

/// RFC 3550 §5.1, with an extension to follow.
fn write_fixed_header(
    packet: &mut Vec<u8>,
    payload_type: PayloadType,
    marker: bool,
    sequence: u16,
    time: u32,
    ssrc: Ssrc,
) {
    packet.extend_from_slice(&[0x80, u8::from(marker) << 7 | payload_type.value()]);
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&time.to_be_bytes());
    packet.extend_from_slice(&ssrc.0.to_be_bytes());
}

/// One-byte extensions (RFC 8285 §4.2) behind the fixed header; none if there are no elements. Returns the header's length.
fn write_extensions<'a>(packet: &mut Vec<u8>, elements: impl Iterator<Item = (ExtensionId, &'a [u8])>) -> usize {
    let start = packet.len();
    for (id, data) in elements {
        if packet.len() == start {
            packet[0] |= 0x10;
            packet.extend_from_slice(&[0xBE, 0xDE, 0, 0]);
        }
        packet.push(id.value() << 4 | (data.len() - 1) as u8);
        packet.extend_from_slice(data);
    }
    if packet.len() > start {
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = ((packet.len() - start) / 4 - 1) as u16;
        packet[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
    packet.len()
}

/// Bounds what an edge's NACKs can make us send: as many bytes as the media itself had, and a floor for thin streams.
#[derive(Debug)]
struct ResendBudget {
    bytes: f64,
    refilled: Instant,
}

const RESEND_FLOOR_BYTES_PER_SECOND: f64 = 12_500.0;
/// What can pile up: a lost key frame of a 5 Mb/s stream, whole.
const RESEND_MAX_BYTES: f64 = 500_000.0;

impl ResendBudget {
    fn add(&mut self, now: Instant, bytes: usize) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.bytes = (self.bytes + bytes as f64 + elapsed * RESEND_FLOOR_BYTES_PER_SECOND).min(RESEND_MAX_BYTES);
        self.refilled = now;
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.add(now, 0);
        let enough = self.bytes >= bytes as f64;
        if enough {
            self.bytes -= bytes as f64;
        }
        enough
    }
}
