use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{Errno, write};

/// Tells a source's thread to stop, wherever it waits: in a pause, or for a file descriptor.
///
/// An eventfd that becomes readable once and stays so.
#[derive(Debug)]
pub(crate) struct StopSignal(OwnedFd);

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The signal was given.
    Stopped,
    /// One of the descriptors is readable, closed or broken.
    Ready,
    /// The time has come.
    TimedOut,
}

impl StopSignal {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Gives the signal, for good.
    pub(crate) fn give(&self) {
        // Fails only if the counter is full, after 2^64 − 2 signals; it is readable then as well.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn is_given(&self) -> bool {
        self.wait(&[], Some(Instant::now())) == Wake::Stopped
    }

    /// Waits until `deadline`. True if the signal was given.
    pub(crate) fn wait_until(&self, deadline: Instant) -> bool {
        self.wait(&[], Some(deadline)) == Wake::Stopped
    }

    /// Waits for `span`. True if the signal was given.
    pub(crate) fn wait_for(&self, span: Duration) -> bool {
        self.wait_until(Instant::now() + span)
    }

    /// Waits for the signal, for any of `others` to have something to read or be at its end, or for `deadline`.
    pub(crate) fn wait(&self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> Wake {
        let mut fds: Vec<_> = std::iter::once(self.0.as_fd())
            .chain(others.iter().copied())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) if !fds[0].revents().is_empty() => return Wake::Stopped,
                Ok(0) => return Wake::TimedOut,
                Ok(_) => return Wake::Ready,
                Err(Errno::INTR) => {}
                // poll(2) fails otherwise only for want of memory or for a bad pointer; neither mends by waiting.
                Err(error) => panic!("waiting for a source's stop signal: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_ends_every_wait_and_stays() {
        let signal = StopSignal::new().unwrap();
        assert!(!signal.is_given());
        assert!(!signal.wait_for(Duration::from_millis(1)));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| signal.wait(&[], None));
            signal.give();
            assert_eq!(waiter.join().unwrap(), Wake::Stopped);
        });
        assert!(signal.is_given() && signal.wait_for(Duration::from_secs(3_600)));
    }

    #[test]
    fn a_readable_descriptor_ends_the_wait_and_the_signal_comes_first() {
        let (signal, other) = (StopSignal::new().unwrap(), StopSignal::new().unwrap());
        other.give();
        assert_eq!(signal.wait(&[other.0.as_fd()], None), Wake::Ready);
        signal.give();
        assert_eq!(signal.wait(&[other.0.as_fd()], None), Wake::Stopped);
    }
}
