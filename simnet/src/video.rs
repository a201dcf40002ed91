//! Video of no content: frames of the sizes and at the times that a live encoder would make them.
//!
//! The statistical model of RFC 8593, section 5. In steady state a frame's size and its distance to the next vary around what the
//! target and the frame rate ask for, by a Laplace distribution each. After an abrupt change the encoder is in transition for
//! K_d frames: the first is a key frame of K_B bytes, those after it are so much smaller that all together hold to the target.
//! A target is taken up at most every τ; of those that come in between, the last counts.
//!
//! What the RFC leaves open and its authors' implementation (github.com/cisco/syncodecs, `StatisticsCodec`) settles: a change is abrupt if
//! it is by more than half, and a frame in transition is never smaller than a fifth of what the target asks for. So at low
//! targets a transition takes more than the target, as a real key frame would.
//!
//! What differs from the RFC: deviations are cut at 90 %, on both sides, so that the mean stays.

use std::time::{Duration, Instant};

use lenscast_media::Bitrate;

use crate::random::Random;

/// Deviations beyond this are cut: e^(-0.9 / 0.15), one in 400.
const CUT: f64 = 0.9;

/// The smallest frame in transition, as a part of what the target asks for (syncodecs, `StatisticsCodec::nextPacketOrFrame`).
const SMALLEST: f64 = 0.2;

/// An encoder's manners, by the names of RFC 8593, section 5.4, with its values as the default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoConfig {
    /// Frames a second: 30.
    pub frame_rate: f64,
    /// R_min: 150 kb/s. A target below is taken for it, but for none at all.
    pub min: Bitrate,
    /// R_max: 1.5 Mb/s.
    pub max: Bitrate,
    /// τ_v: 0.2 s from one change of the target to the next.
    pub reaction: Duration,
    /// K_d: 8 frames in transition.
    pub transition_frames: u32,
    /// K_B: 13.5 kB for the key frame that begins a transition.
    pub key_frame_bytes: u32,
    /// SCALE_t: 0.15 for the distance of two frames.
    pub interval_scale: f64,
    /// SCALE_B: 0.15 for the size of a frame.
    pub size_scale: f64,
    /// By what part a target must change for a transition: 0.5 (syncodecs, `m_bigChangeRatio`).
    pub abrupt: f64,
}

impl Default for VideoConfig {
    fn default() -> Self {
        Self {
            frame_rate: 30.0,
            min: Bitrate::from_kbps(150),
            max: Bitrate::from_kbps(1_500),
            reaction: Duration::from_millis(200),
            transition_frames: 8,
            key_frame_bytes: 13_500,
            interval_scale: 0.15,
            size_scale: 0.15,
            abrupt: 0.5,
        }
    }
}

/// A frame that the encoder has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// When it was due.
    pub at: Instant,
    /// What it holds, without any headers; at least one.
    pub bytes: u32,
    /// Whether it can be decoded without those before it.
    pub key: bool,
}

/// An encoder by that model. It starts with the first target, and stands still while the target is [`Bitrate::ZERO`].
///
/// Order of calls: [`set_target`](Self::set_target) at will; at [`poll_timeout`](Self::poll_timeout)
/// [`poll_frame`](Self::poll_frame) until there is none.
#[derive(Debug, Clone)]
pub struct VideoSource {
    config: VideoConfig,
    random: Random,
    target: Bitrate,
    /// What was asked for last.
    wanted: Bitrate,
    changed_at: Option<Instant>,
    next_at: Option<Instant>,
    /// Frames that are left of the transition.
    transition: u32,
    is_key_wanted: bool,
}

impl VideoSource {
    /// A source that waits for its first target.
    #[must_use]
    pub fn new(seed: u64, config: VideoConfig) -> Self {
        Self {
            config: VideoConfig { frame_rate: config.frame_rate.clamp(0.1, 1_000.0), ..config },
            random: Random::new(seed),
            target: Bitrate::ZERO,
            wanted: Bitrate::ZERO,
            changed_at: None,
            next_at: None,
            transition: 0,
            is_key_wanted: false,
        }
    }

    /// The target that frames are made for now.
    #[must_use]
    pub fn target(&self) -> Bitrate {
        self.target
    }

    /// How much is to be made from now on, without headers; [`Bitrate::ZERO`] makes it pause.
    pub fn set_target(&mut self, now: Instant, target: Bitrate) {
        self.wanted = match target {
            Bitrate::ZERO => target,
            target => target.min(self.config.max).max(self.config.min),
        };
        if self.wanted == Bitrate::ZERO {
            self.target = Bitrate::ZERO;
            self.next_at = None;
        } else if self.next_at.is_none() {
            self.next_at = Some(now);
            self.target = self.wanted;
            self.changed_at = Some(now);
            self.transition = self.config.transition_frames;
        }
    }

    /// The next frame is to be a key frame.
    pub fn request_key_frame(&mut self) {
        self.is_key_wanted = true;
    }

    /// When the next frame is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_at
    }

    /// A frame, if one is due by now.
    #[must_use]
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        let at = self.next_at.filter(|at| *at <= now)?;
        self.take_up(at);
        let steady = self.target.as_bps() as f64 / 8.0 / self.config.frame_rate;
        let length = self.config.transition_frames;
        let key = length > 0 && self.transition == length;
        let mut interval = 1.0 / self.config.frame_rate;
        let bytes = if key {
            f64::from(self.config.key_frame_bytes)
        } else if self.transition > 0 {
            // What the key frame has left of the whole transition's bytes, divided among the others.
            let rest = steady * f64::from(length) - f64::from(self.config.key_frame_bytes);
            (rest / f64::from(length - 1)).max(steady * SMALLEST)
        } else {
            interval *= 1.0 + self.deviation(self.config.interval_scale);
            steady * (1.0 + self.deviation(self.config.size_scale))
        };
        self.transition = self.transition.saturating_sub(1);
        // Only manners that are no numbers have no next frame.
        self.next_at = Duration::try_from_secs_f64(interval).ok().and_then(|interval| at.checked_add(interval));
        Some(Frame { at, bytes: (bytes as u32).max(1), key })
    }

    /// Turns to the newest target if the last has been in force long enough.
    fn take_up(&mut self, at: Instant) {
        if std::mem::take(&mut self.is_key_wanted) {
            self.transition = self.config.transition_frames;
        }
        let is_due =
            self.changed_at.is_none_or(|changed| at.saturating_duration_since(changed) >= self.config.reaction);
        if self.wanted == self.target || !is_due {
            return;
        }
        let change = self.wanted.as_bps().abs_diff(self.target.as_bps()) as f64 / self.target.as_bps().max(1) as f64;
        if change > self.config.abrupt {
            self.transition = self.config.transition_frames;
        }
        self.target = self.wanted;
        self.changed_at = Some(at);
    }

    fn deviation(&mut self, scale: f64) -> f64 {
        self.random.laplace(scale).clamp(-CUT, CUT)
    }
}

#[cfg(test)]
// The one instant that everything is counted from.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn kbps(kbps: u64) -> Bitrate {
        Bitrate::from_kbps(kbps)
    }

    fn frames_until(source: &mut VideoSource, end: Instant) -> Vec<Frame> {
        std::iter::from_fn(|| source.poll_frame(end)).collect()
    }

    fn rate(frames: &[Frame], seconds: f64) -> f64 {
        frames.iter().map(|frame| f64::from(frame.bytes)).sum::<f64>() * 8.0 / seconds / 1_000.0
    }

    #[test]
    fn keeps_to_its_target_in_steady_state() {
        let start = Instant::now();
        for target in [150, 800, 1_500] {
            let mut source = VideoSource::new(5, VideoConfig::default());
            source.set_target(start, kbps(target));
            frames_until(&mut source, start + Duration::from_secs(2));
            let frames = frames_until(&mut source, start + Duration::from_secs(602));
            let rate = rate(&frames, 600.0);
            assert!((rate / target as f64 - 1.0).abs() < 0.01, "{rate} of {target}");
            assert!((frames.len() as f64 / 18_000.0 - 1.0).abs() < 0.01, "{}", frames.len());
            assert!(frames.iter().all(|frame| !frame.key));
            let mean = target as f64 * 1_000.0 / 8.0 / 30.0;
            let variance = frames.iter().map(|frame| (f64::from(frame.bytes) / mean - 1.0).powi(2)).sum::<f64>();
            let deviation = (variance / frames.len() as f64).sqrt();
            // A Laplace distribution's deviation is √2 of its scale.
            assert!((deviation - 0.212).abs() < 0.01, "{deviation}");
        }
    }

    #[test]
    fn begins_with_a_key_frame_and_makes_up_for_it() {
        let start = Instant::now();
        let mut source = VideoSource::new(1, VideoConfig::default());
        assert_eq!(source.poll_timeout(), None);
        source.set_target(start, kbps(1_000));
        let frames = frames_until(&mut source, start + Duration::from_millis(240));
        assert_eq!(frames.len(), 8);
        assert!(frames[0].key && frames[0].bytes == 13_500 && frames[1..].iter().all(|frame| !frame.key));
        // 8 frames of 4,166 bytes less 13,500 are 7 times 2,833.
        assert_eq!(frames[1].bytes, 2_833);
        let total: u32 = frames.iter().map(|frame| frame.bytes).sum();
        assert!(total.abs_diff(8 * 4_166) < 16, "{total}");
    }

    #[test]
    fn reacts_in_its_own_time_to_the_newest_target() {
        let start = Instant::now();
        let mut source = VideoSource::new(1, VideoConfig::default());
        source.set_target(start, kbps(1_000));
        frames_until(&mut source, start + Duration::from_millis(50));
        source.set_target(start + Duration::from_millis(50), kbps(400));
        source.set_target(start + Duration::from_millis(60), kbps(900));
        frames_until(&mut source, start + Duration::from_millis(190));
        assert_eq!(source.target(), kbps(1_000));
        frames_until(&mut source, start + Duration::from_millis(240));
        assert_eq!(source.target(), kbps(900));
    }

    #[test]
    fn an_abrupt_change_brings_a_key_frame_a_small_one_does_not() {
        let start = Instant::now();
        let mut source = VideoSource::new(1, VideoConfig::default());
        source.set_target(start, kbps(400));
        frames_until(&mut source, start + Duration::from_secs(1));
        for (second, target, keys) in [(1, 590, 0), (2, 1_200, 1), (3, 1_199, 0), (4, 500, 1), (5, 0, 0), (6, 500, 1)] {
            source.set_target(start + Duration::from_secs(second), kbps(target));
            let frames = frames_until(&mut source, start + Duration::from_secs(second + 1));
            assert_eq!(frames.iter().filter(|frame| frame.key).count(), keys, "{target}");
            assert_eq!(frames.is_empty(), target == 0);
        }
        source.request_key_frame();
        assert!(source.poll_frame(start + Duration::from_secs(8)).unwrap().key);
    }

    #[test]
    fn bounds_its_target() {
        let start = Instant::now();
        let mut source = VideoSource::new(1, VideoConfig::default());
        source.set_target(start, kbps(1));
        assert_eq!(source.target(), kbps(150));
        source.set_target(start, Bitrate::UNLIMITED);
        frames_until(&mut source, start + Duration::from_secs(1));
        assert_eq!(source.target(), kbps(1_500));
    }

    #[test]
    fn odd_manners_do_no_harm() {
        let start = Instant::now();
        for (frame_rate, transition_frames) in [(0.0, 0), (f64::INFINITY, 1), (-1.0, 2), (f64::NAN, 3)] {
            let config = VideoConfig { frame_rate, transition_frames, ..VideoConfig::default() };
            let mut source = VideoSource::new(1, config);
            source.set_target(start, kbps(500));
            frames_until(&mut source, start + Duration::from_secs(1));
        }
    }
}
