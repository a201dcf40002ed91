use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter as Governor};

/// Limits the requests that change something, by the address they come from.
pub(super) struct RateLimiter {
    governor: DefaultKeyedRateLimiter<IpAddr>,
}

impl RateLimiter {
    /// That many a minute from each address, all at once if they come so.
    #[must_use]
    pub(super) fn per_minute(requests: NonZeroU32) -> Self {
        Self { governor: Governor::keyed(Quota::per_minute(requests)) }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// If it is one too many: how long to wait.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let outcome = self.governor.check_key(&network_of(address));
        outcome.map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets the addresses that have been quiet. To be called now and then, so that it does not grow.
    pub(super) fn forget_quiet(&self) {
        self.governor.retain_recent();
        self.governor.shrink_to_fit();
    }
}

/// Who has one IPv6 address has 2⁶⁴ of them (RFC 4291 §2.5.4): they count as one.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_allowance() {
        let limiter = RateLimiter::per_minute(NonZeroU32::new(3).unwrap());
        let check = |address: &str| limiter.check(address.parse().unwrap());
        assert!((0..3).all(|_| check("192.0.2.1").is_ok()));
        let wait = check("192.0.2.1").unwrap_err();
        assert!(wait <= Duration::from_secs(20), "{wait:?}");
        assert!(check("::ffff:192.0.2.1").is_err(), "the same address, mapped");
        assert!(check("192.0.2.2").is_ok());
        assert!((1..=3).all(|host| check(&format!("2001:db8::{host}")).is_ok()));
        assert!(check("2001:db8::ffff").is_err(), "the same network");
        assert!(check("2001:db8:0:1::1").is_ok());
        limiter.forget_quiet();
    }
}
