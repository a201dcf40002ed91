use std::time::Duration;

use lenscast_media::Bitrate;

/// Makes up for what openh264 makes more or less of than it is told.
///
/// openh264 shares the target out over eight frames at a time and forgets what is left over (`RcInitVGop` in
/// `codec/encoder/core/src/ratectl.cpp`), so that content of changing complexity stays up to a tenth below its target.
/// As in libwebrtc's `EncoderRateAdjuster`, what came out over some seconds is compared with what openh264 was told, and
/// it is told as much more or less. Unlike there it may be told more, up to [`Adjuster::MOST`], while its quantizer shows
/// that it could use it.
///
/// **Invariant.** The factor does not feed upon itself: it is measured against what openh264 was told, not against the
/// target.
#[derive(Debug)]
pub(super) struct Adjuster {
    last: Option<Duration>,
    /// Bits that came out, and that openh264 was told, of the last seconds.
    coded: f64,
    told: f64,
    /// Since the last change of the factor.
    since: f64,
    factor: f64,
}

impl Adjuster {
    /// Seconds over which the past fades.
    const MEMORY: f64 = 2.0;
    /// Seconds between two changes.
    const PERIOD: f64 = 0.25;
    const LEAST: f64 = 0.5;
    const MOST: f64 = 1.25;
    /// Quantizers between which openh264 can use up what it is told.
    const USABLE: std::ops::RangeInclusive<u8> = 13..=48;

    pub(super) const fn new() -> Self {
        Self { last: None, coded: 0.0, told: 0.0, since: 0.0, factor: 1.0 }
    }

    /// What openh264 is told instead of `target`.
    pub(super) fn adjusted(&self, target: Bitrate) -> Bitrate {
        Bitrate::from_bps((target.as_bps() as f64 * self.factor) as u64)
    }

    /// Takes the time of the next frame.
    pub(super) fn advance(&mut self, start: Duration, target: Bitrate) {
        if let Some(last) = self.last.replace(start) {
            let step = start.saturating_sub(last).as_secs_f64();
            let fading = (-step / Self::MEMORY).exp();
            self.coded *= fading;
            self.told = self.told * fading + target.as_bps() as f64 * self.factor * step;
            self.since += step;
        }
    }

    /// Takes a frame that came out. True if openh264 is to be told anew.
    pub(super) fn measure(&mut self, bytes: usize, key_frame: bool, quantizer: Option<u8>, target: Bitrate) -> bool {
        self.coded += bytes as f64 * 8.0;
        if self.since < Self::PERIOD || key_frame {
            return false;
        }
        self.since = 0.0;
        // Before a second has been seen, the first key frame outweighs all else.
        let seen = self.told / (target.as_bps() as f64 * self.factor);
        let usable = quantizer.is_some_and(|quantizer| Self::USABLE.contains(&quantizer));
        let most = if usable { Self::MOST } else { 1.0 };
        let factor = if seen < 1.0 { 1.0 } else { (self.told / self.coded).clamp(Self::LEAST, most) };
        let changes = (factor / self.factor - 1.0).abs() > 0.01;
        if changes {
            self.factor = factor;
        }
        changes
    }

    /// The target has changed: what came out before says how openh264 does, but is of another size.
    pub(super) fn rescale(&mut self, ratio: f64) {
        self.coded *= ratio;
        self.told *= ratio;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Bitrate = Bitrate::from_kbps(1_000);

    /// Ten seconds of an encoder that makes `gain` of what it is told; gives what it makes at the end, in kb/s.
    fn settled(gain: f64, quantizer: u8) -> f64 {
        let mut adjuster = Adjuster::new();
        let mut kbps = 0.0;
        for frame in 0..300 {
            adjuster.advance(Duration::from_millis(33) * frame, TARGET);
            kbps = adjuster.adjusted(TARGET).as_bps() as f64 * gain / 1_000.0;
            adjuster.measure((kbps * 33.0 / 8.0) as usize, frame == 0, Some(quantizer), TARGET);
        }
        kbps
    }

    #[test]
    fn what_is_made_settles_at_the_target() {
        for gain in [0.85, 0.95, 1.0, 1.1, 1.5] {
            assert!((settled(gain, 30) / 1_000.0 - 1.0).abs() < 0.015, "{gain}: {}", settled(gain, 30));
        }
    }

    #[test]
    fn nothing_is_added_where_the_quantizer_is_at_its_end() {
        for quantizer in [12, 51] {
            assert!((settled(0.9, quantizer) / 900.0 - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn corrections_are_bounded() {
        assert!((settled(0.5, 30) / 625.0 - 1.0).abs() < 0.01);
        assert!((settled(4.0, 30) / 2_000.0 - 1.0).abs() < 0.01);
    }
}
