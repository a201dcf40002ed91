use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::http::Http;
use super::log::Log;
use super::metrics::Metrics;
use super::namespace::Namespace;
use super::wait::{until, within};

/// The camera of most tests: small, so that a machine of two cores has time for the rest.
pub(crate) const CAMERA: &str = "[[camera]]\nname = \"front\"\npattern = true\nwidth = 320\nheight = 240\nfps = 15\n";

/// Pattern cameras like [`CAMERA`], one per codec, named after it.
pub(crate) fn camera_of(codec: &str) -> String {
    format!(
        "[[camera]]\nname = \"{codec}\"\npattern = true\nwidth = 320\nheight = 240\nfps = 15\ncodec = \"{codec}\"\n"
    )
}

/// How a server is to be started.
pub(crate) struct Setup {
    directory: TempDir,
    command: Command,
}

/// The running binary. Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    /// Standard error.
    pub(crate) log: Log,
    /// Standard output.
    pub(crate) out: Log,
    pub(crate) http: Http,
}

impl Setup {
    /// Runs `lenscast` with this configuration on free ports, in a directory of its own.
    pub(crate) fn new(config: &str) -> Self {
        let setup = Self::bare().file("lenscast.toml", config);
        setup.args(["--config", "lenscast.toml", "--http-listen", "127.0.0.1:0", "--webrtc-listen", "127.0.0.1:0"])
    }

    /// Runs `lenscast` without arguments, without what this environment may say to it.
    pub(crate) fn bare() -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_lenscast")))
    }

    /// The same in a network namespace. The process is still our child: what enters the namespace becomes it.
    pub(crate) fn within(namespace: &Namespace) -> Self {
        Self::by(namespace.command(env!("CARGO_BIN_EXE_lenscast")))
    }

    fn by(mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("there is room for temporary files");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("LENSCAST_") || ["RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC"].contains(&name.as_str())
            {
                command.env_remove(name);
            }
        }
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { directory, command }
    }

    /// Adds a file to the directory that it runs in.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.directory.path().join(name), content).expect("the directory can be written to");
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it runs.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(mut self) -> Server {
        let mut child = self.command.spawn().expect("the binary can be run");
        let log = Log::of(child.stderr.take().expect("it is piped"));
        let out = Log::of(child.stdout.take().expect("it is piped"));
        let address = std::panic::catch_unwind(|| {
            out.line("the address", |line| Some(line.strip_prefix("lenscast: watch at ")?.to_owned()))
        });
        let Ok(address) = address else {
            let _ = child.kill();
            panic!("did not start:\n{}", log.whole());
        };
        Server { child, directory: self.directory, log, out, http: Http::new(&address) }
    }

    /// Starts it and waits until all its cameras are live.
    pub(crate) fn ready(self) -> Server {
        let server = self.start();
        server.wait_ready();
        server
    }

    /// Runs it to its end. Panics if it does not come to one.
    pub(crate) fn run(mut self) -> Finished {
        let mut child = self.command.spawn().expect("the binary can be run");
        let log = Log::of(child.stderr.take().expect("it is piped"));
        let out = Log::of(child.stdout.take().expect("it is piped"));
        let Some(status) = within(super::wait::BOUND, || child.try_wait().expect("it is our child")) else {
            let _ = child.kill();
            panic!("did not end:\n{}", log.whole());
        };
        Finished { code: status.code(), out: out.whole(), log: log.whole(), _directory: self.directory }
    }
}

/// What came of a process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
    _directory: TempDir,
}

impl Server {
    /// With this configuration, all cameras live.
    pub(crate) fn ready(config: &str) -> Self {
        Setup::new(config).ready()
    }

    pub(crate) fn wait_ready(&self) {
        until("all cameras to be live", || {
            let reply = self.http.get("/readyz");
            (reply.json()["status"] == "ready").then_some(())
        });
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file in the directory that it runs in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let reply = self.http.get("/metrics");
        assert_eq!(reply.status, 200, "{}", reply.body);
        Metrics::parse(&reply.body).unwrap_or_else(|error| panic!("{error} in\n{}", reply.body))
    }

    /// Waits until the metrics say what `wanted` looks for.
    pub(crate) fn metrics_until<T>(&self, what: &str, mut wanted: impl FnMut(&Metrics) -> Option<T>) -> T {
        until(what, || wanted(&self.metrics()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is our child and has not been waited for");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the server to end", || self.child.try_wait().expect("it is our child"))
    }

    /// True if it has ended within `bound`.
    pub(crate) fn ends_within(&mut self, bound: Duration) -> bool {
        within(bound, || self.child.try_wait().expect("it is our child")).is_some()
    }

    /// Asks it to stop, waits for that, and returns how it ended and all that it wrote to standard error.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        let status = self.wait();
        (status, self.log.whole())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- standard error of the server:\n{}----", self.log.text());
        }
    }
}
