//! Running as a service: start, signals, reload, orderly stop, and what systemd wants to know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_sender::Health;
use rand::rngs::StdRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::agent::{Agent, StartAgentError};
use crate::cli::ConfigArgs;
use crate::config::{AllowedOrigins, Config, ConfigError, Overrides};
use crate::http::{App, HttpServer, StartHttpError};
use crate::uplink;

/// Exit codes beside 0 and clap's 2: something failed at run time, and EX_CONFIG of sysexits.h.
pub const EXIT_RUNTIME: u8 = 1;
/// Exit code for wrong usage, as clap has it.
pub const EXIT_USAGE: u8 = 2;
/// The configuration is wrong.
pub const EXIT_CONFIG: u8 = 78;

/// An orderly stop may take this long; systemd's default is 90 s before it kills.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const OTHER_CONNECTIONS: usize = 64;
/// For cameras (a device, and ffmpeg's pipes), UDP sockets and the runtime.
const OTHER_DESCRIPTORS: usize = 256;
/// Requests that are under way may take this long of it.
const HTTP_GRACE: Duration = Duration::from_secs(2);
/// Viewers that read server-sent events learn within this time that they should come again.
const GOODBYE_GRACE: Duration = Duration::from_millis(600);

/// Why the service ended otherwise than by a signal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cameras or the transport could not start.
    #[error(transparent)]
    Agent(#[from] StartAgentError),
    /// HTTP could not start.
    #[error(transparent)]
    Http(#[from] StartHttpError),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// A thread that forwards has ended by itself: its cameras, streams and viewers are gone until the next start.
    #[error("router thread {0} has ended by itself")]
    WorkerDied(usize),
}

impl ServiceError {
    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) => EXIT_CONFIG,
            _ => EXIT_RUNTIME,
        })
    }
}

/// Serves until a signal says stop.
///
/// # Errors
///
/// If the configuration is wrong or a port is taken, or if a thread that forwards has died: the rest is stopped in order
/// then, and whoever supervises the process starts it anew.
pub async fn run(args: &ConfigArgs) -> Result<(), ServiceError> {
    let source = ConfigSource { path: args.config.clone(), overrides: args.overrides() };
    let config = source.load()?;
    crate::logging::start(&config.log);
    warn_of_open_doors(&config);
    warn_of_values(&config);
    let mut signals = Signals::new().map_err(ServiceError::Signals)?;

    let (agent, events) = Agent::start(&config, rand::make_rng()).await?;
    let app = App::new(
        Arc::clone(&agent),
        config.http.clone(),
        config.webrtc.ice_servers.clone(),
        rand::make_rng::<StdRng>(),
    );
    let http = match HttpServer::start(&app, max_connections(&config)) {
        Ok(http) => http,
        Err(error) => {
            agent.shutdown().await;
            return Err(error.into());
        }
    };
    let following = tokio::spawn(app.follow_sessions(events));
    announce(&agent, &http);
    tell_systemd(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog(Arc::clone(&agent)));
    let health = tokio::spawn(watch_encoders(Arc::clone(&agent)));
    let streams = tokio::spawn(Arc::clone(&agent).watch_streams());
    let layers = tokio::spawn(Arc::clone(&agent).watch_layers());
    let uplink = tokio::spawn(uplink::share_out(Arc::clone(&agent)));

    let running = config;
    let outcome = tokio::select! {
        () = until_stopped(&mut signals, &source, &agent, running) => Ok(()),
        worker = agent.transport().worker_died() => {
            tracing::error!(worker, "a router thread has ended by itself");
            Err(ServiceError::WorkerDied(worker))
        }
    };

    // First of all: whoever is told that it stops must find it so.
    agent.begin_shutdown();
    tracing::info!("stopping");
    tell_systemd(&[NotifyState::Stopping]);
    let stop = async {
        tokio::time::sleep(GOODBYE_GRACE).await;
        agent.shutdown().await;
        http.shutdown(HTTP_GRACE).await;
    };
    tokio::select! {
        () = stop => tracing::info!("stopped"),
        () = tokio::time::sleep(STOP_DEADLINE) => tracing::error!("did not stop in time"),
        () = signals.stop() => tracing::warn!("stopped at once by a second signal"),
    }
    watchdog.abort();
    health.abort();
    streams.abort();
    layers.abort();
    uplink.abort();
    following.abort();
    outcome
}

/// How many HTTP connections there may be: two for each viewer, for its page and its events, and some for whoever else
/// asks. The cameras and the rest keep what descriptors they need.
fn max_connections(config: &Config) -> usize {
    let wanted = 2 * config.webrtc.max_viewers + OTHER_CONNECTIONS;
    let descriptors = usize::try_from(raise_descriptor_limit()).unwrap_or(usize::MAX);
    let possible = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(OTHER_CONNECTIONS);
    if possible < wanted {
        tracing::warn!(descriptors, possible, wanted, "the limit of open files (ulimit -n) allows fewer connections");
    }
    wanted.min(possible)
}

/// Asks for as many descriptors as this process may have, and returns how many that are.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the limit of open files stays what it was");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Where the configuration comes from, to read it again.
struct ConfigSource {
    path: Option<PathBuf>,
    overrides: Overrides,
}

impl ConfigSource {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.path.as_deref(), &self.overrides)
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        stop_asked(&mut self.terminate, &mut self.interrupt).await;
    }
}

async fn stop_asked(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn until_stopped(signals: &mut Signals, source: &ConfigSource, agent: &Arc<Agent>, mut running: Config) {
    loop {
        tokio::select! {
            () = stop_asked(&mut signals.terminate, &mut signals.interrupt) => return,
            _ = signals.hangup.recv() => {
                if let Ok(monotonic) = NotifyState::monotonic_usec_now() {
                    tell_systemd(&[NotifyState::Reloading, monotonic]);
                }
                tokio::select! {
                    () = reload(source, agent, &mut running) => {}
                    // A driver that hangs holds up the end of its camera, but not ours.
                    () = stop_asked(&mut signals.terminate, &mut signals.interrupt) => return,
                }
                tell_systemd(&[NotifyState::Ready]);
            }
        }
    }
}

/// Checks the whole new configuration first; a bad one changes nothing.
async fn reload(source: &ConfigSource, agent: &Arc<Agent>, running: &mut Config) {
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "the new configuration is refused, the old one stays");
            return;
        }
    };
    warn_of_values(&config);
    let fixed = [
        ("http", config.http != running.http),
        ("webrtc", config.webrtc != running.webrtc),
        ("log", config.log != running.log),
    ];
    for (section, _) in fixed.into_iter().filter(|(_, changed)| *changed) {
        tracing::warn!(section, "changes here take effect with the next start");
    }
    match agent.reload(&config).await {
        Ok(()) => tracing::info!(
            cameras = config.cameras.len(),
            streams = config.streams.len(),
            "the new configuration is in effect"
        ),
        Err(problems) => {
            for error in problems {
                tracing::error!(%error, "a part of the new configuration is not in effect");
            }
        }
    }
    // The rest of what runs is still what the process was started with.
    running.cameras = config.cameras;
    running.streams = config.streams;
    running.total = config.total;
    running.uplink = config.uplink;
}

/// Tells where to look: on standard output, for a person and for scripts.
fn announce(agent: &Agent, http: &HttpServer) {
    let mut out = std::io::stdout().lock();
    for address in page_addresses(http.addresses()) {
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "lenscast: watch at {address}");
    }
    let _ = out.flush();
    tracing::info!(http = ?http.addresses(), udp = ?agent.transport().addresses(), "listening");
}

/// What to type into a browser: of wildcard addresses, this machine's own.
fn page_addresses(listening: &[SocketAddr]) -> Vec<String> {
    let mut shown = Vec::new();
    for address in listening {
        let host = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => "localhost".to_owned(),
            // The IPv4 wildcard beside it says the same.
            IpAddr::V6(ip) if ip.is_unspecified() && listening.len() > 1 => continue,
            IpAddr::V6(ip) if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        shown.push(format!("http://{host}:{}/", address.port()));
    }
    shown
}

fn warn_of_open_doors(config: &Config) {
    if config.http.token.is_none() && config.http.allowed_origins == AllowedOrigins::Any {
        tracing::warn!(
            "any web page that a browser here has open can watch and share out the bandwidth: set http.token_file or http.allowed_origins"
        );
    }
    let open = config.http.listen.addresses.iter().any(|address| !address.ip().is_loopback());
    let shows_something =
        config.cameras.iter().any(|camera| !matches!(camera.source, lenscast_capture::SourceConfig::Pattern { .. }));
    let shows_something = shows_something || config.streams.iter().any(|stream| stream.play_token.is_none());
    let takes_something = config.streams.iter().any(|stream| stream.whip().is_some_and(|whip| whip.token.is_none()));
    if open && takes_something && config.http.token.is_none() {
        tracing::warn!(
            "whoever reaches this machine's HTTP port can publish: set http.token_file, or token_file of the streams"
        );
    }
    if open && shows_something && config.http.token.is_none() {
        tracing::warn!(
            "whoever reaches this machine's HTTP port can watch and share out the bandwidth: set http.token_file"
        );
    }
}

fn warn_of_values(config: &Config) {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// Tells systemd that all is well as long as it is.
async fn feed_watchdog(agent: Arc<Agent>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut interval = tokio::time::interval(period / 2);
    let mut progress = MediaProgress::default();
    loop {
        interval.tick().await;
        let cameras = agent.cameras();
        let seen = cameras.iter().map(|camera| {
            let frames = camera.source_status().counters.frames;
            (camera.config().name.as_str(), frames, camera.is_live())
        });
        match progress.stuck(seen, Instant::now()) {
            Some(camera) => tracing::error!(camera, "claims to be live but makes no progress: the watchdog is not fed"),
            None => tell_systemd(&[NotifyState::Watchdog]),
        }
    }
}

/// Says when a camera ceases to be encoded though somebody watches, and when it is encoded again. Since it asks all the time,
/// whoever asks for a camera's health is told how long that has been so, and not since the last question.
async fn watch_encoders(agent: Arc<Agent>) {
    let mut interval = tokio::time::interval(HEALTH_PERIOD);
    let mut stalled: BTreeSet<String> = BTreeSet::new();
    loop {
        interval.tick().await;
        for camera in agent.cameras() {
            let name = &camera.config().name;
            match camera.health() {
                Health::Stalled(silent) if !stalled.contains(name) => {
                    tracing::warn!(camera = name, ?silent, "is to be encoded, and nothing comes out");
                    stalled.insert(name.clone());
                }
                Health::Stalled(_) => {}
                health => {
                    if stalled.remove(name) {
                        tracing::info!(camera = name, ?health, "does not stall any more");
                    }
                }
            }
        }
    }
}

/// How often the encoders' health is looked at: a quarter of the time after which one counts as stalled.
const HEALTH_PERIOD: Duration = Duration::from_millis(500);

/// Whether the cameras make progress. One that is not there is known, and no reason to be restarted; one that claims to be
/// live while its frames are not even counted any more hangs in a way that nothing else noticed.
#[derive(Debug, Default)]
struct MediaProgress {
    /// By camera: how many frames it had, and since when.
    seen: BTreeMap<String, (u64, Instant)>,
}

impl MediaProgress {
    /// The first of these cameras that is stuck at `now`: name, frames so far, and whether it claims to be live.
    fn stuck<'a>(&mut self, cameras: impl Iterator<Item = (&'a str, u64, bool)>, now: Instant) -> Option<String> {
        let mut before = std::mem::take(&mut self.seen);
        let mut stuck = None;
        for (name, frames, is_live) in cameras {
            let progress = match before.remove(name) {
                Some(progress) if progress.0 == frames && is_live => progress,
                _ => (frames, now),
            };
            if stuck.is_none() && now.saturating_duration_since(progress.1) > STUCK {
                stuck = Some(name.to_owned());
            }
            self.seen.insert(name.to_owned(), progress);
        }
        stuck
    }
}

/// A source's own watchdog calls it degraded after 2 s, or 5 frames of the slowest.
const STUCK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_addresses_that_a_browser_can_open() {
        let shown = |texts: &[&str]| {
            page_addresses(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>())
        };
        assert_eq!(shown(&["0.0.0.0:8080", "[::]:8080"]), ["http://localhost:8080/"]);
        assert_eq!(shown(&["[::]:8080"]), ["http://localhost:8080/"]);
        assert_eq!(shown(&["192.0.2.1:80", "[2001:db8::1]:80"]), ["http://192.0.2.1:80/", "http://[2001:db8::1]:80/"]);
    }

    #[test]
    fn only_a_camera_that_claims_to_be_live_and_makes_no_progress_is_stuck() {
        let mut progress = MediaProgress::default();
        let start = Instant::now();
        let mut stuck_at = |seconds, cameras: &[(&'static str, u64, bool)]| {
            progress.stuck(cameras.iter().copied(), start + Duration::from_secs(seconds))
        };
        assert_eq!(stuck_at(0, &[("front", 1, true), ("gone", 1, false)]), None);
        assert_eq!(stuck_at(10, &[("front", 1, true), ("gone", 1, false)]), None, "not for long enough");
        assert_eq!(stuck_at(11, &[("front", 1, true), ("gone", 1, false)]).as_deref(), Some("front"));
        assert_eq!(stuck_at(12, &[("front", 2, true), ("gone", 1, false)]), None, "it goes on");
        assert_eq!(
            stuck_at(60, &[("front", 2, false), ("gone", 2, true)]),
            None,
            "one is known to be gone, one is back"
        );
        assert_eq!(stuck_at(61, &[("gone", 2, true)]), None);
        assert_eq!(stuck_at(90, &[("front", 2, true), ("gone", 9, true)]), None, "a camera that is new is not stuck");
    }
}
