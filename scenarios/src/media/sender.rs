//! The sending side: video sources whose rate the estimate sets through the allocator, a pacer, and repair.

use std::time::{Duration, Instant};

use lenscast_congestion::{
    Budget, CongestionFeedback, EstimateBounds, NetworkController, Overhead, PacedContent, Pacer, PacketKind,
    PacketReport, ProbeId, SentHistory, TransportFeedback,
};
use lenscast_media::{Bitrate, Ssrc};

use super::packet::{Addressed, FeedbackFormat, MAX_PAYLOAD, MEDIA_OVERHEAD, Message, Rtp, cut, media_size};
use super::repair::SentPackets;
use super::repair_share::RepairShare;
use super::sources::{AUDIO, FRAMERATE, Sources};
use crate::case::SenderPlan;
use crate::record::TrackRecord;

/// With headers: 50 packets a second.
const AUDIO_ON_WIRE: Bitrate = Bitrate::from_bps(AUDIO.as_bps() + 50 * 8 * MEDIA_OVERHEAD as u64);
/// The round trip while none is known (libwebrtc, `call/rtp_video_sender.cc` and others: 100 ms).
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(100);
/// The shortest packet that padding is made of (libwebrtc, `modules/rtp_rtcp/source/rtp_sender.cc`, `kMinPayloadPaddingBytes`).
const MIN_PADDING: u32 = 50;
/// The longest packet of nothing but zeros (as above, `kMaxPaddingLength`).
const MAX_PADDING: u32 = 224;

/// Sends one sender's media to one receiver. It begins when it is made.
///
/// Order of calls: `handle_*` as things come, then [`poll_packet`](Self::poll_packet) until it has nothing; the same at
/// [`poll_timeout`](Self::poll_timeout).
pub(crate) struct Sender {
    start: Instant,
    bounds: EstimateBounds,
    controller: Box<dyn NetworkController>,
    pacer: Pacer<Queued>,
    history: SentHistory,
    format: FeedbackFormat,
    sources: Sources,
    tracks: Vec<Track>,
    audio_sequence: u16,
    repair: RepairShare,
    /// What the sources were last set by.
    followed: Option<Budget>,
    reports: Vec<PacketReport>,
    padding: Option<Padding>,
    allowance: Allowance,
    checks: Checks,
}

/// What must hold at all times, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    /// How often an estimate was outside its bounds.
    pub(crate) estimates_out_of_bounds: u64,
    /// How often more had left than the pacing rate allows.
    pub(crate) over_pacing: u64,
    /// The longest that the pacer's queue would have taken to leave.
    pub(crate) longest_pacer_queue: Duration,
    /// Packets that the pacer gave back.
    pub(crate) rejected: u64,
    /// Feedback that could not be read.
    pub(crate) unreadable: u64,
}

/// What a video remembers of what it sent.
#[derive(Default)]
struct Track {
    sent: SentPackets,
    rtx_sequence: u16,
}

/// What waits in the pacer.
#[derive(Debug, Clone, Copy)]
enum Queued {
    Audio { payload: u32 },
    Video { track: u8, number: u64, payload: u32 },
    Again { track: u8, number: u64, payload: u32 },
}

/// Padding that is being sent.
struct Padding {
    left: u32,
    probe: Option<ProbeId>,
}

impl Sender {
    /// `epoch` is when the case began, `now` when the sender begins.
    pub(crate) fn new(
        epoch: Instant,
        now: Instant,
        plan: &SenderPlan,
        controller: Box<dyn NetworkController>,
        bounds: EstimateBounds,
        format: FeedbackFormat,
        seed: u64,
    ) -> Self {
        Self {
            start: epoch,
            bounds,
            controller,
            pacer: Pacer::new(now),
            history: SentHistory::new(),
            format,
            sources: Sources::new(epoch, plan, seed),
            tracks: plan.tracks.iter().map(|_| Track::default()).collect(),
            audio_sequence: 0,
            repair: RepairShare::new(now),
            followed: None,
            reports: Vec::new(),
            padding: None,
            allowance: Allowance::new(now),
            checks: Checks::default(),
        }
    }

    pub(crate) fn checks(&self) -> Checks {
        Checks { rejected: self.pacer.rejected(), ..self.checks }
    }

    /// What a track's source is to make.
    pub(crate) fn share(&self, track: usize) -> Bitrate {
        self.sources.share(track)
    }

    /// An FCI has come.
    pub(crate) fn handle_feedback(&mut self, now: Instant, fci: &[u8]) {
        let mut reports = std::mem::take(&mut self.reports);
        reports.clear();
        let read = match self.format {
            FeedbackFormat::TransportWide => {
                TransportFeedback::parse(fci).map(|feedback| self.history.handle_twcc(now, &feedback, &mut reports))
            }
            FeedbackFormat::Rfc8888 => {
                CongestionFeedback::parse(fci).map(|feedback| self.history.handle_ccfb(now, &feedback, &mut reports))
            }
        };
        self.checks.unreadable += u64::from(read.is_err());
        self.controller.handle_feedback(now, &reports);
        self.reports = reports;
        self.follow(now);
    }

    pub(crate) fn handle_nack(&mut self, now: Instant, numbers: &[(u8, u64)]) {
        let round_trip = self.controller.estimate().round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
        for &(track, number) in numbers {
            let Some(sent) = self.tracks.get_mut(usize::from(track)).map(|track| &mut track.sent) else { continue };
            if let Some(payload) = sent.take_request(now, number, round_trip) {
                let again = Queued::Again { track, number, payload };
                // If it is given back it stays marked as waiting: a full queue has no room for the next request either.
                let _ = self.pacer.push(now, PacketKind::Retransmission, media_size(payload, false), again);
            }
        }
    }

    /// Time has come: sources make frames, tracks begin and end, the controller looks at its clock. What is made is written
    /// down in `records`, which are the tracks'.
    pub(crate) fn handle_timeout(&mut self, now: Instant, records: &mut [TrackRecord]) {
        if self.sources.handle_changes(now) {
            self.announce(now);
        }
        if self.controller.poll_timeout().is_some_and(|at| at <= now) {
            self.controller.handle_timeout(now);
            self.follow(now);
        }
        let at = now - self.start;
        while let Some((track, bytes)) = self.sources.poll_video(now) {
            for payload in cut(bytes) {
                let number = records[usize::from(track)].note_made(at, payload);
                let packet = Queued::Video { track, number, payload };
                let _ = self.pacer.push(now, PacketKind::Video, media_size(payload, true), packet);
            }
        }
        while let Some(payload) = self.sources.poll_audio(now) {
            let _ = self.pacer.push(now, PacketKind::Audio, media_size(payload, true), Queued::Audio { payload });
        }
        self.checks.longest_pacer_queue = self.checks.longest_pacer_queue.max(self.pacer.queue_delay());
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = [self.sources.poll_timeout(), self.controller.poll_timeout(), self.pacer.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// A packet that leaves now.
    pub(crate) fn poll_packet(&mut self, now: Instant, records: &mut [TrackRecord]) -> Option<Addressed> {
        loop {
            if let Some(packet) = self.pad(now, records) {
                return Some(packet);
            }
            let paced = self.pacer.poll(now)?;
            let queued = match paced.content {
                PacedContent::Item(queued) => queued,
                PacedContent::Padding { bytes } => {
                    self.padding = Some(Padding { left: bytes, probe: paced.probe });
                    continue;
                }
            };
            if paced.probe.is_none() && paced.kind != PacketKind::Audio {
                self.checks.over_pacing += u64::from(!self.allowance.take(now, paced.size, self.pacer.rate()));
            }
            return Some(match queued {
                Queued::Audio { payload } => {
                    let sequence = self.audio_sequence;
                    self.audio_sequence = sequence.wrapping_add(1);
                    let content = Content { video: None, payload, first: true, ssrc: AUDIO_SSRC, sequence, track: 0 };
                    self.send(now, paced.kind, paced.probe, content, records)
                }
                Queued::Video { track, number, payload } => {
                    self.tracks[usize::from(track)].sent.note_sent(now, number, payload);
                    self.repair.note_media(payload);
                    let (video, ssrc) = (Some((track, number)), video_ssrc(track));
                    let content = Content { video, payload, first: true, ssrc, sequence: number as u16, track };
                    self.send(now, paced.kind, paced.probe, content, records)
                }
                Queued::Again { track, number, payload } => {
                    self.tracks[usize::from(track)].sent.note_sent_again(now, number);
                    self.repair.note_again(payload);
                    let content = self.again(track, number, payload);
                    self.send(now, paced.kind, paced.probe, content, records)
                }
            });
        }
    }

    /// A packet of padding, while there is some to send: the newest video once more, as lenscast and libwebrtc do, or nothing
    /// but zeros where little is to be sent.
    fn pad(&mut self, now: Instant, records: &mut [TrackRecord]) -> Option<Addressed> {
        let Padding { left, probe } = self.padding.take()?;
        let newest = |(index, track): (usize, &Track)| track.sent.newest().map(|newest| (index as u8, newest));
        let (track, (number, payload)) =
            self.tracks.iter().enumerate().filter(|(index, _)| self.sources.is_active(*index)).find_map(newest)?;
        let content = if media_size(payload, false) / 2 <= left {
            self.again(track, number, payload)
        } else {
            let payload = left.saturating_sub(MEDIA_OVERHEAD).clamp(MIN_PADDING, MAX_PADDING);
            Content { video: None, ..self.again(track, number, payload) }
        };
        let packet = self.send(now, PacketKind::Padding, probe, content, records);
        self.pacer.note_sent(now, u64::from(packet.size), PacketKind::Padding);
        let left = left.saturating_sub(packet.size);
        self.padding = (left > 0).then_some(Padding { left, probe });
        Some(packet)
    }

    fn again(&mut self, track: u8, number: u64, payload: u32) -> Content {
        let sequence = &mut self.tracks[usize::from(track)].rtx_sequence;
        *sequence = sequence.wrapping_add(1);
        let video = Some((track, number));
        Content { video, payload, first: false, ssrc: rtx_ssrc(track), sequence: *sequence, track }
    }

    fn send(
        &mut self,
        now: Instant,
        kind: PacketKind,
        probe: Option<ProbeId>,
        content: Content,
        records: &mut [TrackRecord],
    ) -> Addressed {
        let Content { video, payload, first, ssrc, sequence, track } = content;
        let size = media_size(payload, first);
        let transport_sequence = match self.format {
            FeedbackFormat::TransportWide => self.history.record(kind, size, now, probe),
            FeedbackFormat::Rfc8888 => self.history.record_rtp(kind, size, now, probe, ssrc, sequence),
        };
        if let Some(sent) = self.history.last() {
            self.controller.handle_sent(sent);
        }
        records[usize::from(track)].note_sent(now - self.start, size);
        let message = Message::Rtp(Rtp { transport_sequence, ssrc, sequence, video, track, first });
        Addressed { size, message }
    }

    /// Tracks have begun or ended: there is something else to be had.
    fn announce(&mut self, now: Instant) {
        let videos: u64 = self.sources.wanted().map(|max| wire_rate(max).as_bps()).sum();
        let audio = if videos > 0 { self.audio_rate().as_bps() } else { 0 };
        self.controller.set_wanted(now, Bitrate::from_bps(videos + audio));
        self.followed = None;
        self.follow(now);
    }

    /// Does what the controller says: its rates to the pacer, its probes too, its target to the sources.
    fn follow(&mut self, now: Instant) {
        while let Some(probe) = self.controller.poll_probe() {
            self.pacer.add_probe(now, probe);
        }
        let estimate = self.controller.estimate();
        let is_within = (self.bounds.min..=self.bounds.max).contains(&estimate.target);
        self.checks.estimates_out_of_bounds += u64::from(!is_within);
        self.pacer.set_rates(now, estimate.pacing, estimate.padding);
        let overhead = Overhead {
            packet_bytes: MEDIA_OVERHEAD,
            payload_bytes: MAX_PAYLOAD,
            retransmission: self.repair.share(now),
            fec: 0.0,
            // Set aside here, since the allocator's part for audio is less than this audio takes with its headers.
            audio: false,
        };
        let video = estimate.target.as_bps().saturating_sub(self.audio_rate().as_bps());
        let budget = Budget { total: Bitrate::from_bps(video), overhead };
        if self.followed.replace(budget) == Some(budget) {
            return;
        }
        self.sources.divide(now, &budget);
    }

    /// What audio takes on the wire.
    fn audio_rate(&self) -> Bitrate {
        if self.sources.has_audio() { AUDIO_ON_WIRE } else { Bitrate::ZERO }
    }
}

/// What leaves, before it has its transport-wide number.
struct Content {
    video: Option<(u8, u64)>,
    payload: u32,
    first: bool,
    ssrc: Ssrc,
    sequence: u16,
    /// Whose record it is written down in: audio is in the first track's.
    track: u8,
}

/// What may leave by the pacing rate, counted a second time beside the pacer.
#[derive(Debug)]
struct Allowance {
    at: Instant,
    rate: Bitrate,
    /// Bytes that left ahead of their time.
    ahead: f64,
}

impl Allowance {
    /// So much may be ahead when the next packet leaves (libwebrtc's pacer lets bursts of 40 ms leave at once).
    const BURST: Duration = Duration::from_millis(40);

    fn new(now: Instant) -> Self {
        Self { at: now, rate: Bitrate::ZERO, ahead: 0.0 }
    }

    /// A packet leaves, while `rate` holds. False if it should not have.
    fn take(&mut self, now: Instant, size: u32, rate: Bitrate) -> bool {
        // Since the last packet either this rate held or that one, or both.
        let paid = rate.max(self.rate).as_bps() as f64 / 8.0 * (now - self.at).as_secs_f64();
        self.ahead = (self.ahead - paid).max(0.0);
        let allowed = rate.max(self.rate).as_bps() as f64 / 8.0 * Self::BURST.as_secs_f64();
        let may_leave = self.ahead <= allowed + 1.0;
        self.ahead += f64::from(size);
        (self.at, self.rate) = (now, rate);
        may_leave
    }
}

/// What a sender's tracks take on the wire together at most.
pub(crate) fn wire_max(max: Bitrate, with_audio: bool) -> Bitrate {
    let audio = if with_audio { AUDIO_ON_WIRE } else { Bitrate::ZERO };
    Bitrate::from_bps(wire_rate(max).as_bps() + audio.as_bps())
}

/// Media of this rate with headers: frames of equal sizes in as few packets as they fit.
fn wire_rate(media: Bitrate) -> Bitrate {
    let frame = media.as_bps() as f64 / 8.0 / FRAMERATE;
    let packets = (frame / f64::from(MAX_PAYLOAD)).ceil();
    Bitrate::from_bps(media.as_bps() + (packets * FRAMERATE * f64::from(MEDIA_OVERHEAD) * 8.0) as u64)
}

const AUDIO_SSRC: Ssrc = Ssrc(1);

fn video_ssrc(track: u8) -> Ssrc {
    Ssrc(10 + 2 * u32::from(track))
}

fn rtx_ssrc(track: u8) -> Ssrc {
    Ssrc(11 + 2 * u32::from(track))
}
