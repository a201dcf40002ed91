use lenscast_media::Bitrate;
use lenscast_media::sync::Arc;
use lenscast_media::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What others may want of a running track. Read by its encode task at the start of each frame: setting anything here
/// takes no lock and waits for nothing.
#[derive(Debug)]
pub struct TrackControl {
    demand: AtomicUsize,
    key_frame: AtomicBool,
    target_bps: AtomicU64,
}

/// Keeps a track encoding while it lives.
#[derive(Debug)]
#[must_use]
pub struct Demand(Arc<TrackControl>);

impl TrackControl {
    /// Nobody wants anything yet.
    #[must_use]
    pub fn new(target: Bitrate) -> Arc<Self> {
        Arc::new(Self {
            demand: AtomicUsize::new(0),
            key_frame: AtomicBool::new(false),
            target_bps: AtomicU64::new(target.as_bps()),
        })
    }

    /// The bitrate to encode at.
    pub fn target(&self) -> Bitrate {
        Bitrate::from_bps(self.target_bps.load(Ordering::Acquire))
    }

    /// True while somebody holds a [`Demand`].
    pub fn is_wanted(&self) -> bool {
        self.demand.load(Ordering::Acquire) > 0
    }

    /// Asks the track to encode for as long as the returned guard lives.
    pub fn subscribe(self: &Arc<Self>) -> Demand {
        self.demand.fetch_add(1, Ordering::AcqRel);
        Demand(Arc::clone(self))
    }

    /// Asks for a key frame. Any number of requests make one, and no track makes two within 300 ms.
    pub fn request_key_frame(&self) {
        self.key_frame.store(true, Ordering::Release);
    }

    /// Sets the bitrate to encode at, from the next frame on. With [`Bitrate::ZERO`] none is encoded, whoever wants it.
    pub fn set_target(&self, target: Bitrate) {
        self.target_bps.store(target.as_bps(), Ordering::Release);
    }

    pub(crate) fn key_frame_requested(&self) -> bool {
        self.key_frame.load(Ordering::Acquire)
    }

    /// The request is about to be met. One that comes from now on is another.
    pub(crate) fn take_key_frame_request(&self) {
        self.key_frame.store(false, Ordering::Release);
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.0.demand.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_wanted_while_any_demand_lives() {
        let control = TrackControl::new(Bitrate::from_kbps(500));
        assert!(!control.is_wanted());
        let (first, second) = (control.subscribe(), control.subscribe());
        drop(first);
        assert!(control.is_wanted());
        drop(second);
        assert!(!control.is_wanted());
    }

    #[test]
    fn many_requests_are_one() {
        let control = TrackControl::new(Bitrate::from_kbps(500));
        control.request_key_frame();
        control.request_key_frame();
        assert!(control.key_frame_requested());
        control.take_key_frame_request();
        assert!(!control.key_frame_requested());
    }
}
