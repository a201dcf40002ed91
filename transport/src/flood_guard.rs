use std::time::{Duration, Instant};

/// Bounds how many packets of one session are looked at in a second, so that one that floods takes no turn of the others.
#[derive(Debug, Default)]
pub(crate) struct FloodGuard {
    second: Option<Instant>,
    packets: u32,
}

/// 120 Mb/s in packets of 1,200 bytes: a publisher's four layers at their best, and as much again.
const MAX_PACKETS_PER_SECOND: u32 = 12_500;

impl FloodGuard {
    /// False if the packet is one too many.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        let over = |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            *self = Self { second: Some(now), packets: 0 };
        }
        self.packets = self.packets.saturating_add(1);
        self.packets <= MAX_PACKETS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_with_its_second() {
        let (mut guard, now) = (FloodGuard::default(), Instant::now());
        let admitted = |guard: &mut FloodGuard, at| (0..20_000).filter(|_| guard.admits(at)).count();
        assert_eq!(admitted(&mut guard, now), 12_500);
        assert_eq!(admitted(&mut guard, now + Duration::from_millis(999)), 0);
        assert_eq!(admitted(&mut guard, now + Duration::from_secs(1)), 12_500);
    }
}
