use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What bounds the retransmissions of one consumer, and counts their sequence numbers.
#[derive(Debug)]
pub(crate) struct Resend {
    next_index: u64,
    /// The oldest first.
    recent: VecDeque<(u16, Instant)>,
    budget: Budget,
}

/// A packet may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resent {
    /// Its index in the retransmission stream.
    pub(crate) index: u64,
    /// False if it was sent again before, as far as that is remembered.
    pub(crate) first: bool,
}

/// Why a packet is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    JustResent,
    /// Nothing else would be sent now either.
    Exhausted,
}

/// What mediasoup assumes before the first report (`RtpStreamSend`, `DefaultRtt`).
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// Packets remembered as resent; a viewer can ask for no more than this within a round trip and get each just once.
const MAX_RECENTLY_RESENT: usize = 256;
/// How long one is remembered, to tell its first retransmission: as long as the history keeps it.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Packets looked up for one RTCP datagram, which could ask for 6,000: no more than [`MAX_RECENTLY_RESENT`] will be sent,
/// and as many again may be gone.
pub(crate) const MAX_LOOKED_UP: usize = 512;

impl Resend {
    pub(crate) fn new(initial_sequence: u16, now: Instant) -> Self {
        Self { next_index: u64::from(initial_sequence), recent: VecDeque::new(), budget: Budget::new(now) }
    }

    /// Media went out: as much may be sent again.
    pub(crate) fn add_media(&mut self, now: Instant, bytes: usize) {
        self.budget.add_media(now, bytes);
    }

    /// Whether a packet of `bytes` that went out with `sequence` may go again; then it must.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        sequence: u16,
        bytes: usize,
        round_trip: Option<Duration>,
    ) -> Result<Resent, Refusal> {
        let round_trip = round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        let age = |at: &Instant| now.saturating_duration_since(*at);
        while self.recent.front().is_some_and(|(_, at)| age(at) >= round_trip.max(REMEMBERED)) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MAX_RECENTLY_RESENT {
            if self.recent.front().is_some_and(|(_, at)| age(at) < round_trip) {
                return Err(Refusal::Exhausted);
            }
            self.recent.pop_front();
        }
        let last = self.recent.iter().rev().find(|(resent, _)| *resent == sequence);
        if last.is_some_and(|(_, at)| age(at) < round_trip) {
            return Err(Refusal::JustResent);
        }
        let first = last.is_none();
        if !self.budget.take(now, bytes) {
            return Err(Refusal::Exhausted);
        }
        self.recent.push_back((sequence, now));
        let index = self.next_index;
        self.next_index += 1;
        Ok(Resent { index, first })
    }

    /// The index of a packet that only pads, for which there is no asking twice and no budget: whoever measures bounds it.
    pub(crate) const fn pad(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    pub(crate) fn clear(&mut self) {
        self.recent.clear();
    }
}

/// Bounds what a viewer's NACKs can make us send: as many bytes as the media itself had, and a floor for thin streams.
#[derive(Debug)]
struct Budget {
    bytes: f64,
    refilled: Instant,
}

/// What a viewer can always have per second, so that a nearly still picture is repaired too.
const RESEND_FLOOR_BYTES_PER_SECOND: f64 = 12_500.0;
/// What can pile up: a lost key frame of a 5 Mb/s stream, whole.
const RESEND_MAX_BYTES: f64 = 500_000.0;

impl Budget {
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
