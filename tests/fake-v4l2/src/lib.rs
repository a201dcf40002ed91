//! V4L2 devices out of text files, for tests on machines without a camera.
//!
//! Preloaded into a process (`LD_PRELOAD`), it answers what the kernel would under `/dev` and `/sys/class/video4linux` from
//! the directory that [`ROOT`] names: `$ROOT/dev/video0` is a text file that says what the device `/dev/video0` offers,
//! shows, and does wrong (`src/settings.rs` lists the keys); `$ROOT/dev/v4l/by-id` holds links to such files. A program sees
//! device nodes that it can open, ask, map, and wait for.
//!
//! To change a device while it runs, replace its file; a frame later it behaves so. To unplug it, remove the file. To plug
//! it in again, write a file with another `plug` number, under the same name or another.
//!
//! An open device is the reading end of a pipe, into which its "hardware" thread writes one byte for each filled buffer:
//! so the kernel's own `poll`, `epoll` and signals work on it as on the real thing.
//!
//! **Invariants.** Whatever is not about these paths goes to the C library untouched. This crate knows nothing of
//! lenscast, and declares the kernel's structures for itself, so that an error in one is not an error in both.
//!
//! What it does not do: controls, user-pointer and dma buffers, several planes, two processes on one device.

mod abi;
mod device;
mod settings;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use libc::{DIR, mode_t, off_t, size_t, ssize_t};

use crate::device::Handle;

/// The environment variable with the directory that stands for `/`.
pub const ROOT: &str = "LENSCAST_FAKE_V4L2";

/// The open devices, by the descriptor that the program has.
static HANDLES: Mutex<BTreeMap<RawFd, Arc<Handle>>> = Mutex::new(BTreeMap::new());
/// How many there are, to be known without a lock: `close` and `ioctl` are called often, and also below locks.
static OPEN: AtomicUsize = AtomicUsize::new(0);

fn handles() -> MutexGuard<'static, BTreeMap<RawFd, Arc<Handle>>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(fd: RawFd) -> Option<Arc<Handle>> {
    if OPEN.load(Ordering::Acquire) == 0 {
        return None;
    }
    handles().get(&fd).cloned()
}

/// The next definition of a function after ours: the C library's.
macro_rules! real {
    ($name:ident as $kind:ty) => {{
        static ADDRESS: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
        let mut address = ADDRESS.load(Ordering::Acquire);
        if address.is_null() {
            // SAFETY: the name is a C string.
            address = unsafe { libc::dlsym(libc::RTLD_NEXT, concat!(stringify!($name), "\0").as_ptr().cast()) };
            assert!(!address.is_null(), concat!("the C library has no ", stringify!($name)));
            ADDRESS.store(address, Ordering::Release);
        }
        // SAFETY: this is the C library's function of that name, and `$kind` is its type. Functions that take a variable
        // number of arguments are called with all that they may take, which are integers and pointers: the platforms
        // that this runs on pass those alike.
        unsafe { std::mem::transmute::<*mut c_void, $kind>(address) }
    }};
}

/// Where a path leads that is ours to answer for.
fn redirected(path: *const c_char) -> Option<Redirected> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    if path.is_null() {
        return None;
    }
    // SAFETY: the program gave us a path as it would to the C library: a C string.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let node = path.parent() == Some(Path::new("/dev"))
        && path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"video"));
    let device = node || path.starts_with("/dev/v4l");
    if !device && path != Path::new("/dev") && !path.starts_with("/sys/class/video4linux") {
        return None;
    }
    let directory = DIRECTORY.get_or_init(|| std::env::var_os(ROOT).map(PathBuf::from)).as_ref()?;
    let target = directory.join(path.strip_prefix("/").ok()?);
    Some(Redirected { path: CString::new(target.into_os_string().into_vec()).ok()?, device })
}

struct Redirected {
    path: CString,
    /// To be opened as a device, unless it is a directory.
    device: bool,
}

/// The path to go on with: ours, or the program's own.
fn path_or(ours: &Option<Redirected>, path: *const c_char) -> *const c_char {
    ours.as_ref().map_or(path, |ours| ours.path.as_ptr())
}

/// What a system call returns that failed so.
fn failed(errno: c_int) -> c_int {
    // SAFETY: the address of this thread's errno.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Opens a path that is ours.
fn open_redirected(ours: &Redirected, flags: c_int) -> c_int {
    let target = Path::new(OsStr::from_bytes(ours.path.to_bytes()));
    if !ours.device || target.is_dir() {
        let real = real!(open as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
        // SAFETY: a C string, and flags that the program chose for it.
        return unsafe { real(ours.path.as_ptr(), flags, 0) };
    }
    match Handle::open(target) {
        Ok((handle, fd)) => {
            let fd = fd.into_raw_fd();
            handles().insert(fd, Arc::new(handle));
            OPEN.fetch_add(1, Ordering::AcqRel);
            fd
        }
        Err(errno) => failed(errno),
    }
}

// SAFETY, of each function below: it is called as the C library's function of its name is, and passes on what it was
// given, but for paths, descriptors and requests that are ours to answer.

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(open as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
    match redirected(path) {
        Some(ours) => open_redirected(&ours, flags),
        // SAFETY: see above.
        None => unsafe { real(path, flags, mode) },
    }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(open64 as unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int);
    match redirected(path) {
        Some(ours) => open_redirected(&ours, flags),
        // SAFETY: see above.
        None => unsafe { real(path, flags, mode) },
    }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(openat as unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int);
    match redirected(path) {
        Some(ours) => open_redirected(&ours, flags),
        // SAFETY: see above.
        None => unsafe { real(at, path, flags, mode) },
    }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(openat64 as unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int);
    match redirected(path) {
        Some(ours) => open_redirected(&ours, flags),
        // SAFETY: see above.
        None => unsafe { real(at, path, flags, mode) },
    }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    let ours = redirected(path);
    let path = path_or(&ours, path);
    let real = real!(opendir as unsafe extern "C" fn(*const c_char) -> *mut DIR);
    // SAFETY: see above; our path lives until the end of this function.
    unsafe { real(path) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readlink(path: *const c_char, buffer: *mut c_char, size: size_t) -> ssize_t {
    let ours = redirected(path);
    let path = path_or(&ours, path);
    let real = real!(readlink as unsafe extern "C" fn(*const c_char, *mut c_char, size_t) -> ssize_t);
    // SAFETY: see above; our path lives until the end of this function.
    unsafe { real(path, buffer, size) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    let ours = redirected(path);
    let path = path_or(&ours, path);
    let real = real!(access as unsafe extern "C" fn(*const c_char, c_int) -> c_int);
    // SAFETY: see above; our path lives until the end of this function.
    unsafe { real(path, mode) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    answer: *mut libc::statx,
) -> c_int {
    let ours = redirected(path);
    let path = path_or(&ours, path);
    let real = real!(statx as unsafe extern "C" fn(c_int, *const c_char, c_int, c_uint, *mut libc::statx) -> c_int);
    // SAFETY: see above; our path lives until the end of this function.
    unsafe { real(at, path, flags, mask, answer) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if handle(fd).is_some() {
        let closed = handles().remove(&fd);
        OPEN.fetch_sub(1, Ordering::AcqRel);
        // Stops the device, and closes its other descriptors by way of this function: not under the lock.
        drop(closed);
    }
    let real = real!(close as unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: see above.
    unsafe { real(fd) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let real = real!(ioctl as unsafe extern "C" fn(c_int, c_ulong, *mut c_void) -> c_int);
    match handle(fd) {
        // SAFETY: a program gives with each request a pointer to what the request's code says.
        Some(handle) => match unsafe { handle.ioctl(request, argument) } {
            Ok(()) => 0,
            Err(errno) => failed(errno),
        },
        // SAFETY: see above.
        None => unsafe { real(fd, request, argument) },
    }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    first: c_long,
    second: c_long,
    third: c_long,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> c_long {
    type Real = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;
    if number == libc::SYS_ioctl && handle(first as c_int).is_some() {
        // SAFETY: the same request by another way.
        return c_long::from(unsafe { ioctl(first as c_int, second as c_ulong, third as *mut c_void) });
    }
    let real = real!(syscall as Real);
    // SAFETY: see above.
    unsafe { real(number, first, second, third, fourth, fifth, sixth) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // An open device is a pipe; its memory is another file.
    let device = if flags & libc::MAP_ANONYMOUS == 0 { handle(fd) } else { None };
    let fd = match device.map(|device| device.memory()) {
        None => fd,
        Some(Ok(memory)) => memory,
        Some(Err(errno)) => {
            failed(errno);
            return libc::MAP_FAILED;
        }
    };
    let real = real!(mmap as unsafe extern "C" fn(*mut c_void, size_t, c_int, c_int, c_int, off_t) -> *mut c_void);
    // SAFETY: see above.
    unsafe { real(address, length, protection, flags, fd, offset) }
}

/// # Safety
///
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the same function, where a file's offset has 64 bits.
    unsafe { mmap(address, length, protection, flags, fd, offset) }
}
