use lenscast_media::Bitrate;

use crate::demand::is_positive;

/// What there is to divide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Everything that may be sent. More than 100 Gb/s counts as 100 Gb/s.
    pub total: Bitrate,
    /// What of it video does not get.
    pub overhead: Overhead,
}

/// What is set aside before video gets anything.
///
/// Fractions that are not positive or not finite count as none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overhead {
    /// Bytes of a packet's headers on the wire: IP, UDP, RTP, its extensions, and the SRTP tag.
    pub packet_bytes: u32,
    /// Bytes of a full packet's payload. Zero sets nothing aside for the headers of full packets.
    pub payload_bytes: u32,
    /// Retransmission, as a fraction of media.
    pub retransmission: f64,
    /// Forward error correction, as a fraction of media.
    pub fec: f64,
    /// There is an audio track: 5 % of the total, but 8 kb/s at least and 32 kb/s at most, are its own before all else.
    pub audio: bool,
}

/// Bits per second above which every rate counts as this: 100 Gb/s. It keeps all sums exact in `f64` of up to 80,000 tracks.
pub(crate) const LIMIT: u64 = 100_000_000_000;

/// What audio gets: one part in 20, within these bits per second.
const AUDIO_PARTS: u64 = 20;
const AUDIO_MIN: u64 = 8_000;
const AUDIO_MAX: u64 = 32_000;

/// A budget's parts in bits per second. They sum to the total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Parts {
    pub(crate) audio: u64,
    /// Set aside besides audio.
    pub(crate) overhead: u64,
    /// Left for the tracks' targets.
    pub(crate) media: u64,
    /// What the whole budget would be as media. Where the budget changes by a fraction, media changes by at most that
    /// fraction of this.
    pub(crate) whole: f64,
}

impl Budget {
    /// `millihertz`: frames per 1,000 seconds, of all tracks that may get something.
    ///
    /// Media of `m` b/s in frames of any size is at most `m / payload` full packets and one partial packet a frame. So
    /// `packet_bytes` a frame come off first, and what is left is divided by one plus all fractions.
    pub(crate) fn parts(&self, millihertz: u64) -> Parts {
        let total = self.total.as_bps().min(LIMIT);
        let audio = if self.overhead.audio { (total / AUDIO_PARTS).clamp(AUDIO_MIN, AUDIO_MAX).min(total) } else { 0 };
        let video = total - audio;
        let partial = millihertz.saturating_mul(u64::from(self.overhead.packet_bytes) * 8).div_ceil(1_000);
        let factor = self.overhead.factor();
        let media = ((video.saturating_sub(partial)) as i64 as f64 / factor) as i64 as u64;
        Parts { audio, overhead: video - media, media, whole: total as i64 as f64 / factor }
    }
}

impl Overhead {
    /// Bits on the wire for one bit of media in full packets; one at least, possibly infinite, never NaN.
    fn factor(&self) -> f64 {
        let fraction = |value: f64| if is_positive(value) { value } else { 0.0 };
        let headers = f64::from(self.packet_bytes) / f64::from(self.payload_bytes);
        1.0 + fraction(headers) + fraction(self.retransmission) + fraction(self.fec)
    }
}
