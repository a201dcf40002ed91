use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use lenscast_media::sync::Mutex;

/// A value that somebody waits for: given once, or never.
pub(crate) fn promise<T>() -> (Promise<T>, Awaited<T>) {
    let slot = Arc::new(Mutex::new(Slot::Open(None)));
    (Promise { slot: Arc::clone(&slot) }, Awaited { slot })
}

/// The side that gives. Dropped without having given, it tells the other side that nothing will come.
pub(crate) struct Promise<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// The side that waits: the value, or `None` if it will never come.
pub(crate) struct Awaited<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

enum Slot<T> {
    /// Nothing yet; whom to wake.
    Open(Option<Waker>),
    Given(T),
    /// One side is gone, or the value has been taken.
    Over,
}

impl<T> Promise<T> {
    /// False once the other side is gone.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(*self.slot.lock(), Slot::Open(_))
    }

    /// Gives the value; back if nobody waits any more.
    pub(crate) fn keep(self, value: T) -> Result<(), T> {
        let waker = {
            let mut slot = self.slot.lock();
            match std::mem::replace(&mut *slot, Slot::Over) {
                Slot::Open(waker) => {
                    *slot = Slot::Given(value);
                    waker
                }
                Slot::Given(_) | Slot::Over => return Err(value),
            }
        };
        // Outside the lock: whoever is woken may run at once.
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.slot.lock();
            match &mut *slot {
                Slot::Open(waker) => {
                    let waker = waker.take();
                    *slot = Slot::Over;
                    waker
                }
                Slot::Given(_) | Slot::Over => return,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Awaited<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = self.slot.lock();
        match &mut *slot {
            Slot::Open(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Slot::Given(_) | Slot::Over => match std::mem::replace(&mut *slot, Slot::Over) {
                Slot::Given(value) => Poll::Ready(Some(value)),
                Slot::Open(_) | Slot::Over => Poll::Ready(None),
            },
        }
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        // A value that was given and not taken is dropped here, outside the lock: its own drop may do anything.
        let unclaimed = std::mem::replace(&mut *self.slot.lock(), Slot::Over);
        drop(unclaimed);
    }
}
