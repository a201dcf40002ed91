//! Counts what a process has allocated and not given back, for tests that look for leaks.
//!
//! Preloaded into a process (`LD_PRELOAD`), it stands before the C library's allocator, counts, and passes every call on. So it
//! sees what Rust allocates and what the C libraries below it do, and nothing of what the allocator itself keeps: resident
//! memory grows and shrinks by megabytes with the order in which threads happened to ask, these counts do not.
//!
//! The counts stand in the file that [`FILE`] names, which another process may read at any time: two numbers of 64 bits in
//! the machine's order, the bytes in use and the blocks they are in. Bytes are those that the allocator set aside for a
//! block (malloc_usable_size(3)), so that a block counts the same when it goes as when it came.
//!
//! **Invariants.** Nothing here allocates. Whatever cannot be counted is passed on all the same.
//!
//! What it does not do: memory that a program maps for itself; any C library but GNU's, whose names for its own allocator
//! it calls.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering::Relaxed};

/// The environment variable with the file to count in.
pub const FILE: &CStr = c"LENSCAST_HEAP_METER";

#[repr(C)]
struct Counts {
    bytes: AtomicI64,
    blocks: AtomicI64,
}

/// Until there is a file, and if there is none.
static AT_FIRST: Counts = Counts { bytes: AtomicI64::new(0), blocks: AtomicI64::new(0) };
static COUNTS: AtomicPtr<Counts> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(alignment: usize, size: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
}

/// Run by the loader before the program's first line, while there is one thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    let len = size_of::<Counts>();
    // SAFETY: the name is a C string; there is no other thread that could change the environment.
    let path: *const c_char = unsafe { libc::getenv(FILE.as_ptr()) };
    if path.is_null() {
        return;
    }
    // SAFETY: a path out of the environment is a C string, and the other arguments are flags and lengths. What is mapped is
    // used only if that succeeded, is of the file's whole length, begins a page, and is never given back.
    unsafe {
        let file = libc::open(path, libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC, 0o600);
        if file < 0 || libc::ftruncate(file, len as libc::off_t) != 0 {
            return;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let mapped = libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file, 0);
        libc::close(file);
        if mapped != libc::MAP_FAILED {
            let counts: *mut Counts = mapped.cast();
            (*counts).bytes.store(AT_FIRST.bytes.load(Relaxed), Relaxed);
            (*counts).blocks.store(AT_FIRST.blocks.load(Relaxed), Relaxed);
            COUNTS.store(counts, Relaxed);
        }
    }
}

fn counts() -> &'static Counts {
    // SAFETY: null or what [`begin`] has mapped, for as long as the process lives.
    unsafe { COUNTS.load(Relaxed).as_ref() }.unwrap_or(&AT_FIRST)
}

fn came(block: *mut c_void) -> *mut c_void {
    if !block.is_null() {
        let counts = counts();
        // SAFETY: the allocator has just given this block.
        counts.bytes.fetch_add(unsafe { libc::malloc_usable_size(block) } as i64, Relaxed);
        counts.blocks.fetch_add(1, Relaxed);
    }
    block
}

/// A block of so many bytes goes.
fn went(bytes: usize) {
    let counts = counts();
    counts.bytes.fetch_sub(bytes as i64, Relaxed);
    counts.blocks.fetch_sub(1, Relaxed);
}

// SAFETY, of each function below: it is called as the C library's function of its name is, and passes on what it was given.

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: see above.
    came(unsafe { __libc_malloc(size) })
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: see above.
    came(unsafe { __libc_calloc(count, size) })
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: null has no bytes; another block is still there.
    let before = unsafe { libc::malloc_usable_size(block) };
    // SAFETY: see above.
    let moved = unsafe { __libc_realloc(block, size) };
    // It stays where it is if there is no room for more; of no bytes, it is given back.
    if !block.is_null() && (!moved.is_null() || size == 0) {
        went(before);
    }
    came(moved)
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: it is still there.
        went(unsafe { libc::malloc_usable_size(block) });
    }
    // SAFETY: see above.
    unsafe { __libc_free(block) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    // SAFETY: see above.
    came(unsafe { __libc_memalign(alignment, size) })
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    // SAFETY: see above.
    came(unsafe { __libc_memalign(alignment, size) })
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(size_of::<*mut c_void>()) {
        return libc::EINVAL;
    }
    // SAFETY: see above.
    let block = came(unsafe { __libc_memalign(alignment, size) });
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gave a place for a pointer.
    unsafe { *place = block };
    0
}
