//! The same media over str0m's peers: the sources of [`Sources`], with str0m's estimate in place of a controller's.
//!
//! str0m's estimate counts payloads, repair and padding included, but no headers; so nothing is set aside of it but what
//! audio takes and, as for the other controllers, the part that is sent again.

use std::time::Instant;

use lenscast_congestion::{Budget, EstimateBounds, Overhead, PacketKind};
use lenscast_media::Bitrate;

use super::packet::{Addressed, Message, cut};
use super::repair_share::RepairShare;
use super::sources::{AUDIO, Sources};
use crate::case::SenderPlan;
use crate::controllers::str0m::{self, ReceivingPeer, SendingPeer};
use crate::record::TrackRecord;

/// Sends one sender's media to one receiver, through str0m.
pub(crate) struct PeerSender {
    start: Instant,
    peer: SendingPeer,
    sources: Sources,
    repair: RepairShare,
    /// What the sources were last set by.
    followed: Option<Budget>,
}

impl PeerSender {
    /// The sender and its receiver. `epoch` is when the case began, `now` when the sender begins.
    pub(crate) fn pair(
        epoch: Instant,
        now: Instant,
        plan: &SenderPlan,
        bounds: EstimateBounds,
        seed: u64,
    ) -> (Self, ReceivingPeer) {
        let (peer, receiver) = str0m::connect(now, seed, bounds, plan.tracks.len() as u8, plan.audio);
        let sources = Sources::new(epoch, plan, seed);
        (Self { start: epoch, peer, sources, repair: RepairShare::new(now), followed: None }, receiver)
    }

    /// What a track's source is to make.
    pub(crate) fn share(&self, track: usize) -> Bitrate {
        self.sources.share(track)
    }

    pub(crate) fn handle_message(&mut self, now: Instant, message: &Message) {
        if let Message::Datagram(datagram) = message {
            self.peer.handle_datagram(now, datagram);
            self.follow(now);
        }
    }

    /// Time has come: sources make frames, tracks begin and end, str0m does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, records: &mut [TrackRecord]) {
        if self.sources.handle_changes(now) {
            let videos: u64 = self.sources.wanted().map(Bitrate::as_bps).sum();
            let audio = if videos > 0 { self.audio_rate().as_bps() } else { 0 };
            self.peer.set_wanted(now, Bitrate::from_bps(videos + audio));
            self.followed = None;
        }
        self.peer.handle_timeout(now);
        self.follow(now);
        let at = now - self.start;
        while let Some((track, bytes)) = self.sources.poll_video(now) {
            let record = &mut records[usize::from(track)];
            let mut payloads = cut(bytes).peekable();
            while let Some(payload) = payloads.next() {
                let number = record.note_made(at, payload);
                let pushed = self.peer.push_video(now, track, payload, payloads.peek().is_none());
                debug_assert_eq!(number, pushed, "the record and the peer count alike");
            }
        }
        while let Some(bytes) = self.sources.poll_audio(now) {
            self.peer.push_audio(now, bytes);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sources.poll_timeout().into_iter().chain([self.peer.poll_timeout()]).min()
    }

    /// A packet that leaves now.
    pub(crate) fn poll_packet(&mut self, now: Instant, records: &mut [TrackRecord]) -> Option<Addressed> {
        let datagram = self.peer.poll_datagram()?;
        let track = datagram.media.map_or(0, |part| part.track);
        match (datagram.kind, datagram.media) {
            (Some(PacketKind::Video), Some(part)) => self.repair.note_media(part.payload),
            (Some(PacketKind::Retransmission), Some(part)) => self.repair.note_again(part.payload),
            _ => {}
        }
        records[usize::from(track)].note_sent(now - self.start, datagram.size);
        Some(Addressed { size: datagram.size, message: Message::Datagram(datagram) })
    }

    /// Sets the sources by the estimate.
    fn follow(&mut self, now: Instant) {
        let overhead = Overhead {
            packet_bytes: 0,
            payload_bytes: 0,
            retransmission: self.repair.share(now),
            fec: 0.0,
            audio: false,
        };
        let video = self.peer.target().as_bps().saturating_sub(self.audio_rate().as_bps());
        let budget = Budget { total: Bitrate::from_bps(video), overhead };
        if self.followed.replace(budget) != Some(budget) {
            self.sources.divide(now, &budget);
        }
    }

    fn audio_rate(&self) -> Bitrate {
        if self.sources.has_audio() { AUDIO } else { Bitrate::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Controller, Outcome, SAMPLE, cases, run};

    fn run_case(name: &str, seed: u64) -> Outcome {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).expect("the case is there");
        run(case, Controller::Str0m, seed)
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        // With several videos too: hash maps have another order in each run.
        for name in ["5.1", "6.1", "6.1", "6.1"] {
            let (once, again) = (run_case(name, 3), run_case(name, 3));
            assert!(once == again, "{name}: {:?}\n{:?}", once.metrics, again.metrics);
        }
        assert!(run_case("5.1", 3) != run_case("5.1", 4));
    }

    /// Several videos of one sender, each with a record of its own and its weight.
    #[test]
    fn videos_are_told_apart() {
        let outcome = run_case("6.1", 1);
        // All three send from 40 to 119 s.
        let together = (45.0 / SAMPLE.as_secs_f64()) as usize..(115.0 / SAMPLE.as_secs_f64()) as usize;
        let goodput = |flow: usize| {
            let rates = &outcome.flows[flow].goodput[together.clone()];
            rates.iter().map(|rate| rate.as_bps()).sum::<u64>() as f64
        };
        assert_eq!(outcome.flows.len(), 3);
        let ratio = goodput(0) / goodput(1);
        assert!((1.5..2.5).contains(&ratio), "{ratio}");
        let ratio = goodput(1) / goodput(2);
        assert!((0.8..1.25).contains(&ratio), "{ratio}");
    }

    /// What is lost by chance is sent again, and found again in the record.
    #[test]
    fn loss_is_repaired() {
        let metrics = run_case("loss-5", 1).metrics;
        assert!((0.04..0.08).contains(&metrics.lost), "{}", metrics.lost);
        assert!(metrics.lost_after_repair < 0.01, "{}", metrics.lost_after_repair);
    }
}
