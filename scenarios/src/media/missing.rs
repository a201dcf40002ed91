//! What a receiver misses of a track, and when it asks for it: after libwebrtc's `modules/video_coding/nack_requester.cc`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A packet is asked for so often at most (`kMaxNackRetries`).
const MAX_REQUESTS: u8 = 10;
/// Packets that are asked for at once at most (`kMaxNackPackets`); beyond it the oldest are given up.
const CAPACITY: usize = 1_000;
/// How long an answer is waited for: what the requester takes for the round trip until somebody tells it, and a receiver
/// that sends nothing is never told (`kDefaultRtt`).
const PATIENCE: Duration = Duration::from_millis(100);
/// A packet that was found missing so long ago is given up: it could not be shown any more.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The missing packets of one track.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// The number after the highest that came.
    next: u64,
    packets: BTreeMap<u64, Request>,
}

#[derive(Debug)]
struct Request {
    since: Instant,
    requests: u8,
    ask_at: Instant,
}

impl Missing {
    /// A packet has come. It may be one that was missing.
    pub(super) fn note_received(&mut self, now: Instant, number: u64) {
        if number < self.next {
            self.packets.remove(&number);
            return;
        }
        let first = self.next.max(number.saturating_sub(CAPACITY as u64));
        for missing in first..number {
            self.packets.insert(missing, Request { since: now, requests: 0, ask_at: now });
        }
        self.next = number + 1;
        while self.packets.len() > CAPACITY {
            self.packets.pop_first();
        }
    }

    /// When something is to be asked for.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.packets.values().map(|request| request.ask_at).min()
    }

    /// Takes down what is to be asked for now.
    pub(super) fn poll_requests(&mut self, now: Instant, numbers: &mut Vec<u64>) {
        self.packets.retain(|_, request| request.requests < MAX_REQUESTS && now <= request.since + MAX_AGE);
        for (number, request) in self.packets.iter_mut().filter(|(_, request)| request.ask_at <= now) {
            request.requests += 1;
            request.ask_at = now + PATIENCE;
            numbers.push(*number);
        }
    }
}
