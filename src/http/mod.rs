//! Everything that speaks HTTP: the page, WHEP, the API, health and metrics.

mod access;
mod api;
mod events;
mod health;
mod metrics;
mod page;
mod problem;
mod rate_limit;
mod recent_latency;
pub mod sdp_fragment;
mod sessions;
mod whep;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use lenscast_transport::{SessionEvent, SessionState, TransportStats};
use rand::rngs::StdRng;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};

pub use problem::Problem;
use rate_limit::RateLimiter;
use recent_latency::RecentLatency;
use sessions::Sessions;

use crate::agent::Agent;
use crate::camera::Camera;
use crate::config::{HttpConfig, IceServer, Listen};

/// What all handlers share.
pub struct App {
    agent: Arc<Agent>,
    http: HttpConfig,
    ice_servers: Vec<IceServer>,
    sessions: Sessions,
    limiter: RateLimiter,
    recent_latency: RecentLatency,
    closed: metrics::ClosedSessions,
    latest_stats: tokio::sync::Mutex<Option<(Instant, Arc<TransportStats>)>>,
}

/// Why HTTP could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartHttpError {
    /// An address could not be bound.
    #[error("cannot listen on TCP {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// None of the default addresses can be had.
    #[error("no TCP address to listen on")]
    NoAddress,
}

/// The running HTTP server. Stops in [`HttpServer::shutdown`].
pub struct HttpServer {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// How often the rate limiter forgets addresses that have been quiet.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How old statistics may be: half of the second between two questions of a page.
const STATS_AGE: Duration = Duration::from_millis(500);

const BACKLOG: u32 = 1_024;

impl App {
    /// Over a running agent. `random` must be fit for secrets.
    #[must_use]
    pub fn new(agent: Arc<Agent>, http: HttpConfig, ice_servers: Vec<IceServer>, random: StdRng) -> Arc<Self> {
        let changes = NonZeroU32::new(http.changes_per_minute).unwrap_or(NonZeroU32::MIN);
        Arc::new(Self {
            agent,
            http,
            ice_servers,
            sessions: Sessions::new(random),
            limiter: RateLimiter::per_minute(changes),
            recent_latency: RecentLatency::new(),
            closed: metrics::ClosedSessions::default(),
            latest_stats: tokio::sync::Mutex::new(None),
        })
    }

    /// The workers' counters. Many pages that ask at once cost the workers one reading.
    async fn stats(&self) -> Arc<TransportStats> {
        let mut latest = self.latest_stats.lock().await;
        match &*latest {
            Some((read, stats)) if read.elapsed() < STATS_AGE => Arc::clone(stats),
            _ => {
                let stats = Arc::new(self.agent.transport().stats().await);
                *latest = Some((Instant::now(), Arc::clone(&stats)));
                stats
            }
        }
    }

    fn camera(&self, name: &str) -> Result<Arc<Camera>, Problem> {
        self.agent.camera(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            Problem::new(StatusCode::NOT_FOUND, format!("no camera is called {shown:?}"))
        })
    }

    /// Follows the sessions' fates until the transport is gone.
    pub async fn follow_sessions(self: Arc<Self>, mut events: mpsc::UnboundedReceiver<SessionEvent>) {
        while let Some(SessionEvent { id, state }) = events.recv().await {
            match state {
                SessionState::Connected => tracing::info!(session = id.0, "a viewer is connected"),
                SessionState::Closed(cause) => {
                    tracing::info!(session = id.0, cause = cause.name(), detail = %cause, "a viewer is gone");
                    self.closed.count(&cause);
                    self.sessions.remove(id);
                }
            }
        }
    }

    fn routes(self: &Arc<Self>) -> Router {
        let guarded = Router::new()
            .merge(whep::routes())
            .merge(api::routes())
            .merge(metrics::routes())
            .layer(from_fn_with_state(Arc::clone(self), access::limit_changes))
            .layer(from_fn_with_state(Arc::clone(self), access::authenticate));
        Router::new()
            .merge(guarded)
            .merge(health::routes())
            .merge(page::routes())
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is here"))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not do that")
            })
            .layer(from_fn_with_state(Arc::clone(self), access::cors))
            .layer(map_response(name_the_server))
            .with_state(Arc::clone(self))
    }
}

async fn name_the_server(mut response: Response) -> Response {
    let name = axum::http::HeaderValue::from_static(concat!("lenscast/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(axum::http::header::SERVER, name);
    response
}

impl HttpServer {
    /// Listens, and serves until told to stop.
    ///
    /// # Errors
    ///
    /// If an address is taken.
    pub fn start(app: &Arc<App>) -> Result<Self, StartHttpError> {
        let listeners = bind(&app.http.listen)?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let (stop, stopped) = watch::channel(false);
        let mut tasks: Vec<_> = listeners.into_iter().map(|listener| serve(listener, app, stopped.clone())).collect();
        tasks.push(tokio::spawn(housekeeping(Arc::clone(app), stopped)));
        Ok(Self { addresses, stop, tasks })
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets running requests end for `grace`, then cuts them off.
    pub async fn shutdown(self, grace: Duration) {
        // Without a receiver there is nobody left to tell.
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + grace;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

fn serve(listener: TcpListener, app: &Arc<App>, mut stopped: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    let service = app.routes().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        let stop = async move {
            // An error means that whoever could tell is gone.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "HTTP ended");
        }
    })
}

async fn housekeeping(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            _ = interval.tick() => app.limiter.forget_quiet(),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

fn bind(listen: &Listen) -> Result<Vec<TcpListener>, StartHttpError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for &address in &listen.addresses {
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            // A system without IPv6, or without IPv4, has the other.
            Err(error) if !listen.all_required && lacks_family(&error) => {}
            Err(error) => return Err(StartHttpError::Bind { address, error }),
        }
    }
    if listeners.is_empty() { Err(StartHttpError::NoAddress) } else { Ok(listeners) }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    TcpSocket::from_std_stream(socket.into()).listen(BACKLOG)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}
