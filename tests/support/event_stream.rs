use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::time::Duration;

use super::http::Http;
use super::wait::BOUND;

/// A stream of server-sent events, read on a thread of its own.
pub(crate) struct EventStream(mpsc::Receiver<ServerEvent>);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) kind: String,
    pub(crate) data: String,
}

impl EventStream {
    /// Opens the stream at `path`.
    pub(crate) fn open(http: &Http, path: &str, headers: &[(&str, &str)]) -> Self {
        let response = http.stream(path, headers, Duration::from_secs(300)).expect("the stream can be opened");
        assert_eq!(response.status(), 200, "{path}");
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        assert_eq!(kind, Some("text/event-stream"));
        let buffering = response.headers().get("x-accel-buffering").and_then(|value| value.to_str().ok());
        assert_eq!(buffering, Some("no"), "a proxy is to pass on each event at once");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut event = ServerEvent { kind: String::new(), data: String::new() };
            for line in BufReader::new(response.into_body().into_reader()).lines().map_while(Result::ok) {
                if let Some(kind) = line.strip_prefix("event: ") {
                    kind.clone_into(&mut event.kind);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    event.data.push_str(data);
                } else if line.is_empty() && !event.kind.is_empty() {
                    let complete =
                        std::mem::replace(&mut event, ServerEvent { kind: String::new(), data: String::new() });
                    if sender.send(complete).is_err() {
                        return;
                    }
                }
            }
        });
        Self(receiver)
    }

    /// The next event; `None` at the end of the stream. Panics if neither comes.
    pub(crate) fn next(&self) -> Option<ServerEvent> {
        match self.0.recv_timeout(BOUND) {
            Ok(event) => Some(event),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("waited {BOUND:?} in vain for an event"),
        }
    }

    /// Passes events over until one is `kind`, and returns its data. Panics if the stream ends first.
    pub(crate) fn until(&self, kind: &str) -> String {
        loop {
            match self.next() {
                Some(event) if event.kind == kind => return event.data,
                Some(_) => {}
                None => panic!("the stream ended without {kind}"),
            }
        }
    }
}
