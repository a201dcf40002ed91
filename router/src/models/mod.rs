//! Models of the router's concurrency, over the real code with loom's locks and atomics:
//!
//! ```text
//! RUSTFLAGS="--cfg lenscast_loom" cargo test -p lenscast-router --lib --release models::
//! ```
//!
//! Each model must hold for its real steps, and must fail where one step is replaced by its mistaken form, out of
//! `broken/`: those tests say `should_panic` and name the mistake. docs/concurrency.md lists them all, with the
//! interleaving (T1 to T16) that each stands for.
//!
//! loom explores every interleaving of at most so many preemptions ([`explore`]): a thread that is switched away from
//! although it could go on. Where threads block, any number of switches comes for free.
//!
//! A failure shows only once a scene has been taken down ([`Log::verdict`]): a panic in the midst would unwind through
//! loom's guards. Where loom itself finds a deadlock there is no such moment, so what would use loom when it is dropped
//! is [`Kept`].

mod registry;
mod streams;

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use lenscast_media::sync::atomic::{AtomicUsize, Ordering};
use lenscast_media::sync::{Condvar, Mutex};

/// Not dropped while a failure unwinds: loom is then past counting, and would abort the test.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// What went wrong in a scene. Itself no part of the code under test, so behind a lock of the standard library's;
/// `moment` makes each entry an event to loom, which then tries every order of them.
struct Log<R> {
    record: std::sync::Mutex<(R, Vec<String>)>,
    moment: AtomicUsize,
}

impl<R: Default> Log<R> {
    fn new() -> Arc<Self> {
        Arc::new(Self { record: std::sync::Mutex::default(), moment: AtomicUsize::new(0) })
    }

    /// Writes down what happens at this moment.
    fn note<T>(&self, note: impl FnOnce(&mut R) -> T) -> T {
        self.moment.fetch_add(1, Ordering::SeqCst);
        note(&mut self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0)
    }

    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1.push(what.to_owned());
        }
    }

    /// Panics with what went wrong. Called when nothing of loom's is alive.
    fn verdict(&self) {
        let record = self.record.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(record.1.is_empty(), "{:?}", record.1);
    }
}

/// Runs a future on this thread, which sleeps until the future is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Signal {
        woken: Mutex<bool>,
        changed: Condvar,
    }
    impl Wake for Signal {
        fn wake(self: Arc<Self>) {
            *self.woken.lock() = true;
            self.changed.notify_one();
        }
    }
    let signal = Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = Waker::from(Arc::clone(&signal));
    let mut future = Kept::new(Box::pin(future));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut woken = signal.woken.lock();
        while !*woken {
            woken = signal.changed.wait(woken);
        }
        *woken = false;
    }
}

/// Explores a model up to so many preemptions. `model` says from when to when
/// it explores; what it returns is judged when nothing of loom's is alive.
fn explore<R: Default + 'static>(preemptions: usize, model: impl Fn() -> Arc<Log<R>> + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 5_000;
    let iterations = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&iterations);
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loom::stop_exploring();
        model().verdict();
    });
    #[allow(clippy::print_stdout)]
    {
        println!("{} interleavings", iterations.load(std::sync::atomic::Ordering::Relaxed));
    }
}

/// The model over the real steps, and over steps of which one is mistaken in a way that it must find.
macro_rules! models {
    ($($model:ident { $($name:ident => $broken:expr, $tells:literal),+ $(,)? })+) => {$(
        mod $model {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn holds() {
                super::$model(REAL);
            }

            $(
                #[test]
                #[should_panic(expected = $tells)]
                fn $name() {
                    super::$model($broken);
                }
            )+
        }
    )+};
}

use models;
