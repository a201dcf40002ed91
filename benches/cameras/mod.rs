//! Cameras that put drawn pictures into their tracks, at the pace of a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lenscast_capture::Pattern;
use lenscast_media::{Frame, Picture, Resolution};
use lenscast_sender::Track;

/// A camera's thread. Ends when this is dropped.
pub(crate) struct Camera {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Camera {
    /// Puts a picture every `interval`, the first after `offset`.
    pub(crate) fn start(
        track: &Arc<Track>,
        pictures: &Arc<Vec<Arc<Picture>>>,
        interval: Duration,
        offset: Duration,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (stopped, track, pictures) = (Arc::clone(&stop), Arc::clone(track), Arc::clone(pictures));
        let thread = thread::spawn(move || {
            let start = Instant::now() + offset;
            for number in 0_u32.. {
                let at = start + interval * number;
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let picture = Arc::clone(&pictures[number as usize % pictures.len()]);
                let now = Instant::now();
                let frame = Frame { picture, number: u64::from(number), captured: now, ready: now };
                if track.buffer().put(frame).is_err() {
                    return;
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Fifteen pictures of the pattern, there and back.
pub(crate) fn pictures(size: Resolution, interval: Duration) -> Arc<Vec<Arc<Picture>>> {
    let mut pattern = Pattern::new(size).expect("large enough");
    let mut draw = |number: u32| {
        let mut picture = Picture::black(size);
        pattern.draw(&mut picture, u64::from(number), interval * number, interval * number);
        Arc::new(picture)
    };
    let forth: Vec<_> = (0..15).map(&mut draw).collect();
    let back: Vec<_> = forth[1..14].iter().rev().cloned().collect();
    Arc::new(forth.into_iter().chain(back).collect())
}
