//! Everything that speaks HTTP: the page, WHIP, WHEP, the API, health and metrics.

mod access;
mod allocation;
mod api;
mod events;
mod health;
mod layer;
mod metrics;
mod page;
mod pipes;
mod places;
mod problem;
mod rate_limit;
mod recent_latency;
mod resource;
pub mod sdp_fragment;
mod server;
mod sessions;

mod stream_control;
mod viewers;
mod whep;
mod whip;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use lenscast_router::TransportId;
use lenscast_transport::{SessionEvent, SessionState, TransportStats};
use rand::rngs::StdRng;
use tokio::sync::mpsc;

use access::Door;
use places::Places;
pub use problem::Problem;
use rate_limit::RateLimiter;
use recent_latency::RecentLatency;
pub use server::{HttpServer, StartHttpError};
use sessions::Sessions;

use crate::agent::Agent;
use crate::config::{HttpConfig, IceServer};
use crate::feed::Feed;

/// What all handlers share.
pub struct App {
    agent: Arc<Agent>,
    http: HttpConfig,
    ice_servers: Vec<IceServer>,
    sessions: Sessions,
    limiter: RateLimiter,
    /// For streams of the allocation's events.
    allocation_streams: Arc<Places>,
    recent_latency: RecentLatency,
    closed: metrics::ClosedSessions,
    latest_stats: tokio::sync::Mutex<Option<(Instant, Arc<TransportStats>)>>,
}

/// How old statistics may be: half of the second between two questions of a page.
const STATS_AGE: Duration = Duration::from_millis(500);

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
            allocation_streams: Places::new(allocation::MAX_STREAMS, allocation::MAX_STREAMS_OF_ONE),
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

    /// To be called after a session was noted: one that was over before that is told of no more.
    fn forget_if_over(&self, id: TransportId) {
        if !self.agent.transport().has_session(id) {
            self.sessions.remove(id);
        }
    }

    /// What can be played under this name.
    fn feed(&self, name: &str) -> Result<Feed, Problem> {
        self.agent.feed(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            Problem::new(StatusCode::NOT_FOUND, format!("no camera is called {shown:?}"))
        })
    }

    /// Follows the sessions' fates until the transport is gone.
    pub async fn follow_sessions(self: Arc<Self>, mut events: mpsc::UnboundedReceiver<SessionEvent>) {
        while let Some(event) = events.recv().await {
            let stream = self.agent.follow_session(&event).await.map(|stream| stream.name());
            let SessionEvent { id, state } = event;
            match (state, stream) {
                (SessionState::Published(_) | SessionState::Held, _) => {}
                (SessionState::Lost, stream) => tracing::warn!(session = id.0, stream, "a pipe has lost its origin"),
                (SessionState::Connected, None) => {
                    tracing::info!(session = id.0, "a viewer is connected");
                    for (camera, asked) in self.sessions.asked_since(id) {
                        layer::apply(self.agent.transport(), id, camera, asked).await;
                    }
                }
                (SessionState::Connected, Some(stream)) => {
                    tracing::info!(session = id.0, stream, "a stream's sender is connected");
                }
                (SessionState::Closed(cause), stream) => {
                    let who = if stream.is_some() { "publisher" } else { "viewer" };
                    tracing::info!(session = id.0, stream, cause = %cause, "a {who} is gone");
                    self.closed.count(&cause);
                    self.sessions.remove(id);
                }
            }
        }
    }

    fn routes(self: &Arc<Self>) -> Router {
        let behind = |door: Door, routes: Router<Arc<Self>>| {
            routes.layer(from_fn_with_state((Arc::clone(self), door), access::guard))
        };
        let all = Router::new()
            .merge(api::routes())
            .merge(viewers::routes())
            .merge(allocation::routes())
            .merge(metrics::routes());
        let guarded = behind(Door::All, all)
            .merge(behind(Door::Play, whep::routes()))
            .merge(behind(Door::Publish, whip::routes()))
            .merge(behind(Door::Control, stream_control::routes()))
            // Which stream is wanted stands in the body: the route itself looks at the token.
            .merge(pipes::routes().layer(from_fn_with_state(Arc::clone(self), access::limit_changes)));
        Router::new()
            .merge(guarded)
            .merge(health::routes())
            .merge(page::routes())
            .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is here"))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not do that")
            })
            .layer(from_fn(access::limit_time))
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
