//! The receiving side: tells what came and when, and asks for what did not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lenscast_media::{Bitrate, Ssrc};

use super::missing::Missing;
use super::packet::{Addressed, FeedbackFormat, Rtp};
use super::report::{self, Arrival};

/// Bytes of a typical feedback message (libwebrtc, `modules/remote_bitrate_estimator/
/// transport_sequence_number_feedback_generator.cc`: 20 of IP, 8 of UDP, 10 of SRTP, 30 of RTCP).
const REPORT_BYTES: f64 = 68.0;
/// The part of the rate that feedback may take (as above, OnBitrateChanged).
const REPORT_PART: f64 = 0.05;
/// Bounds of the time between messages, and the time while no rate is known (as above, `kMinInterval`, `kMaxInterval`,
/// `kDefaultInterval`).
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_millis(250);
const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);
/// How long the received rate is measured for.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// Receives what one sender sends.
#[derive(Debug)]
pub(crate) struct Receiver {
    format: FeedbackFormat,
    start: Instant,
    arrivals: Vec<Arrival>,
    /// The first transport-wide number of the next message.
    base: Option<u16>,
    /// The first number of each stream of the next message.
    bases: BTreeMap<Ssrc, u16>,
    messages: u8,
    report_at: Option<Instant>,
    rate_since: Instant,
    rate_bytes: u64,
    rate: Option<Bitrate>,
    tracks: Vec<Missing>,
}

impl Receiver {
    pub(crate) fn new(start: Instant, tracks: usize, format: FeedbackFormat) -> Self {
        Self {
            format,
            start,
            arrivals: Vec::new(),
            base: None,
            bases: BTreeMap::new(),
            messages: 0,
            report_at: None,
            rate_since: start,
            rate_bytes: 0,
            rate: None,
            tracks: (0..tracks).map(|_| Missing::default()).collect(),
        }
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, packet: &Rtp, size: u32, marked: bool) {
        self.base.get_or_insert(packet.transport_sequence);
        self.arrivals.push(Arrival {
            transport_sequence: packet.transport_sequence,
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            at: now,
            marked,
        });
        self.report_at.get_or_insert(now + DEFAULT_INTERVAL);
        self.rate_bytes += u64::from(size);
        if let Some((track, number)) = packet.video {
            self.tracks[usize::from(track)].note_received(now, number);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.report_at.into_iter().chain(self.tracks.iter().filter_map(Missing::poll_timeout)).min()
    }

    /// What is to be sent back now: to be called until there is nothing.
    pub(crate) fn poll_message(&mut self, now: Instant) -> Option<Addressed> {
        let mut missing = Vec::new();
        let mut numbers = Vec::new();
        for (track, packets) in self.tracks.iter_mut().enumerate() {
            packets.poll_requests(now, &mut numbers);
            missing.extend(numbers.drain(..).map(|number| (track as u8, number)));
        }
        if !missing.is_empty() {
            return Some(Addressed::nack(missing));
        }
        if self.report_at.is_none_or(|at| at > now) {
            return None;
        }
        self.measure(now);
        self.report_at = Some(now + self.interval());
        self.report(now)
    }

    fn report(&mut self, now: Instant) -> Option<Addressed> {
        let last = self.arrivals.last()?;
        let base = self.base.replace(last.transport_sequence.wrapping_add(1))?;
        let fci = match self.format {
            FeedbackFormat::TransportWide => report::transport_wide(self.start, base, self.messages, &self.arrivals),
            FeedbackFormat::Rfc8888 => report::rfc8888(self.start, now, &mut self.bases, &self.arrivals),
        };
        self.messages = self.messages.wrapping_add(1);
        self.arrivals.clear();
        Some(Addressed::feedback(fci))
    }

    fn measure(&mut self, now: Instant) {
        let span = now - self.rate_since;
        if span >= RATE_WINDOW {
            self.rate = Some(Bitrate::from_bps((self.rate_bytes as f64 * 8.0 / span.as_secs_f64()) as u64));
            (self.rate_since, self.rate_bytes) = (now, 0);
        }
    }

    /// libwebrtc takes the rate of the receiver's own estimate for its way back; one that sends nothing has none, so here it is
    /// the rate that comes.
    fn interval(&self) -> Duration {
        let Some(rate) = self.rate else { return DEFAULT_INTERVAL };
        let allowed = rate.as_bps() as f64 * REPORT_PART;
        let seconds = (REPORT_BYTES * 8.0 / allowed).min(MAX_INTERVAL.as_secs_f64());
        Duration::from_secs_f64(seconds).max(MIN_INTERVAL)
    }
}
