//! One leg's congestion control: numbers its packets as they leave, learns from what its viewer says became of them, and says
//! when those leave that have to wait.
//!
//! **Invariants.** Every packet that leaves is counted once, by history, controller and pacer alike; one that waits is counted
//! when it leaves. What a viewer can make us remember, or look at in a second, is bounded. A packet for which there is no room
//! is counted, and its stream goes on with a key frame.
//!
//! What it does not do: send, protect, choose layers, or read the clock.

use std::time::{Duration, Instant};

use lenscast_congestion::{
    CongestionFeedback, EstimateBounds, GoogleController, NetworkController, PacedContent, Pacer, PacketKind,
    PacketReport, ProbeId, SentHistory, TransportFeedback,
};
use lenscast_media::{Bitrate, NtpTime, Ssrc};
use lenscast_router::rtcp::{self, Packet};
use lenscast_router::{PacketLayout, RtpPackets, TransportId};

use super::reporting::{Reporting, Worth};
use super::sent_rate::SentRate;
use super::{LegMedia, LegReport, LegStats};
use crate::ice::Path;

/// How a viewer tells which packets have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathFeedback {
    /// By transport-wide numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportWide,
    /// By each stream's sequence numbers (RFC 8888). No answer offers it yet; only the simulator reports so, to the controller
    /// itself.
    PerStream,
}

/// See the module.
pub(crate) struct LegControl {
    controller: GoogleController,
    pacer: Pacer<Waiting>,
    history: SentHistory,
    feedback: PathFeedback,
    bounds: EstimateBounds,
    /// Where its packets go, and since when.
    path: Option<(Path, Instant)>,
    /// The estimate begins no higher.
    start: Bitrate,
    /// What the leg is given at most.
    limit: Bitrate,
    /// What it would be sent if its path carried everything.
    wanted: Bitrate,
    sent: SentRate,
    /// When the first feedback came.
    heard: Option<Instant>,
    /// The highest target so far.
    highest: Bitrate,
    is_confirmed: bool,
    /// When the first packet left that has had no feedback of any kind after it.
    unanswered: Option<Instant>,
    /// That was too long ago.
    is_silent: bool,
    /// Padding is being sent, for this probe if it is for one.
    padding: Option<Option<ProbeId>>,
    allowance: Allowance,
    reporting: Reporting,
    /// When a change is to be told of that has to wait.
    report_due: Option<Instant>,
    attended: Instant,
    /// Videos that began anew a short while ago, and when: as too much of them waited, or with a key frame that had to wait.
    renewed: Vec<(Ssrc, Instant)>,
    /// It is on the list of those that are to be attended to.
    pub(crate) is_pressing: bool,
    stats: LegStats,
    /// Empty but while feedback is read.
    reports: Vec<PacketReport>,
}

/// A packet that waits, in the clear.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) packet: Vec<u8>,
    pub(crate) layout: PacketLayout,
    /// The stream of media that it is of, or repeats.
    pub(crate) media: Ssrc,
}

/// A packet, or a wish for padding, that is to leave now.
pub(crate) enum Leaving {
    Packet { waiting: Waiting, departure: Departure },
    Padding { bytes: usize },
}

/// How a packet comes to leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) kind: PacketKind,
    probe: Option<ProbeId>,
    /// The pacer knows of it.
    is_paced: bool,
}

/// An estimate is trusted after so long a time of feedback.
const CONFIRMED_AFTER: Duration = Duration::from_secs(2);
/// …or once it has fallen below this part of what it was: then the path has shown a limit.
const FALLEN: f64 = 0.95;

/// After so long without an answer a viewer may have gone, and its estimate says nothing for the time being. Shortly before the
/// estimate falls for it: 3 s after what was heard last, less a round trip (libwebrtc,
/// `modules/congestion_controller/goog_cc/send_side_bandwidth_estimation.cc`, `RttBasedBackoff`).
const SILENT_AFTER: Duration = Duration::from_millis(2_500);

/// Who waits to hear of packets is attended to this often, if nothing else happens.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What would wait for longer than this is no live picture any more. After a steep fall of the path, a key frame at the new rate
/// is there sooner than all that was encoded at the old one, and all that was lost. Ours, as is what follows.
const LONGEST_WAIT: Duration = Duration::from_millis(400);
/// Where that does not help it is not tried again for so long: key frames cost the camera's other viewers too.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(3);

/// What estimates stay between until somebody says otherwise. The start is what a camera of ours needs for a usable picture;
/// less than the least is no video (libwebrtc, `video/config/encoder_stream_factory.cc`, `kDefaultMinVideoBitrateBps`).
pub(crate) const DEFAULT_BOUNDS: EstimateBounds = EstimateBounds {
    min: Bitrate::from_kbps(30),
    start: Bitrate::from_kbps(1_000),
    max: Bitrate::from_kbps(1_000_000),
};

/// What is probed for at the start, whatever is wanted: nobody is to fill a wide path for measuring's sake alone.
const DEFAULT_WANTED: Bitrate = Bitrate::from_kbps(5_000);

impl LegControl {
    pub(crate) fn new(now: Instant, feedback: PathFeedback, bounds: EstimateBounds) -> Self {
        let mut control = Self {
            controller: GoogleController::new(now, bounds),
            pacer: Pacer::new(now),
            history: SentHistory::new(),
            feedback,
            bounds,
            path: None,
            start: Bitrate::UNLIMITED,
            limit: Bitrate::UNLIMITED,
            wanted: DEFAULT_WANTED,
            sent: SentRate::new(now),
            heard: None,
            highest: Bitrate::ZERO,
            is_confirmed: false,
            unanswered: None,
            is_silent: false,
            padding: None,
            allowance: Allowance::new(now),
            reporting: Reporting::default(),
            report_due: None,
            attended: now,
            renewed: Vec::new(),
            is_pressing: false,
            stats: LegStats::default(),
            reports: Vec::new(),
        };
        control.controller.set_wanted(now, DEFAULT_WANTED);
        control.update(now);
        control
    }

    pub(crate) fn stats(&self) -> LegStats {
        LegStats { queued_packets: self.pacer.queued_packets(), queued_bytes: self.pacer.queued_bytes(), ..self.stats }
    }

    /// A burst of `bytes` may leave now; else its packets go to [`LegControl::wait`].
    pub(crate) fn departs_at_once(&mut self, now: Instant, kind: PacketKind, bytes: u64) -> Option<Departure> {
        if let Some(probe) = self.padding {
            return Some(Departure { kind: PacketKind::Padding, probe, is_paced: false });
        }
        // Audio waits for nothing, as the pacer would have it too.
        let at_once = kind == PacketKind::Audio || self.pacer.takes_at_once(now, bytes);
        at_once.then_some(Departure { kind, probe: None, is_paced: false })
    }

    /// A packet of `size` bytes on the wire is to wait for its turn. True if there is no room for it: nothing of its stream
    /// waits any more then, and what comes next of it has to begin anew. A retransmission is dropped for itself: it may be
    /// asked for again.
    #[must_use]
    pub(crate) fn wait(&mut self, now: Instant, kind: PacketKind, size: u32, waiting: Waiting) -> bool {
        let Some(Waiting { media, .. }) = self.pacer.push(now, kind, size, waiting) else { return false };
        self.stats.overflows += 1;
        self.stats.packets_dropped += 1;
        let breaks = kind != PacketKind::Retransmission;
        if breaks {
            self.forget_stream(media);
        }
        breaks
    }

    /// So much waits that a video's next frame would come too late, and no less of this video than of others. Then nothing of it
    /// waits any more, retransmissions included, and what comes next of it has to begin anew: every few seconds at most, a
    /// key frame that had to wait counted.
    #[must_use]
    pub(crate) fn renews(&mut self, now: Instant, packets: &RtpPackets<'_>) -> bool {
        if packets.kind() != PacketKind::Video {
            return false;
        }
        let media = packets.media_ssrc();
        self.renewed.retain(|(_, at)| now.saturating_duration_since(*at) < BETWEEN_RENEWALS);
        let is_new = self.renewed.iter().any(|(renewed, _)| *renewed == media);
        if packets.is_key_frame() && !is_new {
            self.renewed.push((media, now));
        }
        if packets.is_key_frame() || is_new || self.pacer.queue_delay() <= LONGEST_WAIT || !self.holds_others_up(media)
        {
            return false;
        }
        self.renewed.push((media, now));
        self.stats.overflows += 1;
        self.forget_stream(media);
        true
    }

    /// Of this video there waits at least as much as of each on the average.
    fn holds_others_up(&self, media: Ssrc) -> bool {
        let mut bytes: Vec<(Ssrc, u64)> = Vec::new();
        for (_, size, waiting) in self.pacer.waiting() {
            match bytes.iter_mut().find(|(of, _)| *of == waiting.media) {
                Some((_, sum)) => *sum += u64::from(size),
                None => bytes.push((waiting.media, size.into())),
            }
        }
        let all: u64 = bytes.iter().map(|(_, sum)| sum).sum();
        let own = bytes.iter().find(|(of, _)| *of == media).map_or(0, |(_, sum)| *sum);
        own.saturating_mul(bytes.len() as u64) >= all
    }

    /// Packets were dropped since those before them were.
    pub(crate) const fn count_dropped(&mut self, packets: usize) {
        self.stats.packets_dropped += packets as u64;
    }

    /// What waits of a stream is not wanted any more.
    fn forget_stream(&mut self, media: Ssrc) {
        let removed = self.pacer.retain(|_, waiting| waiting.media != media);
        self.stats.packets_dropped += removed as u64;
    }

    /// A packet leaves that is complete but for its number and time: writes these, and remembers it. `size` is what it takes
    /// on the wire.
    #[inline]
    pub(crate) fn depart(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        departure: Departure,
        layout: &PacketLayout,
        packet: &mut [u8],
        size: u32,
    ) {
        let Departure { kind, probe, is_paced } = departure;
        let is_counted = self.feedback == PathFeedback::PerStream || layout.stamps.counts();
        let sequence = match self.feedback {
            _ if !is_counted => 0,
            PathFeedback::TransportWide => self.history.record(kind, size, now, probe),
            PathFeedback::PerStream => {
                self.history.record_rtp(kind, size, now, probe, layout.ssrc, layout.index as u16)
            }
        };
        layout.stamps.write(packet, ntp, sequence);
        if let Some(sent) = self.history.last().filter(|_| is_counted) {
            self.controller.handle_sent(sent);
            self.unanswered.get_or_insert(now);
        }
        if !is_paced {
            self.pacer.note_sent(now, u64::from(size), kind);
        }
        self.sent.add(now, u64::from(size));
    }

    /// What leaves now; to be called until there is nothing. After [`Leaving::Padding`] comes [`LegControl::end_padding`].
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Leaving> {
        let paced = self.pacer.poll(now)?;
        Some(match paced.content {
            PacedContent::Item(waiting) => {
                let departure = Departure { kind: paced.kind, probe: paced.probe, is_paced: true };
                Leaving::Packet { waiting, departure }
            }
            PacedContent::Padding { bytes } => {
                self.padding = Some(paced.probe);
                Leaving::Padding { bytes: bytes as usize }
            }
        })
    }

    pub(crate) const fn end_padding(&mut self) {
        self.padding = None;
    }

    /// Nothing that has been sent is still to be heard of.
    pub(crate) fn is_idle(&self) -> bool {
        self.history.in_flight_bytes() == 0
    }

    /// When it is to be attended to, whatever happens.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let look = (!self.is_idle()).then(|| self.attended + BETWEEN_LOOKS);
        let silence = self.unanswered.filter(|_| !self.is_silent).map(|since| since + SILENT_AFTER);
        let timeouts = [self.pacer.poll_timeout(), self.controller.poll_timeout(), self.report_due, look, silence];
        timeouts.into_iter().flatten().min()
    }

    /// Time has passed, or something has left or come.
    pub(crate) fn attend(&mut self, now: Instant) {
        self.is_pressing = false;
        self.attended = now;
        self.is_silent = self.unanswered.is_some_and(|since| now.saturating_duration_since(since) >= SILENT_AFTER);
        if self.controller.poll_timeout().is_some_and(|due| due <= now) {
            self.controller.handle_timeout(now);
        }
        self.update(now);
    }

    /// What the viewer's RTCP says of the path. Counts feedback that cannot be read, or is more than there can be to say.
    pub(crate) fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::read(compound).flatten() {
            match (self.feedback, packet) {
                (PathFeedback::TransportWide, Packet::TransportWide(said)) => match TransportFeedback::parse(said) {
                    Ok(feedback) if self.allows(now, u64::from(feedback.packets())) => {
                        self.history.handle_twcc(now, &feedback, &mut self.reports);
                        self.learn(now);
                    }
                    Ok(_) => {}
                    Err(_) => self.stats.feedback_malformed += 1,
                },
                (PathFeedback::PerStream, Packet::CongestionControl(said)) => match CongestionFeedback::parse(said) {
                    Ok(feedback) if self.allows(now, said.len() as u64 / 2) => {
                        self.history.handle_ccfb(now, &feedback, &mut self.reports);
                        self.learn(now);
                    }
                    Ok(_) => {}
                    Err(_) => self.stats.feedback_malformed += 1,
                },
                _ => {}
            }
        }
    }

    /// What it is given at most, and what it would be sent if the path carried everything.
    pub(crate) fn set_plan(&mut self, now: Instant, limit: Bitrate, wanted: Bitrate) {
        if self.limit != limit {
            self.limit = limit;
            self.bound(now);
        }
        self.wanted = wanted;
        self.controller.set_wanted(now, self.worth_probing());
        self.update(now);
    }

    /// At the start more is looked for than is wanted just now: a viewer who goes over to a larger picture is not to wait.
    fn worth_probing(&self) -> Bitrate {
        let is_start = !self.is_confirmed && self.wanted > Bitrate::ZERO;
        if is_start { self.wanted.max(DEFAULT_WANTED) } else { self.wanted }
    }

    pub(crate) fn set_bounds(&mut self, now: Instant, bounds: EstimateBounds) {
        self.bounds = bounds;
        self.bound(now);
        self.update(now);
    }

    /// Packets take this path from now on. Of another one than before nothing is known: the estimate begins anew at half of
    /// what it was, or where others begin if that is less, and what is still heard of packets that took the old one says
    /// nothing. Numbers and what waits go on. True if it is another one.
    pub(crate) fn set_path(&mut self, now: Instant, path: Path) -> bool {
        let before = self.path.map(|(path, _)| path);
        if before == Some(path) {
            return false;
        }
        self.path = Some((path, now));
        if before.is_none() {
            return false;
        }
        self.start = Bitrate::from_bps(self.controller.estimate().target.as_bps() / 2);
        self.controller = GoogleController::new(now, self.bounds());
        self.is_confirmed = false;
        self.controller.set_wanted(now, self.worth_probing());
        self.pacer.clear_probes();
        self.heard = None;
        self.highest = Bitrate::ZERO;
        self.unanswered = None;
        self.is_silent = false;
        self.update(now);
        true
    }

    /// Its report, if it is time for one, and whether that is worth telling of.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        id: TransportId,
        media: Vec<LegMedia>,
        round_trip: Option<Duration>,
    ) -> Option<(LegReport, bool)> {
        let mut estimate = self.controller.estimate();
        estimate.round_trip = estimate.round_trip.or(round_trip);
        let report = LegReport {
            id,
            estimate,
            is_confirmed: self.is_confirmed && !self.is_silent,
            sending: self.sent.rate(now),
            pacer_queue: self.pacer.queue_delay(),
            media,
        };
        self.report_due = None;
        match self.reporting.judge(now, &report) {
            Worth::Telling => Some((report, true)),
            Worth::Reading => Some((report, false)),
            Worth::Waiting(due) => {
                self.report_due = Some(due);
                None
            }
            Worth::Nothing => None,
        }
    }

    fn learn(&mut self, now: Instant) {
        self.stats.feedback_received += 1;
        if let Some((_, since)) = self.path {
            let told = self.reports.len();
            self.reports.retain(|report| report.sent.sent_at > since);
            if self.reports.is_empty() && told > 0 {
                return;
            }
        }
        self.unanswered = None;
        self.is_silent = false;
        let heard = *self.heard.get_or_insert(now);
        self.controller.handle_feedback(now, &self.reports);
        self.reports.clear();
        self.is_confirmed |= now.saturating_duration_since(heard) >= CONFIRMED_AFTER;
    }

    /// Passes on to the pacer what the controller has come to.
    fn update(&mut self, now: Instant) {
        while let Some(probe) = self.controller.poll_probe() {
            self.stats.probes += 1;
            self.pacer.add_probe(now, probe);
        }
        let estimate = self.controller.estimate();
        self.pacer.set_rates(now, estimate.pacing, estimate.padding);
        let fallen = (estimate.target.as_bps() as f64) < self.highest.as_bps() as f64 * FALLEN;
        self.highest = self.highest.max(estimate.target);
        // A limit below what is wanted is only its part of a claim that others have too: of the path it says nothing.
        let has_all = self.limit >= self.wanted && estimate.target >= self.limit;
        self.is_confirmed |= self.heard.is_some() && (fallen || has_all);
    }

    fn bound(&mut self, now: Instant) {
        let bounds = self.bounds();
        self.controller.set_bounds(now, bounds);
        // Who is given less has not met a limit of its path.
        self.highest = self.highest.min(bounds.max);
    }

    /// Those of its own estimate.
    fn bounds(&self) -> EstimateBounds {
        let EstimateBounds { min, start, max } = self.bounds;
        EstimateBounds { min, start: start.min(self.start), max: max.min(self.limit) }
    }

    fn allows(&mut self, now: Instant, statuses: u64) -> bool {
        let allowed = self.allowance.take(now, statuses);
        self.stats.feedback_refused += u64::from(!allowed);
        allowed
    }
}

/// How much feedback is looked at: each packet is told of once, and once more where it was missing, but a viewer can say as
/// much as it likes.
struct Allowance {
    statuses: u64,
    refilled: Instant,
}

/// Packets that may be told of a second: 150 Mb/s of 1,200 bytes, each told of about twice.
const STATUSES_PER_SECOND: u64 = 32_768;
/// What can pile up: all that one message can tell of.
const MAX_STATUSES: u64 = 65_536;

impl Allowance {
    const fn new(now: Instant) -> Self {
        Self { statuses: MAX_STATUSES, refilled: now }
    }

    fn take(&mut self, now: Instant, statuses: u64) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let refill = (passed.as_micros() * u128::from(STATUSES_PER_SECOND) / 1_000_000) as u64;
        if refill > 0 {
            self.statuses = self.statuses.saturating_add(refill).min(MAX_STATUSES);
            self.refilled = now;
        }
        let left = self.statuses.checked_sub(statuses);
        self.statuses = left.unwrap_or(self.statuses);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feedback_is_looked_at_as_far_as_there_can_be_something_to_say() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!(allowance.take(start, 65_535));
        assert!(!allowance.take(start, 2));
        assert!(!allowance.take(start + Duration::from_secs(1), 32_770));
        assert!(allowance.take(start + Duration::from_secs(1), 32_768));
        assert!(allowance.take(start + Duration::from_secs(3_600), 65_535));
    }
}
