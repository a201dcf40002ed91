//! A shorter turn at the processor for a thread that must run soon and never for long.

#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

/// The shortest that the kernel takes for its scheduler's slice (`sched_setattr(2)`; Linux's `kernel/sched/syscalls.c`
/// clamps to 0.1 to 100 ms).
const SLICE: Duration = Duration::from_micros(100);

/// Asks that the calling thread, when it wakes, need not wait until others have used up their turns.
///
/// Its share of the processor stays what it was, and no privilege is needed. Linux schedules the earliest virtual deadline
/// first, and a short slice makes for an early deadline; kernels before 6.12 take the request and do nothing.
#[cfg(target_os = "linux")]
pub(crate) fn shorten() -> io::Result<()> {
    const THIS_THREAD: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let size = size_of_val(&attributes);
    // SAFETY: the kernel writes at most `size` bytes, which is the size of what the pointer leads to.
    if unsafe { libc::syscall(libc::SYS_sched_getattr, THIS_THREAD, &raw mut attributes, size, NO_FLAGS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Somebody has chosen a real-time policy for the process: it needs no help.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 && attributes.sched_policy != libc::SCHED_BATCH as u32 {
        return Ok(());
    }
    attributes.size = size as u32;
    attributes.sched_runtime = SLICE.as_nanos() as u64;
    // SAFETY: the kernel reads the `size` bytes that the structure itself names, all of them initialised.
    if unsafe { libc::syscall(libc::SYS_sched_setattr, THIS_THREAD, &raw const attributes, NO_FLAGS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Elsewhere there is nothing to ask.
#[cfg(not(target_os = "linux"))]
pub(crate) fn shorten() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_shorten_its_slice_without_privileges_and_more_than_once() {
        let thread = std::thread::spawn(|| shorten().and_then(|()| shorten()));
        thread.join().unwrap().unwrap();
    }
}
