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

/// What is set aside of a budget for what goes over the wire besides the tracks' targets.
///
/// Headers are counted for tracks that run: those of full packets by the bits of media, those of partial packets one for each
/// frame of each active layer. A layer that is active but not on counts too: there may be more set aside than is needed, never
/// less. Who is paused or inactive costs nothing.
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

/// A budget without what is audio's: what video has on the wire, and what media costs there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wire {
    /// Bits per second that audio gets.
    pub(crate) audio: u64,
    /// Bits per second that are left for video, headers and all.
    pub(crate) video: u64,
    /// What the whole budget would be as media. Where the budget changes by a fraction, media changes by at most that
    /// fraction of this.
    pub(crate) whole: f64,
    /// Bits of a packet's headers.
    header: u64,
    /// Bits for one bit of media, in full packets.
    factor: f64,
}

impl Budget {
    #[inline]
    pub(crate) fn wire(&self) -> Wire {
        let total = self.total.as_bps().min(LIMIT);
        let audio = if self.overhead.audio { (total / AUDIO_PARTS).clamp(AUDIO_MIN, AUDIO_MAX).min(total) } else { 0 };
        let header = u64::from(self.overhead.packet_bytes) * 8;
        let factor = self.overhead.factor();
        Wire { audio, video: total - audio, whole: total as i64 as f64 / factor, header, factor }
    }
}

impl Wire {
    /// Bits per second of media for tracks that run with `millihertz` together: partial packets per 1,000 seconds.
    ///
    /// Media of `m` b/s in frames of any size is at most `m / payload` full packets and one partial packet a frame and layer.
    /// So the headers of partial packets come off first, and what is left is divided by one plus all fractions.
    #[inline]
    pub(crate) fn media(&self, millihertz: u64) -> u64 {
        let partial = millihertz.saturating_mul(self.header).div_ceil(1_000);
        ((self.video.saturating_sub(partial)) as i64 as f64 / self.factor) as i64 as u64
    }
}

impl Overhead {
    /// What media takes on the wire: the inverse of [`Wire::media`], rounded up.
    pub(crate) fn on_wire(&self, media: u64, millihertz: u64) -> u64 {
        let partial = millihertz.saturating_mul(u64::from(self.packet_bytes) * 8).div_ceil(1_000);
        // The conversion saturates.
        let full = (media.min(LIMIT) as f64 * self.factor()).ceil() as u64;
        full.saturating_add(partial)
    }

    /// Bits on the wire for one bit of media in full packets; one at least, possibly infinite, never NaN.
    fn factor(&self) -> f64 {
        let fraction = |value: f64| if is_positive(value) { value } else { 0.0 };
        let headers = f64::from(self.packet_bytes) / f64::from(self.payload_bytes);
        1.0 + fraction(headers) + fraction(self.retransmission) + fraction(self.fec)
    }
}
