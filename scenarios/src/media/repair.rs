//! A sender's memory of what it sent lately, for those who ask for it again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is older than this is not sent again: the receiver does not wait for it any more.
const MAX_AGE: Duration = Duration::from_secs(1);
/// How often a packet is sent again at most (libwebrtc, `modules/video_coding/nack_requester.cc`, `kMaxNackRetries`).
const MAX_RETRANSMISSIONS: u8 = 10;
/// Packets at most: a second at 40 Mb/s.
const CAPACITY: usize = 4_096;

/// A track's packets, by their numbers.
#[derive(Debug, Default)]
pub(super) struct SentPackets {
    packets: VecDeque<Sent>,
    /// The number of the first.
    base: u64,
}

#[derive(Debug)]
struct Sent {
    payload: u32,
    /// For the first time.
    at: Instant,
    last_at: Instant,
    again: u8,
    /// It is in the pacer's queue to be sent again.
    queued: bool,
}

impl SentPackets {
    /// A number above all before has been sent first. What lies between never was: it counts as too old.
    pub(super) fn note_sent(&mut self, now: Instant, number: u64, payload: u32) {
        if self.base + self.packets.len() as u64 != number {
            self.packets.clear();
            self.base = number;
        }
        if self.packets.len() == CAPACITY {
            self.packets.pop_front();
            self.base += 1;
        }
        self.packets.push_back(Sent { payload, at: now, last_at: now, again: 0, queued: false });
    }

    pub(super) fn note_sent_again(&mut self, now: Instant, number: u64) {
        if let Some(packet) = self.packet(number) {
            packet.queued = false;
            packet.last_at = now;
            packet.again = packet.again.saturating_add(1);
        }
    }

    /// The payload of a packet that is asked for, if it is to be sent again: not if it was, so lately that the answer may be
    /// under way (libwebrtc, `modules/rtp_rtcp/source/rtp_packet_history.cc`).
    pub(super) fn take_request(&mut self, now: Instant, number: u64, round_trip: Duration) -> Option<u32> {
        let packet = self.packet(number)?;
        let is_under_way = packet.again > 0 && now < packet.last_at + round_trip;
        if packet.queued || is_under_way || packet.again >= MAX_RETRANSMISSIONS || now > packet.at + MAX_AGE {
            return None;
        }
        packet.queued = true;
        Some(packet.payload)
    }

    /// The newest packet: its number and payload.
    pub(super) fn newest(&self) -> Option<(u64, u32)> {
        let packet = self.packets.back()?;
        Some((self.base + self.packets.len() as u64 - 1, packet.payload))
    }

    fn packet(&mut self, number: u64) -> Option<&mut Sent> {
        self.packets.get_mut(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }
}
