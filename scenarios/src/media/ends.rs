//! A sender and its receiver, whichever they are: ours with a controller behind the trait, or whole peers of str0m.

use std::time::Instant;

use lenscast_congestion::EstimateBounds;
use lenscast_media::Bitrate;

use super::packet::{Addressed, FeedbackFormat, Message};
use super::peers::PeerSender;
use super::receiver::Receiver;
use super::sender::{Checks, Sender};
use crate::case::SenderPlan;
use crate::controllers::str0m::ReceivingPeer;
use crate::controllers::{self, Controller};
use crate::record::TrackRecord;

/// What the controller is never to go below: some audio and little video.
const MIN_ESTIMATE: Bitrate = Bitrate::from_kbps(50);
/// What it is never to go beyond: no case has more.
const MAX_ESTIMATE: Bitrate = Bitrate::from_kbps(50_000);

/// Both ends of a path, from when the sender begins.
pub(crate) enum Ends {
    Ours(Box<Sender>, Receiver),
    Str0m(Box<PeerSender>, Box<ReceivingPeer>),
}

impl Ends {
    /// `epoch` is when the case began, `now` when the sender begins.
    pub(crate) fn new(
        epoch: Instant,
        now: Instant,
        plan: &SenderPlan,
        controller: Controller,
        format: FeedbackFormat,
        seed: u64,
    ) -> Self {
        let bounds = EstimateBounds { min: MIN_ESTIMATE, start: plan.start, max: MAX_ESTIMATE };
        match controllers::build(controller, now, bounds) {
            Some(controller) => {
                let sender = Sender::new(epoch, now, plan, controller, bounds, format, seed);
                Self::Ours(Box::new(sender), Receiver::new(epoch, plan.tracks.len(), format))
            }
            None => {
                let (sender, receiver) = PeerSender::pair(epoch, now, plan, bounds, seed);
                Self::Str0m(Box::new(sender), Box::new(receiver))
            }
        }
    }

    /// What was watched in the sender.
    pub(crate) fn checks(&self) -> Checks {
        match self {
            Self::Ours(sender, _) => sender.checks(),
            Self::Str0m(..) => Checks::default(),
        }
    }

    /// What a track's source is to make.
    pub(crate) fn share(&self, track: usize) -> Bitrate {
        match self {
            Self::Ours(sender, _) => sender.share(track),
            Self::Str0m(sender, _) => sender.share(track),
        }
    }

    /// A message of the sender's has come to the receiver.
    pub(crate) fn handle_forward(&mut self, now: Instant, message: &Message, size: u32, marked: bool) {
        match (self, message) {
            (Self::Ours(_, receiver), Message::Rtp(rtp)) => receiver.handle_packet(now, rtp, size, marked),
            (Self::Str0m(_, receiver), Message::Datagram(datagram)) => receiver.handle_datagram(now, datagram),
            _ => {}
        }
    }

    /// A message of the receiver's has come to the sender.
    pub(crate) fn handle_back(&mut self, now: Instant, message: &Message) {
        match (self, message) {
            (Self::Ours(sender, _), Message::Feedback(fci)) => sender.handle_feedback(now, fci),
            (Self::Ours(sender, _), Message::Nack(numbers)) => sender.handle_nack(now, numbers),
            (Self::Str0m(sender, _), message) => sender.handle_message(now, message),
            _ => {}
        }
    }

    /// Time has come to [`poll_timeout`](Self::poll_timeout). What is made is written down in `records`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, records: &mut [TrackRecord]) {
        match self {
            Self::Ours(sender, _) => {
                if sender.poll_timeout().is_some_and(|at| at <= now) {
                    sender.handle_timeout(now, records);
                }
            }
            Self::Str0m(sender, receiver) => {
                if sender.poll_timeout().is_some_and(|at| at <= now) {
                    sender.handle_timeout(now, records);
                }
                receiver.handle_timeout(now);
            }
        }
    }

    /// A packet that leaves the sender now.
    pub(crate) fn poll_forward(&mut self, now: Instant, records: &mut [TrackRecord]) -> Option<Addressed> {
        match self {
            Self::Ours(sender, _) => sender.poll_packet(now, records),
            Self::Str0m(sender, _) => sender.poll_packet(now, records),
        }
    }

    /// A message that leaves the receiver now.
    pub(crate) fn poll_back(&mut self, now: Instant) -> Option<Addressed> {
        match self {
            Self::Ours(_, receiver) => {
                receiver.poll_timeout().filter(|at| *at <= now).and_then(|_| receiver.poll_message(now))
            }
            Self::Str0m(_, receiver) => {
                let datagram = receiver.poll_datagram()?;
                Some(Addressed { size: datagram.size, message: Message::Datagram(datagram) })
            }
        }
    }

    /// When something of the two is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (sender, receiver) = match self {
            Self::Ours(sender, receiver) => (sender.poll_timeout(), receiver.poll_timeout()),
            Self::Str0m(sender, receiver) => (sender.poll_timeout(), Some(receiver.poll_timeout())),
        };
        sender.into_iter().chain(receiver).min()
    }
}
