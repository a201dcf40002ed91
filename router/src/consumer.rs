use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lenscast_media::{Burst, NtpTime, RtpTime, Ssrc, VIDEO_CLOCK_RATE, WallClock};

use crate::history::History;
use crate::rtcp::{Compound, ReportBlock};
use crate::rtp::Header;
use crate::sequence_runs::SequenceRuns;
use crate::{ConsumerParameters, ConsumerStats, Egress, RtpPackets, RtxParameters, TransportSlot};

/// One stream to one viewer: rewrites sequence and timestamp, answers NACKs, reports.
#[derive(Debug)]
pub(crate) struct Consumer {
    parameters: ConsumerParameters,
    slot: TransportSlot,
    state: State,
    /// Index of the next media packet: the sequence number continued without wrapping.
    next_index: u64,
    next_rtx_index: u64,
    runs: SequenceRuns,
    recently_resent: VecDeque<(u16, Instant)>,
    budget: ResendBudget,
    extensions_due: Instant,
    last_fir: Option<u8>,
    reference_time: Option<ReferenceTime>,
    stats: ConsumerStats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The transport is not connected yet.
    Idle,
    /// A decoder on the other side could not start with the next frame.
    AwaitingKeyFrame,
    Forwarding,
}

/// A receiver's own time (RFC 3611 §4.4), to be returned in the next report.
#[derive(Debug, Clone, Copy)]
struct ReferenceTime {
    receiver: Ssrc,
    compact: u32,
    arrived: Instant,
}

/// Why a packet is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Gone,
    JustResent,
    /// Nothing else would be sent now either.
    Exhausted,
}

/// Header extensions go out with each key frame and then at least this often, on all packets of a frame. Receivers keep
/// a playout delay until told otherwise and interpolate capture times between frames that carry one.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(1);

/// What mediasoup assumes before the first report (`RtpStreamSend`, `DefaultRtt`).
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Packets remembered as resent; a viewer can ask for no more than this within a round trip and get each just once.
const MAX_RECENTLY_RESENT: usize = 256;

/// Packets looked up for one RTCP datagram, which could ask for 6,000: no more than [`MAX_RECENTLY_RESENT`] will be sent,
/// and as many again may be gone.
pub(crate) const MAX_LOOKED_UP: usize = 512;

impl Consumer {
    pub(crate) fn new(parameters: ConsumerParameters, slot: TransportSlot, now: Instant) -> Self {
        Self {
            slot,
            state: State::Idle,
            next_index: u64::from(parameters.initial_sequence),
            next_rtx_index: u64::from(parameters.initial_rtx_sequence),
            runs: SequenceRuns::default(),
            recently_resent: VecDeque::new(),
            budget: ResendBudget::new(now),
            extensions_due: now,
            last_fir: None,
            reference_time: None,
            stats: ConsumerStats::default(),
            parameters,
        }
    }

    pub(crate) const fn parameters(&self) -> &ConsumerParameters {
        &self.parameters
    }

    pub(crate) const fn slot(&self) -> TransportSlot {
        self.slot
    }

    pub(crate) const fn stats(&self) -> &ConsumerStats {
        &self.stats
    }

    pub(crate) fn is_active(&self) -> bool {
        self.state != State::Idle
    }

    pub(crate) fn awaits_key_frame(&self) -> bool {
        self.state == State::AwaitingKeyFrame
    }

    /// The packets of `burst` for this viewer; `None` while it cannot use them.
    pub(crate) fn handle_burst<'a>(
        &mut self,
        now: Instant,
        burst: &'a Burst,
        wall: &WallClock,
    ) -> Option<RtpPackets<'a>> {
        let meta = burst.meta();
        match self.state {
            State::Idle => return None,
            State::AwaitingKeyFrame if !meta.key_frame => {
                self.stats.frames_dropped += 1;
                return None;
            }
            State::AwaitingKeyFrame | State::Forwarding => self.state = State::Forwarding,
        }
        let mut header = Header::new(self.parameters.payload_type, self.parameters.ssrc, self.timestamp(meta.rtp_time));
        if meta.key_frame || now >= self.extensions_due {
            header = header.with_extensions(&self.parameters.extensions, wall.ntp_at(meta.times.captured));
            self.extensions_due = now + EXTENSION_INTERVAL;
        }
        let packets = burst.len() as u64;
        let first_index = self.next_index;
        self.runs.push(first_index, meta.first_packet, packets);
        self.next_index += packets;
        self.stats.packets_sent += packets;
        self.stats.bytes_sent += burst.payload_bytes() as u64;
        self.stats.frames_sent += 1;
        self.budget.add_media(now, burst.payload_bytes());
        Some(RtpPackets { burst, packets: 0..burst.len(), header, first_index, original_sequence: None })
    }

    /// The producer's stream broke off: nothing can be decoded until its next key frame.
    pub(crate) fn handle_discontinuity(&mut self) {
        if self.state == State::Forwarding {
            self.state = State::AwaitingKeyFrame;
        }
    }

    /// Sends again what is still there of the packets asked for. `room` is how many may still be looked up for this
    /// datagram; what is beyond it is refused unseen.
    pub(crate) fn handle_nack(
        &mut self,
        now: Instant,
        mut lost: impl Iterator<Item = u16>,
        history: &History,
        room: &mut usize,
        egress: &mut impl Egress,
    ) {
        self.stats.nack_count += 1;
        if let Some(rtx) = self.parameters.rtx {
            while *room > 0
                && let Some(sequence) = lost.next()
            {
                *room -= 1;
                match self.retransmission(now, rtx, sequence, history) {
                    Ok(packets) => {
                        let bytes = packets.burst.payload(packets.packets.start).len() as u64;
                        egress.send_rtp(self.slot, &packets);
                        self.stats.retransmitted_packets_sent += 1;
                        self.stats.retransmitted_bytes_sent += bytes;
                    }
                    Err(refusal) => {
                        self.stats.retransmissions_refused += 1;
                        if refusal == Refusal::Exhausted {
                            break;
                        }
                    }
                }
            }
        }
        self.stats.retransmissions_refused += lost.count() as u64;
    }

    pub(crate) fn handle_pli(&mut self) {
        self.stats.pli_count += 1;
    }

    /// False if this command was already obeyed: FIR is repeated until its effect is seen (RFC 5104 §4.3.1.2).
    pub(crate) fn handle_fir(&mut self, command: u8) -> bool {
        let new = self.last_fir != Some(command);
        if new {
            self.last_fir = Some(command);
            self.stats.fir_count += 1;
        }
        new
    }

    pub(crate) fn handle_report(&mut self, now: NtpTime, report: &ReportBlock) {
        self.stats.fraction_lost = Some(f64::from(report.fraction_lost) / 256.0);
        self.stats.packets_lost = i64::from(report.cumulative_lost);
        let jitter = f64::from(report.jitter) / f64::from(VIDEO_CLOCK_RATE);
        self.stats.jitter = Some(Duration::from_secs_f64(jitter));
        if report.last_sender_report != 0 {
            let since_sent = now.compact().wrapping_sub(report.last_sender_report);
            let round_trip = since_sent.wrapping_sub(report.delay_since_last_sender_report);
            // Clocks of two machines drift: a negative or absurd result is noise, not a measurement.
            if (round_trip as i32) >= 0 && round_trip < 60 << 16 {
                self.stats.round_trip_time = Some(Duration::from_secs_f64(f64::from(round_trip) / 65_536.0));
            }
        }
    }

    pub(crate) fn handle_reference_time(&mut self, now: Instant, receiver: Ssrc, ntp: NtpTime) {
        self.reference_time = Some(ReferenceTime { receiver, compact: ntp.compact(), arrived: now });
    }

    /// The transport is connected: from the next key frame on, packets can go out.
    pub(crate) fn activate(&mut self) {
        if self.state == State::Idle {
            self.state = State::AwaitingKeyFrame;
        }
    }

    /// Appends this consumer's report to `compound`. `clock` is the producer's RTP time at `now`, if it has sent anything.
    pub(crate) fn write_report(&mut self, now: Instant, ntp: NtpTime, clock: Option<RtpTime>, compound: &mut Compound) {
        let ssrc = self.parameters.ssrc;
        match clock {
            Some(clock) if self.stats.packets_sent > 0 => {
                let timestamp = self.timestamp(clock);
                compound.push_sender_report(ssrc, ntp, timestamp, self.stats.packets_sent, self.stats.bytes_sent);
            }
            _ => compound.push_receiver_report(ssrc),
        }
        compound.push_cname(ssrc, &self.parameters.cname);
        if let Some(reference) = self.reference_time.take() {
            let held = now.saturating_duration_since(reference.arrived).as_secs_f64() * 65_536.0;
            compound.push_dlrr(ssrc, reference.receiver, reference.compact, held as u32);
        }
    }

    /// The viewer's timestamp for a producer's.
    pub(crate) fn timestamp(&self, producer: RtpTime) -> RtpTime {
        producer.wrapping_add(self.parameters.timestamp_offset)
    }

    fn retransmission<'a>(
        &mut self,
        now: Instant,
        rtx: RtxParameters,
        sequence: u16,
        history: &'a History,
    ) -> Result<RtpPackets<'a>, Refusal> {
        let packet = self.runs.packet(sequence, self.next_index).ok_or(Refusal::Gone)?;
        let (burst, position) = history.find(packet, now).ok_or(Refusal::Gone)?;
        let round_trip = self.stats.round_trip_time.unwrap_or(DEFAULT_ROUND_TRIP);
        while self.recently_resent.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= round_trip) {
            self.recently_resent.pop_front();
        }
        if self.recently_resent.len() >= MAX_RECENTLY_RESENT {
            return Err(Refusal::Exhausted);
        }
        if self.recently_resent.iter().any(|(resent, _)| *resent == sequence) {
            return Err(Refusal::JustResent);
        }
        if !self.budget.take(now, burst.payload(position).len()) {
            return Err(Refusal::Exhausted);
        }
        self.recently_resent.push_back((sequence, now));
        let first_index = self.next_rtx_index;
        self.next_rtx_index += 1;
        Ok(RtpPackets {
            burst,
            packets: position..position + 1,
            header: Header::new(rtx.payload_type, rtx.ssrc, self.timestamp(burst.meta().rtp_time)),
            first_index,
            original_sequence: Some(sequence),
        })
    }
}

/// Bounds what a viewer's NACKs can make us send: as many bytes as the media itself had, and a floor for thin streams.
#[derive(Debug)]
struct ResendBudget {
    bytes: f64,
    refilled: Instant,
}

/// What a viewer can always have per second, so that a nearly still picture is repaired too.
const RESEND_FLOOR_BYTES_PER_SECOND: f64 = 12_500.0;
/// What can pile up: a lost key frame of a 5 Mb/s stream, whole.
const RESEND_MAX_BYTES: f64 = 500_000.0;

impl ResendBudget {
    fn new(now: Instant) -> Self {
        Self { bytes: RESEND_FLOOR_BYTES_PER_SECOND, refilled: now }
    }

    fn add_media(&mut self, now: Instant, bytes: usize) {
        self.refill(now);
        self.bytes = (self.bytes + bytes as f64).min(RESEND_MAX_BYTES);
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.refill(now);
        let enough = self.bytes >= bytes as f64;
        if enough {
            self.bytes -= bytes as f64;
        }
        enough
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.bytes = (self.bytes + elapsed * RESEND_FLOOR_BYTES_PER_SECOND).min(RESEND_MAX_BYTES);
        self.refilled = now;
    }
}
