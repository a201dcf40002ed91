//! The synchronization that lenscast's concurrent parts are built from: the standard library's outside, loom's inside a
//! model (`--cfg lenscast_loom`).
//!
//! Locks here do not poison. A thread that panics while it holds one leaves the data as it was at that point; every
//! user keeps its data valid between statements, so the next holder may go on.

#[cfg(lenscast_loom)]
pub use loom::sync::{Arc, atomic};
#[cfg(lenscast_loom)]
use loom::sync::{
    Condvar as RawCondvar, Mutex as RawMutex, MutexGuard, RwLock as RawRwLock, RwLockReadGuard, RwLockWriteGuard,
};
#[cfg(lenscast_loom)]
pub use loom::thread;

#[cfg(not(lenscast_loom))]
pub use std::sync::{Arc, atomic};
#[cfg(not(lenscast_loom))]
use std::sync::{
    Condvar as RawCondvar, Mutex as RawMutex, MutexGuard, RwLock as RawRwLock, RwLockReadGuard, RwLockWriteGuard,
};
#[cfg(not(lenscast_loom))]
pub use std::thread;

use std::sync::PoisonError;

/// A mutex without poisoning.
#[derive(Debug)]
pub struct Mutex<T>(RawMutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    pub fn new(value: T) -> Self {
        Self(RawMutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A condition variable to go with [`Mutex`].
#[derive(Debug)]
pub struct Condvar(RawCondvar);

impl Condvar {
    /// Nobody waits yet.
    #[must_use]
    pub fn new() -> Self {
        Self(RawCondvar::new())
    }

    /// Releases `guard`, waits for a notification, and locks again. May wake without one.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

/// A readers-writer lock without poisoning.
#[derive(Debug)]
pub struct RwLock<T>(RawRwLock<T>);

impl<T> RwLock<T> {
    /// An unlocked lock around `value`.
    pub fn new(value: T) -> Self {
        Self(RawRwLock::new(value))
    }

    /// Waits for shared access.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for exclusive access.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
