//! The system's allocator with a count: of what is in use, and of one thread's calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::processor::this_thread;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

static IN_USE: AtomicU64 = AtomicU64::new(0);
/// The thread whose calls count; 0 while none does.
static WATCHED: AtomicU32 = AtomicU32::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Bytes that were allocated and not given back.
pub(crate) fn in_use() -> u64 {
    IN_USE.load(Relaxed)
}

/// Counts a thread's allocations from now on.
pub(crate) fn watch(thread: u32) {
    CALLS.store(0, Relaxed);
    WATCHED.store(thread, Relaxed);
}

/// Allocations since [`watch`], which ends.
pub(crate) fn stop_watching() -> u64 {
    WATCHED.store(0, Relaxed);
    CALLS.load(Relaxed)
}

fn count(bytes: usize) {
    IN_USE.fetch_add(bytes as u64, Relaxed);
    let watched = WATCHED.load(Relaxed);
    if watched != 0 && watched == this_thread() {
        CALLS.fetch_add(1, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the system's allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: likewise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        IN_USE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: likewise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: likewise.
        unsafe { System.dealloc(pointer, layout) }
    }
}
