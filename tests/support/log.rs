use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::wait::BOUND;

/// What a child process writes, as far as it has come.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: String,
    ended: bool,
}

impl Log {
    /// Reads `from` to its end on a thread of its own.
    pub(crate) fn of(from: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(from);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let mut state = writer.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
                writer.changed.notify_all();
            }
            writer.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
            writer.changed.notify_all();
        });
        Self(shared)
    }

    /// What has been written so far.
    pub(crate) fn text(&self) -> String {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// Waits for the end and returns all of it.
    pub(crate) fn whole(&self) -> String {
        self.wait(|state| state.ended.then(|| state.text.clone())).expect("the log does not end")
    }

    /// Waits for a line that `wanted` says something of. Panics with what is there if none comes.
    pub(crate) fn line<T>(&self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let seen = self.wait(|state| match state.text.lines().find_map(&wanted) {
            Some(found) => Some(Some(found)),
            None => state.ended.then_some(None),
        });
        seen.flatten().unwrap_or_else(|| panic!("no line with {what} in:\n{}", self.text()))
    }

    /// Waits for a line with `part` in it.
    pub(crate) fn line_with(&self, part: &str) -> String {
        self.line(part, |line| line.contains(part).then(|| line.to_owned()))
    }

    fn wait<T>(&self, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + BOUND;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(seen) = look(&state) {
                return Some(seen);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
