//! Viewers that stay: connected all at once, and then on a thread of their own.
//!
//! They look at their sockets from time to time rather than sleep on them: on a loopback it is the sender who pays for waking
//! a receiver, which over a network it never does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::viewers::{Received, Viewer, Watching};

/// Connected viewers, taking what they are sent.
pub(crate) struct Seated {
    pub(crate) received: Arc<Received>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What viewers say while they watch.
#[derive(Default)]
pub(crate) struct Manners {
    /// They report, and ask for packets again that were not lost.
    pub(crate) feedback: AtomicBool,
    /// They say nothing any more, so that the server does nothing but forward.
    pub(crate) silent: AtomicBool,
}

/// All are connected within this time.
const BOUND: Duration = Duration::from_secs(60);
/// Between two looks at the sockets. Their buffers hold some 400 ms of a 2 Mb/s stream.
const NAP: Duration = Duration::from_millis(1);

impl Seated {
    /// Connects all viewers, and goes on receiving for them.
    pub(crate) fn seat(viewers: Vec<Viewer>, manners: Arc<Manners>) -> Self {
        let mut viewers = viewers;
        let deadline = Instant::now() + BOUND;
        while !viewers.iter().all(Viewer::is_connected) {
            assert!(Instant::now() < deadline, "not all viewers could connect");
            viewers.iter_mut().for_each(Viewer::drive);
        }
        let (received, stop) = (Arc::default(), Arc::default());
        let ours = (Arc::clone(&received), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("viewers".to_owned())
            .spawn(move || watch(viewers, &ours.0, &manners, &ours.1))
            .expect("the system gives a thread");
        Self { received, stop, thread: Some(thread) }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the viewers' thread does not panic");
        }
    }
}

fn watch(viewers: Vec<Viewer>, received: &Received, manners: &Manners, stop: &AtomicBool) {
    let count = viewers.len() as u32;
    let watching = viewers.into_iter().zip(0..).map(|(viewer, number)| Watching::new(viewer, number, count));
    let mut watching: Vec<_> = watching.collect();
    let mut sealed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let feedback = manners.feedback.load(Ordering::Relaxed);
        let silent = manners.silent.load(Ordering::Relaxed);
        let now = Instant::now();
        for watching in &mut watching {
            watching.take(received);
            if !silent {
                watching.speak(now, feedback, &mut sealed);
            }
        }
        std::thread::sleep(NAP);
    }
}
