use std::time::Duration;

use lenscast_media::NtpTime;

/// What a packet of ours and its answer took on their way (RFC 3550 §6.4.1, RFC 3611 §4.5): `sent` is the packet's
/// [`NtpTime::compact`] as the peer returns it, 0 if none has come, and `held` says for how long the peer had it, in
/// 1/65,536 s.
pub(crate) fn round_trip(now: NtpTime, sent: u32, held: u32) -> Option<Duration> {
    /// A longer one is none.
    const MAX: u32 = 60 << 16;
    let round_trip = now.compact().wrapping_sub(sent).wrapping_sub(held);
    // Clocks of two machines drift: a negative or absurd result is noise, not a measurement.
    let believable = sent != 0 && (round_trip as i32) >= 0 && round_trip < MAX;
    believable.then(|| Duration::from_secs_f64(f64::from(round_trip) / 65_536.0))
}
