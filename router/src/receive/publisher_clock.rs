use std::time::{Duration, Instant};

use lenscast_media::{NtpTime, RtpTime};

/// The wall clock of one publisher, as far as its sender reports tell: one offset for all streams of a transport, so that
/// its sound and pictures stay together.
///
/// A report takes time to come, so the clock that fits best is the earliest one: a report that came faster than all
/// before it moves the offset at once, slower ones only a little, which follows clocks that drift apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublisherClock {
    reading: Option<Reading>,
}

/// It was `ntp` at the publisher at the instant `at`, or a little before.
#[derive(Debug, Clone, Copy)]
struct Reading {
    ntp: NtpTime,
    at: Instant,
}

/// The part of its delay by which a slower report moves the offset. At a report every second, 100 ppm of drift (poor
/// quartz) then stay below 100 µs × 32 = 3.2 ms.
const SLOWING: u32 = 32;
/// A report this far from the offset is of a clock that was set anew.
const STEP: Duration = Duration::from_secs(2);

impl PublisherClock {
    /// No report has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { reading: None }
    }

    /// A sender report of any of the publisher's streams came in at `now`.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: NtpTime) {
        let expected = self.instant_of(ntp);
        let at = match expected {
            Some(expected) if distance(expected, now) < STEP => match now.checked_duration_since(expected) {
                Some(delay) => expected + delay / SLOWING,
                None => now,
            },
            _ => now,
        };
        self.reading = Some(Reading { ntp, at });
    }

    /// When it was `ntp` at the publisher; `None` before the first report, and for times a day off.
    #[must_use]
    pub fn instant_of(&self, ntp: NtpTime) -> Option<Instant> {
        const DAY: Duration = Duration::from_secs(86_400);
        let Reading { ntp: reference, at } = self.reading?;
        // Signed, so that it holds across the wrap of 2036.
        let ahead = ntp.0.wrapping_sub(reference.0) as i64;
        let distance = ahead.unsigned_abs();
        let fraction = ((distance & 0xFFFF_FFFF) * 1_000_000_000) >> 32;
        let span = Duration::new(distance >> 32, fraction as u32);
        if span > DAY {
            return None;
        }
        if ahead < 0 { at.checked_sub(span) } else { at.checked_add(span) }
    }
}

fn distance(one: Instant, other: Instant) -> Duration {
    one.saturating_duration_since(other).max(other.saturating_duration_since(one))
}

/// What the last sender report of a stream ties together: its RTP clock and the publisher's wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderReportTimes {
    pub(crate) ntp: NtpTime,
    pub(crate) rtp: RtpTime,
    pub(crate) received: Instant,
}

impl SenderReportTimes {
    /// When `rtp` was at the publisher; within hours of the report.
    pub(crate) fn ntp_of(&self, rtp: RtpTime, clock_rate: u32) -> NtpTime {
        let ticks = i64::from(rtp.ticks_since(self.rtp));
        let offset = (ticks << 32) / i64::from(clock_rate.max(1));
        NtpTime(self.ntp.0.wrapping_add(offset as u64))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ntp(span: Duration) -> NtpTime {
        NtpTime::from_unix(Duration::from_secs(1_700_000_000) + span)
    }

    #[test]
    fn sound_and_pictures_of_one_moment_are_of_one_instant() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut clock = PublisherClock::new();
        assert_eq!(clock.instant_of(ntp(MS)), None);
        clock.handle_sender_report(start, ntp(Duration::ZERO));
        clock.handle_sender_report(start + 520 * MS, ntp(500 * MS));
        let video = SenderReportTimes { ntp: ntp(Duration::ZERO), rtp: RtpTime(u32::MAX - 100), received: start };
        let audio = SenderReportTimes { ntp: ntp(500 * MS), rtp: RtpTime(7), received: start };
        let picture = clock.instant_of(video.ntp_of(video.rtp.wrapping_add(90_000), 90_000)).unwrap();
        let sound = clock.instant_of(audio.ntp_of(audio.rtp.wrapping_add(24_000), 48_000)).unwrap();
        assert!(distance(picture, sound) < MS / 100, "{:?}", distance(picture, sound));
        assert!(distance(picture, start + 1_000 * MS) < MS, "the slow report hardly counts");
        let before = clock.instant_of(audio.ntp_of(RtpTime(7_u32.wrapping_sub(48_000)), 48_000)).unwrap();
        assert!(distance(before, start - 500 * MS) < MS);
    }

    #[test]
    fn the_fastest_report_counts_and_drift_is_followed() {
        let start = Instant::now();
        let mut clock = PublisherClock::new();
        clock.handle_sender_report(start + 50 * MS, ntp(Duration::ZERO));
        clock.handle_sender_report(start + 1_005 * MS, ntp(1_000 * MS));
        let at = clock.instant_of(ntp(2_000 * MS)).unwrap();
        assert!(distance(at, start + 2_005 * MS) < MS);
        // The publisher's clock is slow by 100 ppm for an hour.
        for second in 2..3_600_u32 {
            clock.handle_sender_report(start + 1_000 * MS * second + MS / 10 * second, ntp(1_000 * MS * second));
        }
        let at = clock.instant_of(ntp(3_600_000 * MS)).unwrap();
        assert!(distance(at, start + 3_600_360 * MS) < 5 * MS, "{:?}", distance(at, start + 3_600_360 * MS));
    }

    #[test]
    fn a_clock_that_was_set_is_followed_at_once() {
        let start = Instant::now();
        let mut clock = PublisherClock::new();
        clock.handle_sender_report(start, ntp(Duration::ZERO));
        clock.handle_sender_report(start + 1_000 * MS, ntp(Duration::from_secs(7_200)));
        assert_eq!(clock.instant_of(ntp(Duration::from_secs(7_200))), Some(start + 1_000 * MS));
        assert_eq!(clock.instant_of(NtpTime(0)), None, "nonsense");
    }
}
