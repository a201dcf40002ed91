//! The sending side.

use std::time::Instant;

use super::round_trip::RoundTrip;
use super::scoreboard::Scoreboard;
use super::window::{Congestion, Window};
use super::workload::{Progress, Workload};
use super::{Ack, PAYLOAD_BYTES, Segment};

/// Sends what its workload asks for as fast as its window lets it.
///
/// Order of calls: [`handle_ack`](Self::handle_ack) as they come, [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout); after each, [`poll_segment`](Self::poll_segment) until there is none.
///
/// **Invariant.** What is under way never exceeds the window by what is new; an acknowledgement of what was never sent changes nothing.
#[derive(Debug)]
pub struct Sender {
    rule: Congestion,
    window: Window,
    round_trip: RoundTrip,
    scoreboard: Scoreboard,
    progress: Progress,
    phase: Phase,
    timer: Option<Instant>,
    is_stopped: bool,
    retransmissions: u64,
    timeouts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is missing.
    Open,
    /// Recovering from a loss until all before this number have arrived; the window stays.
    Recovery(u64),
    /// Recovering from a timeout until then; the window grows from one.
    Timeout(u64),
}

impl Sender {
    /// A sender that begins at `start`.
    #[must_use]
    pub fn new(start: Instant, rule: Congestion, workload: Workload) -> Self {
        Self {
            rule,
            window: Window::new(rule),
            round_trip: RoundTrip::new(),
            scoreboard: Scoreboard::default(),
            progress: Progress::new(start, workload),
            phase: Phase::Open,
            timer: None,
            is_stopped: false,
            retransmissions: 0,
            timeouts: 0,
        }
    }

    /// The congestion window, in segments.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window.segments()
    }

    /// Bytes that have arrived in order, headers not counted.
    #[must_use]
    pub fn arrived_bytes(&self) -> u64 {
        self.scoreboard.arrived() * u64::from(PAYLOAD_BYTES)
    }

    /// Downloads that have been finished.
    #[must_use]
    pub fn downloads(&self) -> u64 {
        self.progress.finished
    }

    /// Segments that were sent again.
    #[must_use]
    pub fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    /// How often the timer has expired.
    #[must_use]
    pub fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// An acknowledgement has come.
    pub fn handle_ack(&mut self, now: Instant, ack: &Ack) {
        if self.scoreboard.outstanding() == 0 {
            return;
        }
        let in_flight = self.scoreboard.outstanding();
        let news = self.scoreboard.advance(ack.next);
        for block in ack.blocks.iter().flatten() {
            self.scoreboard.note(*block);
        }
        self.scoreboard.find_lost(ack.echo);
        if news > 0 {
            self.round_trip.handle_sample(now.saturating_duration_since(ack.echo));
            self.handle_progress(now, news);
        }
        if self.phase == Phase::Open && self.scoreboard.has_lost() {
            self.window.handle_loss(in_flight);
            self.phase = Phase::Recovery(self.scoreboard.next());
        }
        self.progress.handle_arrived(now, self.scoreboard.arrived());
    }

    /// Time has come to [`poll_timeout`](Self::poll_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_none_or(|at| at > now) {
            return;
        }
        self.timeouts += 1;
        let is_repeated = matches!(self.phase, Phase::Timeout(_));
        self.window.handle_timeout(self.scoreboard.outstanding(), is_repeated);
        self.round_trip.handle_expiry();
        self.scoreboard.lose_all();
        self.phase = Phase::Timeout(self.scoreboard.next());
        self.timer = now.checked_add(self.round_trip.timeout());
    }

    /// No more is sent from now on, and nothing is waited for.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// When something is to be done if no acknowledgement comes before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_stopped {
            return None;
        }
        [self.timer, self.progress.resumes_at].into_iter().flatten().min()
    }

    /// A segment, if one may leave now.
    #[must_use]
    pub fn poll_segment(&mut self, now: Instant) -> Option<Segment> {
        if self.is_stopped {
            return None;
        }
        if self.progress.resume(now) {
            self.window = Window::new(self.rule);
            self.round_trip = RoundTrip::new();
            self.phase = Phase::Open;
        }
        if self.scoreboard.under_way() >= self.window.segments() {
            return None;
        }
        let number = match self.scoreboard.send_again(now) {
            Some(number) => {
                self.retransmissions += 1;
                number
            }
            None if self.scoreboard.next() < self.progress.available => self.scoreboard.send_new(now),
            None => return None,
        };
        // RFC 6298, rule 5.1.
        if self.timer.is_none() {
            self.timer = now.checked_add(self.round_trip.timeout());
        }
        Some(Segment { number, sent_at: now })
    }

    /// So many more have arrived in order.
    fn handle_progress(&mut self, now: Instant, news: u64) {
        // RFC 6298, rules 5.2 and 5.3.
        let is_waiting = self.scoreboard.outstanding() > 0;
        self.timer = if is_waiting { now.checked_add(self.round_trip.timeout()) } else { None };
        if let Phase::Recovery(until) | Phase::Timeout(until) = self.phase
            && self.scoreboard.arrived() >= until
        {
            self.phase = Phase::Open;
        }
        if !matches!(self.phase, Phase::Recovery(_)) {
            self.window.handle_acked(now, news, self.round_trip.smoothed().unwrap_or_default());
        }
    }
}
