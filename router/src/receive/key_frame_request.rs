use std::time::{Duration, Instant};

/// Whether one stream is to be asked for a key frame: one request at a time, repeated once if nothing comes
/// (mediasoup's `RTC/KeyFrameRequestManager.cpp`).
#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequest {
    pending: Option<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    /// When to send, or to send again.
    due: Instant,
    sent: bool,
    /// Somebody asked since it was sent, or it was sent only once.
    repeat: bool,
}

/// `KeyFrameRetransmissionTime`.
const RETRY: Duration = Duration::from_secs(1);

impl KeyFrameRequest {
    /// A key frame is wanted. While a request is on its way this makes sure only that it is repeated.
    pub(crate) fn ask(&mut self, now: Instant) {
        match &mut self.pending {
            Some(pending) => pending.repeat = true,
            None => self.pending = Some(Pending { due: now, sent: false, repeat: true }),
        }
    }

    /// A key frame has begun.
    pub(crate) fn handle_key_frame(&mut self) {
        self.pending = None;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// True if a request is to be sent now.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.due <= now) else { return false };
        if pending.sent && !pending.repeat {
            self.pending = None;
            return false;
        }
        *pending = Pending { due: now + RETRY, sent: true, repeat: !pending.sent };
        true
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_a_second() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(!request.take_due(start));
        request.ask(start);
        request.ask(start);
        assert!(request.take_due(start) && !request.take_due(start));
        for second in 1..5 {
            request.ask(start + RETRY * second - Duration::from_millis(1));
            assert!(!request.take_due(start + RETRY * second - Duration::from_millis(1)));
            assert!(request.take_due(start + RETRY * second));
        }
    }

    #[test]
    fn an_unanswered_request_is_repeated_once() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        request.ask(start);
        let sent = (0..5).filter(|second| request.take_due(start + RETRY * *second)).count();
        assert_eq!((sent, request.poll_timeout()), (2, None));
    }

    #[test]
    fn a_key_frame_ends_it() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        request.ask(start);
        assert!(request.take_due(start));
        request.handle_key_frame();
        assert!(!request.take_due(start + RETRY));
        request.ask(start + RETRY);
        assert!(request.take_due(start + RETRY));
    }
}
