//! Which processor a thread runs on, and how much of it a thread has used.

use std::time::Duration;

use rustix::thread::{CpuSet, Pid, gettid, sched_setaffinity};

/// The one that what is measured has to itself.
pub(crate) const MEASURED: usize = 0;

/// Lets a thread of this process run on these processors only.
pub(crate) fn pin(thread: u32, processors: &[usize]) {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&processor| set.set(processor));
    sched_setaffinity(Pid::from_raw(thread as i32), &set).expect("a thread can be pinned");
}

/// Keeps this thread, and those that it will start, away from [`MEASURED`]. False if there is no other processor.
pub(crate) fn leave_measured() -> bool {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let others: Vec<usize> = (0..processors).filter(|&processor| processor != MEASURED).collect();
    if !others.is_empty() {
        pin(this_thread(), &others);
    }
    !others.is_empty()
}

pub(crate) fn this_thread() -> u32 {
    gettid().as_raw_nonzero().get() as u32
}

/// The thread of this process that has this name.
pub(crate) fn thread_named(name: &str) -> u32 {
    let threads = std::fs::read_dir("/proc/self/task").expect("a process has threads");
    let ids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut named = ids.filter(|id: &u32| {
        std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named.next().expect("the thread runs")
}

/// Processor time of one thread of this process.
pub(crate) fn time_of(thread: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("the kernel counts time");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(nanos)
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number of kB") * 1_024
}
