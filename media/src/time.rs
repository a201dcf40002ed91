use std::time::{Duration, Instant};

/// Ticks a second of every video RTP clock (RFC 7741 §4.1, RFC 9628 §4.1, RFC 6184 §5.1).
pub const VIDEO_CLOCK_RATE: u32 = 90_000;

/// Seconds from NTP's epoch (1900) to Unix's (1970), RFC 5905 figure 4.
const NTP_UNIX_OFFSET_SECONDS: u64 = 2_208_988_800;

/// A video RTP timestamp: 90 kHz, wraps every 13.25 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// The timestamp `span` after zero, wrapped.
    #[must_use]
    pub fn from_span(span: Duration) -> Self {
        let ticks = span.as_nanos() * u128::from(VIDEO_CLOCK_RATE) / 1_000_000_000;
        Self(ticks as u32)
    }

    /// This timestamp moved forward by `offset` ticks, wrapped.
    #[must_use]
    pub const fn wrapping_add(self, offset: u32) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// Signed ticks from `earlier` to this, right while they are less than 6.6 hours apart.
    #[must_use]
    pub const fn ticks_since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// A point in time as NTP writes it: 32 bits of seconds since 1900 and 32 bits of fraction (RFC 3550 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the time since 1970-01-01 00:00 UTC. Wraps in 2036 as NTP itself does.
    #[must_use]
    pub fn from_unix(unix: Duration) -> Self {
        let seconds = unix.as_secs().wrapping_add(NTP_UNIX_OFFSET_SECONDS) << 32;
        let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// The middle 32 bits, as a report block's LSR carries them (RFC 3550 §6.4.1); unit 1/65,536 s.
    #[must_use]
    pub const fn compact(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Ties the monotonic clock to the wall clock, by one reading of both.
///
/// Reports and capture times must advance steadily for their receivers, so a running process keeps one `WallClock`
/// and does not follow later steps of the system's time.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    anchor: Instant,
    unix_at_anchor: Duration,
}

impl WallClock {
    /// `unix` is the time since 1970-01-01 00:00 UTC at the instant `anchor`.
    #[must_use]
    pub const fn new(anchor: Instant, unix: Duration) -> Self {
        Self { anchor, unix_at_anchor: unix }
    }

    /// The time since 1970 at `instant`.
    #[must_use]
    pub fn unix_at(&self, instant: Instant) -> Duration {
        if let Some(later) = instant.checked_duration_since(self.anchor) {
            self.unix_at_anchor + later
        } else {
            self.unix_at_anchor.saturating_sub(self.anchor - instant)
        }
    }

    /// The NTP time at `instant`.
    #[must_use]
    pub fn ntp_at(&self, instant: Instant) -> NtpTime {
        NtpTime::from_unix(self.unix_at(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn wall_clock_maps_instants_before_and_after_its_anchor() {
        let anchor = Instant::now() + Duration::from_secs(100);
        let clock = WallClock::new(anchor, Duration::from_secs(1_000));
        assert_eq!(clock.unix_at(anchor + Duration::from_millis(1)), Duration::from_millis(1_000_001));
        assert_eq!(clock.unix_at(anchor - Duration::from_millis(1)), Duration::from_millis(999_999));
    }

    #[test]
    fn ntp_of_a_half_second() {
        let ntp = NtpTime::from_unix(Duration::from_millis(500));
        assert_eq!(ntp.0 >> 32, 2_208_988_800);
        assert_eq!(ntp.0 as u32, 1 << 31);
        assert_eq!(ntp.compact(), ((2_208_988_800_u64 << 16) as u32) | 0x8000);
    }

    #[test]
    fn rtp_time_wraps_and_still_orders() {
        let before = RtpTime(u32::MAX - 10);
        let after = before.wrapping_add(3_000);
        assert_eq!(after.ticks_since(before), 3_000);
        assert_eq!(before.ticks_since(after), -3_000);
        assert_eq!(RtpTime::from_span(Duration::from_secs(1)), RtpTime(90_000));
    }
}
