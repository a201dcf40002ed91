use std::fmt;

use super::wait::{BOUND, within};

/// What a process holds of the system, by `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
    /// Resident memory in KiB.
    pub(crate) memory_kib: u64,
}

impl Resources {
    /// Of the process `pid`. Panics if it is not there.
    pub(crate) fn of(pid: u32) -> Self {
        let count = |what: &str| {
            let path = format!("/proc/{pid}/{what}");
            std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has memory");
        let memory_kib = resident.trim().trim_end_matches(" kB").parse().expect("it is a number of kB");
        Self { threads: count("task"), descriptors: count("fd"), memory_kib }
    }

    /// Of the process `pid`, once it holds no more threads and descriptors than `before`: a server closes the connection
    /// of the last request in its own time. Panics if that does not happen.
    pub(crate) fn back_to(before: Self, pid: u32) -> Self {
        let back = within(BOUND, || {
            let now = Self::of(pid);
            (now.threads <= before.threads && now.descriptors <= before.descriptors).then_some(now)
        });
        back.unwrap_or_else(|| panic!("{} now, {before} before", Self::of(pid)))
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, descriptors, memory_kib } = self;
        write!(f, "{threads} threads, {descriptors} descriptors, {memory_kib} KiB resident")
    }
}
