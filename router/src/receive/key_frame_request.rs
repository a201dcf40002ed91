use std::time::{Duration, Instant};

/// Whether one stream is to be asked for a key frame: one request at a time, repeated soon and once more if nothing comes
/// (mediasoup's `RTC/KeyFrameRequestManager.cpp`, but for [`FIRST_RETRY`]).
#[derive(Debug, Default)]
pub(crate) struct KeyFrameRequest {
    pending: Option<Pending>,
    /// When a request was last sent.
    last: Option<Instant>,
    /// When the last wishes were first sent, the newest last: what a key frame has ended counts too, repetitions do not.
    sent: [Option<Instant>; BURST],
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    /// When to send, or to send again.
    due: Instant,
    /// How often it was sent.
    sent: u32,
    /// Somebody asked since it was sent.
    asked: bool,
}

/// Until the first repetition. libwebrtc passes over a request that comes within 300 ms of the one before, whichever of its
/// layers they are for (`kMinKeyFrameRequestInterval` of `video/encoder_rtcp_feedback.cc`); a viewer who goes from layer to
/// layer would wait for [`RETRY`] then. This is just beyond it. Where the way to the publisher and back takes longer, it costs
/// a second request, and at most a second key frame.
const FIRST_RETRY: Duration = Duration::from_millis(350);
/// Between the later ones, `KeyFrameRetransmissionTime`.
const RETRY: Duration = Duration::from_secs(1);
/// Times that one wish is sent.
const ATTEMPTS: u32 = 3;
/// Wishes that may come in quick succession, as when somebody goes from layer to layer. In the long run there is one in each
/// [`RETRY`]: a key frame is several times as large as another.
const BURST: usize = 8;

impl KeyFrameRequest {
    /// A key frame is wanted. While a request is on its way this makes sure only that it is repeated.
    pub(crate) fn ask(&mut self, now: Instant) {
        match &mut self.pending {
            Some(pending) => pending.asked = true,
            None => self.pending = Some(Pending { due: self.allowed_from(now), sent: 0, asked: false }),
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
        if pending.sent >= ATTEMPTS && !pending.asked {
            self.pending = None;
            return false;
        }
        let wait = if pending.sent == 0 { FIRST_RETRY } else { RETRY };
        let is_first = pending.sent == 0;
        *pending = Pending { due: now + wait, sent: pending.sent.saturating_add(1), asked: false };
        self.last = Some(now);
        if is_first {
            self.sent.rotate_left(1);
            self.sent[BURST - 1] = Some(now);
        }
        true
    }

    fn allowed_from(&self, now: Instant) -> Instant {
        let after_last = self.last.map(|sent| sent + FIRST_RETRY);
        let after_burst = self.sent[0].map(|sent| sent + RETRY * BURST as u32);
        after_last.into_iter().chain(after_burst).fold(now, Instant::max)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn many_wishes_are_one_request_repeated_soon_and_then_each_second() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        assert!(!request.take_due(start));
        request.ask(start);
        request.ask(start);
        assert!(request.take_due(start) && !request.take_due(start));
        for second in 0..5 {
            let due = start + FIRST_RETRY + RETRY * second;
            request.ask(due - Duration::from_millis(1));
            assert!(!request.take_due(due - Duration::from_millis(1)));
            assert!(request.take_due(due));
        }
    }

    #[test]
    fn an_unanswered_request_is_repeated_twice() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        request.ask(start);
        let sent = (0..5_000).filter(|ms| request.take_due(start + Duration::from_millis(*ms)));
        assert_eq!(sent.collect::<Vec<_>>(), [0, 350, 1_350]);
        assert_eq!(request.poll_timeout(), None);
    }

    #[test]
    fn a_request_passed_over_by_libwebrtc_is_made_again_as_soon_as_it_is_heard() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        let (mut heard, mut frames) = (None, Vec::new());
        // Somebody changes the layer a moment after somebody else got a key frame.
        for ms in 0..1_000 {
            if ms == 0 || ms == 20 {
                request.ask(start + Duration::from_millis(ms));
            }
            let passed_over = heard.is_some_and(|heard| ms < heard + 300);
            if request.take_due(start + Duration::from_millis(ms)) && !passed_over {
                heard = Some(ms);
                frames.push(ms);
                request.handle_key_frame();
            }
        }
        assert_eq!(frames, [0, 350], "not before libwebrtc listens again");
    }

    #[test]
    fn wishes_without_end_are_a_request_a_second_even_if_each_is_fulfilled() {
        let start = Instant::now();
        let mut request = KeyFrameRequest::default();
        let mut sent = Vec::new();
        for ms in 0..60_000_u64 {
            request.ask(start + Duration::from_millis(ms));
            if request.take_due(start + Duration::from_millis(ms)) {
                sent.push(ms);
                request.handle_key_frame();
            }
        }
        assert_eq!((sent[7], sent[8]), (7 * 350, 8_000));
        assert_eq!(sent.len(), 64, "eight in each eight seconds");
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
