use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::log::Log;
use super::server::Server;
use super::wait::within;

/// Some seconds of video, and all the time that Python takes to begin.
const BOUND: Duration = Duration::from_secs(60);

/// A script of tests/interop that plays or publishes, and the Python that runs it.
pub(crate) struct Script {
    python: PathBuf,
    name: &'static str,
}

impl Script {
    /// Panics with `remedy` if this Python cannot do `probe`.
    pub(crate) fn new(python: &Path, name: &'static str, probe: &str, remedy: &str) -> Self {
        let probed = Command::new(python).args(["-c", probe]).output();
        assert!(
            probed.is_ok_and(|output| output.status.success()),
            "{} cannot run tests/interop/{name}: {remedy}",
            python.display()
        );
        Self { python: python.to_owned(), name }
    }

    /// Runs it to its end, and returns what it says once the server knows of no session any more.
    pub(crate) fn run(&self, server: &Server, arguments: &[&str]) -> Value {
        let mut child = Command::new(&self.python)
            .arg(format!("{}/tests/interop/{}", env!("CARGO_MANIFEST_DIR"), self.name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python ran a moment ago");
        let out = Log::of(child.stdout.take().expect("it is piped"));
        let log = Log::of(child.stderr.take().expect("it is piped"));
        let Some(status) = within(BOUND, || child.try_wait().expect("it is our child")) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{} did not end:\n{}", self.name, log.text());
        };
        assert!(status.success(), "{} failed:\n{}\nthe server:\n{}", self.name, log.whole(), server.log.text());
        server.metrics_until("its goodbye", |metrics| (metrics.connected() == 0.0).then_some(()));
        serde_json::from_str(&out.whole()).expect("the script prints JSON")
    }
}
