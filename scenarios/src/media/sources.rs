//! What a sender has to send: videos that begin and end by plan, whose rates the allocator sets, and audio beside them.

use std::time::Instant;

use lenscast_congestion::{Allocation, Allocator, Budget, Demand, Layers};
use lenscast_media::{Bitrate, TrackId};
use lenscast_simnet::audio;
use lenscast_simnet::video::{VideoConfig, VideoSource};

use crate::case::{SenderPlan, TrackPlan};

/// RFC 8867, section 4.3.
pub(super) const AUDIO: Bitrate = Bitrate::from_kbps(20);
/// Frames per second of every video.
pub(super) const FRAMERATE: f64 = 30.0;

/// The sources of one sender.
pub(super) struct Sources {
    start: Instant,
    tracks: Vec<Track>,
    has_audio: bool,
    audio: Option<audio::Source>,
    /// When tracks begin or end, the next at the end.
    changes: Vec<Instant>,
    allocator: Allocator,
    allocation: Allocation,
    demands: Vec<Demand>,
}

struct Track {
    plan: TrackPlan,
    source: VideoSource,
    active: bool,
}

impl Sources {
    /// `epoch` is when the case began.
    pub(super) fn new(epoch: Instant, plan: &SenderPlan, seed: u64) -> Self {
        let track = |(index, plan): (usize, &TrackPlan)| {
            let config = VideoConfig { min: plan.min, max: plan.max, frame_rate: FRAMERATE, ..VideoConfig::default() };
            let source = VideoSource::new(seed.wrapping_add(index as u64), config);
            Track { plan: plan.clone(), source, active: false }
        };
        let stretches = plan.tracks.iter().flat_map(|track| &track.active);
        let mut changes: Vec<Instant> = stretches.flat_map(|(from, to)| [epoch + *from, epoch + *to]).collect();
        changes.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            start: epoch,
            tracks: plan.tracks.iter().enumerate().map(track).collect(),
            has_audio: plan.audio,
            audio: None,
            changes,
            allocator: Allocator::new(),
            allocation: Allocation::default(),
            demands: Vec::new(),
        }
    }

    /// What a video is to make.
    pub(super) fn share(&self, track: usize) -> Bitrate {
        self.allocation.shares().get(track).map_or(Bitrate::ZERO, |share| share.target)
    }

    /// A video sends.
    pub(super) fn is_active(&self, track: usize) -> bool {
        self.tracks[track].active
    }

    /// Audio belongs to this sender, whether or not it sends now.
    pub(super) fn has_audio(&self) -> bool {
        self.has_audio
    }

    /// What the videos that send now would make at most, each.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Bitrate> {
        self.tracks.iter().filter(|track| track.active).map(|track| track.plan.max)
    }

    /// Lets tracks begin and end whose time has come. True if any did.
    pub(super) fn handle_changes(&mut self, now: Instant) -> bool {
        let due = self.changes.iter().rev().take_while(|at| **at <= now).count();
        if due == 0 {
            return false;
        }
        self.changes.truncate(self.changes.len() - due);
        let at = now - self.start;
        for track in &mut self.tracks {
            track.active = track.plan.is_active(at);
        }
        if !self.tracks.iter().any(|track| track.active) {
            self.audio = None;
        } else if self.has_audio && self.audio.is_none() {
            self.audio = Some(audio::Source::new(now, AUDIO, audio::Source::USUAL_INTERVAL));
        }
        true
    }

    /// Divides a budget among the videos.
    pub(super) fn divide(&mut self, now: Instant, budget: &Budget) {
        self.demands.clear();
        self.demands.extend(self.tracks.iter().enumerate().map(|(index, track)| Demand {
            track: TrackId(index as _),
            weight: track.plan.priority,
            min: track.plan.min,
            max: track.plan.max,
            active: track.active,
            // The RFC's sources cannot make less.
            enforced: true,
            framerate: FRAMERATE,
            layers: Layers::one(),
        }));
        self.allocator.update(budget, &self.demands, &mut self.allocation);
        for (track, share) in self.tracks.iter_mut().zip(self.allocation.shares()) {
            track.source.set_target(now, share.target);
        }
    }

    /// A frame that is there: of which video, and its bytes.
    pub(super) fn poll_video(&mut self, now: Instant) -> Option<(u8, u32)> {
        let tracks = self.tracks.iter_mut().enumerate();
        tracks.filter_map(|(index, track)| Some((index as u8, track.source.poll_frame(now)?.bytes))).next()
    }

    /// Bytes of audio that are there.
    pub(super) fn poll_audio(&mut self, now: Instant) -> Option<u32> {
        Some(self.audio.as_mut()?.poll_frame(now)?.bytes)
    }

    /// When something of it is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let videos = self.tracks.iter().filter_map(|track| track.source.poll_timeout());
        let audio = self.audio.as_ref().and_then(audio::Source::poll_timeout);
        videos.chain(audio).chain(self.changes.last().copied()).min()
    }
}
